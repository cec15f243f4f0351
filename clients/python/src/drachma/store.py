"""Keys, transactions, and several things as one snapshot."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from . import messages as m
from . import model as o
from .cluster import Backoff, Changed, Deadline
from .codec import encode
from .errors import DrachmaError, InvalidRequest, Rejected, Unavailable, Unknown
from .ids import new_id
from .ledger import Command, Default, Ledger, Timeout, final_result, unexpected
from .routing import Routes, reserved_account

# So often a snapshot over groups is tried by reading twice, before it is read under locks.
SNAPSHOT_TRIES = 3
ROWS = 1_024

Condition = o.Is | o.IsNot | o.AtLeast | o.AtMost
Read = o.Get | o.Scan | o.Read
Phase = o.Pend | o.Post | o.Void
Operation = o.Transfer | Phase | o.Close | o.Open | o.Put | o.Delete | o.Append | o.Add | o.Swap | Read
Reply = o.Nothing | o.Got | o.Account | o.Rows | o.Added | o.Length | o.Swapped | o.Listed
R = TypeVar("R")
# An account by its number, a key by its bytes.
Thing = int | bytes


@dataclass(frozen=True)
class Committed:
    """A transaction that took effect, with one reply per operation.

    `replies` is nothing if it had taken effect before this request arrived and they are not kept any more.
    """

    id: int
    replies: tuple[Reply, ...] | None
    replayed: bool = False
    # Whether the level that was asked for was met.
    level_met: bool = True


def things_of(one: Condition | Operation | o.List) -> tuple[Thing, ...]:
    """The accounts and keys of a condition or operation, in the order in which they are written."""
    if isinstance(one, o.List):
        raise InvalidRequest("a transaction has no lists")
    if isinstance(one, o.Transfer | o.Post | o.Void):
        return one.debit, one.credit
    if isinstance(one, o.Pend):
        return one.transfer.debit, one.transfer.credit
    if isinstance(one, o.Swap):
        return one.left, one.right
    if isinstance(one, o.AtLeast | o.AtMost | o.Read | o.Close | o.Open):
        return (one.account,)
    if isinstance(one, o.Scan):
        return (one.from_,)
    return (one.key,)


def first_thing(conditions: Sequence[Condition], operations: Sequence[Operation]) -> Thing:
    """What a transaction begins with, which is part of its identity."""
    for one in (*conditions, *operations):
        return things_of(one)[0]
    raise DrachmaError("a transaction of nothing")


def first_account(routes: Routes, conditions: Sequence[Condition], operations: Sequence[Operation]) -> int:
    """The account under which a transaction can be looked up and fenced."""
    first = first_thing(conditions, operations)
    return first if isinstance(first, int) else reserved_account(routes.shard_of_key(first))


def group_of(routes: Routes, thing: Thing) -> int | None:
    """The group of an account or key."""
    return routes.group_of_account(thing) if isinstance(thing, int) else routes.group_of_key(thing)


@dataclass(frozen=True)
class Whole:
    """A command of one transfer or transaction: its body, and what it is about, in the order of its words."""

    id: int
    one: m.CommandKind
    over: m.CommandKind
    things: tuple[Thing, ...]
    body: bytes

    @classmethod
    def of(cls, transaction: o.Transaction) -> Whole:
        """The command of a transaction."""
        all_of_it = (*transaction.conditions, *transaction.operations)
        if not all_of_it:
            raise InvalidRequest("a transaction of nothing")
        things = tuple(thing for one in all_of_it for thing in things_of(one))
        kinds = (m.CommandKind.TRANSACTION, m.CommandKind.TRANSACT_OVER)
        return cls(transaction.id, *kinds, things, encode(o.Transaction, transaction))

    @classmethod
    def of_transfer(cls, transfer: o.Transfer) -> Whole:
        """The command of a transfer."""
        kinds = (m.CommandKind.TRANSFERS, m.CommandKind.TRANSACT)
        return cls(transfer.id, *kinds, things_of(transfer), encode(tuple[o.Transfer, ...], (transfer,)))


@dataclass(frozen=True)
class Done:
    """How one try of a command ended, in the groups that it touched."""

    result: o.TransferResult
    replayed: bool
    replies: tuple[Reply, ...] | None
    groups: frozenset[int]
    # What only a write at a level is told: whether it is merely accepted, how far its group is, and whether the level
    # was met.
    accepted: bool = False
    slot: int | None = None
    level_met: bool = True

    @classmethod
    def of(cls, answer: Any, groups: frozenset[int]) -> Done:
        """What an answer says."""
        if isinstance(answer, m.WriteDone):
            if isinstance(answer.result, o.Nothing):
                return cls(o.Verdict.COMMITTED, False, None, groups, accepted=True)
            inner = cls.of(answer.result, groups)
            return replace(inner, slot=answer.slot, level_met=answer.level_met)
        if isinstance(answer, m.TransactionDone):
            return cls(answer.result, answer.replayed, answer.replies, groups)
        if isinstance(answer, m.TransfersDone) and len(answer.items) <= 1:
            for item in answer.items:
                return cls(item.result, item.replayed, None, groups)
            return cls(o.Verdict.COMMITTED, False, None, groups)
        raise unexpected(answer)


class Store(Ledger):
    """What can be asked about keys, and about several things together."""

    async def transact(
        self,
        conditions: Sequence[Condition] = (),
        operations: Sequence[Operation] = (),
        *,
        id: int | None = None,  # noqa: A002
        timeout: Timeout = Default.TIMEOUT,
    ) -> Committed:
        """Makes all of it take effect, once, or nothing: raises `Rejected`, `Unavailable` or `Unknown`."""
        identity = new_id() if id is None else id
        transaction = o.Transaction(identity, tuple(conditions), tuple(operations))
        return await self._transact(transaction, self.deadline(timeout))

    async def _transact(self, transaction: o.Transaction, deadline: Deadline) -> Committed:
        done = await self.carry_out(Whole.of(transaction), deadline)
        return Committed(transaction.id, done.replies, done.replayed)

    async def carry_out(self, whole: Whole, deadline: Deadline, level: m.Level | None = None) -> Done:
        """Sends a command until it has an outcome; raises `Rejected`, `Unavailable` or `Unknown`.

        With a level it is sent at that level, if it is for one group.
        """
        backoff = Backoff()
        while True:
            group = group_of(self.map, whole.things[0])
            if group is None:
                raise Rejected(o.Reason.NO_SUCH_ACCOUNT)
            groups = {group} | ({group_of(self.map, thing) for thing in whole.things} - {None})
            is_one = len(groups) == 1
            if level is m.Level.ANY and not is_one:
                raise InvalidRequest("level ANY is for requests of one group")
            kind = whole.one if is_one else whole.over
            command = Command(kind, None, next(self._sequence), self.map.epoch, 1, whole.body)

            def call(span: int, command: Command = command, at: m.Level | None = level if is_one else None) -> Any:
                return command.call(span) if at is None else m.WriteCall(at, command.call(span))

            answer = await self.ask(group, call, deadline)
            if isinstance(answer, Changed):
                await self.changed(answer, group, deadline, backoff)
                continue
            done = Done.of(answer, frozenset(one for one in groups if one is not None))
            result = final_result(whole.id, done.result, done.replayed)
            if result is not None:
                if result.error is not None:
                    raise result.error
                return done
            await backoff.wait(deadline)
            if done.result is o.NotYet.MOVED:
                await self.refresh_from(group)
            if deadline.passed:
                if done.result is o.NotYet.UNAVAILABLE:
                    raise Unavailable("a group could not be reached")
                raise Unknown("undecided at the deadline")

    # Several things as one snapshot

    async def query(self, operations: Sequence[Read], timeout: Timeout = Default.TIMEOUT) -> list[Reply]:
        """Reads keys, parts and accounts of any groups as they were at one moment during the call.

        The replies are in order; `Nothing` stands for an account that does not exist.
        """
        replies, _ = await self.snapshot(operations, self.deadline(timeout))
        return replies

    async def snapshot(self, operations: Sequence[Read], deadline: Deadline) -> tuple[list[Reply], dict[int, int]]:
        """As `query`, with the slot of each group that says one."""
        backoff = Backoff()
        slots: dict[int, int] = {}
        first: dict[int, m.Found] | None = None
        for _ in range(SNAPSHOT_TRIES):
            parts = self.split(operations)
            try:
                if first is None and len(parts) > 1:
                    first = await self._look(parts, operations, False, deadline, slots)
                second = await self._look(parts, operations, True, deadline, slots)
            except MovedAway as moved:
                await self.changed(moved.change, moved.group, deadline, backoff)
                first = None
                continue
            if second is None or (first is None and len(parts) > 1):
                break
            if len(parts) <= 1 or first == second:
                found = [second[place].reply if place in second else o.Nothing() for place in range(len(operations))]
                return found, slots
            first = second
        return await self._read_locked(operations, deadline), {}

    def split(self, operations: Sequence[Read]) -> dict[int, list[int]]:
        """The places of the operations, by group; accounts of no shard are left out."""
        parts: dict[int, list[int]] = defaultdict(list)
        for place, one in enumerate(operations):
            group = group_of(self.map, things_of(one)[0])
            if group is not None:
                parts[group].append(place)
        return parts

    async def _look(
        self,
        parts: Mapping[int, list[int]],
        operations: Sequence[Read],
        confirmed: bool,
        deadline: Deadline,
        slots: dict[int, int],
    ) -> dict[int, m.Found] | None:
        """Asks every group once; nothing if one of them did not find all."""
        answers = await asyncio.gather(
            *(
                self.look_in(group, tuple(operations[place] for place in places), confirmed, deadline)
                for group, places in parts.items()
            )
        )
        found: dict[int, m.Found] = {}
        for (group, places), answer in zip(parts.items(), answers, strict=True):
            if answer.found is None:
                return None
            slots[group] = max(slots.get(group, 0), answer.slot)
            found.update(zip(places, answer.found, strict=True))
        return found

    async def look_in(
        self, group: int, operations: tuple[Read | o.List, ...], confirmed: bool, deadline: Deadline
    ) -> m.QueryDone:
        """What one group has; raises `MovedAway` if it owns something else by now."""
        epoch = self.map.epoch
        answer = await self.ask(group, lambda span: m.QueryCall(operations, confirmed, span, epoch), deadline)
        if isinstance(answer, Changed):
            raise MovedAway(answer, group)
        if not isinstance(answer, m.QueryDone):
            raise unexpected(answer)
        if answer.found is not None and len(answer.found) != len(operations):
            raise DrachmaError("replies to another query")
        return answer

    async def _read_locked(self, operations: Sequence[Read], deadline: Deadline) -> list[Reply]:
        """Reads in a transaction, which waits for what is in doubt."""
        known = [place for places in self.split(operations).values() for place in places]
        chosen = tuple(operations[place] for place in sorted(known))
        while True:
            done = await self._transact(o.Transaction(new_id(), (), chosen), deadline)
            if done.replies is not None:
                replies = dict(zip(sorted(known), done.replies, strict=True))
                return [replies.get(place, o.Nothing()) for place in range(len(operations))]

    # Keys

    async def get(self, key: bytes, timeout: Timeout = Default.TIMEOUT) -> bytes | None:
        """What a key holds, or nothing if it does not exist."""
        (value,) = (await self.mget([key], timeout)).values()
        return value

    async def mget(self, keys: Iterable[bytes], timeout: Timeout = Default.TIMEOUT) -> dict[bytes, bytes | None]:
        """What several keys held at one moment."""
        wanted = list(dict.fromkeys(keys))
        replies = await self.query([o.Get(key) for key in wanted], timeout)
        return {key: expect(o.Got, reply).value for key, reply in zip(wanted, replies, strict=True)}

    async def put(self, key: bytes, value: bytes, timeout: Timeout = Default.TIMEOUT) -> None:
        """Writes a key."""
        await self.transact([], [o.Put(key, value)], timeout=timeout)

    async def mput(self, values: Mapping[bytes, bytes], timeout: Timeout = Default.TIMEOUT) -> None:
        """Writes several keys at one moment."""
        await self.transact([], [o.Put(key, value) for key, value in values.items()], timeout=timeout)

    async def delete(self, key: bytes, timeout: Timeout = Default.TIMEOUT) -> None:
        """Removes a key; it need not exist."""
        await self.transact([], [o.Delete(key)], timeout=timeout)

    async def append(self, key: bytes, value: bytes, timeout: Timeout = Default.TIMEOUT) -> int | None:
        """Adds bytes at the end of what a key holds; the new length, if it is still known after a retry."""
        reply = await self._one(o.Append(key, value), timeout)
        return None if reply is None else expect(o.Length, reply).length

    async def add(self, key: bytes, delta: int, timeout: Timeout = Default.TIMEOUT) -> int | None:
        """Adds to the number that a key holds; the new number, if it is still known after a retry."""
        reply = await self._one(o.Add(key, delta), timeout)
        return None if reply is None else expect(o.Added, reply).number

    async def swap(
        self, left: bytes, right: bytes, timeout: Timeout = Default.TIMEOUT
    ) -> tuple[bytes | None, bytes | None] | None:
        """Exchanges what two keys hold; what they held before, if it is still known after a retry."""
        reply = await self._one(o.Swap(left, right), timeout)
        if reply is None:
            return None
        swapped = expect(o.Swapped, reply)
        return swapped.left, swapped.right

    async def cas(
        self, key: bytes, expected: bytes | None, value: bytes | None, timeout: Timeout = Default.TIMEOUT
    ) -> bool:
        """Writes (or with `None` removes) a key if it holds what is expected; says whether it did."""
        write = o.Delete(key) if value is None else o.Put(key, value)
        try:
            await self.transact([o.Is(key, expected)], [write], timeout=timeout)
        except Rejected as rejected:
            if rejected.reason is o.Reason.CONDITION:
                return False
            raise
        return True

    async def scan(
        self, start: bytes, to: bytes | None = None, limit: int = ROWS, timeout: Timeout = Default.TIMEOUT
    ) -> o.Rows:
        """The keys of one part from `start` up to `to`, which is not read; `next` says where to go on."""
        (reply,) = await self.query([o.Scan(start, to, limit)], timeout)
        return expect(o.Rows, reply)

    async def scan_all(
        self, start: bytes, to: bytes | None = None, limit: int = ROWS, timeout: Timeout = Default.TIMEOUT
    ) -> AsyncIterator[o.Row]:
        """All of them, page after page; each page is a snapshot of its own."""
        place: bytes | None = start
        while place is not None:
            rows = await self.scan(place, to, limit, timeout)
            for row in rows.rows:
                yield row
            place = rows.next

    async def _one(self, operation: Operation, timeout: Timeout) -> Reply | None:
        done = await self.transact([], [operation], timeout=timeout)
        return None if done.replies is None else done.replies[0]


class MovedAway(Exception):
    """A group owns something else by now."""

    def __init__(self, change: Changed, group: int) -> None:
        """Keeps what was refused, and by which group."""
        super().__init__()
        self.change = change
        self.group = group


def expect(kind: type[R], reply: Any) -> R:
    """A reply of the kind that belongs to what was asked."""
    if not isinstance(reply, kind):
        raise unexpected(reply)
    return reply
