"""The client: one per process, shared by all of its tasks."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType

from .levels import Session
from .phases import Phases


class Client(Phases):
    """A client of one cluster. Use it as an asynchronous context manager, or `close` it."""

    def session(self, token: str | None = None) -> Session:
        """A new session, or the one of a token: requests at levels, and reads that see its own writes."""
        return Session(self, token)

    async def __aenter__(self) -> Client:
        """The client itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends all connections."""
        await self.close()


async def connect(endpoints: str | Iterable[str], timeout: float | None = 10.0, cluster: int | None = None) -> Client:
    """Finds a cluster by the addresses (`host:port`) of some of its nodes.

    `timeout` is the deadline, in seconds, of every request that has none of its own; `None` is no deadline. With
    `cluster`, the id of a cluster, no other cluster is accepted.
    """
    client = Client(endpoints.split(",") if isinstance(endpoints, str) else endpoints, timeout)
    client.cluster = cluster
    await client.start()
    return client
