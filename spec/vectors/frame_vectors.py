"""The vectors of frames.json: good frames, broken ones, refused requests."""

import wire
from common import (LEDGER, V2_ERROR, V2_REQUEST, V2_RESPONSE, V2_TEXT, encoded, fold, hex64,
                    method, outcome, same)


LONGEST = bytes(range(256)) * 256  # the payload of a DATA, FL-4


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


def goaway(**changes):
    return {"kind": "GOAWAY", "call": 0, "last_call": 4294967295, "reason": 1,
            "grace_ms": 30000} | changes


def data(payload=b"", **changes):
    return {"kind": "DATA", "call": 1, "payload_hex": payload.hex()} | changes


def credit(size):
    return {"kind": "CREDIT", "call": 0, "bytes": size}


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
        ("hello_ack_fallback", hello_ack(fallback=True)),
        ("hello_window_least", hello(window_connection=65536)),
        ("hello_window_most", hello(build="x", window_connection=4294967295)),
        ("hello_ack_window", hello_ack(window_connection=4194304)),
        ("hello_ack_fallback_and_window", hello_ack(fallback=True, window_connection=65536)),
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
        ("request_more", request(more=True, payload_hex=v2, metadata=[meta("k", b"v")])),
        ("request_more_empty", request(more=True, call=3)),
        ("response_ok", response(payload_hex=encoded(V2_RESPONSE, {"entry": 41, "balance": -300}))),
        ("response_ok_empty", response(call=4294967295)),
        ("request_json", request(method=wire.method_id("interop.Peer/echo"), version=1, codec=3,
                                 payload_hex=b'{"text":"h\xc3\xa9llo"}'.hex())),
        ("response_json", response(codec=3, payload_hex=b'{"text":"h\xc3\xa9llo"}'.hex())),
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
        ("data", data(b"the end")),
        ("data_more", data(b"and so on", more=True, call=4294967295)),
        ("data_empty", data()),
        ("data_more_empty", data(more=True)),
        ("data_longest", data(LONGEST, more=True)),
        ("credit", credit(2097152)),
        ("credit_zero", credit(0)),
        ("credit_most", credit(4294967295)),
        ("ping", ping()),
        ("ping_zero", ping(opaque="00" * 8)),
        ("pong", ping("PONG")),
        ("pong_ones", ping("PONG", "ff" * 8)),
        ("goaway_first", goaway()),
        ("goaway_last", goaway(last_call=4711, reason=25, grace_ms=0)),
        ("goaway_limits", goaway(last_call=0, reason=65535, grace_ms=4294967295)),
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
        ("request_more_low_flags", request_raw(flags=0x8F, ext=extra)),
        ("data_tlv", wire.frame("DATA", 3, ext=twice, payload=b"x")),
        ("data_more_tlv_low_flags", wire.frame("DATA", 3, ext=extra, payload=b"x", flags=0x85)),
        ("credit_tlv", wire.frame("CREDIT", fixed=bytes(3) + b"\x01", ext=extra, flags=1)),
        ("request_unknown_tlvs", request_raw(ext=wire.tlv(1, b"") + meta_tlv(b"k", b"v") + extra)),
        ("request_reserved_priority_bits", request_raw(tail=0x2E)),
        ("request_ext_limit", request_raw(ext=wire.tlv(1000, bytes(8188)))),
        ("response_unknown_tlvs", response_raw(ext=wire.tlv(8, b"") + extra, payload=b"\x01")),
        ("cancel_tlv", wire.frame("CANCEL", 3, ext=extra, flags=1)),
        ("ping_tlv", wire.frame("PING", ext=extra, payload=bytes(range(8)))),
        ("table_tlv", wire.frame("TABLE", ext=extra, payload=wire.table_payload([]))),
        ("goaway_tlv", wire.frame("GOAWAY", fixed=bytes(10), ext=extra)),
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
        ("head_crc_before_kind", flipped(wire.frame(0x15), 15, 0), None, "HEAD_CRC"),
        ("body_crc_payload_flipped", flipped(call, 33, 3), None, "BODY_CRC"),
        ("body_crc_fixed_flipped", flipped(call, 16, 0), None, "BODY_CRC"),
        ("body_crc_itself_flipped", flipped(good, len(good) - 1, 0), None, "BODY_CRC"),
        ("body_crc_data_flipped", flipped(wire.frame("DATA", 1, payload=b"x"), 16, 0), None,
         "BODY_CRC"),
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
        ("unknown_kind_15", wire.frame(0x15, 1, payload=b"x"), None, "UNKNOWN_KIND"),
        ("unknown_kind_24", wire.frame(0x24, payload=bytes(10)), None, "UNKNOWN_KIND"),
        ("unknown_kind_highest", wire.frame(0x7F), None, "UNKNOWN_KIND"),
        ("high_flag_ping", wire.frame("PING", payload=bytes(8), flags=0x10), None, "UNKNOWN_FLAG"),
        ("high_flag_response", wire.frame("RESPONSE", 1, bytes(4), flags=0x80), None,
         "UNKNOWN_FLAG"),
        ("high_flag_cancel", wire.frame("CANCEL", 1, flags=0x4F), None, "UNKNOWN_FLAG"),
        ("high_flag_data", wire.frame("DATA", 1, flags=0x40), None, "UNKNOWN_FLAG"),
        ("high_flag_data_more", wire.frame("DATA", 1, flags=0xA0), None, "UNKNOWN_FLAG"),
        ("more_on_cancel", wire.frame("CANCEL", 1, flags=0x80), None, "UNKNOWN_FLAG"),
        ("more_on_credit", wire.frame("CREDIT", fixed=bytes(4), flags=0x80), None, "UNKNOWN_FLAG"),
        ("more_on_hello", wire.frame("HELLO", ext=wire.handshake_tlvs(hello()), flags=0x80), None,
         "UNKNOWN_FLAG"),
        ("more_on_skipped_kind", wire.frame(0x90, flags=0x80), None, "UNKNOWN_FLAG"),
        ("high_flag_skipped_kind", wire.frame(0x90, flags=0x20), None, "UNKNOWN_FLAG"),
        ("no_room_for_crc", with_body_len(wire.frame("CANCEL", 1), 3)[:19], None, "MALFORMED"),
        ("no_room_for_fixed", wire.frame("REQUEST", 1, bytes(15)), None, "MALFORMED"),
        ("no_room_for_response", wire.frame("RESPONSE", 1, bytes(3)), None, "MALFORMED"),
        ("no_room_for_credit", wire.frame("CREDIT", 0, bytes(3)), None, "MALFORMED"),
        ("no_room_for_goaway", wire.frame("GOAWAY", 0, bytes(9)), None, "MALFORMED"),
        ("no_room_for_close", wire.frame("CLOSE", 0, bytes(5)), None, "MALFORMED"),
        ("no_room_for_ext", ext_len_of(wire.frame("CANCEL", 1, payload=b"abc"), 4), None,
         "MALFORMED"),
        ("ext_above_limit", big_ext, None, "MALFORMED"),
        ("ext_above_limit_skipped_kind", wire.frame(0x90, ext=bytes(8193)), None, "MALFORMED"),
    ]


def ext_len_of(data, ext_len):
    head = data[:6] + wire.be(ext_len, 2) + data[8:12]
    return head + wire.be(wire.crc32(head), 4) + data[16:]


def with_payload(data):
    """The frame with one byte of payload more."""
    return wire.frame(data[4], wire.num(data[8:12]), ext=data[16:-4], payload=b"x")


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
        ("critical_tlv_data", wire.frame("DATA", 1, ext=critical, payload=b"x"), "UNKNOWN_TLV"),
        ("critical_tlv_credit", wire.frame("CREDIT", 0, bytes(4), critical), "UNKNOWN_TLV"),
        ("data_tlv_cut", wire.frame("DATA", 1, ext=b"\x00\x20\x00", payload=b"x"), "MALFORMED"),
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
        ("hello_ack_fallback_value", handshake("HELLO_ACK", change={7: b"\x01"}), "MALFORMED"),
        ("hello_ack_fallback_twice", handshake("HELLO_ACK", change={7: b""}, extra=wire.tlv(7, b"")),
         "MALFORMED"),
        ("hello_window_low", handshake("HELLO", change={9: wire.be(65535, 4)}), "MALFORMED"),
        ("hello_window_size_3", handshake("HELLO", change={9: b"\x01\x00\x00"}), "MALFORMED"),
        ("hello_window_size_8", handshake("HELLO", change={9: wire.be(65536, 8)}), "MALFORMED"),
        ("hello_window_twice", handshake("HELLO", change={9: wire.be(65536, 4)},
                                         extra=wire.tlv(9, wire.be(65536, 4))), "MALFORMED"),
        ("hello_ack_window_low", handshake("HELLO_ACK", change={9: bytes(4)}), "MALFORMED"),
        ("hello_ack_window_empty", handshake("HELLO_ACK", change={9: b""}), "MALFORMED"),
        ("hello_ack_window_size_5", handshake("HELLO_ACK", change={9: b"\x01" * 5}), "MALFORMED"),
        ("hello_payload_and_critical_tlv", with_payload(handshake("HELLO", extra=critical)),
         "UNKNOWN_TLV"),
        ("ping_7_and_critical_tlv", wire.frame("PING", ext=critical, payload=bytes(7)),
         "UNKNOWN_TLV"),
        ("response_status_local_and_critical_tlv", response_raw(status=0x8000, ext=critical),
         "MALFORMED"),
        ("response_error_with_payload_and_critical_tlv",
         response_raw(status=11, ext=critical, payload=b"x"), "UNKNOWN_TLV"),
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
        ("data_65537", wire.frame("DATA", 1, payload=LONGEST + b"x"), "MALFORMED"),
        ("credit_payload", wire.frame("CREDIT", 0, bytes(4), payload=b"x"), "MALFORMED"),
        ("credit_8", wire.frame("CREDIT", 0, wire.be(1, 8)), "MALFORMED"),
        ("ping_7", wire.frame("PING", payload=bytes(7)), "MALFORMED"),
        ("pong_9", wire.frame("PONG", payload=bytes(9)), "MALFORMED"),
        ("goaway_payload", wire.frame("GOAWAY", fixed=bytes(10), payload=b"x"), "MALFORMED"),
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
             for bit in (0x10, 0x20, 0x40, 0xC0, 0xFF)]
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
