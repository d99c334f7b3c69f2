#!/usr/bin/env python3
"""Writes the golden vectors next to this file, from wire.py and payload.py.

    python3 spec/vectors/generate.py            writes the *.json files
    python3 spec/vectors/generate.py --check    compares instead, decodes every vector and encodes
                                                it again, and fails if anything differs

Python 3.10 or newer, standard library only. The shapes are described in README.md beside it.
"""

import json
import pathlib
import sys

sys.dont_write_bytecode = True

import payload as pl  # noqa: E402
import wire  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
LEDGER = wire.method_id("bank.Ledger/transfer")
BALANCE = wire.method_id("bank.Ledger/balance")
V1_TEXT = "struct{from:u64,to:u64,cents:u64}->struct{entry:u64}!never"
V2_TEXT = ("struct{from:u64,to:u64,cents:u64,memo:str}->struct{entry:u64,balance:i64}"
           "!enum{0:NoSuchAccount(u64),1:Insufficient{missing:u64}}")
V2_REQUEST = "struct{from:u64,to:u64,cents:u64,memo:str}"
V2_RESPONSE = "struct{entry:u64,balance:i64}"
V1_REQUEST = "struct{from:u64,to:u64,cents:u64}"
V1_RESPONSE = "struct{entry:u64}"
V2_ERROR = "enum{0:NoSuchAccount(u64),1:Insufficient{missing:u64}}"


def hex64(value):
    return f"{value:016x}"


def fold(text):
    return pl.fingerprint32(pl.fingerprint64(text))


def encoded(schema, value):
    return pl.encode(pl.parse_schema(schema), value).hex()


def method(name, versions, ceiling=65535):
    listed = [{"version": v, "fingerprint": hex64(pl.fingerprint64(t))} for v, t in versions]
    return {"method": wire.method_id(name), "ceiling": ceiling, "versions": listed}


# ---- frames ----

def request(**changes):
    fields = {"kind": "REQUEST", "call": 1, "method": LEDGER, "version": 2, "codec": 1,
              "attempt": 0, "priority": 0, "timeout_ms": 10000, "fingerprint": fold(V2_TEXT),
              "metadata": [], "payload_hex": ""}
    return fields | changes


def response(**changes):
    fields = {"kind": "RESPONSE", "call": 1, "status": 0, "disposition": 2, "codec": 1,
              "metadata": [], "payload_hex": ""}
    return fields | changes


def hello(**changes):
    return {"kind": "HELLO", "call": 0, "frame_bytes_max": 4194304, "codecs": [1]} | changes


def hello_ack(**changes):
    fields = {"kind": "HELLO_ACK", "call": 0, "frame_bytes_max": 4194304, "calls_max": 1024,
              "codecs": [1], "tables": ["0123456789abcdef"], "transcript": "fedcba9876543210"}
    return fields | changes


def close(**changes):
    return {"kind": "CLOSE", "call": 0, "reason": 0, "last_call": 0, "detail": ""} | changes


def ping(kind="PING", opaque="0001020304050607"):
    return {"kind": kind, "call": 0, "opaque_hex": opaque}


def meta(name, value):
    return {"name": name, "value_hex": value.hex()}


def meta_tlv(name, value=b""):
    return wire.tlv(16, bytes([len(name)]) + name + value)


def request_raw(ext=b"", flags=0, tail=0, payload=b"", call=1):
    fixed = wire.be(LEDGER, 4) + wire.be(2, 2) + bytes([1, tail]) + wire.be(10000, 4) + bytes(4)
    return wire.frame("REQUEST", call, fixed, ext, payload, flags)


def response_raw(status=0, disposition=2, ext=b"", payload=b""):
    fixed = wire.be(status, 2) + bytes([disposition, 1])
    return wire.frame("RESPONSE", 1, fixed, ext, payload)


def plain_frames():
    """Frames that a sender of version 1 writes: they decode and encode to the same bytes."""
    v2 = encoded(V2_REQUEST, {"from": 7, "to": 9, "cents": 12500, "memo": "rent"})
    table = wire.table_payload([method("bank.Ledger/transfer", [(2, V2_TEXT)])]).hex()
    return [
        ("hello_least", hello(frame_bytes_max=65536)),
        ("hello_full", hello(codecs=[1, 2, 128], build="ledger-client 1.4.0",
                             tables=["0123456789abcdef", "00000000000000ff"])),
        ("hello_limits", hello(frame_bytes_max=4294967295, codecs=list(range(1, 33)),
                               build="é" * 32, tables=[hex64(n) for n in range(8, 0, -1)])),
        ("hello_ack_least", hello_ack(frame_bytes_max=65536, calls_max=1)),
        ("hello_ack_full", hello_ack(codecs=[1, 255], build="ledger 2.0.0")),
        ("hello_ack_limits", hello_ack(frame_bytes_max=4294967295, calls_max=4294967295,
                                       build="x" * 64)),
        ("table_empty", {"kind": "TABLE", "call": 0, "payload_hex": wire.table_payload([]).hex()}),
        ("table_one", {"kind": "TABLE", "call": 0, "payload_hex": table}),
        ("table_update", {"kind": "TABLE_UPDATE", "call": 0, "payload_hex": table}),
        ("request_empty", request(fingerprint=0)),
        ("request_payload", request(payload_hex=v2)),
        ("request_metadata", request(payload_hex=v2, metadata=[
            meta("tenant", b"acme"), meta("tenant", b"acme-2"),
            meta("trace-id", bytes(range(4)))])),
        ("request_metadata_limits", request(metadata=[
            meta("a.b_c-9" + "z" * 57, b"\x00\xff")] + [meta("n", b"")] * 63)),
        ("request_retry_sheddable", request(call=4294967295, attempt=15, priority=3)),
        ("request_numbers", request(call=2147483649, method=4294967295, version=65534, codec=255,
                                    attempt=1, priority=1, timeout_ms=4294967295,
                                    fingerprint=4294967295)),
        ("request_over", request(timeout_ms=0, priority=2)),
        ("response_ok", response(payload_hex=encoded(V2_RESPONSE, {"entry": 41, "balance": -300}))),
        ("response_ok_empty", response(call=4294967295)),
        ("response_app_error", response(status=1, payload_hex=encoded(
            V2_ERROR, {"Insufficient": {"missing": 251}}))),
        ("response_cancelled", response(status=2, disposition=1, codec=0)),
        ("response_versions", response(status=5, disposition=0, codec=0, versions=[1, 3, 65534],
                                       message="no version 2")),
        ("response_no_versions", response(status=5, disposition=0, codec=0, versions=[])),
        ("response_schema_mismatch", response(status=6, disposition=0, codec=0,
                                              fingerprint=fold(V2_TEXT))),
        ("response_codecs", response(status=7, disposition=0, codec=0, codecs=[1, 2])),
        ("response_too_large", response(status=9, codec=0, limit=65536, value=70000)),
        ("response_overloaded", response(status=12, disposition=0, codec=0, retry_after_ms=250)),
        ("response_everything", response(
            status=38, codec=0, message="é" * 512, retry_after_ms=4294967295,
            versions=list(range(1, 65)), codecs=[1], fingerprint=1, limit=4294967296, value=0,
            metadata=[meta("quota", b"0")])),
        ("response_unknown_status", response(status=32767, codec=0)),
        ("cancel", {"kind": "CANCEL", "call": 1}),
        ("cancel_high_call", {"kind": "CANCEL", "call": 4294967295}),
        ("ping", ping()),
        ("ping_zero", ping(opaque="00" * 8)),
        ("pong", ping("PONG")),
        ("pong_ones", ping("PONG", "ff" * 8)),
        ("close_normal", close()),
        ("close_detail", close(reason=13, last_call=7, detail="call 5 after call 7")),
        ("close_limits", close(reason=65535, last_call=4294967295, detail="é" * 128)),
    ]


def lenient_frames():
    """Frames that a receiver takes although no sender of version 1 writes them."""
    extra, twice = wire.tlv(0x7FFF, b"later"), wire.tlv(99, b"a") + wire.tlv(99, b"")
    features = wire.tlv(7, bytes(4))
    return [
        ("hello_unknown_tlvs", wire.frame(
            "HELLO", ext=wire.handshake_tlvs(hello()) + features + twice + extra)),
        ("hello_low_flags", wire.frame("HELLO", ext=wire.handshake_tlvs(hello()), flags=0x0F)),
        ("hello_ack_unknown_tlvs", wire.frame(
            "HELLO_ACK", ext=wire.handshake_tlvs(hello_ack()) + twice)),
        ("request_low_flags", request_raw(flags=0x09)),
        ("request_unknown_tlvs", request_raw(ext=wire.tlv(1, b"") + meta_tlv(b"k", b"v") + extra)),
        ("request_reserved_priority_bits", request_raw(tail=0x2E)),
        ("request_ext_limit", request_raw(ext=wire.tlv(1000, bytes(8188)))),
        ("response_unknown_tlvs", response_raw(ext=wire.tlv(8, b"") + extra, payload=b"\x01")),
        ("cancel_tlv", wire.frame("CANCEL", 3, ext=extra, flags=1)),
        ("ping_tlv", wire.frame("PING", ext=extra, payload=bytes(range(8)))),
        ("table_tlv", wire.frame("TABLE", ext=extra, payload=wire.table_payload([]))),
        ("close_tlv", wire.frame("CLOSE", fixed=bytes(6), ext=extra, payload=b"bye")),
        ("skipped_lease", wire.frame(0x90, payload=b"lease")),
        ("skipped_empty", wire.frame(0xFF)),
        ("skipped_any_call_low_flags", wire.frame(0x80, 6, payload=bytes(40), flags=0x0F)),
        ("skipped_unread_tlvs", wire.frame(0xA5, 5, ext=b"\xff\xff\xff", payload=b"\x00")),
    ]


def with_body_len(head_of, body_len):
    head = wire.be(body_len, 4) + head_of[4:12]
    return head + wire.be(wire.crc32(head), 4) + head_of[16:]


def flipped(data, byte, bit):
    return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1:]


def broken_transport():
    """(name, bytes, limit or None, error): what is found before the body is parsed."""
    good, call = wire.encode(ping()), wire.encode(request(payload_hex="00ff"))
    big_ext = wire.frame("REQUEST", 1, bytes(16), wire.tlv(1000, bytes(8189)))
    skipped = wire.frame(0x91, payload=b"split")
    return [
        ("nothing", b"", None, "INCOMPLETE"),
        ("header_cut", good[:15], None, "INCOMPLETE"),
        ("header_only", good[:16], None, "INCOMPLETE"),
        ("body_cut", call[:-1], None, "INCOMPLETE"),
        ("head_crc_length_flipped", flipped(good, 0, 7), None, "HEAD_CRC"),
        ("head_crc_kind_flipped", flipped(good, 4, 0), None, "HEAD_CRC"),
        ("head_crc_flags_flipped", flipped(call, 5, 4), None, "HEAD_CRC"),
        ("head_crc_call_flipped", flipped(call, 11, 1), None, "HEAD_CRC"),
        ("head_crc_itself_flipped", flipped(good, 15, 0), None, "HEAD_CRC"),
        ("head_crc_zeros", bytes(16), None, "HEAD_CRC"),
        ("head_crc_before_kind", flipped(wire.frame(0x13), 15, 0), None, "HEAD_CRC"),
        ("body_crc_payload_flipped", flipped(call, 33, 3), None, "BODY_CRC"),
        ("body_crc_fixed_flipped", flipped(call, 16, 0), None, "BODY_CRC"),
        ("body_crc_itself_flipped", flipped(good, len(good) - 1, 0), None, "BODY_CRC"),
        ("body_crc_empty_body", flipped(wire.frame("CANCEL", 1), 19, 0), None, "BODY_CRC"),
        ("body_crc_skipped_kind", flipped(skipped, 17, 0), None, "BODY_CRC"),
        ("too_large_default", with_body_len(call, 4194305)[:16], None, "FRAME_TOO_LARGE"),
        ("too_large_most", with_body_len(call, 4294967295)[:16], None, "FRAME_TOO_LARGE"),
        ("too_large_floor", with_body_len(call, 65537)[:16], 65536, "FRAME_TOO_LARGE"),
        ("too_large_before_hello", with_body_len(wire.frame("HELLO"), 16385)[:16], 16384,
         "FRAME_TOO_LARGE"),
        ("too_large_skipped_kind", with_body_len(skipped, 65537)[:16], 65536, "FRAME_TOO_LARGE"),
        ("at_limit", with_body_len(call, 65536)[:16], 65536, "INCOMPLETE"),
        ("unknown_kind_zero", wire.frame(0x00), None, "UNKNOWN_KIND"),
        ("unknown_kind_data", wire.frame(0x13, 1, payload=b"x"), None, "UNKNOWN_KIND"),
        ("unknown_kind_credit", wire.frame(0x14, 1), None, "UNKNOWN_KIND"),
        ("unknown_kind_goaway", wire.frame(0x22, payload=bytes(10)), None, "UNKNOWN_KIND"),
        ("unknown_kind_highest", wire.frame(0x7F), None, "UNKNOWN_KIND"),
        ("high_flag_ping", wire.frame("PING", payload=bytes(8), flags=0x10), None, "UNKNOWN_FLAG"),
        ("high_flag_response", wire.frame("RESPONSE", 1, bytes(4), flags=0x80), None,
         "UNKNOWN_FLAG"),
        ("high_flag_cancel", wire.frame("CANCEL", 1, flags=0x4F), None, "UNKNOWN_FLAG"),
        ("high_flag_skipped_kind", wire.frame(0x90, flags=0x20), None, "UNKNOWN_FLAG"),
        ("no_room_for_crc", with_body_len(wire.frame("CANCEL", 1), 3)[:19], None, "MALFORMED"),
        ("no_room_for_fixed", wire.frame("REQUEST", 1, bytes(15)), None, "MALFORMED"),
        ("no_room_for_response", wire.frame("RESPONSE", 1, bytes(3)), None, "MALFORMED"),
        ("no_room_for_close", wire.frame("CLOSE", 0, bytes(5)), None, "MALFORMED"),
        ("no_room_for_ext", ext_len_of(wire.frame("CANCEL", 1, payload=b"abc"), 4), None,
         "MALFORMED"),
        ("ext_above_limit", big_ext, None, "MALFORMED"),
        ("ext_above_limit_skipped_kind", wire.frame(0x90, ext=bytes(8193)), None, "MALFORMED"),
    ]


def ext_len_of(data, ext_len):
    head = data[:6] + wire.be(ext_len, 2) + data[8:12]
    return head + wire.be(wire.crc32(head), 4) + data[16:]


def handshake(kind, drop=None, change=(), extra=b""):
    """A handshake frame with one TLV left out, or values replaced."""
    base = {1: wire.be(65536, 4), 3: b"\x01"}
    if kind == "HELLO_ACK":
        base |= {2: wire.be(1, 4), 5: bytes(8), 6: bytes(8)}
    base.update(change)
    base.pop(drop, None)
    return wire.frame(kind, ext=b"".join(wire.tlv(k, base[k]) for k in sorted(base)) + extra)


def broken_bodies():
    """(name, bytes, error): what is found when the body is parsed."""
    critical = wire.tlv(0x8001, b"")
    cases = [
        ("critical_tlv_hello", handshake("HELLO", extra=critical), "UNKNOWN_TLV"),
        ("critical_tlv_hello_ack", handshake("HELLO_ACK", extra=critical), "UNKNOWN_TLV"),
        ("critical_tlv_response", response_raw(ext=critical), "UNKNOWN_TLV"),
        ("critical_tlv_cancel", wire.frame("CANCEL", 1, ext=critical), "UNKNOWN_TLV"),
        ("critical_tlv_ping", wire.frame("PING", ext=critical, payload=bytes(8)), "UNKNOWN_TLV"),
        ("hello_payload", wire.frame("HELLO", ext=wire.handshake_tlvs(hello()), payload=b"x"),
         "MALFORMED"),
        ("hello_frame_limit_low", handshake("HELLO", change={1: wire.be(65535, 4)}), "MALFORMED"),
        ("hello_frame_limit_size", handshake("HELLO", change={1: bytes(3)}), "MALFORMED"),
        ("hello_codecs_empty", handshake("HELLO", change={3: b""}), "MALFORMED"),
        ("hello_codecs_twice", handshake("HELLO", change={3: b"\x01\x01"}), "MALFORMED"),
        ("hello_codecs_descending", handshake("HELLO", change={3: b"\x02\x01"}), "MALFORMED"),
        ("hello_codecs_33", handshake("HELLO", change={3: bytes(range(1, 34))}), "MALFORMED"),
        ("hello_build_65", handshake("HELLO", change={4: b"x" * 65}), "MALFORMED"),
        ("hello_build_not_utf8", handshake("HELLO", change={4: b"\xff"}), "MALFORMED"),
        ("hello_tables_9", handshake("HELLO", change={5: bytes(72)}), "MALFORMED"),
        ("hello_tables_cut", handshake("HELLO", change={5: bytes(7)}), "MALFORMED"),
        ("hello_key_twice", wire.frame("HELLO", ext=wire.tlv(1, wire.be(65536, 4)) * 2
                                       + wire.tlv(3, b"\x01")), "MALFORMED"),
        ("hello_keys_descending", wire.frame("HELLO", ext=wire.tlv(3, b"\x01")
                                             + wire.tlv(1, wire.be(65536, 4))), "MALFORMED"),
        ("hello_tlv_cut", handshake("HELLO", extra=b"\x00\x20\x00"), "MALFORMED"),
        ("hello_tlv_too_long", handshake("HELLO", extra=b"\x00\x20\x00\x01"), "MALFORMED"),
        ("hello_ack_calls_max_zero", handshake("HELLO_ACK", change={2: bytes(4)}), "MALFORMED"),
        ("hello_ack_two_tables", handshake("HELLO_ACK", change={5: bytes(16)}), "MALFORMED"),
        ("hello_ack_transcript_size", handshake("HELLO_ACK", change={6: bytes(7)}), "MALFORMED"),
        ("response_status_local", response_raw(status=0x8000), "MALFORMED"),
        ("response_status_highest", response_raw(status=0xFFFF), "MALFORMED"),
        ("response_disposition_3", response_raw(disposition=3), "MALFORMED"),
        ("response_error_with_payload", response_raw(status=11, payload=b"x"), "MALFORMED"),
        ("response_message_1025", response_raw(status=11, ext=wire.tlv(1, b"x" * 1025)),
         "MALFORMED"),
        ("response_message_not_utf8", response_raw(status=11, ext=wire.tlv(1, b"\xc3")),
         "MALFORMED"),
        ("response_retry_after_size", response_raw(status=12, ext=wire.tlv(2, bytes(8))),
         "MALFORMED"),
        ("response_versions_odd", response_raw(status=5, ext=wire.tlv(3, bytes(3))), "MALFORMED"),
        ("response_versions_descending", response_raw(status=5, ext=wire.tlv(3, b"\0\2\0\1")),
         "MALFORMED"),
        ("response_versions_65", response_raw(status=5, ext=wire.tlv(
            3, b"".join(wire.be(v, 2) for v in range(1, 66)))), "MALFORMED"),
        ("response_key_twice", response_raw(status=12, ext=wire.tlv(2, bytes(4)) * 2), "MALFORMED"),
        ("response_metadata_name", response_raw(ext=meta_tlv(b"Upper")), "MALFORMED"),
        ("cancel_payload", wire.frame("CANCEL", 1, payload=b"x"), "MALFORMED"),
        ("ping_7", wire.frame("PING", payload=bytes(7)), "MALFORMED"),
        ("pong_9", wire.frame("PONG", payload=bytes(9)), "MALFORMED"),
        ("close_detail_257", wire.frame("CLOSE", fixed=bytes(6), payload=b"x" * 257), "MALFORMED"),
        ("close_detail_not_utf8", wire.frame("CLOSE", fixed=bytes(6), payload=b"\x80"),
         "MALFORMED"),
    ]
    for kind, keys in (("HELLO", (1, 3)), ("HELLO_ACK", (1, 2, 3, 5, 6))):
        for key in keys:
            cases.append((f"{kind.lower()}_without_{key}", handshake(kind, drop=key), "MALFORMED"))
    return cases


def refused_frames():
    """(name, bytes, status): the call is answered, the connection stays open."""
    flags = [(f"flag_{bit:02x}", request_raw(flags=bit, call=5), "UNSUPPORTED_FLAG")
             for bit in (0x10, 0x20, 0x40, 0x80, 0xFF)]
    blocks = [
        ("critical_tlv", wire.tlv(0x8001, b"")),
        ("critical_tlv_after_metadata", meta_tlv(b"k") + wire.tlv(0xFFFF, b"")),
        ("tlv_cut", b"\x00\x10\x00"),
        ("tlv_too_long", b"\x00\x10\x00\x09\x01k"),
        ("keys_descending", wire.tlv(17, b"") + meta_tlv(b"k")),
        ("metadata_empty", wire.tlv(16, b"")),
        ("metadata_name_empty", wire.tlv(16, b"\x00v")),
        ("metadata_name_65", meta_tlv(b"n" * 65)),
        ("metadata_name_upper", meta_tlv(b"Name")),
        ("metadata_name_space", meta_tlv(b"a b")),
        ("metadata_name_cut", wire.tlv(16, b"\x04abc")),
        ("metadata_65", meta_tlv(b"n") * 65),
    ]
    both = ("flag_before_metadata", request_raw(ext=b"\x00", flags=0x10), "UNSUPPORTED_FLAG")
    return flags + [both] + [(n, request_raw(ext=e, call=7), "BAD_METADATA") for n, e in blocks]


def frames():
    valid = [{"name": name, "hex": wire.encode(f).hex(), "frame": f} for name, f in plain_frames()]
    for name, data in lenient_frames():
        fields, _ = wire.decode(data)
        valid.append({"name": name, "hex": data.hex(), "frame": fields, "canonical": False})
    invalid = []
    for name, data, limit, error in broken_transport():
        case = {"name": name, "hex": data.hex(), "error": error}
        invalid.append(case if limit is None else case | {"limit": limit})
    for name, data, error in broken_bodies():
        invalid.append({"name": name, "hex": data.hex(), "error": error})
    refused = [{"name": name, "hex": data.hex(), "call": wire.num(data[8:12]), "status": status}
               for name, data, status in refused_frames()]
    return {"valid": valid, "invalid": invalid, "refused": refused}


def check_frames(doc):
    for case in doc["valid"]:
        data = bytes.fromhex(case["hex"])
        same(wire.decode(data), (case["frame"], len(data)), case)
        if case.get("canonical", True):
            same(wire.encode(case["frame"]), data, case)
    for case in doc["invalid"]:
        limit = case.get("limit", wire.FRAME_BYTES_MAX)
        same(outcome(wire.decode, bytes.fromhex(case["hex"]), limit), case["error"], case)
    for case in doc["refused"]:
        same(outcome(wire.decode, bytes.fromhex(case["hex"])), case["status"], case)


# ---- prefaces ----

def prefaces():
    ranges = [(1, 1), (1, 2), (2, 3), (1, 65535), (65535, 65535)]
    pairs = [((1, 1), (1, 1)), ((1, 1), (1, 3)), ((1, 3), (2, 2)), ((1, 2), (2, 9)),
             ((1, 65535), (1, 65535)), ((1, 1), (2, 2)), ((4, 9), (1, 3))]
    bad = [
        ("wrong_magic", b"SWBX\0\1\0\1", "NOT_SWITCHBACK"),
        ("wrong_first_byte", b"G", "NOT_SWITCHBACK"),
        ("http", b"GET / HTTP/1.1\r\n\r\n", "NOT_SWITCHBACK"),
        ("lower_case", b"swbk\0\1\0\1", "NOT_SWITCHBACK"),
        ("tls", bytes.fromhex("1603010200010001"), "NOT_SWITCHBACK"),
        ("magic_part_wrong", b"SWB\0", "NOT_SWITCHBACK"),
        ("lo_zero", wire.preface(0, 1), "MALFORMED"),
        ("both_zero", wire.preface(0, 0), "MALFORMED"),
        ("lo_above_hi", wire.preface(3, 2), "MALFORMED"),
        ("nothing", b"", "INCOMPLETE"),
        ("magic_only", b"SWBK", "INCOMPLETE"),
        ("seven_bytes", wire.preface(1, 1)[:7], "INCOMPLETE"),
    ]
    return {
        "valid": [{"name": f"{lo}_to_{hi}", "hex": wire.preface(lo, hi).hex(), "lo": lo, "hi": hi}
                  for lo, hi in ranges],
        "chosen": [{"client": wire.preface(*c).hex(), "server": wire.preface(*s).hex(),
                    "version": wire.choose_protocol(c, s)} for c, s in pairs],
        "invalid": [{"name": n, "hex": d.hex(), "error": e} for n, d, e in bad],
    }


def check_prefaces(doc):
    for case in doc["valid"]:
        same(wire.parse_preface(bytes.fromhex(case["hex"])), (case["lo"], case["hi"]), case)
    for case in doc["chosen"]:
        both = [wire.parse_preface(bytes.fromhex(case[side])) for side in ("client", "server")]
        same(wire.choose_protocol(*both), case["version"], case)
        same(wire.choose_protocol(*both[::-1]), case["version"], case)
    for case in doc["invalid"]:
        same(outcome(wire.parse_preface, bytes.fromhex(case["hex"])), case["error"], case)


# ---- tables ----

def table_list():
    transfer = [(1, V1_TEXT), (2, V2_TEXT)]
    balance = method("bank.Ledger/balance", [(1, "u64->i64!never")])
    both = sorted([balance, method("bank.Ledger/transfer", transfer)], key=lambda m: m["method"])
    lowered = sorted([balance, method("bank.Ledger/transfer", transfer, 1)],
                     key=lambda m: m["method"])
    edges = [{"method": 0, "ceiling": 0, "versions": [
                {"version": 1, "fingerprint": "0000000000000001"}]},
             {"method": 4294967295, "ceiling": 65534, "versions": [
                {"version": v, "fingerprint": hex64(v)} for v in (1, 300, 65534)]}]
    most = [{"method": 77, "ceiling": 65535, "versions": [
        {"version": v, "fingerprint": hex64(v)} for v in range(1, 65)]}]
    return {
        "empty": [],
        "one_method": [method("bank.Ledger/transfer", transfer)],
        "two_methods": both,
        "ceiling_lowered": lowered,
        "version_retired": sorted([balance, method("bank.Ledger/transfer", transfer[1:])],
                                  key=lambda m: m["method"]),
        "edges": edges,
        "most_versions": most,
    }


def raw_table(body):
    return wire.be(wire.fnv64(body), 8) + body


def broken_tables():
    """(name, frame kind, bytes, error, why)."""
    one = bytes.fromhex("0000000affff01") + bytes.fromhex("0001") + bytes(8)
    two = bytes.fromhex("0000000bffff01") + bytes.fromhex("0001") + bytes(8)
    many = b"".join(wire.be(n, 4) + b"\xff\xff\1\0\1" + bytes(8) for n in range(2049))
    wrong = wire.table_payload([])[:7] + b"\x00" + b"\x00\x00"
    versions = b"".join(wire.be(v, 2) + bytes(8) for v in range(1, 66))
    listed = [
        ("cut_header", b"\0" * 9, "shorter than hash and count"),
        ("count_above_methods", raw_table(b"\0\2" + one), "two methods declared, one there"),
        ("leftover", raw_table(b"\0\1" + one + b"\0"), "a byte after the last method"),
        ("methods_descending", raw_table(b"\0\2" + two + one), "method ids not ascending"),
        ("method_twice", raw_table(b"\0\2" + one + one), "the same method id twice"),
        ("versions_descending", raw_table(
            b"\0\1\0\0\0\x0a\xff\xff\2\0\2" + bytes(8) + b"\0\1" + bytes(8)),
         "versions not ascending"),
        ("version_twice", raw_table(
            b"\0\1\0\0\0\x0a\xff\xff\2\0\1" + bytes(8) + b"\0\1" + bytes(8)),
         "the same version twice"),
        ("version_zero", raw_table(b"\0\1\0\0\0\x0a\xff\xff\1\0\0" + bytes(8)), "version 0"),
        ("version_65535", raw_table(b"\0\1\0\0\0\x0a\xff\xff\1\xff\xff" + bytes(8)),
         "version 65535"),
        ("versions_65", raw_table(b"\0\1\0\0\0\x0a\xff\xff\x41" + versions), "65 versions"),
        ("versions_cut", raw_table(b"\0\1" + one[:-1]), "a version cut short"),
        ("methods_2049", raw_table(wire.be(2049, 2) + many), "2049 methods"),
    ]
    cases = [(name, "TABLE", data, "MALFORMED", why) for name, data, why in listed]
    cases.append(("no_versions", "TABLE", raw_table(b"\0\1\0\0\0\x0a\xff\xff\0"), "MALFORMED",
                  "n = 0 in TABLE"))
    cases.append(("wrong_hash", "TABLE", wrong, "TABLE", "the hash is not of these bytes"))
    cases.append(("update_wrong_hash", "TABLE_UPDATE", raw_table(b"\0\1" + one), "TABLE",
                  "the hash is of the update instead of the resulting table"))
    return cases


def tables():
    listed = table_list()
    steps = [("ceiling_lowered", "two_methods", "ceiling_lowered"),
             ("ceiling_raised", "ceiling_lowered", "two_methods"),
             ("version_retired", "two_methods", "version_retired"),
             ("method_added", "one_method", "two_methods"),
             ("method_removed", "two_methods", "one_method"),
             ("everything_removed", "two_methods", "empty"),
             ("everything_added", "empty", "two_methods"),
             ("everything_replaced", "two_methods", "edges"),
             ("nothing_changed", "two_methods", "two_methods")]
    asked = [("two_methods", LEDGER, [1, 2]), ("two_methods", LEDGER, [1]),
             ("two_methods", LEDGER, [2, 3]), ("two_methods", LEDGER, [3]),
             ("ceiling_lowered", LEDGER, [1, 2]), ("ceiling_lowered", LEDGER, [2]),
             ("version_retired", LEDGER, [1, 2]), ("version_retired", LEDGER, [1]),
             ("one_method", BALANCE, [1]), ("empty", LEDGER, [1, 2]),
             ("edges", 0, [1]), ("edges", 4294967295, [300, 65534]),
             ("most_versions", 77, [64, 65])]
    before = {"update_wrong_hash": "two_methods"}
    return {
        "tables": [{"name": name, "methods": methods, "hash": wire.table_hash(methods),
                    "payload_hex": wire.table_payload(methods).hex()}
                   for name, methods in listed.items()],
        "updates": [{"name": name, "before": old, "after": new,
                     "payload_hex": wire.update_payload(listed[old], listed[new]).hex()}
                    for name, old, new in steps],
        "invalid": [{"name": name, "kind": kind, "payload_hex": data.hex(), "error": error,
                     "why": why} | ({"before": before[name]} if name in before else {})
                    for name, kind, data, error, why in broken_tables()],
        "choice": [{"table": name, "method": number, "client_versions": versions,
                    "chosen": wire.choose_version(listed[name], number, versions)}
                   for name, number, versions in asked],
    }


def check_tables(doc):
    listed = {}
    for case in doc["tables"]:
        data = bytes.fromhex(case["payload_hex"])
        listed[case["name"]] = wire.read_table(data)
        same(listed[case["name"]], case["methods"], case)
        same(wire.table_payload(case["methods"]), data, case)
        same(wire.table_hash(case["methods"]), case["hash"], case)
    for case in doc["updates"]:
        data = bytes.fromhex(case["payload_hex"])
        same(wire.apply_update(listed[case["before"]], data), listed[case["after"]], case)
    for case in doc["invalid"]:
        data = bytes.fromhex(case["payload_hex"])
        if case["kind"] == "TABLE":
            same(outcome(wire.read_table, data), case["error"], case)
        else:
            same(outcome(wire.apply_update, listed[case["before"]], data), case["error"], case)
    for case in doc["choice"]:
        got = wire.choose_version(listed[case["table"]], case["method"], case["client_versions"])
        same(got, case["chosen"], case)


# ---- names ----

def names():
    listed = ["bank.Ledger/transfer", "bank.Ledger/balance", "bank.Ledger/watch", "a/b",
              "switchback.Health/check", "é.Ü/ß", "123456789"]
    return [{"name": name, "method": wire.method_id(name)} for name in listed]


def check_names(doc):
    for case in doc:
        same(slow_crc32(case["name"].encode()), case["method"], case)


def slow_crc32(data):
    """The bit-by-bit algorithm of 01-framing.md, against zlib's."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xEDB88320 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


# ---- fingerprints ----

SCHEMA_TEXTS = [
    "bool", "i8", "i16", "i32", "i64", "i128", "u8", "u16", "u32", "u64", "u128", "f32", "f64",
    "char", "str", "bytes", "unit", "?u32", "??bool", "[u16]", "{str:u32}", "{(u8,char):[f64]}",
    "(u8)", "(u8,str)", "[u8;4]", "[[i16;2];0]", "struct{}", "struct()", "struct(u64)",
    "struct(u8,str)", "struct{from:u64,to:u64}", "struct{to:u64,from:u64}",
    "struct{kebab-name:u8,_x9:?str}", "enum{}",
    "enum{0:Unit,1:New(u32),2:Tup(u8,str),3:Str{x:i32}}",
    "enum{0:None(),1:Empty{}}", "enum{0:Ok(u8),1:Err(str)}", "opaque(uuid.v1)",
    "struct{secs:u64,nanos:u32}", "struct{secs_since_epoch:u64,nanos_since_epoch:u32}",
    "struct{value:u8,next:?^0}", "enum{0:Leaf,1:Node([^0])}", "struct{b:?struct{a:?^1,self:?^0}}",
    "struct{kids:[enum{0:File(u64),1:Dir(^1),2:Link(^0)}]}",
    "enum{0:Leaf(i64),1:Both(^0,^0),2:Not{of:^0}}", "struct(?^0)",
]
METHOD_TEXTS = [
    V1_TEXT, V2_TEXT, "unit->unit!never", "u64->i64!never", "str->str!str",
    "struct{value:u8,next:?^0}->[struct{value:u8,next:?^0}]!opaque(uuid.v1)",
    "struct{a:u8,b:u8}->unit!never", "struct{b:u8,a:u8}->unit!never",
    "unit->unit!opaque(4dtkimh)",
]


def fingerprints():
    out = []
    for key, listed in (("schema_text", SCHEMA_TEXTS), ("method_text", METHOD_TEXTS)):
        for text in listed:
            full = pl.fingerprint64(text)
            out.append({key: text, "fingerprint64": hex64(full),
                        "fingerprint32": f"{pl.fingerprint32(full):08x}"})
    return out


def check_fingerprints(doc):
    for case in doc:
        if "schema_text" in case:
            pl.parse_schema(case["schema_text"])
        else:
            pl.parse_method_text(case["method_text"])
    zero = doc[-1]
    same(zero["fingerprint64"][:8], zero["fingerprint64"][8:], "the text that folds to zero")
    same(zero["fingerprint32"], "00000001", "the text that folds to zero")
    for text in ("", "u7", "struct{a:u8", "struct{a:^1}", "^0", "()", "u8 ", "[u8;]", "?", "{u8}",
                 "opaque()", "struct{a:u8,}", "enum{Unit}", "struct{a b:u8}"):
        try:
            pl.parse_schema(text)
        except pl.Invalid:
            continue
        raise SystemExit(f"taken for a schema text: {text!r}")


# ---- payloads ----

ENUM = "enum{0:Unit,1:New(u32),2:Tup(u8,str),3:Str{x:i32,y:i32}}"
RECORD = "struct{id:u64,name:str,tags:[u16],note:?u32}"
LIST = "struct{next:?^0}"


def nested(levels):
    value = {"next": None}
    for _ in range(levels):
        value = {"next": value}
    return value


def payload_values():
    """(schema text, values)."""
    return [
        ("bool", [False, True]), ("u8", [0, 127, 250, 251, 255]), ("i8", [0, 127, -1, -128]),
        ("u16", [0, 250, 251, 256, 65535]), ("u32", [0, 250, 251, 65535, 65536, 4294967295]),
        ("u64", [0, 250, 251, 65535, 65536, 4294967295, 4294967296, "18446744073709551615"]),
        ("u128", ["1", "18446744073709551616", "340282366920938463463374607431768211455"]),
        ("i16", [0, -1, 1, 125, -125, -126, 32767, -32768]),
        ("i32", [0, -1, 1, 125, -125, -126, 126, 32767, -32769, 2147483647, -2147483648]),
        ("i64", [0, -1, 2147483647, -2147483649, "9223372036854775807", "-9223372036854775808"]),
        ("i128", ["-1", "-170141183460469231731687303715884105728"]),
        ("f32", [0.0, 1.5, -0.25]), ("f64", [0.0, -2.5, 1e300, 0.1]),
        ("char", ["a", "é", "€", "😀", "\u0000"]),
        ("str", ["", "ledger", "héllo", "x" * 251]),
        ("bytes", ["", "00ff", "ab" * 251]), ("unit", [None]), ("?u32", [None, 0, 251]),
        ("[u16]", [[], [1, 250, 251]]), ("[?bool]", [[None, True, False]]),
        ("[unit]", [[None] * 3]),
        ("{str:u32}", [[], [["a", 1], ["b", 300]]]), ("(u8,str)", [[7, "x"]]), ("(u16)", [[251]]),
        ("[u8;4]", [[1, 2, 3, 255]]), ("[u16;0]", [[]]), (RECORD, [
            {"id": 300, "name": "n", "tags": [1, 251], "note": 5},
            {"id": 0, "name": "", "tags": [], "note": None}]),
        ("struct(u32)", [251]), ("struct(u8,str)", [[1, "z"]]), ("struct{}", [{}]),
        ("struct()", [[]]),
        (ENUM, ["Unit", {"New": 300}, {"Tup": [9, "k"]}, {"Str": {"x": -3, "y": 4}}]),
        ("enum{0:Ok(u8),1:Err(str)}", [{"Ok": 3}, {"Err": "e"}]),
        ("struct{secs:u64,nanos:u32}", [{"secs": 5, "nanos": 999999999}]),
        ("struct{value:u8,next:?^0}", [{"value": 1, "next": {"value": 2, "next": None}}]),
        ("enum{0:Leaf,1:Node([^0])}", ["Leaf", {"Node": ["Leaf", {"Node": []}]}]),
        (LIST, [nested(31)]), (V2_REQUEST, [{"from": 7, "to": 9, "cents": 12500, "memo": "rent"}]),
    ]


BAD_PAYLOADS = [
    ("bool", "", "no bytes"), ("bool", "02", "bool 2"), ("bool", "0100", "a byte left over"),
    ("u8", "", "no bytes"), ("u8", "0000", "a byte left over"),
    ("u16", "fb", "integer cut"), ("u16", "fc01000000", "32-bit form in a u16"),
    ("u32", "fc000000", "integer cut"), ("u32", "fd0100000000000000", "64-bit form in a u32"),
    ("u64", "fe" + "01" + "00" * 15, "128-bit form in a u64"), ("u64", "ff", "first byte 255"),
    ("i16", "fc00000100", "32-bit form in an i16"), ("f64", "00000000000000", "float cut"),
    ("f32", "0000000000", "a byte left over"),
    ("char", "ff", "not UTF-8"), ("char", "c3", "character cut"),
    ("char", "eda080", "a surrogate"), ("char", "80", "a continuation byte"),
    ("str", "0568656c6c", "longer than the bytes that are there"),
    ("str", "fdffffffffffffff7f61", "longer than the bytes that are there"),
    ("str", "01ff", "not UTF-8"), ("str", "02c328", "not UTF-8"),
    ("str", "016161", "a byte left over"),
    ("bytes", "0200", "longer than the bytes that are there"),
    ("?u32", "02", "option tag 2"), ("?u32", "0201", "option tag 2"),
    ("?u32", "01", "value missing"),
    ("[u16]", "0301", "elements missing"), ("[u16]", "fcffffffff00", "elements missing"),
    ("[unit]", "fc01001000", "1048577 elements"), ("[unit]", "fc00000080", "2^31 elements"),
    ("[[unit]]", "02fc00000800fc00000800", "1048576 inner elements and 2 outer ones"),
    ("{str:u32}", "01016105" + "00", "a byte left over"), ("{str:u32}", "020161", "value missing"),
    ("(u8,str)", "07", "element missing"), ("[u8;4]", "010203", "element missing"),
    ("[u8;4]", "0102030405", "a byte left over"), ("unit", "00", "a byte left over"),
    (RECORD, "fb2c01016e0201fbfb0001", "field missing"), (ENUM, "04", "no such variant"),
    (ENUM, "fb0001", "no such variant"), (ENUM, "", "no bytes"), (ENUM, "fd0100000000000000",
     "64-bit form in a variant index"), ("enum{}", "00", "no such variant"),
    (LIST, "01" * 32 + "00", "66 levels"), (LIST, "01" * 4096 + "00", "8194 levels"),
]
LENIENT_PAYLOADS = [
    ("u32", "fb0100", 1), ("u64", "fd0100000000000000", 1), ("i32", "fb0100", -1),
    ("str", "fb010061", "a"), (ENUM, "fb0000", "Unit"), ("[u16]", "fc0100000007", [7]),
]


def payload_bincode():
    valid = [{"type": schema, "value": value, "hex": encoded(schema, value)}
             for schema, values in payload_values() for value in values]
    return {
        "valid": valid,
        "lenient": [{"type": t, "value": v, "hex": h} for t, h, v in LENIENT_PAYLOADS],
        "invalid": [{"type": t, "hex": h, "why": why} for t, h, why in BAD_PAYLOADS],
    }


def check_payloads(doc):
    for case in doc["valid"] + doc["lenient"]:
        schema = pl.parse_schema(case["type"])
        same(pl.decode(schema, bytes.fromhex(case["hex"])), case["value"], case)
    for case in doc["valid"]:
        same(encoded(case["type"], case["value"]), case["hex"], case)
    for case in doc["invalid"]:
        try:
            pl.decode(pl.parse_schema(case["type"]), bytes.fromhex(case["hex"]))
        except pl.Invalid:
            continue
        raise SystemExit(f"decoded: {case}")


# ---- the worked example ----

def conversation():
    listed = table_list()
    first = wire.preface(1, 1)
    greeting = wire.encode(hello(build="ledger-client 1.4.0"))
    transcript = hex64(wire.fnv64(first + greeting))
    v2, v1 = fold(V2_TEXT), fold(V1_TEXT)
    asked = {"from": 7, "to": 9, "cents": 12500, "memo": "rent"}
    old = encoded(V1_REQUEST, {"from": 7, "to": 9, "cents": 12500})
    frames_list = [
        ("server", "HELLO_ACK", hello_ack(tables=[wire.table_hash(listed["two_methods"])],
                                          build="ledger 2.0.0", transcript=transcript)),
        ("server", "TABLE", {"kind": "TABLE", "call": 0,
                             "payload_hex": wire.table_payload(listed["two_methods"]).hex()}),
        ("client", "REQUEST: transfer, version 2", request(
            fingerprint=v2, payload_hex=encoded(V2_REQUEST, asked),
            metadata=[meta("tenant", b"acme")])),
        ("server", "RESPONSE: OK", response(
            payload_hex=encoded(V2_RESPONSE, {"entry": 41, "balance": -300}))),
        ("client", "REQUEST: transfer, version 2", request(
            call=3, fingerprint=v2, payload_hex=encoded(V2_REQUEST, asked))),
        ("server", "TABLE_UPDATE: ceiling of transfer lowered to 1", {
            "kind": "TABLE_UPDATE", "call": 0, "payload_hex": wire.update_payload(
                listed["two_methods"], listed["ceiling_lowered"]).hex()}),
        ("server", "RESPONSE: UNSUPPORTED_VERSION, version 1 may be called", response(
            call=3, status=5, disposition=0, codec=0, versions=[1])),
        ("client", "REQUEST: the same call again, version 1", request(
            call=5, version=1, fingerprint=v1, timeout_ms=9998, payload_hex=old)),
        ("server", "RESPONSE: OK", response(
            call=5, payload_hex=encoded(V1_RESPONSE, {"entry": 42}))),
        ("client", "REQUEST: balance, version 1", request(
            call=7, method=BALANCE, version=1, fingerprint=fold("u64->i64!never"),
            payload_hex=encoded("u64", 7))),
        ("client", "CANCEL", {"kind": "CANCEL", "call": 7}),
        ("server", "RESPONSE: CANCELLED", response(call=7, status=2, disposition=1, codec=0)),
        ("server", "PING", ping()),
        ("client", "PONG", ping("PONG")),
        ("server", "CLOSE: SHUTDOWN", close(reason=1, last_call=7, detail="shutting down")),
    ]
    steps = [("client", "preface", first), ("client", "HELLO", greeting),
             ("server", "preface", first)]
    steps += [(side, what, wire.encode(f)) for side, what, f in frames_list]
    return [{"from": side, "what": what, "hex": data.hex()} for side, what, data in steps]


def check_conversation(doc):
    for step in doc:
        data = bytes.fromhex(step["hex"])
        if step["what"] == "preface":
            same(wire.parse_preface(data), (1, 1), step)
        else:
            same(wire.decode(data)[1], len(data), step)
    for step, annotated in zip(doc, annotated_steps()):
        same(annotated, (step["from"] + ": " + step["what"], step["hex"]), "../README.md")
    sent = bytes.fromhex(doc[0]["hex"] + doc[1]["hex"])
    ack = wire.decode(bytes.fromhex(doc[3]["hex"]))[0]
    same(ack["transcript"], hex64(wire.fnv64(sent)), "transcript")


def annotated_steps():
    """The steps that ../README.md explains byte by byte: (title, hex)."""
    readme = (HERE.parent / "README.md").read_text(encoding="utf-8")
    steps = []
    for line in readme.split("```wire\n")[1].split("```")[0].splitlines():
        if line.startswith("# "):
            steps.append((line[2:], ""))
        else:
            title, data = steps[-1]
            steps[-1] = (title, data + line.split("|")[0].replace(" ", ""))
    return steps


# ---- running ----

FILES = {
    "frames.json": (frames, check_frames),
    "prefaces.json": (prefaces, check_prefaces),
    "tables.json": (tables, check_tables),
    "names.json": (names, check_names),
    "fingerprints.json": (fingerprints, check_fingerprints),
    "payload_bincode.json": (payload_bincode, check_payloads),
    "conversations.json": (conversation, check_conversation),
}


def outcome(run, *arguments):
    """The name of the error that `run` ends with, or what it returned."""
    try:
        return run(*arguments)
    except (wire.Bad, wire.Refused) as refusal:
        return str(refusal)


def same(got, wanted, case):
    if got != wanted:
        raise SystemExit(f"{case}\n  got    {got}\n  wanted {wanted}")


def rendered(value, indent=""):
    """JSON with one vector a line."""
    if isinstance(value, dict) and not indent:
        parts = [f" {json.dumps(key)}: {rendered(part, ' ')}" for key, part in value.items()]
        return "{\n" + ",\n".join(parts) + "\n}\n"
    lines = [indent + " " + json.dumps(item, ensure_ascii=False) for item in value]
    return "[\n" + ",\n".join(lines) + "\n" + indent + "]" + ("" if indent else "\n")


def main():
    checking = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not checking:
        raise SystemExit(__doc__)
    if slow_crc32(b"123456789") != 0xCBF43926 or wire.fnv64(b"foobar") != 0x85944171F73967E8:
        raise SystemExit("the hashes do not agree with their published check values")
    for name, (build, check) in FILES.items():
        path = HERE / name
        made = rendered(build())
        if checking and (not path.exists() or path.read_text(encoding="utf-8") != made):
            raise SystemExit(f"{name} is not up to date: run generate.py")
        check(json.loads(made))
        if not checking:
            path.write_text(made, encoding="utf-8")
        print(f"{name}: ok")


if __name__ == "__main__":
    main()
