"""The messages between a client and a node, in one place: every record with its fields in the order of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, TypeAlias, Union

from .codec import I64, U8, U16, U32, U64, U128, Bare, Record, Sum, Tagged

NodeId = U16
GroupId = U16
ReplicaId = U32
ShardId = U16
Epoch = U64
Slot = U64
AccountId = U128
TransferId = U128
SessionId = U128
ClusterId = U128
DirectoryId = U128
Time = U64
Span = U64
LogTime = U64
Key: TypeAlias = bytes
Value: TypeAlias = bytes

DEBITS_MUST_NOT_EXCEED_CREDITS = 1
CREDITS_MUST_NOT_EXCEED_DEBITS = 2
CLOSED = 4
HISTORY = 8
Flags = Annotated[int, Sum(15)]


@dataclass(frozen=True, slots=True)
class Nothing(Record):
    """A record without fields."""


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
class Transfer(Record):
    """Moves an amount from one account to another, once under its id."""

    id: TransferId
    debit: AccountId
    credit: AccountId
    amount: U128
    ledger: U32 = 1
    code: U16 = 1
    user_data_128: U128 = 0
    user_data_64: U64 = 0
    user_data_32: U32 = 0


class Reason(IntEnum):
    """Why something was rejected, for ever."""

    EXCEEDS_CREDITS = 1
    EXCEEDS_DEBITS = 2
    NO_SUCH_ACCOUNT = 3
    SAME_ACCOUNT = 4
    ZERO_AMOUNT = 5
    LEDGER_MISMATCH = 6
    CLOSED = 7
    OVERFLOW = 8
    CONDITION = 9
    FENCED = 10
    ID_CONFLICT = 11
    TOO_LARGE = 12
    NOT_A_NUMBER = 13


class Outcome(IntEnum):
    """What became of an id."""

    COMMITTED = 0
    EXCEEDS_CREDITS = 1
    EXCEEDS_DEBITS = 2
    NO_SUCH_ACCOUNT = 3
    SAME_ACCOUNT = 4
    ZERO_AMOUNT = 5
    LEDGER_MISMATCH = 6
    CLOSED = 7
    OVERFLOW = 8
    CONDITION = 9
    FENCED = 10
    ID_CONFLICT = 11
    TOO_LARGE = 12
    NOT_A_NUMBER = 13


class TransferResult(IntEnum):
    """How one try of a transfer or transaction ended; not all of these are final."""

    COMMITTED = 0
    EXCEEDS_CREDITS = 1
    EXCEEDS_DEBITS = 2
    NO_SUCH_ACCOUNT = 3
    SAME_ACCOUNT = 4
    ZERO_AMOUNT = 5
    LEDGER_MISMATCH = 6
    CLOSED = 7
    OVERFLOW = 8
    CONDITION = 9
    FENCED = 10
    ID_CONFLICT = 11
    TOO_LARGE = 12
    NOT_A_NUMBER = 13
    RETRY = 64
    MOVED = 65
    UNAVAILABLE = 66
    UNKNOWN = 67


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
class NewAccount(Record):
    """An account to create."""

    id: AccountId
    ledger: U32 = 1
    code: U16 = 1
    flags: Flags = DEBITS_MUST_NOT_EXCEED_CREDITS


class CreateResult(IntEnum):
    """What became of an account that was to be created."""

    CREATED = 1
    EXISTS = 2
    EXISTS_DIFFERENT = 3
    MOVED = 4


@dataclass(frozen=True, slots=True)
class CreatedDone(Record):
    """One result per account, in their order."""

    results: tuple[CreateResult, ...]


@dataclass(frozen=True, slots=True)
class Account(Record):
    """An account with its totals."""

    id: AccountId
    ledger: U32
    code: U16
    flags: Flags
    debits_pending: U128
    debits_posted: U128
    credits_pending: U128
    credits_posted: U128

    @property
    def balance(self) -> int:
        """Credits posted less debits posted."""
        return self.credits_posted - self.debits_posted


@dataclass(frozen=True, slots=True)
class Balance(Record):
    """A balance, which may be negative."""

    negative: bool
    magnitude: U128

    @classmethod
    def of(cls, balance: int) -> Balance:
        """The balance that is this number."""
        return cls(balance < 0, abs(balance))


@dataclass(frozen=True, slots=True)
class Is(Record):
    """The key has this value; with none, it does not exist."""

    key: Key
    value: Value | None


@dataclass(frozen=True, slots=True)
class IsNot(Record):
    """The key has another value, or none; with no value, it exists."""

    key: Key
    value: Value | None


@dataclass(frozen=True, slots=True)
class AtLeast(Record):
    """The balance of the account is not below this."""

    account: AccountId
    balance: Balance


@dataclass(frozen=True, slots=True)
class AtMost(Record):
    """The balance of the account is not above this."""

    account: AccountId
    balance: Balance


Condition = Annotated[
    Union[Is, IsNot, AtLeast, AtMost],
    Tagged({1: Is, 2: IsNot, 3: AtLeast, 4: AtMost}),
]


@dataclass(frozen=True, slots=True)
class Put(Record):
    """Writes a value."""

    key: Key
    value: Value


@dataclass(frozen=True, slots=True)
class Delete(Bare):
    """Removes a key."""

    key: Key


@dataclass(frozen=True, slots=True)
class Append(Record):
    """Adds bytes at the end of a value."""

    key: Key
    value: Value


@dataclass(frozen=True, slots=True)
class Add(Record):
    """Adds to a value that is a decimal number."""

    key: Key
    delta: I64


@dataclass(frozen=True, slots=True)
class Swap(Record):
    """Exchanges what two keys hold."""

    left: Key
    right: Key


@dataclass(frozen=True, slots=True)
class Get(Bare):
    """Reads a key."""

    key: Key


@dataclass(frozen=True, slots=True)
class Scan(Record):
    """Reads the keys of one part, from one of them up to another, which is not read."""

    from_: Key
    to: Key | None = None
    limit: U32 = 1024


@dataclass(frozen=True, slots=True)
class Read(Bare):
    """Reads an account."""

    account: AccountId


Operation = Annotated[
    Union[Transfer, Put, Delete, Append, Add, Swap, Get, Scan, Read],
    Tagged({1: Transfer, 2: Put, 3: Delete, 4: Append, 5: Add, 6: Swap, 7: Get, 8: Scan, 9: Read}),
]


@dataclass(frozen=True, slots=True)
class Transaction(Record):
    """Conditions and operations that take effect together, or not at all."""

    id: TransferId
    conditions: tuple[Condition, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True, slots=True)
class Row(Record):
    """A key and its value."""

    key: Key
    value: Value


@dataclass(frozen=True, slots=True)
class Rows(Record):
    """What a scan found, and where to go on."""

    rows: tuple[Row, ...]
    next: Key | None


@dataclass(frozen=True, slots=True)
class Got(Bare):
    """What a key holds."""

    value: Value | None


@dataclass(frozen=True, slots=True)
class Added(Bare):
    """What an addition came to."""

    number: I64


@dataclass(frozen=True, slots=True)
class Length(Bare):
    """How long a value is after something was appended."""

    length: U64


@dataclass(frozen=True, slots=True)
class Swapped(Record):
    """What the two keys of a swap held before."""

    left: Value | None
    right: Value | None


Reply = Annotated[
    Union[Nothing, Got, Account, Rows, Added, Length, Swapped],
    Tagged({1: Nothing, 2: Got, 3: Account, 4: Rows, 5: Added, 6: Length, 7: Swapped}),
]


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
class TxnId(Record):
    """The identity of a transfer or transaction."""

    id: TransferId
    first: AccountId


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


@dataclass(frozen=True, slots=True)
class Refused(Record):
    """No answer: to be sent again, as the reason says."""

    why: Why
    leader: NodeId | None
    after: Span


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


# Of the calls of operators, those that a client's tests have a use for.

OperatorCall = Annotated[
    Union[NodeStatusCall, AccountsCall, OutcomesCall, HandOverCall],
    Tagged({3: NodeStatusCall, 4: AccountsCall, 10: OutcomesCall, 12: HandOverCall}),
]


OperatorAnswer = Annotated[
    Union[NodeStatus, AccountsPage, OutcomesPage, HandOverDone],
    Tagged({3: NodeStatus, 4: AccountsPage, 10: OutcomesPage, 12: HandOverDone}),
]


@dataclass(frozen=True, slots=True)
class Operator(Bare):
    """A call of an operator, answered by the node that is asked."""

    call: OperatorCall


@dataclass(frozen=True, slots=True)
class Operated(Bare):
    """The answer to an operator."""

    answer: OperatorAnswer


Call = Annotated[
    Union[ClientCommand, ReadCall, FenceCall, LookupCall, MapCall, Operator, QueryCall],
    Tagged({1: ClientCommand, 2: ReadCall, 3: FenceCall, 4: LookupCall, 5: MapCall, 6: Operator, 7: QueryCall}),
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
        }
    ),
]
