"""Levels: more than linearizable, or less; and sessions, which see their own writes wherever they read."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from . import model as o
from .cluster import Backoff, Changed, Deadline
from .codec import MalformedError, decode, encode
from .errors import ConnectionLost, Differ, InvalidRequest, NotFinal, Rejected
from .ids import new_id
from .ledger import Default, Result, Timeout, unexpected
from .messages import (
    Found,
    GroupSlot,
    Level,
    PositionCall,
    PositionDone,
    Refused,
    ReplicaReadCall,
    ReplicaReadDone,
    TokenBody,
    Why,
)
from .model import Account, Got, Nothing, Reason, Transaction, Transfer
from .phases import Phases
from .store import Committed, Condition, Done, MovedAway, Operation, Read, Reply, Whole, expect

TOKEN = "drachma-session-1:"
# A replica is given so long before the next one is asked.
REPLICA_SILENCE = 0.5
# Of the time there is, as much is spent on replicas that are late: the rest is for saying so.
PATIENCE = 0.75


@dataclass(frozen=True)
class Seen:
    """What was read, one reply per operation; `Nothing` stands for an account that does not exist.

    `age` is for level `ANY`: no more than so many seconds old, or nothing if that is not known.
    """

    replies: tuple[Reply, ...]
    age: float | None = None
    level_met: bool = True


@dataclass(frozen=True)
class Accepted:
    """A transaction that a leader has on its own disk (level `ANY`): no outcome, a failover may lose it."""

    id: int


class Session:
    """What one user of a client has written and read, and requests at a level.

    Made by `Client.session`. Its token is all that there is to keep or to hand on.
    """

    def __init__(self, client: Phases, token: str | None = None) -> None:
        """Goes on where a token ends; a token of another cluster is an `InvalidRequest`."""
        self._client = client
        self._slots: dict[int, int] = {} if token is None else _slots_of(token, client.cluster)

    @property
    def token(self) -> str:
        """What the session has written and read, as text."""
        slots = tuple(GroupSlot(group, slot) for group, slot in sorted(self._slots.items()))
        return TOKEN + encode(TokenBody, TokenBody(self._client.cluster or 0, slots)).hex()

    def _saw(self, group: int, slot: int) -> None:
        self._slots[group] = max(self._slots.get(group, 0), slot)

    # Writing

    async def transfer(
        self,
        debit: int,
        credit: int,
        amount: int,
        *,
        level: Level = Level.SESSION,
        id: int | None = None,  # noqa: A002
        ledger: int = 1,
        code: int = 1,
        timeout: Timeout = Default.TIMEOUT,
    ) -> Result:
        """Moves an amount as `Client.transfer` does, at a level; look at `accepted` and `level_met`."""
        transfer = Transfer(new_id() if id is None else id, debit, credit, amount, ledger, code)
        done, met = await self._write(Whole.of_transfer(transfer), level, self._client.deadline(timeout))
        return Result(transfer.id, None, done.replayed, done.accepted, met)

    async def transact(
        self,
        conditions: Sequence[Condition] = (),
        operations: Sequence[Operation] = (),
        *,
        level: Level = Level.SESSION,
        id: int | None = None,  # noqa: A002
        timeout: Timeout = Default.TIMEOUT,
    ) -> Committed | Accepted:
        """Makes all of it take effect, or nothing, as `Client.transact` does, at a level."""
        transaction = Transaction(new_id() if id is None else id, tuple(conditions), tuple(operations))
        done, met = await self._write(Whole.of(transaction), level, self._client.deadline(timeout))
        if done.accepted:
            return Accepted(transaction.id)
        return Committed(transaction.id, done.replies, done.replayed, met)

    async def _write(self, whole: Whole, level: Level, deadline: Deadline) -> tuple[Done, bool]:
        """Carries it out; says, too, whether the level was met."""
        done = await self._client.carry_out(whole, deadline, level)
        if done.slot is not None:
            for group in done.groups:
                self._saw(group, done.slot)
            return done, done.level_met
        if done.accepted:
            return done, True
        # Several groups: each says how far it is by now, which is beyond this write.
        everywhere = level is Level.ALL
        met = await asyncio.gather(*(self._position(group, everywhere, deadline) for group in done.groups))
        return done, all(met)

    async def _position(self, group: int, everywhere: bool, deadline: Deadline) -> bool:
        epoch = self._client.map.epoch
        try:
            answer = await self._client.ask(group, lambda span: PositionCall(everywhere, span, epoch), deadline)
        except NotFinal:
            return False
        if isinstance(answer, Changed):
            return False
        if not isinstance(answer, PositionDone):
            raise unexpected(answer)
        self._saw(group, answer.slot)
        return answer.everywhere or not everywhere

    # Reading

    async def query(
        self, operations: Sequence[Read], *, level: Level = Level.SESSION, timeout: Timeout = Default.TIMEOUT
    ) -> Seen:
        """Reads keys, parts and accounts at a level.

        `LINEARIZABLE` is one snapshot over all groups; otherwise each group's part is. `ALL` compares what all replicas
        hold, and raises `Differ` if that is not the same.
        """
        deadline, backoff = self._client.deadline(timeout), Backoff()
        while True:
            try:
                return await self._query(operations, level, deadline)
            except MovedAway as moved:
                await self._client.changed(moved.change, moved.group, deadline, backoff)

    async def _query(self, operations: Sequence[Read], level: Level, deadline: Deadline) -> Seen:
        parts = self._client.split(operations)
        if level is Level.LINEARIZABLE:
            replies, slots = await self._client.snapshot(operations, deadline)
            for group in parts.keys() - slots.keys():
                await self._position(group, False, deadline)
            for group, slot in slots.items():
                self._saw(group, slot)
            return Seen(tuple(replies))
        read_part = {Level.SESSION: self._as_session, Level.ANY: self._as_any, Level.ALL: self._as_all}[level]
        found = await asyncio.gather(
            *(
                read_part(group, tuple(operations[place] for place in places), deadline)
                for group, places in parts.items()
            )
        )
        replies = [Nothing()] * len(operations)
        for places, part in zip(parts.values(), found, strict=True):
            for place, reply in zip(places, part.replies, strict=True):
                replies[place] = reply
        ages = [part.age for part in found]
        age = None if None in ages else max((age for age in ages if age is not None), default=None)
        return Seen(tuple(replies), age, all(part.level_met for part in found))

    async def balance(self, account: int, *, level: Level = Level.SESSION, timeout: Timeout = Default.TIMEOUT) -> int:
        """The balance of an account; `Rejected` with `NO_SUCH_ACCOUNT` if there is none."""
        seen = await self.query([o.Read(account)], level=level, timeout=timeout)
        if isinstance(seen.replies[0], Nothing):
            raise Rejected(Reason.NO_SUCH_ACCOUNT)
        return expect(Account, seen.replies[0]).balance

    async def get(
        self, key: bytes, *, level: Level = Level.SESSION, timeout: Timeout = Default.TIMEOUT
    ) -> bytes | None:
        """What a key holds, or nothing if it does not exist."""
        seen = await self.query([o.Get(key)], level=level, timeout=timeout)
        return expect(Got, seen.replies[0]).value

    async def _as_session(self, group: int, operations: tuple[Read, ...], deadline: Deadline) -> Seen:
        """From any replica that has what the session has; at last from the leader, which always has."""
        for node in self._replicas(group):
            done = await self._replica(group, node, operations, self._slots.get(group, 0), True, deadline)
            if done is not None and done.found is not None:
                self._saw(group, done.slot)
                return Seen(_replies(done.found))
        return await self._from_leader(group, operations, deadline)

    async def _as_any(self, group: int, operations: tuple[Read, ...], deadline: Deadline) -> Seen:
        """From any replica, as it is."""
        for node in self._replicas(group):
            done = await self._replica(group, node, operations, 0, False, deadline)
            if done is not None and done.found is not None:
                self._saw(group, done.slot)
                return Seen(_replies(done.found), None if done.age is None else done.age / 1_000_000)
        # More than a reply may have, or nobody: the leader says which.
        return await self._from_leader(group, operations, deadline)

    async def _as_all(self, group: int, operations: tuple[Read, ...], deadline: Deadline) -> Seen:
        """From the leader; then every replica tells the same, and what has the same version is compared."""
        late = deadline.part(PATIENCE)
        done = await self._client.look_in(group, operations, True, deadline)
        if done.found is None:
            replies, _ = await self._client.snapshot(operations, deadline)
            return Seen(tuple(replies), None, False)
        self._saw(group, done.slot)
        told = await asyncio.gather(
            *(self._until_told(group, node, operations, done.slot, late) for node in self._replicas(group))
        )
        for other in told:
            for mine, its in zip(done.found, other or (), strict=False):
                if mine.version == its.version and mine.reply != its.reply:
                    raise Differ(f"replicas of group {group} hold different things at the same version")
        return Seen(_replies(done.found), None, None not in told)

    async def _until_told(
        self, group: int, node: int, operations: tuple[Read, ...], after: int, deadline: Deadline
    ) -> tuple[Found, ...] | None:
        backoff = Backoff()
        while not deadline.passed:
            try:
                done = await self._replica(group, node, operations, after, True, deadline)
            except NotFinal:
                return None
            if done is not None and done.found is not None:
                return done.found
            await backoff.wait(deadline)
        return None

    async def _from_leader(self, group: int, operations: tuple[Read, ...], deadline: Deadline) -> Seen:
        done = await self._client.look_in(group, operations, True, deadline)
        if done.found is not None:
            self._saw(group, done.slot)
            return Seen(_replies(done.found))
        # In doubt, or too large: a transaction waits for it, or says so.
        replies, slots = await self._client.snapshot(operations, deadline)
        if group in slots:
            self._saw(group, slots[group])
        else:
            await self._position(group, False, deadline)
        return Seen(tuple(replies))

    def _replicas(self, group: int) -> list[int]:
        """In any order: that spreads the reads."""
        nodes = list(self._client.map.groups.get(group, ()))
        random.shuffle(nodes)
        return nodes

    async def _replica(
        self, group: int, node: int, operations: tuple[Read, ...], after: int, settled: bool, deadline: Deadline
    ) -> ReplicaReadDone | None:
        """Asks one replica, once; nothing if it cannot say."""
        if deadline.passed:
            raise self._client.not_final(group)
        call = ReplicaReadCall(operations, after, settled, deadline.span(), self._client.map.epoch)
        try:
            asked = self._ask_node(node, group, call)
            answer: Any = await asyncio.wait_for(asked, min(deadline.left(), REPLICA_SILENCE))
        except (ConnectionLost, asyncio.TimeoutError):
            return None
        if isinstance(answer, Refused):
            if answer.why is Why.MOVED:
                raise MovedAway(Changed(answer.why, node), group)
            if answer.why is Why.MALFORMED:
                raise InvalidRequest("refused as malformed")
            return None
        if not isinstance(answer, ReplicaReadDone):
            raise unexpected(answer)
        return answer

    async def _ask_node(self, node: int, group: int, call: ReplicaReadCall) -> Any:
        connection = await self._client.node(node)
        return await connection.send(group, call)


def _replies(found: Iterable[Found]) -> tuple[Reply, ...]:
    return tuple(one.reply for one in found)


def _slots_of(token: str, cluster: int | None) -> dict[int, int]:
    """What a token says; in exactly its one form."""
    if not token.startswith(TOKEN):
        raise InvalidRequest("not a session token")
    digits = token[len(TOKEN) :]
    try:
        data = bytes.fromhex(digits)
        body: TokenBody = decode(TokenBody, data)
    except (ValueError, MalformedError) as error:
        raise InvalidRequest("not a session token") from error
    groups = [one.group for one in body.slots]
    if data.hex() != digits or groups != sorted(set(groups)):
        raise InvalidRequest("not a session token in its one form")
    if body.cluster != cluster:
        raise InvalidRequest("a session token of another cluster")
    return {one.group: one.slot for one in body.slots}
