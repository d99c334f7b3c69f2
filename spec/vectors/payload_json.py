"""Payload codec 3 of switchback version 1, JSON, in plain Python 3: PL-11 to PL-14.

An implementation of ../08-payload.md of its own, standard library only. Values are those of
payload.py; `write` makes the text that a sender writes, `read` takes every text that is legal.
"""

import json
import struct

from payload import DEPTH_MAX, ELEMENTS_MAX, INTS, Invalid


def write(t, value, opened=()):
    """The JSON text of a value, without white space; `opened` as in payload.encode."""
    kind = t[0]
    if kind in INTS:
        return str(int(value))
    if kind == "bool":
        return "true" if value else "false"
    if kind in ("f32", "f64"):
        if value != value or value in (float("inf"), float("-inf")):
            raise Invalid("no JSON number")
        return repr(float(value))
    if kind in ("char", "str"):
        return json.dumps(value, ensure_ascii=False)
    if kind == "bytes":
        return listed(str(byte) for byte in bytes.fromhex(value))
    if kind == "unit":
        return "null"
    if kind == "option":
        text = "null" if value is None else write(t[1], value, opened)
        if text == "null" and value is not None:
            raise Invalid("an option of nothing")
        return text
    if kind in ("seq", "array"):
        return listed(write(t[1], v, opened) for v in value)
    if kind == "map":
        return "{" + ",".join(
            f"{write_key(t[1], k, opened)}:{write(t[2], v, opened)}" for k, v in value) + "}"
    if kind == "tuple":
        return listed(write(part, v, opened) for part, v in zip(t[1], value, strict=True))
    if kind == "struct":
        return write_content(t[1], value, opened + (t,))
    if kind == "enum":
        if isinstance(value, str):
            return json.dumps(value)
        name, content = next(iter(value.items()))
        shape = next(v[2] for v in t[1] if v[1] == name)
        return "{" + json.dumps(name) + ":" + write_content(shape, content, opened + (t,)) + "}"
    if kind == "ref":
        return write(opened[-1 - t[1]], value, opened[:len(opened) - 1 - t[1]])
    raise Invalid(f"{kind} has no encoding")


def write_content(shape, value, opened):
    if shape[0] == "newtype":
        return write(shape[1], value, opened)
    if shape[0] == "tuple":
        return listed(write(part, v, opened) for part, v in zip(shape[1], value, strict=True))
    return "{" + ",".join(
        f"{json.dumps(name)}:{write(part, value[name], opened)}" for name, part in shape[1]) + "}"


def write_key(t, key, opened):
    """The name of an entry: text as it is, numbers, bools and bare variants in quotes."""
    text = write(t, key, opened)
    if text.startswith('"'):
        return text
    if text.startswith(("[", "{")) or text == "null":
        raise Invalid("no key in JSON")
    return f'"{text}"'


def listed(texts):
    return "[" + ",".join(texts) + "]"


class Object(list):
    """The members of a JSON object in their order, equal names included."""


def refuse(word):
    raise Invalid(f"{word} is no JSON")


def read(t, data):
    """A whole payload."""
    try:
        text = data.decode("utf-8")
        parsed = json.loads(text, object_pairs_hook=Object, parse_constant=refuse)
        # A surrogate alone is no text.
        json.dumps(parsed, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise Invalid(str(error)) from None
    return Reader().value(t, parsed)


class Reader:
    """PL-5, PL-6, PL-12, PL-13: from what Python's parser made of the text to the value."""

    def __init__(self):
        self.elements, self.depth = 0, 0

    def count(self, found):
        self.elements += len(found)
        if self.elements > ELEMENTS_MAX:
            raise Invalid("too many elements")
        return found

    def must(self, found, kind):
        if type(found) is not kind:
            raise Invalid(f"{found!r} is not of {kind}")
        return found

    def value(self, t, found, opened=()):
        kind = t[0]
        if kind in INTS:
            return self.integer(kind, self.must(found, int))
        if kind == "bool":
            return self.must(found, bool)
        if kind in ("f32", "f64"):
            return self.float(kind, found)
        if kind in ("char", "str"):
            text = self.must(found, str)
            if kind == "char" and len(text) != 1:
                raise Invalid("not one character")
            return text
        if kind == "bytes":
            octets = [self.integer("u8", self.must(v, int)) for v in self.count(self.must(found, list))]
            return bytes(octets).hex()
        if kind == "unit":
            return self.must(found, type(None))
        if kind == "option" and found is None:
            return None
        if kind == "ref":
            return self.value(opened[-1 - t[1]], found, opened[:len(opened) - 1 - t[1]])
        self.depth += 1
        if self.depth > DEPTH_MAX:
            raise Invalid("too deep")
        value = self.container(t, found, opened)
        self.depth -= 1
        return value

    def integer(self, kind, value):
        size, signed = INTS[kind]
        low, high = (-(1 << 8 * size - 1), 1 << 8 * size - 1) if signed else (0, 1 << 8 * size)
        if not low <= value < high:
            raise Invalid("integer wider than its type")
        return value if abs(value) <= 1 << 53 and size < 16 else str(value)

    def float(self, kind, found):
        if type(found) is not int and type(found) is not float:
            raise Invalid(f"{found!r} is no number")
        value = float(found)
        if value in (float("inf"), float("-inf")):
            raise Invalid("larger than a float")
        if kind == "f32":
            try:
                return struct.unpack("<f", struct.pack("<f", value))[0]
            except OverflowError:
                raise Invalid("larger than a float") from None
        return value

    def container(self, t, found, opened):
        kind = t[0]
        if kind == "option":
            return self.value(t[1], found, opened)
        if kind == "seq":
            return [self.value(t[1], v, opened) for v in self.count(self.must(found, list))]
        if kind == "array":
            return self.fixed([t[1]] * t[2], found, opened)
        if kind == "tuple":
            return self.fixed(t[1], found, opened)
        if kind == "map":
            # Of two equal keys the last counts.
            entries = {}
            for name, v in self.count(self.must(found, Object)):
                key = self.key(t[1], name, opened)
                entries[repr(key)] = [key, self.value(t[2], v, opened)]
            return list(entries.values())
        if kind == "struct":
            return self.content(t[1], found, opened + (t,))
        if kind != "enum":
            raise Invalid(f"{kind} has no encoding here")
        if type(found) is str:
            if not any(name == found and shape[0] == "unit" for _, name, shape in t[1]):
                raise Invalid("no such variant, or one with content")
            return found
        if len(self.must(found, Object)) != 1:
            raise Invalid("a variant is one name and its content")
        for _, name, shape in t[1]:
            if name == found[0][0] and shape[0] != "unit":
                return {name: self.content(shape, found[0][1], opened + (t,))}
        raise Invalid("no such variant, or one without content")

    def key(self, t, name, opened):
        if t[0] in INTS or t[0] in ("bool", "f32", "f64"):
            if name != name.strip():
                raise Invalid("white space in a key")
            try:
                return self.value(t, json.loads(name, parse_constant=refuse), opened)
            except ValueError:
                raise Invalid(f"{name!r} is no {t[0]}") from None
        return self.value(t, name, opened)

    def fixed(self, parts, found, opened):
        if len(self.must(found, list)) != len(parts):
            raise Invalid("another number of elements")
        return [self.value(part, v, opened) for part, v in zip(parts, found)]

    def content(self, shape, found, opened):
        if shape[0] == "newtype":
            return self.value(shape[1], found, opened)
        if shape[0] == "tuple":
            return self.fixed(shape[1], found, opened)
        known, given = dict(shape[1]), {}
        for name, v in self.must(found, Object):
            if name in given:
                raise Invalid(f"{name} twice")
            if name in known:
                given[name] = self.value(known[name], v, opened)
        for name, part in shape[1]:
            if name not in given:
                if part[0] != "option":
                    raise Invalid(f"{name} is missing")
                given[name] = None
        return {name: given[name] for name in known}
