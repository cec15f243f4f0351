"""Keys, transactions, and several things as one snapshot."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from . import messages as m
from .cluster import Backoff, Changed, Deadline
from .codec import encode
from .errors import DrachmaError, Rejected, Unavailable, Unknown
from .ids import new_id
from .ledger import Default, Ledger, Timeout, final_result, unexpected
from .routing import Routes, reserved_account

# So often a snapshot over groups is tried by reading twice, before it is read under locks.
SNAPSHOT_TRIES = 3
ROWS = 1_024

Condition = m.Is | m.IsNot | m.AtLeast | m.AtMost
Read = m.Get | m.Scan | m.Read
Operation = m.Transfer | m.Put | m.Delete | m.Append | m.Add | m.Swap | Read
Reply = m.Nothing | m.Got | m.Account | m.Rows | m.Added | m.Length | m.Swapped
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


def things_of(one: Condition | Operation) -> tuple[Thing, ...]:
    """The accounts and keys of a condition or operation, in the order in which they are written."""
    if isinstance(one, m.Transfer):
        return one.debit, one.credit
    if isinstance(one, m.Swap):
        return one.left, one.right
    if isinstance(one, m.AtLeast | m.AtMost | m.Read):
        return (one.account,)
    if isinstance(one, m.Scan):
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
        transaction = m.Transaction(identity, tuple(conditions), tuple(operations))
        return await self._transact(transaction, self.deadline(timeout))

    async def _transact(self, transaction: m.Transaction, deadline: Deadline) -> Committed:
        body = encode(m.Transaction, transaction)
        things = [thing for one in (*transaction.conditions, *transaction.operations) for thing in things_of(one)]
        backoff = Backoff()
        first = first_thing(transaction.conditions, transaction.operations)
        while True:
            group = group_of(self.map, first)
            if group is None:
                raise Rejected(m.Reason.NO_SUCH_ACCOUNT)
            others = {group_of(self.map, thing) for thing in things}
            kind = m.CommandKind.TRANSACTION if others <= {group, None} else m.CommandKind.TRANSACT_OVER
            sequence, epoch = next(self._sequence), self.map.epoch

            def call(span: int, kind: m.CommandKind = kind, of: tuple[int, int] = (sequence, epoch)) -> m.ClientCommand:
                return m.ClientCommand(kind, None, of[0], span, of[1], 1, body)

            answer = await self.ask(group, call, deadline)
            if isinstance(answer, Changed):
                await self.changed(answer, group, deadline, backoff)
                continue
            if not isinstance(answer, m.TransactionDone):
                raise unexpected(answer)
            result = final_result(transaction.id, answer.result, answer.replayed)
            if result is not None:
                if result.error is not None:
                    raise result.error
                return Committed(transaction.id, answer.replies, answer.replayed)
            await backoff.wait(deadline)
            if answer.result is m.TransferResult.MOVED:
                await self.refresh_from(group)
            if deadline.passed:
                if answer.result is m.TransferResult.UNAVAILABLE:
                    raise Unavailable("a group could not be reached")
                raise Unknown("undecided at the deadline")

    # Several things as one snapshot

    async def query(self, operations: Sequence[Read], timeout: Timeout = Default.TIMEOUT) -> list[Reply]:
        """Reads keys, parts and accounts of any groups as they were at one moment during the call.

        The replies are in order; `Nothing` stands for an account that does not exist.
        """
        deadline = self.deadline(timeout)
        backoff = Backoff()
        first: dict[int, m.Found] | None = None
        for _ in range(SNAPSHOT_TRIES):
            parts = self._split(operations)
            try:
                if first is None and len(parts) > 1:
                    first = await self._look(parts, operations, False, deadline)
                second = await self._look(parts, operations, True, deadline)
            except _MovedAway as moved:
                await self.changed(moved.change, moved.group, deadline, backoff)
                first = None
                continue
            if second is None or (first is None and len(parts) > 1):
                break
            if len(parts) <= 1 or first == second:
                return [second[place].reply if place in second else m.Nothing() for place in range(len(operations))]
            first = second
        return await self._read_locked(operations, deadline)

    def _split(self, operations: Sequence[Read]) -> dict[int, list[int]]:
        """The places of the operations, by group; accounts of no shard are left out."""
        parts: dict[int, list[int]] = defaultdict(list)
        for place, one in enumerate(operations):
            group = group_of(self.map, things_of(one)[0])
            if group is not None:
                parts[group].append(place)
        return parts

    async def _look(
        self, parts: Mapping[int, list[int]], operations: Sequence[Read], confirmed: bool, deadline: Deadline
    ) -> dict[int, m.Found] | None:
        """Asks every group once; nothing if one of them did not find all."""
        answers = await asyncio.gather(
            *(
                self._look_in(group, tuple(operations[place] for place in places), confirmed, deadline)
                for group, places in parts.items()
            )
        )
        found: dict[int, m.Found] = {}
        for places, answer in zip(parts.values(), answers, strict=True):
            if answer is None:
                return None
            found.update(zip(places, answer, strict=True))
        return found

    async def _look_in(
        self, group: int, operations: tuple[Read, ...], confirmed: bool, deadline: Deadline
    ) -> tuple[m.Found, ...] | None:
        epoch = self.map.epoch
        answer = await self.ask(group, lambda span: m.QueryCall(operations, confirmed, span, epoch), deadline)
        if isinstance(answer, Changed):
            raise _MovedAway(answer, group)
        if not isinstance(answer, m.QueryDone):
            raise unexpected(answer)
        if answer.found is not None and len(answer.found) != len(operations):
            raise DrachmaError("replies to another query")
        return answer.found

    async def _read_locked(self, operations: Sequence[Read], deadline: Deadline) -> list[Reply]:
        """Reads in a transaction, which waits for what is in doubt."""
        known = [place for places in self._split(operations).values() for place in places]
        chosen = tuple(operations[place] for place in sorted(known))
        while True:
            done = await self._transact(m.Transaction(new_id(), (), chosen), deadline)
            if done.replies is not None:
                replies = dict(zip(sorted(known), done.replies, strict=True))
                return [replies.get(place, m.Nothing()) for place in range(len(operations))]

    # Keys

    async def get(self, key: bytes, timeout: Timeout = Default.TIMEOUT) -> bytes | None:
        """What a key holds, or nothing if it does not exist."""
        (value,) = (await self.mget([key], timeout)).values()
        return value

    async def mget(self, keys: Iterable[bytes], timeout: Timeout = Default.TIMEOUT) -> dict[bytes, bytes | None]:
        """What several keys held at one moment."""
        wanted = list(dict.fromkeys(keys))
        replies = await self.query([m.Get(key) for key in wanted], timeout)
        return {key: _expect(m.Got, reply).value for key, reply in zip(wanted, replies, strict=True)}

    async def put(self, key: bytes, value: bytes, timeout: Timeout = Default.TIMEOUT) -> None:
        """Writes a key."""
        await self.transact([], [m.Put(key, value)], timeout=timeout)

    async def mput(self, values: Mapping[bytes, bytes], timeout: Timeout = Default.TIMEOUT) -> None:
        """Writes several keys at one moment."""
        await self.transact([], [m.Put(key, value) for key, value in values.items()], timeout=timeout)

    async def delete(self, key: bytes, timeout: Timeout = Default.TIMEOUT) -> None:
        """Removes a key; it need not exist."""
        await self.transact([], [m.Delete(key)], timeout=timeout)

    async def append(self, key: bytes, value: bytes, timeout: Timeout = Default.TIMEOUT) -> int | None:
        """Adds bytes at the end of what a key holds; the new length, if it is still known after a retry."""
        reply = await self._one(m.Append(key, value), timeout)
        return None if reply is None else _expect(m.Length, reply).length

    async def add(self, key: bytes, delta: int, timeout: Timeout = Default.TIMEOUT) -> int | None:
        """Adds to the number that a key holds; the new number, if it is still known after a retry."""
        reply = await self._one(m.Add(key, delta), timeout)
        return None if reply is None else _expect(m.Added, reply).number

    async def swap(
        self, left: bytes, right: bytes, timeout: Timeout = Default.TIMEOUT
    ) -> tuple[bytes | None, bytes | None] | None:
        """Exchanges what two keys hold; what they held before, if it is still known after a retry."""
        reply = await self._one(m.Swap(left, right), timeout)
        if reply is None:
            return None
        swapped = _expect(m.Swapped, reply)
        return swapped.left, swapped.right

    async def cas(
        self, key: bytes, expected: bytes | None, value: bytes | None, timeout: Timeout = Default.TIMEOUT
    ) -> bool:
        """Writes (or with `None` removes) a key if it holds what is expected; says whether it did."""
        write = m.Delete(key) if value is None else m.Put(key, value)
        try:
            await self.transact([m.Is(key, expected)], [write], timeout=timeout)
        except Rejected as rejected:
            if rejected.reason is m.Reason.CONDITION:
                return False
            raise
        return True

    async def scan(
        self, start: bytes, to: bytes | None = None, limit: int = ROWS, timeout: Timeout = Default.TIMEOUT
    ) -> m.Rows:
        """The keys of one part from `start` up to `to`, which is not read; `next` says where to go on."""
        (reply,) = await self.query([m.Scan(start, to, limit)], timeout)
        return _expect(m.Rows, reply)

    async def scan_all(
        self, start: bytes, to: bytes | None = None, limit: int = ROWS, timeout: Timeout = Default.TIMEOUT
    ) -> AsyncIterator[m.Row]:
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


class _MovedAway(Exception):
    """A group owns something else by now."""

    def __init__(self, change: Changed, group: int) -> None:
        super().__init__()
        self.change = change
        self.group = group


def _expect(kind: type[R], reply: Reply) -> R:
    if not isinstance(reply, kind):
        raise unexpected(reply)
    return reply
