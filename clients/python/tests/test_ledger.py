"""Accounts and transfers on a real cluster."""

from __future__ import annotations

import asyncio

import pytest

import drachma
from conftest import RealCluster
from drachma import CreateResult, NewAccount, Reason, Rejected, Transfer, Verdict, new_id


async def test_transfers_within_and_across_groups(nine: RealCluster) -> None:
    async with await drachma.connect(nine.endpoints[:1]) as client:
        before = {account: await client.balance(account) for account in (11, 12, 4011)}
        result = await client.transfer(11, 12, 5)
        assert result.committed
        assert not result.replayed
        await client.transfer(11, 4011, 7)
        assert await client.balance(11) == before[11] - 12
        assert await client.balance(12) == before[12] + 5
        assert await client.balance(4011) == before[4011] + 7


async def test_a_batch_is_split_and_merged_in_order(nine: RealCluster) -> None:
    async with await drachma.connect(nine.endpoints) as client:
        ids = [new_id() for _ in range(8)]
        transfers = [
            Transfer(ids[0], 21, 22, 1),
            Transfer(ids[1], 21, 3021, 1),
            Transfer(ids[2], 3021, 6021, 1),
            Transfer(ids[3], 6021, 6021, 1),
            Transfer(ids[4], 10_000, 21, 1),
            Transfer(ids[5], 21, 10_000, 1),
            Transfer(ids[6], 3021, 6021, 0),
            Transfer(ids[7], 6021, 21, 10**9),
        ]
        results = await client.transfers(transfers)
        assert [result.id for result in results] == ids
        assert [result.reason for result in results] == [
            None,
            None,
            None,
            Reason.SAME_ACCOUNT,
            Reason.NO_SUCH_ACCOUNT,
            Reason.NO_SUCH_ACCOUNT,
            Reason.ZERO_AMOUNT,
            Reason.EXCEEDS_CREDITS,
        ]
        assert all(result.final for result in results)
        again = await client.transfers(transfers[:4])
        assert [result.reason for result in again] == [result.reason for result in results[:4]]
        assert all(result.replayed for result in again)


async def test_an_id_with_other_content_is_a_conflict(nine: RealCluster) -> None:
    async with await drachma.connect(nine.endpoints) as client:
        identity = new_id()
        await client.transfer(31, 32, 1, id=identity)
        assert (await client.transfer(31, 32, 1, id=identity)).replayed
        with pytest.raises(Rejected) as caught:
            await client.transfer(31, 32, 2, id=identity)
        assert caught.value.reason is Reason.ID_CONFLICT


async def test_lookup_and_fence(nine: RealCluster) -> None:
    async with await drachma.connect(nine.endpoints) as client:
        done, never = new_id(), new_id()
        await client.transfer(41, 3041, 1, id=done)
        assert await client.fence(done, 41) is Verdict.COMMITTED
        assert await client.lookup(done, 41) is Verdict.COMMITTED
        assert await client.lookup(never, 41) is None
        assert await client.fence(never, 41) is Reason.FENCED
        with pytest.raises(Rejected) as caught:
            await client.transfer(41, 3041, 1, id=never)
        assert caught.value.reason is Reason.FENCED


async def test_accounts_are_created_once(single: RealCluster) -> None:
    async with await drachma.connect(single.endpoints) as client:
        accounts = [NewAccount(new_id(), code=7, flags=0) for _ in range(3)]
        assert await client.create_accounts(accounts) == [CreateResult.CREATED] * 3
        other = NewAccount(accounts[0].id, code=8, flags=0)
        top = NewAccount((1 << 128) - 1)
        assert await client.create_accounts([*accounts[1:], other, top]) == [
            CreateResult.EXISTS,
            CreateResult.EXISTS,
            CreateResult.EXISTS_DIFFERENT,
            CreateResult.MOVED,
        ]
        found = await client.read(accounts[0].id)
        assert found is not None
        assert (found.id, found.code, found.flags, found.balance) == (accounts[0].id, 7, 0, 0)
        await client.transfer(accounts[0].id, accounts[1].id, 1 << 100)
        assert await client.balance(accounts[0].id) == -(1 << 100)
        assert await client.balance(accounts[1].id) == 1 << 100


async def test_what_belongs_to_no_shard_does_not_exist(nine: RealCluster) -> None:
    async with await drachma.connect(nine.endpoints) as client:
        assert await client.read(10_000) is None
        assert await client.create_accounts([NewAccount(10_000), NewAccount(1)]) == [
            CreateResult.MOVED,
            CreateResult.EXISTS,
        ]
        with pytest.raises(Rejected):
            await client.balance(10_000)


async def test_many_at_once_share_a_connection(nine: RealCluster) -> None:
    async with await drachma.connect(nine.endpoints) as client:
        before = await client.balance(3051)
        results = await asyncio.gather(*(client.transfer(51 + i % 7, 3051, 1) for i in range(300)))
        assert all(result.committed for result in results)
        assert await client.balance(3051) == before + 300


async def test_a_large_batch(single: RealCluster) -> None:
    async with await drachma.connect(single.endpoints, timeout=60) as client:
        results = await client.transfers([Transfer(new_id(), 61 + i % 100, 200, 1) for i in range(8_200)])
        assert all(result.committed for result in results)


async def test_an_unknown_session_is_registered_anew(single: RealCluster) -> None:
    async with await drachma.connect(single.endpoints) as client:
        await client.create_accounts([NewAccount(new_id())])
        (group,) = client._sessions
        client._sessions[group] = drachma.messages.Session(new_id(), 1)
        assert await client.create_accounts([NewAccount(new_id())]) == [CreateResult.CREATED]


async def test_a_sequence_number_outside_the_window_is_replaced(single: RealCluster) -> None:
    async with await drachma.connect(single.endpoints) as client:
        for _ in range(2):
            await client.create_accounts([NewAccount(new_id())])
        old = client._session_sequence
        client._session_sequence = iter(range(5_000, 5_001))  # type: ignore[assignment]
        await client.create_accounts([NewAccount(new_id())])
        # Below the window; numbers are drawn anew until one is accepted.
        client._session_sequence = iter([1, 5_001, 5_002])  # type: ignore[assignment]
        account = NewAccount(new_id())
        assert await client.create_accounts([account]) == [CreateResult.CREATED]
        client._session_sequence = old


async def test_another_cluster_is_refused(single: RealCluster, nine: RealCluster) -> None:
    async with await drachma.connect(single.endpoints) as client:
        own = client.cluster
    with pytest.raises(drachma.SaidGoodbye) as caught:
        await drachma.connect(nine.endpoints, cluster=own)
    assert caught.value.refusal is drachma.messages.Refusal.CLUSTER
    with pytest.raises(drachma.Unavailable):
        await drachma.connect("127.0.0.1:1", timeout=0.3)
