#!/usr/bin/env python3
"""A switchback peer, protocol version 1, written from spec/ alone (Python 3.11, standard library).

    peer.py vectors spec/vectors         run the golden vectors against this implementation
    peer.py serve [--port N] [--window N]   serve SERVICE.md; commands on standard input
    peer.py call tcp://HOST:PORT [CASE]  run the client cases of SERVICE.md

It shares nothing with the crate but the specification, so that each is a check of the other. Ids
in comments (FR-2, CA-5 ...) are those of the specification.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
import threading
from contextlib import suppress
from pathlib import Path

from cases import Cases
from flow import WINDOW
from frames import NO_CEILING, method_id
from server import Server
from service import Service
from vectors import Vectors


async def serve(port: int, window: int) -> int:
    server = Server("peer.py 1", window=window)
    service, drain, loop = Service(server), asyncio.Event(), asyncio.get_running_loop()
    number = await server.listen("127.0.0.1", port)
    print(f"listening tcp://127.0.0.1:{number}", flush=True)

    def command(line: str) -> None:
        match line.split():
            case ["ceiling", name, text] if method_id(name) in server.table:
                server.ceiling(name, NO_CEILING if text == "none" else int(text))
                print(f"ceiling {name} {text}", flush=True)
            case ["drain"]:
                drain.set()
            case _:
                print(f"not understood: {line}", file=sys.stderr, flush=True)

    def listen_to_input() -> None:
        """A thread: standard input may be a file. Its end is the end of who started this."""
        rest = b""
        with suppress(RuntimeError):  # the loop is closed
            while piece := os.read(0, 4096):
                *lines, rest = (rest + piece)[-65536:].split(b"\n")
                for line in lines:
                    loop.call_soon_threadsafe(command, line.decode(errors="replace"))
            loop.call_soon_threadsafe(drain.set)

    threading.Thread(target=listen_to_input, daemon=True).start()
    await drain.wait()
    await server.drain()
    told = {"executions": service.executions, "cancelled": server.cancelled,
            "pieces": server.pieces}
    print(json.dumps(told), flush=True)
    return 0


async def call(address: str, cases: list[str]) -> int:
    match = re.fullmatch(r"tcp://([^:/]+):(\d+)", address)
    if not match:
        print("an address is tcp://HOST:PORT", file=sys.stderr)
        return 2
    return 0 if await Cases(match[1], int(match[2]), cases).run() else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="a switchback peer (codec JSON)")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("vectors").add_argument("folder", type=Path)
    serving = commands.add_parser("serve")
    serving.add_argument("--port", type=int, default=0)
    serving.add_argument("--window", type=int, default=WINDOW, help="bytes, at least 65536 (HS-5)")
    calling = commands.add_parser("call")
    calling.add_argument("address")
    calling.add_argument("case", nargs="*", help="all but drain, if none is named")
    options = parser.parse_args()
    if options.command == "vectors":
        return 0 if Vectors(options.folder).run() else 1
    if options.command == "serve":
        return asyncio.run(serve(options.port, options.window))
    return asyncio.run(call(options.address, options.case))


if __name__ == "__main__":
    sys.exit(main())
