"""The rows UX8xx: fragments and credits; see unexpected.py."""

import wire
from unexpected import (
    CALLER_CANCELS, END_OF_INPUT, HOLD, LIMIT, OK, PREFACE, SAFE, WINDOW, answer, ask, c_close,
    c_end, c_open, cancel, close, expect, fails, filled, goaway, hello, hello_ack, many, ping,
    refused, s_close, s_end, s_open, send, served, table_frame, wait)
from unexpected_liveness import asks

CRITICAL = wire.tlv(0x8001, b"")
ONLY_CLIENTS = "only clients send it: UX150"
ONLY_SERVERS = "only servers send it: UX150"
NO_CANCEL = "only clients send it: UX151"
ONE_CALL = "it has one call"
UNKNOWN = wire.method_id("ux.Echo/nobody")
TAKES = ["fragments"]
HELD = [*TAKES, "ux.Echo/hold"]
COUNTS = [*TAKES, "window_connection"]
LATE = [*COUNTS, "late_credit"]
NINE = [b"\xfd", b"\x07\x00\x00", bytes(5)]  # 7 in nine bytes, in three pieces
HALF = WINDOW // 2
LONGEST = wire.DATA_BYTES_MAX


def zeros(size):
    """So many bytes of payload; no value of a method here has more than nine."""
    return f"{{zeros {size}}}"


def data(call, payload=b"", more=False, flags=0, ext=b""):
    """A DATA to the server under test, as text; so may be its payload."""
    call = call if isinstance(call, str) else f"{call:08x}"
    body = payload if isinstance(payload, str) else payload.hex()
    flags |= wire.MORE if more else 0
    return filled("DATA", call, ext.hex() + body, len(ext), flags)


def part(payload=b"", call="{call}", **changes):
    """A DATA to the client under test."""
    return data(call, payload, **({"more": True} | changes))


def credit(size, **changes):
    return wire.frame("CREDIT", fixed=wire.be(size, 4), **changes)


def begun(call=1, payload=b"", flags=0, **change):
    """A REQUEST with MORE."""
    return ask(call, payload=payload, flags=flags | wire.MORE, **change)


def granted(size):
    return expect("CREDIT", bytes=size)


GIVEN_UP = [cancel(1), refused(1, "CANCELLED")]
FAILED = answer(status=11, codec=0, payload=b"")
INTERNAL = fails("INTERNAL", "PROCESSED")
BAD = fails("BAD_RESPONSE", "PROCESSED")


def messages():
    asked = [begun(payload=NINE[0]), data(1, NINE[1], more=True)]
    told, pong = [part(NINE[0]), part(NINE[1])], expect("PONG", opaque=b"are you?".hex())
    later = {"ext": wire.tlv(0x7FFF, b"later"), "flags": 0x0F}

    def of_server(number, name, rule, *steps, call):
        return (number, name, rule, ONLY_SERVERS, c_open(*steps, call=call, needs=TAKES))
    return [
        (801, "a message in three pieces, another frame between them", "FL-2 FL-3 FL-5",
         s_open(*asked, ask(3), served(3), data(1, NINE[2]), served(1), needs=TAKES),
         c_open(*told, ping(), pong, answer(payload=NINE[2]), needs=TAKES)),
        (802, "pieces without a payload around the one with it", "FL-2 FL-3",
         s_open(begun(), data(1, more=True), data(1, b"\x07", more=True), data(1), served(1),
                needs=TAKES),
         c_open(part(), part(b"\x07"), part(), answer(payload=b""), needs=TAKES)),
        (803, "two messages at once, the second whole first", "FL-2 FL-5",
         s_open(begun(1, NINE[0]), begun(3), data(3, NINE[0] + NINE[1], more=True),
                data(1, NINE[1], more=True), data(3, NINE[2]), served(3), data(1, NINE[2]),
                served(1), needs=TAKES), ONE_CALL),
        (804, "a DATA with an unknown key and low flags", "FL-2 FL-3 FR-8 FR-10",
         s_open(begun(), data(1, b"\x07", **later), served(1), needs=TAKES),
         c_open(part(b"\x07", **later), answer(payload=b""), needs=TAKES)),
        (805, "the pieces and what follows them, at once", "FL-2 FL-3",
         s_open(begun().hex() + data(1, b"\x07") + ask(3).hex(), served(1), served(3),
                needs=[*TAKES, "inline"]),
         c_open(part(NINE[0]) + part(NINE[1]) + answer(payload=NINE[2]), needs=TAKES)),
        (806, "pieces that do not decode", "FL-6 CA-3 CA-15 PL-4",
         s_open(begun(payload=b"\xff"), expect("nothing"), data(1, b"\x07", more=True),
                expect("nothing"), data(1), refused(1, "BAD_PAYLOAD", payload=""), needs=TAKES),
         c_open(part(b"\x07"), answer(), call=BAD, needs=TAKES)),
        of_server(807, "pieces, then APP from a method without an error", "FL-3 CA-15",
                  part(b"\x07"), answer(status=1, payload=b""), call=BAD),
        of_server(808, "pieces, then a status that is neither OK nor APP", "FL-3",
                  part(b"\x07"), FAILED, call=INTERNAL),
        (809, "pieces, then such a status with a payload", "FL-3 CA-6", ONLY_SERVERS,
         c_close("MALFORMED", part(b"\x07"), answer(status=11), needs=TAKES)),
    ]


def forms():
    def both(number, name, rule, reason, server, client):
        return (number, name, rule, s_close(reason, begun(), server, last_call=1, needs=TAKES),
                c_close(reason, client, needs=TAKES))

    def alike(number, name, rule, reason, frame):
        return (number, name, rule, s_close(reason, frame, needs=TAKES),
                c_close(reason, frame, needs=TAKES))
    return [
        both(811, "a DATA of 65537 bytes", "FL-4", "MALFORMED",
             data(1, zeros(LONGEST + 1), more=True), part(zeros(LONGEST + 1))),
        both(812, "flag 0x40 on a DATA with MORE", "FR-8", "UNKNOWN_FLAG",
             data(1, more=True, flags=0x40), part(flags=0x40)),
        both(813, "an unknown critical key in a DATA", "FR-10", "UNKNOWN_TLV",
             data(1, ext=CRITICAL), part(ext=CRITICAL)),
        both(814, "a DATA with call id 0", "FR-12", "PROTOCOL", data(0, more=True),
             part(call="00000000")),
        both(815, "a DATA with an even call id", "FR-12", "PROTOCOL", data(2, more=True),
             part(call="00000002")),
        alike(816, "a CREDIT of 3 bytes", "FR-2", "MALFORMED",
              wire.frame("CREDIT", fixed=bytes(3))),
        alike(817, "a CREDIT with a call id", "FR-12", "PROTOCOL", credit(1, call=1)),
        alike(818, "an unknown critical key in a CREDIT", "FR-10", "UNKNOWN_TLV",
              credit(1, ext=CRITICAL)),
        alike(819, "flag 0x80 on a CREDIT", "FR-8", "UNKNOWN_FLAG", credit(1, flags=0x80)),
        (820, "a window of 65535", "HS-5 HS-6",
         s_close("MALFORMED", PREFACE + hello(k9=wire.be(65535, 4)), expect("preface"),
                 begin="nothing", needs=TAKES),
         c_close("MALFORMED", hello_ack(k9="0000ffff"), begin="greeted", needs=TAKES)),
        (821, "a window of 8 bytes", "HS-6",
         s_close("MALFORMED", PREFACE + hello(k9=wire.be(WINDOW, 8)), expect("preface"),
                 begin="nothing", needs=TAKES),
         c_close("MALFORMED", hello_ack(k9=wire.be(WINDOW, 8).hex()), begin="greeted",
                 needs=TAKES)),
    ]


def lengths():
    needs, extra = [*COUNTS, "frame_bytes_max"], wire.tlv(99, b"")
    asked, told = LIMIT - LONGEST - 16 - 4, LIMIT - LONGEST - 4 - 4
    upload = [data(1, zeros(LONGEST), more=True), granted(LONGEST),
              data(1, zeros(asked), more=True)]
    answered = [part(zeros(LONGEST)), granted(LONGEST), part(zeros(told))]
    late = [zeros(HALF - 1), zeros(HALF + 2)]
    return [
        (822, "a message in pieces as long as `frame_bytes_max`", "FL-4 CA-14",
         s_open(begun(), *upload, granted(asked), data(1), refused(1, "BAD_PAYLOAD"), needs=needs),
         c_open(*answered, granted(told), answer(payload=b""), call=BAD, needs=needs)),
        (823, "a message in pieces one byte longer than `frame_bytes_max`", "FL-4 FR-4",
         s_close("FRAME_TOO_LARGE", begun(), *upload, granted(asked), data(1, b"\x07"),
                 last_call=1, needs=needs),
         c_close("FRAME_TOO_LARGE", *answered, granted(told), answer(), needs=needs)),
        (824, "a message in pieces that TLVs make longer than `frame_bytes_max`", "FL-4",
         s_close("FRAME_TOO_LARGE", begun(ext=extra), *upload, last_call=1, needs=needs),
         c_close("FRAME_TOO_LARGE", *answered, granted(told), answer(ext=extra, payload=b""),
                 needs=needs)),
        (825, "a DATA beyond the credit, which makes a message too long too", "FL-10 FL-4 FR-2",
         s_close("FLOW_CONTROL", begun(), *upload[:2], *[data(1, z, more=True) for z in late],
                 last_call=1, needs=[*LATE, "frame_bytes_max"]),
         c_close("FLOW_CONTROL", *answered[:2], *map(part, late),
                 needs=[*LATE, "frame_bytes_max"])),
    ]


def turns():
    thrown = [data(1, b"\x07", more=True), data(1, b"\x07")]

    def away(number, name, rule, *steps):
        return (number, name, rule, s_open(*steps, *thrown, needs=TAKES), ONLY_CLIENTS)
    return [
        (831, "a DATA before HELLO or HELLO_ACK", "FL-8 FR-12",
         s_close("PROTOCOL", (PREFACE.hex() + data(1)), expect("preface"), begin="nothing",
                 needs=TAKES),
         c_close("PROTOCOL", part(call="00000001"), begin="greeted", needs=TAKES)),
        (832, "a DATA while TABLE is still to come", "FL-8 FR-12 RT-4", "a client sends none",
         c_close("PROTOCOL", part(call="00000001"), begin="acked", needs=TAKES)),
        (833, "a DATA above the highest id", "FL-8",
         s_close("PROTOCOL", ask(1), served(1), data(3), last_call=1, needs=TAKES),
         c_close("PROTOCOL", part(call="{call+2}"), needs=TAKES)),
        (834, "a DATA for a call whose REQUEST had no MORE", "FL-8",
         s_close("PROTOCOL", ask(1, HOLD), data(1), last_call=1, needs=HELD),
         "a RESPONSE has none: UX801"),
        (835, "a DATA after the last piece", "FL-8",
         s_close("PROTOCOL", begun(method=HOLD), data(1, b"\x07"), data(1, more=True),
                 last_call=1, needs=HELD),
         c_close("PROTOCOL", answer(), part(), call=OK, needs=TAKES)),
        (836, "a DATA after the last piece, in one piece with it", "FL-8",
         s_close("PROTOCOL", begun(method=HOLD).hex() + data(1, b"\x07") + data(1),
                 last_call=1, needs=HELD),
         c_close("PROTOCOL", answer() + part(b"\x07"), call=OK, needs=TAKES)),
        (837, "a DATA without MORE to a client", "FL-8 FL-3", "it ends a request: UX801",
         c_close("PROTOCOL", part(more=False), needs=TAKES)),
        away(838, "DATA for a call that was answered", "FL-8", ask(1), served(1)),
        away(839, "DATA for an id in a gap", "FL-8", ask(9), served(9)),
        away(840, "DATA of a REQUEST that was refused", "FL-7 FL-8", begun(method=UNKNOWN),
             refused(1, "UNKNOWN_METHOD")),
        away(841, "DATA of a REQUEST with MORE and flag 0x40", "FL-7 FR-8",
             begun(flags=0x40), refused(1, "UNSUPPORTED_FLAG")),
        away(842, "DATA of a REQUEST with MORE whose metadata is malformed", "FL-7 FR-9",
             begun(ext=b"\x00"), refused(1, "BAD_METADATA")),
        (843, "DATA of a REQUEST that is refused, in one piece with it", "FL-7 FL-8",
         s_open(begun(version=2).hex() + "".join(thrown), refused(1, "UNSUPPORTED_VERSION"),
                needs=TAKES), ONLY_CLIENTS),
        (844, "an id again whose request is not whole", "CA-1 FL-6",
         s_close("CALL_ID", begun(), ask(1), last_call=1, needs=TAKES), ONLY_CLIENTS),
        (845, "1025 REQUESTs with MORE", "FL-6 CA-11",
         s_open(many(send(asks(flags=wire.MORE)), 1024), begun(2049), refused(2049, "OVERLOADED"),
                data(2049), again=None, needs=[*TAKES, "calls_max"]), ONLY_CLIENTS),
    ]


def ends():
    said = [expect("GOAWAY", last_call=2 ** 32 - 1), expect("PING")]
    fence = [ping(), expect("PONG", opaque=b"are you?".hex())]
    leaves = [{"subject": "drains"}, *said, filled("PONG", "00000000", "{ping}"),
              expect("GOAWAY", last_call=1)]
    called = filled("CLOSE", "00000000", "0001{call}")
    held = expect("RESPONSE", call=1, status="CANCELLED")
    late = data(1, b"\x07", more=True) + data(1)
    return [
        (851, "a CANCEL between the pieces", "FL-7 CA-12",
         s_open(begun(), data(1, b"\x07", more=True), *GIVEN_UP, needs=TAKES), NO_CANCEL),
        (852, "DATA for a call that was cancelled", "FL-7 FL-8",
         s_open(begun(), *GIVEN_UP, late, needs=TAKES),
         c_open(CALLER_CANCELS, expect("CANCEL"), part(b"\x07"), answer(payload=b""), call=None,
                needs=TAKES)),
        (853, "pieces cut short by CANCELLED, for a call that was cancelled", "FL-7 FL-3",
         ONLY_SERVERS,
         c_open(part(b"\x07"), CALLER_CANCELS, expect("CANCEL"), part(b"\x07"),
                answer(status=2, disposition=1, codec=0, payload=b""), call=None, needs=TAKES)),
        (854, "a deadline that passes between the pieces", "FL-6 CA-8",
         s_open(begun(timeout_ms=1000), data(1, b"\x07", more=True), wait(1000),
                refused(1, "DEADLINE_EXCEEDED"), late, needs=TAKES), "a client keeps its own"),
        (855, "the end between the pieces", "LD-5 LD-6",
         s_end(begun(), data(1, b"\x07", more=True), END_OF_INPUT, needs=TAKES),
         c_end(part(b"\x07"), END_OF_INPUT, needs=TAKES)),
        (856, "CLOSE between the pieces", "LD-2 LD-4",
         s_end(begun(), data(1, b"\x07", more=True), close(), needs=TAKES),
         c_end(part(b"\x07"), called, needs=TAKES)),
        (857, "the rest of a request after the second GOAWAY", "FL-6 LD-7 LD-10",
         s_close("SHUTDOWN", begun(), *leaves, data(1, b"\x07"), served(1), last_call=1,
                 needs=[*TAKES, "drain"]),
         c_open(part(b"\x07"), goaway("{call}"), part(), answer(payload=b""), needs=TAKES)),
        (858, "a REQUEST with MORE and its DATA after the second GOAWAY", "LD-9 FL-6 FL-8",
         s_close("SHUTDOWN", ask(1, HOLD), *leaves, begun(3), data(3, b"\x07", more=True),
                 data(3), *fence, cancel(1), held, last_call=1, needs=[*HELD, "drain"]),
         ONLY_CLIENTS),
        (859, "a DATA for a call above the last one that GOAWAY named", "FL-8 LD-10",
         "UX858",
         c_close("PROTOCOL", part(b"\x07"), goaway("00000000"), part(b"\x07"), call=SAFE,
                 needs=TAKES)),
    ]


def credits():
    window = wire.be(WINDOW, 4)
    met = [PREFACE + hello(k9=window), expect("preface"), expect("HELLO_ACK"), expect("TABLE")]

    def too_much(number, name, size):
        return (number, name, "FL-11",
                s_close("FLOW_CONTROL", *met, credit(size), begin="nothing", needs=TAKES),
                c_close("FLOW_CONTROL", hello_ack(k9=window.hex()), table_frame(),
                        expect("REQUEST"), credit(size), begin="greeted", needs=TAKES))
    late = [zeros(HALF - 1), zeros(HALF + 2)]
    return [
        (861, "half of the window in one DATA", "FL-11",
         s_open(begun(), data(1, zeros(HALF), more=True), granted(HALF), *GIVEN_UP,
                needs=COUNTS),
         c_open(part(zeros(HALF)), granted(HALF), FAILED, call=INTERNAL, needs=COUNTS)),
        (862, "nearly the whole window in one DATA, twice", "FL-10 FL-11",
         s_open(begun(), *[data(1, zeros(WINDOW - 1000), more=True), granted(WINDOW - 1000)] * 2,
                *GIVEN_UP, needs=COUNTS),
         c_open(*[part(zeros(WINDOW - 1000)), granted(WINDOW - 1000)] * 2, FAILED, call=INTERNAL,
                needs=COUNTS)),
        (863, "half of the window in DATA that is thrown away", "FL-10 FL-11",
         s_open(ask(1), served(1), data(1, zeros(HALF)), granted(HALF), needs=COUNTS),
         c_open(CALLER_CANCELS, expect("CANCEL"), part(zeros(HALF)), granted(HALF), FAILED,
                call=None, needs=COUNTS)),
        (864, "a DATA beyond the credit", "FL-10",
         s_close("FLOW_CONTROL", begun(), *[data(1, z, more=True) for z in late], last_call=1,
                 needs=LATE),
         c_close("FLOW_CONTROL", *map(part, late), needs=LATE)),
        (865, "DATA beyond the credit, of two messages", "FL-10",
         s_close("FLOW_CONTROL", begun(1), begun(3), data(1, late[0], more=True),
                 data(3, late[1]), last_call=3, needs=LATE), ONE_CALL),
        (866, "DATA beyond the credit that is thrown away", "FL-10",
         s_close("FLOW_CONTROL", ask(1), served(1), *[data(1, z) for z in late], last_call=1,
                 needs=LATE),
         c_close("FLOW_CONTROL", CALLER_CANCELS, expect("CANCEL"), *map(part, late), call=None,
                 needs=LATE)),
        too_much(867, "a CREDIT of 0 bytes", 0),
        too_much(868, "a CREDIT of one byte above the window", 1),
        too_much(869, "a CREDIT of 4294967295 bytes", 2 ** 32 - 1),
        (870, "a CREDIT from a peer without a window", "FL-11",
         s_close("FLOW_CONTROL", credit(1), needs=TAKES),
         c_close("FLOW_CONTROL", credit(1), needs=TAKES)),
        (871, "a CREDIT before HELLO or HELLO_ACK", "FR-12",
         s_close("PROTOCOL", PREFACE + credit(1), expect("preface"), begin="nothing",
                 needs=TAKES),
         c_close("PROTOCOL", credit(1), begin="greeted", needs=TAKES)),
    ]


def floods():
    now = [*TAKES, "at_once"]
    empty, tiny = data(1, more=True), data(1, b"\x00", more=True)

    def body(each, times):
        out = []
        for _ in range(times):
            out += [each, wait(1000)]
        return out
    slow, deadlines = [*TAKES, "frame_timeout"], "a client has the deadline of its call"
    fed = [data(1, zeros(5 * 1024), more=True), wait(4000)] * 3
    return [
        (881, "257 DATA at once that carry nothing", "FL-8 LD-11",
         s_close("TOO_MANY_FRAMES", begun(), many(send(empty), 257), last_call=1, needs=now),
         c_close("TOO_MANY_FRAMES", many(send(part()), 257), needs=now)),
        (882, "192 DATA at once that carry nothing, 24 more a second later", "FL-8 LD-11",
         s_open(begun(), many(send(empty), 192), wait(1000), many(send(empty), 24), wait(1000),
                data(1, b"\x07"), served(1), needs=TAKES),
         c_open(many(send(part()), 192), wait(1000), many(send(part()), 24), wait(1000), answer(),
                needs=TAKES)),
        (883, "257 DATA at once that carry nothing, for a call that was answered", "FL-8 LD-11",
         s_close("TOO_MANY_FRAMES", ask(1), served(1), many(send(data(1)), 257), last_call=1,
                 needs=now), "UX835"),
        (884, "1000 DATA at once of one byte", "FL-8 LD-11",
         s_open(begun(), many(send(tiny), 1000), *GIVEN_UP, needs=TAKES),
         c_open(many(send(part(b"\x00")), 1000), FAILED, call=INTERNAL, needs=TAKES)),
        (885, "a REQUEST with MORE, then silence", "FL-9",
         s_close("FRAME_TIMEOUT", begun(), wait(5000), last_call=1, needs=slow), deadlines),
        (886, "a DATA of one byte each second", "FL-9",
         s_close("FRAME_TIMEOUT", begun(), *body(tiny, 5), last_call=1, needs=slow), deadlines),
        (887, "a REQUEST with MORE, then whole calls each second", "FL-9",
         s_close("FRAME_TIMEOUT", begun(), *[step for call in range(3, 13, 2) for step in (
             ask(call), served(call), wait(1000))], last_call=11, needs=slow), deadlines),
        (888, "5 KiB of a request each 4 seconds", "FL-9",
         s_open(begun(), *fed, *GIVEN_UP, needs=slow), deadlines),
    ]


def flow():
    return messages() + forms() + lengths() + turns() + ends() + credits() + floods()
