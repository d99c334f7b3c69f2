"""The golden vectors of spec/vectors, against this implementation."""

from __future__ import annotations

import json
import sys
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow import Credit, Intake
from frames import (
    FIXED, HAS_MORE, KEYS, MORE, NOTHING, PREFACE, REASONS, STATUS, Entry, Frame, FrameReader,
    Kind, Table, Violation, apply_update, check_hash, choose_protocol, choose_version,
    encode_frame, method_id, parse_table, read_preface, table_hash, table_payload)
from values import (
    INTEGERS, Contract, Json, Type, decode, encode, fingerprint64, fnv1a, fold, parse_payload,
    parse_type)

LIMIT = 4194304


class Vectors:
    """Each check counts one; faults are kept, and at most 50 of a file shown."""

    FILES = """frames prefaces conversations fragments names numbers fingerprints tables
    payload_json payload_beside""".split()

    def __init__(self, folder: Path) -> None:
        self.folder, self.name, self.good, self.faults = folder, "", 0, []

    def run(self) -> bool:
        is_good = True
        for self.name in self.FILES:
            self.good, self.faults = 0, []
            text = (self.folder / f"{self.name}.json").read_text("utf-8")
            getattr(self, self.name)(json.loads(text))
            counts = {"passed": self.good, "failed": len(self.faults)}
            print(json.dumps({"file": f"{self.name}.json"} | counts))
            for fault in self.faults[:50]:
                print(f"  {fault}", file=sys.stderr)
            is_good &= self.good > 0 and not self.faults
        return is_good

    def expect(self, what: str, found: Any, wanted: Any) -> None:
        if repr(found) == repr(wanted):
            self.good += 1
        else:
            found, wanted = str(found)[:300], str(wanted)[:300]
            self.faults.append(f"{self.name} {what}: {found} instead of {wanted}")

    @staticmethod
    def read(data: bytes, limit: int, step: int) -> Frame | str:
        """One frame, fed in pieces; or the reason, or INCOMPLETE."""
        reader, frame = FrameReader(limit), None
        try:
            for at in range(0, len(data), step):
                reader.buffer += data[at : at + step]
                frame = frame or reader.next()
        except Violation as fault:
            return fault.reason
        return frame if frame and not reader.buffer else "INCOMPLETE"

    def both(self, data: bytes, limit: int = LIMIT) -> Frame | str:
        whole = self.read(data, limit, max(1, len(data)))
        is_same = repr(self.read(data, limit, 1)) == repr(whole)
        return whole if is_same else "differs byte by byte"

    @staticmethod
    def plain(frame: Frame) -> dict[str, Any]:
        """A frame as frames.json writes it."""
        v, out = dict(frame.v), {"kind": Kind(frame.kind).name, "call": frame.call}
        if "attempt_priority" in v:
            number = v.pop("attempt_priority")
            out |= {"attempt": number >> 4, "priority": number & 3}
        if frame.kind in (Kind.REQUEST, Kind.RESPONSE):
            entries = v.pop("metadata", [])
            out["metadata"] = [{"name": n, "value_hex": value.hex()} for n, value in entries]
        for key, value in v.items():
            if key == "tables":
                value = [f"{item:016x}" for item in value]
            out[key] = f"{value:016x}" if key == "transcript" else value
        out.pop("table", None)
        if frame.kind == Kind.SKIPPED:
            out |= {"code": frame.code, "body_hex": frame.payload.hex()}
        elif frame.kind in (Kind.PING, Kind.PONG):
            out["opaque_hex"] = frame.payload.hex()
        elif frame.kind in (Kind.TABLE, Kind.TABLE_UPDATE, Kind.REQUEST, Kind.RESPONSE, Kind.DATA):
            out["payload_hex"] = frame.payload.hex()
        return dict(sorted(out.items()))

    @staticmethod
    def again(frame: Frame) -> str:
        """The frame, encoded by this side."""
        return encode_frame(frame.code, frame.call, frame.v, frame.payload).hex()

    def frames(self, data: Any) -> None:
        for case in data["valid"]:
            frame = self.both(bytes.fromhex(case["hex"]))
            plain = self.plain(frame) if isinstance(frame, Frame) else frame
            self.expect(case["name"], plain, dict(sorted(case["frame"].items())))
            if case.get("canonical", True) and isinstance(frame, Frame):
                self.expect(case["name"] + " encoded", self.again(frame), case["hex"])
        for case in data["invalid"]:
            found = self.both(bytes.fromhex(case["hex"]), case.get("limit", LIMIT))
            self.expect(case["name"], found, case["error"])
        for case in data["refused"]:
            frame = self.both(bytes.fromhex(case["hex"]))
            found = (frame.refused, frame.call) if isinstance(frame, Frame) else frame
            self.expect(case["name"], found, (case["status"], case["call"]))

    def prefaces(self, data: Any) -> None:
        for case in data["valid"]:
            found = read_preface(bytes.fromhex(case["hex"]))
            self.expect(case["name"], found, (case["lo"], case["hi"]))
        for case in data["chosen"]:
            sides = [read_preface(bytes.fromhex(case[side])) for side in ("client", "server")]
            self.expect(str(case), choose_protocol(*sides), case["version"])
        for case in data["invalid"]:
            found: Any = None
            try:
                for end in range(len(case["hex"]) // 2 + 1):
                    found = read_preface(bytes.fromhex(case["hex"])[:end]) or "INCOMPLETE"
            except Violation as fault:
                found = fault.reason
            self.expect(case["name"], found, case["error"])

    def conversations(self, data: Any) -> None:
        """Every frame is read and written again; ids, transcript and tables fit together."""
        preface, hello, table, waiting, last, said = {}, b"", {}, set(), 0, 0
        for step in data if isinstance(data, list) else data["steps"]:
            raw = bytes.fromhex(step["hex"])
            if step["what"] == "preface":
                self.expect("preface", raw, PREFACE)
                preface[step["from"]] = raw
                continue
            frame = self.both(raw)
            if not isinstance(frame, Frame):
                self.expect(step["what"], frame, "a frame")
                continue
            self.expect(step["what"], self.again(frame), step["hex"])
            kind, v, call = frame.kind, frame.v, frame.call
            if kind == Kind.HELLO:
                hello = preface["client"] + raw
            elif kind == Kind.HELLO_ACK:
                self.expect("transcript", v["transcript"], fnv1a(hello))
                said = v["tables"][0]
            elif kind == Kind.TABLE:
                named, table = v["table"]
                self.expect("table hash", (named, said), (table_hash(table),) * 2)
            elif kind == Kind.TABLE_UPDATE:
                table = apply_update(table, *v["table"])
                chosen = choose_version(table, method_id("bank.Ledger/transfer"), (1, 2))
                self.expect("version after the update", chosen, 1)
            elif kind == Kind.REQUEST:
                self.expect("ascending odd id", call > last and call % 2 == 1, True)
                listed = table[v["method"]].versions[v["version"]]
                self.expect("fingerprint", v["fingerprint"], fold(listed))
                waiting.add(call)
                last = call
            elif kind == Kind.RESPONSE:
                self.expect("RESPONSE to an open call", call in waiting, True)
                waiting.discard(call)
        self.expect("calls that are not answered", waiting, set())

    def fragments(self, data: Any) -> None:
        """Every frame is read and written again; credit and messages are followed both ways."""
        for found in data["conversations"]:
            sides = {"client": Side(), "server": Side()}
            for step in found["steps"]:
                raw = bytes.fromhex(step["hex"])
                if step["what"] == "preface":
                    continue
                frame = self.both(raw)
                if isinstance(frame, Frame):
                    self.expect(step["what"], self.again(frame), step["hex"])
                    self.followed(found["name"], sides, step["from"], frame)
                else:
                    self.expect(step["what"], frame, "a frame")
            calls = [call.summed() for _, call in sorted(sides["client"].calls.items())]
            self.expect(found["name"], calls, found["calls"])
            self.expect(found["name"], [side.owed for side in sides.values()], [[], []])

    def followed(self, name: str, sides: dict[str, Side], writer: str, frame: Frame) -> None:
        by, to = sides[writer], sides["server" if writer == "client" else "client"]
        kind, payload, calls = frame.kind, frame.payload, sides["client"].calls
        if kind in (Kind.HELLO, Kind.HELLO_ACK):
            by.intake = Intake(frame.v["window_connection"])
            to.credit = Credit(frame.v["window_connection"])
        elif kind == Kind.REQUEST:
            calls[frame.call] = Told(frame.call, payload, is_whole="more" not in frame.v)
        elif kind == Kind.DATA:
            by.credit.spend(len(payload))
            to.owed += [granted for granted in [to.intake.take(len(payload))] if granted]
            calls[frame.call].add(writer, payload, "more" not in frame.v)
        elif kind == Kind.CREDIT:
            self.expect(f"{name}: CREDIT", by.owed.pop(), frame.v["bytes"])
            to.credit.grant(frame.v["bytes"])
        elif kind == Kind.RESPONSE:
            calls[frame.call].status = frame.v["status"]
            calls[frame.call].response += payload

    def numbers(self, data: Any) -> None:
        """Names and numbers, against those of this side."""
        for row in data["kinds"]:
            known = Kind(row["number"])
            found = (known.name, FIXED.get(known, NOTHING)[0].size)
            self.expect("kind", found, (row["name"], row["fixed_bytes"]))
        self.expect("kinds", len(data["kinds"]) + 1, len(Kind))  # one stands for those skipped
        kinds = [kind.name for kind in Kind if kind in HAS_MORE]
        self.expect("flags", data["flags"], [{"name": "MORE", "number": MORE, "kinds": kinds}])
        self.expect("reasons", [row["name"] for row in data["reasons"]], REASONS)
        self.expect("statuses", {row["name"]: row["number"] for row in data["statuses"]}, STATUS)
        known = [(kind.name, key.name, number, key.required)
                 for kind in Kind for number, key in KEYS.get(kind, {}).items()]
        listed = [(row["frame"], row["name"], row["number"], row["is_required"])
                  for row in data["keys"]]
        self.expect("keys", sorted(listed), sorted(known))

    def names(self, data: Any) -> None:
        for case in data:
            self.expect(case["name"], method_id(case["name"]), case["method"])

    def fingerprints(self, data: Any) -> None:
        for case in data:
            text = case.get("schema_text") or case["method_text"]
            Contract(text) if "method_text" in case else parse_type(text)
            found = fingerprint64(text)
            wanted = (case["fingerprint64"], case["fingerprint32"])
            self.expect(text, (f"{found:016x}", f"{fold(found):08x}"), wanted)

    def tables(self, data: Any) -> None:
        known: dict[str, Table] = {}
        for case in data["tables"]:
            table = {}
            for method in case["methods"]:
                rows = {row["version"]: int(row["fingerprint"], 16) for row in method["versions"]}
                table[method["method"]] = Entry(method["ceiling"], rows)
            payload = bytes.fromhex(case["payload_hex"])
            self.expect(case["name"], parse_table(payload, False), (int(case["hash"], 16), table))
            self.expect(case["name"] + " encoded", table_payload(table), payload)
            known[case["name"]] = table
        for case in data["updates"]:
            named, changed = parse_table(bytes.fromhex(case["payload_hex"]), True)
            after = apply_update(known[case["before"]], named, changed)
            self.expect(case["name"], sorted(after.items()), sorted(known[case["after"]].items()))
            found = table_payload(after, changed).hex()
            self.expect(case["name"] + " encoded", found, case["payload_hex"])
        for case in data["invalid"]:
            found, is_update = None, case["kind"] == "TABLE_UPDATE"
            try:
                named, table = parse_table(bytes.fromhex(case["payload_hex"]), is_update)
                if is_update:
                    apply_update(known[case["before"]], named, table)
                else:
                    check_hash(named, table)
            except Violation as fault:
                found = fault.reason
            self.expect(case["name"], found, case["error"])
        for case in data["choice"]:
            chosen = choose_version(known[case["table"]], case["method"], case["client_versions"])
            self.expect(str(case), chosen, case["chosen"])

    def payload_json(self, data: Any) -> None:
        for case in data["valid"] + data["lenient"]:
            kind, payload = parse_type(case["type"]), case["json"].encode()
            value, what = native(kind, case["value"]), f"{case['type']} {case['json'][:60]}"
            self.expect(what, self.decoded(kind, payload), value)
            encoded = Json.encode(kind, value)
            self.expect(f"{what} there and back", self.decoded(kind, encoded), value)
            if case in data["valid"]:
                self.expect(f"{what} encoded", encoded.decode(), case["json"])
        for case in data["invalid"]:
            payload = case["json"].encode() if "json" in case else bytes.fromhex(case["hex"])
            found = self.decoded(parse_type(case["type"]), payload)
            self.expect(f"{case['type']} {case['why']}", isinstance(found, ValueError), True)

    def payload_beside(self, data: Any) -> None:
        """Those in JSON, the codec of this side."""
        for case in data["valid"]:
            if case["codec"] == 3:
                kind, payload = parse_payload(case["type"]), bytes.fromhex(case["hex"])
                wanted = case["value"]
                value = native(kind.parts[0], wanted["message"]), bytes.fromhex(wanted["bytes"])
                self.expect(f"{case}", decode(Json, kind, payload), value)
                self.expect(f"{case} encoded", encode(Json, kind, value), payload)
        for case in data["invalid"]:
            if case["codec"] == 3:
                try:
                    found: Any = decode(
                        Json, parse_payload(case["type"]), bytes.fromhex(case["hex"]))
                except ValueError as refused:
                    found = refused
                self.expect(f"{case}", isinstance(found, ValueError), True)

    @staticmethod
    def decoded(kind: Type, payload: bytes) -> Any:
        try:
            return Json.decode(kind, payload)
        except ValueError as refused:
            return refused


@dataclass
class Told:
    """What came of a call, as fragments.json says it."""

    id: int
    request: bytes
    is_whole: bool
    response: bytes = b""
    status: int | None = None

    def add(self, writer: str, payload: bytes, is_last: bool) -> None:
        if writer == "server":
            self.response += payload
        elif self.status is None:  # else it is thrown away
            self.request, self.is_whole = self.request + payload, is_last

    def summed(self) -> dict[str, Any]:
        out = {"call": self.id}
        if self.is_whole:
            out |= {"request_bytes": len(self.request), "request_crc": zlib.crc32(self.request)}
        out["status"] = self.status
        if self.status in (STATUS["OK"], STATUS["APP"]):
            out |= {"response_bytes": len(self.response),
                    "response_crc": zlib.crc32(self.response)}
        return out


@dataclass
class Side:
    """The books of one side of a conversation; the calls are with the client."""

    intake: Intake | None = None
    credit: Credit | None = None
    owed: list[int] = field(default_factory=list)
    calls: dict[int, Told] = field(default_factory=dict)


def native(t: Type, v: Any) -> Any:
    """A value of payload_json.json as values.py has it."""
    kind, parts = t.kind, t.parts
    if kind in INTEGERS:
        return int(v)
    if kind == "bytes":
        return bytes.fromhex(v)
    if kind == "newtype" or kind == "option" and v is not None:
        return native(parts[0], v)
    if kind in ("list", "array"):
        return [native(parts[0], item) for item in v]
    if kind == "tuple":
        return [native(part, item) for part, item in zip(parts, v, strict=True)]
    if kind == "map":
        return {native(parts[0], key): native(parts[1], item) for key, item in v}
    if kind == "struct":
        return {name: native(part, v[name]) for name, part in zip(t.names, parts)}
    if kind == "enum" and isinstance(v, dict):
        ((name, content),) = v.items()
        return {name: native(parts[t.names.index(name)], content)}
    return float(v) if kind in ("f32", "f64") else v
