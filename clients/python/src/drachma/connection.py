"""One connection to one node, shared by everything that this process asks it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from typing import Any

from .codec import MalformedError, decode, encode
from .errors import ConnectionLost, InvalidRequest, SaidGoodbye
from .frames import HEADER, LARGEST_GREETING, VERSION, Header, Kind, check_body, decode_header, encode_frame
from .messages import Caller, Goodbye, Hello, Request, Response, Welcome

# A connection on which a request has waited and nothing was heard for so long is given up.
SILENCE = 2.0
FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.5


async def read_frame(reader: asyncio.StreamReader, greeting: bool = False) -> tuple[Header, bytes]:
    """Reads one frame; what it announces is compared with the limits before anything is taken for it."""
    head = await reader.readexactly(HEADER)
    header = decode_header(head)
    if greeting and header.size > LARGEST_GREETING:
        raise MalformedError(f"a frame of {header.size} bytes before the welcome")
    return header, check_body(header, head, await reader.readexactly(header.body))


class Connection:
    """An open connection, after `Welcome`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, welcome: Welcome) -> None:
        """Takes over the streams and starts to listen."""
        self.welcome = welcome
        self.error: ConnectionLost | None = None
        self._reader = reader
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._correlations = itertools.count(1)
        self._unsent: list[bytes] = []
        # When the last frame came; a welcome is no answer to anybody.
        self.heard = float("-inf")
        # Since when something was asked and nothing heard.
        self._unheard: float | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._listener = self._loop.create_task(self._listen())

    @classmethod
    async def open(cls, address: str, cluster: int | None = None, timeout: float = SILENCE) -> Connection:
        """Connects and says hello. A `cluster` that is given must be the node's own."""
        try:
            async with _timeout(timeout):
                return await cls._open(address, cluster)
        except asyncio.TimeoutError as error:
            raise ConnectionLost(f"{address} did not answer within {timeout} s") from error
        except (OSError, EOFError, MalformedError, ValueError) as error:
            raise ConnectionLost(f"{address}: {error}") from error

    @classmethod
    async def _open(cls, address: str, cluster: int | None) -> Connection:
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        try:
            hello = Hello(VERSION, VERSION, cluster, Caller.CLIENT)
            writer.write(encode_frame(Kind.HELLO, 0, encode(Hello, hello)))
            header, body = await read_frame(reader, greeting=True)
            if header.kind is Kind.GOODBYE:
                raise _goodbye(body)
            if header.kind is not Kind.WELCOME:
                raise MalformedError(f"a {header.kind.name.lower()} for a welcome")
            welcome: Welcome = decode(Welcome, body)
            if welcome.version != VERSION or (cluster is not None and welcome.cluster != cluster):
                raise MalformedError("a welcome to something else")
            return cls(reader, writer, welcome)
        except BaseException:
            writer.close()
            raise

    @property
    def is_open(self) -> bool:
        """Whether requests can be sent."""
        return self.error is None

    def send(self, group: int, call: Any) -> asyncio.Future[Any]:
        """Sends a request, and returns where its answer will come. Requests of one moment leave in one write."""
        if self.error is not None:
            raise self.error
        correlation = next(self._correlations)
        try:
            frame = encode_frame(Kind.REQUEST, correlation, encode(Request, Request(group, call)))
        except MalformedError as error:
            raise InvalidRequest(str(error)) from error
        answer: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[correlation] = answer
        answer.add_done_callback(lambda _: self._waiting.pop(correlation, None))
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(frame)
        if self._unheard is None:
            self._unheard = self._loop.time()
        if self._watch is None:
            self._watch = self._loop.call_later(SILENCE, self._listen_for_silence)
        return answer

    def write(self, data: bytes) -> None:
        """Writes bytes as they are: for tests of what nodes refuse."""
        self._writer.write(data)

    def close(self, error: ConnectionLost | None = None) -> None:
        """Ends the connection; what is in flight has no answer."""
        if self.error is not None:
            return
        self.error = error or ConnectionLost("closed")
        if self._watch is not None:
            self._watch.cancel()
        self._listener.cancel()
        self._writer.close()
        for answer in list(self._waiting.values()):
            if not answer.done():
                answer.set_exception(self.error)
                # Nobody may be waiting any more.
                answer.exception()

    async def closed(self) -> None:
        """Waits until the connection has ended; `error` then says why."""
        await asyncio.wait([self._listener])

    def _flush(self) -> None:
        data, self._unsent = b"".join(self._unsent), []
        if self.error is None:
            self._writer.write(data)

    def _listen_for_silence(self) -> None:
        self._watch = None
        if self._unheard is None:
            return
        left = self._unheard + SILENCE - self._loop.time()
        if left <= 0:
            self.close(ConnectionLost(f"silent for {SILENCE} s"))
        else:
            self._watch = self._loop.call_later(left, self._listen_for_silence)

    async def _listen(self) -> None:
        try:
            while True:
                header, body = await read_frame(self._reader)
                self.heard = self._loop.time()
                if header.kind is Kind.GOODBYE:
                    raise _goodbye(body)
                if header.kind is not Kind.RESPONSE:
                    raise MalformedError(f"a {header.kind.name.lower()} from a node")
                value: Any = decode(Response, body)
                answer = self._waiting.pop(header.correlation, None)
                if answer is not None and not answer.done():
                    answer.set_result(value)
                self._unheard = self.heard if self._waiting else None
        except SaidGoodbye as goodbye:
            self.close(goodbye)
        except asyncio.IncompleteReadError:
            self.close(ConnectionLost("the node closed the connection"))
        except (OSError, MalformedError) as error:
            self.close(ConnectionLost(str(error)))


def _goodbye(body: bytes) -> SaidGoodbye:
    goodbye: Goodbye = decode(Goodbye, body)
    return SaidGoodbye(goodbye.refusal, goodbye.text)


@contextlib.asynccontextmanager
async def _timeout(seconds: float) -> Any:
    """`asyncio.timeout`, which Python 3.10 lacks: raises `asyncio.TimeoutError` in the task that uses it."""
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    handle = asyncio.get_running_loop().call_later(seconds, expire)
    try:
        yield
    except asyncio.CancelledError:
        if not expired:
            raise
        if hasattr(task, "uncancel"):
            task.uncancel()
        raise asyncio.TimeoutError from None
    finally:
        handle.cancel()


class Link:
    """The way to one node: its address, and the one connection to it, made again when it is lost."""

    def __init__(self, address: str) -> None:
        """Nothing is connected yet."""
        self.address = address
        self.failed = False
        self._connection: Connection | None = None
        self._opening: asyncio.Task[Connection] | None = None
        self._pause = 0.0
        self._not_before = 0.0

    @property
    def connection(self) -> Connection | None:
        """The connection, if it is open now."""
        if self._connection is not None and not self._connection.is_open:
            lost, self._connection = self._connection.error, None
            if not isinstance(lost, SaidGoodbye) or not lost.fault:
                self._lost(lost)
        return self._connection

    def heard_since(self, moment: float) -> bool:
        """Whether the node has answered anybody since then."""
        connection = self.connection
        return connection is not None and connection.heard > moment

    async def open(self, cluster: int | None) -> Connection:
        """The connection; a node that has just failed is not tried before its pause is over."""
        connection = self.connection
        if connection is not None:
            return connection
        if self._opening is None:
            if asyncio.get_running_loop().time() < self._not_before:
                raise ConnectionLost(f"{self.address} could not be reached a moment ago")
            self._opening = asyncio.get_running_loop().create_task(self._open(cluster))
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    async def _open(self, cluster: int | None) -> Connection:
        self._connection = await Connection.open(self.address, cluster)
        return self._connection

    def _opened(self, task: asyncio.Task[Connection]) -> None:
        self._opening = None
        if task.cancelled():
            return
        error = task.exception()
        if error is None:
            self.failed, self._pause = False, 0.0
        else:
            self.failed = True
            self._later()

    def _lost(self, error: ConnectionLost | None) -> None:
        # A lost connection is made again at once, unless the node said that it should not.
        if isinstance(error, SaidGoodbye):
            self.failed = True
            self._later()

    def _later(self) -> None:
        self._pause = min(max(self._pause * 2, FIRST_PAUSE), LONGEST_PAUSE)
        self._not_before = asyncio.get_running_loop().time() + self._pause * (1 - random.random() / 2)

    def close(self) -> None:
        """Ends the connection."""
        if self._opening is not None:
            self._opening.cancel()
        if self._connection is not None:
            self._connection.close()
