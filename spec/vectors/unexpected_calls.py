"""The rows UX3xx requests, UX4xx liveness and the end, UX5xx tables, UX60x slow handshakes,
UX7xx answers; see unexpected.py.
"""

import wire
from common import fold
from unexpected import (
    CALLER_CANCELS, ECHO, END_OF_INPUT, HOLD, LOST, OK, PREFACE, SAFE, TABLE, TEXT, answer, ask,
    both_close, c_close, c_end, c_go_on, c_open, cancel, close, expect, fails, filled, hello,
    hello_ack, meta, ping, refused, row_of, s_close, s_end, s_open, served, table_frame, table_of,
    wait)
from unexpected_liveness import liveness

CRITICAL = wire.tlv(0x8001, b"")
ONLY_CLIENTS = "only clients send it: UX150"
ONLY_SERVERS = "only servers send it: UX150"
NO_CANCEL = "only clients send it: UX151"
NO_TABLE = "only servers send it: UX154, UX155"
HELD = ["ux.Echo/hold"]
UNKNOWN = wire.method_id("ux.Echo/nobody")
FINGERPRINT = fold(TEXT)
OTHER = FINGERPRINT ^ 1
STARTED = {"status": "CANCELLED"}


def ids():
    def wrong(number, name, first, second, needs=(), method=ECHO):
        steps = [ask(first, method)] + ([] if needs else [served(first)])
        return (number, name, "CA-1 LD-4",
                s_close("CALL_ID", *steps, ask(second), last_call=first, needs=needs),
                ONLY_CLIENTS)
    highest = 2 ** 32 - 1
    def unusable(number, name, **change):
        status = "UNSUPPORTED_FLAG" if "flags" in change else "BAD_METADATA"
        return (number, name, "CA-1 CA-3",
                s_close("CALL_ID", ask(1, **change), refused(1, status), ask(1), last_call=1),
                ONLY_CLIENTS)
    return [
        wrong(301, "the id of a call that runs", 1, 1, needs=HELD, method=HOLD),
        wrong(302, "the id of a call that was answered", 1, 1),
        wrong(303, "an id below the highest", 7, 5),
        wrong(304, "id 1 after the highest id there is", highest, 1),
        (305, "the id of a call that was refused", "CA-1",
         s_close("CALL_ID", ask(1, UNKNOWN), refused(1, "UNKNOWN_METHOD"), ask(1), last_call=1),
         ONLY_CLIENTS),
        (306, "the id of a call that was cancelled", "CA-1 CA-12",
         s_close("CALL_ID", ask(1, HOLD), cancel(1), expect("RESPONSE", call=1, **STARTED),
                 ask(1), last_call=1, needs=HELD), ONLY_CLIENTS),
        (307, "a gap between ids", "CA-1",
         s_open(ask(1), served(1), ask(777), served(777)), ONLY_CLIENTS),
        (308, "the highest id there is, first", "CA-1",
         s_open(ask(highest), served(highest), again=None), ONLY_CLIENTS),
        unusable(309, "the id of a call that was refused for its flags", flags=0x40),
        unusable(310, "the id of a call that was refused for its metadata", ext=b"\x00"),
    ]


def requests():
    def one(number, name, rule, status, *more, **change):
        found = {"tlv": more[0]} if more else {}
        return (number, name, rule,
                s_open(ask(1, **change), refused(1, status, payload="", **found)), ONLY_CLIENTS)

    def fine(number, name, rule, **change):
        return (number, name, rule, s_open(ask(1, **change), served(1)), ONLY_CLIENTS)
    versions, mine = [3, "0001"], [5, wire.be(FINGERPRINT, 4).hex()]
    return [
        one(311, "a method that nobody has", "CA-3 RT-1", "UNKNOWN_METHOD", method=UNKNOWN),
        one(312, "version 0", "CA-3 CA-4", "UNSUPPORTED_VERSION", versions, version=0),
        one(313, "version 2 of a method that has 1", "CA-3 CA-4", "UNSUPPORTED_VERSION", versions,
            version=2),
        one(314, "version 65535", "CA-3 CA-4", "UNSUPPORTED_VERSION", versions, version=65535),
        one(315, "codec 0", "CA-3 CA-6", "UNSUPPORTED_CODEC", codec=0),
        one(316, "codec 9, reserved", "CA-3 CA-6", "UNSUPPORTED_CODEC", codec=9),
        one(317, "codec 255, that was not agreed", "CA-3 CA-6", "UNSUPPORTED_CODEC", codec=255),
        one(318, "another fingerprint", "CA-3 CA-7", "SCHEMA_MISMATCH", mine, fingerprint=OTHER),
        one(319, "another fingerprint, and a payload of other types", "CA-7", "SCHEMA_MISMATCH",
            mine, fingerprint=OTHER, payload=b"\x05hello"),
        fine(320, "the right fingerprint", "CA-7", fingerprint=FINGERPRINT),
        one(321, "timeout_ms 0", "CA-3 CA-8", "DEADLINE_EXCEEDED", timeout_ms=0),
        fine(322, "timeout_ms 4294967295", "CA-8", timeout_ms=2 ** 32 - 1),
        fine(323, "every bit of attempt and priority set", "CA-9", tail=0xFF),
        one(324, "an empty payload", "CA-3 PL-4", "BAD_PAYLOAD", payload=b""),
        one(325, "bytes left over", "CA-3 PL-4", "BAD_PAYLOAD", payload=b"\x07\x07"),
        one(326, "an integer that is cut", "CA-3 PL-4", "BAD_PAYLOAD", payload=b"\xfd\x01\x02"),
        one(327, "an integer of 128 bits for one of 64", "CA-3 PL-2", "BAD_PAYLOAD",
            payload=b"\xfe" + bytes(16)),
        one(328, "an integer that begins with 255", "CA-3 PL-2", "BAD_PAYLOAD", payload=b"\xff"),
        fine(329, "an integer in a longer form than needed", "PL-2",
             payload=b"\xfd\x07" + bytes(7)),
        # flags
        one(330, "flag 0x10", "FR-8", "UNSUPPORTED_FLAG", flags=0x10),
        one(331, "flag 0x20", "FR-8", "UNSUPPORTED_FLAG", flags=0x20),
        one(332, "flag 0x40", "FR-8", "UNSUPPORTED_FLAG", flags=0x40),
        (333, "flag 0x80, MORE, then the DATA that ends it", "FR-8 FL-2",
         s_open(ask(1, flags=0x80), wire.frame("DATA", 1), served(1), needs=["fragments"]),
         ONLY_CLIENTS),
        # which comes first
        one(335, "a high flag and metadata that is malformed", "CA-3", "UNSUPPORTED_FLAG",
            flags=0x40, ext=b"\x00"),
        one(336, "malformed metadata for a method that nobody has", "CA-3", "BAD_METADATA",
            method=UNKNOWN, ext=b"\x00"),
        one(337, "a method that nobody has, version 0, codec 0, timeout_ms 0", "CA-3",
            "UNKNOWN_METHOD", method=UNKNOWN, version=0, codec=0, timeout_ms=0),
        one(338, "an unknown version and an unknown codec", "CA-3", "UNSUPPORTED_VERSION",
            versions, version=2, codec=9),
        one(339, "an unknown codec and another fingerprint", "CA-3", "UNSUPPORTED_CODEC",
            codec=9, fingerprint=OTHER),
        one(340, "another fingerprint and timeout_ms 0", "CA-3", "SCHEMA_MISMATCH", mine,
            fingerprint=OTHER, timeout_ms=0),
        one(341, "timeout_ms 0 and an empty payload", "CA-3", "DEADLINE_EXCEEDED", timeout_ms=0,
            payload=b""),
        (342, "a high flag on an id that was used", "CA-3 CA-1",
         s_close("CALL_ID", ask(1), served(1), ask(1, flags=0x40), last_call=1), ONLY_CLIENTS),
        (343, "five calls in one piece, the second and the fourth refused", "CA-2 CA-3",
         s_open(ask(1) + ask(3, UNKNOWN) + ask(5) + ask(7, version=9) + ask(9),
                served(1), refused(3, "UNKNOWN_METHOD"), served(5),
                refused(7, "UNSUPPORTED_VERSION", tlv=versions), served(9), needs=["inline"]),
         ONLY_CLIENTS),
    ]


def blocks():
    def bad(number, name, ext, rule="FR-9 CA-10"):
        return (number, name, rule,
                s_open(ask(1, ext=ext), refused(1, "BAD_METADATA", payload="")), ONLY_CLIENTS)

    def fine(number, name, ext, rule):
        return (number, name, rule, s_open(ask(1, ext=ext), served(1)), ONLY_CLIENTS)
    return [
        bad(345, "a block cut in a TLV", b"\x00\x10\x00"),
        bad(346, "a TLV longer than the block", b"\x00\x10\x00\x09\x01k"),
        bad(347, "keys that descend", wire.tlv(17, b"") + meta(b"k")),
        bad(348, "an unknown critical key", CRITICAL, "FR-10"),
        bad(349, "an empty metadata entry", wire.tlv(16, b"")),
        bad(350, "a metadata name of no bytes", wire.tlv(16, b"\x00v")),
        bad(351, "a metadata name of 65 bytes", meta(b"n" * 65)),
        bad(352, "a metadata name that is cut", wire.tlv(16, b"\x04abc")),
        bad(353, "a metadata name in upper case", meta(b"Name")),
        bad(354, "a metadata name with a space", meta(b"a b")),
        bad(355, "a metadata name that is not ASCII", meta("é".encode())),
        bad(356, "65 metadata entries", meta(b"n") * 65),
        fine(357, "64 metadata entries of one name", meta(b"n") * 64, "CA-10"),
        fine(358, "a metadata value of any bytes", meta(b"n", bytes(range(256))), "CA-10"),
        fine(359, "an unknown key twice", wire.tlv(99, b"") * 2, "FR-10"),
    ]


def cancels():
    ended = expect("RESPONSE", call=1, status="CANCELLED", payload="")
    return [
        (361, "a CANCEL before any REQUEST", "CA-12", s_close("PROTOCOL", cancel(1)),
         NO_CANCEL),
        (362, "a CANCEL above the highest id", "CA-12",
         s_close("PROTOCOL", ask(1), served(1), cancel(3), last_call=1), NO_CANCEL),
        (363, "a CANCEL for a call that was answered", "CA-12",
         s_open(ask(1), served(1), cancel(1)), NO_CANCEL),
        (364, "a CANCEL for a call that was refused", "CA-12",
         s_open(ask(1, UNKNOWN), refused(1, "UNKNOWN_METHOD"), cancel(1)), NO_CANCEL),
        (365, "a CANCEL for an id in a gap", "CA-12",
         s_open(ask(9), served(9), cancel(3)), NO_CANCEL),
        (366, "a CANCEL for a call that runs", "CA-12",
         s_open(ask(1, HOLD), cancel(1), ended, needs=HELD), NO_CANCEL),
        (367, "a CANCEL for a call that was taken back and answered", "CA-12 CA-2",
         s_open(ask(1, HOLD), cancel(1), ended, ask(3), served(3), cancel(1), needs=HELD),
         NO_CANCEL),
        (368, "a CANCEL with a TLV that is not known", "FR-10",
         s_open(ask(1, HOLD), cancel(1, ext=wire.tlv(5, b"why")), ended, needs=HELD),
         NO_CANCEL),
        (369, "a CANCEL twice for the only call", "LD-11",
         s_close("TOO_MANY_CANCELS", ask(1, HOLD), cancel(1), ended, cancel(1), needs=HELD,
                 last_call=1),
         NO_CANCEL),
    ]


def answers():
    versions = wire.tlv(3, b"\x00\x01")

    def breaks(number, name, reason, rule, *frames, call=LOST):
        return (number, name, rule, ONLY_SERVERS, c_close(reason, *frames, call=call))

    def costs(number, name, rule, call, frame):
        return (number, name, rule, ONLY_SERVERS, c_open(frame, call=call))
    bad = fails("BAD_RESPONSE", "PROCESSED")
    return [
        breaks(701, "a RESPONSE to a call that was never sent", "PROTOCOL", "CA-2",
               answer("{call+2}")),
        breaks(702, "a RESPONSE twice", "PROTOCOL", "CA-2", answer(), answer(), call=OK),
        breaks(703, "a RESPONSE twice, in one piece", "PROTOCOL", "CA-2", answer() + answer(),
               call=OK),
        (704, "a RESPONSE to a call that was cancelled", "CA-12", ONLY_SERVERS,
         c_open(CALLER_CANCELS, expect("CANCEL"), answer(), call=None)),
        (705, "a RESPONSE twice to a call that was cancelled", "CA-2 CA-12", ONLY_SERVERS,
         c_close("PROTOCOL", CALLER_CANCELS, expect("CANCEL"), answer(), answer(), call=None)),
        breaks(706, "status 0x8000", "MALFORMED", "ST-2",
               answer(status=0x8000, disposition=1, codec=0, payload=b"")),
        breaks(707, "status 0xffff", "MALFORMED", "ST-2",
               answer(status=0xFFFF, disposition=0, codec=0, payload=b"")),
        breaks(708, "disposition 3", "MALFORMED", "ST-3", answer(disposition=3)),
        breaks(709, "disposition 255", "MALFORMED", "ST-3", answer(disposition=255)),
        breaks(710, "a payload with a status of the framework", "MALFORMED", "CA-6",
               answer(status=11)),
        breaks(711, "a payload with a status of a handler", "MALFORMED", "CA-6",
               answer(status=33)),
        costs(712, "OK in another codec", "CA-15", bad, answer(codec=2)),
        costs(713, "OK in codec 0", "CA-15", bad, answer(codec=0)),
        costs(714, "OK without a payload", "CA-15 PL-4", bad, answer(payload=b"")),
        costs(715, "OK with bytes left over", "CA-15 PL-4", bad, answer(payload=b"\x07\x07")),
        costs(716, "OK with an integer of 128 bits", "CA-15 PL-2", bad,
              answer(payload=b"\xfe" + bytes(16))),
        costs(717, "OK that does not decode, MAYBE", "CA-15", fails("BAD_RESPONSE", "MAYBE"),
              answer(disposition=1, payload=b"")),
        costs(718, "APP from a method without an error", "CA-15", bad, answer(status=1)),
        costs(719, "a status that no one has assigned", "ST-1", fails("status 31", "PROCESSED"),
              answer(status=31, codec=0, payload=b"")),
        costs(720, "the highest status that may travel", "ST-1",
              fails("status 32767", "NOT_PROCESSED"),
              answer(status=0x7FFF, disposition=0, codec=0, payload=b"")),
        costs(721, "a codec where nothing is encoded", "CA-6", fails("INTERNAL", "PROCESSED"),
              answer(status=11, codec=77, payload=b"")),
        (722, "UNSUPPORTED_VERSION that names the version of the REQUEST, twice", "CA-5",
         ONLY_SERVERS,
         c_open(answer(status=5, disposition=0, codec=0, ext=versions, payload=b""),
                expect("REQUEST"),
                answer(status=5, disposition=0, codec=0, ext=versions, payload=b""),
                call=fails("UNSUPPORTED_VERSION"))),
        costs(723, "UNSUPPORTED_VERSION that names none", "CA-5", fails("UNSUPPORTED_VERSION"),
              answer(status=5, disposition=0, codec=0, ext=wire.tlv(3, b""), payload=b"")),
        costs(724, "UNSUPPORTED_VERSION without key 3", "CA-5 ST-4",
              fails("UNSUPPORTED_VERSION"),
              answer(status=5, disposition=0, codec=0, payload=b"")),
        costs(725, "UNSUPPORTED_VERSION that may have been executed", "CA-5",
              fails("UNSUPPORTED_VERSION", "MAYBE"),
              answer(status=5, disposition=1, codec=0, ext=versions, payload=b"")),
        costs(726, "UNSUPPORTED_CODEC without key 4", "ST-4", fails("UNSUPPORTED_CODEC"),
              answer(status=7, disposition=0, codec=0, payload=b"")),
        costs(727, "SCHEMA_MISMATCH without key 5", "ST-4", fails("SCHEMA_MISMATCH"),
              answer(status=6, disposition=0, codec=0, payload=b"")),
        costs(728, "TOO_LARGE without keys 6 and 7", "ST-4", fails("TOO_LARGE", "PROCESSED"),
              answer(status=9, codec=0, payload=b"")),
    ]


def answer_keys():
    def bad(number, name, ext, rule="FR-9 ST-4"):
        frame = answer(status=12, disposition=0, codec=0, ext=ext, payload=b"")
        return (number, name, rule, ONLY_SERVERS, c_close("MALFORMED", frame))
    many = b"".join(wire.be(v, 2) for v in range(1, 66))
    every = (wire.tlv(1, b"busy") + wire.tlv(2, bytes(4)) + wire.tlv(3, b"\x00\x01")
             + wire.tlv(4, b"\x01") + wire.tlv(5, bytes(4)) + wire.tlv(6, bytes(8))
             + wire.tlv(7, bytes(8)) + meta(b"quota", b"0"))
    return [
        bad(731, "a message of 1025 bytes", wire.tlv(1, b"x" * 1025)),
        bad(732, "a message that is not UTF-8", wire.tlv(1, b"\xc3")),
        bad(733, "a retry_after_ms of 8 bytes", wire.tlv(2, bytes(8))),
        bad(734, "versions of 3 bytes", wire.tlv(3, bytes(3))),
        bad(735, "versions that descend", wire.tlv(3, b"\x00\x02\x00\x01")),
        bad(736, "a version twice", wire.tlv(3, b"\x00\x01\x00\x01")),
        bad(737, "65 versions", wire.tlv(3, many)),
        bad(738, "no codecs", wire.tlv(4, b"")),
        bad(739, "a codec twice", wire.tlv(4, b"\x01\x01")),
        bad(740, "a fingerprint of 8 bytes", wire.tlv(5, bytes(8))),
        bad(741, "a limit of 4 bytes", wire.tlv(6, bytes(4))),
        bad(742, "a value of 4 bytes", wire.tlv(7, bytes(4))),
        bad(743, "a known key twice", wire.tlv(2, bytes(4)) * 2),
        bad(744, "keys that descend", wire.tlv(2, bytes(4)) + wire.tlv(1, b"")),
        bad(745, "a TLV longer than the block", b"\x00\x01\x00\x05late"),
        bad(746, "a metadata name in upper case", meta(b"Name"), "FR-9 CA-10"),
        bad(747, "65 metadata entries", meta(b"n") * 65, "FR-9 CA-10"),
        (748, "an unknown key", "FR-10", ONLY_SERVERS,
         c_open(answer(ext=wire.tlv(8, b"") + wire.tlv(99, b"x") * 2))),
        (749, "every known key with OK", "ST-4", ONLY_SERVERS, c_open(answer(ext=every))),
    ]


REASONS = ["NORMAL", "SHUTDOWN", "NOT_SWITCHBACK", "NO_COMMON_VERSION", "HANDSHAKE_TIMEOUT",
           "HEAD_CRC", "BODY_CRC", "FRAME_TOO_LARGE", "UNKNOWN_KIND", "UNKNOWN_FLAG",
           "UNKNOWN_TLV", "MALFORMED", "PROTOCOL", "CALL_ID", "TABLE", "TRANSCRIPT", "INTERNAL"]


def closes():
    def plain(number, name, rule, data, call=SAFE):
        return (number, name, rule, s_end(data), c_end(data, call=call))
    named = [plain(410 + reason, f"CLOSE {name}", "LD-2", close(reason))
             for reason, name in enumerate(REASONS)]
    called = filled("CLOSE", "00000000", "0001{call}")
    return [
        (401, "a PONG that nobody asked for", "LD-1",
         s_open(ping(kind="PONG")), c_go_on(ping(kind="PONG"))),
        (402, "two PINGs in one piece", "LD-1",
         s_open(ping(b"first...") + ping(b"second.."),
                expect("PONG", opaque=b"second..".hex(), after=[b"first...".hex()])),
         c_go_on(ping(b"first...") + ping(b"second.."),
                 expect("PONG", opaque=b"second..".hex(), after=[b"first...".hex()]))),
        *named,
        plain(430, "CLOSE with a reason that no one has assigned", "LD-2", close(17)),
        plain(431, "CLOSE with reason 65535", "LD-2", close(65535)),
        plain(432, "CLOSE with a detail of 256 bytes", "LD-2 FR-11",
              close(detail="é".encode() * 128)),
        (433, "CLOSE with a detail of 257 bytes", "FR-11",
         *both_close("MALFORMED", close(detail=b"x" * 257))),
        (434, "CLOSE with a detail that is not UTF-8", "FR-11",
         *both_close("MALFORMED", close(detail=b"\x80"))),
        (435, "a PING after CLOSE", "LD-2",
         s_end(close() + ping()), c_end(close() + ping(), call=SAFE)),
        (436, "a REQUEST or RESPONSE after CLOSE", "LD-2",
         s_end(close() + ask(1)), c_end(called + answer(), call=LOST)),
        (437, "CLOSE twice", "LD-2",
         s_end(close() + close()), c_end(close() + close(), call=SAFE)),
        (438, "a damaged frame after CLOSE", "LD-2",
         s_end(close() + bytes(16)), c_end(close() + bytes(16), call=SAFE)),
        (439, "CLOSE in one piece with a call or an answer before it", "LD-2 LD-6",
         s_end(ask(1, HOLD) + close(), needs=HELD),
         c_end(answer() + close(last_call=2 ** 32 - 1).hex(), call=OK)),
        (440, "CLOSE whose last_call is that of the call", "LD-4",
         "a client's last_call says nothing", c_end(called, call=LOST)),
        (441, "CLOSE whose last_call is the highest id there is", "LD-4",
         s_end(close(last_call=2 ** 32 - 1)),
         c_end(close(last_call=2 ** 32 - 1), call=LOST)),
        (442, "a PING after a damaged frame", "LD-3",
         *both_close("HEAD_CRC", bytes(16) + ping())),
        (443, "a REQUEST or RESPONSE after a damaged frame", "LD-3",
         s_close("HEAD_CRC", bytes(16) + ask(1)),
         c_close("HEAD_CRC", "00" * 16 + answer())),
        (444, "a kind that closes, then CLOSE", "LD-3",
         *both_close("UNKNOWN_KIND", wire.frame(0x7F) + close())),
    ]


def ends():
    greeted = [PREFACE + hello(), expect("preface"), expect("HELLO_ACK"), expect("TABLE")]
    optional = expect("preface", optional=True)
    ack, whole = hello_ack(), wire.frame("RESPONSE", 1, bytes(4), payload=b"\x07")
    hold = ask(1, HOLD)

    def end(number, name, server, client, begin="asked"):
        to_server = server if isinstance(server, str) else s_end(
            *[step for step in server if step is not optional], END_OF_INPUT,
            *[step for step in server if step is optional], begin="nothing",
            needs=HELD if hold in server else ())
        to_client = client if isinstance(client, str) else c_end(
            *client, END_OF_INPUT, begin=begin, call=LOST)
        return (number, name, "LD-5 LD-6", to_server, to_client)
    return [
        end(450, "the end before any byte", [], [], "hello"),
        end(451, "the end within the magic", [b"SWB"], [b"SWB"], "hello"),
        end(452, "the end within the preface", [PREFACE[:6]], [PREFACE[:6]], "hello"),
        end(453, "the end after the preface", [PREFACE, optional], [], "greeted"),
        end(454, "the end within the header of HELLO or HELLO_ACK",
            [PREFACE + hello()[:10], optional], [ack[:20]], "greeted"),
        end(455, "the end within the body of HELLO or HELLO_ACK",
            [PREFACE + hello()[:-1], optional], [ack.split("{transcript}")[0]], "greeted"),
        end(456, "the end in the place of TABLE", "a client sends none", [], "acked"),
        end(457, "the end within TABLE", "a client sends none", [table_frame()[:-3]], "acked"),
        end(458, "the end after the handshake", greeted, []),
        end(459, "the end within a header", [*greeted, hold[:15]], [whole[:15]]),
        end(460, "the end after a header", [*greeted, ask(1)[:16]], [whole[:16]]),
        end(461, "the end before the last byte of a frame", [*greeted, ask(1)[:-1]],
            [whole[:-1]]),
        end(462, "the end within a frame that is skipped",
            [*greeted, wire.frame(0x90, payload=bytes(40))[:30]],
            [wire.frame(0x90, payload=bytes(40))[:30]]),
        end(463, "the end while a call runs", [*greeted, hold], "UX458"),
        end(464, "the end after a call was answered", [*greeted, ask(1), served(1)],
            "the call has its outcome: UX465"),
        (465, "the end right behind an answer", "LD-5", "UX464",
         c_end(answer(), END_OF_INPUT, call=OK)),
    ]


def tables():
    def bad(number, name, payload, reason="MALFORMED", rule="RT-3"):
        return (number, name, rule, NO_TABLE,
                c_close(reason, hello_ack(k5=payload[:8].ljust(8, b"\0").hex()),
                        table_frame(payload), begin="greeted"))

    def bad_update(number, name, payload, reason="MALFORMED", rule="RT-3 RT-5"):
        return (number, name, rule, NO_TABLE,
                c_close(reason, table_frame(payload, "TABLE_UPDATE")))
    echo, nobody = row_of(ECHO, [1]), row_of(UNKNOWN, [1])
    rows = sorted([echo, nobody])
    other = table_of([row_of(ECHO, [2])])
    wrong = b"no hash!" + TABLE[8:]
    both = table_of(rows)

    def update(changed, after):
        return table_of(after)[:8] + table_of(changed)[8:]
    return [
        (501, "a table whose hash is not that of its bytes", "RT-4", NO_TABLE,
         c_close("TABLE", hello_ack(k5=wrong[:8].hex()), table_frame(wrong), begin="greeted")),
        (502, "a table that HELLO_ACK did not name", "RT-4", NO_TABLE,
         c_close("TABLE", table_frame(other), begin="acked")),
        (503, "a second TABLE", "RT-4 FR-12", NO_TABLE, c_close("PROTOCOL", table_frame())),
        bad(504, "an empty payload", b""),
        bad(505, "nine bytes", TABLE[:9]),
        bad(506, "a table that is cut", TABLE[:-1]),
        bad(507, "bytes left over", table_of([echo], tail=b"\x00")),
        bad(508, "a count above the methods", table_of([echo], count=2)),
        bad(509, "a count of 65535", table_of([echo], count=65535)),
        bad(510, "a method without versions", table_of([row_of(ECHO, [])])),
        bad(511, "a method with 65 versions", table_of([row_of(ECHO, range(1, 66))])),
        bad(512, "version 0", table_of([row_of(ECHO, [0])])),
        bad(513, "version 65535", table_of([row_of(ECHO, [65535])])),
        bad(514, "versions that descend", table_of([row_of(ECHO, [2, 1])])),
        bad(515, "a version twice", table_of([row_of(ECHO, [1, 1])])),
        bad(516, "methods that descend", table_of(rows[::-1])),
        bad(517, "a method twice", table_of([echo, echo])),
        (520, "TABLE_UPDATE whose hash is not that of the result", "RT-5", NO_TABLE,
         c_close("TABLE", table_frame(wrong, "TABLE_UPDATE"))),
        (521, "TABLE_UPDATE whose hash is that of its own bytes", "RT-3 RT-5", NO_TABLE,
         c_close("TABLE", table_frame(table_of([nobody]), "TABLE_UPDATE"))),
        bad_update(522, "TABLE_UPDATE that is cut", both[:-1]),
        bad_update(523, "TABLE_UPDATE with bytes left over", both + b"\x00"),
        bad_update(524, "TABLE_UPDATE with methods that descend", table_of(rows[::-1])),
        bad_update(525, "TABLE_UPDATE with 65 versions",
                   table_of([row_of(ECHO, range(1, 66))])),
        bad_update(526, "an empty TABLE_UPDATE payload", b""),
        (527, "TABLE_UPDATE that changes nothing", "RT-5", NO_TABLE,
         c_go_on(table_frame(update([], [echo]), "TABLE_UPDATE"))),
        (528, "TABLE_UPDATE that takes out a method that is not there", "RT-5", NO_TABLE,
         c_go_on(table_frame(update([row_of(UNKNOWN, [], 0)], [echo]), "TABLE_UPDATE"))),
        (529, "TABLE_UPDATE that takes out the method of a call under way", "RT-5 RT-8",
         NO_TABLE,
         c_go_on(table_frame(update([row_of(ECHO, [], 0)], []), "TABLE_UPDATE"))),
        (530, "two TABLE_UPDATEs in one piece, the second from the first", "RT-5", NO_TABLE,
         c_go_on(table_frame(update([nobody], rows), "TABLE_UPDATE")
                 + table_frame(update([row_of(UNKNOWN, [], 0)], [echo]), "TABLE_UPDATE"))),
    ]


def slowness():
    limit = ["handshake_timeout"]
    greeting, ack = PREFACE + hello(), hello_ack()

    def trickle(data):
        out = []
        for byte in data:
            out += [bytes([byte]), wait(1000)]
        return out
    skipped = wire.frame(0x90, payload=b"still here")
    return [
        (601, "silence from the beginning", "HS-9 HS-2",
         s_end(wait(5000), begin="nothing", needs=limit),
         c_close("HANDSHAKE_TIMEOUT", wait(5000), begin="hello", needs=limit)),
        (602, "half a preface, then silence", "HS-9 HS-2",
         s_end(PREFACE[:5], wait(5000), begin="nothing", needs=limit),
         c_close("HANDSHAKE_TIMEOUT", PREFACE[:5], wait(5000), begin="hello", needs=limit)),
        (603, "a preface, then silence", "HS-9",
         s_close("HANDSHAKE_TIMEOUT", PREFACE, wait(5000), expect("preface"), begin="nothing",
                 needs=limit),
         c_close("HANDSHAKE_TIMEOUT", wait(5000), begin="greeted", needs=limit)),
        (604, "a byte of the preface each second", "HS-9 HS-2",
         s_end(*trickle(PREFACE[:5]), begin="nothing", needs=limit),
         c_close("HANDSHAKE_TIMEOUT", *trickle(PREFACE[:5]), begin="hello", needs=limit)),
        (605, "a byte of HELLO or HELLO_ACK each second", "HS-9",
         s_close("HANDSHAKE_TIMEOUT", greeting[:8], *trickle(greeting[8:13]), expect("preface"),
                 begin="nothing", needs=limit),
         c_close("HANDSHAKE_TIMEOUT", *trickle(bytes.fromhex(ack[:10])), begin="greeted",
                 needs=limit)),
        (606, "a frame that is skipped each second, no HELLO or HELLO_ACK", "HS-9 FR-7",
         s_close("HANDSHAKE_TIMEOUT", PREFACE, *[skipped, wait(1000)] * 5, expect("preface"),
                 begin="nothing", needs=limit),
         c_close("HANDSHAKE_TIMEOUT", *[skipped, wait(1000)] * 5, begin="greeted",
                 needs=limit)),
        (607, "4 s of silence, then the rest of the handshake, then silence", "HS-9",
         s_open(PREFACE, wait(4000), hello(), expect("preface"), expect("HELLO_ACK"),
                expect("TABLE"), wait(4000), begin="nothing", needs=limit),
         c_go_on(wait(4000), ack, table_frame(), wait(4000), begin="greeted", needs=limit)),
    ]


def requests_to_answers():
    return (ids() + requests() + blocks() + cancels() + closes() + ends() + tables() + slowness()
            + liveness() + answers() + answer_keys())
