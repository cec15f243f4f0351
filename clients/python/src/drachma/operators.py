"""Of the calls of operators those that a client's tests have a use for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Union

from .codec import U32, U64, Record, Tagged
from .model import Account, GroupId, NodeId, Outcome, ReplicaId, Slot, TxnId


@dataclass(frozen=True, slots=True)
class AccountsCall(Record):
    """A page of accounts."""

    from_: U64
    limit: U32
    changed: bool
    reserved: bool


@dataclass(frozen=True, slots=True)
class AccountsPage(Record):
    """A page of accounts, as the asked node has applied them."""

    accounts: tuple[Account, ...]
    next: U64 | None
    applied: Slot


@dataclass(frozen=True, slots=True)
class ActorStatus(Record):
    """The status of a role."""

    group: GroupId
    role: str
    depth: U64
    handled: U64


@dataclass(frozen=True, slots=True)
class Counter(Record):
    """A counter of a node."""

    name: str
    value: U64


@dataclass(frozen=True, slots=True)
class NodeStatusCall(Record):
    """Asks a node for its status."""


@dataclass(frozen=True, slots=True)
class NodeStatus(Record):
    """The status of a node."""

    node: NodeId
    process: U32
    uptime: U64
    actors: tuple[ActorStatus, ...]
    counters: tuple[Counter, ...]


@dataclass(frozen=True, slots=True)
class OutcomesCall(Record):
    """Asks for the outcomes of several ids."""

    ids: tuple[TxnId, ...]


@dataclass(frozen=True, slots=True)
class OutcomesPage(Record):
    """The outcomes of several ids."""

    outcomes: tuple[Outcome | None, ...]
    applied: Slot


@dataclass(frozen=True, slots=True)
class HandOverCall(Record):
    """Has another node lead the group; with none, the follower that is closest."""

    target: NodeId | None


class HandOverEnd(IntEnum):
    """How a hand-over ended."""

    MOVED = 1
    ALREADY = 2
    NOT_MEMBER = 3
    DOWN = 4
    LAGGING = 5
    NOT_TAKEN = 6
    BUSY = 7


@dataclass(frozen=True, slots=True)
class Ballot(Record):
    """A ballot of an election."""

    round: U64
    replica: ReplicaId


@dataclass(frozen=True, slots=True)
class HandOverDone(Record):
    """How a hand-over ended, and who leads now."""

    end: HandOverEnd
    leader: NodeId
    ballot: Ballot


@dataclass(frozen=True, slots=True)
class ReadmitCall(Record):
    """Makes a wiped node a member of the group again."""

    node: NodeId


class ReadmitEnd(IntEnum):
    """How a readmission ended."""

    ADMITTED = 1
    ALREADY = 2
    NOT_MEMBER = 3
    DOWN = 4
    NO_QUORUM = 5
    BUSY = 6


@dataclass(frozen=True, slots=True)
class ReadmitDone(Record):
    """How a readmission ended, under what id the node's replica is a member, and who leads."""

    end: ReadmitEnd
    replica: ReplicaId | None
    leader: NodeId
    ballot: Ballot


OperatorCall = Annotated[
    Union[NodeStatusCall, AccountsCall, OutcomesCall, HandOverCall, ReadmitCall],
    Tagged({3: NodeStatusCall, 4: AccountsCall, 10: OutcomesCall, 12: HandOverCall, 14: ReadmitCall}),
]


OperatorAnswer = Annotated[
    Union[NodeStatus, AccountsPage, OutcomesPage, HandOverDone, ReadmitDone],
    Tagged({3: NodeStatus, 4: AccountsPage, 10: OutcomesPage, 12: HandOverDone, 14: ReadmitDone}),
]
