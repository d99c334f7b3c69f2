"""A server: methods by version, and what it does with a REQUEST (spec/03-calls.md, 06-liveness.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import values
from flow import WHOLE_MAX, WINDOW, Long
from frames import (
    ANY_CALL, MAYBE, NO_CEILING, NOT_PROCESSED, PREFACE, PROCESSED, REASONS, STATUS, Entry, Frame,
    Kind, Table, Violation, check_table, choose_protocol, encode_frame, method_id, table_hash,
    table_payload)
from link import CALLS_MAX, FRAME_BYTES_MAX, Ending, Link, cut
from values import Contract, fnv1a

PONG, DRAIN = 1.0, 30.0  # seconds
HOUR_MS = 3_600_000
LONG_MAX = 1 << 26  # bytes of responses that wait for credit, before REQUESTs are OVERLOADED
JSON = {3: values.Json}


class Fail(Exception):
    """Raised by a handler: a status of its own."""

    def __init__(self, code: int, message: str = "") -> None:
        super().__init__(message)
        self.code, self.message = code, message


class AppError(Exception):
    """Raised by a handler: the method's own error."""

    def __init__(self, value: Any) -> None:
        super().__init__(value)
        self.value = value


class Context(NamedTuple):
    build: str
    attempt: int
    metadata: list[tuple[str, bytes]]


Handler = Callable[[Context, Any], Any]


@dataclass
class Served:
    """A call at the server, admitted."""

    id: int
    codec: int
    contract: Contract
    handler: Handler
    context: Context
    until: float
    size: int  # as it would be in one frame (FL-4)
    pieces: list[bytes] | None  # of its request, until the last one has come (FL-6)
    task: asyncio.Task[Any] | None = None
    timer: asyncio.TimerHandle | None = None
    stopped: str | None = None  # CANCELLED or DEADLINE_EXCEEDED, the first counts
    is_started: bool = False


class Server:
    """Methods, their ceilings, and the connections."""

    CONNECTIONS_MAX = 1024

    def __init__(self, build: str, codecs: dict[int, Any] = JSON, window: int = WINDOW) -> None:
        self.build, self.codecs, self.window = build, codecs, window
        self.contracts: dict[tuple[int, int], tuple[Contract, Handler]] = {}
        self.table: Table = {}
        self.links: dict[ServerLink, asyncio.Task[None] | None] = {}
        self.cancelled, self.is_draining = 0, False
        self.pieces = {"read": 0, "written": 0}  # DATA, of connections that have ended
        self.listener: asyncio.Server | None = None

    def add(self, name: str, version: int, text: str, handler: Handler) -> None:
        method, contract = method_id(name), Contract(text)
        entry = self.table.get(method, Entry(NO_CEILING, {}))
        if version in entry.versions or not 1 <= version <= 65534:
            raise ValueError(f"{name} {version}: RT-2")
        self.contracts[method, version] = contract, handler
        self.table |= {method: Entry(entry.ceiling, entry.versions | {version: contract.fp64})}
        check_table(self.table)

    def ceiling(self, name: str, ceiling: int) -> None:
        """RT-5: one method at a time, so an update is never too large."""
        changed = {method_id(name): Entry(ceiling, self.table[method_id(name)].versions)}
        self.table = self.table | changed
        payload = table_payload(self.table, changed)
        for link in self.links:
            if link.ready:
                link.send(encode_frame(Kind.TABLE_UPDATE, payload=payload))

    async def listen(self, host: str, port: int) -> int:
        self.listener = await asyncio.start_server(self._accept, host, port)
        return self.listener.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self.links) >= self.CONNECTIONS_MAX:
            return writer.close()  # HS-2
        link = ServerLink(self, reader, writer)
        self.links[link] = asyncio.current_task()
        leaving = asyncio.create_task(link.drain()) if self.is_draining else None
        try:
            await link.run()
        finally:
            self.pieces["read"] += link.pieces
            self.pieces["written"] += link.outgoing.pieces
            del self.links[link]
            if leaving:
                leaving.cancel()

    async def drain(self) -> None:
        """CA-16: until every connection has ended. What is connected already is taken first."""
        self.is_draining = True
        links = dict(self.links)
        for _ in range(4):  # turns of the loop: the socket is asked, streams are made, tasks run
            await asyncio.sleep(0)
        if self.listener:
            self.listener.close()
        await asyncio.gather(*(link.drain() for link in links), return_exceptions=True)
        while tasks := [task for task in self.links.values() if task]:
            await asyncio.wait(tasks)


class ServerLink(Link):
    def __init__(self, server: Server, *streams: Any) -> None:
        super().__init__(*streams, server.window)
        self.server = server
        self.calls: dict[int, Served] = {}  # in flight
        self.highest = self.last_call = 0  # CA-1; LD-4
        self.last_goaway: int | None = None
        self.greeted, self.empty = asyncio.Event(), asyncio.Event()
        self.empty.set()

    def on_preface(self, lo: int, hi: int) -> None:
        self.send(PREFACE)
        if choose_protocol((1, 1), (lo, hi)) is None:
            raise Violation("NO_COMMON_VERSION", "this side speaks 1 to 1")

    def on_frame(self, frame: Frame) -> None:
        if frame.kind == Kind.HELLO:
            self._on_hello(frame)
        elif frame.kind == Kind.REQUEST:
            self._on_request(frame)
        elif frame.kind == Kind.DATA:
            self._on_data(frame)
        elif frame.call > self.highest:  # CANCEL, CA-12
            raise Violation("PROTOCOL", f"CANCEL of call {frame.call}, highest {self.highest}")
        elif call := self.calls.get(frame.call):
            self._stop(call, "CANCELLED")

    def _on_hello(self, frame: Frame) -> None:
        table = self.server.table
        current = table_hash(table)
        self.send(encode_frame(Kind.HELLO_ACK, 0, {
            "frame_bytes_max": FRAME_BYTES_MAX, "calls_max": CALLS_MAX,
            "codecs": sorted(self.server.codecs), "build": self.server.build,
            "tables": [current], "transcript": fnv1a(self.preface + frame.raw),
            "window_connection": self.server.window}))
        if current not in frame.v.get("tables", []):
            self.send(encode_frame(Kind.TABLE, payload=table_payload(table)))
        self.ready = True
        self.greeted.set()

    def _on_request(self, frame: Frame) -> None:
        if frame.call <= self.highest:
            raise Violation("CALL_ID", f"call {frame.call} after call {self.highest}")
        self.highest = frame.call
        if self.last_goaway is None:  # else it is thrown away, LD-9
            self.last_call = frame.call
            admitted = self._refuse_or_admit(frame)
            if not isinstance(admitted, Served):
                return self.respond(frame.call, admitted[0], NOT_PROCESSED, admitted[1])
            self.calls[frame.call] = admitted
            self.empty.clear()
            admitted.timer = self.loop.call_at(
                admitted.until, self._stop, admitted, "DEADLINE_EXCEEDED")
            self._add(admitted, frame)

    def _on_data(self, frame: Frame) -> None:
        """FL-8: of no call in flight, it is thrown away."""
        self._take_data(frame)
        if frame.call > self.highest:
            raise Violation("PROTOCOL", f"DATA of call {frame.call}, highest {self.highest}")
        if call := self.calls.get(frame.call):
            if call.pieces is None:
                raise Violation("PROTOCOL", f"DATA of call {frame.call}, which is whole")
            call.size += len(frame.payload)
            if call.size > FRAME_BYTES_MAX:
                raise Violation("FRAME_TOO_LARGE", f"{call.size} bytes in pieces")
            self._add(call, frame)

    def _add(self, call: Served, frame: Frame) -> None:
        """A piece of a request; the last one starts its handler."""
        call.pieces.append(frame.payload)
        if "more" not in frame.v:
            payload, call.pieces = b"".join(call.pieces), None
            try:
                types = call.contract.request
                request = values.decode(self.server.codecs[call.codec], types, payload)
            except ValueError as fault:
                return self._answer(call, "BAD_PAYLOAD", NOT_PROCESSED, b"", str(fault)[:200])
            if self.loop.time() >= call.until:
                return self._answer(call, "DEADLINE_EXCEEDED", NOT_PROCESSED)
            self._start(call, request)

    def _refuse_or_admit(self, frame: Frame) -> tuple[str, dict[str, Any]] | Served:
        """CA-3, in its order, but for the last two checks."""
        v, server, read_at = frame.v, self.server, self.loop.time()
        method, version, entry = v["method"], v["version"], server.table.get(v["method"])
        if frame.refused:
            return frame.refused, {}
        if len(self.calls) >= CALLS_MAX or self.outgoing.bytes > LONG_MAX:
            return "OVERLOADED", {}
        if entry is None:
            return "UNKNOWN_METHOD", {}
        if version not in entry.callable():
            message = f"no version {version}"
            return "UNSUPPORTED_VERSION", {"versions": entry.callable(), "message": message}
        contract, handler = server.contracts[method, version]
        if v["codec"] not in server.codecs:
            return "UNSUPPORTED_CODEC", {"codecs": sorted(server.codecs)}
        if v["fingerprint"] and v["fingerprint"] != contract.fp32:
            return "SCHEMA_MISMATCH", {"fingerprint": contract.fp32}
        if not v["timeout_ms"]:
            return "DEADLINE_EXCEEDED", {}
        until = read_at + min(v["timeout_ms"], HOUR_MS) / 1000
        attempt, metadata = v["attempt_priority"] >> 4, v.get("metadata", [])
        context = Context(self.peer.get("build", ""), attempt, metadata)
        size = len(frame.raw) - 16
        return Served(frame.call, v["codec"], contract, handler, context, until, size, [])

    def _start(self, call: Served, request: Any) -> None:
        """A handler answers at once, or it is a coroutine and gets a task."""
        try:
            result = call.handler(call.context, request)
        except Exception as fault:
            return self._outcome(call, None, fault)
        if not asyncio.iscoroutine(result):
            return self._outcome(call, result, None)

        async def run() -> Any:
            call.is_started = True
            return await result

        call.task = asyncio.create_task(run())
        call.task.add_done_callback(lambda task: self._ended(call, task, result))

    def _stop(self, call: Served, status: str) -> None:
        if call.pieces is not None:  # no handler was started
            self.server.cancelled += status == "CANCELLED"
            self._answer(call, status, NOT_PROCESSED)
        elif call.stopped is None and (status == "DEADLINE_EXCEEDED" or not call.task.done()):
            call.stopped = status
            call.task.cancel()

    def _ended(self, call: Served, task: asyncio.Task[Any], coroutine: Any) -> None:
        coroutine.close()  # one that never ran
        fault = asyncio.CancelledError() if task.cancelled() else task.exception()
        if call.stopped:
            self.server.cancelled += call.stopped == "CANCELLED"
            self._answer(call, call.stopped, MAYBE if call.is_started else NOT_PROCESSED)
        else:
            self._outcome(call, None if fault else task.result(), fault)

    def _outcome(self, call: Served, result: Any, fault: BaseException | None) -> None:
        """CA-13: whatever leaves a handler is PROCESSED."""
        types, codec = call.contract, self.server.codecs[call.codec]
        status, payload, message = "INTERNAL", b"", type(fault).__name__
        try:
            if fault is None:
                status, payload = "OK", values.encode(codec, types.response, result)
            elif isinstance(fault, AppError) and types.error:
                status, payload = "APP", values.encode(codec, types.error, fault.value)
            elif isinstance(fault, Fail):  # ST-2
                code = 42 if fault.code >= 0x8000 else 11 if fault.code <= 1 else fault.code
                status, message = code, fault.message
        except (ValueError, TypeError, KeyError, AttributeError) as unfit:
            message = f"response: {unfit}"
        self._answer(call, status, PROCESSED, payload, message)

    def _answer(self, call: Served, status: str | int, disposition: int, payload: bytes = b"",
                message: str = "") -> None:
        if self.calls.pop(call.id, None) is None:
            return  # the connection has ended
        if call.timer:
            call.timer.cancel()
        is_value = status in ("OK", "APP")
        keys = {"codec": call.codec} if is_value else {"message": message} if message else {}
        self.respond(call.id, status, disposition, keys, payload)
        self._look_if_empty()

    def _look_if_empty(self) -> None:
        """A response that is not written to its end is in flight (CA-11)."""
        if not self.calls and not self.outgoing.longs:
            self.empty.set()

    def respond(self, call: int, status: str | int, disposition: int, keys: dict[str, Any],
                payload: bytes = b"") -> None:
        def frame(status: str | int, keys: dict[str, Any], payload: bytes) -> bytes:
            number = STATUS[status] if isinstance(status, str) else status
            fields = {"status": number, "disposition": disposition, "codec": 0} | keys
            if "message" in fields:
                fields["message"] = cut(fields["message"], 1024)
            return encode_frame(Kind.RESPONSE, call, fields, payload)

        data, limit = frame(status, keys, payload), self.peer["frame_bytes_max"]
        if len(data) - 16 > limit:  # CA-14
            data = frame("TOO_LARGE", {"limit": limit, "value": len(data) - 16}, b"")
        elif self.is_long(payload):
            head, rest = memoryview(payload)[:-WHOLE_MAX], payload[-WHOLE_MAX:]
            end = frame(status, keys, rest)
            self.outgoing.longs.append(Long(call, head, self._look_if_empty, end))
            self._wake.set()
            return
        self.send(data)

    def on_over(self, ending: Ending) -> None:
        """LD-6."""
        for call in list(self.calls.values()):
            if call.task or call.pieces is not None:
                self._stop(call, "CANCELLED")
            if call.timer:
                call.timer.cancel()
        self.calls.clear()
        self.empty.set()

    async def drain(self) -> None:
        """LD-7."""
        await self._until(self.greeted.wait(), 1.0)
        if not self.greeted.is_set():
            return self.finish(Ending("SHUTDOWN") if len(self.preface) == 8 else Ending())
        ping, pong = self.ping_frame()
        self._goaway(ANY_CALL, ping)
        await self._until(pong, PONG)
        if not self.over.done():
            self.last_goaway = self.last_call
            self._goaway(self.last_goaway)
            await self._until(self.empty.wait(), DRAIN)
            self.finish(Ending("SHUTDOWN" if self.empty.is_set() else "DRAIN_TIMEOUT"))

    def _goaway(self, last_call: int, behind: bytes = b"") -> None:
        said = {"last_call": last_call, "reason": REASONS.index("SHUTDOWN"),
                "grace_ms": int(DRAIN * 1000)}
        self.send(encode_frame(Kind.GOAWAY, 0, said) + behind)

    async def _until(self, what: Awaitable[Any], seconds: float) -> None:
        """Until `what` is done, the connection is over, or the time is."""
        one = asyncio.ensure_future(what)
        first = asyncio.FIRST_COMPLETED
        await asyncio.wait({one, self.over}, timeout=seconds, return_when=first)
        one.cancel()
