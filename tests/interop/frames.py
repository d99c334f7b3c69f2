"""Preface, frames, tables (spec/01-framing.md, 02-handshake.md, 05-status.md, 07-tables.md): bytes
to values and back. What breaks a rule is a Violation that names the reason of the CLOSE.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from values import fnv1a

PREFACE = b"SWBK" + struct.pack(">HH", 1, 1)
EXT_MAX, NO_CEILING, ANY_CALL = 8192, 65535, 0xFFFFFFFF
MORE, FRAGMENT_MAX = 0x80, 65536  # FL-2, FL-4
NOT_PROCESSED, MAYBE, PROCESSED = 0, 1, 2
DISPOSITION = ["NOT_PROCESSED", "MAYBE", "PROCESSED"]


class Kind(IntEnum):
    HELLO, HELLO_ACK, TABLE, TABLE_UPDATE = 1, 2, 3, 4
    REQUEST, RESPONSE, CANCEL, DATA, CREDIT = 0x10, 0x11, 0x12, 0x13, 0x14
    PING, PONG, GOAWAY, CLOSE = 0x20, 0x21, 0x22, 0x23
    SKIPPED = 0x80  # stands for all of 0x80..0xff


REASONS = """NORMAL SHUTDOWN NOT_SWITCHBACK NO_COMMON_VERSION HANDSHAKE_TIMEOUT HEAD_CRC BODY_CRC
FRAME_TOO_LARGE UNKNOWN_KIND UNKNOWN_FLAG UNKNOWN_TLV MALFORMED PROTOCOL CALL_ID TABLE TRANSCRIPT
INTERNAL TOO_MANY_PINGS TOO_MANY_CANCELS TOO_MANY_ERRORS TOO_MANY_FRAMES FRAME_TIMEOUT
SLOW_CONSUMER KEEPALIVE_TIMEOUT IDLE AGE DRAIN_TIMEOUT FLOW_CONTROL""".split()
NAMES = [(0, """OK APP CANCELLED DEADLINE_EXCEEDED UNKNOWN_METHOD UNSUPPORTED_VERSION
SCHEMA_MISMATCH UNSUPPORTED_CODEC BAD_PAYLOAD TOO_LARGE CONVERSION INTERNAL OVERLOADED DRAINING
UNSUPPORTED_FLAG BAD_METADATA"""), (32, """INVALID_ARGUMENT NOT_FOUND ALREADY_EXISTS
PERMISSION_DENIED UNAUTHENTICATED FAILED_PRECONDITION RESOURCE_EXHAUSTED ABORTED OUT_OF_RANGE
UNIMPLEMENTED UNAVAILABLE DATA_LOSS UNKNOWN"""), (0x8000, """CONNECTION_LOST NOT_CONNECTED ENCODE
QUEUE_FULL BAD_RESPONSE""")]
STATUS = {n: at for first, names in NAMES for at, n in enumerate(names.split(), first)}
STATUS_NAME = {number: name for name, number in STATUS.items()}


class Violation(Exception):
    """The other side broke a rule: the connection closes with `reason` (LD-3)."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason, self.detail = reason, detail


class CallFailed(Exception):
    """How a call ended that did not end OK; for APP `error` is the decoded error."""

    def __init__(self, status: str | int, disposition: int, message: str = "",
                 keys: dict[str, Any] | None = None, error: Any = None) -> None:
        self.status = STATUS[status] if isinstance(status, str) else status
        self.name = STATUS_NAME.get(self.status, f"status {self.status}")
        self.disposition, self.message = disposition, message
        self.keys, self.error = keys or {}, error
        super().__init__(f"{self.name}, {DISPOSITION[disposition]}: {message}")


def method_id(name: str) -> int:
    return zlib.crc32(name.encode())


def choose_protocol(ours: tuple[int, int], theirs: tuple[int, int]) -> int | None:
    """HS-4."""
    version = min(ours[1], theirs[1])
    return version if version >= max(ours[0], theirs[0]) else None


def read_preface(data: bytes) -> tuple[int, int] | None:
    """(lo, hi), or None if more bytes are needed; HS-2, HS-3."""
    if data[:4] != PREFACE[: min(4, len(data))]:
        raise Violation("NOT_SWITCHBACK")
    if len(data) < 8:
        return None
    lo, hi = struct.unpack(">HH", data[4:8])
    if not 1 <= lo <= hi:
        raise Violation("MALFORMED", f"versions {lo} to {hi}")
    return lo, hi


# ---- TLVs (FR-9, FR-10) ----


class Key(NamedTuple):
    name: str
    read: Callable[[bytes], Any]  # raises ValueError for a value that the key does not allow
    write: Callable[[Any], bytes]
    required: bool = False


def _number(name: str, size: int, least: int = 0, required: bool = False) -> Key:
    def read(data: bytes) -> int:
        if len(data) != size or int.from_bytes(data) < least:
            raise ValueError
        return int.from_bytes(data)

    return Key(name, read, lambda value: value.to_bytes(size), required)


def _list(name: str, size: int, least: int, most: int, required: bool = False) -> Key:
    def read(data: bytes) -> list[int]:
        items = [int.from_bytes(data[at : at + size]) for at in range(0, len(data), size)]
        is_ascending = size == 8 or sorted(set(items)) == items  # hashes have no order
        if len(data) % size or not least <= len(items) <= most or not is_ascending:
            raise ValueError
        return items

    return Key(name, read, lambda items: b"".join(i.to_bytes(size) for i in items), required)


def _text(name: str, most: int) -> Key:
    def read(data: bytes) -> str:
        if len(data) > most:
            raise ValueError
        return data.decode("utf-8")

    return Key(name, read, lambda text: text.encode("utf-8"))


def _empty(data: bytes) -> bool:
    if data:
        raise ValueError
    return True


METADATA_KEY, METADATA_MAX, METADATA_NAME = 16, 64, re.compile(rb"[a-z0-9_.-]{1,64}")


def _read_metadata(data: bytes) -> tuple[str, bytes]:
    name = data[1 : 1 + data[0]] if data else b""
    if not data or len(name) != data[0] or not METADATA_NAME.fullmatch(name):
        raise ValueError
    return name.decode(), data[1 + len(name) :]


def _write_metadata(entry: tuple[str, bytes]) -> bytes:
    return bytes([len(entry[0])]) + entry[0].encode() + entry[1]


_METADATA = Key("metadata", _read_metadata, _write_metadata)
_LIMIT = _number("frame_bytes_max", 4, 65536, required=True)
_CODECS = _list("codecs", 1, 1, 32, required=True)
_WINDOW = _number("window_connection", 4, 65536)
KEYS: dict[int, dict[int, Key]] = {
    Kind.HELLO: {
        1: _LIMIT, 3: _CODECS, 4: _text("build", 64), 5: _list("tables", 8, 0, 8), 9: _WINDOW},
    Kind.HELLO_ACK: {
        1: _LIMIT, 2: _number("calls_max", 4, 1, required=True), 3: _CODECS,
        4: _text("build", 64), 5: _list("tables", 8, 1, 1, required=True),
        6: _number("transcript", 8, required=True),
        7: Key("fallback", _empty, lambda _: b""), 9: _WINDOW},
    Kind.REQUEST: {METADATA_KEY: _METADATA},
    Kind.RESPONSE: {
        1: _text("message", 1024), 2: _number("retry_after_ms", 4), 3: _list("versions", 2, 0, 64),
        4: _list("codecs", 1, 1, 32), 5: _number("fingerprint", 4), 6: _number("limit", 8),
        7: _number("value", 8), METADATA_KEY: _METADATA},
}


def encode_tlvs(kind: int, values: dict[str, Any]) -> bytes:
    out = bytearray()
    for number, key in KEYS.get(kind, {}).items():
        if (value := values.get(key.name)) is not None:
            for item in value if number == METADATA_KEY else [value]:
                data = key.write(item)
                out += struct.pack(">HH", number, len(data)) + data
    return bytes(out)


def parse_tlvs(kind: int, block: bytes) -> tuple[dict[str, Any], str | None]:
    """The known keys, and MALFORMED, UNKNOWN_TLV or None."""
    known, values, fault, last, at = KEYS.get(kind, {}), {}, None, -1, 0
    while at < len(block):
        if at + 4 > len(block):
            return values, "MALFORMED"
        number, size = struct.unpack_from(">HH", block, at)
        data, at = block[at + 4 : at + 4 + size], at + 4 + size
        if at > len(block) or number < last:
            return values, "MALFORMED"
        last, key = number, known.get(number)
        if key is None:
            fault = "UNKNOWN_TLV" if number >= 0x8000 else fault
            continue
        try:
            value = key.read(data)
        except ValueError:
            return values, "MALFORMED"
        have = values.setdefault(key.name, [])
        if number == METADATA_KEY and len(have) < METADATA_MAX:
            have.append(value)
        elif number != METADATA_KEY and have == []:
            values[key.name] = [value]
        else:
            return values, "MALFORMED"
    return {name: v if name == "metadata" else v[0] for name, v in values.items()}, fault


# ---- frames (FR-1 to FR-11) ----

HEAD, NOTHING = struct.Struct(">IBBHI"), (struct.Struct(""), ())
FIXED: dict[int, tuple[struct.Struct, tuple[str, ...]]] = {
    Kind.REQUEST: (struct.Struct(">IHBBII"), (
        "method", "version", "codec", "attempt_priority", "timeout_ms", "fingerprint")),
    Kind.RESPONSE: (struct.Struct(">HBB"), ("status", "disposition", "codec")),
    Kind.CREDIT: (struct.Struct(">I"), ("bytes",)),
    Kind.GOAWAY: (struct.Struct(">IHI"), ("last_call", "reason", "grace_ms")),
    Kind.CLOSE: (struct.Struct(">HI"), ("reason", "last_call")),
}
NO_PAYLOAD = {Kind.HELLO, Kind.HELLO_ACK, Kind.CANCEL, Kind.CREDIT, Kind.GOAWAY}
HAS_MORE = {Kind.REQUEST, Kind.DATA}
KNOWN = {int(kind) for kind in Kind} - {Kind.SKIPPED}
DETAIL = _text("detail", 256)


@dataclass
class Frame:
    kind: int
    call: int
    code: int  # the kind's number, also of one that is skipped
    v: dict[str, Any] = field(default_factory=dict)  # fixed fields, TLVs, and `more`, by name
    payload: bytes = b""
    refused: str | None = None  # REQUEST: UNSUPPORTED_FLAG or BAD_METADATA
    raw: bytes = b""


def encode_frame(kind: int, call: int = 0, values: dict[str, Any] | None = None,
                 payload: bytes = b"", tlvs: bytes | None = None, flags: int = 0) -> bytes:
    """`tlvs`: instead of those that `values` come to."""
    values, (form, names) = values or {}, FIXED.get(kind, NOTHING)
    tlvs = encode_tlvs(kind, values) if tlvs is None else tlvs
    flags |= MORE if values.get("more") else 0
    body = form.pack(*(values[name] for name in names)) + tlvs + payload
    head = HEAD.pack(len(body) + 4, kind, flags, len(tlvs), call)
    return b"".join((head, zlib.crc32(head).to_bytes(4), body, zlib.crc32(body).to_bytes(4)))


def unknown_flags(kind: int, flags: int) -> int:
    """FR-8: the high flags that mean nothing there."""
    return flags & 0xF0 & ~(MORE if kind in HAS_MORE else 0)


class FrameReader:
    """Bytes in any pieces to frames, judged in the order of FR-2; side, call and turn are not."""

    def __init__(self, limit: int) -> None:
        self.limit, self.buffer = limit, bytearray()
        self._head: tuple[int, ...] | None = None

    def next(self) -> Frame | None:
        """The next frame, or None while more bytes are needed."""
        if self._head is None:
            if len(self.buffer) < 16:
                return None
            self._head = self._judge_head(bytes(self.buffer[:16]))
        size = 16 + self._head[0]
        if len(self.buffer) < size:
            return None
        raw, head, self._head = bytes(self.buffer[:size]), self._head, None
        del self.buffer[:size]
        if zlib.crc32(raw[16:-4]).to_bytes(4) != raw[-4:]:
            raise Violation("BODY_CRC")
        return self._body(raw, *head[1:])

    def _judge_head(self, head: bytes) -> tuple[int, ...]:
        if zlib.crc32(head[:12]).to_bytes(4) != head[12:]:
            raise Violation("HEAD_CRC")
        body_len, kind, flags, ext_len, call = HEAD.unpack(head[:12])
        if body_len > self.limit:
            raise Violation("FRAME_TOO_LARGE", f"{body_len} above {self.limit}")
        if kind < 0x80 and kind not in KNOWN:
            raise Violation("UNKNOWN_KIND", f"kind {kind:#x}")
        if unknown_flags(kind, flags) and kind != Kind.REQUEST:
            raise Violation("UNKNOWN_FLAG", f"flags {flags:#x}")
        fixed = FIXED.get(kind, NOTHING)[0].size
        if ext_len > EXT_MAX or body_len < 4 + fixed + ext_len:
            raise Violation("MALFORMED", "the body is shorter than its parts")
        return body_len, kind, flags, ext_len, call

    @staticmethod
    def _body(raw: bytes, kind: int, flags: int, ext_len: int, call: int) -> Frame:
        """Fixed fields, TLVs, payload."""
        if kind >= 0x80:
            return Frame(Kind.SKIPPED, call, kind, payload=raw[16:-4])
        form, names = FIXED.get(kind, NOTHING)
        start = 16 + form.size
        values = dict(zip(names, form.unpack_from(raw, 16)))
        keys, fault = parse_tlvs(kind, raw[start : start + ext_len])
        payload = raw[start + ext_len : -4]
        frame = Frame(kind, call, kind, values | keys, payload, raw=raw)
        if kind in HAS_MORE and flags & MORE:
            frame.v["more"] = True
        if kind == Kind.REQUEST:
            is_flagged = unknown_flags(kind, flags)
            frame.refused = "UNSUPPORTED_FLAG" if is_flagged else "BAD_METADATA" if fault else None
            return frame
        if kind == Kind.RESPONSE and (values["status"] >= 0x8000 or values["disposition"] > 2):
            raise Violation("MALFORMED", "status or disposition")
        if fault:
            raise Violation(fault, "TLVs")
        if any(key.required and key.name not in keys for key in KEYS.get(kind, {}).values()):
            raise Violation("MALFORMED", "a required key is missing")
        is_empty = kind in NO_PAYLOAD or kind == Kind.RESPONSE and values["status"] > STATUS["APP"]
        is_ping = kind in (Kind.PING, Kind.PONG)
        is_long = kind == Kind.DATA and len(payload) > FRAGMENT_MAX
        if is_empty and payload or is_ping and len(payload) != 8 or is_long:
            raise Violation("MALFORMED", "payload")
        if kind == Kind.CLOSE:
            try:
                frame.v["detail"] = DETAIL.read(payload)
            except ValueError:
                raise Violation("MALFORMED", "detail") from None
        if kind in (Kind.TABLE, Kind.TABLE_UPDATE):
            frame.v["table"] = parse_table(payload, kind == Kind.TABLE_UPDATE)
        return frame


# ---- tables (RT-3 to RT-6) ----


class Entry(NamedTuple):
    ceiling: int
    versions: dict[int, int]  # version to 64-bit fingerprint

    def callable(self) -> list[int]:
        return [version for version in sorted(self.versions) if version <= self.ceiling]


Table = dict[int, Entry]
METHODS_MAX, VERSIONS_MAX = 2048, 4096


def check_table(table: Table) -> None:
    versions = sum(len(entry.versions) for entry in table.values())
    if len(table) > METHODS_MAX or versions > VERSIONS_MAX:
        raise Violation("MALFORMED", "a table of more than RT-3 allows")


def _rows(table: Table) -> bytes:
    out = bytearray(len(table).to_bytes(2))
    for method, entry in sorted(table.items()):
        out += struct.pack(">IHB", method, entry.ceiling, len(entry.versions))
        for pair in sorted(entry.versions.items()):
            out += struct.pack(">HQ", *pair)
    return bytes(out)


def table_hash(table: Table) -> int:
    return fnv1a(_rows(table))


def table_payload(full: Table, changed: Table | None = None) -> bytes:
    return table_hash(full).to_bytes(8) + _rows(full if changed is None else changed)


def parse_table(payload: bytes, is_update: bool) -> tuple[int, Table]:
    """(hash, entries) of a TABLE or TABLE_UPDATE: its form, not its hash."""
    try:
        named, count = struct.unpack_from(">QH", payload)
        table, at, last = {}, 10, -1
        for _ in range(min(count, METHODS_MAX + 1)):
            method, ceiling, n = struct.unpack_from(">IHB", payload, at)
            pairs = list(struct.iter_unpack(">HQ", payload[at + 7 : at + 7 + 10 * n]))
            at += 7 + 10 * n
            versions = [version for version, _ in pairs]
            is_sound = len(pairs) == n <= 64 and sorted(set(versions)) == versions
            if method <= last or not (n or is_update) or not is_sound or {0, 65535} & {*versions}:
                raise Violation("MALFORMED", "a table entry")
            table[method], last = Entry(ceiling, dict(pairs)), method
    except struct.error:
        raise Violation("MALFORMED", "a table that is cut") from None
    if at != len(payload):
        raise Violation("MALFORMED", "a table with bytes left over")
    check_table(table)
    return named, table


def check_hash(named: int, table: Table) -> None:
    if named != table_hash(table):
        raise Violation("TABLE", "the hash is not that of the table")


def apply_update(before: Table, named: int, changed: Table) -> Table:
    """RT-5."""
    after = {method: e for method, e in (before | changed).items() if e.versions}
    check_table(after)
    check_hash(named, after)
    return after


def choose_version(table: Table, method: int, known: Iterable[int]) -> int | None:
    """RT-6."""
    return max({*known} & {*table[method].callable()}, default=None) if method in table else None
