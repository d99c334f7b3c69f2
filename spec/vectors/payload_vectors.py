"""The vectors of the payload codecs: the same values in each of them, and what each refuses."""

import payload as pl
import payload_json as js
import payload_protobuf as pb
from common import V2_REQUEST, same

ENUM = "enum{0:Unit,1:New(u32),2:Tup(u8,str),3:Str{x:i32,y:i32}}"
RECORD = "struct{id:u64,name:str,tags:[u16],note:?u32}"
DEEP = "enum{0:End(u8),1:More{next:^0},2:Pair(u8,^0)}"
SIDES = "{enum{0:Buy,1:Sell}:u8}"
LIST = "struct{next:?^0}"


def nested(levels):
    value = {"next": None}
    for _ in range(levels):
        value = {"next": value}
    return value


def more(levels, name="More"):
    """An enum of so many levels."""
    value = {"End": 9}
    for _ in range(levels - 1):
        value = {"More": {"next": value}} if name == "More" else {"Pair": [7, value]}
    return value


def payload_values():
    """(schema text, values)."""
    return [
        ("bool", [False, True]), ("u8", [0, 127, 250, 251, 255]), ("i8", [0, 127, -1, -128]),
        ("u16", [0, 250, 251, 256, 65535]), ("u32", [0, 250, 251, 65535, 65536, 4294967295]),
        ("u64", [0, 250, 251, 65535, 65536, 4294967295, 4294967296, "18446744073709551615"]),
        ("u128", ["1", "18446744073709551616", "340282366920938463463374607431768211455"]),
        ("i16", [0, -1, 1, 125, -125, -126, 32767, -32768]),
        ("i32", [0, -1, 1, 125, -125, -126, 126, 32767, -32769, 2147483647, -2147483648]),
        ("i64", [0, -1, 2147483647, -2147483649, "9223372036854775807", "-9223372036854775808"]),
        ("i128", ["-1", "-170141183460469231731687303715884105728"]),
        ("f32", [0.0, 1.5, -0.25]), ("f64", [0.0, -2.5, 1e300, 0.1]),
        ("char", ["a", "é", "€", "😀", "\u0000"]),
        ("str", ["", "ledger", "héllo", "x" * 251]),
        ("bytes", ["", "00ff", "ab" * 251]), ("unit", [None]), ("?u32", [None, 0, 251]),
        ("[u16]", [[], [1, 250, 251]]), ("[?bool]", [[None, True, False]]),
        ("[unit]", [[None] * 3]),
        ("{str:u32}", [[], [["a", 1], ["b", 300]]]), ("{u16:bool}", [[[7, True], [300, False]]]),
        (SIDES, [[["Buy", 1], ["Sell", 2]]]), ("(u8,str)", [[7, "x"]]), ("(u16)", [[251]]),
        ("[u8;4]", [[1, 2, 3, 255]]), ("[u16;0]", [[]]), (RECORD, [
            {"id": 300, "name": "n", "tags": [1, 251], "note": 5},
            {"id": 0, "name": "", "tags": [], "note": None}]),
        ("struct(u32)", [251]), ("struct(u8,str)", [[1, "z"]]), ("struct{}", [{}]),
        ("struct()", [[]]),
        (ENUM, ["Unit", {"New": 300}, {"Tup": [9, "k"]}, {"Str": {"x": -3, "y": 4}}]),
        ("enum{0:Ok(u8),1:Err(str)}", [{"Ok": 3}, {"Err": "e"}]),
        ("enum{0:None(),1:Empty{}}", [{"None": []}, {"Empty": {}}]),
        ("struct{secs:u64,nanos:u32}", [{"secs": 5, "nanos": 999999999}]),
        ("struct{value:u8,next:?^0}", [{"value": 1, "next": {"value": 2, "next": None}}]),
        ("enum{0:Leaf,1:Node([^0])}", ["Leaf", {"Node": ["Leaf", {"Node": []}]}]),
        (LIST, [nested(31)]), (DEEP, [more(1), more(50), more(50, "Pair")]), (V2_REQUEST, [{"from": 7, "to": 9, "cents": 12500, "memo": "rent"}]),
    ]



# ---- codec 1 ----

BAD_BINCODE = [
    ("bool", "", "no bytes"), ("bool", "02", "bool 2"), ("bool", "0100", "a byte left over"),
    ("u8", "", "no bytes"), ("u8", "0000", "a byte left over"),
    ("u16", "fb", "integer cut"), ("u16", "fc01000000", "32-bit form in a u16"),
    ("u32", "fc000000", "integer cut"), ("u32", "fd0100000000000000", "64-bit form in a u32"),
    ("u64", "fe" + "01" + "00" * 15, "128-bit form in a u64"), ("u64", "ff", "first byte 255"),
    ("i16", "fc00000100", "32-bit form in an i16"), ("f64", "00000000000000", "float cut"),
    ("f32", "0000000000", "a byte left over"),
    ("char", "ff", "not UTF-8"), ("char", "c3", "character cut"),
    ("char", "eda080", "a surrogate"), ("char", "80", "a continuation byte"),
    ("str", "0568656c6c", "longer than the bytes that are there"),
    ("str", "fdffffffffffffff7f61", "longer than the bytes that are there"),
    ("str", "01ff", "not UTF-8"), ("str", "02c328", "not UTF-8"),
    ("str", "016161", "a byte left over"),
    ("bytes", "0200", "longer than the bytes that are there"),
    ("?u32", "02", "option tag 2"), ("?u32", "0201", "option tag 2"),
    ("?u32", "01", "value missing"),
    ("[u16]", "0301", "elements missing"), ("[u16]", "fcffffffff00", "elements missing"),
    ("[unit]", "fc01001000", "1048577 elements"), ("[unit]", "fc00000080", "2^31 elements"),
    ("[[unit]]", "02fc00000800fc00000800", "1048576 inner elements and 2 outer ones"),
    ("{str:u32}", "01016105" + "00", "a byte left over"), ("{str:u32}", "020161", "value missing"),
    ("(u8,str)", "07", "element missing"), ("[u8;4]", "010203", "element missing"),
    ("[u8;4]", "0102030405", "a byte left over"), ("unit", "00", "a byte left over"),
    (RECORD, "fb2c01016e0201fbfb0001", "field missing"), (ENUM, "04", "no such variant"),
    (ENUM, "fb0001", "no such variant"), (ENUM, "", "no bytes"), (ENUM, "fd0100000000000000",
     "64-bit form in a variant index"), ("enum{}", "00", "no such variant"),
    (LIST, "01" * 32 + "00", "65 levels"), (LIST, "01" * 4096 + "00", "8193 levels"),
    (DEEP, "01" * 64 + "0009", "65 levels"), (DEEP, "0207" * 64 + "0009", "65 levels"),
]
LENIENT_BINCODE = [
    ("u32", "fb0100", 1), ("u64", "fd0100000000000000", 1), ("i32", "fb0100", -1),
    ("str", "fb010061", "a"), (ENUM, "fb0000", "Unit"), ("[u16]", "fc0100000007", [7]),
]


# ---- codec 2 ----

BAD_POSTCARD = [
    ("bool", "", "no bytes"), ("bool", "02", "bool 2"), ("bool", "0100", "a byte left over"),
    ("u8", "", "no bytes"), ("u8", "0000", "a byte left over"),
    ("u16", "80", "integer cut"), ("u16", "808004", "65536 in a u16"),
    ("u16", "80808000", "4 bytes in a u16"), ("u32", "8080808010", "2^32 in a u32"),
    ("u32", "808080808000", "6 bytes in a u32"), ("u32", "ffffffff", "integer cut"),
    ("u64", "ffffffffffffffffff02", "above 2^64 in a u64"),
    ("u64", "8080808080808080808000", "11 bytes in a u64"),
    ("u128", "ff" * 18 + "04", "2^128 in a u128"), ("u128", "80" * 19 + "00", "20 bytes in a u128"),
    ("i16", "808004", "32768 in an i16"), ("i32", "8080808010", "2^31 in an i32"),
    ("f64", "00000000000000", "float cut"), ("f32", "0000000000", "a byte left over"),
    ("char", "01ff", "not UTF-8"), ("char", "02c3", "character cut"), ("char", "00", "no character"),
    ("char", "026162", "two characters"),
    ("char", "03eda080", "a surrogate"), ("char", "056162636465", "5 bytes"),
    ("str", "0568656c6c", "longer than the bytes that are there"),
    ("str", "ffffffffffffffff7f61", "longer than the bytes that are there"),
    ("str", "01ff", "not UTF-8"), ("str", "02c328", "not UTF-8"),
    ("str", "016161", "a byte left over"),
    ("bytes", "0200", "longer than the bytes that are there"),
    ("?u32", "02", "option tag 2"), ("?u32", "01", "value missing"),
    ("[u16]", "0301", "elements missing"), ("[u16]", "ffffffff0f00", "elements missing"),
    ("[unit]", "818040", "1048577 elements"), ("[unit]", "8080808008", "2^31 elements"),
    ("[[unit]]", "02808020808020", "1048576 inner elements and 2 outer ones"),
    ("{str:u32}", "01016105" + "00", "a byte left over"), ("{str:u32}", "020161", "value missing"),
    ("(u8,str)", "07", "element missing"), ("[u8;4]", "010203", "element missing"),
    ("[u8;4]", "0102030405", "a byte left over"), ("unit", "00", "a byte left over"),
    (RECORD, "ac02016e0201fb0101", "field missing"), (ENUM, "04", "no such variant"),
    (ENUM, "", "no bytes"), (ENUM, "8080808010", "2^32 in a variant index"),
    ("enum{}", "00", "no such variant"),
    (LIST, "01" * 32 + "00", "65 levels"), (LIST, "01" * 4096 + "00", "8193 levels"),
    (DEEP, "01" * 64 + "0009", "65 levels"), (DEEP, "0207" * 64 + "0009", "65 levels"),
]
LENIENT_POSTCARD = [
    ("u32", "8100", 1), ("u64", "81808080808080808000", 1), ("i32", "8100", -1),
    ("str", "810061", "a"), (ENUM, "8000", "Unit"), ("[u16]", "810007", [7]),
]


# ---- codec 3 ----

BAD_JSON = [
    ("bool", "", "no bytes"), ("bool", "1", "a number"), ("bool", '"true"', "a string"),
    ("bool", "tru", "cut"), ("bool", "true,", "a byte left over"), ("bool", "true false",
     "bytes left over"), ("bool", "True", "no JSON"), ("bool", "null", "null"),
    ("u8", "256", "256 in a u8"), ("u8", "-1", "a sign in a u8"), ("u8", "1.0", "a fraction"),
    ("u8", "1e0", "an exponent"), ("u8", '"1"', "a string"), ("u8", "01", "a leading zero"),
    ("u8", "+1", "no JSON"), ("u8", " ", "nothing but white space"), ("u8", "1 1",
     "bytes left over"), ("u8", "0x1", "a byte left over"),
    ("u64", "18446744073709551616", "2^64 in a u64"), ("i8", "-129", "-129 in an i8"),
    ("i64", "9223372036854775808", "2^63 in an i64"),
    ("u128", "340282366920938463463374607431768211456", "2^128 in a u128"),
    ("i128", "1.5", "a fraction"), ("f64", "NaN", "no JSON"), ("f64", "Infinity", "no JSON"),
    ("f64", "1e400", "larger than a float"), ("f64", "null", "null"), ("f64", "1.", "no JSON"),
    ("f64", ".5", "no JSON"), ("f64", '"1.5"', "a string"),
    ("char", '"ab"', "two characters"), ("char", '""', "no character"), ("char", "97", "a number"),
    ("str", '"cut', "a string without an end"), ("str", '"\\x"', "no such escape"),
    ("str", '"\\ud800"', "a surrogate alone"), ("str", '"\\udc00\\ud800"', "surrogates in the wrong order"),
    ("str", '"a\nb"', "a control character"), ("str", "'a'", "no JSON"), ("str", "null", "null"),
    ("str", b"\"\xff\"", "not UTF-8"), ("str", b"\"\xed\xa0\x80\"", "a surrogate in UTF-8"),
    ("str", b"\xef\xbb\xbf\"a\"", "a byte order mark"), ("str", b"\"\0a\0\"\0", "UTF-16"),
    ("bytes", "[256]", "256 in a byte"), ("bytes", "[-1]", "a sign in a byte"),
    ("bytes", "[1,]", "no JSON"), ("unit", "0", "a number"), ("unit", "{}", "an object"),
    ("unit", "", "no bytes"), ("?u32", '"x"', "a string"), ("?u32", "-1", "a sign"),
    ("[u16]", "[1,]", "no JSON"), ("[u16]", "[1 2]", "no JSON"), ("[u16]", "[1", "cut"),
    ("[u16]", "{}", "an object"), ("[u16]", "[70000]", "70000 in a u16"), ("[u16]", "[1]]",
     "a byte left over"), ("[u16]", "[1]/**/", "bytes left over: JSON has no comments"),
    ("[unit]", "[0]", "a number"), ("{str:u32}", '{"a":-1}', "a sign"),
    ("{str:u32}", "{a:1}", "a name without quotes"), ("{str:u32}", '[["a",1]]', "an array"),
    ("{str:u32}", '{"a"}', "value missing"), ("{u16:bool}", '{"x":true}', "a key that is no number"),
    ("{u16:bool}", '{"70000":true}', "70000 in a u16"),
    ("{u16:bool}", '{" 7":true}', "white space in a key"),
    (SIDES, '{"Hold":1}', "no such variant"),
    ("(u8,str)", "[7]", "element missing"), ("(u8,str)", '[7,"x",1]', "one element more"),
    ("[u8;4]", "[1,2,3]", "element missing"), ("[u8;4]", "[1,2,3,4,5]", "one element more"),
    ("struct(u32)", "[251]", "a newtype is its content"),
    (RECORD, '{"id":1,"name":"n","note":5}', "field missing"),
    (RECORD, '{"id":1,"name":null,"tags":[]}', "null where no option is"),
    (RECORD, '{"id":1,"name":"n","tags":[],"id":1}', "a field twice"),
    (RECORD, '{"ID":1,"name":"n","tags":[]}', "a field in upper case"),
    (RECORD, '{"id":1,"name":"n","tags":[],"x":[}', "a field that is skipped and no JSON"),
    (RECORD, b"{\"id\":1,\"name\":\"n\",\"tags\":[],\"x\":\"\xff\"}",
     "a field that is skipped and not UTF-8"),
    (ENUM, '"Nope"', "no such variant"), (ENUM, "0", "an index"), (ENUM, '"New"', "content missing"),
    (ENUM, '{"New":1,"Tup":[9,"k"]}', "two variants"), (ENUM, "{}", "no variant"),
    (ENUM, '{"New":"x"}', "a string for a number"), (ENUM, '{"Tup":[9]}', "element missing"),
    (ENUM, '{"Str":{"x":1}}', "field missing"), (ENUM, '{"Unit":7}', "content of a bare variant"),
    ("enum{}", '"A"', "no such variant"),
    (LIST, '{"next":' * 32 + '{"next":null}' + "}" * 32, "65 levels"),
    (LIST, '{"next":' * 4096, "8192 levels"),
    (DEEP, '{"More":{"next":' * 64 + '{"End":9}' + "}}" * 64, "65 levels"),
    (DEEP, '{"Pair":[7,' * 64 + '{"End":9}' + "]}" * 64, "65 levels"),
]
LENIENT_JSON = [
    ("u8", " \t\r\n7 \n", 7), ("f64", "1", 1.0), ("f64", "25e-1", 2.5), ("f64", "-1E+2", -100.0),
    ("str", '"\\u0068\\u00e9\\/\\b"', "hé/\b"), ("str", '"\\ud83d\\ude00"', "😀"), ("char", '"\\u00e9"', "é"),
    ("[u16]", "[ 1 , 250\n]", [1, 250]), ("{str:u32}", '{"a":1,"a":2}', [["a", 2]]),
    (RECORD, '{"note":5,"tags":[1],"name":"n","id":300}',
     {"id": 300, "name": "n", "tags": [1], "note": 5}),
    (RECORD, '{"id":1,"name":"n","tags":[]}', {"id": 1, "name": "n", "tags": [], "note": None}),
    (RECORD, '{"id":1,"more":[{"a":[]},1e9,"\\u0000"],"name":"n","tags":[],"more":null}',
     {"id": 1, "name": "n", "tags": [], "note": None}),
    (ENUM, '{ "Str" : { "y" : 4 , "x" : -3 } }', {"Str": {"x": -3, "y": 4}}),
    ("struct{}", '{"x":{}}', {}),
    (RECORD, '{"id":1,"name":"n","tags":[],"deep":' + "[" * 60 + "]" * 60 + "}",
     {"id": 1, "name": "n", "tags": [], "note": None}),
]


# ---- codec 4 ----

PROTOBUF = {
    "vectors.Record": [
        {}, {"id": 300}, {"cents": -12500, "name": "rent"}, {"urgent": False}, {"urgent": True},
        {"id": "18446744073709551615", "cents": "-9223372036854775808", "name": "héllo",
         "digest": "00ff", "tags": [1, 300, 4294967295], "urgent": True, "rate": -2.5,
         "node": {"value": 7, "next": {}}, "notes": ["", "a"]}],
    "vectors.Node": [{}, {"value": 128}, {"next": {"next": {"value": 1}}}],
}
LENIENT_PROTOBUF = [
    ("vectors.Record", "2801280228ac02", {"tags": [1, 2, 300]}, "not packed"),
    ("vectors.Record", "1a016e0807", {"id": 7, "name": "n"}, "in another order"),
    ("vectors.Record", "08070808", {"id": 8}, "a field twice, the last counts"),
    ("vectors.Record", "08878000", {"id": 7}, "a longer integer than needed"),
    ("vectors.Record", "0807980601a1060000000000000000aa06026162b506000000003807"[:-4],
     {"id": 7}, "unknown fields of each wire type"),
    ("vectors.Record", "9b06980601a306a4069c060807", {"id": 7}, "an unknown group, and one in it"),
    ("vectors.Record", "420208014204120208024200", {"node": {"value": 1, "next": {"value": 2}}},
     "a message in three parts, merged"),
]
BAD_PROTOBUF = [
    ("vectors.Record", "08", "field cut"), ("vectors.Record", "0880", "integer cut"),
    ("vectors.Record", "08ffffffffffffffffffff01", "an integer of 11 bytes"),
    ("vectors.Record", "0007", "field number 0"), ("vectors.Record", "0e", "wire type 6"),
    ("vectors.Record", "0f", "wire type 7"), ("vectors.Record", "0d07000000", "another wire type"),
    ("vectors.Record", "18", "field cut"), ("vectors.Record", "1a056e", "text cut"),
    ("vectors.Record", "1affffffff0f6e", "text longer than the bytes that are there"),
    ("vectors.Record", "1a01ff", "not UTF-8"), ("vectors.Record", "2a0180", "packed integer cut"),
    ("vectors.Record", "420508", "message cut"), ("vectors.Record", "42020880", "integer cut inside"),
    ("vectors.Record", "9b06", "a group without an end"), ("vectors.Record", "9c06", "the end of no group"),
    ("vectors.Record", "9b06a406", "the end of another group"),
    ("vectors.Record", "3900000000000000", "float cut"),
]


def nodes(levels):
    """A message with so many messages in each other inside."""
    data = b""
    for _ in range(levels):
        data = b"\x12" + pb.varint(len(data)) + data
    return data


def wrapped(levels):
    value = {}
    for _ in range(levels):
        value = {"next": value}
    return value


# ---- the files ----

def compact_file(form, lenient, bad):
    def build():
        return {
            "valid": [
                {"type": schema, "value": value,
                 "hex": pl.encode(pl.parse_schema(schema), value, form=form).hex()}
                for schema, values in payload_values() for value in values],
            "lenient": [{"type": t, "value": v, "hex": h} for t, h, v in lenient],
            "invalid": [{"type": t, "hex": h, "why": why} for t, h, why in bad],
        }
    return build


def json_file():
    def text(given):
        return {"hex": given.hex()} if isinstance(given, bytes) else {"json": given}
    return {
        "valid": [{"type": schema, "value": value, "json": js.write(pl.parse_schema(schema), value)}
                  for schema, values in payload_values() for value in values],
        "lenient": [{"type": t, "value": v, "json": given} for t, given, v in LENIENT_JSON],
        "invalid": [{"type": t, **text(given), "why": why} for t, given, why in BAD_JSON],
    }


def protobuf_file():
    deepest = [("vectors.Node", nodes(100).hex(), wrapped(100))]
    return {
        "proto": pb.PROTO.splitlines(),
        "valid": [{"message": name, "value": value, "hex": pb.encode(name, value).hex()}
                  for name, values in PROTOBUF.items() for value in values]
        + [{"message": name, "value": value, "hex": data} for name, data, value in deepest],
        "lenient": [{"message": m, "value": v, "hex": h, "why": why}
                    for m, h, v, why in LENIENT_PROTOBUF],
        "invalid": [{"message": m, "hex": h, "why": why} for m, h, why in BAD_PROTOBUF]
        + [{"message": "vectors.Node", "hex": nodes(101).hex(), "why": "101 messages deep"}],
    }


def octets(case):
    return bytes.fromhex(case["hex"]) if "hex" in case else case["json"].encode()


def checker(parse, encode, decode):
    """Decodes every vector, encodes every valid one again, and sees every invalid one refused."""
    def check(doc):
        for case in doc["valid"] + doc["lenient"]:
            same(decode(parse(case), octets(case)), case["value"], case)
        for case in doc["valid"]:
            same(encode(parse(case), case["value"]), octets(case), case)
        for case in doc["invalid"]:
            try:
                decode(parse(case), octets(case))
            except pl.Invalid:
                continue
            raise SystemExit(f"decoded: {case}")
    return check


def schema_of(case):
    return pl.parse_schema(case["type"])


# ---- a message with bytes beside it (PL-17) ----

CODECS = {
    1: (pl.encode, pl.decode),
    2: (lambda t, v: pl.encode(t, v, form=pl.Postcard),
        lambda t, data: pl.decode(t, data, pl.PostcardReader)),
    3: (lambda t, v: js.write(t, v).encode(), js.read),
}


def write_beside(codec, beside, value):
    message = CODECS[codec][0](beside[1], value["message"])
    return len(message).to_bytes(4, "big") + message + bytes.fromhex(value["bytes"])


def read_beside(codec, beside, data):
    end = 4 + int.from_bytes(data[:4], "big")
    if len(data) < max(4, end):
        raise pl.Invalid("the message is cut short")
    return {"message": CODECS[codec][1](beside[1], data[4:end]), "bytes": data[end:].hex()}


def beside_file():
    record = {"id": 300, "name": "n", "tags": [1, 251], "note": 5}
    values = [("unit+raw", None, ""), ("unit+raw", None, "00ff7b"), ("u64+raw", 300, "2c01"),
              ("str+raw", "", "00" * 20), (RECORD + "+raw", record, "89504e470d0a1a0a"),
              (RECORD + "+raw", record, "")]
    valid = [{"type": text, "codec": codec, "value": {"message": message, "bytes": beside}}
             for text, message, beside in values for codec in CODECS]
    for case in valid:
        made = write_beside(case["codec"], pl.parse_payload(case["type"]), case["value"])
        case["hex"] = made.hex()
    invalid = []
    for codec in CODECS:
        whole = write_beside(codec, ("beside", ("u64",)), {"message": 7, "bytes": "ffff"})
        size = whole[3]
        listed = [("nothing at all", b""), ("a length cut short", whole[:3]),
                  ("a message cut short", whole[:3 + size]),
                  ("a length of one more than there is", bytes([0, 0, 0, size + 3]) + whole[4:]),
                  ("the largest length", b"\xff" * 4 + whole[4:]),
                  ("a length of one more than the message", bytes([0, 0, 0, size + 1]) + whole[4:]),
                  ("no message", bytes(4) + whole[4:]),
                  ("a little-endian length", whole[3::-1] + whole[4:])]
        invalid += [{"type": "u64+raw", "codec": codec, "hex": data.hex(), "why": why}
                    for why, data in listed]
    return {"valid": valid, "invalid": invalid}


def check_beside(doc):
    for case in doc["valid"]:
        beside, data = pl.parse_payload(case["type"]), bytes.fromhex(case["hex"])
        same(read_beside(case["codec"], beside, data), case["value"], case)
        same(write_beside(case["codec"], beside, case["value"]), data, case)
    for case in doc["invalid"]:
        try:
            read_beside(case["codec"], pl.parse_payload(case["type"]), bytes.fromhex(case["hex"]))
        except pl.Invalid:
            continue
        raise SystemExit(f"decoded: {case}")


CODEC_FILES = {
    "payload_bincode.json": (
        compact_file(pl.Bincode, LENIENT_BINCODE, BAD_BINCODE),
        checker(schema_of, pl.encode, pl.decode)),
    "payload_postcard.json": (
        compact_file(pl.Postcard, LENIENT_POSTCARD, BAD_POSTCARD),
        checker(schema_of, lambda t, v: pl.encode(t, v, form=pl.Postcard),
                lambda t, data: pl.decode(t, data, pl.PostcardReader))),
    "payload_json.json": (
        json_file, checker(schema_of, lambda t, v: js.write(t, v).encode(), js.read)),
    "payload_protobuf.json": (
        protobuf_file, checker(lambda case: case["message"], pb.encode, pb.decode)),
    "payload_beside.json": (beside_file, check_beside),
}
