"""What both sides of a connection have in common (spec/02-handshake.md, 06-liveness.md).

What the specification leaves to a peer (keepalive, budgets, patience) is not here: it never pings
by itself, and takes all that a peer sends within the rules.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from frames import PREFACE, REASONS, Frame, FrameReader, Kind, Violation, encode_frame, read_preface

FRAME_BYTES_MAX, FIRST_LIMIT, CALLS_MAX = 4194304, 16384, 1024
HANDSHAKE, LINGER = 5.0, 1.0  # seconds
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
    is_handed: bool = False
    is_cancelled: bool = False


class Link:
    """What both sides have in common: reading, writing, PING, the end."""

    client = False
    last_call = 0

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer, self.loop = reader, writer, asyncio.get_running_loop()
        self.frames, self.preface = FrameReader(FIRST_LIMIT), b""
        self.over: asyncio.Future[Ending] = self.loop.create_future()
        self.ready = False  # the handshake is through
        self.peer: dict[str, Any] = {}  # the keys of its HELLO or HELLO_ACK
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
                while self._out or self._pong is not None:
                    batch = bytearray()
                    if self._pong is not None:
                        batch += encode_frame(Kind.PONG, payload=self._pong)
                        self._pong = None
                    while self._out and len(batch) < 65536:
                        data, call = self._out.popleft()
                        self._out_bytes -= len(data)
                        batch += data
                        if call is not None:
                            call.is_handed = True  # from here on it may have left (LD-5)
                    self.writer.write(batch)
                    await self.writer.drain()
                    self._room.set()
                if self._is_closing:
                    return
                self._wake.clear()
                await self._wake.wait()
        except OSError:
            self.finish(Ending())

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
        if kind not in (Kind.PING, Kind.PONG, Kind.CLOSE) and from_client == self.client:
            raise Violation("PROTOCOL", f"{Kind(kind).name} from this side")
        has_call = kind in (Kind.REQUEST, Kind.RESPONSE, Kind.CANCEL)
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
        else:
            if kind == first:
                self.frames.limit, self.peer = FRAME_BYTES_MAX, frame.v
            self.on_frame(frame)

    def ping_frame(self) -> tuple[bytes, asyncio.Future[None]]:
        """A PING, and what is done when its PONG is there."""
        self._ping_last += 1
        future = self._pings[self._ping_last] = self.loop.create_future()
        return encode_frame(Kind.PING, payload=self._ping_last.to_bytes(8)), future


def cut(text: str, most: int) -> str:
    """ST-4: at the end of a character."""
    return text.encode(errors="replace")[:most].decode(errors="ignore")
