"""fragments.json: conversations in which long messages travel in pieces, and what comes of them
(../04-flow.md). A check of its own follows both directions: turns, credit, whole messages.
"""

import wire
from common import encoded, fold, hex64, method, same
from frame_vectors import close, credit, data, goaway, hello, hello_ack, ping, request, response

NOTES, NOTES_TEXT = wire.method_id("bank.Notes/keep"), "str->str!never"
BALANCE, BALANCE_TEXT = wire.method_id("bank.Ledger/balance"), "u64->i64!never"
TABLE = sorted([method("bank.Notes/keep", [(1, NOTES_TEXT)]),
                method("bank.Ledger/balance", [(1, BALANCE_TEXT)])], key=lambda m: m["method"])
WINDOW = 65536
NOT_PROCESSED = 0


class Talk:
    """One conversation, from its handshake on."""

    def __init__(self):
        self.steps = []
        first = wire.preface(1, 1)
        greeting = wire.encode(hello(window_connection=WINDOW))
        self.add("client", "preface", first)
        self.add("client", "HELLO", greeting)
        self.add("server", "preface", first)
        self.say("server", "HELLO_ACK", hello_ack(
            window_connection=WINDOW, tables=[wire.table_hash(TABLE)],
            transcript=hex64(wire.fnv64(first + greeting))))
        self.say("server", "TABLE", {"kind": "TABLE", "call": 0,
                                     "payload_hex": wire.table_payload(TABLE).hex()})

    def add(self, side, what, frame):
        self.steps.append({"from": side, "what": what, "hex": frame.hex()})

    def say(self, side, what, fields):
        self.add(side, what, wire.encode(fields))

    def keeps(self, call, payload, number=NOTES):
        """A REQUEST with MORE."""
        self.say("client", "REQUEST, MORE", request(
            call=call, method=number, version=1, fingerprint=fold(NOTES_TEXT), more=True,
            payload_hex=payload.hex()))

    def piece(self, side, call, payload, more=True):
        what = "DATA, MORE" if more else "DATA: the last piece"
        self.say(side, what, data(payload, call=call) | ({"more": True} if more else {}))

    def cancels(self, call):
        self.say("client", "CANCEL", {"kind": "CANCEL", "call": call})

    def small(self, call):
        """A call that does not wait for a longer one."""
        self.say("client", "REQUEST: a small call", request(
            call=call, method=BALANCE, version=1, fingerprint=fold(BALANCE_TEXT),
            payload_hex=encoded("u64", 7)))
        self.say("server", "RESPONSE: OK", response(call=call, payload_hex=encoded("i64", -300)))

    def ends(self, what, call, payload=b"", **changes):
        self.say("server", what, response(call=call, payload_hex=payload.hex(), **changes))

    def credits(self, side, size):
        self.say(side, "CREDIT", credit(size))


def note(size):
    return bytes.fromhex(encoded("str", ("switchback " * (size // 11 + 1))[:size]))


def both_ways():
    talk, text = Talk(), note(5000)
    talk.keeps(1, text[:1000])
    talk.piece("client", 1, text[1000:3000])
    talk.small(3)
    talk.piece("client", 1, text[3000:], more=False)
    talk.piece("server", 1, text[:4000])
    talk.small(5)
    talk.piece("server", 1, text[4000:4500])
    talk.ends("RESPONSE: OK, the last piece", 1, text[4500:])
    return talk


def two_at_once():
    talk, one, other = Talk(), note(900), note(700)
    talk.keeps(1, b"")
    talk.keeps(3, other[:300])
    talk.piece("client", 1, one[:1])
    talk.piece("client", 3, other[300:], more=False)
    talk.piece("server", 3, other)
    talk.piece("client", 1, b"")
    talk.piece("client", 1, one[1:])
    talk.ends("RESPONSE: OK, no byte of it", 3)
    talk.piece("client", 1, b"", more=False)
    talk.ends("RESPONSE: OK, all of it", 1, one)
    return talk


def refused():
    talk, text, no = Talk(), note(3000), {"disposition": NOT_PROCESSED, "codec": 0}
    talk.keeps(1, text[:1000], wire.method_id("bank.Notes/burn"))
    talk.piece("client", 1, text[1000:2000])
    talk.ends("RESPONSE: UNKNOWN_METHOD", 1, status=4, **no)
    talk.piece("client", 1, text[2000:2500])  # it crossed the RESPONSE
    talk.keeps(3, text[:1000])
    talk.piece("client", 3, text[1000:2000])
    talk.ends("RESPONSE: OVERLOADED", 3, status=12, retry_after_ms=250, **no)
    talk.small(5)
    return talk


def cancelled():
    talk, text = Talk(), note(3000)
    talk.keeps(1, text[:1000])
    talk.piece("client", 1, text[1000:2000])
    talk.cancels(1)
    talk.ends("RESPONSE: CANCELLED, no handler was started", 1, status=2,
              disposition=NOT_PROCESSED, codec=0)
    talk.keeps(3, text[:100])
    talk.piece("client", 3, text[100:], more=False)
    talk.piece("server", 3, text[:1000])
    talk.cancels(3)
    talk.piece("server", 3, text[1000:2000])
    talk.ends("RESPONSE: CANCELLED, in the place of the rest", 3, status=2, disposition=1, codec=0)
    talk.small(5)
    return talk


def an_error_in_the_place_of_the_rest():
    talk, text = Talk(), note(2000)
    talk.keeps(1, text[:500])
    talk.piece("client", 1, text[500:], more=False)
    talk.piece("server", 1, text[:1000])
    talk.ends("RESPONSE: INTERNAL", 1, status=11, codec=0)
    return talk


def within_credit():
    talk, text = Talk(), note(70000)
    talk.keeps(1, text[:100])
    talk.piece("client", 1, text[100:40100])
    talk.piece("client", 1, text[40100:65636])  # the window is used up
    talk.small(3)
    talk.credits("server", 40000)
    talk.piece("client", 1, text[65636:], more=False)
    answer = note(34000)
    talk.piece("server", 1, answer[:33000])
    talk.credits("client", 33000)
    talk.ends("RESPONSE: OK, the last piece", 1, answer[33000:])
    return talk


def of_thrown_away():
    talk, size = Talk(), 32768
    talk.keeps(1, b"", wire.method_id("bank.Notes/burn"))
    talk.piece("client", 1, bytes(size))
    talk.ends("RESPONSE: UNKNOWN_METHOD", 1, status=4, disposition=NOT_PROCESSED, codec=0)
    talk.credits("server", size)
    talk.small(3)
    return talk


def leaving():
    talk, text = Talk(), note(1000)
    talk.keeps(1, text[:400])
    talk.say("server", "GOAWAY: any call", goaway())
    talk.say("server", "PING", ping())
    talk.say("client", "PONG", ping("PONG"))
    talk.say("server", "GOAWAY: call 1 was read", goaway(last_call=1))
    talk.piece("client", 1, text[400:], more=False)
    talk.ends("RESPONSE: OK", 1, text)
    talk.say("server", "CLOSE: SHUTDOWN", close(reason=1, last_call=1, detail="shutting down"))
    return talk


LISTED = {
    "a large request and a large response, small calls between": both_ways,
    "two messages at once": two_at_once,
    "requests that are refused before their end": refused,
    "calls that are cancelled before their end": cancelled,
    "an error after pieces of a response": an_error_in_the_place_of_the_rest,
    "credit": within_credit,
    "credit for what is thrown away": of_thrown_away,
    "a server that leaves before the end of a request": leaving,
}


def fragments():
    conversations = []
    for name, build in LISTED.items():
        steps = build().steps
        conversations.append({"name": name, "steps": steps, "calls": outcomes(steps)})
    return {"conversations": conversations}


# ---- both directions, followed ----

class Messages:
    """What one side receives: pieces, put together, within the window that it stated."""

    def __init__(self, window):
        self.window, self.free, self.taken = window, window, 0
        self.parts = {}  # by call

    def piece(self, call, payload):
        if len(payload) > self.free:
            raise wire.Bad("FLOW_CONTROL")
        self.free, self.taken = self.free - len(payload), self.taken + len(payload)
        if call in self.parts:
            self.parts[call] += payload

    def grants(self, size):
        """FL-11: what was taken in, and no more."""
        if not 0 < size <= self.window - self.free:
            raise wire.Bad("FLOW_CONTROL")
        self.free, self.taken = self.free + size, self.taken - size


def outcomes(steps):
    """What each call comes to: its status, its messages by size and CRC-32 where they were whole.
    Raises where a step is not the turn of its side."""
    windows, up, down, ended, highest = {}, None, None, {}, 0
    requests = {}
    for step in steps[1:]:
        raw = bytes.fromhex(step["hex"])
        if step["what"] == "preface":
            continue
        fields, _ = wire.decode(raw)
        kind, call, is_client = fields["kind"], fields["call"], step["from"] == "client"
        payload = bytes.fromhex(fields.get("payload_hex", ""))
        if kind in ("HELLO", "HELLO_ACK"):
            windows[step["from"]] = fields["window_connection"]
            if kind == "HELLO_ACK":
                up, down = Messages(windows["server"]), Messages(windows["client"])
        elif kind == "REQUEST":
            turn(is_client and call > highest)
            highest, down.parts[call] = call, b""
            (up.parts if "more" in fields else requests)[call] = payload
        elif kind == "DATA" and is_client:
            turn(call <= highest and (call in up.parts or call in ended))
            up.piece(call, payload)
            if "more" not in fields and call in up.parts:
                requests[call] = up.parts.pop(call)
        elif kind == "DATA":
            turn(call in requests and call not in ended and "more" in fields)
            down.piece(call, payload)
        elif kind == "CREDIT":
            (down if is_client else up).grants(fields["bytes"])
        elif kind == "RESPONSE":
            turn(not is_client and call in down.parts)
            whole = down.parts.pop(call) + payload
            up.parts.pop(call, None)
            ended[call] = summed("request", requests.get(call)) | {"status": fields["status"]}
            if fields["status"] <= 1:
                ended[call] |= summed("response", whole)
    for side in (up, down):
        turn(2 * side.taken < side.window)
    turn(not down.parts)
    return [{"call": call} | ended[call] for call in sorted(ended)]


def turn(holds):
    if not holds:
        raise wire.Bad("PROTOCOL")


def summed(name, payload):
    if payload is None:
        return {}
    return {f"{name}_bytes": len(payload), f"{name}_crc": wire.crc32(payload)}


def check_fragments(doc):
    for found in doc["conversations"]:
        transcript = b""
        for step in found["steps"]:
            raw = bytes.fromhex(step["hex"])
            if step["what"] in ("preface", "HELLO") and step["from"] == "client":
                transcript += raw
            if step["what"] == "preface":
                same(wire.parse_preface(raw), (1, 1), step)
                continue
            fields, used = wire.decode(raw)
            same((used, wire.encode(fields)), (len(raw), raw), step)
            if step["what"] == "HELLO_ACK":
                same(fields["transcript"], hex64(wire.fnv64(transcript)), "transcript")
        same(outcomes(found["steps"]), found["calls"], found["name"])
