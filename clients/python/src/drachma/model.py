"""Accounts, keys, transactions and lists: every record with its fields in the order of the wire."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, TypeAlias, Union

from .codec import I64, U16, U32, U64, U128, Bare, Names, Record, Sum, Tagged

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
    PENDING_NOT_FOUND = 14
    PENDING_ALREADY_POSTED = 15
    PENDING_ALREADY_VOIDED = 16
    PENDING_EXPIRED = 17
    EXCEEDS_PENDING_AMOUNT = 18
    PENDING_DIFFERENT_ACCOUNTS = 19
    LINKED_EVENT_FAILED = 20
    LINKED_EVENT_CHAIN_OPEN = 21


class Verdict(IntEnum):
    """That something took effect."""

    COMMITTED = 0


class NotYet(IntEnum):
    """How one try ended that was not the last word."""

    RETRY = 64
    MOVED = 65
    UNAVAILABLE = 66
    UNKNOWN = 67


# What became of an id.
Outcome = Annotated[Union[Verdict, Reason], Names()]
# How one try of a transfer or transaction ended.
TransferResult = Annotated[Union[Verdict, Reason, NotYet], Names()]


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
class _KeyIs(Record):
    """A key, and a value or none."""

    key: Key
    value: Value | None


class Is(_KeyIs):
    """The key has this value; with none, it does not exist."""

    __slots__ = ()


class IsNot(_KeyIs):
    """The key has another value, or none; with no value, it exists."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _BalanceIs(Record):
    """An account, and a balance."""

    account: AccountId
    balance: Balance


class AtLeast(_BalanceIs):
    """The balance of the account is not below this."""

    __slots__ = ()


class AtMost(_BalanceIs):
    """The balance of the account is not above this."""

    __slots__ = ()


Condition = Annotated[
    Union[Is, IsNot, AtLeast, AtMost],
    Tagged({1: Is, 2: IsNot, 3: AtLeast, 4: AtMost}),
]


@dataclass(frozen=True, slots=True)
class _KeyValue(Record):
    """A key and a value."""

    key: Key
    value: Value


class Put(_KeyValue):
    """Writes a value."""

    __slots__ = ()


class Append(_KeyValue):
    """Adds bytes at the end of a value."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class _OneKey(Bare):
    """A key."""

    key: Key


class Delete(_OneKey):
    """Removes a key."""

    __slots__ = ()


class Get(_OneKey):
    """Reads a key."""

    __slots__ = ()


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
class Scan(Record):
    """Reads the keys of one part, from one of them up to another, which is not read."""

    from_: Key
    to: Key | None = None
    limit: U32 = 1024


@dataclass(frozen=True, slots=True)
class _OneAccount(Bare):
    """An account."""

    account: AccountId


class Read(_OneAccount):
    """Reads an account."""

    __slots__ = ()


class Close(_OneAccount):
    """Closes an account: it takes no transfers any more."""

    __slots__ = ()


class Open(_OneAccount):
    """Opens an account that is closed."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Pend(Record):
    """Reserves the amount of a transfer; with a timeout (0 is none), for so many microseconds."""

    transfer: Transfer
    timeout: Span = 0


@dataclass(frozen=True, slots=True)
class Post(Record):
    """Posts what is pending, or as much of it as `amount`; the rest is released."""

    id: TransferId
    pending: TransferId
    debit: AccountId
    credit: AccountId
    amount: U128 | None = None


@dataclass(frozen=True, slots=True)
class Void(Record):
    """Releases what is pending."""

    id: TransferId
    pending: TransferId
    debit: AccountId
    credit: AccountId


class OfAccount(_OneAccount):
    """What was posted to an account."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class OfCode(Bare):
    """What was posted with this code."""

    code: U16


@dataclass(frozen=True, slots=True)
class OfUserData128(Bare):
    """What was posted with these 128 bits of user data."""

    data: U128


@dataclass(frozen=True, slots=True)
class OfUserData64(Bare):
    """What was posted with these 64 bits of user data."""

    data: U64


@dataclass(frozen=True, slots=True)
class OfUserData32(Bare):
    """What was posted with these 32 bits of user data."""

    data: U32


class OfPending(_OneAccount):
    """An account's pending transfers, ended or not."""

    __slots__ = ()


class OfBalances(_OneAccount):
    """An account's balances after each change, if it was created with `HISTORY`."""

    __slots__ = ()


ListOf = Annotated[
    Union[OfAccount, OfCode, OfUserData128, OfUserData64, OfUserData32, OfPending, OfBalances],
    Tagged(
        {
            1: OfAccount,
            2: OfCode,
            3: OfUserData128,
            4: OfUserData64,
            5: OfUserData32,
            6: OfPending,
            7: OfBalances,
        }
    ),
]


@dataclass(frozen=True, slots=True)
class List(Record):
    """Reads a page of a list; times are log times in microseconds."""

    of: ListOf
    newest: bool = False
    since: LogTime = 0
    until: LogTime | None = None
    from_: U64 | None = None
    limit: U32 = 1024


Operation = Annotated[
    Union[Transfer, Put, Delete, Append, Add, Swap, Get, Scan, Read, Pend, Post, Void, Close, Open, List],
    Tagged(
        {
            1: Transfer,
            2: Put,
            3: Delete,
            4: Append,
            5: Add,
            6: Swap,
            7: Get,
            8: Scan,
            9: Read,
            10: Pend,
            11: Post,
            12: Void,
            13: Close,
            14: Open,
            15: List,
        }
    ),
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


class Sides(IntEnum):
    """Which sides of a transfer a group has."""

    DEBIT = 1
    CREDIT = 2
    BOTH = 3


@dataclass(frozen=True, slots=True)
class Posted(Record):
    """A transfer that took effect, and when."""

    transfer: Transfer
    sides: Sides
    posted_at: LogTime


class PendingState(IntEnum):
    """What became of a pending transfer."""

    OPEN = 1
    POSTED = 2
    VOIDED = 3
    EXPIRED = 4


@dataclass(frozen=True, slots=True)
class PendingTransfer(Record):
    """A pending transfer, ended or not."""

    transfer: Transfer
    sides: Sides
    made_at: LogTime
    timeout: Span
    state: PendingState
    ended_at: LogTime
    posted: U128


@dataclass(frozen=True, slots=True)
class BalancesAt(Record):
    """An account's totals after a change."""

    account: AccountId
    transfer: TransferId
    at: LogTime
    debits_pending: U128
    debits_posted: U128
    credits_pending: U128
    credits_posted: U128


@dataclass(frozen=True, slots=True)
class PostedRows(Bare):
    """Rows of what was posted."""

    rows: tuple[Posted, ...]


@dataclass(frozen=True, slots=True)
class PendingRows(Bare):
    """Rows of pending transfers."""

    rows: tuple[PendingTransfer, ...]


@dataclass(frozen=True, slots=True)
class BalanceRows(Bare):
    """Rows of balances."""

    rows: tuple[BalancesAt, ...]


ListedRows = Annotated[
    Union[PostedRows, PendingRows, BalanceRows],
    Tagged({1: PostedRows, 2: PendingRows, 3: BalanceRows}),
]


@dataclass(frozen=True, slots=True)
class Listed(Record):
    """A page of a list, and where to go on."""

    rows: ListedRows
    next: U64 | None


Reply = Annotated[
    Union[Nothing, Got, Account, Rows, Added, Length, Swapped, Listed],
    Tagged({1: Nothing, 2: Got, 3: Account, 4: Rows, 5: Added, 6: Length, 7: Swapped, 8: Listed}),
]


@dataclass(frozen=True, slots=True)
class TxnId(Record):
    """The identity of a transfer or transaction."""

    id: TransferId
    first: AccountId
