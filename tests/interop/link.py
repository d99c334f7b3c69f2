"""What both sides of a connection have in common (spec/02-handshake.md, 06-liveness.md).

What the specification leaves to a peer (keepalive, budgets, patience) is not here: it never pings
by itself, and takes all that a peer sends within the rules. Long messages go in pieces (flow.py),
each behind what else there is to write.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from flow import WHOLE_MAX, WINDOW, Credit, Intake, Long, Outgoing
from frames import PREFACE, REASONS, Frame, FrameReader, Kind, Violation, encode_frame, read_preface

FRAME_BYTES_MAX, FIRST_LIMIT, CALLS_MAX = 4194304, 16384, 1024
HANDSHAKE, LINGER = 5.0, 1.0  # seconds
EITHER = {Kind.PING, Kind.PONG, Kind.CLOSE, Kind.DATA, Kind.CREDIT}
OUTPUT_MAX = 4194304  # a server stops reading while more than this waits to be written


class Ending(NamedTuple):
    """How a connection ends: with our CLOSE (`reason`), the peer's (`read`), or neither."""

    reason: str | None = None
    detail: str = ""
    read: Frame | None = None
    status: str = "CONNECTION_LOST"


@dataclass(eq=False)
class Pending:
    """A call at the client, from its REQUEST to its RESPONSE, cancelled or not."""

    id: int
    codec: int
    answered: asyncio.Future[Any]
    is_handed: bool = False  # to its last byte
    is_cancelled: bool = False
    rest: Long | None = None  # of its request
    pieces: list[bytes] = field(default_factory=list)  # of its response

    def hand(self) -> None:
        self.is_handed = True


class Link:
    """What both sides have in common: reading, writing, PING, the end."""

    client = False
    last_call = 0

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter,
                 window: int = WINDOW) -> None:
        self.reader, self.writer, self.loop = reader, writer, asyncio.get_running_loop()
        self.frames, self.preface = FrameReader(FIRST_LIMIT), b""
        self.over: asyncio.Future[Ending] = self.loop.create_future()
        self.ready = False  # the handshake is through
        self.peer: dict[str, Any] = {}  # the keys of its HELLO or HELLO_ACK
        self.intake, self.outgoing = Intake(window), Outgoing()
        self.pieces = 0  # DATA read
        self._out: deque[tuple[bytes, Pending | None]] = deque()
        self._out_bytes, self._is_closing = 0, False
        self._pong: bytes | None = None  # LD-1: at most one
        self._wake, self._room = asyncio.Event(), asyncio.Event()
        self._pings: dict[int, asyncio.Future[None]] = {}
        self._ping_last = 0
        writer.transport.set_write_buffer_limits(high=0)

    def on_preface(self, lo: int, hi: int) -> None: ...
    def on_frame(self, frame: Frame) -> None: ...
    def on_over(self, ending: Ending) -> None: ...

    async def run(self) -> None:
        """Until the connection has ended; raises nothing."""
        timer = self.loop.call_later(HANDSHAKE, self._late)
        reading, writing = asyncio.create_task(self._read()), asyncio.create_task(self._write())
        try:
            ending = await self.over
            self.on_over(ending)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            if ending.reason is not None:
                await self._say_close(ending, writing)
        finally:
            timer.cancel()
            for task in (reading, writing):
                task.cancel()
            await asyncio.gather(reading, writing, return_exceptions=True)
            if self.writer.transport.get_write_buffer_size():
                self.writer.transport.abort()  # LD-2: nothing more goes out
            self.writer.close()
            with suppress(OSError):
                await self.writer.wait_closed()

    def finish(self, ending: Ending) -> None:
        if not self.over.done():
            self.over.set_result(ending)

    def _late(self) -> None:
        if not self.ready:  # HS-9
            is_silent = not self.client and len(self.preface) < 8
            self.finish(Ending() if is_silent else Ending("HANDSHAKE_TIMEOUT"))

    async def _say_close(self, ending: Ending, writing: asyncio.Task[None]) -> None:
        """LD-3: CLOSE behind what is in the output, then read and throw away."""
        said = {"reason": REASONS.index(ending.reason or ""), "last_call": self.last_call}
        self.outgoing.longs.clear()
        self._queue(encode_frame(Kind.CLOSE, 0, said, cut(ending.detail, 256).encode()))
        self._is_closing = True
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(LINGER):
                await asyncio.shield(writing)
                self.writer.write_eof()
                while await self.reader.read(65536):
                    pass

    def send(self, data: bytes, call: Pending | None = None) -> None:
        if not self.over.done():
            self._queue(data, call)

    def _queue(self, data: bytes, call: Pending | None = None) -> None:
        self._out.append((data, call))
        self._out_bytes += len(data)
        self._wake.set()

    async def _write(self) -> None:
        try:
            while True:
                while batch := self._batch():
                    self.writer.write(batch)
                    await self.writer.drain()
                    self._room.set()
                    if self.outgoing.longs:
                        await asyncio.sleep(0)  # a turn for what comes between pieces (FL-5)
                if self._is_closing:
                    return
                self._wake.clear()
                await self._wake.wait()
        except OSError:
            self.finish(Ending())

    def _batch(self) -> bytes:
        """What is written next: what there is, then one piece of a long message (FL-5)."""
        batch = bytearray()
        if self._pong is not None:
            batch += encode_frame(Kind.PONG, payload=self._pong)
            self._pong = None
        while self._out and len(batch) < 65536:
            data, call = self._out.popleft()
            self._out_bytes -= len(data)
            batch += data
            if call is not None and call.rest is None:
                call.hand()  # from here on it may have left (LD-5)
            elif call is not None and not call.rest.is_dropped:
                self.outgoing.longs.append(call.rest)
        batch += self.outgoing.piece()
        return bytes(batch)

    def _take_data(self, frame: Frame) -> None:
        """FL-10, FL-11: before anything is done with it."""
        self.pieces += 1
        if granted := self.intake.take(len(frame.payload)):
            self.send(encode_frame(Kind.CREDIT, 0, {"bytes": granted}))

    async def _read(self) -> None:
        try:
            while data := await self.reader.read(65536):
                self._feed(data)
                while not self.over.done() and (frame := self.frames.next()) is not None:
                    self._take(frame)
                    while not self.client and self._out_bytes > OUTPUT_MAX:
                        self._room.clear()
                        await self._room.wait()
            self.finish(Ending())  # LD-5
        except Violation as fault:
            is_silent = fault.reason == "NOT_SWITCHBACK"  # HS-2
            self.finish(Ending() if is_silent else Ending(fault.reason, fault.detail))
        except OSError:
            self.finish(Ending())
        except Exception as fault:
            self.loop.call_exception_handler({"message": "our own fault", "exception": fault})
            self.finish(Ending("INTERNAL", type(fault).__name__))

    def _feed(self, data: bytes) -> None:
        if len(self.preface) < 8:
            missing = 8 - len(self.preface)
            self.preface, data = self.preface + data[:missing], data[missing:]
            try:
                versions = read_preface(self.preface)
            except Violation as fault:
                if fault.reason == "MALFORMED" and not self.client:
                    self.send(PREFACE)  # HS-3
                raise
            if versions:
                self.on_preface(*versions)
        self.frames.buffer += data

    def _take(self, frame: Frame) -> None:
        """FR-12, and the kinds that either side takes."""
        kind, call = frame.kind, frame.call
        if kind == Kind.SKIPPED:
            return
        from_client = kind in (Kind.HELLO, Kind.REQUEST, Kind.CANCEL)
        if kind not in EITHER and from_client == self.client:
            raise Violation("PROTOCOL", f"{Kind(kind).name} from this side")
        has_call = kind in (Kind.REQUEST, Kind.RESPONSE, Kind.CANCEL, Kind.DATA)
        if has_call and call % 2 == 0 or not has_call and call:
            raise Violation("PROTOCOL", f"{Kind(kind).name} with call id {call}")
        if kind == Kind.CLOSE:
            return self.finish(Ending(read=frame))
        first = Kind.HELLO_ACK if self.client else Kind.HELLO
        if (kind == first) == bool(self.peer):
            raise Violation("PROTOCOL", f"{Kind(kind).name} out of turn")
        if kind == Kind.PING:
            self._pong = frame.payload
            self._wake.set()
        elif kind == Kind.PONG:
            number = int.from_bytes(frame.payload)
            for earlier in [p for p in self._pings if number in self._pings and p <= number]:
                self._pings.pop(earlier).set_result(None)  # LD-1
        elif kind == Kind.CREDIT:
            self.outgoing.credit.grant(frame.v["bytes"])
            self._wake.set()
        else:
            if kind == first:
                self.frames.limit, self.peer = FRAME_BYTES_MAX, frame.v
                self.outgoing.credit = Credit(frame.v.get("window_connection", 0))
            self.on_frame(frame)

    def is_long(self, payload: bytes) -> bool:
        """Whether it goes in pieces: it is worth it, and the other side takes them (FL-1)."""
        return len(payload) > WHOLE_MAX and self.outgoing.credit.window > 0

    def ping_frame(self) -> tuple[bytes, asyncio.Future[None]]:
        """A PING, and what is done when its PONG is there."""
        self._ping_last += 1
        future = self._pings[self._ping_last] = self.loop.create_future()
        return encode_frame(Kind.PING, payload=self._ping_last.to_bytes(8)), future


def cut(text: str, most: int) -> str:
    """ST-4: at the end of a character."""
    return text.encode(errors="replace")[:most].decode(errors="ignore")
