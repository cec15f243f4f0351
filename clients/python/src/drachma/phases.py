"""Transfers in two phases, chains, closed accounts, and lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import TypeVar

import xxhash

from . import model as o
from .cluster import Backoff, Deadline
from .codec import encode
from .errors import DrachmaError, InvalidRequest, NotFinal, Rejected
from .ids import new_id
from .ledger import Default, Result, Timeout, all_of
from .store import Committed, MovedAway, Phase, Store, expect

# A chain is a transaction, which has at most so many operations.
LONGEST_CHAIN = 1_024
# A page of a list has at most so many rows.
LONGEST_PAGE = 1_024

# What may be a member of a batch with chains.
Member = o.Transfer | Phase
# What the transfers of all groups can be listed by.
ByContent = o.OfCode | o.OfUserData128 | o.OfUserData64 | o.OfUserData32
R = TypeVar("R", o.PostedRows, o.PendingRows, o.BalanceRows)


class Phases(Store):
    """What can be asked about transfers beyond making one."""

    async def pend(
        self,
        debit: int,
        credit: int,
        amount: int,
        *,
        id: int | None = None,  # noqa: A002
        expires: float = 0.0,
        ledger: int = 1,
        code: int = 1,
        timeout: Timeout = Default.TIMEOUT,
    ) -> Committed:
        """Reserves an amount, once under its id, which `post` and `void` name; raises as `transact`.

        After `expires` seconds of the log time of the debit account's group it is voided by itself; 0 is never.
        """
        transfer = o.Transfer(new_id() if id is None else id, debit, credit, amount, ledger, code)
        return await self._phase(o.Pend(transfer, round(expires * 1_000_000)), timeout)

    async def post(
        self,
        pending: int,
        debit: int,
        credit: int,
        amount: int | None = None,
        *,
        id: int | None = None,  # noqa: A002
        timeout: Timeout = Default.TIMEOUT,
    ) -> Committed:
        """Posts a pending transfer, all of it or a part; the rest is released."""
        identity = new_id() if id is None else id
        return await self._phase(o.Post(identity, pending, debit, credit, amount), timeout)

    async def void(
        self,
        pending: int,
        debit: int,
        credit: int,
        *,
        id: int | None = None,  # noqa: A002
        timeout: Timeout = Default.TIMEOUT,
    ) -> Committed:
        """Releases a pending transfer."""
        return await self._phase(o.Void(new_id() if id is None else id, pending, debit, credit), timeout)

    async def _phase(self, operation: Phase, timeout: Timeout) -> Committed:
        return await self.transact([], [operation], id=id_of(operation), timeout=timeout)

    async def close_account(self, account: int, timeout: Timeout = Default.TIMEOUT) -> None:
        """Closes an account: it takes no transfers and no postings; what is pending can still be voided."""
        await self.transact([], [o.Close(account)], timeout=timeout)

    async def open_account(self, account: int, timeout: Timeout = Default.TIMEOUT) -> None:
        """Opens an account that is closed."""
        await self.transact([], [o.Open(account)], timeout=timeout)

    # Chains

    async def linked(self, batch: Sequence[tuple[Member, bool]], timeout: Timeout = Default.TIMEOUT) -> list[Result]:
        """Sends transfers, pending ones, postings and voidings, each with an id of its own; nothing is raised.

        The members with the flag, and the first one without it that follows, are a chain: all of them take effect, or
        none. Of a chain that is rejected the last member has the reason, and the others `LINKED_EVENT_FAILED`.
        """
        deadline = self.deadline(timeout)
        results: dict[int, Result] = {}
        alone: dict[int, o.Transfer] = {}
        chains: list[list[int]] = []
        for places in _chains(batch):
            first, flag = batch[places[0]]
            if len(places) == 1 and not flag and isinstance(first, o.Transfer):
                alone[places[0]] = first
            else:
                chains.append(places)

        async def carry_out(places: list[int]) -> None:
            members = [batch[place][0] for place in places]
            is_open = batch[places[-1]][1]
            for place, result in zip(places, await self._chain(members, is_open, deadline), strict=True):
                results[place] = result

        await all_of([self._settle(alone, results, deadline, Backoff()), *map(carry_out, chains)])
        return [results[place] for place in range(len(batch))]

    async def _chain(self, members: list[Member], is_open: bool, deadline: Deadline) -> list[Result]:
        ids = [id_of(member) for member in members]
        if is_open:
            return [Result(one, Rejected(o.Reason.LINKED_EVENT_CHAIN_OPEN)) for one in ids]
        try:
            if len(members) > LONGEST_CHAIN:
                raise Rejected(o.Reason.TOO_LARGE)
            done = await self._transact(chain_of(members), deadline)
        except Rejected as error:
            others = Rejected(o.Reason.LINKED_EVENT_FAILED, error.replayed)
            return [*(Result(one, others, error.replayed) for one in ids[:-1]), Result(ids[-1], error, error.replayed)]
        except NotFinal as error:
            return [Result(one, error) for one in ids]
        return [Result(one, None, done.replayed) for one in ids]

    # Lists

    async def list_page(self, wanted: o.List, group: int | None = None, timeout: Timeout = Default.TIMEOUT) -> o.Listed:
        """A page of a list: of an account's own group, else of the `group` that is named.

        `next` says where the next page begins: `from_` of its `List`. Raises `Rejected` with `NO_SUCH_ACCOUNT`.
        """
        return await self._page(wanted, group, self.deadline(timeout))

    async def posted(self, account: int, *, newest: bool = False) -> AsyncIterator[o.Posted]:
        """What was posted to an account, page after page, the oldest first or the newest."""
        async for page in self._pages(o.List(o.OfAccount(account), newest)):
            for row in _rows(o.PostedRows, page).rows:
                yield row

    async def pending(self, account: int, *, newest: bool = False) -> AsyncIterator[o.PendingTransfer]:
        """The pending transfers of an account, ended or not."""
        async for page in self._pages(o.List(o.OfPending(account), newest)):
            for row in _rows(o.PendingRows, page).rows:
                yield row

    async def history(self, account: int, *, newest: bool = False) -> AsyncIterator[o.BalancesAt]:
        """The totals of an account after each change, if it was created with `HISTORY`."""
        async for page in self._pages(o.List(o.OfBalances(account), newest)):
            for row in _rows(o.BalanceRows, page).rows:
                yield row

    async def posted_with(self, of: ByContent, timeout: Timeout = Default.TIMEOUT) -> list[o.Posted]:
        """What was posted in all groups with a code or user data, by log time; each transfer once."""
        deadline = self.deadline(timeout)
        found: dict[tuple[int, int], o.Posted] = {}
        for group in self.map.groups:
            async for page in self._pages(o.List(of), group, deadline):
                for row in _rows(o.PostedRows, page).rows:
                    # The two sides of a transfer between groups are one row: that of its debit.
                    identity = (row.transfer.id, row.transfer.debit)
                    if identity not in found or row.sides is o.Sides.DEBIT:
                        found[identity] = row
        return sorted(found.values(), key=lambda row: (row.posted_at, row.transfer.id))

    async def _pages(
        self, wanted: o.List, group: int | None = None, deadline: Deadline | None = None
    ) -> AsyncIterator[o.Listed]:
        more = True
        while more:
            page = await self._page(wanted, group, deadline or self.deadline(Default.TIMEOUT))
            yield page
            wanted, more = replace(wanted, from_=page.next), page.next is not None

    async def _page(self, wanted: o.List, named: int | None, deadline: Deadline) -> o.Listed:
        backoff = Backoff()
        while True:
            of = wanted.of
            if isinstance(of, o.OfAccount | o.OfPending | o.OfBalances):
                group = self.map.group_of_account(of.account)
                if group is None:
                    raise Rejected(o.Reason.NO_SUCH_ACCOUNT)
            elif named is not None:
                group = named
            else:
                raise InvalidRequest("which group's list?")
            try:
                done = await self.look_in(group, (wanted,), True, deadline)
            except MovedAway as moved:
                await self.changed(moved.change, group, deadline, backoff)
                continue
            if done.found is not None:
                (found,) = done.found
                if isinstance(found.reply, o.Nothing):
                    raise Rejected(o.Reason.NO_SUCH_ACCOUNT)
                return expect(o.Listed, found.reply)
            # Something is in doubt there.
            await backoff.wait(deadline)
            if deadline.passed:
                raise self.not_final(group)


def id_of(member: Member) -> int:
    """The id of a member of a batch."""
    return member.transfer.id if isinstance(member, o.Pend) else member.id


def chain_of(members: Sequence[Member]) -> o.Transaction:
    """The transaction of a chain: the same chain, sent again, is the same transaction."""
    operations = tuple(members)
    if len(operations) == 1 and not isinstance(operations[0], o.Transfer):
        return o.Transaction(id_of(operations[0]), (), operations)
    body = encode(tuple[o.Operation, ...], operations)
    return o.Transaction(xxhash.xxh3_128_intdigest(body), (), operations)


def _chains(batch: Sequence[tuple[Member, bool]]) -> list[list[int]]:
    """The places of each chain; the last one may be open."""
    chains: list[list[int]] = [[]]
    for place, (_, flag) in enumerate(batch):
        chains[-1].append(place)
        if not flag:
            chains.append([])
    return [chain for chain in chains if chain]


def _rows(kind: type[R], page: o.Listed) -> R:
    if not isinstance(page.rows, kind):
        raise DrachmaError(f"a list of the wrong kind: {type(page.rows).__name__}")
    return page.rows
