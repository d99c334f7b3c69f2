"""unexpected.json: what a peer may do wrong, as conversations to be held with a server or a client
under test; and the tables of ../unexpected.md, which say the same for people.

The rows are in unexpected_rows.py, unexpected_calls.py, unexpected_liveness.py and
unexpected_flow.py. Here is what they are made of, how they are checked, and how they are written
down. The shapes are described in
README.md beside it.
"""

import json
import pathlib
import re

import wire
from common import outcome, same

HERE = pathlib.Path(__file__).resolve().parent
PAGE = HERE.parent / "unexpected.md"

ECHO_NAME, HOLD_NAME = "ux.Echo/echo", "ux.Echo/hold"
ECHO, HOLD = wire.method_id(ECHO_NAME), wire.method_id(HOLD_NAME)
TEXT = "u64->u64!never"
LIMIT = 131072  # frame_bytes_max of the side under test
WINDOW = 65536  # its window_connection
LIMITS = {
    "frame_bytes_max": LIMIT, "window_connection": WINDOW, "handshake_timeout_ms": 5000,
    "calls_max": 1024,
    "frame_timeout_ms": 5000, "write_timeout_ms": 10000, "idle_timeout_ms": 300000,
    "silence_ms": 5000, "patience_ms": 5000,
    "pings": 4, "idle_frames": 256, "errors": 100, "cancel_window": 500,
}
AGAIN = 9999  # the id of the call that shows that calls go on


# ---- frames, with places that only the conversation can fill in ----

def places(text, call=1, transcript=bytes(8)):
    """The bytes of a send, as a runner makes them."""
    out, head = b"", None
    for literal, name in re.findall(r"([0-9a-f]+)|\{([^}]*)\}", text):
        if literal:
            out += bytes.fromhex(literal)
        elif name in ("head_crc", "~head_crc"):
            crc = wire.crc32(out[-12:]) ^ (0xFFFFFFFF if name[0] == "~" else 0)
            out += wire.be(crc, 4)
            head = len(out)
        elif name in ("body_crc", "~body_crc"):
            crc = wire.crc32(out[head:]) ^ (0xFFFFFFFF if name[0] == "~" else 0)
            out += wire.be(crc, 4)
        elif name == "transcript":
            out += transcript
        elif name == "call":
            out += wire.be(call, 4)
        elif name == "call+2":
            out += wire.be(call + 2, 4)
        elif name in ("next", "same"):
            out += wire.be(1, 4)
        elif name == "ping":
            out += bytes(8)
        elif name.startswith("zeros "):
            out += bytes(int(name[6:]))
        else:
            raise SystemExit(f"no such place: {name}")
    return out


def filled(kind, call="{call}", body="", ext_len=0, flags=0, head="{head_crc}", crc="{body_crc}"):
    """A frame as text, with places."""
    code = wire.CODES.get(kind, kind)
    size = len(places(body)) + 4
    return f"{size:08x}{code:02x}{flags:02x}{ext_len:04x}{call}{head}{body}{crc}"


def answer(call="{call}", status=0, disposition=2, codec=1, ext=b"", payload=b"\x07", flags=0,
           **places_of_crc):
    """A RESPONSE to the call of the client under test."""
    body = wire.be(status, 2) + bytes([disposition, codec]) + ext + payload
    return filled("RESPONSE", call, body.hex(), len(ext), flags, **places_of_crc)


def ask(call=1, method=ECHO, version=1, codec=1, tail=0, timeout_ms=60000, fingerprint=0, ext=b"",
        payload=b"\x07", flags=0):
    """A REQUEST to the server under test."""
    fixed = wire.be(method, 4) + wire.be(version, 2) + bytes([codec, tail])
    fixed += wire.be(timeout_ms, 4) + wire.be(fingerprint, 4)
    return wire.frame("REQUEST", call, fixed, ext, payload, flags)


def cancel(call, **changes):
    return wire.frame("CANCEL", call, **changes)


def ping(opaque=b"are you?", kind="PING", **changes):
    return wire.frame(kind, payload=opaque, **changes)


def close(reason=0, last_call=0, detail=b"", **changes):
    return wire.frame("CLOSE", fixed=wire.be(reason, 2) + wire.be(last_call, 4), payload=detail,
                      **changes)


def goaway(last_call, reason=1, grace_ms=30000):
    """A GOAWAY as text; `last_call` may be a place."""
    return filled("GOAWAY", "00000000", f"{last_call}{reason:04x}{grace_ms:08x}")


def head_of(data, at, change):
    """The frame with other bytes in its header, whose CRC is right again."""
    head = data[:at] + change + data[at + len(change):12]
    return head + wire.be(wire.crc32(head), 4) + data[16:]


def flipped(data, at):
    """The frame with one bit of a byte changed."""
    return data[:at] + bytes([data[at] ^ 4]) + data[at + 1:]


def meta(name, value=b""):
    return wire.tlv(16, bytes([len(name)]) + name + value)


HELLO_KEYS = {1: wire.be(LIMIT, 4), 3: b"\x01", 4: b"unexpected"}


def hello(drop=None, extra=b"", ext=None, payload=b"", flags=0, call=0, **change):
    """A HELLO, whole or spoilt; `k5=...` replaces the value of key 5."""
    keys = HELLO_KEYS | {int(key[1:]): value for key, value in change.items()}
    keys.pop(drop, None)
    if ext is None:
        ext = b"".join(wire.tlv(key, keys[key]) for key in sorted(keys)) + extra
    return wire.frame("HELLO", call, ext=ext, payload=payload, flags=flags)


def row_of(method, versions, ceiling=65535, n=None):
    out = wire.be(method, 4) + wire.be(ceiling, 2) + bytes([len(versions) if n is None else n])
    return out + b"".join(wire.be(version, 2) + bytes(8) for version in versions)


def table_of(rows, count=None, tail=b""):
    """The payload of a TABLE out of encoded rows, its hash right for what it says."""
    body = wire.be(len(rows) if count is None else count, 2) + b"".join(rows) + tail
    return wire.be(wire.fnv64(body), 8) + body


TABLE = table_of([row_of(ECHO, [1])])


def table_frame(payload=TABLE, kind="TABLE", **changes):
    return wire.frame(kind, payload=payload, **changes)


def hello_ack(drop=None, extra="", payload="", flags=0, call="00000000", order=None, **change):
    """A HELLO_ACK with the transcript left open, whole or spoilt."""
    keys = {1: wire.be(LIMIT, 4).hex(), 2: wire.be(16, 4).hex(), 3: "01", 4: b"unexpected".hex(),
            5: TABLE[:8].hex(), 6: "{transcript}"}
    keys |= {int(key[1:]): value for key, value in change.items()}
    keys.pop(drop, None)
    ext = ""
    for key in order or sorted(keys):
        size = len(places(keys[key]))
        ext += f"{key:04x}{size:04x}{keys[key]}"
    ext += extra
    ext_len = len(places(ext))
    return filled("HELLO_ACK", call, ext + payload, ext_len, flags)


# ---- conversations ----

PREFACE = wire.preface(1, 1)


def send(data):
    return {"send": data if isinstance(data, str) else data.hex()}


def many(step, times):
    """The same step so many times."""
    return step | {"times": times}


def expect(kind, **fields):
    return {"expect": kind} | fields


def refused(call, status, **more):
    return expect("RESPONSE", call=call, status=status, disposition="NOT_PROCESSED", **more)


def served(call):
    return expect("RESPONSE", call=call, status="OK", disposition="PROCESSED", payload="07")


GREETING = [send(PREFACE + hello()), expect("preface"), expect("HELLO_ACK"), expect("TABLE")]
MET = [expect("preface"), expect("HELLO")]
GREETED = MET + [send(PREFACE)]
ACKED = GREETED + [send(hello_ack())]
OPEN = ACKED + [send(table_frame())]
BEGIN = {
    "server": {"nothing": [], "open": GREETING},
    "client": {"nothing": [], "hello": MET, "greeted": GREETED, "acked": ACKED, "open": OPEN,
               "asked": OPEN + [expect("REQUEST")]},
}
PROOF = [send(ping(b"go on?..")), expect("PONG", opaque=b"go on?..".hex())]


def told(outcome_of, begin, steps, then, needs, call=None):
    out = {"begin": begin, "steps": [s if isinstance(s, dict) else send(s) for s in steps],
           "then": then}
    if call is not None:
        out["call"] = call if isinstance(call, list) else [call]
    if needs:
        out["needs"] = list(needs)
    return out


def but(then, passed):
    """An end, before which frames of these kinds may come."""
    return then | ({"passed": list(passed)} if passed else {})


def s_close(reason, *steps, last_call=0, begin="open", needs=(), passed=()):
    """The server under test closes. `last_call` None: not compared."""
    then = {"close": reason}
    if last_call is not None:
        then["last_call"] = last_call
    return told("server", begin, steps, but(then, passed), needs)


def s_end(*steps, begin="open", needs=(), passed=()):
    """The server under test ends the connection without another byte."""
    return told("server", begin, steps, but({"end": True}, passed), needs)


def s_open(*steps, begin="open", needs=(), again=AGAIN):
    """The server under test goes on, and serves another call."""
    more = [ask(again), served(again)] if again else []
    return told("server", begin, [*steps, *more], {"open": True}, needs)


LOST = {"status": "CONNECTION_LOST", "disposition": "MAYBE"}
SAFE = {"status": "CONNECTION_LOST", "disposition": "NOT_PROCESSED"}
OK = {"status": "OK", "payload": "07"}
CALLER_CANCELS = {"caller": "cancels"}
END_OF_INPUT = {"end_of_input": True}


def fails(status, disposition="NOT_PROCESSED"):
    return {"status": status, "disposition": disposition}


def wait(ms):
    return {"wait_ms": ms}


def c_close(reason, *steps, begin="asked", call=LOST, needs=(), passed=()):
    """The client under test closes, and its call ends."""
    then = but({"close": reason, "last_call": 0}, passed)
    return told("client", begin, steps, then, needs, call)


def c_end(*steps, begin="asked", call=LOST, needs=()):
    """The client under test ends the connection without another byte."""
    return told("client", begin, steps, {"end": True}, needs, call)


def c_open(*steps, begin="asked", call=OK, needs=()):
    """The client under test goes on."""
    return told("client", begin, steps, {"open": True}, needs, call)


def c_go_on(*steps, begin="asked", needs=()):
    """The client under test goes on, and takes the answer to its call."""
    late = [] if begin == "asked" else [expect("REQUEST")]
    return c_open(*steps, *late, answer(), begin=begin, needs=needs)


def both_close(reason, data, **options):
    return s_close(reason, data, **options), c_close(reason, data, **options)


def both_go_on(data):
    return s_open(data), c_go_on(data)


# ---- the file ----

def case(number, name, rule, server, client):
    sides = {}
    for side, held in (("server", server), ("client", client)):
        sides[side] = {"none": held} if isinstance(held, str) else held
    return {"id": f"UX{number}", "name": name, "rule": rule.split()} | sides


def unexpected():
    from unexpected_calls import requests_to_answers
    from unexpected_flow import flow
    from unexpected_rows import framing_and_handshake
    rows = framing_and_handshake() + requests_to_answers() + flow()
    return {
        "methods": [
            {"name": ECHO_NAME, "version": 1, "text": TEXT, "does": "answers with its request"},
            {"name": HOLD_NAME, "version": 1, "text": TEXT, "does": "ends only when cancelled"},
        ],
        "limits": [LIMITS],
        "begin": [{"side": side, "begin": name, "steps": steps}
                  for side, begins in BEGIN.items() for name, steps in begins.items()],
        "open": PROOF,
        "cases": [case(*row) for row in rows],
    }


BY_BYTES = {"HEAD_CRC", "BODY_CRC", "FRAME_TOO_LARGE", "UNKNOWN_KIND", "UNKNOWN_FLAG",
            "UNKNOWN_TLV", "MALFORMED", "FLOW_CONTROL"}
STEPS = {"send", "expect", "wait_ms", "end_of_input", "caller", "subject"}


def check_unexpected(doc):
    known = defined_rules()
    last = ""
    for found in doc["cases"]:
        same(last < found["id"], True, f"{found['id']} comes after {last}")
        last = found["id"]
        same([rule for rule in found["rule"] if rule not in known], [], found["id"])
        for side in ("server", "client"):
            if "none" not in found[side]:
                check_side(doc, side, found[side], f"{found['id']} against {side}")
    fresh = with_tables(PAGE.read_text(encoding="utf-8"), doc)
    same(PAGE.read_text(encoding="utf-8") == fresh, True, "../unexpected.md is up to date")


def check_side(doc, side, held, case_id):
    """What is sent is what the outcome says: the decoder of wire.py finds the same fault."""
    steps = next(b["steps"] for b in doc["begin"]
                 if (b["side"], b["begin"]) == (side, held["begin"])) + held["steps"]
    for step in steps:
        same(len(STEPS & step.keys()), 1, f"{case_id}: {step}")
    sent = b"".join(places(step["send"]) * step.get("times", 1) for step in steps
                    if "send" in step)
    reason = held["then"].get("close")
    fault = first_fault(sent)
    if reason in BY_BYTES:
        same(fault, reason, case_id)
    elif "open" in held["then"] or reason in ("PROTOCOL", "CALL_ID", "TRANSCRIPT", "TABLE"):
        same(fault, None, case_id)
    else:
        same(fault in (None, "INCOMPLETE", "NOT_SWITCHBACK"), True, f"{case_id}: {fault}")


def first_fault(sent):
    """What is wrong with these bytes, from the preface on, as far as bytes alone can tell."""
    found = outcome(wire.parse_preface, sent)
    if isinstance(found, str):
        return found
    at, limit, flow = 8, 16384, Flow()
    while at < len(sent):
        got = outcome(wire.decode, sent[at:], limit)
        if got == "INCOMPLETE":
            return None
        if got in ("UNSUPPORTED_FLAG", "BAD_METADATA"):
            at += 16 + wire.num(sent[at:at + 4])
            continue
        if isinstance(got, str):
            return got
        fields, used = got
        if fields["kind"] == "CLOSE":
            return None
        if fields["kind"] in ("HELLO", "HELLO_ACK"):
            limit = LIMIT
        # FR-12 comes first, and is not judged here.
        bad = flow.fault(fields, used - 16) if limit == LIMIT else None
        if bad is not None:
            return bad
        if fields["kind"] in ("TABLE", "TABLE_UPDATE"):
            payload = bytes.fromhex(fields["payload_hex"])
            bad = outcome(wire.parse_table, payload, fields["kind"] == "TABLE_UPDATE")
            if isinstance(bad, str):
                return bad
        at += used
    return None


class Flow:
    """What is wrong with fragments and credits, where the side under test sends none itself, and
    grants as late as it may."""

    def __init__(self):
        self.open, self.taken = WINDOW, 0
        self.sizes = {}  # of messages, by call

    def fault(self, fields, body_len):
        kind, call = fields["kind"], fields["call"]
        if kind == "CREDIT":
            # Nothing was sent, so the whole window is open.
            return None if call else "FLOW_CONTROL"
        if kind == "REQUEST" and "more" in fields:
            self.sizes[call] = body_len
        elif kind == "RESPONSE" and call in self.sizes:
            # FL-3: with any other status what came in DATA is thrown away.
            before = self.sizes.pop(call) - 8 if fields["status"] <= 1 else 0
            return "FRAME_TOO_LARGE" if before + body_len > LIMIT else None
        elif kind == "DATA":
            size = len(fields["payload_hex"]) // 2
            if size > self.open:
                return "FLOW_CONTROL"
            self.open, self.taken = self.open - size, self.taken + size
            if 2 * self.taken >= WINDOW:
                self.open, self.taken = self.open + self.taken, 0
            self.sizes[call] = self.sizes.get(call, 4 + 4) + size
            return "FRAME_TOO_LARGE" if self.sizes[call] > LIMIT else None
        return None


def defined_rules():
    pages = HERE.parent.glob("0*.md")
    return {found for page in pages
            for found in re.findall(r"^\*\*([A-Z]{2}-\d+)\*\*(?! \(later\))",
                                    page.read_text(encoding="utf-8"), re.M)}


# ---- the page ----

def words(held):
    """An outcome for people."""
    if "none" in held:
        return f"({held['none']})"
    said = []
    for step in held["steps"]:
        times = f" {step['times']} times" if "times" in step else ""
        if step.get("expect") == "RESPONSE" and step.get("call") != AGAIN:
            said.append(", ".join(["RESPONSE " + step["status"]]
                                  + ([step["disposition"]] if "disposition" in step else []))
                        + times)
        elif step.get("expect") == "GOAWAY":
            last = step["last_call"]
            said.append("GOAWAY " + ("for any call" if last == 2 ** 32 - 1 else str(last)))
        elif step.get("expect") == "CREDIT":
            said.append(f"CREDIT {step['bytes']}")
        elif step.get("expect") in ("PING", "PONG", "CANCEL"):
            said.append(step["expect"])
    then = held["then"]
    if "close" in then:
        said.append(f"CLOSE {then['close']}")
    else:
        said.append("ends without a word" if "end" in then else "stays open")
    call = held.get("call")
    if call:
        said.append("the call: " + " or ".join(", ".join(
            [one["status"]] + ([one["disposition"]] if "disposition" in one else []))
            for one in call))
    return "; ".join(said)


def table_lines(doc, section):
    lines = ["| id | what the peer does | against a server | against a client | rules |",
             "|---|---|---|---|---|"]
    for found in doc["cases"]:
        if found["id"].startswith(f"UX{section}"):
            lines.append(f"| {found['id']} | {found['name']} | {words(found['server'])} | "
                         f"{words(found['client'])} | {', '.join(found['rule'])} |")
    return lines


def with_tables(page, doc):
    """The page with the tables of `doc` after its marks."""
    out, old = [], False
    for line in page.splitlines():
        mark = re.fullmatch(r"<!-- rows UX(\d)xx -->", line)
        if mark:
            out += [line, "", *table_lines(doc, mark[1])]
            old = True
        elif not old or (line and not line.startswith("|")):
            if old:
                out.append("")
            out.append(line)
            old = False
    return "\n".join(out) + "\n"


def write_page(doc):
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_tables(page, doc), encoding="utf-8")
