"""The rows of unexpected.json: (number, what the peer does, rules, against a server, against a
client). A text in the place of a side says why there is nothing to do to it. Rows UX3xx and up
are in unexpected_calls.py. An id is never used for something else.
"""

import wire
from unexpected import (
    HOLD, LIMIT, LOST, OK, PREFACE, SAFE, TABLE, answer, ask, both_close, both_go_on, c_close,
    c_end, c_go_on, c_open, cancel, close, expect, filled, flipped, head_of, hello, hello_ack,
    ping, s_close, s_end, s_open, served, table_frame)

SKIPPED = wire.frame(0x93, payload=b"a report")
CRITICAL = wire.tlv(0x8001, b"")
ONLY_CLIENTS = "only clients send it: UX150"
ONLY_SERVERS = "only servers send it"
NO_LIMIT = wire.be(0xFFFFFFFF, 4)


def framing():
    good, call = ping(), ask()
    empty = wire.frame(0x90)
    return [
        # head_crc
        (101, "a bit of `body_len` flipped", "FR-3", *both_close("HEAD_CRC", flipped(good, 3))),
        (102, "a bit of `kind` flipped", "FR-3", *both_close("HEAD_CRC", flipped(good, 4))),
        (103, "a bit of `flags` flipped", "FR-3", *both_close("HEAD_CRC", flipped(good, 5))),
        (104, "a bit of `ext_len` flipped", "FR-3", *both_close("HEAD_CRC", flipped(good, 7))),
        (105, "a bit of `call` flipped", "FR-3", *both_close("HEAD_CRC", flipped(good, 11))),
        (106, "a bit of `head_crc` flipped", "FR-3", *both_close("HEAD_CRC", flipped(good, 15))),
        (107, "16 zero bytes in the place of a header", "FR-3",
         *both_close("HEAD_CRC", bytes(16))),
        (108, "text in the place of a frame", "FR-3",
         *both_close("HEAD_CRC", b"hello, are you there?\r\n")),
        (109, "a REQUEST or RESPONSE with a wrong `head_crc`", "FR-3 LD-4",
         s_close("HEAD_CRC", ask(1), served(1), flipped(ask(3), 10), last_call=1),
         c_close("HEAD_CRC", answer(head="{~head_crc}"))),
        (110, "a wrong header after a sound frame in one piece", "FR-3 LD-3",
         s_close("HEAD_CRC", ask(1) + flipped(ask(3), 0), served(1), last_call=1,
                 needs=["inline"]),
         c_close("HEAD_CRC", answer() + flipped(good, 0).hex(), call=OK)),
        # body_crc
        (111, "a bit of the payload flipped", "FR-5", *both_close("BODY_CRC", flipped(good, 17))),
        (112, "a bit of `body_crc` flipped", "FR-5", *both_close("BODY_CRC", flipped(good, 27))),
        (113, "a wrong `body_crc` of an empty body", "FR-5",
         *both_close("BODY_CRC", flipped(empty, 19))),
        (114, "a wrong `body_crc` of a kind that is skipped", "FR-5 FR-7",
         *both_close("BODY_CRC", flipped(SKIPPED, 18))),
        (115, "a REQUEST or RESPONSE with a wrong `body_crc`", "FR-5 LD-4",
         s_close("BODY_CRC", ask(1), served(1), flipped(ask(3), 20), last_call=1),
         c_close("BODY_CRC", answer(crc="{~body_crc}"))),
        # body_len
        (116, "`body_len` 4294967295, the header alone", "FR-4",
         *both_close("FRAME_TOO_LARGE", head_of(good, 0, NO_LIMIT)[:16])),
        (117, "`body_len` 2147483648, the header alone", "FR-4",
         *both_close("FRAME_TOO_LARGE", head_of(good, 0, wire.be(1 << 31, 4))[:16])),
        (118, "`body_len` one above the limit, the header alone", "FR-4",
         *both_close("FRAME_TOO_LARGE", head_of(good, 0, wire.be(LIMIT + 1, 4))[:16],
                     needs=["frame_bytes_max"])),
        (119, "a kind that is skipped, above the limit", "FR-4 FR-7",
         *both_close("FRAME_TOO_LARGE", head_of(SKIPPED, 0, NO_LIMIT)[:16])),
        (120, "`body_len` 0", "FR-2", *both_close("MALFORMED", head_of(empty, 0, bytes(4))[:16])),
        (121, "`body_len` 3: no room for `body_crc`", "FR-2",
         *both_close("MALFORMED", head_of(empty, 0, wire.be(3, 4))[:19])),
        (122, "a REQUEST or RESPONSE shorter than its fixed fields", "FR-2",
         s_close("MALFORMED", wire.frame("REQUEST", 1, bytes(15))),
         c_close("MALFORMED", filled("RESPONSE", body="000002"))),
        (123, "a CLOSE shorter than its fixed fields", "FR-2",
         *both_close("MALFORMED", wire.frame("CLOSE", fixed=bytes(5)))),
        (124, "`ext_len` beyond the body", "FR-2",
         *both_close("MALFORMED", head_of(good, 6, wire.be(9, 2)))),
        (125, "`ext_len` 8193", "FR-2",
         *both_close("MALFORMED", head_of(head_of(good, 6, wire.be(8193, 2)), 0,
                                          wire.be(9000, 4))[:16])),
        (126, "`ext_len` 8193 on a REQUEST or RESPONSE", "FR-2",
         s_close("MALFORMED", head_of(head_of(call, 6, wire.be(8193, 2)), 0,
                                      wire.be(9000, 4))[:16]),
         c_close("MALFORMED", "000023281100" + "2001" + "{call}{head_crc}")),
        (127, "`ext_len` 8193 on a kind that is skipped", "FR-2 FR-7",
         *both_close("MALFORMED", head_of(head_of(SKIPPED, 6, wire.be(8193, 2)), 0,
                                          wire.be(9000, 4))[:16])),
        (128, "`ext_len` 8192, an unknown key", "FR-2 FR-10",
         s_open(ask(1, ext=wire.tlv(1000, bytes(8188))), served(1)),
         c_open(answer(ext=wire.tlv(1000, bytes(8188))))),
    ]


def kinds():
    skipped = wire.frame(0xA5, 5, ext=b"\xff\xff\xff", payload=b"\x00")
    return [
        (129, "kind 0x15", "FR-7", *both_close("UNKNOWN_KIND", wire.frame(0x15, 1, payload=b"x"))),
        (130, "kind 0x00", "FR-7", *both_close("UNKNOWN_KIND", wire.frame(0x00))),
        (131, "kind 0x13, DATA, for no REQUEST and without MORE", "FL-8",
         *both_close("PROTOCOL", wire.frame(0x13, 1, payload=b"x"), needs=["fragments"])),
        (132, "kind 0x14, CREDIT, with a payload", "FR-11",
         *both_close("MALFORMED", wire.frame(0x14, payload=bytes(8)), needs=["fragments"])),
        (133, "kind 0x7f", "FR-7", *both_close("UNKNOWN_KIND", wire.frame(0x7F))),
        (134, "kind 0x80, empty", "FR-7", *both_go_on(wire.frame(0x80))),
        (135, "kind 0xff, a body", "FR-7", *both_go_on(wire.frame(0xFF, payload=bytes(300)))),
        (136, "kind 0xa5, a call id and TLVs that make no sense", "FR-7", *both_go_on(skipped)),
        (137, "a kind that is skipped, before the handshake", "FR-7 HS-7",
         s_open(PREFACE + SKIPPED + hello(), expect("preface"), expect("HELLO_ACK"),
                expect("TABLE"), begin="nothing"),
         c_go_on(SKIPPED, hello_ack(), table_frame(), begin="greeted")),
        (138, "flag 0x10 on a PING", "FR-8", *both_close("UNKNOWN_FLAG", ping(flags=0x10))),
        (139, "flag 0x20 on a PING", "FR-8", *both_close("UNKNOWN_FLAG", ping(flags=0x20))),
        (140, "flag 0x40 on a PING", "FR-8", *both_close("UNKNOWN_FLAG", ping(flags=0x40))),
        (141, "flag 0x80 on a PING", "FR-8", *both_close("UNKNOWN_FLAG", ping(flags=0x80))),
        (142, "flag 0x10 on a kind that is skipped", "FR-8 FR-7",
         *both_close("UNKNOWN_FLAG", wire.frame(0x90, flags=0x10))),
        (143, "flag 0x80 on a CLOSE", "FR-8", *both_close("UNKNOWN_FLAG", close(flags=0x80))),
        (144, "flag 0x40 on a HELLO or HELLO_ACK", "FR-8",
         s_close("UNKNOWN_FLAG", PREFACE + hello(flags=0x40), expect("preface"), begin="nothing"),
         c_close("UNKNOWN_FLAG", hello_ack(flags=0x40), begin="greeted")),
        (145, "flag 0x80 on a CANCEL or RESPONSE", "FR-8",
         s_close("UNKNOWN_FLAG", ask(1), served(1), cancel(1, flags=0x80), last_call=1),
         c_close("UNKNOWN_FLAG", answer(flags=0x80))),
        (146, "flags 0x0f on a PING", "FR-8",
         s_open(ping(flags=0x0F), expect("PONG", opaque=b"are you?".hex())),
         c_go_on(ping(flags=0x0F), expect("PONG", opaque=b"are you?".hex()))),
        (147, "flags 0x0f on a REQUEST or RESPONSE", "FR-8",
         s_open(ask(1, flags=0x0F), served(1)), c_open(answer(flags=0x0F))),
        (148, "flags 0x0f on a kind that is skipped", "FR-8 FR-7",
         *both_go_on(wire.frame(0x90, flags=0x0F))),
        # from the other side
        (150, "a REQUEST to a client, a RESPONSE to a server", "FR-12",
         s_close("PROTOCOL", wire.frame("RESPONSE", 1, bytes([0, 0, 2, 1]), payload=b"\x07")),
         c_close("PROTOCOL", ask(2 ** 32 - 1))),
        (151, "a CANCEL to a client", "FR-12", "only clients send it", c_close(
            "PROTOCOL", filled("CANCEL"))),
        (152, "a HELLO to a client, a HELLO_ACK to a server", "FR-12",
         s_close("PROTOCOL", hello_ack()), c_close("PROTOCOL", hello())),
        (153, "a HELLO to a client, a HELLO_ACK to a server, as the first frame", "FR-12 HS-5",
         s_close("PROTOCOL", PREFACE, hello_ack(), expect("preface"), begin="nothing"),
         c_close("PROTOCOL", hello(), begin="greeted")),
        (154, "a TABLE to a server", "FR-12", s_close("PROTOCOL", table_frame()), ONLY_SERVERS),
        (155, "a TABLE_UPDATE to a server", "FR-12",
         s_close("PROTOCOL", table_frame(kind="TABLE_UPDATE")), ONLY_SERVERS),
        # call ids
        (156, "a PING with a call id", "FR-12", *both_close("PROTOCOL", ping(call=1))),
        (157, "a PONG with a call id", "FR-12",
         *both_close("PROTOCOL", ping(kind="PONG", call=2))),
        (158, "a CLOSE with a call id", "FR-12", *both_close("PROTOCOL", close(call=1))),
        (159, "a HELLO or HELLO_ACK with a call id", "FR-12",
         s_close("PROTOCOL", PREFACE + hello(call=1), expect("preface"), begin="nothing"),
         c_close("PROTOCOL", hello_ack(call="00000001"), begin="greeted")),
        (160, "a TABLE with a call id", "FR-12", ONLY_SERVERS,
         c_close("PROTOCOL", table_frame(call=1), begin="acked")),
        (161, "a TABLE_UPDATE with a call id", "FR-12", ONLY_SERVERS,
         c_close("PROTOCOL", table_frame(kind="TABLE_UPDATE", call=1))),
        (162, "a REQUEST or RESPONSE with call id 0", "FR-12 CA-1",
         s_close("PROTOCOL", ask(0)), c_close("PROTOCOL", answer("00000000"))),
        (163, "a REQUEST or RESPONSE with an even call id", "FR-12 CA-1",
         s_close("PROTOCOL", ask(2), last_call=None), c_close("PROTOCOL", answer("00000002"))),
        (164, "a CANCEL with call id 0", "FR-12",
         s_close("PROTOCOL", ask(1), served(1), cancel(0), last_call=1), ONLY_CLIENTS),
        (165, "a CANCEL with an even call id", "FR-12",
         s_close("PROTOCOL", ask(3), served(3), cancel(2), last_call=3), ONLY_CLIENTS),
    ]


def order():
    skip_flag = wire.frame(0x15, flags=0x80)
    bad_body = wire.frame("RESPONSE", 1, bytes([0, 0, 3, 1]))
    return [
        (170, "a wrong `head_crc` and `body_len` 4294967295", "FR-2 FR-3",
         *both_close("HEAD_CRC", flipped(head_of(ping(), 0, NO_LIMIT)[:16], 14))),
        (171, "`body_len` 4294967295 of an unknown kind", "FR-2",
         *both_close("FRAME_TOO_LARGE", head_of(skip_flag, 0, NO_LIMIT)[:16])),
        (172, "an unknown kind with a high flag", "FR-2",
         *both_close("UNKNOWN_KIND", skip_flag)),
        (173, "a high flag and an `ext_len` beyond the body", "FR-2",
         *both_close("UNKNOWN_FLAG", head_of(ping(flags=0x10), 6, wire.be(9, 2)))),
        (174, "an `ext_len` beyond the body, whose `body_crc` is wrong", "FR-2",
         *both_close("MALFORMED", flipped(head_of(ping(), 6, wire.be(9, 2)), 27))),
        (175, "a PING of 7 bytes with a wrong `body_crc`", "FR-2 FR-5",
         *both_close("BODY_CRC", flipped(ping(bytes(7)), 26))),
        (176, "a malformed body of the other side's kind", "FR-2 FR-12",
         s_close("MALFORMED", bad_body), c_close("MALFORMED", hello(drop=3))),
        (177, "a malformed body with a call id of the wrong class", "FR-2 FR-12",
         *both_close("MALFORMED", ping(bytes(7), call=1))),
        (178, "a malformed body out of turn", "FR-2 FR-12",
         s_close("MALFORMED", hello(drop=1)), c_close("MALFORMED", hello_ack(drop=1))),
        (179, "a high flag on a REQUEST whose `body_crc` is wrong", "FR-2 FR-5",
         s_close("BODY_CRC", flipped(ask(1, flags=0x40), 20)), ONLY_CLIENTS),
    ]


def tlvs():
    twice = wire.tlv(99, b"a") + wire.tlv(99, b"")

    def pinged(ext):
        pong = expect("PONG", opaque=b"are you?".hex())
        return s_open(ping(ext=ext), pong), c_go_on(ping(ext=ext), pong)
    return [
        (180, "an unknown key", "FR-10", *pinged(wire.tlv(0x7FFF, b"later"))),
        (181, "an unknown key twice", "FR-10", *pinged(twice)),
        (182, "an unknown critical key in a PING", "FR-10",
         *both_close("UNKNOWN_TLV", ping(ext=CRITICAL))),
        (183, "an unknown critical key in a PONG", "FR-10",
         *both_close("UNKNOWN_TLV", ping(kind="PONG", ext=CRITICAL))),
        (184, "an unknown critical key in a CLOSE", "FR-10",
         *both_close("UNKNOWN_TLV", close(ext=CRITICAL))),
        (185, "an unknown critical key in a HELLO or HELLO_ACK", "FR-10",
         s_close("UNKNOWN_TLV", PREFACE + hello(extra=CRITICAL), expect("preface"),
                 begin="nothing"),
         c_close("UNKNOWN_TLV", hello_ack(extra=CRITICAL.hex()), begin="greeted")),
        (186, "an unknown critical key in a CANCEL or RESPONSE", "FR-10",
         s_close("UNKNOWN_TLV", ask(1), served(1), cancel(1, ext=CRITICAL), last_call=1),
         c_close("UNKNOWN_TLV", answer(ext=CRITICAL))),
        (187, "an unknown critical key in a TABLE", "FR-10", ONLY_SERVERS,
         c_close("UNKNOWN_TLV", table_frame(ext=CRITICAL), begin="acked")),
        (188, "keys that descend", "FR-9",
         *both_close("MALFORMED", ping(ext=wire.tlv(9, b"") + wire.tlv(8, b"")))),
        (189, "a TLV cut in its length", "FR-9", *both_close("MALFORMED", ping(ext=bytes(3)))),
        (190, "a TLV longer than the block", "FR-9",
         *both_close("MALFORMED", ping(ext=b"\x00\x20\x00\x05abcd"))),
        (191, "a critical key in a block that is malformed too", "FR-10",
         *both_close("MALFORMED", ping(ext=CRITICAL + b"\x00"))),
        (192, "a PING of 7 bytes", "FR-11", *both_close("MALFORMED", ping(bytes(7)))),
        (193, "a PING of 9 bytes", "FR-11", *both_close("MALFORMED", ping(bytes(9)))),
        (194, "an empty PING", "FR-11", *both_close("MALFORMED", ping(b""))),
        (195, "a PONG of 7 bytes", "FR-11",
         *both_close("MALFORMED", ping(bytes(7), kind="PONG"))),
        (196, "a CANCEL with a payload", "FR-11",
         s_close("MALFORMED", ask(1), served(1), cancel(1, payload=b"x"), last_call=1),
         ONLY_CLIENTS),
        (197, "a HELLO or HELLO_ACK with a payload", "FR-11",
         s_close("MALFORMED", PREFACE + hello(payload=b"x"), expect("preface"), begin="nothing"),
         c_close("MALFORMED", hello_ack(payload="78"), begin="greeted")),
    ]


def prefaces():
    def wrong(number, name, to_server, to_client=None):
        return (number, name, "HS-2", s_end(to_server, begin="nothing"),
                c_end(to_client or to_server, begin="hello", call=LOST))

    def senseless(number, name, lo, hi):
        bad = wire.preface(lo, hi)
        return (number, name, "HS-3",
                s_close("MALFORMED", bad, expect("preface"), begin="nothing"),
                c_close("MALFORMED", bad, begin="hello"))

    def no_common(number, lo, hi):
        theirs = wire.preface(lo, hi)
        lost = {"status": "NOT_CONNECTED", "disposition": "NOT_PROCESSED"}
        return (number, f"a preface of versions {lo} to {hi}", "HS-4",
                s_close("NO_COMMON_VERSION", theirs, expect("preface"), begin="nothing"),
                c_end(theirs, begin="hello", call=lost))
    return [
        wrong(201, "HTTP", b"GET / HTTP/1.1\r\nHost: here\r\n\r\n",
              b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        wrong(202, "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes.fromhex(
            "000012040000000000")),
        wrong(203, "TLS", bytes.fromhex("16030102000100" + "01fc0303"), bytes.fromhex(
            "15030300020228")),
        wrong(204, "SSH", b"SSH-2.0-OpenSSH_9.2p1\r\n"),
        wrong(205, "a wrong first byte, alone", b"G"),
        wrong(206, "a wrong second byte, the last to come", b"SV"),
        wrong(207, "a wrong third byte, the last to come", b"SWb"),
        wrong(208, "a wrong fourth byte, the last to come", b"SWBX"),
        wrong(209, "the magic in lower case", b"swbk" + PREFACE[4:]),
        wrong(210, "a frame in the place of the preface", hello(), ping()),
        senseless(211, "a preface of versions 0 to 1", 0, 1),
        senseless(212, "a preface of versions 0 to 0", 0, 0),
        senseless(213, "a preface of versions 2 to 1", 2, 1),
        senseless(214, "a preface of versions 1 to 0", 1, 0),
        no_common(215, 2, 3),
        no_common(216, 65535, 65535),
        (217, "a preface of versions 1 to 65535", "HS-4",
         s_open(wire.preface(1, 65535) + hello(), expect("preface"), expect("HELLO_ACK"),
                expect("TABLE"), begin="nothing"),
         c_go_on(wire.preface(1, 65535), hello_ack(), table_frame(), begin="hello")),
        (218, "the preface twice", "HS-1 FR-3",
         s_close("HEAD_CRC", PREFACE + PREFACE + hello(), expect("preface"), begin="nothing"),
         c_close("HEAD_CRC", PREFACE.hex() + hello_ack(), begin="greeted")),
        (219, "seven bytes of the preface, for now", "HS-2",
         s_open(PREFACE[:7], expect("nothing"), PREFACE[7:] + hello(), expect("preface"),
                expect("HELLO_ACK"), expect("TABLE"), begin="nothing"),
         "a client does not wait for the server's preface"),
    ]


def turns():
    def early(frame):
        return s_close("PROTOCOL", PREFACE + frame, expect("preface"), begin="nothing")
    return [
        (221, "a REQUEST before HELLO, a RESPONSE before HELLO_ACK", "FR-12 HS-5",
         s_close("PROTOCOL", PREFACE + ask(1), expect("preface"), begin="nothing",
                 last_call=None),
         c_close("PROTOCOL", filled("RESPONSE", "00000001", "0000020107"), begin="greeted")),
        (222, "a PING before HELLO or HELLO_ACK", "FR-12", early(ping()),
         c_close("PROTOCOL", ping(), begin="greeted")),
        (223, "a PONG before HELLO or HELLO_ACK", "FR-12", early(ping(kind="PONG")),
         c_close("PROTOCOL", ping(kind="PONG"), begin="greeted")),
        (224, "a CANCEL before HELLO, a TABLE before HELLO_ACK", "FR-12", early(cancel(1)),
         c_close("PROTOCOL", table_frame(), begin="greeted")),
        (225, "a TABLE_UPDATE before HELLO_ACK", "FR-12", ONLY_SERVERS,
         c_close("PROTOCOL", table_frame(kind="TABLE_UPDATE"), begin="greeted")),
        (226, "a CLOSE in the place of HELLO or HELLO_ACK", "HS-5 LD-2",
         s_end(PREFACE + close(), expect("preface", optional=True), begin="nothing"),
         c_end(close(reason=1), begin="greeted", call=SAFE)),
        (227, "a second HELLO or HELLO_ACK", "FR-12",
         s_close("PROTOCOL", hello()), c_close("PROTOCOL", hello_ack())),
        (228, "a second HELLO_ACK, TABLE still to come", "FR-12", "a server sends HELLO_ACK",
         c_close("PROTOCOL", hello_ack(), begin="acked")),
        (229, "a RESPONSE while TABLE is still to come", "FR-12 RT-4", ONLY_SERVERS,
         c_close("PROTOCOL", filled("RESPONSE", "00000001", "0000020107"), begin="acked")),
        (230, "a TABLE_UPDATE while TABLE is still to come", "FR-12 RT-4", ONLY_SERVERS,
         c_close("PROTOCOL", table_frame(kind="TABLE_UPDATE"), begin="acked")),
        (231, "a PING while TABLE is still to come", "FR-12 LD-1", ONLY_SERVERS,
         c_go_on(ping(), expect("PONG", opaque=b"are you?".hex()), table_frame(),
                 begin="acked")),
        (232, "a REQUEST in one piece with HELLO", "HS-8",
         s_open(PREFACE + hello() + ask(1), expect("preface"), expect("HELLO_ACK"),
                expect("TABLE"), served(1), begin="nothing"), ONLY_CLIENTS),
        (233, "a CANCEL for a REQUEST, both in one piece with HELLO", "HS-8 CA-12",
         s_open(PREFACE + hello() + ask(1, HOLD) + cancel(1), expect("preface"),
                expect("HELLO_ACK"), expect("TABLE"),
                expect("RESPONSE", call=1, status="CANCELLED"), begin="nothing",
                needs=["ux.Echo/hold"]), ONLY_CLIENTS),
        (234, "a HELLO or HELLO_ACK of more than 16384 bytes, the header alone", "FR-4",
         s_close("FRAME_TOO_LARGE", PREFACE + head_of(hello(), 0, wire.be(16385, 4))[:16],
                 expect("preface"), begin="nothing"),
         c_close("FRAME_TOO_LARGE", head_of(wire.frame("HELLO_ACK"), 0, wire.be(16385, 4))[:16],
                 begin="greeted")),
        (235, "a kind that is skipped of more than 16384 bytes, before the handshake", "FR-4 FR-7",
         s_close("FRAME_TOO_LARGE", PREFACE + head_of(SKIPPED, 0, wire.be(16385, 4))[:16],
                 expect("preface"), begin="nothing"),
         c_close("FRAME_TOO_LARGE", head_of(SKIPPED, 0, wire.be(16385, 4))[:16],
                 begin="greeted")),
        (236, "a wrong `head_crc` of HELLO or HELLO_ACK", "FR-3",
         s_close("HEAD_CRC", PREFACE + flipped(hello(), 13), expect("preface"), begin="nothing"),
         c_close("HEAD_CRC", flipped(wire.frame("HELLO_ACK"), 13), begin="greeted")),
        (237, "a wrong `body_crc` of HELLO or HELLO_ACK", "FR-5",
         s_close("BODY_CRC", PREFACE + flipped(hello(), 20), expect("preface"), begin="nothing"),
         c_close("BODY_CRC", hello_ack().replace("{body_crc}", "{~body_crc}"), begin="greeted")),
        (238, "HELLO_ACK with a transcript that is not the client's", "HS-7", ONLY_SERVERS,
         c_close("TRANSCRIPT", hello_ack(k6="0123456789abcdef"), begin="greeted")),
    ]


def hellos():
    low, cut = wire.be(65535, 4), wire.be(65536, 4)[:3]
    back = wire.tlv(3, b"\x01") + wire.tlv(1, wire.be(65536, 4))
    double = wire.tlv(1, wire.be(65536, 4)) * 2 + wire.tlv(3, b"\x01")

    def both(number, name, rule, **change):
        as_hex = {key: value.hex() for key, value in change.items()}
        return (number, name, rule,
                s_close("MALFORMED", PREFACE + hello(**change), expect("preface"),
                        begin="nothing"),
                c_close("MALFORMED", hello_ack(**as_hex), begin="greeted"))

    def lacks(number, key, name):
        server = f"key {key} is unknown in HELLO" if key in (2, 6) else "key 5 is optional in HELLO"
        if key in (1, 3):
            server = s_close("MALFORMED", PREFACE + hello(drop=key), expect("preface"),
                             begin="nothing")
        return (number, f"key {key} ({name}) missing", "HS-6", server,
                c_close("MALFORMED", hello_ack(drop=key), begin="greeted"))

    def ack_only(number, name, **change):
        return (number, name, "HS-6", "not judged in HELLO",
                c_close("MALFORMED", hello_ack(**change), begin="greeted"))
    return [
        lacks(241, 1, "frame_bytes_max"), lacks(242, 2, "calls_max"), lacks(243, 3, "codecs"),
        lacks(244, 5, "tables"), lacks(245, 6, "transcript"),
        both(246, "frame_bytes_max 65535", "HS-5 HS-6", k1=low),
        both(247, "frame_bytes_max of 3 bytes", "HS-6", k1=cut),
        both(248, "frame_bytes_max of 8 bytes", "HS-6", k1=bytes(3) + b"\x01" + bytes(4)),
        both(249, "no codecs", "HS-5 HS-6", k3=b""),
        both(250, "a codec twice", "HS-5 HS-6", k3=b"\x01\x01"),
        both(251, "codecs that descend", "HS-5 HS-6", k3=b"\x02\x01"),
        both(252, "33 codecs", "HS-5 HS-6", k3=bytes(range(1, 34))),
        both(253, "a build of 65 bytes", "HS-5 HS-6", k4=b"x" * 65),
        both(254, "a build that is not UTF-8", "HS-5 HS-6", k4=b"\xff\xfe"),
        both(255, "tables of 7 bytes", "HS-5 HS-6", k5=bytes(7)),
        both(256, "9 tables", "HS-5 HS-6", k5=bytes(72)),
        ack_only(257, "no table in HELLO_ACK", k5=""),
        ack_only(258, "two tables in HELLO_ACK", k5=TABLE[:8].hex() * 2),
        ack_only(259, "calls_max 0", k2="00000000"),
        ack_only(260, "calls_max of 3 bytes", k2="000010"),
        ack_only(261, "a transcript of 7 bytes", k6="00" * 7),
        (262, "a known key twice", "FR-9",
         s_close("MALFORMED", PREFACE + hello(ext=double), expect("preface"), begin="nothing"),
         c_close("MALFORMED", hello_ack(order=[1, 2, 3, 3, 4, 5, 6]), begin="greeted")),
        (263, "keys that descend", "FR-9",
         s_close("MALFORMED", PREFACE + hello(ext=back), expect("preface"), begin="nothing"),
         c_close("MALFORMED", hello_ack(order=[1, 2, 3, 5, 4, 6]), begin="greeted")),
        (264, "a TLV cut in its length", "FR-9",
         s_close("MALFORMED", PREFACE + hello(extra=b"\x00\x20\x00"), expect("preface"),
                 begin="nothing"),
         c_close("MALFORMED", hello_ack(extra="002000"), begin="greeted")),
        (265, "a TLV longer than the block", "FR-9",
         s_close("MALFORMED", PREFACE + hello(extra=b"\x00\x20\x00\x01"), expect("preface"),
                 begin="nothing"),
         c_close("MALFORMED", hello_ack(extra="00200001"), begin="greeted")),
        (266, "keys that this version does not know", "FR-10",
         s_open(PREFACE + hello(extra=wire.tlv(40, bytes(4)) + wire.tlv(40, b"")),
                expect("preface"), expect("HELLO_ACK"), expect("TABLE"), begin="nothing"),
         c_go_on(hello_ack(extra="00280001ff"), table_frame(), begin="greeted")),
        (267, "calls_max and transcript in HELLO, of any size", "HS-5 FR-10",
         s_open(PREFACE + hello(k2=b"\x00", k6=b"x"), expect("preface"), expect("HELLO_ACK"),
                expect("TABLE"), begin="nothing"), "required in HELLO_ACK"),
        (268, "no key at all", "HS-6",
         s_close("MALFORMED", PREFACE + hello(ext=b""), expect("preface"), begin="nothing"),
         c_close("MALFORMED", wire.frame("HELLO_ACK"), begin="greeted")),
        (269, "a hash of a table that nobody has", "RT-4",
         s_open(PREFACE + hello(k5=b"no table"), expect("preface"), expect("HELLO_ACK"),
                expect("TABLE"), begin="nothing"), "a TABLE follows: UX502"),
        (270, "a fallback with a value", "HS-5 HS-6",
         s_open(PREFACE + hello(k7=b"\x01"), expect("preface"), expect("HELLO_ACK"),
                expect("TABLE"), begin="nothing"),
         c_close("MALFORMED", hello_ack(k7="01"), begin="greeted")),
        (271, "a fallback twice", "FR-9",
         s_open(PREFACE + hello(k7=b"", extra=wire.tlv(7, b"")), expect("preface"),
                expect("HELLO_ACK"), expect("TABLE"), begin="nothing"),
         c_close("MALFORMED", hello_ack(k7="", extra="00070000"), begin="greeted")),
        (272, "a fallback", "HS-5 CA-17",
         s_open(PREFACE + hello(k7=b""), expect("preface"), expect("HELLO_ACK"),
                expect("TABLE"), begin="nothing"),
         c_go_on(hello_ack(k7=""), table_frame(), begin="greeted")),
    ]


def framing_and_handshake():
    return framing() + kinds() + order() + tlvs() + prefaces() + turns() + hellos()
