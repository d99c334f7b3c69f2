"""numbers.json: what has a number on the wire, by name, as the tables of the pages list it."""

import pathlib
import re

import wire
from common import same

SPEC = pathlib.Path(__file__).resolve().parent.parent


def rows(page, columns):
    """The rows of the tables of a page that have so many columns, without head and rule."""
    text = (SPEC / page).read_text(encoding="utf-8")
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and len(cells) == columns and re.match(r"(0x)?\d", cells[0]):
            yield cells


def numbers():
    kinds = []
    for number, name, sender, call, fixed, *_ in rows("01-framing.md", 7):
        sizes = [int(size) for size in re.findall(r":(\d+)", fixed)]
        kinds.append({"name": name, "number": int(number, 16), "from": sender,
                      "has_call": call != "0", "fixed_bytes": sum(sizes)})
    statuses = [{"name": name, "number": int(number, 0)}
                for number, name, _ in rows("05-status.md", 3) if "=" not in number
                and name.isupper()]
    reasons = [{"name": name, "number": int(number)}
               for number, name, _ in rows("06-liveness.md", 3)]
    keys = []
    for number, name, _, in_hello, in_ack in rows("02-handshake.md", 5):
        for frame, mark in (("HELLO", in_hello), ("HELLO_ACK", in_ack)):
            if mark != "unknown":
                keys.append({"frame": frame, "name": name, "number": int(number),
                             "is_required": mark == "required"})
    keys.append({"frame": "REQUEST", "name": "metadata", "number": 16, "is_required": False})
    keys += [{"frame": "RESPONSE", "name": name, "number": int(number), "is_required": False}
             for number, name, _ in rows("05-status.md", 3) if name.islower()]
    return {"kinds": kinds, "flags": [{"name": "MORE", "number": wire.MORE,
                                       "kinds": list(wire.MORE_KINDS)}],
            "statuses": statuses, "reasons": reasons, "keys": keys}


def check_numbers(doc):
    same({kind["number"]: kind["name"] for kind in doc["kinds"]}, wire.KINDS, "kinds")
    same({kind["name"]: kind["fixed_bytes"] for kind in doc["kinds"] if kind["fixed_bytes"]},
         wire.FIXED_BYTES, "fixed fields")
    for name, most in (("statuses", 0x8004), ("reasons", 27)):
        found = [each["number"] for each in doc[name]]
        same((found, found[-1]), (sorted(set(found)), most), name)
    for frame, known in wire.KNOWN_KEYS.items():
        found = tuple(key["number"] for key in doc["keys"] if key["frame"] == frame)
        same(found, known, f"keys of {frame}")
