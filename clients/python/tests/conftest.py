"""Real clusters: processes of the binary `DRACHMA_BIN`, started and ended by the tests that use them."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

import drachma
from drachma import model as o

R = TypeVar("R")
ROOT = Path(__file__).resolve().parents[3]


def binary() -> Path:
    """The binary under test."""
    named = os.environ.get("DRACHMA_BIN")
    path = Path(named) if named else ROOT / "target" / "release" / "drachma"
    if not path.is_file():
        if named:
            pytest.fail(f"DRACHMA_BIN is {named}, and there is no such file")
        pytest.skip("no binary: set DRACHMA_BIN, or build it with cargo build --release")
    return path


def free_ports(count: int) -> int:
    """The first of so many free ports in a row, below those of outgoing connections."""
    while True:
        base = random.randrange(10240, 32000)
        sockets: list[socket.socket] = []
        try:
            for port in range(base, base + count):
                one = socket.socket()
                sockets.append(one)
                one.bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for one in sockets:
                one.close()
        return base


class RealCluster:
    """A cluster of node processes in a directory of its own."""

    def __init__(self, directory: Path, groups: int, replicas: int, name: str, mode: str = "range") -> None:
        self.directory = directory
        self.nodes = groups * replicas
        self.groups = {
            f"g{group + 1}": [f"n{group * replicas + replica + 1}" for replica in range(replicas)]
            for group in range(groups)
        }
        self.base = free_ports(self.nodes)
        self.config = directory / "cluster.toml"
        nodes = "".join(f'[[node]]\nid = "n{node + 1}"\n' for node in range(self.nodes))
        listed = "".join(f'[[group]]\nid = "{group}"\nnodes = {of!r}\n' for group, of in self.groups.items())
        self.config.write_text(
            f'[cluster]\nname = "{name}"\nbase_port = {self.base}\n{nodes}{listed}'
            f'[placement]\nmode = "{mode}"\nshards = {groups}\n'
            "[data_set]\naccounts = 9000\ninitial_balance = 1000\n"
        )

    @property
    def endpoints(self) -> list[str]:
        """The addresses of all nodes."""
        return [f"127.0.0.1:{self.base + node}" for node in range(self.nodes)]

    def run(self, *words: str, check: bool = True) -> str:
        """Runs a command line."""
        command = [str(binary()), *words, "--config", str(self.config), "--data", str(self.directory / "data")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def leader(self, group: str) -> str:
        """The node that leads a group."""
        for line in self.run("leader").splitlines():
            words = line.split()
            if words[:1] == [group]:
                return words[1]
        raise AssertionError(f"{group} has no leader")

    def kill(self, node: str) -> None:
        """Kills a node with SIGKILL."""
        self.run("fail", node)

    def start(self, node: str) -> None:
        """Starts a node that was killed."""
        self.run("start", node, "--timeout", "30s")


def started(directory: Path, groups: int, replicas: int, name: str, mode: str = "range") -> Iterator[RealCluster]:
    binary()
    cluster = RealCluster(directory, groups, replicas, name, mode)
    try:
        cluster.run("up", "--detach")
        yield cluster
    finally:
        cluster.run("down", check=False)
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """One node, one group, accounts by a hash of their id: every id can exist."""
    yield from started(tmp_path_factory.mktemp("single"), 1, 1, "python-single", "hash")


@pytest.fixture(scope="session")
def nine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    """Three groups of three nodes, accounts 1 to 9000 by ranges."""
    yield from started(tmp_path_factory.mktemp("nine"), 3, 3, "python-nine")


# For everything that must happen sooner or later.
PATIENCE = 60.0


class Grown(list[R]):
    """A list of what has happened, which tells when there is more."""

    def __init__(self) -> None:
        super().__init__()
        self._more = asyncio.Event()

    def extend(self, more: Iterable[R]) -> None:
        super().extend(more)
        self._more.set()

    def append(self, one: R) -> None:
        self.extend([one])

    async def by(self, count: int) -> None:
        """Waits until so many more have happened."""
        wanted = len(self) + count

        async def enough() -> None:
            while len(self) < wanted:
                self._more.clear()
                await self._more.wait()

        await asyncio.wait_for(enough(), PATIENCE)


async def needs_keys(client: drachma.Client) -> None:
    """Skips the test if the binary is older than transactions, keys and queries."""
    try:
        await client.query([o.Get(b"probe")])
    except drachma.InvalidRequest as error:
        pytest.skip(f"this binary has no keys and transactions yet: {error}")
