"""The rules of asking again, against nodes that do as they are told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import drachma
from drachma import Get, Got, Put, Reason, Transfer, new_id
from drachma import messages as m
from drachma import model as o
from drachma.codec import decode, encode
from drachma.connection import read_frame
from drachma.frames import LARGEST, Kind, encode_frame
from drachma.messages import Refused, Why
from drachma.model import NotYet, TransferResult, Verdict
from drachma.store import Condition, Operation

CLUSTER = 77
SILENCE = object()
Script = Callable[[int, int, Any], Any]


class Nodes:
    """Three nodes; group 1 is all of them, and group 2, too. Accounts below 100 are in group 1, others in group 2."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.asked: list[tuple[int, int, Any]] = []
        self.connections = 0
        self.servers: list[asyncio.Server] = []

    async def start(self) -> None:
        for node in (1, 2, 3):
            self.servers.append(await asyncio.start_server(self._serve(node), "127.0.0.1", 0))

    @property
    def endpoints(self) -> list[str]:
        return [f"127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in self.servers]

    def _serve(self, node: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
                await read_frame(reader)
                writer.write(encode_frame(Kind.WELCOME, 0, encode(m.Welcome, m.Welcome(1, CLUSTER, node))))
                while True:
                    header, body = await read_frame(reader)
                    request: m.Request = decode(m.Request, body)
                    answer = self._answer(node, request)
                    if answer is None:
                        break
                    if isinstance(answer, bytes):
                        writer.write(answer)
                    elif answer is not SILENCE:
                        writer.write(encode_frame(Kind.RESPONSE, header.correlation, encode(m.Response, answer)))
            writer.close()

        return serve

    def _answer(self, node: int, request: m.Request) -> Any:
        if isinstance(request.call, m.MapCall):
            ranges = m.Ranges((m.AccountRange(1, 99), m.AccountRange(100, 199)))
            return m.MapDone(
                m.ShardMap(1, ranges, (1, 2)),
                (m.GroupNodes(1, (1, 2, 3)), m.GroupNodes(2, (1, 2, 3))),
                tuple(m.NodeAddress(number + 1, address) for number, address in enumerate(self.endpoints)),
            )
        self.asked.append((node, request.group, request.call))
        return self.script(node, request.group, request.call)


@contextlib.asynccontextmanager
async def nodes(script: Script, timeout: float = 5) -> AsyncIterator[tuple[drachma.Client, Nodes]]:
    fake = Nodes(script)
    await fake.start()
    try:
        async with await drachma.connect(fake.endpoints, timeout=timeout) as client:
            yield client, fake
    finally:
        for server in fake.servers:
            server.close()


def refused(why: Why, leader: int | None = None, after: int = 0) -> Refused:
    return Refused(why, leader, after)


def transferred(*items: tuple[int, TransferResult]) -> m.TransfersDone:
    return m.TransfersDone(tuple(m.ItemResult(index, result, False) for index, result in items))


async def test_a_hint_is_followed_and_kept() -> None:
    def script(node: int, _group: int, _call: Any) -> Any:
        return transferred() if node == 3 else refused(Why.NOT_LEADER, 3)

    async with nodes(script) as (client, fake):
        await client.transfer(1, 2, 1)
        assert len(fake.asked) <= 2
        fake.asked.clear()
        await client.transfer(1, 2, 1)
        assert [node for node, _, _ in fake.asked] == [3]
        await asyncio.gather(*(client.transfer(1, 2, 1) for _ in range(50)))
        # One connection to find the map, and one to each node that was asked.
        assert fake.connections <= 3


async def test_a_hint_to_nobody_is_not_followed_in_circles() -> None:
    asked: list[int] = []

    def script(node: int, _group: int, _call: Any) -> Any:
        asked.append(node)
        return transferred() if len(asked) > 9 else refused(Why.NOT_LEADER, node % 3 + 1)

    async with nodes(script) as (client, _):
        await client.transfer(1, 2, 1)
        assert [sorted(asked[place : place + 3]) for place in (0, 3, 6)] == [[1, 2, 3]] * 3


async def test_silence_is_answered_by_a_copy_to_another_node() -> None:
    asked: list[int] = []

    def script(node: int, _group: int, _call: Any) -> Any:
        asked.append(node)
        return transferred() if len(asked) > 1 else SILENCE

    async with nodes(script) as (client, fake):
        begun = asyncio.get_running_loop().time()
        await client.transfer(1, 2, 1)
        assert 0.4 < asyncio.get_running_loop().time() - begun < 1.5
        assert asked[0] != asked[1]
        copies = [call for _, _, call in fake.asked]
        assert copies[0].body == copies[1].body
        assert copies[0].sequence == copies[1].sequence
        assert copies[0].deadline > copies[1].deadline


async def test_overloaded_is_the_same_node_after_a_pause() -> None:
    asked: list[tuple[int, float]] = []

    def script(node: int, _group: int, _call: Any) -> Any:
        asked.append((node, asyncio.get_running_loop().time()))
        return transferred() if len(asked) > 1 else refused(Why.OVERLOADED, None, 150_000)

    async with nodes(script) as (client, _):
        await client.transfer(1, 2, 1)
        assert asked[0][0] == asked[1][0]
        assert asked[1][1] - asked[0][1] >= 0.149


async def test_a_lost_connection_is_made_again() -> None:
    asked: list[int] = []

    def script(node: int, _group: int, _call: Any) -> Any:
        asked.append(node)
        return transferred() if len(asked) > 4 else None

    async with nodes(script) as (client, _):
        assert (await client.transfer(1, 2, 1)).committed


async def test_frames_of_a_node_are_held_to_the_rules() -> None:
    asked: list[int] = []
    bad = [
        encode_frame(Kind.REQUEST, 1, b"\xc0"),
        encode_frame(Kind.RESPONSE, 1, b"\xc0"),
        encode_frame(Kind.RESPONSE, 1, b"\x92\x02\x91\x90")[:-1] + b"\x91",
        (LARGEST - 8 + 1).to_bytes(4, "big") + encode_frame(Kind.RESPONSE, 1, b"\xc0")[4:],
    ]

    def script(node: int, _group: int, _call: Any) -> Any:
        asked.append(node)
        return bad.pop() if bad else transferred()

    async with nodes(script) as (client, fake):
        assert (await client.transfer(1, 2, 1)).committed
        assert len(asked) == 5
        assert fake.connections >= 5


async def test_no_quorum_is_unavailable_and_silence_unknown() -> None:
    async with nodes(lambda *_: refused(Why.NO_QUORUM), 0.3) as (client, _):
        with pytest.raises(drachma.Unavailable):
            await client.transfer(1, 2, 1)
    async with nodes(lambda *_: refused(Why.NOT_LEADER), 0.3) as (client, _):
        with pytest.raises(drachma.Unknown):
            await client.transfer(1, 2, 1)
    async with nodes(lambda *_: SILENCE, 0.3) as (client, _):
        with pytest.raises(drachma.Unknown):
            await client.read(1)
    async with nodes(lambda *_: transferred((0, NotYet.UNAVAILABLE)), 0.3) as (client, _):
        with pytest.raises(drachma.Unavailable):
            await client.transfer(1, 100, 1)
    async with nodes(lambda *_: transferred((0, NotYet.UNKNOWN)), 0.3) as (client, _):
        with pytest.raises(drachma.Unknown):
            await client.transfer(1, 100, 1)


async def test_malformed_is_given_up_at_once() -> None:
    async with nodes(lambda *_: refused(Why.MALFORMED)) as (client, fake):
        with pytest.raises(drachma.InvalidRequest):
            await client.transfer(1, 2, 1)
        assert len(fake.asked) == 1
    goodbye = encode_frame(Kind.GOODBYE, 0, encode(m.Goodbye, m.Goodbye(m.Refusal.MALFORMED, "no")))
    async with nodes(lambda *_: goodbye) as (client, fake):
        with pytest.raises(drachma.InvalidRequest):
            await client.transfer(1, 2, 1)
        # Once on the shared connection, and once on one of its own.
        assert len(fake.asked) == 2


async def test_a_goodbye_to_one_request_is_none_to_the_others() -> None:
    goodbye = encode_frame(Kind.GOODBYE, 0, encode(m.Goodbye, m.Goodbye(m.Refusal.MALFORMED, "no")))

    def script(_node: int, _group: int, call: Any) -> Any:
        return goodbye if isinstance(call, m.QueryCall) else transferred()

    async with nodes(script) as (client, _):
        results = await asyncio.gather(
            *(client.transfer(1, 2, 1) for _ in range(10)),
            client.get(b"key"),
            *(client.transfer(1, 2, 1) for _ in range(10)),
            return_exceptions=True,
        )
        assert [isinstance(result, drachma.Result) for result in results] == [*[True] * 10, False, *[True] * 10]
        assert isinstance(results[10], drachma.InvalidRequest)


async def test_items_that_are_not_final_go_again_alone() -> None:
    bodies: list[tuple[o.Transfer, ...]] = []
    sequences: list[int] = []

    def script(_node: int, _group: int, call: Any) -> Any:
        bodies.append(decode(tuple[o.Transfer, ...], call.body))
        sequences.append(call.sequence)
        if len(bodies) > 1:
            return transferred((0, Reason.EXCEEDS_CREDITS))
        return transferred((1, NotYet.RETRY), (3, Reason.SAME_ACCOUNT), (2, NotYet.UNKNOWN))

    async with nodes(script) as (client, _):
        transfers = [Transfer(new_id(), 1, 2, 1) for _ in range(4)]
        results = await client.transfers(transfers)
        assert [len(body) for body in bodies] == [4, 2]
        assert list(bodies[1]) == transfers[1:3]
        assert sequences[0] != sequences[1]
        assert [result.reason for result in results] == [
            None,
            Reason.EXCEEDS_CREDITS,
            None,
            Reason.SAME_ACCOUNT,
        ]


async def test_any_number_of_tries() -> None:
    asked = 0

    def script(_node: int, _group: int, _call: Any) -> Any:
        nonlocal asked
        asked += 1
        return transferred() if asked > 1_500 else transferred((0, NotYet.RETRY))

    async with nodes(script) as (client, _):
        longest, drachma.cluster.LONGEST_PAUSE = drachma.cluster.LONGEST_PAUSE, 0.0
        try:
            assert (await client.transfer(1, 2, 1, timeout=None)).committed
        finally:
            drachma.cluster.LONGEST_PAUSE = longest


def keys(client: drachma.Client) -> tuple[bytes, bytes]:
    """A key of each group."""
    names = [b"key-%d" % number for number in range(20)]
    return tuple(next(key for key in names if client.map.group_of_key(key) == group) for group in (1, 2))  # type: ignore[return-value]


async def test_a_snapshot_is_two_equal_rounds() -> None:
    versions = iter([1, 1, 1, 1])

    def script(_node: int, _group: int, call: Any) -> Any:
        return m.QueryDone(5, (m.Found(Got(b"v"), next(versions)),))

    async with nodes(script) as (client, fake):
        left, right = keys(client)
        assert await client.mget([left, right]) == {left: b"v", right: b"v"}
        assert [call.confirmed for _, _, call in fake.asked] == [False, False, True, True]


async def test_one_group_is_asked_once() -> None:
    def script(_node: int, _group: int, _call: Any) -> Any:
        return m.QueryDone(5, (m.Found(Got(b"v"), 1),))

    async with nodes(script) as (client, fake):
        assert await client.get(b"key") == b"v"
        assert [call.confirmed for _, _, call in fake.asked] == [True]


async def test_the_second_round_is_the_first_of_another_try() -> None:
    def script(_node: int, group: int, call: Any) -> Any:
        changes = sum(call.confirmed for _, one, call in fake.asked if one == group) if group == 1 else 0
        return m.QueryDone(5, (m.Found(Got(b"v"), min(changes, 1)),))

    async with nodes(script) as (client, fake):
        left, right = keys(client)
        assert await client.mget([left, right]) == {left: b"v", right: b"v"}
        assert [call.confirmed for _, _, call in fake.asked] == [False, False, True, True, True, True]


@pytest.mark.parametrize("doubtful", [True, False])
async def test_a_snapshot_that_does_not_settle_is_read_under_locks(doubtful: bool) -> None:
    count = 0

    def script(_node: int, _group: int, call: Any) -> Any:
        nonlocal count
        count += 1
        if isinstance(call, m.QueryCall):
            return m.QueryDone(5, None if doubtful else (m.Found(Got(b"v"), count),))
        return m.TransactionDone(Verdict.COMMITTED, False, (Got(b"l"), Got(b"r")))

    async with nodes(script) as (client, fake):
        left, right = keys(client)
        assert await client.mget([right, left, right]) == {right: b"l", left: b"r"}
        _, group, last = fake.asked[-1]
        assert last.kind is m.CommandKind.TRANSACT_OVER
        assert group == client.map.group_of_key(right)
        transaction: o.Transaction = decode(o.Transaction, last.body)
        assert transaction.operations == (Get(right), Get(left))
        assert [type(call).__name__ for _, _, call in fake.asked].count("QueryCall") == (4 if doubtful else 8)


async def test_where_a_transaction_goes() -> None:
    def script(_node: int, _group: int, _call: Any) -> Any:
        return m.TransactionDone(Verdict.COMMITTED, True, None)

    async with nodes(script) as (client, fake):
        left, right = keys(client)
        cases: list[tuple[list[Condition], list[Operation], int, m.CommandKind]] = [
            ([], [Put(left, b"")], 1, m.CommandKind.TRANSACTION),
            ([], [Put(right, b""), Transfer(0, 100, 500, 1)], 2, m.CommandKind.TRANSACTION),
            ([], [Put(right, b""), Put(left, b"")], 2, m.CommandKind.TRANSACT_OVER),
            ([o.AtLeast(100, o.Balance.of(0))], [Put(left, b"")], 2, m.CommandKind.TRANSACT_OVER),
            ([], [Transfer(0, 100, 1, 1)], 2, m.CommandKind.TRANSACT_OVER),
        ]
        for conditions, operations, group, kind in cases:
            done = await client.transact(conditions, operations)
            assert done.replies is None
            assert done.replayed
            _, asked, call = fake.asked[-1]
            assert (asked, call.kind, call.count, call.session) == (group, kind, 1, None)
        assert await client.append(left, b"x") is None
        assert drachma.first_account(client.map, [], [o.Swap(right, left)]) == (1 << 128) - 2


async def test_without_a_deadline_ten_seconds_are_said() -> None:
    async with nodes(lambda *_: transferred()) as (client, fake):
        await client.transfer(1, 2, 1, timeout=None)
        assert fake.asked[-1][2].deadline == 10_000_000
        await client.transfer(1, 2, 1, timeout=2)
        assert 1_000_000 < fake.asked[-1][2].deadline <= 2_000_000
