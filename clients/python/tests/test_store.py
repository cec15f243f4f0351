"""Keys, transactions and snapshots on a real cluster; skipped on binaries that have none of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import drachma
from conftest import Grown, RealCluster, needs_keys
from drachma import (
    Add,
    Added,
    Append,
    AtLeast,
    AtMost,
    Balance,
    Delete,
    Get,
    Got,
    Is,
    IsNot,
    Length,
    Nothing,
    Put,
    Read,
    Reason,
    Rejected,
    Rows,
    Scan,
    Swap,
    Swapped,
    Transfer,
    Verdict,
    first_account,
    new_id,
)
from test_failover import spread


@pytest.fixture
async def client(nine: RealCluster) -> AsyncIterator[drachma.Client]:
    async with await drachma.connect(nine.endpoints) as client:
        await needs_keys(client)
        yield client


async def reason_of(client: drachma.Client, conditions: list[drachma.store.Condition], *operations: object) -> Reason:
    with pytest.raises(Rejected) as caught:
        await client.transact(conditions, operations)  # type: ignore[arg-type]
    return caught.value.reason


async def test_one_key(client: drachma.Client) -> None:
    key = b"one/%x" % new_id()
    assert await client.get(key) is None
    await client.put(key, b"a")
    assert await client.get(key) == b"a"
    assert await client.append(key, b"bc") == 3
    assert await client.get(key) == b"abc"
    assert await client.cas(key, b"x", b"y") is False
    assert await client.cas(key, b"abc", b"y") is True
    assert await client.cas(key, b"y", None) is True
    assert await client.get(key) is None
    assert await client.cas(key, None, b"") is True
    assert await client.get(key) == b""
    await client.delete(key)
    await client.delete(key)
    assert await client.get(key) is None


async def test_numbers(client: drachma.Client) -> None:
    key = b"number/%x" % new_id()
    assert await client.add(key, 5) == 5
    assert await client.add(key, -12) == -7
    assert await client.get(key) == b"-7"
    assert await client.add(key, -1000) == -1007
    await client.put(key, b"%d" % ((1 << 63) - 1))
    assert await reason_of(client, [], Add(key, 1)) is Reason.OVERFLOW
    for text in (b"-07", b"+1", b"", b"1 ", b"-0", b"9223372036854775808"):
        await client.put(key, text)
        assert await reason_of(client, [], Add(key, 1)) is Reason.NOT_A_NUMBER, text
    await client.put(key, b"%d" % -(1 << 63))
    assert await client.add(key, (1 << 63) - 1) == -1
    assert await client.add(key, -(1 << 63) + 1) == -(1 << 63)


async def test_several_keys_of_several_groups(client: drachma.Client) -> None:
    keys = spread(client)
    await client.mput(dict.fromkeys(keys, b"v"))
    assert await client.mget([*keys, b"absent"]) == {**dict.fromkeys(keys, b"v"), b"absent": None}
    await client.mput({keys[0]: b"left", keys[1]: b"right"})
    await client.delete(keys[2])
    assert await client.swap(keys[0], keys[1]) == (b"left", b"right")
    assert await client.swap(keys[1], keys[2]) == (b"left", None)
    assert await client.mget(keys) == {keys[0]: b"right", keys[1]: None, keys[2]: b"left"}


async def test_scan(client: drachma.Client) -> None:
    part = b"part-%x" % new_id()
    names = [part + b"/%03d" % number for number in range(20)]
    await client.mput({name: name[-3:] for name in names})
    rows = await client.scan(part, limit=8)
    assert [row.key for row in rows.rows] == names[:8]
    assert rows.next is not None
    assert [row.key async for row in client.scan_all(part, limit=8)] == names
    rows = await client.scan(names[3], names[7])
    assert [row.key for row in rows.rows] == names[3:7]
    assert rows.next is None
    assert (await client.scan(part + b"/1", limit=0)).rows == ()
    with pytest.raises(drachma.InvalidRequest):
        await client.scan(part, b"other")


async def test_everything_in_one_transaction(client: drachma.Client) -> None:
    a, b, c = (key + b"/%x" % new_id() for key in spread(client))
    await client.mput({a: b"1", b: b"2"})
    before = await client.balance(201)
    done = await client.transact(
        [Is(a, b"1"), IsNot(c, b"x"), AtLeast(201, Balance.of(1)), AtMost(201, Balance.of(before))],
        [
            Transfer(0, 201, 6201, 1),
            Add(a, 41),
            Append(c, b"xyz"),
            Get(a),
            Read(201),
            Scan(b, None, 10),
            Delete(b),
            Put(c, b"last"),
        ],
    )
    assert done.replies is not None
    moved, added, length, got, account, rows, deleted, put = done.replies
    assert (moved, deleted, put) == (Nothing(), Nothing(), Nothing())
    assert added == Added(42)
    assert length == Length(3)
    assert got == Got(b"1")
    assert isinstance(account, drachma.Account)
    assert account.balance == before
    assert rows == Rows((drachma.Row(b, b"2"),), None)
    replies = await client.query([Get(a), Get(b), Get(c), Read(201), Read(10_000)])
    assert replies[:3] == [Got(b"42"), Got(None), Got(b"last")]
    assert isinstance(replies[3], drachma.Account)
    assert replies[3].balance == before - 1
    assert replies[4] == Nothing()


async def test_a_transaction_is_executed_once_and_settled_under_its_first_account(client: drachma.Client) -> None:
    keys = spread(client)
    identity = new_id()
    operations = [Append(key, b"x") for key in keys]
    first = await client.transact([], operations, id=identity)
    again = await client.transact([], operations, id=identity)
    assert not first.replayed
    assert again.replayed
    assert again.replies in (None, first.replies)
    account = first_account(client.map, [], operations)
    assert await client.lookup(identity, account) is Verdict.COMMITTED
    assert await client.fence(identity, account) is Verdict.COMMITTED
    never = new_id()
    assert await client.fence(never, account) is Reason.FENCED
    with pytest.raises(Rejected) as caught:
        await client.transact([], operations, id=never)
    assert caught.value.reason is Reason.FENCED
    with pytest.raises(Rejected) as caught:
        await client.transact([], operations[:1], id=identity)
    assert caught.value.reason is Reason.ID_CONFLICT


async def test_conditions(client: drachma.Client) -> None:
    near, _, far = spread(client)
    await client.mput({near: b"n", far: b"f"})
    for condition in (
        Is(near, b"x"),
        Is(far, None),
        IsNot(far, b"f"),
        IsNot(near + b"/absent", None),
        AtLeast(301, Balance.of(10**9)),
        AtMost(6301, Balance.of(-1)),
    ):
        assert await reason_of(client, [condition], Put(near, b"changed"), Put(far, b"changed")) is Reason.CONDITION
    assert await client.mget([near, far]) == {near: b"n", far: b"f"}
    await client.transact([Is(near + b"/absent", None), IsNot(far, None), AtMost(301, Balance.of(10**9))], [Get(near)])


async def test_an_account_passes_on_what_it_receives(client: drachma.Client) -> None:
    balance = await client.balance(401)
    await client.transact([], [Transfer(0, 401, 402, balance + 5), Transfer(0, 3401, 401, 5)])
    assert await client.balance(401) == 0
    assert await reason_of(client, [], Transfer(0, 401, 402, 1), Put(b"never", b"")) is Reason.EXCEEDS_CREDITS
    assert await client.get(b"never") is None
    assert await reason_of(client, [], Transfer(0, 402, 10_000, 1)) is Reason.NO_SUCH_ACCOUNT


async def test_a_transfer_within_a_transaction_has_its_own_id_if_it_wants(client: drachma.Client) -> None:
    identity = new_id()
    await client.transfer(501, 502, 1, id=identity)
    assert await reason_of(client, [], Transfer(identity, 501, 502, 1)) is Reason.ID_CONFLICT


async def test_a_mixture_is_never_seen(client: drachma.Client) -> None:
    keys = [key + b"/mixture" for key in spread(client)]
    await client.mput(dict.fromkeys(keys, b"0"))
    stop = asyncio.Event()
    seen: Grown[int] = Grown()

    async def write(name: int) -> None:
        number = 0
        while not stop.is_set():
            number += 1
            await client.mput(dict.fromkeys(keys, b"%d.%d" % (name, number)))

    async def look() -> None:
        while not stop.is_set():
            seen.append(len(set((await client.mget(keys)).values())))

    tasks = [asyncio.create_task(one) for one in (write(1), write(2), look(), look())]
    await seen.by(300)
    stop.set()
    await asyncio.gather(*tasks)
    assert seen
    assert set(seen) == {1}


async def test_limits_at_and_one_past(client: drachma.Client) -> None:
    key = b"k" * 1_024
    await client.put(key, b"v" * (256 << 10))
    assert await client.get(key) == b"v" * (256 << 10)
    await client.transact([], [Get(b"a/%d" % number) for number in range(1_024)])
    await client.transact([Is(b"a/%d" % number, None) for number in range(1_023)], [Delete(b"a/x")])
    refused: list[list[drachma.store.Operation]] = [
        [Put(key + b"k", b"")],
        [Put(b"", b"")],
        [Put(b"v", b"v" * ((256 << 10) + 1))],
        [Get(b"a/%d" % number) for number in range(1_025)],
        [Swap(b"s/1", b"s/2"), Put(b"s/1", b"")],
        [Swap(b"s/1", b"s/2"), Swap(b"s/2", b"s/3")],
    ]
    for operations in refused:
        with pytest.raises(drachma.InvalidRequest):
            await client.transact([], operations)
    # The replies to a transaction have a limit of their own.
    many = {b"large/%d" % number: b"v" * (256 << 10) for number in range(9)}
    for name, value in many.items():
        await client.put(name, value)
    assert await reason_of(client, [], *[Get(name) for name in many], Delete(b"large/none")) is Reason.TOO_LARGE


async def test_swapped_keys_may_be_one_of_several_groups(client: drachma.Client) -> None:
    left, right = spread(client)[:2]
    await client.mput({left: b"1", right: b"2"})
    done = await client.transact([], [Swap(right, left), Get(left)])
    assert done.replies == (Swapped(b"2", b"1"), Got(b"1"))
