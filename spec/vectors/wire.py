"""Frames, prefaces and method tables of switchback version 1, in plain Python 3.

An implementation of ../01-framing.md, ../02-handshake.md and ../07-tables.md of its own, standard
library only, so that the golden vectors do not come from the code that they test. It is written to
be read next to the spec, not to be fast.
"""

import zlib

FRAME_BYTES_MAX = 4 * 1024 * 1024
EXT_BYTES_MAX = 8192
KINDS = {
    0x01: "HELLO", 0x02: "HELLO_ACK", 0x03: "TABLE", 0x04: "TABLE_UPDATE",
    0x10: "REQUEST", 0x11: "RESPONSE", 0x12: "CANCEL", 0x13: "DATA", 0x14: "CREDIT",
    0x20: "PING", 0x21: "PONG", 0x22: "GOAWAY", 0x23: "CLOSE",
}
CODES = {name: code for code, name in KINDS.items()}
FIXED_BYTES = {"REQUEST": 16, "RESPONSE": 4, "CREDIT": 4, "GOAWAY": 10, "CLOSE": 6}
CRITICAL = 0x8000
KNOWN_KEYS = {"HELLO": (1, 3, 4, 5, 9), "HELLO_ACK": (1, 2, 3, 4, 5, 6, 7, 9), "REQUEST": (16,),
              "RESPONSE": (1, 2, 3, 4, 5, 6, 7, 16)}
MORE = 0x80  # FL-2, a flag of these kinds
MORE_KINDS = ("REQUEST", "DATA")
DATA_BYTES_MAX = 65536  # FL-4


class Bad(Exception):
    """A frame that closes the connection, by the name of the close reason."""


class Refused(Exception):
    """A request that is refused, by the name of the status; the connection stays open."""


def crc32(data):
    """FR-5: CRC-32 as in IEEE 802.3, zlib and PNG."""
    return zlib.crc32(data) & 0xFFFFFFFF


def fnv64(data):
    """FNV-1a, 64 bits."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def be(value, size):
    return value.to_bytes(size, "big")


def num(data):
    return int.from_bytes(data, "big")


def method_id(name):
    """RT-1."""
    return crc32(name.encode())


# ---- TLVs ----

def tlv(key, value):
    return be(key, 2) + be(len(value), 2) + value


def split_tlvs(ext, repeatable, known):
    """FR-9: (key, value) pairs, or Bad("MALFORMED")."""
    pairs, at, last = [], 0, -1
    while at < len(ext):
        if len(ext) - at < 4:
            raise Bad("MALFORMED")
        key, size = num(ext[at:at + 2]), num(ext[at + 2:at + 4])
        at += 4
        if size > len(ext) - at or key < last:
            raise Bad("MALFORMED")
        if key == last and key in known and key not in repeatable:
            raise Bad("MALFORMED")
        pairs.append((key, ext[at:at + size]))
        at, last = at + size, key
    return pairs


def known_tlvs(ext, known, repeatable=()):
    """FR-10: the pairs whose key is known; an unknown critical key raises."""
    pairs = split_tlvs(ext, repeatable, known)
    for key, _ in pairs:
        if key not in known and key & CRITICAL:
            raise Bad("UNKNOWN_TLV")
    return [(key, value) for key, value in pairs if key in known]


def need(condition):
    if not condition:
        raise Bad("MALFORMED")


def text(data, bytes_max):
    need(len(data) <= bytes_max)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise Bad("MALFORMED") from None


def sized(data, size):
    need(len(data) == size)
    return num(data)


# ---- frames ----

def frame(kind, call=0, fixed=b"", ext=b"", payload=b"", flags=0):
    """FR-1: a whole frame."""
    code = CODES.get(kind, kind)
    body = fixed + ext + payload
    head = be(len(body) + 4, 4) + bytes([code, flags]) + be(len(ext), 2) + be(call, 4)
    return head + be(crc32(head), 4) + body + be(crc32(body), 4)


def encode(f):
    """The one way in which a sender writes the frame that a vector describes."""
    kind, call = f["kind"], f["call"]
    payload = bytes.fromhex(f.get("payload_hex", ""))
    if kind in ("HELLO", "HELLO_ACK"):
        return frame(kind, call, ext=handshake_tlvs(f))
    if kind == "REQUEST":
        fixed = be(f["method"], 4) + be(f["version"], 2) + be(f["codec"], 1)
        fixed += be(f["attempt"] << 4 | f["priority"], 1)
        fixed += be(f["timeout_ms"], 4) + be(f["fingerprint"], 4)
        return frame(kind, call, fixed, metadata_tlvs(f["metadata"]), payload, more(f))
    if kind == "RESPONSE":
        fixed = be(f["status"], 2) + be(f["disposition"], 1) + be(f["codec"], 1)
        return frame(kind, call, fixed, response_tlvs(f), payload)
    if kind == "CLOSE":
        fixed = be(f["reason"], 2) + be(f["last_call"], 4)
        return frame(kind, call, fixed, payload=f["detail"].encode())
    if kind == "GOAWAY":
        fixed = be(f["last_call"], 4) + be(f["reason"], 2) + be(f["grace_ms"], 4)
        return frame(kind, call, fixed)
    if kind == "CREDIT":
        return frame(kind, call, be(f["bytes"], 4))
    if kind in ("PING", "PONG"):
        return frame(kind, call, payload=bytes.fromhex(f["opaque_hex"]))
    return frame(kind, call, payload=payload, flags=more(f))


def more(f):
    return MORE if f.get("more") else 0


def handshake_tlvs(f):
    ext = tlv(1, be(f["frame_bytes_max"], 4))
    if "calls_max" in f:
        ext += tlv(2, be(f["calls_max"], 4))
    ext += tlv(3, bytes(f["codecs"]))
    if "build" in f:
        ext += tlv(4, f["build"].encode())
    if "tables" in f:
        ext += tlv(5, b"".join(bytes.fromhex(h) for h in f["tables"]))
    if "transcript" in f:
        ext += tlv(6, bytes.fromhex(f["transcript"]))
    if f.get("fallback"):
        ext += tlv(7, b"")
    if "window_connection" in f:
        ext += tlv(9, be(f["window_connection"], 4))
    return ext


def metadata_tlvs(entries):
    ext = b""
    for entry in entries:
        name = entry["name"].encode()
        ext += tlv(16, bytes([len(name)]) + name + bytes.fromhex(entry["value_hex"]))
    return ext


def response_tlvs(f):
    ext = b""
    if "message" in f:
        ext += tlv(1, f["message"].encode())
    if "retry_after_ms" in f:
        ext += tlv(2, be(f["retry_after_ms"], 4))
    if "versions" in f:
        ext += tlv(3, b"".join(be(v, 2) for v in f["versions"]))
    if "codecs" in f:
        ext += tlv(4, bytes(f["codecs"]))
    if "fingerprint" in f:
        ext += tlv(5, be(f["fingerprint"], 4))
    if "limit" in f:
        ext += tlv(6, be(f["limit"], 8))
    if "value" in f:
        ext += tlv(7, be(f["value"], 8))
    return ext + metadata_tlvs(f["metadata"])


def decode(data, limit=FRAME_BYTES_MAX):
    """One frame out of bytes, in the order of FR-2. Bad, Refused, or (fields, bytes used)."""
    if len(data) < 16:
        raise Bad("INCOMPLETE")
    if crc32(data[:12]) != num(data[12:16]):
        raise Bad("HEAD_CRC")
    body_len, code, flags = num(data[:4]), data[4], data[5]
    ext_len, call = num(data[6:8]), num(data[8:12])
    if body_len > limit:
        raise Bad("FRAME_TOO_LARGE")
    kind = KINDS.get(code)
    if kind is None and not code & 0x80:
        raise Bad("UNKNOWN_KIND")
    if unknown_flags(kind, flags) and kind != "REQUEST":
        raise Bad("UNKNOWN_FLAG")
    fixed = FIXED_BYTES.get(kind, 0)
    need(ext_len <= EXT_BYTES_MAX and body_len >= 4 + fixed + ext_len)
    if len(data) < 16 + body_len:
        raise Bad("INCOMPLETE")
    body = data[16:16 + body_len - 4]
    if crc32(body) != num(data[16 + body_len - 4:16 + body_len]):
        raise Bad("BODY_CRC")
    fields = {"kind": kind or "SKIPPED", "call": call}
    if kind is None:
        fields["code"] = code
        fields["body_hex"] = body.hex()
    else:
        parse(fields, flags, body[:fixed], body[fixed:fixed + ext_len], body[fixed + ext_len:])
    return fields, 16 + body_len


def unknown_flags(kind, flags):
    """FR-8: the high flags that mean nothing there."""
    return flags & (0x70 if kind in MORE_KINDS else 0xF0)


def parse(f, flags, fixed, ext, payload):
    kind = f["kind"]
    if kind in MORE_KINDS and flags & MORE:
        f["more"] = True
    if kind in ("HELLO", "HELLO_ACK"):
        parse_handshake(f, ext)
        need(not payload)
    elif kind == "REQUEST":
        parse_request(f, flags, fixed, ext)
        f["payload_hex"] = payload.hex()
    elif kind == "RESPONSE":
        parse_response(f, fixed, ext, payload)
    else:
        known_tlvs(ext, ())
        if kind == "CLOSE":
            f["reason"], f["last_call"] = num(fixed[:2]), num(fixed[2:])
            f["detail"] = text(payload, 256)
        elif kind == "GOAWAY":
            need(not payload)
            f["last_call"], f["reason"] = num(fixed[:4]), num(fixed[4:6])
            f["grace_ms"] = num(fixed[6:])
        elif kind in ("PING", "PONG"):
            need(len(payload) == 8)
            f["opaque_hex"] = payload.hex()
        elif kind == "CREDIT":
            need(not payload)
            f["bytes"] = num(fixed)
        elif kind == "DATA":
            need(len(payload) <= DATA_BYTES_MAX)
            f["payload_hex"] = payload.hex()
        elif kind == "CANCEL":
            need(not payload)
        else:
            f["payload_hex"] = payload.hex()


def parse_handshake(f, ext):
    ack = f["kind"] == "HELLO_ACK"
    known = dict(known_tlvs(ext, KNOWN_KEYS[f["kind"]]))
    need({1, 3} <= known.keys() and (not ack or {2, 5, 6} <= known.keys()))
    f["frame_bytes_max"] = sized(known[1], 4)
    need(f["frame_bytes_max"] >= 65536)
    if ack:
        f["calls_max"] = sized(known[2], 4)
        need(f["calls_max"] >= 1)
    f["codecs"] = list(known[3])
    need(1 <= len(known[3]) <= 32 and f["codecs"] == sorted(set(f["codecs"])))
    if 4 in known:
        f["build"] = text(known[4], 64)
    if 5 in known:
        need(len(known[5]) == 8 if ack else len(known[5]) % 8 == 0 and len(known[5]) <= 64)
        f["tables"] = [known[5][i:i + 8].hex() for i in range(0, len(known[5]), 8)]
    if ack:
        sized(known[6], 8)
        f["transcript"] = known[6].hex()
        if 7 in known:
            sized(known[7], 0)
            f["fallback"] = True
    if 9 in known:
        f["window_connection"] = sized(known[9], 4)
        need(f["window_connection"] >= 65536)


def parse_metadata(values):
    need(len(values) <= 64)
    entries = []
    for value in values:
        need(len(value) >= 1 and 1 <= value[0] <= 64 and len(value) >= 1 + value[0])
        name = value[1:1 + value[0]]
        need(all(c in b"abcdefghijklmnopqrstuvwxyz0123456789_.-" for c in name))
        entries.append({"name": name.decode(), "value_hex": value[1 + value[0]:].hex()})
    return entries


def parse_request(f, flags, fixed, ext):
    if unknown_flags("REQUEST", flags):
        raise Refused("UNSUPPORTED_FLAG")
    f["method"], f["version"], f["codec"] = num(fixed[:4]), num(fixed[4:6]), fixed[6]
    f["attempt"], f["priority"] = fixed[7] >> 4, fixed[7] & 3
    f["timeout_ms"], f["fingerprint"] = num(fixed[8:12]), num(fixed[12:16])
    try:
        pairs = known_tlvs(ext, KNOWN_KEYS["REQUEST"], repeatable=(16,))
        f["metadata"] = parse_metadata([value for _, value in pairs])
    except Bad:
        raise Refused("BAD_METADATA") from None


def parse_response(f, fixed, ext, payload):
    f["status"], f["disposition"], f["codec"] = num(fixed[:2]), fixed[2], fixed[3]
    need(f["status"] < 0x8000 and f["disposition"] <= 2)
    pairs = known_tlvs(ext, KNOWN_KEYS["RESPONSE"], repeatable=(16,))
    one = dict(pairs)
    if 1 in one:
        f["message"] = text(one[1], 1024)
    if 2 in one:
        f["retry_after_ms"] = sized(one[2], 4)
    if 3 in one:
        need(len(one[3]) % 2 == 0 and len(one[3]) <= 128)
        f["versions"] = [num(one[3][i:i + 2]) for i in range(0, len(one[3]), 2)]
        need(f["versions"] == sorted(set(f["versions"])))
    if 4 in one:
        f["codecs"] = list(one[4])
        need(1 <= len(one[4]) <= 32 and f["codecs"] == sorted(set(f["codecs"])))
    if 5 in one:
        f["fingerprint"] = sized(one[5], 4)
    if 6 in one:
        f["limit"] = sized(one[6], 8)
    if 7 in one:
        f["value"] = sized(one[7], 8)
    f["metadata"] = parse_metadata([value for key, value in pairs if key == 16])
    need(f["status"] in (0, 1) or not payload)
    f["payload_hex"] = payload.hex()


# ---- preface ----

def preface(lo, hi):
    """HS-1."""
    return b"SWBK" + be(lo, 2) + be(hi, 2)


def parse_preface(data):
    """HS-2, HS-3: (lo, hi), or Bad."""
    if data[:4] != b"SWBK"[:len(data[:4])]:
        raise Bad("NOT_SWITCHBACK")
    if len(data) < 8:
        raise Bad("INCOMPLETE")
    lo, hi = num(data[4:6]), num(data[6:8])
    need(1 <= lo <= hi)
    return lo, hi


def choose_protocol(ours, theirs):
    """HS-4: the version, or None."""
    highest = min(ours[1], theirs[1])
    return highest if highest >= max(ours[0], theirs[0]) else None


# ---- method tables ----

def table_body(methods):
    out = be(len(methods), 2)
    for m in methods:
        out += be(m["method"], 4) + be(m["ceiling"], 2) + bytes([len(m["versions"])])
        for v in m["versions"]:
            out += be(v["version"], 2) + bytes.fromhex(v["fingerprint"])
    return out


def table_hash(methods):
    """RT-3."""
    return be(fnv64(table_body(methods)), 8).hex()


def table_payload(methods):
    """RT-3: the payload of TABLE."""
    return bytes.fromhex(table_hash(methods)) + table_body(methods)


def update_payload(before, after):
    """RT-5: the payload of TABLE_UPDATE that makes `after` out of `before`."""
    old = {m["method"]: m for m in before}
    new = {m["method"]: m for m in after}
    changed = []
    for method in sorted(old.keys() | new.keys()):
        if method not in new:
            changed.append({"method": method, "ceiling": 0, "versions": []})
        elif old.get(method) != new[method]:
            changed.append(new[method])
    return bytes.fromhex(table_hash(after)) + table_body(changed)


def parse_table(data, update=False):
    """(hash, methods), or Bad("MALFORMED"); the hash is not compared here."""
    need(len(data) >= 10)
    count, at, methods = num(data[8:10]), 10, []
    need(count <= 2048)
    for _ in range(count):
        need(len(data) - at >= 7)
        n = data[at + 6]
        m = {"method": num(data[at:at + 4]), "ceiling": num(data[at + 4:at + 6]), "versions": []}
        need(n <= 64 and (update or n >= 1))
        need(not methods or methods[-1]["method"] < m["method"])
        at += 7
        need(len(data) - at >= 10 * n)
        for _ in range(n):
            version = num(data[at:at + 2])
            need(1 <= version <= 65534)
            need(not m["versions"] or m["versions"][-1]["version"] < version)
            m["versions"].append({"version": version, "fingerprint": data[at + 2:at + 10].hex()})
            at += 10
        methods.append(m)
    need(at == len(data) and sum(len(m["versions"]) for m in methods) <= 4096)
    return data[:8].hex(), methods


def read_table(data):
    """What a client does with TABLE: the methods, or Bad."""
    stated, methods = parse_table(data)
    if stated != table_hash(methods):
        raise Bad("TABLE")
    return methods


def apply_update(before, data):
    """What a client does with TABLE_UPDATE: the methods afterwards, or Bad."""
    stated, changed = parse_table(data, update=True)
    after = {m["method"]: m for m in before}
    for m in changed:
        if m["versions"]:
            after[m["method"]] = m
        else:
            after.pop(m["method"], None)
    methods = [after[method] for method in sorted(after)]
    need(len(methods) <= 2048 and sum(len(m["versions"]) for m in methods) <= 4096)
    if stated != table_hash(methods):
        raise Bad("TABLE")
    return methods


def callable_versions(methods, method):
    for m in methods:
        if m["method"] == method:
            return [v["version"] for v in m["versions"] if v["version"] <= m["ceiling"]]
    return []


def choose_version(methods, method, client_versions):
    """RT-6: the highest version in both, or None."""
    return max(set(callable_versions(methods, method)) & set(client_versions), default=None)
