#!/usr/bin/env python3
"""Writes the golden vectors next to this file, from wire.py, payload.py & co.

    python3 spec/vectors/generate.py            writes the *.json files, and the tables of
                                                ../unexpected.md
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
from common import (  # noqa: E402
    BALANCE, LEDGER, V1_REQUEST, V1_RESPONSE, V1_TEXT, V2_REQUEST, V2_RESPONSE, V2_TEXT, encoded,
    fold, hex64, method, outcome, same)
from flow import check_fragments, fragments  # noqa: E402
from frame_vectors import (  # noqa: E402
    check_frames, close, frames, hello, hello_ack, meta, ping, request, response)
from listed import check_numbers, numbers  # noqa: E402
from payload_vectors import CODEC_FILES  # noqa: E402
from unexpected import check_unexpected, unexpected, write_page  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


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
    listed += [name for name in (*BUILTIN, *INTEROP) if name not in listed]
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

# The methods of ../10-builtin.md, all in version 1.
BUILTIN = {
    "switchback.Health/check":
        "struct{service:str}->struct{state:enum{0:Serving,1:NotServing,2:Unknown}}!never",
    "switchback.Reflection/list":
        "struct{after:?u32}->struct{methods:[struct{name:str,id:u32,ceiling:u16,versions:[struct{"
        "version:u16,callable:bool,fingerprint:u64,idempotent:bool,run:enum{0:Inline,1:Spawn,"
        "2:Blocking}}]}],more:bool}!never",
    "switchback.Reflection/describe":
        "struct{method:str,version:u16}->struct{text:?str,fingerprint:u64,idempotent:bool}"
        "!enum{0:NoSuchMethod,1:NoSuchVersion([u16])}",
    "switchback.Counters/read":
        "struct{after:?struct{method:str,version:u16}}->struct{methods:[struct{name:str,"
        "version:u16,callable:bool,started:u64,ok:u64,app_errors:u64,failed:u64,cancelled:u64,"
        "latency:struct{count:u64,sum_us:u64,p50_us:u64,p90_us:u64,p99_us:u64}}],more:bool,"
        "server:struct{calls:u64,bytes:u64,overloads:u64,panics:u64,refusals:[struct{code:u16,"
        "count:u64}],closes:[struct{reason:u16,count:u64}],lost:u64,listener:?struct{accepted:u64,"
        "open:u64,handshaking:u64,refused_full:u64,refused_per_address:u64,displaced:u64,"
        "accept_errors:u64}}}!never",
}

# What tests/interop/ serves and calls, a text for each version.
INTEROP_TYPES = (
    "struct{flag:bool,small:i8,big:u64,ratio:f64,letter:char,name:str,nothing:unit,maybe:?u32,"
    "absent:?u32,list:[i16],map:{str:[u8]},pair:(u8,str),three:[u32;3],"
    "shape:enum{0:Dot,1:Circle(f64),2:Rect{w:u32,h:u32}},new:struct(u64)}")
INTEROP = {
    "interop.Peer/echo": ["struct{text:str}->struct{text:str}!never",
                          "struct{text:str,times:u32}->struct{text:str,version:u16}!never"],
    "interop.Peer/divide":
        ["struct{a:i64,b:i64}->i64!enum{0:DivideByZero,1:Overflow{a:i64,b:i64}}"],
    "interop.Peer/sleep": ["struct{ms:u32}->u32!never"],
    "interop.Peer/types": [f"{INTEROP_TYPES}->{INTEROP_TYPES}!never"],
    "interop.Peer/add": ["struct{key:str,amount:u64}->struct{key:str,total:u64}!never"],
    "interop.Peer/whoami": ["unit->struct{build:str,attempt:u8,metadata:{str:str}}!never"],
    "interop.Peer/fail": ["struct{code:u16,message:str}->unit!never"],
}

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
    "raw->raw!never", "opaque(proto.bank.Transfer)->opaque(proto.bank.Receipt)!never",
    "struct{name:str,size:u64}+raw->unit!never", "u8->?str+raw!enum{0:Torn}+raw",
    "opaque(proto.bank.Transfer)+raw->raw!never",
    V1_TEXT, V2_TEXT, "unit->unit!never", "u64->i64!never", "str->str!str",
    "struct{value:u8,next:?^0}->[struct{value:u8,next:?^0}]!opaque(uuid.v1)",
    "struct{a:u8,b:u8}->unit!never", "struct{b:u8,a:u8}->unit!never", *BUILTIN.values(),
    *(text for texts in INTEROP.values() for text in texts),
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


def check_builtin_page():
    """The table of ../10-builtin.md and its texts, which are broken into lines there."""
    page = (HERE.parent / "10-builtin.md").read_text(encoding="utf-8")
    block = page.split("```")[1].replace("\n   ", "")
    texts = dict(line.split("  ") for line in block.strip().splitlines())
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")]
            for line in page.splitlines() if line.startswith("| `")]
    same([row[0] for row in rows], list(BUILTIN), "../10-builtin.md")
    for name, number, version, letter, fingerprint in rows:
        text = BUILTIN[name]
        same(texts[letter], text, name)
        same((number, version), (f"{wire.method_id(name):08x}", "1"), name)
        same(fingerprint, hex64(pl.fingerprint64(text)), name)


def check_fingerprints(doc):
    for case in doc:
        if "schema_text" in case:
            pl.parse_schema(case["schema_text"])
        else:
            pl.parse_method_text(case["method_text"])
    check_builtin_page()
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
    for text in ("raw+raw->unit!never", "[u8+raw]->unit!never", "unit->unit+raw+raw!never",
                 "unit->unit!never+raw", "+raw->unit!never", "?raw->unit!never"):
        try:
            pl.parse_method_text(text)
        except pl.Invalid:
            continue
        raise SystemExit(f"taken for a method text: {text!r}")


# ---- the worked example ----

def conversation():
    listed = table_list()
    first = wire.preface(1, 1)
    greeting = wire.encode(hello(build="ledger-client 1.4.0", window_connection=4194304))
    transcript = hex64(wire.fnv64(first + greeting))
    v2, v1 = fold(V2_TEXT), fold(V1_TEXT)
    asked = {"from": 7, "to": 9, "cents": 12500, "memo": "rent"}
    old = encoded(V1_REQUEST, {"from": 7, "to": 9, "cents": 12500})
    frames_list = [
        ("server", "HELLO_ACK", hello_ack(tables=[wire.table_hash(listed["two_methods"])],
                                          build="ledger 2.0.0", transcript=transcript,
                                          window_connection=4194304)),
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
    "numbers.json": (numbers, check_numbers),
    "fingerprints.json": (fingerprints, check_fingerprints),
    **CODEC_FILES,
    "conversations.json": (conversation, check_conversation),
    "fragments.json": (fragments, check_fragments),
    "unexpected.json": (unexpected, check_unexpected),
}


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
        if not checking and name == "unexpected.json":
            write_page(json.loads(made))
        check(json.loads(made))
        if not checking:
            path.write_text(made, encoding="utf-8")
        print(f"{name}: ok")


if __name__ == "__main__":
    main()
