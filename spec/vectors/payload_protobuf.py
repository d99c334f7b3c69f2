"""Payload codec 4 of switchback version 1, protobuf, in plain Python 3: PL-15.

Just enough of protobuf's binary format for the messages of the vectors, standard library only.
`MESSAGES` is their `.proto` file as a table; values are written as in payload.py, a message as an
object of the fields that are set.
"""

import struct

from payload import Invalid

PROTO = """syntax = "proto3";
package vectors;
message Node { uint32 value = 1; Node next = 2; }
message Record {
  uint64 id = 1;
  sint64 cents = 2;
  string name = 3;
  bytes digest = 4;
  repeated uint32 tags = 5;
  optional bool urgent = 6;
  double rate = 7;
  Node node = 8;
  repeated string notes = 9;
}
"""
# name: (number, type, label)
MESSAGES = {
    "vectors.Node": {"value": (1, "uint32", "single"), "next": (2, "vectors.Node", "message")},
    "vectors.Record": {
        "id": (1, "uint64", "single"), "cents": (2, "sint64", "single"),
        "name": (3, "string", "single"), "digest": (4, "bytes", "single"),
        "tags": (5, "uint32", "packed"), "urgent": (6, "bool", "optional"),
        "rate": (7, "double", "single"), "node": (8, "vectors.Node", "message"),
        "notes": (9, "string", "repeated")},
}
WIRE_TYPES = {"uint32": 0, "uint64": 0, "sint64": 0, "bool": 0, "double": 1}
DEPTH_MAX = 100


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def encode_scalar(kind, value):
    if kind == "sint64":
        value = int(value)
        return varint(value << 1 if value >= 0 else -value * 2 - 1)
    if kind in ("uint32", "uint64"):
        return varint(int(value))
    if kind == "bool":
        return b"\x01" if value else b"\x00"
    if kind == "double":
        return struct.pack("<d", value)
    data = value.encode() if kind == "string" else bytes.fromhex(value)
    return varint(len(data)) + data


def encode(message, value):
    out = b""
    for name, (number, kind, label) in MESSAGES[message].items():
        if name not in value:
            continue
        tag = varint(number << 3 | WIRE_TYPES.get(kind, 2))
        if label == "message":
            inner = encode(kind, value[name])
            out += tag + varint(len(inner)) + inner
        elif label == "packed":
            inner = b"".join(encode_scalar(kind, v) for v in value[name])
            out += varint(number << 3 | 2) + varint(len(inner)) + inner
        else:
            for v in value[name] if label == "repeated" else [value[name]]:
                out += tag + encode_scalar(kind, v)
    return out


class Reader:
    """One message, or the unknown fields of one."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        if size > len(self.data) - self.at:
            raise Invalid("longer than the bytes that are there")
        self.at += size
        return self.data[self.at - size:self.at]

    def varint(self):
        value = 0
        for at in range(10):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * at
            if byte < 0x80:
                if value >> 64:
                    raise Invalid("more than 64 bits")
                return value
        raise Invalid("more than 10 bytes")

    def tag(self):
        tag = self.varint()
        number, wire_type = tag >> 3, tag & 7
        if not 1 <= number < 1 << 29 or wire_type > 5:
            raise Invalid("no tag")
        return number, wire_type

    def skip(self, number, wire_type):
        if wire_type == 0:
            self.varint()
        elif wire_type in (1, 5):
            self.take(8 if wire_type == 1 else 4)
        elif wire_type == 2:
            self.take(self.varint())
        elif wire_type == 3:
            while True:
                inner, inner_type = self.tag()
                if inner_type == 4:
                    if inner != number:
                        raise Invalid("the end of another group")
                    return
                self.skip(inner, inner_type)
        else:
            raise Invalid("the end of no group")

    def scalar(self, kind):
        if kind == "double":
            return struct.unpack("<d", self.take(8))[0]
        if kind in ("string", "bytes"):
            data = self.take(self.varint())
            try:
                return data.decode() if kind == "string" else data.hex()
            except UnicodeDecodeError:
                raise Invalid("not UTF-8") from None
        value = self.varint()
        if kind == "bool":
            return value != 0
        if kind == "uint32":
            return value & 0xFFFFFFFF
        if kind == "sint64":
            value = value >> 1 if value & 1 == 0 else -(value >> 1) - 1
        return value if abs(value) <= 1 << 53 else str(value)


def decode(message, data, depth=0):
    """A whole message. Of a field that comes twice the last counts, messages are merged."""
    if depth > DEPTH_MAX:
        raise Invalid("too deep")
    by_number = {spec[0]: (name, *spec[1:]) for name, spec in MESSAGES[message].items()}
    reader, value = Reader(data), {}
    while reader.at < len(data):
        number, wire_type = reader.tag()
        if number not in by_number:
            reader.skip(number, wire_type)
            continue
        name, kind, label = by_number[number]
        wanted = WIRE_TYPES.get(kind, 2)
        if label == "packed" and wire_type == 2:
            inner = Reader(reader.take(reader.varint()))
            while inner.at < len(inner.data):
                value.setdefault(name, []).append(inner.scalar(kind))
        elif wire_type != wanted:
            raise Invalid("another wire type")
        elif label == "message":
            inner = decode(kind, reader.take(reader.varint()), depth + 1)
            value[name] = {**value.get(name, {}), **inner}
        elif label in ("packed", "repeated"):
            value.setdefault(name, []).append(reader.scalar(kind))
        else:
            value[name] = reader.scalar(kind)
    return {name: value[name] for name in MESSAGES[message] if name in value}
