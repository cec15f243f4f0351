"""Nodes that are killed while requests are under way."""

from __future__ import annotations

import asyncio

import pytest

import drachma
from conftest import Grown, RealCluster, needs_keys, started
from drachma import Get, Put, Transfer, new_id


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A cluster of its own, as its nodes are killed."""
    yield from started(tmp_path_factory.mktemp("fragile"), 3, 3, "python-fragile")


async def total(client: drachma.Client, accounts: list[int]) -> int:
    return sum(await asyncio.gather(*(client.balance(account) for account in accounts)))


async def test_a_leader_is_killed_while_transfers_go_on(fragile: RealCluster) -> None:
    async with await drachma.connect(fragile.endpoints, timeout=30) as client:
        sources, sinks = list(range(101, 133)), [140, 3140, 6140]
        before = {account: await client.balance(account) for account in sources + sinks}
        stop = asyncio.Event()
        sent: list[Transfer] = []
        results: Grown[drachma.Result] = Grown()

        async def work(source: int) -> None:
            while not stop.is_set():
                transfer = Transfer(new_id(), source, sinks[len(sent) % 3], 1)
                sent.append(transfer)
                results.extend(await client.transfers([transfer]))

        workers = [asyncio.create_task(work(source)) for source in sources]
        loop = asyncio.get_running_loop()
        for group in ("g1", "g2"):
            await results.by(50)
            leader = await loop.run_in_executor(None, fragile.leader, group)
            await loop.run_in_executor(None, fragile.kill, leader)
            await results.by(50)
            await loop.run_in_executor(None, fragile.start, leader)
        await results.by(50)
        stop.set()
        await asyncio.gather(*workers)

        failed = [result.status for result in results if not result.committed and result.final is False]
        assert not failed
        committed = {result.id for result in results if result.committed}
        reasons = {result.reason for result in results} - {None}
        assert reasons <= {drachma.Reason.EXCEEDS_CREDITS}
        assert len(committed) > 100
        # Each was applied once: the balances say so, and sending all of it again changes nothing.
        again = await client.transfers([transfer for transfer in sent if transfer.id in committed])
        assert all(result.committed and result.replayed for result in again)
        for account in sources + sinks:
            net = sum((t.credit == account) - (t.debit == account) for t in sent if t.id in committed)
            assert await client.balance(account) == before[account] + net
    fragile.run("audit")


async def test_a_group_without_a_majority_is_unavailable(fragile: RealCluster) -> None:
    async with await drachma.connect(fragile.endpoints) as client:
        first, second = fragile.groups["g3"][:2]
        for node in (first, second):
            await asyncio.get_running_loop().run_in_executor(None, fragile.kill, node)
        try:
            identity = new_id()
            with pytest.raises(drachma.Unavailable):
                await client.read(6001, timeout=1.5)
            with pytest.raises(drachma.Unavailable):
                await client.transfer(6001, 6002, 1, id=identity, timeout=1.5)
            across = new_id()
            with pytest.raises(drachma.NotFinal):
                await client.transfer(1001, 6002, 1, id=across, timeout=1.5)
            # The others go on.
            assert (await client.transfer(1001, 3001, 1, timeout=5)).committed
        finally:
            for node in (first, second):
                await asyncio.get_running_loop().run_in_executor(None, fragile.start, node)
        # What was not final is settled by asking again under the same id.
        assert (await client.transfer(6001, 6002, 1, id=identity)).committed
        assert await client.fence(across, 1001) in (drachma.Verdict.COMMITTED, drachma.Reason.FENCED)


async def test_keys_survive_a_leader(fragile: RealCluster) -> None:
    async with await drachma.connect(fragile.endpoints, timeout=30) as client:
        await needs_keys(client)
        keys = spread(client)
        stop = asyncio.Event()
        seen: Grown[set[bytes | None]] = Grown()

        async def write(name: int) -> None:
            number = 0
            while not stop.is_set():
                number += 1
                await client.mput(dict.fromkeys(keys, b"%d-%d" % (name, number)))

        async def look() -> None:
            while not stop.is_set():
                seen.append(set((await client.mget(keys)).values()))

        await client.transact([], [Put(key, b"0") for key in keys])
        tasks = [asyncio.create_task(one) for one in (write(1), write(2), look(), look())]
        loop = asyncio.get_running_loop()
        leader = await loop.run_in_executor(None, fragile.leader, "g2")
        await loop.run_in_executor(None, fragile.kill, leader)
        # What was under way may have been answered before; what comes now is of another leader.
        await seen.by(20)
        await loop.run_in_executor(None, fragile.start, leader)
        stop.set()
        await asyncio.gather(*tasks)
        assert seen
        assert all(len(values) == 1 for values in seen)
        assert len(await client.query([Get(key) for key in keys])) == len(keys)


def spread(client: drachma.Client) -> list[bytes]:
    """A key of every group."""
    keys: dict[int, bytes] = {}
    number = 0
    while len(keys) < len(client.map.groups):
        key = b"spread-%d" % number
        keys.setdefault(client.map.group_of_key(key), key)
        number += 1
    return [keys[group] for group in sorted(keys)]
