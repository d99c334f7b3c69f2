"""Schema texts, fingerprints and payload codec 3, JSON (spec/08-payload.md, 09-fingerprint.md).

Values in Python: bool, int, float, str, bytes, None (`unit`, an option without a value), dict (a
struct with names, a map), list (sequence, array, tuple), "Name" or {"Name": content} (an enum); a
newtype struct is its content. Whatever is refused is a ValueError.
"""

from __future__ import annotations

import json
import math
import re
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any


def fnv1a(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return value


def fingerprint64(text: str) -> int:
    """FP-4; 0 would say "not checked"."""
    return fnv1a(text.encode()) or 1


def fold(fingerprint: int) -> int:
    """FP-4: 64 bits to 32."""
    return (fingerprint >> 32 ^ fingerprint & 0xFFFFFFFF) or 1


# ---- schema texts (FP-1, FP-2) ----

INTEGERS = {
    f"{sign}{bits}": (0, 2**bits - 1) if sign == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in "ui" for bits in (8, 16, 32, 64, 128)
}
ATOMS = {*INTEGERS, "bool", "f32", "f64", "char", "str", "bytes", "unit"}


@dataclass(eq=False, repr=False)
class Type:
    """An atom, or: raw beside option list map tuple array struct newtype enum bare opaque.

    `tuple` is `(A,B)` and `struct(A,B)`; an enum has one part for each variant: bare, newtype,
    tuple or struct. `^n` is the very object that it stands for, so a Type may contain itself.
    """

    kind: str
    parts: list[Type] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    count: int = 0


class Parser:
    WORD, NAME = re.compile(r"[a-z0-9]+"), re.compile(r"[^,:;{}()\[\]?^!\s\x00-\x1f\x7f-\x9f]+")
    NUMBER, OPAQUE = re.compile(r"0|[1-9][0-9]*"), re.compile(r"opaque\([A-Za-z0-9._-]{1,64}\)")

    def __init__(self, text: str) -> None:
        self.text, self.at, self.open = text, 0, []

    def fail(self) -> ValueError:
        return ValueError(f"schema text wrong at {self.at}: {self.text[:80]}")

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if not match:
            raise self.fail()
        self.at = match.end()
        return match.group()

    def have(self, token: str) -> bool:
        found = self.text.startswith(token, self.at)
        self.at += len(token) if found else 0
        return found

    def need(self, token: str) -> None:
        if not self.have(token):
            raise self.fail()

    def end(self) -> None:
        if self.at != len(self.text):
            raise self.fail()

    def payload(self) -> Type:
        if self.have("raw"):
            return Type("raw")
        found = self.type()
        return Type("beside", [found]) if self.have("+raw") else found

    def type(self) -> Type:
        if self.have("?"):
            return Type("option", [self.type()])
        if self.have("["):
            found = Type("list", [self.type()])
            if self.have(";"):
                found.kind, found.count = "array", int(self.take(self.NUMBER))
            self.need("]")
            return found
        if self.have("{"):
            key = self.type()
            self.need(":")
            found = Type("map", [key, self.type()])
            self.need("}")
            return found
        if self.have("("):
            return Type("tuple", self.types(least=1))
        if self.have("^"):
            depth = int(self.take(self.NUMBER))
            if depth >= len(self.open):
                raise self.fail()
            return self.open[-1 - depth]
        if self.OPAQUE.match(self.text, self.at):
            self.take(self.OPAQUE)
            return Type("opaque")
        word = self.take(self.WORD)
        if word in ATOMS:
            return Type(word)
        if word not in ("struct", "enum"):
            raise self.fail()
        whole = Type(word)
        self.open.append(whole)
        self.content(whole) if word == "struct" else self.variants(whole)
        self.open.pop()
        return whole

    def variants(self, into: Type) -> None:
        self.need("{")
        while not self.have("}"):
            if into.parts:
                self.need(",")
            self.need(f"{len(into.parts)}:")  # 0, 1, 2 ... in the order of declaration
            into.names.append(self.take(self.NAME))
            part = Type("bare")
            if self.text[self.at : self.at + 1] in ("(", "{"):
                self.content(part)
            into.parts.append(part)

    def content(self, into: Type) -> None:
        """The fields of a struct or variant."""
        if self.have("("):
            into.parts = self.types(least=0)
            into.kind = "newtype" if len(into.parts) == 1 else "tuple"
            return
        into.kind = "struct"
        self.need("{")
        while not self.have("}"):
            if into.parts:
                self.need(",")
            into.names.append(self.take(self.NAME))
            self.need(":")
            into.parts.append(self.type())

    def types(self, least: int) -> list[Type]:
        parts: list[Type] = []
        while len(parts) < least or not self.have(")"):
            if parts and not self.have(","):
                self.need(")")
                return parts
            parts.append(self.type())
        return parts


def parse_type(text: str) -> Type:
    parser = Parser(text)
    found = parser.type()
    parser.end()
    return found


def parse_payload(text: str) -> Type:
    parser = Parser(text)
    found = parser.payload()
    parser.end()
    return found


class Contract:
    """A (method, version): the types of `request->response!error`, and its fingerprints."""

    def __init__(self, text: str) -> None:
        parser = Parser(text)
        self.request = parser.payload()
        parser.need("->")
        self.response = parser.payload()
        parser.need("!")
        self.error = None if parser.have("never") else parser.payload()
        parser.end()
        self.fp64 = fingerprint64(text)
        self.fp32 = fold(self.fp64)


# ---- JSON to values (PL-11 to PL-14, PL-4 to PL-6) ----


class Num(str):
    """The text of a JSON number, not yet a number: no digit is lost."""


class Pairs(list):
    """An object as it stood there, so that a name twice is seen."""


INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
LEVELS_MAX, ELEMENTS_MAX, DIGITS_MAX = 64, 1048576, 41


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


_JSON = json.JSONDecoder(
    object_pairs_hook=Pairs, parse_int=Num, parse_float=Num, parse_constant=_no_constant)


class Json:
    """Codec 3."""

    @staticmethod
    def encode(t: Type, value: Any) -> bytes:
        return json_text(t, value).encode("utf-8")

    @staticmethod
    def decode(t: Type, payload: bytes) -> Any:
        try:
            return _Decoder().value(t, _JSON.decode(payload.decode("utf-8")), 0)
        except RecursionError:
            raise ValueError("nested too deep") from None


class _Decoder:
    def __init__(self) -> None:
        self.elements = 0

    def value(self, t: Type, v: Any, level: int) -> Any:
        kind = t.kind
        if kind == "bool" and isinstance(v, bool) or kind == "unit" and v is None:
            return v
        if kind in INTEGERS and type(v) is Num and len(v) <= DIGITS_MAX and INTEGER.fullmatch(v):
            least, most = INTEGERS[kind]
            if least <= int(v) <= most:
                return int(v)
        elif kind in ("f32", "f64") and type(v) is Num:
            return _float(kind, v)
        elif kind in ("str", "char") and type(v) is str and (kind == "str" or len(v) == 1):
            v.encode("utf-8")  # refuses a surrogate alone
            return v
        elif kind == "bytes" and type(v) is list:
            return bytes(self.value(Type("u8"), item, level) for item in self.counted(v))
        elif kind == "option":
            return None if v is None else self.value(t.parts[0], v, deeper(level))
        elif kind == "enum":
            level = deeper(level)
            name, content = v[0] if type(v) is Pairs and len(v) == 1 else (v, None)
            part = t.parts[t.names.index(name)] if name in t.names else None
            if part and (part.kind == "bare") == (type(v) is str):
                return v if type(v) is str else {name: self.content(part, content, level)}
        elif kind in ("list", "map", "tuple", "array", "struct", "newtype"):
            return self.content(t, v, deeper(level))
        raise ValueError(f"no {kind}: {str(v)[:40]!r}")

    def content(self, t: Type, v: Any, level: int) -> Any:
        """What is inside of a level, that of a variant too."""
        kind, parts = t.kind, t.parts
        if kind == "newtype":
            return self.value(parts[0], v, level)
        if kind == "list" and type(v) is list:
            return [self.value(parts[0], item, level) for item in self.counted(v)]
        if kind == "array" and type(v) is list and len(v) == t.count:
            return [self.value(parts[0], item, level) for item in v]
        if kind == "tuple" and type(v) is list and len(v) == len(parts):
            return [self.value(part, item, level) for part, item in zip(parts, v)]
        if kind == "map" and type(v) is Pairs:
            keys = [self.value(parts[0], key(parts[0], name), level) for name, _ in self.counted(v)]
            return dict(zip(keys, [self.value(parts[1], item, level) for _, item in v]))
        if kind == "struct" and type(v) is Pairs:
            found: dict[str, Any] = {}
            for name, item in v:  # PL-13: names that the type does not have are skipped
                if name in found and name in t.names:
                    raise ValueError(f"field {name} twice")
                found[name] = item
            for name, part in zip(t.names, parts):
                if name not in found and part.kind != "option":
                    raise ValueError(f"field {name} is missing")
            fields = zip(t.names, parts)
            return {name: self.value(part, found.get(name), level) for name, part in fields}
        raise ValueError(f"no {kind}: {str(v)[:40]!r}")

    def counted(self, items: list[Any]) -> list[Any]:
        self.elements += len(items)
        if self.elements > ELEMENTS_MAX:
            raise ValueError(f"more than {ELEMENTS_MAX} elements")
        return items


def deeper(level: int) -> int:
    if level >= LEVELS_MAX:
        raise ValueError(f"more than {LEVELS_MAX} levels")
    return level + 1


def key(t: Type, name: str) -> Any:
    """The JSON value that stands in the quotes of a name."""
    while t.kind == "newtype":
        t = t.parts[0]
    is_bare = t.kind == "enum" and all(part.kind == "bare" for part in t.parts)
    if t.kind in ("str", "char") or is_bare:
        return name
    if t.kind == "bool" and name in ("true", "false"):
        return name == "true"
    if (t.kind in INTEGERS or t.kind in ("f32", "f64")) and NUMBER.fullmatch(name):
        return Num(name)
    raise ValueError(f"no key of {t.kind}: {name[:40]!r}")


def _float(kind: str, text: str) -> float:
    number = float(text)
    if kind == "f32" and math.isfinite(number):
        with suppress(OverflowError):
            return struct.unpack("<f", struct.pack("<f", number))[0]
    elif math.isfinite(number):
        return number
    raise ValueError(f"larger than an {kind}")


# ---- values to JSON ----


def json_text(t: Type, v: Any) -> str:
    """Encode; ValueError, TypeError or KeyError if `v` is no value of `t`."""
    kind, parts = t.kind, t.parts
    if kind in INTEGERS:
        if isinstance(v, bool) or not INTEGERS[kind][0] <= v <= INTEGERS[kind][1]:
            raise ValueError(f"{v} in {kind}")
        return str(int(v))
    if kind in ("f32", "f64"):
        return _float_text(kind, float(v))
    if kind in ("str", "char"):
        v.encode("utf-8")
        return json.dumps(v, ensure_ascii=False)
    if kind == "bool":
        return "true" if v else "false"
    if kind in ("unit", "bare") or kind == "option" and v is None:
        return "null"
    if kind in ("option", "newtype"):
        text = json_text(parts[0], v)
        if kind == "option" and text == "null":
            raise ValueError("an option whose value is null (PL-14)")
        return text
    if kind == "bytes":
        return f"[{','.join(map(str, v))}]"
    if kind in ("list", "array", "tuple"):
        if kind == "array" and len(v) != t.count or kind == "tuple" and len(v) != len(parts):
            raise ValueError(f"{len(v)} elements in {kind}")
        types = parts if kind == "tuple" else parts * len(v)
        return f"[{','.join(json_text(part, item) for part, item in zip(types, v))}]"
    if kind == "struct":
        fields = (f"{_quoted(n)}:{json_text(part, v[n])}" for n, part in zip(t.names, parts))
        return "{" + ",".join(fields) + "}"
    if kind == "map":
        entries = (f"{_key_text(parts[0], k)}:{json_text(parts[1], item)}" for k, item in v.items())
        return "{" + ",".join(entries) + "}"
    if kind == "enum":
        name, content = next(iter(v.items())) if isinstance(v, dict) else (v, None)
        part, quoted = parts[t.names.index(name)], _quoted(name)
        return quoted if part.kind == "bare" else "{" + f"{quoted}:{json_text(part, content)}" + "}"
    raise ValueError(f"{kind} has no form in JSON")


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=False)


def _key_text(t: Type, k: Any) -> str:
    text = json_text(t, k)
    key(t, json.loads(text) if text.startswith('"') else text)  # refuses other keys
    return text if text.startswith('"') else f'"{text}"'


def _float_text(kind: str, value: float) -> str:
    if not math.isfinite(value):
        raise ValueError("a NaN or an infinity has no form in JSON (PL-14)")
    if kind == "f64":
        return repr(value)
    same = struct.pack("<f", value)
    texts = (repr(float(f"{value:.{digits}g}")) for digits in range(1, 18))
    return next(text for text in texts if struct.pack("<f", float(text)) == same)


def encode(codec: Any, t: Type, value: Any) -> bytes:
    """A payload; of `T+raw` the value is a pair, the message and its bytes (PL-17)."""
    if t.kind == "beside":
        message = codec.encode(t.parts[0], value[0])
        return len(message).to_bytes(4) + message + value[1]
    return bytes(value) if t.kind == "raw" else codec.encode(t, value)  # PL-16


def decode(codec: Any, t: Type, payload: bytes) -> Any:
    if t.kind == "beside":
        end = 4 + int.from_bytes(payload[:4])
        if len(payload) < max(4, end):
            raise ValueError(f"the message needs {end} bytes, there are {len(payload)}")
        return codec.decode(t.parts[0], payload[4:end]), payload[end:]
    return payload if t.kind == "raw" else codec.decode(t, payload)
