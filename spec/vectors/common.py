"""What the vectors of every file have in common: the example service, and comparing."""

import payload as pl
import wire

LEDGER = wire.method_id("bank.Ledger/transfer")
BALANCE = wire.method_id("bank.Ledger/balance")
V1_TEXT = "struct{from:u64,to:u64,cents:u64}->struct{entry:u64}!never"
V2_TEXT = ("struct{from:u64,to:u64,cents:u64,memo:str}->struct{entry:u64,balance:i64}"
           "!enum{0:NoSuchAccount(u64),1:Insufficient{missing:u64}}")
V2_REQUEST = "struct{from:u64,to:u64,cents:u64,memo:str}"
V2_RESPONSE = "struct{entry:u64,balance:i64}"
V1_REQUEST = "struct{from:u64,to:u64,cents:u64}"
V1_RESPONSE = "struct{entry:u64}"
V2_ERROR = "enum{0:NoSuchAccount(u64),1:Insufficient{missing:u64}}"


def hex64(value):
    return f"{value:016x}"


def fold(text):
    return pl.fingerprint32(pl.fingerprint64(text))


def encoded(schema, value):
    return pl.encode(pl.parse_schema(schema), value).hex()


def method(name, versions, ceiling=65535):
    listed = [{"version": v, "fingerprint": hex64(pl.fingerprint64(t))} for v, t in versions]
    return {"method": wire.method_id(name), "ceiling": ceiling, "versions": listed}


def outcome(run, *arguments):
    """The name of the error that `run` ends with, or what it returned."""
    try:
        return run(*arguments)
    except (wire.Bad, wire.Refused) as refusal:
        return str(refusal)


def same(got, wanted, case):
    if got != wanted:
        raise SystemExit(f"{case}\n  got    {got}\n  wanted {wanted}")
