"""Schema texts, fingerprints, payload codecs 1 and 2 of switchback version 1, in plain Python 3.

An implementation of ../08-payload.md and ../09-fingerprint.md of its own, standard library only.
A type is its schema text, parsed; `^n` is resolved while a value is read or written.

Values in JSON: integers outside -2^53..2^53 and every i128 and u128 as decimal strings, bytes as
lower-case hex, `unit` as null, an option as null or the value, a map as a list of [key, value],
a struct with names as an object, a newtype struct as its content, other structs, tuples and
arrays as a list, an enum as "Name" (unit variant) or {"Name": content}.
"""

import re
import struct

from wire import fnv64

INTS = {"u8": (1, 0), "u16": (2, 0), "u32": (4, 0), "u64": (8, 0), "u128": (16, 0),
        "i8": (1, 1), "i16": (2, 1), "i32": (4, 1), "i64": (8, 1), "i128": (16, 1)}
ATOMS = set(INTS) | {"bool", "f32", "f64", "char", "str", "bytes", "unit"}
DEPTH_MAX = 64
ELEMENTS_MAX = 1048576
NAME = re.compile(r"[^\s\x00-\x1f\x7f,:;{}()\[\]?^!]+")


class Invalid(Exception):
    """A schema text or a payload that is refused."""


# ---- fingerprints ----

def fingerprint64(method_text):
    """FP-4."""
    return fnv64(method_text.encode()) or 1


def fingerprint32(full):
    """FP-4: the high half XOR the low half, 0 becomes 1."""
    return (full >> 32 ^ full & 0xFFFFFFFF) or 1


# ---- schema texts ----

class Parser:
    """FP-1: recursive descent over one text."""

    def __init__(self, text):
        self.text, self.at, self.open = text, 0, 0

    def eat(self, token):
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def must(self, token):
        if not self.eat(token):
            raise Invalid(f"expected {token!r} at {self.at} of {self.text!r}")

    def match(self, pattern):
        found = re.compile(pattern).match(self.text, self.at)
        if not found:
            raise Invalid(f"expected {pattern} at {self.at} of {self.text!r}")
        self.at = found.end()
        return found.group()

    def list(self, close, item):
        items = []
        if self.eat(close):
            return items
        while True:
            items.append(item())
            if self.eat(close):
                return items
            self.must(",")

    def field(self):
        name = self.match(NAME.pattern)
        self.must(":")
        return name, self.type()

    def variant(self):
        index = int(self.match(r"0|[1-9][0-9]*"))
        self.must(":")
        name = self.match(NAME.pattern)
        if self.eat("("):
            types = self.list(")", self.type)
            return index, name, ("newtype", types[0]) if len(types) == 1 else ("tuple", types)
        if self.eat("{"):
            return index, name, ("fields", self.list("}", self.field))
        return index, name, ("unit",)

    def named(self, build):
        self.open += 1
        made = build()
        self.open -= 1
        return made

    def struct_names(self):
        return ("struct", ("fields", self.list("}", self.field)))

    def struct_tuple(self):
        types = self.list(")", self.type)
        return ("struct", ("newtype", types[0]) if len(types) == 1 else ("tuple", types))

    def payload(self):
        """A type, perhaps with bytes beside it (PL-17), or bytes as they are (PL-16)."""
        if self.eat("raw"):
            return ("raw",)
        made = self.type()
        return ("beside", made) if self.eat("+raw") else made

    def type(self):
        if self.eat("?"):
            return ("option", self.type())
        if self.eat("^"):
            level = int(self.match(r"0|[1-9][0-9]*"))
            if level >= self.open:
                raise Invalid(f"^{level} refers to nothing in {self.text!r}")
            return ("ref", level)
        if self.eat("["):
            inner = self.type()
            if self.eat(";"):
                size = int(self.match(r"0|[1-9][0-9]*"))
                self.must("]")
                return ("array", inner, size)
            self.must("]")
            return ("seq", inner)
        if self.eat("{"):
            key = self.type()
            self.must(":")
            value = self.type()
            self.must("}")
            return ("map", key, value)
        if self.eat("("):
            types = self.list(")", self.type)
            if not types:
                raise Invalid("() is written unit")
            return ("tuple", types)
        if self.eat("struct{"):
            return self.named(self.struct_names)
        if self.eat("struct("):
            return self.named(self.struct_tuple)
        if self.eat("enum{"):
            return ("enum", self.named(lambda: self.list("}", self.variant)))
        if self.eat("opaque("):
            name = self.match(r"[A-Za-z0-9._-]{1,64}")
            self.must(")")
            return ("opaque", name)
        word = self.match(r"[a-z0-9]+")
        if word not in ATOMS:
            raise Invalid(f"{word!r} is no type, in {self.text!r}")
        return (word,)


def parse_schema(text):
    parser = Parser(text)
    made = parser.type()
    if parser.at != len(text):
        raise Invalid(f"text left over at {parser.at} of {text!r}")
    return made


def parse_payload(text):
    parser = Parser(text)
    made = parser.payload()
    if parser.at != len(text):
        raise Invalid(f"text left over at {parser.at} of {text!r}")
    return made


def parse_method_text(text):
    parser = Parser(text)
    parser.payload()
    parser.must("->")
    parser.payload()
    parser.must("!")
    if not parser.eat("never"):
        parser.payload()
    if parser.at != len(text):
        raise Invalid(f"text left over at {parser.at} of {text!r}")


# ---- bincode 2 in its standard configuration, and postcard ----

class Bincode:
    """What codec 1 writes in its own way: PL-2, and `char` of PL-3."""

    @staticmethod
    def varint(value):
        if value < 251:
            return bytes([value])
        for marker, size in ((251, 2), (252, 4), (253, 8), (254, 16)):
            if value < 1 << 8 * size:
                return bytes([marker]) + value.to_bytes(size, "little")
        raise Invalid("too large")

    @staticmethod
    def char(value):
        return value.encode()


class Postcard:
    """What codec 2 writes in its own way: PL-9, PL-10."""

    @staticmethod
    def varint(value):
        out = bytearray()
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes(out) + bytes([value])

    @staticmethod
    def char(value):
        data = value.encode()
        return Postcard.varint(len(data)) + data


def encode(t, value, opened=(), form=Bincode):
    """The bytes of a value; `opened` holds the named types around it, innermost last."""
    kind = t[0]
    if kind in INTS:
        size, signed = INTS[kind]
        value = int(value)
        if size == 1:
            return value.to_bytes(1, "little", signed=bool(signed))
        return form.varint((value << 1 if value >= 0 else -value * 2 - 1) if signed else value)
    if kind == "bool":
        return b"\x01" if value else b"\x00"
    if kind in ("f32", "f64"):
        return struct.pack("<f" if kind == "f32" else "<d", value)
    if kind == "char":
        return form.char(value)
    if kind in ("str", "bytes"):
        data = value.encode() if kind == "str" else bytes.fromhex(value)
        return form.varint(len(data)) + data
    if kind == "unit":
        return b""
    if kind == "option":
        return b"\x00" if value is None else b"\x01" + encode(t[1], value, opened, form)
    if kind == "seq":
        return form.varint(len(value)) + b"".join(encode(t[1], v, opened, form) for v in value)
    if kind == "map":
        pairs = (encode(t[1], k, opened, form) + encode(t[2], v, opened, form) for k, v in value)
        return form.varint(len(value)) + b"".join(pairs)
    if kind == "array":
        return b"".join(encode(t[1], v, opened, form) for v in value)
    if kind == "tuple":
        return b"".join(encode(part, v, opened, form) for part, v in zip(t[1], value, strict=True))
    if kind == "struct":
        return encode_content(t[1], value, opened + (t,), form)
    if kind == "enum":
        name, content = (value, None) if isinstance(value, str) else next(iter(value.items()))
        index, _, shape = next(v for v in t[1] if v[1] == name)
        return form.varint(index) + encode_content(shape, content, opened + (t,), form)
    if kind == "ref":
        return encode(opened[-1 - t[1]], value, opened[:len(opened) - 1 - t[1]], form)
    raise Invalid(f"{kind} has no encoding")


def encode_content(shape, value, opened, form):
    if shape[0] == "unit":
        return b""
    if shape[0] == "newtype":
        return encode(shape[1], value, opened, form)
    if shape[0] == "tuple":
        return encode(shape, value, opened, form)
    return b"".join(encode(part, value[name], opened, form) for name, part in shape[1])


class Reader:
    """PL-4..PL-6: a payload, the position in it, and the budgets."""

    def __init__(self, data):
        self.data, self.at, self.elements, self.depth = data, 0, 0, 0

    def take(self, size):
        if size > len(self.data) - self.at:
            raise Invalid("longer than the bytes that are there")
        self.at += size
        return self.data[self.at - size:self.at]

    def varint(self, size_max):
        first = self.take(1)[0]
        if first < 251:
            return first
        size = {251: 2, 252: 4, 253: 8, 254: 16}.get(first)
        if size is None or size > size_max:
            raise Invalid("integer wider than its type")
        return int.from_bytes(self.take(size), "little")

    def count(self):
        count = self.varint(8)
        self.elements += count
        if self.elements > ELEMENTS_MAX:
            raise Invalid("too many elements")
        return count

    def level(self, read):
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise Invalid("too deep")
        value = read()
        self.depth -= 1
        return value

    def char(self):
        first = self.take(1)[0]
        size = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
        return self.utf8(bytes([first]) + self.take(size - 1))

    def utf8(self, data):
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise Invalid("not UTF-8") from None

    def value(self, t, opened=()):
        kind = t[0]
        if kind in INTS:
            return self.integer(kind)
        if kind == "bool":
            return [False, True][self.tag()]
        if kind in ("f32", "f64"):
            form = "<f" if kind == "f32" else "<d"
            return struct.unpack(form, self.take(struct.calcsize(form)))[0]
        if kind == "char":
            return self.char()
        if kind in ("str", "bytes"):
            data = self.take(self.varint(8))
            return self.utf8(data) if kind == "str" else data.hex()
        if kind == "unit":
            return None
        if kind == "ref":
            return self.value(opened[-1 - t[1]], opened[:len(opened) - 1 - t[1]])
        if kind == "opaque":
            raise Invalid("opaque has no encoding here")
        return self.level(lambda: self.container(t, opened))

    def integer(self, kind):
        size, signed = INTS[kind]
        if size == 1:
            return int.from_bytes(self.take(1), "little", signed=bool(signed))
        raw = self.varint(size)
        value = (raw >> 1 if raw & 1 == 0 else -(raw >> 1) - 1) if signed else raw
        return value if abs(value) <= 1 << 53 and size < 16 else str(value)

    def tag(self):
        tag = self.take(1)[0]
        if tag > 1:
            raise Invalid("neither 0 nor 1")
        return tag

    def container(self, t, opened):
        kind = t[0]
        if kind == "option":
            return self.value(t[1], opened) if self.tag() else None
        if kind == "seq":
            return [self.value(t[1], opened) for _ in range(self.count())]
        if kind == "map":
            pairs = range(self.count())
            return [[self.value(t[1], opened), self.value(t[2], opened)] for _ in pairs]
        if kind == "array":
            return [self.value(t[1], opened) for _ in range(t[2])]
        if kind == "tuple":
            return [self.value(part, opened) for part in t[1]]
        if kind == "struct":
            return self.content(t[1], opened + (t,))
        index = self.varint(4)
        for number, name, shape in t[1]:
            if number == index:
                if shape[0] == "unit":
                    return name
                return {name: self.content(shape, opened + (t,))}
        raise Invalid("no such variant")

    def content(self, shape, opened):
        if shape[0] == "newtype":
            return self.value(shape[1], opened)
        if shape[0] == "tuple":
            return [self.value(part, opened) for part in shape[1]]
        return {name: self.value(part, opened) for name, part in shape[1]}


class PostcardReader(Reader):
    """PL-9, PL-10: the same with postcard's integers and characters."""

    def varint(self, size_max):
        value = 0
        for at in range((8 * size_max + 6) // 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << 7 * at
            if byte < 0x80:
                if value >> 8 * size_max:
                    raise Invalid("integer wider than its type")
                return value
        raise Invalid("integer longer than its type")

    def char(self):
        text = self.utf8(self.take(self.varint(8)))
        if len(text) != 1:
            raise Invalid("not one character")
        return text


def decode(t, data, reader=Reader):
    """A whole payload; leftover bytes are refused (PL-4)."""
    reader = reader(data)
    value = reader.value(t)
    if reader.at != len(data):
        raise Invalid("bytes left over")
    return value
