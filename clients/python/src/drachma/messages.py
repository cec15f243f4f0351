"""The messages between a client and a node: every record with its fields in the order of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Union

from .codec import U8, U32, U64, Bare, Record, Tagged
from .model import (
    Account,
    AccountId,
    ClusterId,
    CreateResult,
    DirectoryId,
    Epoch,
    GroupId,
    NodeId,
    Nothing,
    Operation,
    Outcome,
    Reply,
    SessionId,
    Slot,
    Span,
    TransferResult,
    TxnId,
)
from .operators import OperatorAnswer, OperatorCall


class Caller(IntEnum):
    """Who opens a connection."""

    PEER = 1
    CLIENT = 2
    OPERATOR = 3


class Refusal(IntEnum):
    """Why a node ends a connection."""

    VERSION = 1
    CLUSTER = 2
    STRANGER = 3
    TOO_LARGE = 4
    MALFORMED = 5
    OVERLOADED = 6
    STOPPING = 7


@dataclass(frozen=True, slots=True)
class Hello(Record):
    """What whoever opens a connection says."""

    lowest: U8
    highest: U8
    cluster: ClusterId | None
    caller: Caller
    node: NodeId | None = None
    directory: DirectoryId | None = None


@dataclass(frozen=True, slots=True)
class Welcome(Record):
    """How a node answers."""

    version: U8
    cluster: ClusterId
    node: NodeId


@dataclass(frozen=True, slots=True)
class Goodbye(Record):
    """What a node says before it closes the connection."""

    refusal: Refusal
    text: str


class CommandKind(IntEnum):
    """What the body of a command is."""

    REGISTER = 1
    TRANSFERS = 2
    TRANSACT = 3
    CREATE_ACCOUNTS = 4
    TRANSACTION = 5
    TRANSACT_OVER = 6


@dataclass(frozen=True, slots=True)
class Session(Record):
    """A session, as it was registered in one group."""

    id: SessionId
    registered: Slot


@dataclass(frozen=True, slots=True)
class ClientCommand(Record):
    """The envelope of a command."""

    kind: CommandKind
    session: Session | None
    sequence: U64
    deadline: Span
    epoch: Epoch
    count: U32
    body: bytes


@dataclass(frozen=True, slots=True)
class ItemResult(Record):
    """The result of one transfer of a batch."""

    index: U32
    result: TransferResult
    replayed: bool


@dataclass(frozen=True, slots=True)
class TransfersDone(Record):
    """What did not simply commit now."""

    items: tuple[ItemResult, ...]


@dataclass(frozen=True, slots=True)
class CreatedDone(Record):
    """One result per account, in their order."""

    results: tuple[CreateResult, ...]


@dataclass(frozen=True, slots=True)
class TransactionDone(Record):
    """The result of a transaction, and of a commit one reply per operation, if they are still kept."""

    result: TransferResult
    replayed: bool
    replies: tuple[Reply, ...] | None


@dataclass(frozen=True, slots=True)
class QueryCall(Record):
    """Reads several things of one group at one moment."""

    operations: tuple[Operation, ...]
    confirmed: bool
    deadline: Span
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Found(Record):
    """A reply, and a version that changes whenever it does."""

    reply: Reply
    version: Slot


@dataclass(frozen=True, slots=True)
class QueryDone(Record):
    """What a query found; nothing, if it has to be asked in a transaction."""

    slot: Slot
    found: tuple[Found, ...] | None


@dataclass(frozen=True, slots=True)
class ReadCall(Record):
    """Reads an account."""

    account: AccountId
    deadline: Span
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class ReadDone(Record):
    """The account, if there is one."""

    account: Account | None
    slot: Slot


@dataclass(frozen=True, slots=True)
class FenceCall(Record):
    """Settles an id, or looks it up."""

    txn: TxnId
    deadline: Span


class LookupCall(FenceCall):
    """A `FenceCall` that only looks: the same fields under another tag."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class SettledDone(Record):
    """The outcome of an id, if it has one."""

    outcome: Outcome | None


class Level(IntEnum):
    """How consistent a request is to be."""

    LINEARIZABLE = 1
    ALL = 2
    SESSION = 3
    ANY = 4


@dataclass(frozen=True, slots=True)
class WriteCall(Record):
    """A command for one group, at a level."""

    level: Level
    command: ClientCommand


WriteResult = Annotated[
    Union[Nothing, TransfersDone, TransactionDone],
    Tagged({1: Nothing, 2: TransfersDone, 3: TransactionDone}),
]


@dataclass(frozen=True, slots=True)
class WriteDone(Record):
    """What became of a command; `Nothing` is accepted, which is no outcome."""

    result: WriteResult
    slot: Slot
    level_met: bool


@dataclass(frozen=True, slots=True)
class PositionCall(Record):
    """Asks how far a group is."""

    everywhere: bool
    deadline: Span
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class PositionDone(Record):
    """How far a group is, and whether every replica has so much."""

    slot: Slot
    everywhere: bool


@dataclass(frozen=True, slots=True)
class ReplicaReadCall(Record):
    """Reads several things from the replica that is asked."""

    operations: tuple[Operation, ...]
    after: Slot
    settled: bool
    deadline: Span
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class ReplicaReadDone(Record):
    """What a replica found, and how old that is at most."""

    slot: Slot
    age: Span | None
    found: tuple[Found, ...] | None


@dataclass(frozen=True, slots=True)
class GroupSlot(Record):
    """How far a session is in a group."""

    group: GroupId
    slot: Slot


@dataclass(frozen=True, slots=True)
class TokenBody(Record):
    """What a session has written and read."""

    cluster: ClusterId
    slots: tuple[GroupSlot, ...]


@dataclass(frozen=True, slots=True)
class MapCall(Record):
    """Asks for the map; the version that the client has."""

    epoch: Epoch


@dataclass(frozen=True, slots=True)
class AccountRange(Record):
    """A range of ids, both ends included."""

    first: AccountId
    last: AccountId


@dataclass(frozen=True, slots=True)
class Ranges(Bare):
    """Accounts are placed by ranges, one for each shard."""

    ranges: tuple[AccountRange, ...]


@dataclass(frozen=True, slots=True)
class Hash(Record):
    """Accounts are placed by a hash of their id."""


Mode = Annotated[
    Union[Ranges, Hash],
    Tagged({1: Ranges, 2: Hash}),
]


@dataclass(frozen=True, slots=True)
class ShardMap(Record):
    """The group of every shard."""

    epoch: Epoch
    mode: Mode
    owners: tuple[GroupId, ...]


@dataclass(frozen=True, slots=True)
class GroupNodes(Record):
    """The nodes of a group."""

    group: GroupId
    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True)
class NodeAddress(Record):
    """Where a node listens, as `host:port`."""

    node: NodeId
    address: str


@dataclass(frozen=True, slots=True)
class MapDone(Record):
    """The map."""

    map: ShardMap
    groups: tuple[GroupNodes, ...]
    nodes: tuple[NodeAddress, ...]


class Why(IntEnum):
    """Why a request was refused; no answer to it."""

    NOT_LEADER = 1
    NO_QUORUM = 2
    OVERLOADED = 3
    MOVED = 4
    UNKNOWN_SESSION = 5
    SESSION_WINDOW = 6
    EXPIRED = 7
    MALFORMED = 8
    WRONG_NODE = 9
    LAGGING = 16
    LEVEL = 17


@dataclass(frozen=True, slots=True)
class Refused(Record):
    """No answer: to be sent again, as the reason says."""

    why: Why
    leader: NodeId | None
    after: Span


@dataclass(frozen=True, slots=True)
class Operator(Bare):
    """A call of an operator, answered by the node that is asked."""

    call: OperatorCall


@dataclass(frozen=True, slots=True)
class Operated(Bare):
    """The answer to an operator."""

    answer: OperatorAnswer


Call = Annotated[
    Union[
        ClientCommand,
        ReadCall,
        FenceCall,
        LookupCall,
        MapCall,
        Operator,
        QueryCall,
        WriteCall,
        PositionCall,
        ReplicaReadCall,
    ],
    Tagged(
        {
            1: ClientCommand,
            2: ReadCall,
            3: FenceCall,
            4: LookupCall,
            5: MapCall,
            6: Operator,
            7: QueryCall,
            16: WriteCall,
            17: PositionCall,
            18: ReplicaReadCall,
        }
    ),
]


@dataclass(frozen=True, slots=True)
class Request(Record):
    """A call to a group; group 0 is the node itself."""

    group: GroupId
    call: Call


Response = Annotated[
    Union[
        Session,
        TransfersDone,
        CreatedDone,
        ReadDone,
        SettledDone,
        MapDone,
        Refused,
        Operated,
        TransactionDone,
        QueryDone,
        WriteDone,
        PositionDone,
        ReplicaReadDone,
    ],
    Tagged(
        {
            1: Session,
            2: TransfersDone,
            3: CreatedDone,
            4: ReadDone,
            5: SettledDone,
            6: MapDone,
            7: Refused,
            8: Operated,
            9: TransactionDone,
            10: QueryDone,
            16: WriteDone,
            17: PositionDone,
            18: ReplicaReadDone,
        }
    ),
]
