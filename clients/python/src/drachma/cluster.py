"""Asking a group until there is an answer: the map, redirects, copies, pauses and deadlines."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .connection import Connection, Link
from .errors import ConnectionLost, DrachmaError, InvalidRequest, NotFinal, SaidGoodbye, Unavailable, Unknown
from .messages import MapCall, MapDone, Refused, Why
from .routing import Routes

FIRST_PAUSE = 0.002
LONGEST_PAUSE = 0.2
# A request that is not answered for so long is sent again, and again after twice as long.
FIRST_SILENCE = 0.5
LONGEST_SILENCE = 4.0
# What a request without a deadline says that it has.
NO_DEADLINE = 10.0

# Makes the call for one try, given the microseconds that remain.
CallOf = Callable[[int], Any]
# Refusals that say how the request is to be changed: the caller's business.
TO_CHANGE = (Why.MOVED, Why.UNKNOWN_SESSION, Why.SESSION_WINDOW, Why.LEVEL)


class Deadline:
    """The moment until which an answer is of use, or none."""

    def __init__(self, timeout: float | None) -> None:
        """From now on."""
        self._at = None if timeout is None else asyncio.get_running_loop().time() + timeout

    def left(self) -> float:
        """The seconds that remain; what is said to nodes if there is no deadline."""
        return NO_DEADLINE if self._at is None else self._at - asyncio.get_running_loop().time()

    def span(self) -> int:
        """The microseconds that remain, at least one."""
        return max(1, int(self.left() * 1_000_000))

    def part(self, share: float) -> Deadline:
        """The moment when so much of the time that remains is over."""
        return Deadline(max(0.0, self.left()) * share)

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self._at is not None and self.left() <= 0


class Backoff:
    """Pauses of 2 ms, doubled each time up to 200 ms, less a random part of at most a half."""

    def __init__(self) -> None:
        """Begins with the shortest."""
        self._pause = FIRST_PAUSE

    def next(self, at_least: float = 0.0) -> float:
        """The next pause."""
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return max(at_least, pause * (1 - random.random() / 2))

    async def wait(self, deadline: Deadline) -> None:
        """Sleeps for the next pause, but not past the deadline."""
        await asyncio.sleep(max(0.0, min(self.next(), deadline.left())))


@dataclass
class _Ask:
    """One request under way."""

    group: int
    call_of: CallOf
    deadline: Deadline
    pending: dict[asyncio.Future[Any], int] = field(default_factory=dict)
    asked: set[int] = field(default_factory=set)
    denied: set[int] = field(default_factory=set)
    backoff: Backoff = field(default_factory=Backoff)
    silence: float = FIRST_SILENCE
    # Whether it has a connection of its own: after a goodbye that blames one of the requests on a shared one.
    alone: bool = False


@dataclass(frozen=True)
class Changed:
    """A refusal after which the request has to be changed."""

    why: Why
    node: int


class Cluster:
    """All nodes of one cluster, its map, and who was last found to lead each group."""

    def __init__(self, endpoints: Iterable[str], timeout: float | None) -> None:
        """Knows some addresses; `start` finds the rest."""
        self._endpoints = list(endpoints)
        if not self._endpoints:
            raise InvalidRequest("no endpoints")
        self.timeout = timeout
        self.cluster: int | None = None
        self.routes: Routes | None = None
        self._links: dict[int, Link] = {}
        self._hints: dict[int, int] = {}
        self._refreshing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Finds a node that answers, and gets the map from it."""
        deadline = Deadline(self.timeout)
        backoff = Backoff()
        while True:
            errors: list[DrachmaError] = []
            for address in self._endpoints:
                try:
                    await self._start_at(address, deadline)
                    return
                except ConnectionLost as error:
                    errors.append(error)
            fatal = [error for error in errors if isinstance(error, SaidGoodbye) and (error.forever or error.fault)]
            if len(fatal) == len(errors):
                raise fatal[0]
            if deadline.passed:
                raise Unavailable(f"no node answered: {errors[-1]}")
            await backoff.wait(deadline)

    async def _start_at(self, address: str, deadline: Deadline) -> None:
        left = max(0.001, min(2.0, deadline.left()))
        connection = await Connection.open(address, self.cluster, left)
        try:
            done = await asyncio.wait_for(connection.send(0, MapCall(0)), left)
        except asyncio.TimeoutError as error:
            raise ConnectionLost(f"{address} did not answer") from error
        finally:
            connection.close()
        if not isinstance(done, MapDone):
            raise ConnectionLost(f"{address} has no map: {done}")
        self.cluster = connection.welcome.cluster
        self.take_map(done)

    def take_map(self, done: MapDone) -> bool:
        """Uses a map if it is newer; says whether it is."""
        if self.routes is not None and done.map.epoch <= self.routes.epoch:
            return False
        self.routes = Routes(done)
        for node, address in self.routes.addresses.items():
            link = self._links.get(node)
            if link is None or link.address != address:
                if link is not None:
                    link.close()
                self._links[node] = Link(address)
        return True

    @property
    def map(self) -> Routes:
        """The newest map that is known."""
        if self.routes is None:
            raise DrachmaError("not connected")
        return self.routes

    async def refresh(self, node: int) -> bool:
        """Fetches the map from a node; says whether it is newer than what was known."""
        link = self._links.get(node)
        if link is None:
            return False
        try:
            connection = await link.open(self.cluster)
            done = await asyncio.wait_for(connection.send(0, MapCall(self.map.epoch)), FIRST_SILENCE)
        except (ConnectionLost, asyncio.TimeoutError):
            return False
        return isinstance(done, MapDone) and self.take_map(done)

    async def close(self) -> None:
        """Ends all connections."""
        for link in self._links.values():
            link.close()
        await asyncio.sleep(0)

    async def node(self, node: int) -> Connection:
        """The connection to one node."""
        return await self._links[node].open(self.cluster)

    async def ask(self, group: int, call_of: CallOf, deadline: Deadline) -> Any:
        """Asks the nodes of a group until one of them answers.

        Returns the answer, or `Changed`; raises `Unavailable` or `Unknown` at the deadline.
        """
        ask = _Ask(group, call_of, deadline)
        try:
            while True:
                answer = await self._round(ask)
                if answer is not None:
                    return answer
                answer = await self._pause(ask, ask.backoff.next())
                if answer is not None:
                    return answer
        finally:
            for copy in ask.pending:
                copy.cancel()

    def not_final(self, group: int, denied: Iterable[int] = ()) -> NotFinal:
        """What a request that has no answer at its deadline is to be called."""
        nodes = self.map.groups.get(group, ())
        reached = {node for node in nodes if node in self._links and not self._links[node].failed}
        if len(reached) < len(nodes) // 2 + 1:
            return Unavailable(f"group {group}: {len(reached)} of {len(nodes)} nodes can be reached")
        if reached <= set(denied):
            return Unavailable(f"group {group} has no quorum")
        return Unknown(f"group {group} did not answer in time")

    def _order(self, group: int) -> list[int]:
        """First the node that was hinted at, then those that can be reached."""
        hint = self._hints.get(group)
        nodes = [node for node in self.map.groups.get(group, ()) if node in self._links]
        random.shuffle(nodes)
        return sorted(nodes, key=lambda node: (node != hint, self._links[node].failed))

    async def _round(self, ask: _Ask) -> Any:
        """Asks every node of the group at most once, without pause."""
        ask.asked.clear()
        order = self._order(ask.group)
        target: int | None = order[0] if order else None
        while target is not None:
            answer = await self._ask_node(ask, target)
            hint: int | None = None
            if isinstance(answer, Refused):
                hint = answer.leader
            elif answer is not None:
                return answer
            if hint is None or hint in ask.asked or hint not in order:
                hint = next((node for node in order if node not in ask.asked), None)
            target = hint
        return None

    async def _ask_node(self, ask: _Ask, node: int) -> Any:
        """Asks one node: the answer, a refusal that hints at another node, or nothing."""
        ask.asked.add(node)
        while True:
            copy = self._send(ask, node)
            sent = asyncio.get_running_loop().time()
            answer = await self._wait_for(ask, copy, ask.silence)
            if copy in ask.pending and answer is None:
                # Silence: to the same node again if it has answered somebody meanwhile.
                ask.silence = min(ask.silence * 2, LONGEST_SILENCE)
                if self._links[node].heard_since(sent):
                    continue
                return None
            if not isinstance(answer, Refused) or answer.why not in (Why.OVERLOADED, Why.EXPIRED):
                return answer
            later = await self._pause(ask, ask.backoff.next(answer.after / 1_000_000))
            if later is not None:
                return later

    def _send(self, ask: _Ask, node: int) -> asyncio.Future[Any]:
        """Sends a copy to a node, at once if it is connected."""
        link = self._links[node]
        connection = link.connection
        copy: asyncio.Future[Any]
        if ask.alone:
            copy = asyncio.ensure_future(self._send_alone(ask, link))
        elif connection is not None:
            copy = connection.send(ask.group, ask.call_of(ask.deadline.span()))
        else:
            copy = asyncio.ensure_future(self._open_and_send(ask, link))
        ask.pending[copy] = node
        return copy

    async def _open_and_send(self, ask: _Ask, link: Link) -> Any:
        connection = await link.open(self.cluster)
        return await connection.send(ask.group, ask.call_of(ask.deadline.span()))

    async def _send_alone(self, ask: _Ask, link: Link) -> Any:
        connection = await Connection.open(link.address, self.cluster)
        try:
            return await connection.send(ask.group, ask.call_of(ask.deadline.span()))
        finally:
            connection.close()

    async def _pause(self, ask: _Ask, seconds: float) -> Any:
        """Waits, and returns an answer if one comes meanwhile, to an earlier copy."""
        return await self._wait_for(ask, None, seconds)

    async def _wait_for(self, ask: _Ask, latest: asyncio.Future[Any] | None, seconds: float) -> Any:
        """Waits for the latest copy, at most so long; an answer to any copy counts, a refusal only to the latest."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            if ask.deadline.passed:
                raise self.not_final(ask.group, ask.denied)
            left = until - loop.time()
            if left <= 0:
                return None
            left = min(left, ask.deadline.left())
            if not ask.pending:
                await asyncio.sleep(left)
                continue
            done, _ = await asyncio.wait(ask.pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            for copy in done:
                node = ask.pending.pop(copy)
                answer = self._judge(ask, node, copy)
                if answer is not None and not isinstance(answer, Refused):
                    return answer
                if copy is latest:
                    return answer

    def _judge(self, ask: _Ask, node: int, copy: asyncio.Future[Any]) -> Any:
        """An answer, `Changed`, a refusal, or nothing if the connection was lost."""
        error = copy.exception()
        if error is not None:
            if isinstance(error, SaidGoodbye) and error.fault:
                # Whose fault it was shows when each that was in flight is sent alone.
                if ask.alone:
                    raise InvalidRequest(str(error)) from error
                ask.alone = True
            if isinstance(error, ConnectionLost):
                return None
            raise error
        answer = copy.result()
        if not isinstance(answer, Refused):
            ask.denied.discard(node)
            self._hints[ask.group] = node
            return answer
        if answer.why is Why.NO_QUORUM:
            ask.denied.add(node)
            return answer
        ask.denied.discard(node)
        if answer.why is Why.MALFORMED:
            raise InvalidRequest("refused as malformed")
        if answer.why in TO_CHANGE:
            self._hints[ask.group] = node
            return Changed(answer.why, node)
        return answer
