"""The client cases of SERVICE.md."""

from __future__ import annotations

import asyncio
import json
import os
import struct
from collections.abc import Awaitable
from typing import Any

from client import Client, ClientLink
from frames import (
    DISPOSITION, MAYBE, NOT_PROCESSED, PROCESSED, STATUS, CallFailed, Frame, Kind, choose_version,
    encode_frame, method_id, table_hash)
from link import FRAME_BYTES_MAX
from service import CONTRACTS, SERVICE, known_methods
from values import Contract, fingerprint64

VALUE = {
    "flag": True, "small": -128, "big": 2**64 - 1, "ratio": 0.1, "letter": "😀",
    "name": 'q"\\\n\u0000é', "nothing": None, "maybe": 0, "absent": None,
    "list": [-32768, 0, 32767], "map": {"a": [1, 255], "": []}, "pair": [7, "x"],
    "three": [1, 2, 2**32 - 1], "new": 2**53 + 1,
}
DRAIN_KEYS, DRAIN_AT_ONCE, DRAIN_BEGINS = 400, 16, 50


def check(condition: Any, what: Any) -> None:
    if not condition:
        raise AssertionError(str(what))


class Cases:
    ORDER = """handshake echo_1 echo_2 echo_best types app_error app_error_fields status metadata
    unknown_method unsupported_version schema_mismatch bad_payload unsupported_codec
    deadline cancel many large narrow overtake cut ping skippable""".split()

    def __init__(self, host: str, port: int, order: list[str]) -> None:
        self.client, self.know = Client(host, port, "interop-client 1"), known_methods()
        self.order, self.loop = order or self.ORDER, asyncio.get_running_loop()

    async def run(self) -> bool:
        good = True
        for name in self.order:
            try:
                async with asyncio.timeout(60):
                    ok, detail = True, await getattr(self, name)()
            except (AssertionError, CallFailed, TimeoutError, RuntimeError) as fault:
                ok, detail = False, f"{type(fault).__name__}: {fault}"
            good &= ok
            print(json.dumps({"case": name, "ok": ok, "detail": detail}), flush=True)
        await self.client.close()
        return good

    async def call(self, name: str, value: Any, **options: Any) -> Any:
        return await self.client.call(self.know[name], value, **options)

    async def fails(self, calling: Awaitable[Any], status: str, disposition: int) -> CallFailed:
        try:
            answer = await calling
        except CallFailed as failed:
            check((failed.name, failed.disposition) == (status, disposition), failed)
            return failed
        raise AssertionError(f"{status} expected, not {str(answer)[:200]}")

    async def raw(self, name: str, version: int, payload: bytes, **options: Any) -> Frame:
        link, number = await self.client.connect(), method_id(f"{SERVICE}/{name}")
        return await link.request(number, version, payload, self.loop.time() + 10, **options)

    async def refused(self, status: str, *request: Any, **options: Any) -> CallFailed:
        """A request that is refused; the connection goes on."""
        link = await self.client.connect()
        failed = await self.fails(self.raw(*request, **options), status, NOT_PROCESSED)
        await self.goes_on(link)
        return failed

    async def goes_on(self, link: ClientLink) -> None:
        check(await self.call("divide", {"a": -7, "b": 2}) == -3, "divide")
        check(self.client.link is link and link.is_usable, "the connection did not go on")

    async def handshake(self) -> str:
        link = await self.client.connect()  # which checks transcript and table hash
        for (name, version), text in CONTRACTS.items():
            entry = link.table.get(method_id(f"{SERVICE}/{name}"))
            found = entry.versions.get(version) if entry else None
            check(found == fingerprint64(text), f"{name} {version}: {found}")
        return f"{link.peer.get('build', '')}: table {table_hash(link.table):016x}"

    async def echo_1(self) -> str:
        answer = await self.client.call(self.know["echo"].only(1), {"text": "héllo"})
        check(answer == {"text": "héllo", "version": 1}, answer)
        return "version 1"

    async def echo_2(self) -> str:
        answer = await self.client.call(self.know["echo"].only(2), {"text": "ab", "times": 3})
        check(answer == {"text": "ababab", "version": 2}, answer)
        return "version 2"

    async def echo_best(self) -> str:
        link, number = await self.client.connect(), method_id(f"{SERVICE}/echo")
        allowed = {choose_version(link.table, number, (1, 2))}
        answer = await self.call("echo", {"text": "x", "times": 1})
        allowed.add(choose_version(link.table, number, (1, 2)))  # it may just have changed
        check(answer["text"] == "x" and answer["version"] in allowed, answer)
        return f"version {answer['version']}"

    async def types(self) -> str:
        for shape in ({"Rect": {"w": 3, "h": 4}}, "Dot", {"Circle": -2.5}):
            value = VALUE | {"shape": shape}
            answer = await self.call("types", value)
            check(answer == value, answer)
        return "equal"

    async def app_error(self) -> str:
        failed = await self.fails(self.call("divide", {"a": 1, "b": 0}), "APP", PROCESSED)
        check(failed.error == "DivideByZero", failed.error)
        return "DivideByZero"

    async def app_error_fields(self) -> str:
        value = {"a": -(2**63), "b": -1}
        failed = await self.fails(self.call("divide", value), "APP", PROCESSED)
        check(failed.error == {"Overflow": value}, failed.error)
        return str(failed.error)

    async def status(self) -> str:
        calling = self.call("fail", {"code": 33, "message": "no such thing"})
        failed = await self.fails(calling, "NOT_FOUND", PROCESSED)
        check(failed.message == "no such thing", failed.message)
        return str(failed)

    async def metadata(self) -> str:
        metadata = [("tenant", b"acme"), ("trace-id", "é".encode())]
        answer = await self.call("whoami", None, metadata=metadata)
        check(answer["metadata"] == {"tenant": "acme", "trace-id": "é"}, answer)
        check((answer["build"], answer["attempt"]) == ("interop-client 1", 0), answer)
        frame = await self.raw("whoami", 1, b"null", attempt=3)
        check(json.loads(frame.payload)["attempt"] == 3, frame.payload)
        return str(answer)

    async def unknown_method(self) -> str:
        return str(await self.refused("UNKNOWN_METHOD", "nothing", 1, b"null"))

    async def unsupported_version(self) -> str:
        failed = await self.refused("UNSUPPORTED_VERSION", "echo", 9, b"null")
        callable_now = self.client.link.table[method_id(f"{SERVICE}/echo")].callable()
        check(failed.keys.get("versions") == callable_now, failed.keys)
        return f"{failed}; versions {callable_now}"

    async def schema_mismatch(self) -> str:
        mine = Contract(CONTRACTS["echo", 1]).fp32
        request = ("echo", 1, b'{"text":""}')
        failed = await self.refused("SCHEMA_MISMATCH", *request, fingerprint=mine ^ 1)
        check(failed.keys.get("fingerprint") == mine, failed.keys)
        return f"{failed}; fingerprint {mine:08x}"

    async def bad_payload(self) -> str:
        for payload in (b"", b"{", b'{"text":1}', b'{"text":"\xff"}', b'{"text":""} x'):
            failed = await self.refused("BAD_PAYLOAD", "echo", 1, payload)
        return str(failed)

    async def unsupported_codec(self) -> str:
        request = ("echo", 1, b"")
        failed = await self.refused("UNSUPPORTED_CODEC", *request, codec=99, is_checked=False)
        codecs = failed.keys.get("codecs", [])
        check(3 in codecs and 99 not in codecs, failed.keys)
        await self.refused("UNSUPPORTED_CODEC", *request, codec=99)  # not sent: CA-6
        return f"{failed}; codecs {codecs}"

    async def deadline(self) -> str:
        await self.client.connect()
        began, calling = self.loop.time(), self.call("sleep", {"ms": 10_000}, timeout=0.1)
        failed = await self.fails(calling, "DEADLINE_EXCEEDED", MAYBE)
        took = (self.loop.time() - began) * 1000
        check(100 <= took < 1000, f"after {took:.1f} ms")
        return f"{failed}, after {took:.1f} ms"

    async def cancel(self) -> str:
        link, number = await self.client.connect(), method_id(f"{SERVICE}/sleep")
        pending = await link.start(number, 1, b'{"ms":10000}', self.loop.time() + 30)
        await self.goes_on(link)
        began = self.loop.time()
        link.cancel(pending)
        await self.goes_on(link)
        async with asyncio.timeout(1):
            outcome = await pending.answered
        check(isinstance(outcome, Frame) and outcome.v["status"] == STATUS["CANCELLED"], outcome)
        check(pending.id not in link.waiting, "the slot is still held")
        await self.goes_on(link)
        took = (self.loop.time() - began) * 1000
        return f"{DISPOSITION[outcome.v['disposition']]}, free after {took:.1f} ms"

    async def many(self) -> str:
        async def one(number: int) -> bool:
            key = f"many-{os.getpid()}-{number}"
            if number % 2:
                return (await self.call("add", {"key": key, "amount": 1}))["key"] == key
            text = key + "." * 500  # all of them are more than a server reads at once
            return (await self.call("echo", {"text": text, "times": 1}))["text"] == text

        link = await self.client.connect()
        check(all(await asyncio.gather(*map(one, range(200)))), "another's answer")
        check(self.client.link is link, "more than one connection")
        return "200 calls"

    async def large(self) -> str:
        link, text = await self.client.connect(), "x" * 1_000_000
        check((await self.call("echo", {"text": text, "times": 1}))["text"] == text, "not equal")
        limit = link.peer["frame_bytes_max"]
        calling = self.call("echo", {"text": "x" * limit, "times": 1})
        failed = await self.fails(calling, "TOO_LARGE", NOT_PROCESSED)
        check(failed.keys["limit"] == limit, failed.keys)
        said = f"1000000 characters; {failed}"
        if self.has_echo_2(link):
            calling = self.call("echo", {"text": text, "times": 5})
            failed = await self.fails(calling, "TOO_LARGE", PROCESSED)
            keys = (failed.keys["limit"], failed.keys["value"])
            check(keys[0] == FRAME_BYTES_MAX < keys[1], failed.keys)
            said += f"; {failed} {keys}"
        await self.goes_on(link)
        return said

    async def narrow(self) -> str:
        """FL-10: 1 MiB both ways, 65536 bytes at a time towards this side; all of it in pieces."""
        client = Client(self.client.host, self.client.port, window=65536)
        try:
            text = "y" * (1 << 20)
            answer = await client.call(self.know["echo"], {"text": text, "times": 1})
            check(answer["text"] == text, "not equal")
            link = client.link
            check(link.intake.left + link.intake.due == 65536, "the books do not balance")
            check(link.outgoing.pieces >= 16 and link.pieces >= 16, "not in pieces")
            return f"{link.outgoing.pieces} pieces there, {link.pieces} back"
        finally:
            await client.close()

    async def overtake(self) -> str:
        """FL-5: short calls behind long ones of 4 MB, there and back, end before them."""
        client = Client(self.client.host, self.client.port, window=65536)
        try:
            await client.connect()
            for text, times in (("z" * 4_000_000, 1), ("z" * 1_000_000, 4)):
                if times > 1 and not self.has_echo_2(client.link):
                    break
                value = {"text": text, "times": times}
                long = asyncio.create_task(client.call(self.know["echo"], value, timeout=30))
                while not client.link.waiting:  # its REQUEST is in the output
                    await asyncio.sleep(0)
                short = await client.call(self.know["divide"], {"a": -7, "b": 2})
                check(short == -3 and not long.done(), "the short call came second")
                check(len((await long)["text"]) == len(text) * times, "not the whole text")
            return f"{client.link.pieces} pieces back"
        finally:
            await client.close()

    @staticmethod
    def has_echo_2(link: ClientLink) -> bool:
        return choose_version(link.table, method_id(f"{SERVICE}/echo"), (2,)) is not None

    async def cut(self) -> str:
        """FL-7: a request that is refused or given up is not sent to its end; the next one is."""
        link, text = await self.client.connect(), json.dumps({"text": "x" * 4_000_000}).encode()
        calling = self.raw("nothing", 1, text)
        await self.fails(calling, "UNKNOWN_METHOD", NOT_PROCESSED)
        pending = await link.start(
            method_id(f"{SERVICE}/echo"), 1, text, self.loop.time() + 30)
        link.cancel(pending)  # its first frame is in the output, and goes out
        async with asyncio.timeout(5):
            v = (await pending.answered).v
        outcome = v["status"], v["disposition"]
        check(outcome == (STATUS["CANCELLED"], NOT_PROCESSED), outcome)
        check(not pending.is_handed, "all of it was written")
        await self.goes_on(link)
        return "CANCELLED, NOT_PROCESSED"

    async def ping(self) -> str:
        link = await self.client.connect()
        data, pong = link.ping_frame()
        link.send(data)
        async with asyncio.timeout(5):
            await pong
        return "PONG with the same 8 bytes"

    async def skippable(self) -> str:
        link = await self.client.connect()
        unknown = struct.pack(">HH", 99, 3) + b"new"
        link.send(encode_frame(0xE0, 6, payload=b"who knows", tlvs=unknown))
        data, pong = link.ping_frame()
        link.send(encode_frame(Kind.PING, payload=data[16:-4], tlvs=unknown))
        async with asyncio.timeout(5):
            await pong
        frame = await self.raw("echo", 1, b'{"text":"skip"}', tlvs=unknown)
        check(json.loads(frame.payload) == {"text": "skip"}, frame.payload)
        await self.goes_on(link)
        return "kind 0xe0 and key 99 were skipped"

    async def drain(self) -> list[str]:
        """400 calls, 16 at a time; with the 50th answer it says so, and the other side goes away."""
        answered: list[str] = []
        numbers = iter(range(DRAIN_KEYS))

        async def worker() -> None:
            for number in numbers:
                key = f"drain-{os.getpid()}-{number}"
                answer = await self.call("add", {"key": key, "amount": 1}, timeout=30)
                check(answer["key"] == key, answer)
                answered.append(key)
                if len(answered) == DRAIN_BEGINS:
                    print(json.dumps({"answered": DRAIN_BEGINS}), flush=True)

        async with asyncio.TaskGroup() as group:
            for _ in range(DRAIN_AT_ONCE):
                group.create_task(worker())
        check(len(set(answered)) == DRAIN_KEYS, f"{len(set(answered))} keys")
        return answered
