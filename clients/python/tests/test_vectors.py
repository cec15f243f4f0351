"""Every vector of docs/test-vectors.json, by type: what it is, its bytes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from drachma import codec, messages, model, operators
from drachma.codec import MalformedError, decode, encode, form
from drachma.frames import Kind, decode_frame, encode_frame
from drachma.routing import Routes

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[3] / "docs" / "test-vectors.json").read_text(encoding="utf-8")
)

# Names on the page that are other names here.
RENAMED = {"Operator": operators.OperatorCall}
BASIC = {
    "u8": codec.U8,
    "u16": codec.U16,
    "u32": codec.U32,
    "u64": codec.U64,
    "u128": codec.U128,
    "i64": codec.I64,
    "bool": bool,
    "bytes": bytes,
    "text": str,
}
BODIES = {
    Kind.HELLO: messages.Hello,
    Kind.WELCOME: messages.Welcome,
    Kind.GOODBYE: messages.Goodbye,
    Kind.REQUEST: messages.Request,
    Kind.RESPONSE: messages.Response,
}


def kind_of(name: str) -> Any:
    """The type that the page calls `name`."""
    if name.endswith("?"):
        return kind_of(name[:-1]) | None
    if name.startswith("["):
        return tuple.__class_getitem__((kind_of(name[1:-1]), ...))
    if name in BASIC:
        return BASIC[name]
    places = (place for place in (model, messages) if hasattr(place, name))
    return RENAMED.get(name) or getattr(next(places), name)


def plain(value: Any) -> Any:
    """What a `value` of the vectors stands for, before types."""
    if isinstance(value, dict):
        if "uint" in value:
            return int(value["uint"])
        if "int" in value:
            return int(value["int"])
        return bytes.fromhex(value["bin"])
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def named(entry: dict[str, Any]) -> str:
    return f"{entry.get('type', entry.get('kind', ''))}-{entry.get('name', entry.get('why', ''))}"


@pytest.mark.parametrize("entry", VECTORS["values"], ids=named)
def test_a_value_has_one_form(entry: dict[str, Any]) -> None:
    kind, data = kind_of(entry["type"]), bytes.fromhex(entry["hex"])
    value: Any = decode(kind, data)
    assert encode(kind, value) == data
    assert form(kind).lower(value) == plain(entry["value"])
    assert form(kind).raise_(plain(entry["value"])) == value


@pytest.mark.parametrize("entry", VECTORS["frames"], ids=named)
def test_a_frame_has_one_form(entry: dict[str, Any]) -> None:
    data = bytes.fromhex(entry["hex"])
    header, body = decode_frame(data)
    assert header.kind.name == entry["kind"].upper()
    assert header.correlation == entry["correlation"]
    kind = BODIES[header.kind]
    value: Any = decode(kind, body)
    assert form(kind).lower(value) == plain(entry["value"])
    assert encode_frame(header.kind, header.correlation, encode(kind, value)) == data


@pytest.mark.parametrize("entry", VECTORS["routes"], ids=lambda one: str(one.get("account", one.get("key"))))
def test_a_route(entry: dict[str, Any]) -> None:
    shard_map: messages.ShardMap = form(messages.ShardMap).raise_(plain(entry["map"]))
    routes = Routes.of_map(shard_map)
    if "account" in entry:
        assert routes.shard_of_account(int(entry["account"])) == entry["shard"]
    else:
        key = plain(entry["key"])
        assert routes.shard_of_key(key.encode() if isinstance(key, str) else key) == entry["shard"]


# Well-formed, and against a rule of what it means: that a key is not empty, that a transaction says something, that a
# key is not swapped with itself. Nodes look at that; a client that only reads answers need not.
RULES = {("Key", "c400"), ("Transaction", "93019090"), ("Transaction", "93019091920692c40161c40161")}


@pytest.mark.parametrize("entry", VECTORS["refused"], ids=named)
def test_what_is_refused(entry: dict[str, Any]) -> None:
    if (entry["type"], entry["hex"]) in RULES:
        pytest.skip("a rule beyond the form, which nodes check")
    data = bytes.fromhex(entry["hex"])
    with pytest.raises(MalformedError):
        read(entry["type"], data)


def read(name: str, data: bytes) -> Any:
    if name != "frame":
        return decode(kind_of(name), data)
    header, body = decode_frame(data)
    return decode(BODIES[header.kind], body)


def test_every_cut_and_every_flipped_bit_of_a_frame_is_refused() -> None:
    for entry in VECTORS["frames"]:
        data = bytes.fromhex(entry["hex"])
        for length in range(len(data)):
            with pytest.raises(MalformedError):
                decode_frame(data[:length])
        for place in range(len(data) * 8):
            flipped = bytearray(data)
            flipped[place // 8] ^= 1 << place % 8
            with pytest.raises(MalformedError):
                decode_frame(bytes(flipped))


def test_nested_announcements_take_no_memory() -> None:
    for prefix in (b"\xdd\xff\xff\xff\xff", b"\xdc\x1f\xfe", b"\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"):
        with pytest.raises(MalformedError):
            decode(messages.Response, prefix * 600)


def test_what_does_not_fit_its_type_is_not_encoded() -> None:
    for kind, value in (
        (codec.U16, 1 << 16),
        (codec.U64, -1),
        (codec.U128, 1 << 128),
        (codec.I64, 1 << 63),
        (codec.U8, True),
        (bool, 1),
        (bytes, "a"),
        (str, b"a"),
        (model.Condition, model.Get(b"a")),
        (model.Put, model.Append(b"a", b"b")),
    ):
        with pytest.raises(MalformedError):
            encode(kind, value)


def test_cases_with_equal_fields_are_told_apart() -> None:
    pairs: list[tuple[object, object]] = [
        (model.Put(b"k", b"v"), model.Append(b"k", b"v")),
        (model.Is(b"k", None), model.IsNot(b"k", None)),
        (model.AtLeast(1, model.Balance.of(2)), model.AtMost(1, model.Balance.of(2))),
        (model.Close(1), model.Open(1)),
    ]
    assert all(one != other for one, other in pairs)
    assert encode(model.Condition, model.Is(b"k", None)) != encode(model.Condition, model.IsNot(b"k", None))


def test_values_of_transactions_come_back() -> None:
    transfer = model.Transfer(0, 1, 2, 3)
    transaction = model.Transaction(
        1 << 127,
        (
            model.Is(b"a/1", None),
            model.IsNot(b"a/1", b""),
            model.AtLeast(1, model.Balance.of(-5)),
            model.AtMost(1, model.Balance.of(5)),
        ),
        (
            transfer,
            model.Put(b"k", b"v"),
            model.Delete(b"k"),
            model.Append(b"k", b"v"),
            model.Add(b"k", -(1 << 63)),
            model.Swap(b"k", b"l"),
            model.Get(b"k"),
            model.Scan(b"p/a", b"p/b", 10),
            model.Read(7),
            model.Pend(transfer, 60_000_000),
            model.Post(1, 2, 3, 4, 5),
            model.Post(1, 2, 3, 4),
            model.Void(1, 2, 3, 4),
            model.Close(5),
            model.Open(6),
            model.List(model.OfUserData128(1 << 127), True, 1, 2, 3, 4),
        ),
    )
    data = encode(model.Transaction, transaction)
    assert decode(model.Transaction, data) == transaction
    with pytest.raises(MalformedError):
        decode(model.Transaction, data + b"\x00")
