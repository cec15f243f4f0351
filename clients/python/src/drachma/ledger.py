"""Accounts and transfers."""

from __future__ import annotations

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from .cluster import Backoff, CallOf, Changed, Cluster, Deadline
from .codec import LONGEST_LIST, encode
from .errors import DrachmaError, InvalidRequest, NotFinal, Rejected, Unavailable, Unknown
from .ids import new_id
from .messages import (
    ClientCommand,
    CommandKind,
    CreatedDone,
    FenceCall,
    LookupCall,
    ReadCall,
    ReadDone,
    Session,
    SettledDone,
    TransfersDone,
    Why,
)
from .model import (
    Account,
    CreateResult,
    NewAccount,
    NotYet,
    Outcome,
    Reason,
    SessionId,
    Transfer,
    TransferResult,
    TxnId,
    Verdict,
)

# A session recognises 1,024 sequence numbers back from the highest; so many commands of it may be under way.
IN_FLIGHT = 512


class Default(Enum):
    """Stands for the client's own timeout where none is given; `None` is no deadline."""

    TIMEOUT = "the client's own"


Timeout = float | None | Default


@dataclass(frozen=True)
class Result:
    """What became of a transfer: committed if `error` is nothing."""

    id: int
    error: Rejected | NotFinal | None = None
    replayed: bool = False
    # At level `ANY`: the leader's own disk has it. That is no outcome: a failover may lose it.
    accepted: bool = False
    # Whether the level that was asked for was met; of a session's writes, whether the session knows how far they are.
    level_met: bool = True

    @property
    def committed(self) -> bool:
        """Whether it took effect."""
        return self.error is None and not self.accepted

    @property
    def final(self) -> bool:
        """Whether this stays so for ever."""
        return not isinstance(self.error, NotFinal) and not self.accepted

    @property
    def status(self) -> str:
        """`committed`, `accepted`, `rejected`, `unavailable` or `unknown`."""
        if self.error is not None:
            return type(self.error).__name__.lower()
        return "accepted" if self.accepted else "committed"

    @property
    def reason(self) -> Reason | None:
        """Why it was rejected."""
        return self.error.reason if isinstance(self.error, Rejected) else None


def final_result(identity: int, result: TransferResult, replayed: bool) -> Result | None:
    """The result of a transfer or transaction, if it is final."""
    if isinstance(result, Verdict):
        return Result(identity, None, replayed)
    if isinstance(result, Reason):
        return Result(identity, Rejected(result, replayed), replayed)
    return None


def unexpected(answer: Any) -> DrachmaError:
    """An answer of a kind that does not belong to the request."""
    return DrachmaError(f"an answer of the wrong kind: {type(answer).__name__}")


class Ledger(Cluster):
    """What can be asked about accounts."""

    def __init__(self, endpoints: Iterable[str], timeout: float | None) -> None:
        """Draws the id of this client's session."""
        super().__init__(endpoints, timeout)
        # Commands of the session have a count of their own, so that its window is not left behind by transfers.
        self._sequence = itertools.count(1)
        self._session_sequence = itertools.count(1)
        self._session_id = new_id()
        self._sessions: dict[int, Session] = {}
        self._registering: dict[int, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._creating = asyncio.Semaphore(IN_FLIGHT)

    def deadline(self, timeout: Timeout) -> Deadline:
        """The deadline of a request that begins now."""
        return Deadline(self.timeout if timeout is Default.TIMEOUT else timeout)

    async def changed(self, change: Changed, group: int, deadline: Deadline, backoff: Backoff) -> None:
        """Fetches the map after `Moved`; waits a little if it is no newer, so that nobody asks in circles."""
        if not await self.refresh(change.node):
            if deadline.passed:
                raise self.not_final(group)
            await backoff.wait(deadline)

    # Transfers

    async def transfer(
        self,
        debit: int,
        credit: int,
        amount: int,
        *,
        id: int | None = None,  # noqa: A002
        ledger: int = 1,
        code: int = 1,
        timeout: Timeout = Default.TIMEOUT,
    ) -> Result:
        """Moves an amount, once under its id; raises `Rejected`, `Unavailable` or `Unknown`.

        Draw the id with `new_id()` and keep it, if you want to find out later what became of the transfer.
        """
        transfer = Transfer(new_id() if id is None else id, debit, credit, amount, ledger, code)
        (result,) = await self.transfers([transfer], timeout)
        if result.error is not None:
            raise result.error
        return result

    async def transfers(self, transfers: Sequence[Transfer], timeout: Timeout = Default.TIMEOUT) -> list[Result]:
        """Sends independent transfers, any number of them; the results are in their order, and nothing is raised."""
        results: dict[int, Result] = {}
        deadline = self.deadline(timeout)
        await self._settle(dict(enumerate(transfers)), results, deadline, Backoff())
        return [results[place] for place in range(len(transfers))]

    async def _settle(
        self, todo: dict[int, Transfer], results: dict[int, Result], deadline: Deadline, backoff: Backoff
    ) -> None:
        """Splits transfers by group and kind, and sends every part until all of it is final."""
        parts: dict[tuple[int, CommandKind], list[int]] = defaultdict(list)
        for place, transfer in todo.items():
            group = self.map.group_of_account(transfer.debit)
            if group is None:
                results[place] = Result(transfer.id, Rejected(Reason.NO_SUCH_ACCOUNT))
                continue
            other = self.map.group_of_account(transfer.credit)
            kind = CommandKind.TRANSFERS if other in (None, group) else CommandKind.TRANSACT
            parts[group, kind].append(place)
        await all_of(
            self._batch(kind, group, {place: todo[place] for place in chunk}, results, deadline, backoff)
            for (group, kind), places in parts.items()
            for chunk in _chunks(places)
        )

    async def _batch(
        self,
        kind: CommandKind,
        group: int,
        todo: dict[int, Transfer],
        results: dict[int, Result],
        deadline: Deadline,
        backoff: Backoff,
    ) -> None:
        """Sends commands until all is final; what is not is split anew if there is a newer map."""
        epoch = self.map.epoch
        while todo and epoch == self.map.epoch:
            body = encode(tuple[Transfer, ...], todo.values())
            command = Command(kind, None, next(self._sequence), epoch, len(todo), body)
            try:
                answer = await self.ask(group, command.call, deadline)
                if isinstance(answer, Changed):
                    await self.changed(answer, group, deadline, backoff)
                    continue
                todo = self._take(answer, todo, results)
                if todo:
                    await self._after_items(answer, group, deadline, backoff)
            except NotFinal as error:
                for place, transfer in todo.items():
                    results[place] = Result(transfer.id, error)
                return
        if todo:
            await self._settle(todo, results, deadline, backoff)

    def _take(self, answer: Any, todo: dict[int, Transfer], results: dict[int, Result]) -> dict[int, Transfer]:
        """Keeps what is final; returns the rest."""
        if not isinstance(answer, TransfersDone):
            raise unexpected(answer)
        places = list(todo)
        items = {item.index: item for item in answer.items}
        if len(items) != len(answer.items) or any(index >= len(places) for index in items):
            raise DrachmaError("results of other transfers")
        left = {}
        for index, place in enumerate(places):
            identity = todo[place].id
            item = items.get(index)
            result = final_result(identity, item.result, item.replayed) if item else Result(identity)
            if result is None:
                left[place] = todo[place]
            else:
                results[place] = result
        return left

    async def _after_items(self, answer: TransfersDone, group: int, deadline: Deadline, backoff: Backoff) -> None:
        """What to do between two tries of items that are not final."""
        words = {item.result for item in answer.items}
        await backoff.wait(deadline)
        if NotYet.MOVED in words:
            await self.refresh_from(group)
        if deadline.passed:
            raise (
                Unavailable("a group could not be reached")
                if NotYet.UNAVAILABLE in words
                else Unknown("undecided at the deadline")
            )

    async def refresh_from(self, group: int) -> bool:
        """Fetches the map from whoever last answered for a group."""
        node = self._hints.get(group)
        return node is not None and await self.refresh(node)

    # Accounts

    async def create_accounts(
        self, accounts: Sequence[NewAccount], timeout: Timeout = Default.TIMEOUT
    ) -> list[CreateResult]:
        """Creates accounts; the results are in their order. `MOVED`: no such id can exist, or it is reserved."""
        results: dict[int, CreateResult] = {}
        await self._create(dict(enumerate(accounts)), results, self.deadline(timeout), Backoff())
        return [results[place] for place in range(len(accounts))]

    async def _create(
        self, todo: dict[int, NewAccount], results: dict[int, CreateResult], deadline: Deadline, backoff: Backoff
    ) -> None:
        parts: dict[int, list[int]] = defaultdict(list)
        for place, account in todo.items():
            group = self.map.group_of_account(account.id)
            if group is None:
                results[place] = CreateResult.MOVED
            else:
                parts[group].append(place)
        await all_of(
            self._create_in(group, {place: todo[place] for place in chunk}, results, deadline, backoff)
            for group, places in parts.items()
            for chunk in _chunks(places)
        )

    async def _create_in(
        self,
        group: int,
        todo: dict[int, NewAccount],
        results: dict[int, CreateResult],
        deadline: Deadline,
        backoff: Backoff,
    ) -> None:
        body = encode(tuple[NewAccount, ...], todo.values())
        answer: Any = None
        while not isinstance(answer, CreatedDone):
            async with self._creating:
                session = await self._session(group, deadline)
                sequence, epoch = next(self._session_sequence), self.map.epoch
                command = Command(CommandKind.CREATE_ACCOUNTS, session, sequence, epoch, len(todo), body)
                answer = await self.ask(group, command.call, deadline)
            if not isinstance(answer, Changed):
                break
            if answer.why is Why.UNKNOWN_SESSION:
                if self._sessions.get(group) == session:
                    del self._sessions[group]
                await backoff.wait(deadline)
            elif answer.why is Why.MOVED:
                await self.changed(answer, group, deadline, backoff)
                if self.map.epoch != epoch:
                    await self._create(todo, results, deadline, backoff)
                    return
            else:
                await backoff.wait(deadline)
        if not isinstance(answer, CreatedDone):
            raise unexpected(answer)
        if len(answer.results) != len(todo):
            raise DrachmaError("results of other accounts")
        moved = {}
        for place, result in zip(todo, answer.results, strict=True):
            results[place] = result
            if result is CreateResult.MOVED:
                moved[place] = todo[place]
        if moved and await self.refresh_from(group):
            await self._create(moved, results, deadline, backoff)

    async def _session(self, group: int, deadline: Deadline) -> Session:
        """This client's session in a group, registered when it is first needed."""
        async with self._registering[group]:
            backoff = Backoff()
            while group not in self._sessions:
                body = encode(SessionId, self._session_id)
                command = Command(CommandKind.REGISTER, None, 0, self.map.epoch, 1, body)
                answer = await self.ask(group, command.call, deadline)
                if isinstance(answer, Session):
                    self._sessions[group] = answer
                elif isinstance(answer, Changed):
                    await self.changed(answer, group, deadline, backoff)
                else:
                    raise unexpected(answer)
            return self._sessions[group]

    # Reading

    async def read(self, account: int, timeout: Timeout = Default.TIMEOUT) -> Account | None:
        """The account as of now, or nothing if it does not exist: linearizable."""
        deadline, backoff = self.deadline(timeout), Backoff()
        while True:
            group = self.map.group_of_account(account)
            if group is None:
                return None
            answer = await self.ask(group, _read_of(account, self.map.epoch), deadline)
            if isinstance(answer, ReadDone):
                return answer.account
            if not isinstance(answer, Changed):
                raise unexpected(answer)
            await self.changed(answer, group, deadline, backoff)

    async def balance(self, account: int, timeout: Timeout = Default.TIMEOUT) -> int:
        """The balance of an account; `Rejected` with `NO_SUCH_ACCOUNT` if there is none."""
        found = await self.read(account, timeout)
        if found is None:
            raise Rejected(Reason.NO_SUCH_ACCOUNT)
        return found.balance

    async def lookup(self, id: int, first: int, timeout: Timeout = Default.TIMEOUT) -> Outcome | None:  # noqa: A002
        """What became of an id, as far as the asked replica knows; nothing is not final.

        `first` is the debit account of a transfer, or what `first_account` says of a transaction.
        """
        return await self._settled(LookupCall, TxnId(id, first), timeout)

    async def fence(self, id: int, first: int, timeout: Timeout = Default.TIMEOUT) -> Outcome:  # noqa: A002
        """Settles an id for ever: its outcome if it has one, else `FENCED`."""
        outcome = await self._settled(FenceCall, TxnId(id, first), timeout)
        if outcome is None:
            raise DrachmaError("a fence without an outcome")
        return outcome

    async def _settled(self, kind: type[FenceCall], txn: TxnId, timeout: Timeout) -> Outcome | None:
        deadline, backoff = self.deadline(timeout), Backoff()
        while True:
            group = self.map.group_of_account(txn.first)
            if group is None:
                raise InvalidRequest("that account belongs to no shard, and no id lives there")
            answer = await self.ask(group, lambda span: kind(txn, span), deadline)
            if isinstance(answer, SettledDone):
                return answer.outcome
            if not isinstance(answer, Changed):
                raise unexpected(answer)
            await self.changed(answer, group, deadline, backoff)


def _read_of(account: int, epoch: int) -> CallOf:
    return lambda span: ReadCall(account, span, epoch)


@dataclass(frozen=True)
class Command:
    """A command but for the time that remains."""

    kind: CommandKind
    session: Session | None
    sequence: int
    epoch: int
    count: int
    body: bytes

    def call(self, span: int) -> ClientCommand:
        """The command, given the microseconds that remain."""
        return ClientCommand(self.kind, self.session, self.sequence, span, self.epoch, self.count, self.body)


def _chunks(places: list[int]) -> Iterable[list[int]]:
    return (places[start : start + LONGEST_LIST] for start in range(0, len(places), LONGEST_LIST))


async def all_of(parts: Iterable[Any]) -> None:
    """Runs all parts at once; one alone needs no task."""
    parts = list(parts)
    if len(parts) == 1:
        await parts[0]
    elif parts:
        tasks = [asyncio.ensure_future(part) for part in parts]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
