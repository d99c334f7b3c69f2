"""The service of SERVICE.md, and what a client knows of it."""

from __future__ import annotations

import asyncio
from typing import Any

from client import Method
from frames import NOT_PROCESSED, STATUS, CallFailed
from server import AppError, Context, Fail, Server
from values import INTEGERS, Contract

SERVICE = "interop.Peer"
TYPES = (
    "struct{flag:bool,small:i8,big:u64,ratio:f64,letter:char,name:str,nothing:unit,maybe:?u32,"
    "absent:?u32,list:[i16],map:{str:[u8]},pair:(u8,str),three:[u32;3],"
    "shape:enum{0:Dot,1:Circle(f64),2:Rect{w:u32,h:u32}},new:struct(u64)}")
CONTRACTS = {
    ("echo", 1): "struct{text:str}->struct{text:str}!never",
    ("echo", 2): "struct{text:str,times:u32}->struct{text:str,version:u16}!never",
    ("divide", 1): "struct{a:i64,b:i64}->i64!enum{0:DivideByZero,1:Overflow{a:i64,b:i64}}",
    ("sleep", 1): "struct{ms:u32}->u32!never",
    ("types", 1): f"{TYPES}->{TYPES}!never",
    ("add", 1): "struct{key:str,amount:u64}->struct{key:str,total:u64}!never",
    ("whoami", 1): "unit->struct{build:str,attempt:u8,metadata:{str:str}}!never",
    ("fail", 1): "struct{code:u16,message:str}->unit!never",
}
ECHO_BYTES_MAX = 1 << 26


class Service:
    def __init__(self, server: Server) -> None:
        self.total, self.executions = 0, {}
        for (name, version), text in CONTRACTS.items():
            server.add(f"{SERVICE}/{name}", version, text, getattr(self, f"{name}_{version}"))

    def echo_1(self, _: Context, request: Any) -> Any:
        return request

    def echo_2(self, _: Context, request: Any) -> Any:
        if len(request["text"]) * request["times"] > ECHO_BYTES_MAX:
            raise Fail(STATUS["RESOURCE_EXHAUSTED"], "too much text")
        return {"text": request["text"] * request["times"], "version": 2}

    def divide_1(self, _: Context, request: Any) -> int:
        a, b = request["a"], request["b"]
        if b == 0:
            raise AppError("DivideByZero")
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
        if quotient > INTEGERS["i64"][1]:
            raise AppError({"Overflow": {"a": a, "b": b}})
        return quotient

    async def sleep_1(self, _: Context, request: Any) -> int:
        await asyncio.sleep(request["ms"] / 1000)
        return request["ms"]

    def types_1(self, _: Context, request: Any) -> Any:
        return request

    async def add_1(self, _: Context, request: Any) -> Any:
        key, total = request["key"], self.total + request["amount"]
        self.executions[key] = self.executions.get(key, 0) + 1
        if total > INTEGERS["u64"][1]:
            raise Fail(STATUS["OUT_OF_RANGE"], "the total is full")
        self.total = total
        await asyncio.sleep(0.002)
        return {"key": key, "total": total}

    def whoami_1(self, context: Context, _: Any) -> Any:
        metadata = {name: value.decode(errors="replace") for name, value in context.metadata}
        return {"build": context.build, "attempt": context.attempt, "metadata": metadata}

    def fail_1(self, _: Context, request: Any) -> None:
        raise Fail(request["code"], request["message"])


def _echo_request(version: int, value: Any) -> Any:
    if version == 1 and value.get("times", 1) != 1:
        raise CallFailed("CONVERSION", NOT_PROCESSED, "version 1 says it once")
    return value


def _echo_response(version: int, value: Any) -> Any:
    return value | {"version": 1} if version == 1 else value


def known_methods() -> dict[str, Method]:
    found: dict[str, Method] = {}
    for (name, version), text in CONTRACTS.items():
        found.setdefault(name, Method(f"{SERVICE}/{name}")).contracts[version] = Contract(text)
    found["echo"].request_for, found["echo"].response_of = _echo_request, _echo_response
    return found
