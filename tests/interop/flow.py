"""Long messages in pieces, and the credit for them (spec/04-flow.md): the books of both directions.
What a connection does with them is in link.py.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from frames import FRAGMENT_MAX, MORE, Kind, Violation, encode_frame

WINDOW = 4194304  # what we take at a time, unless told otherwise
WHOLE_MAX = 16384  # a payload up to this travels in one frame, whatever the other side takes


class Intake:
    """What we take: beyond the window is a violation, and half of it is granted again."""

    def __init__(self, window: int) -> None:
        self.window, self.left, self.due = window, window, 0

    def take(self, size: int) -> int:
        """FL-10, FL-11: how much is to be granted now."""
        if size > self.left:
            raise Violation("FLOW_CONTROL", f"a DATA of {size} bytes, {self.left} are left")
        self.left, self.due = self.left - size, self.due + size
        if 2 * self.due < self.window:
            return 0
        granted, self.due = self.due, 0
        self.left += granted
        return granted


class Credit:
    """What the other side takes; none before it has said so."""

    def __init__(self, window: int) -> None:
        self.window = self.left = window

    def spend(self, size: int) -> None:
        if size > self.left:
            raise ValueError(f"{size} bytes, the credit is {self.left}")
        self.left -= size

    def grant(self, size: int) -> None:
        """FL-11."""
        if not 0 < size <= self.window - self.left:
            raise Violation("FLOW_CONTROL", f"{size} bytes granted, {self.left} were left")
        self.left += size


@dataclass(eq=False)
class Long:
    """A message of which a part is still to be sent in DATA: a request, whose last DATA has no
    MORE, or a response, behind which comes the RESPONSE `end`.
    """

    call: int
    rest: memoryview
    is_done: Callable[[], None]
    end: bytes = b""
    is_dropped: bool = False

    def piece(self, most: int) -> bytes:
        """The next DATA, and what ends the message if it is the last."""
        size = min(most, FRAGMENT_MAX, len(self.rest))
        payload, self.rest = bytes(self.rest[:size]), self.rest[size:]
        flags = MORE if self.rest or self.end else 0
        piece = encode_frame(Kind.DATA, self.call, payload=payload, flags=flags)
        return piece if self.rest else piece + self.end


class Outgoing:
    """Messages on their way: a piece of each in turn, within the credit."""

    def __init__(self) -> None:
        self.longs: deque[Long] = deque()
        self.credit = Credit(0)
        self.pieces = 0

    @property
    def bytes(self) -> int:
        return sum(len(long.rest) for long in self.longs)

    def piece(self) -> bytes:
        """The next piece, if there is one and credit for some of it."""
        if not self.longs or not self.credit.left:
            return b""
        long, before = self.longs.popleft(), self.credit.left
        size = len(long.rest)
        data = long.piece(before)
        self.credit.spend(size - len(long.rest))
        self.pieces += 1
        if long.rest:
            self.longs.append(long)
        else:
            long.is_done()
        return data

    def drop(self, call: int) -> bool:
        """FL-7: no further piece of this message."""
        found = [long for long in self.longs if long.call == call]
        for long in found:
            self.longs.remove(long)
        return bool(found)
