"""The rows UX611 and up: floods, going away, and silence after the handshake; see unexpected.py."""

import wire
from unexpected import (
    HOLD, SAFE, answer, ask, c_close, c_end, c_go_on, c_open, cancel, expect, filled, goaway, many,
    ping, refused, s_close, s_end, s_open, send, served, table_frame, wait)

CRITICAL = wire.tlv(0x8001, b"")
ONLY_CLIENTS = "only clients send it: UX150"
ONLY_SERVERS = "only servers send it: UX641"
HELD = ["ux.Echo/hold"]
SKIPPED = wire.frame(0x90, payload=b"nothing")
PONG = ping(kind="PONG")
UNKNOWN = wire.method_id("ux.Echo/nobody")


def asks(**change):
    """A REQUEST with the next id, to be sent many times."""
    data = ask(0, **change)
    ext_len, flags = wire.num(data[6:8]), data[5]
    return filled("REQUEST", "{next}", data[16:-4].hex(), ext_len, flags)


def floods():
    now = ["at_once"]

    def both(number, name, rule, reason, data, times, passed=()):
        step = many(send(data), times)
        return (number, name, rule,
                s_close(reason, step, needs=now, passed=passed),
                c_close(reason, step, needs=now, passed=passed))

    def then_more(number, name, rule, data, first, each_second):
        steps = [many(send(data), first), wait(1000), many(send(data), each_second), wait(1000)]
        return (number, name, rule, s_open(*steps), c_go_on(*steps))
    texts = [b"ping %d.." % n for n in range(1, 4)]
    pings = [b"".join(map(ping, texts)),
             expect("PONG", opaque=texts[-1].hex(), after=[text.hex() for text in texts[:-1]])]
    for _ in range(3):
        pings += [wait(1000), ping(), expect("PONG", opaque=b"are you?".hex())]
    pings.append(wait(1000))
    return [
        both(611, "5 PINGs at once", "LD-8", "TOO_MANY_PINGS", ping(), 5, ["PONG"]),
        (612, "3 PINGs at once, then one each second", "LD-8", s_open(*pings), c_go_on(*pings)),
        both(613, "257 frames at once that are skipped", "LD-11 FR-7", "TOO_MANY_FRAMES", SKIPPED,
             257),
        then_more(614, "192 frames at once that are skipped, 24 more a second later",
                  "LD-11 FR-7", SKIPPED, 192, 24),
        both(615, "257 PONGs at once that nobody asked for", "LD-11 LD-1", "TOO_MANY_FRAMES",
             PONG, 257),
        then_more(616, "192 PONGs at once that nobody asked for, 24 more a second later",
                  "LD-11 LD-1", PONG, 192, 24),
    ]


def refusals():
    def wrong(number, name, status, **change):
        answers = many(expect("RESPONSE", status=status, disposition="NOT_PROCESSED"), 101)
        return (number, f"101 REQUESTs at once {name}", "LD-11 CA-3",
                s_close("TOO_MANY_ERRORS", many(send(asks(**change)), 101), answers,
                        last_call=201, needs=["at_once"]), ONLY_CLIENTS)

    def not_its_fault(number, name, times, status, needs=(), **change):
        answers = many(expect("RESPONSE", status=status, disposition="NOT_PROCESSED"), times)
        return (number, name, "LD-11 CA-3",
                s_open(many(send(asks(**change)), times), answers, needs=needs), ONLY_CLIENTS)

    def refused_times(times):
        return [many(send(asks(method=UNKNOWN)), times),
                many(expect("RESPONSE", status="UNKNOWN_METHOD"), times)]
    early = asks(method=HOLD) + filled("CANCEL", "{same}")
    taken_back = expect("RESPONSE", status="CANCELLED")
    at_most = 1024
    return [
        wrong(621, "for methods that nobody has", "UNKNOWN_METHOD", method=UNKNOWN),
        wrong(622, "with metadata that is malformed", "BAD_METADATA", ext=b"\x00"),
        wrong(623, "with a high flag", "UNSUPPORTED_FLAG", flags=0x40),
        wrong(624, "with a payload that does not decode", "BAD_PAYLOAD", payload=b"\xff"),
        (625, "100 REQUESTs at once for methods that nobody has, 33 more a second later",
         "LD-11 CA-3", s_open(*refused_times(100), wait(1000), *refused_times(33)), ONLY_CLIENTS),
        not_its_fault(626, "1000 REQUESTs at once for a version that the method does not have",
                      1000, "UNSUPPORTED_VERSION", version=2),
        not_its_fault(627, "1000 REQUESTs at once in a codec that nobody has", 1000,
                      "UNSUPPORTED_CODEC", codec=9),
        (628, "251 REQUESTs, each with a CANCEL behind it", "LD-11 CA-12",
         s_close("TOO_MANY_CANCELS", many(send(early), 251), last_call=501, passed=["RESPONSE"],
                 needs=HELD), ONLY_CLIENTS),
        (629, "250 REQUESTs, each with a CANCEL behind it", "LD-11 CA-12",
         s_open(many(send(early), 250), many(taken_back, 250), needs=HELD), ONLY_CLIENTS),
        (630, "1025 REQUESTs for calls that run on", "CA-11",
         s_open(many(send(asks(method=HOLD)), at_most), ask(2 * at_most + 1),
                refused(2 * at_most + 1, "OVERLOADED"), again=None, needs=[*HELD, "calls_max"]),
         ONLY_CLIENTS),
    ]


def goaways():
    any_call, asked = "ffffffff", expect("PONG", opaque=b"goaway 1".hex())
    first = [goaway(any_call) + ping(b"goaway 1").hex(), asked]
    mine = goaway("{call}")

    def of_server(number, name, rule, held):
        return (number, name, rule, ONLY_SERVERS, held)

    def bad(number, name, rule, reason, data):
        return of_server(number, name, rule, c_close(reason, data))
    frame = wire.frame("GOAWAY", fixed=bytes.fromhex("ffffffff" "0001" "00007530"))
    hold, held = ask(1, HOLD), expect("RESPONSE", call=1, status="CANCELLED")
    drains = {"subject": "drains"}
    said = [expect("GOAWAY", last_call=2 ** 32 - 1), expect("PING")]
    fence = [ping(), expect("PONG", opaque=b"are you?".hex())]
    back = filled("PONG", "00000000", "{ping}")
    return [
        (641, "a GOAWAY to a server", "LD-7 FR-12", s_close("PROTOCOL", frame),
         "only servers send it"),
        of_server(642, "a GOAWAY before HELLO_ACK", "LD-7 FR-12",
                  c_close("PROTOCOL", frame, begin="greeted")),
        of_server(643, "a GOAWAY while TABLE is still to come, the call's REQUEST before it",
                  "LD-7 LD-10",
                  c_open(expect("REQUEST"), frame, table_frame(), answer(), begin="acked",
                         needs=["early"])),
        of_server(644, "a GOAWAY that names no call, then the answer", "LD-7 LD-10",
                  c_open(*first, answer())),
        of_server(645, "two GOAWAYs, the second with the last call there is, then the answer",
                  "LD-7 LD-10", c_open(*first, mine, answer())),
        of_server(646, "two GOAWAYs, the second with a call before the one under way",
                  "LD-7 LD-10", c_open(*first, goaway("00000000"), call=SAFE)),
        of_server(647, "a GOAWAY whose last call is above that of one before", "LD-7",
                  c_close("PROTOCOL", mine, goaway("{call+2}"))),
        of_server(648, "a GOAWAY that names no call after one that did", "LD-7",
                  c_close("PROTOCOL", mine, *first[:1], passed=["PONG"])),
        of_server(649, "the same GOAWAY twice, then the answer", "LD-7",
                  c_open(mine + mine, answer())),
        of_server(650, "a RESPONSE to a call above the last one that GOAWAY named", "LD-10 CA-2",
                  c_close("PROTOCOL", goaway("00000000"), answer(), call=SAFE)),
        bad(651, "a GOAWAY with a payload", "FR-11", "MALFORMED",
            wire.frame("GOAWAY", fixed=bytes(10), payload=b"x")),
        bad(652, "a GOAWAY of nine bytes", "FR-2", "MALFORMED",
            wire.frame("GOAWAY", fixed=bytes(9))),
        bad(653, "a GOAWAY with an unknown critical key", "FR-10", "UNKNOWN_TLV",
            wire.frame("GOAWAY", fixed=bytes(10), ext=CRITICAL)),
        bad(654, "a GOAWAY with a call id", "FR-12", "PROTOCOL",
            wire.frame("GOAWAY", call=1, fixed=bytes(10))),
        of_server(655, "a GOAWAY with an unknown key, then the answer", "FR-10 LD-7",
                  c_open(wire.frame("GOAWAY", fixed=frame[16:26], ext=wire.tlv(9, b"")),
                         answer())),
        (656, "a REQUEST that crosses the first GOAWAY", "LD-7 LD-9 CA-16",
         s_close("SHUTDOWN", hold, drains, *said, ask(3), served(3), back,
                 expect("GOAWAY", last_call=3), cancel(1), held, last_call=3,
                 needs=[*HELD, "drain"]), ONLY_CLIENTS),
        (657, "a REQUEST and its CANCEL after the second GOAWAY", "LD-9 CA-16",
         s_close("SHUTDOWN", hold, drains, *said, back, expect("GOAWAY", last_call=1),
                 ask(3) + cancel(3), *fence, cancel(1), held, last_call=1,
                 needs=[*HELD, "drain"]), ONLY_CLIENTS),
        (658, "no PONG to the PING behind the first GOAWAY", "LD-7",
         s_close("SHUTDOWN", hold, drains, *said, wait(1000), expect("GOAWAY", last_call=1),
                 cancel(1), held, last_call=1, needs=[*HELD, "drain"]), ONLY_CLIENTS),
        (659, "an id twice, after the second GOAWAY", "LD-9 CA-1",
         s_close("CALL_ID", hold, drains, *said, back, expect("GOAWAY", last_call=1),
                 ask(3) + ask(3), last_call=1, needs=[*HELD, "drain"]), ONLY_CLIENTS),
        (660, "a CANCEL above the highest id, after the second GOAWAY", "LD-9 CA-12",
         s_close("PROTOCOL", hold, drains, *said, back, expect("GOAWAY", last_call=1),
                 cancel(3), last_call=1, needs=[*HELD, "drain"]), ONLY_CLIENTS),
    ]


def silences():
    frame, hold = ["frame_timeout"], ask(1, HOLD)
    quiet, silence = [*HELD, "keepalive"], ["keepalive"]
    begun = wire.frame(0x90, payload=bytes(12 * 1024))
    slow = [begun[:16], many(send(bytes(1024)), 6), wait(4000), many(send(bytes(1024)), 5),
            wait(4000), bytes(1024), begun[-4:]]
    trickle = []
    for byte in SKIPPED[:5]:
        trickle += [bytes([byte]), wait(1000)]
    asked = [wait(5000), expect("PING")]
    back = filled("PONG", "00000000", "{ping}")
    return [
        (671, "part of a frame, then silence", "LD-12",
         s_close("FRAME_TIMEOUT", ask(1)[:20], wait(5000), needs=frame),
         c_close("FRAME_TIMEOUT", SKIPPED[:20], wait(5000), needs=frame)),
        (672, "part of a header, then silence", "LD-12",
         s_close("FRAME_TIMEOUT", ask(1)[:15], wait(5000), needs=frame),
         c_close("FRAME_TIMEOUT", SKIPPED[:1], wait(5000), needs=frame)),
        (673, "a byte of a frame each second", "LD-12",
         s_close("FRAME_TIMEOUT", *trickle, needs=frame),
         c_close("FRAME_TIMEOUT", *trickle, needs=frame)),
        (674, "a frame of 12 KiB, 6 of them each 4 seconds", "LD-12",
         s_open(*slow, needs=frame), c_go_on(*slow, needs=frame)),
        (675, "silence with a call under way", "LD-8 LD-5",
         s_end(hold, *asked, wait(5000), needs=quiet), c_end(*asked, wait(5000), needs=silence)),
        (676, "silence but for PONGs, with a call under way", "LD-8 LD-1",
         s_open(hold, *(asked + [back]) * 3, needs=quiet),
         c_go_on(*(asked + [back]) * 3, needs=silence)),
        (677, "silence but for frames that are skipped, with a call under way", "LD-8",
         s_open(hold, *asked, *[SKIPPED, wait(4000)] * 4, needs=quiet),
         c_go_on(*asked, *[SKIPPED, wait(4000)] * 4, needs=silence)),
        (678, "5 minutes without a call and without a frame", "LD-12",
         s_close("IDLE", *[wait(150000)] * 2, needs=["idle_timeout"]),
         "a client leaves that to its server"),
        (679, "a PING every 4 minutes, no call", "LD-12",
         s_open(*[wait(240000), ping(), expect("PONG")] * 3, needs=["idle_timeout"]),
         "a client leaves that to its server"),
        (680, "1000 REQUESTs, and no answer is read", "LD-12",
         s_end(many(send(asks()), 1000), wait(11000), passed=["RESPONSE"],
               needs=["write_timeout", "small_buffers"]),
         "one call does not fill a buffer"),
    ]


def liveness():
    return floods() + refusals() + goaways() + silences()
