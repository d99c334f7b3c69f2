"""A client: a connection, and calls that go to the next one if nobody read them (spec/03-calls.md,
06-liveness.md, 07-tables.md).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import values
from flow import WHOLE_MAX, WINDOW, Long
from frames import (
    ANY_CALL, EXT_MAX, MAYBE, NOT_PROCESSED, PREFACE, STATUS, CallFailed, Frame, Kind, Table,
    Violation, apply_update, check_hash, choose_protocol, choose_version, encode_frame,
    encode_tlvs, method_id, table_hash)
from link import CALLS_MAX, FRAME_BYTES_MAX, HANDSHAKE, Ending, Link, Pending
from values import Contract, fnv1a

TABLES_MAX = 8


class ClientLink(Link):
    client = True

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, build: str,
                 tables: dict[int, Table], codecs: Iterable[int], window: int = WINDOW) -> None:
        super().__init__(reader, writer, window)
        self.tables = tables  # by hash, newest last, kept between connections (RT-8)
        self.waiting: dict[int, Pending] = {}
        self.table: Table = {}
        self.opened: asyncio.Future[CallFailed | None] = self.loop.create_future()
        self.last_goaway: int | None = None
        self.slots, self._next = asyncio.Semaphore(0), 1
        self._held = dict(tables)
        hello = {"frame_bytes_max": FRAME_BYTES_MAX, "codecs": sorted(codecs), "build": build,
                 "tables": [*reversed(self._held)] or None, "window_connection": window}
        first = PREFACE + encode_frame(Kind.HELLO, 0, hello)
        self.transcript = fnv1a(first)
        self.send(first)

    @property
    def is_usable(self) -> bool:
        return not self.over.done() and self.last_goaway is None and self._next <= ANY_CALL

    def on_preface(self, lo: int, hi: int) -> None:
        if choose_protocol((1, 1), (lo, hi)) is None:  # HS-4
            self.finish(Ending(detail=f"the server speaks {lo} to {hi}", status="NOT_CONNECTED"))

    def on_frame(self, frame: Frame) -> None:
        kind, v = frame.kind, frame.v
        if kind == Kind.HELLO_ACK:
            if v["transcript"] != self.transcript:
                raise Violation("TRANSCRIPT")
            for _ in range(min(v["calls_max"], CALLS_MAX)):
                self.slots.release()
            if v["tables"][0] in self._held:
                self._has_table(self._held[v["tables"][0]])
        elif kind == Kind.TABLE:
            if self.ready:
                raise Violation("PROTOCOL", "a TABLE that was not announced")
            named, table = v["table"]
            check_hash(named, table)
            if named != self.peer["tables"][0]:
                raise Violation("TABLE", "not the table of HELLO_ACK")
            self._has_table(table)
        elif kind == Kind.GOAWAY:
            self._on_goaway(v["last_call"])
        elif not self.ready:
            raise Violation("PROTOCOL", f"{Kind(kind).name} before TABLE")
        elif kind == Kind.TABLE_UPDATE:
            self._has_table(apply_update(self.table, *v["table"]))
        elif kind == Kind.DATA:
            self._on_data(frame)
        elif frame.call in self.waiting:
            self._on_response(self.waiting[frame.call], frame)
        else:
            raise Violation("PROTOCOL", f"a RESPONSE to call {frame.call}")

    def _on_data(self, frame: Frame) -> None:
        """FL-3, FL-8: a piece of a response, thrown away if nobody wants it any more."""
        self._take_data(frame)
        pending = self.waiting.get(frame.call)
        if pending is None or "more" not in frame.v:
            raise Violation("PROTOCOL", f"a DATA to call {frame.call}")
        if not pending.is_cancelled:
            pending.pieces.append(frame.payload)
            self._check_length(sum(map(len, pending.pieces)) + 4 + 4)

    def _on_response(self, pending: Pending, frame: Frame) -> None:
        if frame.v["status"] <= STATUS["APP"] and pending.pieces:
            self._check_length(len(frame.raw) - 16 + sum(map(len, pending.pieces)))
            frame.payload = b"".join(pending.pieces) + frame.payload
        self._settle(frame.call, frame)

    @staticmethod
    def _check_length(size: int) -> None:
        """FL-4."""
        if size > FRAME_BYTES_MAX:
            raise Violation("FRAME_TOO_LARGE", f"{size} bytes in pieces")

    def _has_table(self, table: Table) -> None:
        self.table, number = table, table_hash(table)
        self.tables.pop(number, None)
        self.tables[number] = table
        while len(self.tables) > TABLES_MAX:
            del self.tables[next(iter(self.tables))]
        self.ready = True
        if not self.opened.done():
            self.opened.set_result(None)

    def _on_goaway(self, last_call: int) -> None:
        if self.last_goaway is not None and last_call > self.last_goaway:
            raise Violation("PROTOCOL", "a GOAWAY above the one before")
        self.last_goaway = last_call
        for call in [call for call in self.waiting if call > last_call]:  # LD-10
            self._settle(call, CallFailed("CONNECTION_LOST", NOT_PROCESSED, "never read: GOAWAY"))
        self.slots.release()  # whoever waits for a slot looks again

    def _settle(self, call: int, outcome: Frame | CallFailed) -> None:
        pending = self.waiting.pop(call)
        self._drop_rest(pending)  # FL-7
        self.slots.release()
        if not pending.answered.done():
            pending.answered.set_result(outcome)

    def on_over(self, ending: Ending) -> None:
        """LD-4, LD-5."""
        read, last = ending.read, ending.read.v["last_call"] if ending.read else ANY_CALL
        why = f"CLOSE {read.v['reason']} {read.v['detail']}" if read else ending.detail
        for call, pending in list(self.waiting.items()):
            is_never = not pending.is_handed or call > last or ending.status == "NOT_CONNECTED"
            disposition = NOT_PROCESSED if is_never else MAYBE
            self._settle(call, CallFailed(ending.status, disposition, ending.reason or why))
        if not self.opened.done():
            self.opened.set_result(CallFailed(ending.status, NOT_PROCESSED, ending.reason or why))
        self.slots.release()

    async def start(self, method: int, version: int, payload: bytes, deadline: float, *,
                    codec: int = 3, fingerprint: int = 0, attempt: int = 0,
                    metadata: Iterable[tuple[str, bytes]] = (), tlvs: bytes | None = None,
                    is_checked: bool = True) -> Pending:
        """Write a REQUEST when there is a slot; not `is_checked`: also what CA-6 forbids."""
        if failed := await asyncio.shield(self.opened):
            raise failed
        if is_checked and codec not in self.peer["codecs"]:
            raise CallFailed("UNSUPPORTED_CODEC", NOT_PROCESSED, "not in HELLO_ACK")
        fields = {"method": method, "version": version, "codec": codec,
                  "attempt_priority": min(attempt, 15) << 4, "timeout_ms": 0,
                  "fingerprint": fingerprint, "metadata": list(metadata)}
        block = encode_tlvs(Kind.REQUEST, fields) if tlvs is None else tlvs
        sizes = [(len(block), EXT_MAX),
                 (16 + len(block) + len(payload) + 4, self.peer["frame_bytes_max"])]
        for size, limit in sizes:  # CA-14
            if size > limit:
                keys = {"limit": limit, "value": size}
                raise CallFailed("TOO_LARGE", NOT_PROCESSED, f"{size} above {limit}", keys)
        try:
            async with asyncio.timeout_at(deadline):
                await self.slots.acquire()  # CA-11
        except TimeoutError:
            raise CallFailed("DEADLINE_EXCEEDED", NOT_PROCESSED, "waited for a slot") from None
        remaining = math.ceil((deadline - self.loop.time()) * 1000)
        if not self.is_usable or remaining <= 0:
            self.slots.release()
            status = "DEADLINE_EXCEEDED" if self.is_usable else "NOT_CONNECTED"
            raise CallFailed(status, NOT_PROCESSED, "not sent")
        fields["timeout_ms"] = min(remaining, 0xFFFFFFFF)
        pending = self.waiting[self._next] = Pending(self._next, codec, self.loop.create_future())
        self._next += 2
        if self.is_long(payload):
            rest = memoryview(payload)[WHOLE_MAX:]
            pending.rest = Long(pending.id, rest, pending.hand)
            fields["more"], payload = True, payload[:WHOLE_MAX]
        self.send(encode_frame(Kind.REQUEST, pending.id, fields, payload, block), pending)
        return pending

    def _drop_rest(self, pending: Pending) -> None:
        if pending.rest is not None:
            pending.rest.is_dropped = True
            self.outgoing.drop(pending.id)

    def cancel(self, pending: Pending) -> None:
        """CA-12: the slot is held until the RESPONSE is there."""
        if not pending.is_cancelled and pending.id in self.waiting:
            pending.is_cancelled = True
            pending.pieces.clear()
            self._drop_rest(pending)  # FL-7
            self.send(encode_frame(Kind.CANCEL, pending.id))

    async def request(self, method: int, version: int, payload: bytes, deadline: float,
                      **options: Any) -> Frame:
        """The RESPONSE with OK or APP; anything else raises CallFailed."""
        pending = await self.start(method, version, payload, deadline, **options)
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await asyncio.shield(pending.answered)
        except TimeoutError:  # CA-8: it is in the output, and goes out, but for pieces of it
            self.cancel(pending)
            is_cut = pending.rest is not None and not pending.is_handed
            disposition = NOT_PROCESSED if is_cut else MAYBE
            raise CallFailed("DEADLINE_EXCEEDED", disposition, "here") from None
        except asyncio.CancelledError:
            self.cancel(pending)
            raise
        if isinstance(outcome, CallFailed):
            raise outcome
        v = outcome.v
        if v["status"] > STATUS["APP"]:
            raise CallFailed(v["status"], v["disposition"], v.get("message", ""), v)
        if v["codec"] != pending.codec:
            raise CallFailed("BAD_RESPONSE", v["disposition"], f"codec {v['codec']}")
        return outcome


@dataclass
class Method:
    """What a client knows of a method: values of the highest version, converted for others."""

    name: str
    contracts: dict[int, Contract] = field(default_factory=dict)
    request_for: Callable[[int, Any], Any] = lambda version, value: value
    response_of: Callable[[int, Any], Any] = lambda version, value: value

    def only(self, version: int) -> Method:
        known = {version: self.contracts[version]}
        return Method(self.name, known, self.request_for, self.response_of)


class Client:
    """One address, one connection at a time; what was never executed is sent again (LD-10)."""

    ATTEMPTS = 200
    REST = 0.05  # seconds between two attempts to connect

    def __init__(self, host: str, port: int, build: str = "peer.py",
                 codec: tuple[int, Any] = (3, values.Json), window: int = WINDOW) -> None:
        self.host, self.port, self.build, self.window = host, port, build, window
        self.codec_id, self.codec = codec
        self.tables: dict[int, Table] = {}
        self.link: ClientLink | None = None
        self._runs: dict[ClientLink, asyncio.Task[None]] = {}
        self._dialling = asyncio.Lock()

    async def connect(self) -> ClientLink:
        async with self._dialling:
            if self.link is None or not self.link.is_usable:
                try:
                    async with asyncio.timeout(HANDSHAKE):
                        streams = await asyncio.open_connection(self.host, self.port)
                except (OSError, TimeoutError) as fault:
                    raise CallFailed("NOT_CONNECTED", NOT_PROCESSED, str(fault)) from None
                link = ClientLink(
                    *streams, self.build, self.tables, [self.codec_id], self.window)
                self.link, self._runs[link] = link, asyncio.create_task(link.run())
                self._runs[link].add_done_callback(lambda _: self._runs.pop(link))
            link = self.link
        if failed := await asyncio.shield(link.opened):
            raise failed
        return link

    async def close(self) -> None:
        runs = dict(self._runs)
        for link in runs:
            link.finish(Ending("NORMAL"))
        await asyncio.gather(*runs.values(), return_exceptions=True)

    async def call(self, method: Method, value: Any, timeout: float = 10.0,
                   metadata: Iterable[tuple[str, bytes]] = ()) -> Any:
        loop = asyncio.get_running_loop()
        deadline, metadata = loop.time() + timeout, list(metadata)
        for rest in range(self.ATTEMPTS - 1, -1, -1):
            try:
                return await self._attempt(method, value, deadline, metadata)
            except CallFailed as failed:
                is_lost = failed.name in ("CONNECTION_LOST", "NOT_CONNECTED", "DRAINING")
                is_unread = is_lost and failed.disposition == NOT_PROCESSED
                if not is_unread or not rest or loop.time() >= deadline:
                    raise
                if failed.name == "NOT_CONNECTED":
                    await asyncio.sleep(self.REST)

    async def _attempt(self, method: Method, value: Any, deadline: float,
                       metadata: list[tuple[str, bytes]]) -> Any:
        """Choose (RT-6), send, and mend an UNSUPPORTED_VERSION once (CA-5)."""
        number = method_id(method.name)
        try:
            async with asyncio.timeout_at(deadline):
                link = await self.connect()
        except TimeoutError:
            raise CallFailed("DEADLINE_EXCEEDED", NOT_PROCESSED, "not connected yet") from None
        version = choose_version(link.table, number, method.contracts)
        if version is None:
            name = "UNSUPPORTED_VERSION" if number in link.table else "UNKNOWN_METHOD"
            raise CallFailed(name, NOT_PROCESSED, "by the table")
        if link.table[number].versions[version] not in (0, method.contracts[version].fp64):
            raise CallFailed("SCHEMA_MISMATCH", NOT_PROCESSED, "by the table")
        try:
            return await self._send(link, method, version, value, deadline, metadata)
        except CallFailed as failed:
            is_refused = failed.name == "UNSUPPORTED_VERSION" and not failed.disposition
            left = {*failed.keys.get("versions", ())} & {*method.contracts}
            if not is_refused or not left:
                raise
        return await self._send(link, method, max(left), value, deadline, metadata)

    async def _send(self, link: ClientLink, method: Method, version: int, value: Any,
                    deadline: float, metadata: list[tuple[str, bytes]]) -> Any:
        types = method.contracts[version]
        try:
            request = method.request_for(version, value)
            payload = values.encode(self.codec, types.request, request)
        except (ValueError, TypeError, KeyError) as fault:
            raise CallFailed("ENCODE", NOT_PROCESSED, str(fault)) from None
        frame = await link.request(
            method_id(method.name), version, payload, deadline, codec=self.codec_id,
            fingerprint=types.fp32, metadata=metadata)
        status, disposition = frame.v["status"], frame.v["disposition"]
        try:
            if status and types.error is None:
                raise ValueError("APP from a method without an error")
            kind = types.error if status else types.response
            answer = values.decode(self.codec, kind, frame.payload)
        except ValueError as fault:
            raise CallFailed("BAD_RESPONSE", disposition, str(fault)) from None
        if status:
            raise CallFailed("APP", disposition, frame.v.get("message", ""), frame.v, answer)
        return method.response_of(version, answer)
