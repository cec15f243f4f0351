"""Levels, sessions and tokens on a real cluster of three groups."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import drachma
from conftest import RealCluster, started
from drachma import Accepted, Committed, Got, Level, Put, Reason, Verdict, new_id
from drachma.codec import decode, encode
from drachma.levels import TOKEN
from drachma.messages import GroupSlot, TokenBody
from test_failover import spread


@pytest.fixture
async def client(nine: RealCluster) -> AsyncIterator[drachma.Client]:
    async with await drachma.connect(nine.endpoints, timeout=30) as client:
        yield client


@pytest.mark.parametrize("level", list(Level))
async def test_writes_and_reads_at_every_level(client: drachma.Client, level: Level) -> None:
    session = client.session()
    result = await session.transfer(801, 802, 1, level=level)
    assert result.level_met
    assert (result.status, result.final) == (("accepted", False) if level is Level.ANY else ("committed", True))
    done = await session.transact([], [Put(b"level/1", b"x")], level=level)
    assert isinstance(done, Accepted if level is Level.ANY else Committed)
    # What was accepted is settled under its id.
    assert await client.fence(result.id, 801) is Verdict.COMMITTED
    seen = await session.query([drachma.Get(b"level/1"), drachma.Read(801), drachma.Read(10**6)], level=level)
    assert seen.level_met
    assert isinstance(seen.replies[0], Got)
    assert isinstance(seen.replies[2], drachma.Nothing)
    assert level is Level.ANY or seen.replies[0].value == b"x"
    assert level is Level.ANY or seen.age is None
    assert seen.age is None or seen.age < 30


async def test_a_session_sees_its_own_writes_from_any_replica(client: drachma.Client) -> None:
    session, keys = client.session(), spread(client)
    for number in range(40):
        value = b"%d" % number
        await session.transact([], [Put(key, value) for key in keys])
        # In one group, and over all of them: from replicas that may be a little behind.
        assert await session.get(keys[number % 3]) == value
        seen = await session.query([drachma.Get(key) for key in keys])
        assert [reply.value for reply in seen.replies if isinstance(reply, Got)] == [value] * 3


async def test_a_token_hands_a_session_on(client: drachma.Client, nine: RealCluster) -> None:
    first, key = client.session(), spread(client)[1]
    assert decode(TokenBody, bytes.fromhex(first.token[len(TOKEN) :])) == TokenBody(client.cluster or 0, ())
    await first.transact([], [Put(key, b"handed on")])
    token = first.token
    async with await drachma.connect(nine.endpoints[3:], timeout=30) as other:
        second = other.session(token)
        assert second.token == token
        assert await second.get(key) == b"handed on"
        await second.transfer(803, 4803, 1)
        assert _groups(second.token) > _groups(token)
    # The command line reads the same token.
    (nine.directory / "token").write_text(token + "\n")
    assert nine.run("get", key.decode(), "--session", str(nine.directory / "token")) == "handed on\n"


def _groups(token: str) -> set[int]:
    body: TokenBody = decode(TokenBody, bytes.fromhex(token[len(TOKEN) :]))
    return {one.group for one in body.slots}


def _token(cluster: int, *groups: int) -> str:
    body = TokenBody(cluster, tuple(GroupSlot(group, 7) for group in groups))
    return TOKEN + encode(TokenBody, body).hex()


async def test_a_token_of_elsewhere_or_in_another_form_is_refused(client: drachma.Client) -> None:
    cluster = client.cluster or 0
    assert client.session(_token(cluster, 1, 2)).token == _token(cluster, 1, 2)
    good = _token(cluster, 1)
    for wrong in (
        _token(cluster + 1, 1),
        _token(cluster, 2, 1),
        _token(cluster, 1, 1),
        good.replace("session-1", "session-2"),
        TOKEN + good[len(TOKEN) :].upper(),
        good + "00",
        good[:-2],
        good + " ",
        TOKEN,
        "",
    ):
        with pytest.raises(drachma.InvalidRequest):
            client.session(wrong)


async def test_any_is_for_one_group_and_all_is_for_several(client: drachma.Client) -> None:
    session = client.session()
    with pytest.raises(drachma.InvalidRequest):
        await session.transfer(804, 4804, 1, level=Level.ANY)
    assert (await session.transfer(804, 4804, 1, level=Level.ALL)).level_met
    assert (await session.transfer(804, 4804, 1, level=Level.LINEARIZABLE)).committed
    with pytest.raises(drachma.Rejected) as caught:
        await session.transfer(804, 805, 10**9, level=Level.ALL)
    assert caught.value.reason is Reason.EXCEEDS_CREDITS
    assert await session.balance(4804, level=Level.ALL) == await client.balance(4804)
    with pytest.raises(drachma.Rejected):
        await session.balance(10**6)


@pytest.fixture(scope="module")
def maimed(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A cluster of its own, of which a node is down."""
    yield from started(tmp_path_factory.mktemp("maimed"), 1, 3, "python-maimed")


async def test_with_a_replica_down_all_is_not_met_and_the_rest_goes_on(maimed: RealCluster) -> None:
    leader = maimed.leader("g1")
    maimed.kill(next(node for node in maimed.groups["g1"] if node != leader))
    async with await drachma.connect(maimed.endpoints, timeout=30) as client:
        session, identity = client.session(), new_id()
        result = await session.transfer(1, 2, 1, id=identity, level=Level.ALL, timeout=2)
        assert (result.committed, result.level_met) == (True, False)
        done = await session.transact([], [Put(b"k", b"v")], level=Level.ALL, timeout=2)
        assert isinstance(done, Committed)
        assert not done.level_met
        seen = await session.query([drachma.Get(b"k")], level=Level.ALL, timeout=2)
        assert (seen.replies, seen.level_met) == ((Got(b"v"),), False)
        for level in (Level.LINEARIZABLE, Level.SESSION):
            assert await session.get(b"k", level=level) == b"v"
        assert await client.fence(identity, 1) is Verdict.COMMITTED
