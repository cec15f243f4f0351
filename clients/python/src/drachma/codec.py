"""Values: from Python to MessagePack in its one valid form, and back, strictly.

The form of a value follows from its type. Types are described by Python annotations: the aliases below stand for the
numbers, `bytes`, `str` and `bool` for themselves, `T | None` for something or nothing, `tuple[T, ...]` for a list, an
`IntEnum` for one of several names (and a union annotated with `Names` for those of several), a dataclass derived from
`Record` for a record (its fields in order), one derived from `Bare` for its only field, and a union annotated with
`Tagged` for one of several records.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import cache
from typing import Annotated, Any, TypeVar, Union

import msgpack

T = TypeVar("T")

# The longest list of the protocol has 8,190 elements. Parsing takes memory for an announced array only up to this.
LONGEST_LIST = 8_190


class MalformedError(ValueError):
    """These bytes, or this Python value, are no value of that type."""


@dataclasses.dataclass(frozen=True)
class Number:
    """The annotation of a number: its bits, and whether it has a sign."""

    bits: int
    signed: bool = False


@dataclasses.dataclass(frozen=True)
class Sum:
    """The annotation of a number that is a sum of flags."""

    known: int


@dataclasses.dataclass(frozen=True)
class Names:
    """The annotation of a union of `IntEnum`s whose numbers differ: one name of any of them."""


@dataclasses.dataclass(frozen=True)
class Tagged:
    """The annotation of a union: the case of each number."""

    cases: Mapping[int, type]

    def __hash__(self) -> int:
        """Hashes by the cases, as `typing` needs it."""
        return hash(tuple(self.cases.items()))


U8 = Annotated[int, Number(8)]
U16 = Annotated[int, Number(16)]
U32 = Annotated[int, Number(32)]
U64 = Annotated[int, Number(64)]
U128 = Annotated[int, Number(128)]
I64 = Annotated[int, Number(64, signed=True)]


class Record:
    """The base of dataclasses that are an array of their fields, in order."""

    __slots__ = ()


class Bare:
    """The base of dataclasses with one field that stand for that field alone."""

    __slots__ = ()


@dataclasses.dataclass(frozen=True)
class _Form:
    """How one type turns into what `msgpack` packs, and back."""

    lower: Callable[[Any], Any]
    raise_: Callable[[Any], Any]


def encode(kind: Any, value: Any) -> bytes:
    """The one form of `value` as a value of type `kind`."""
    return typing.cast(bytes, msgpack.packb(form(kind).lower(value), use_bin_type=True))


def decode(kind: Callable[..., T] | Any, data: bytes) -> T:
    """The value of type `kind` that `data` is; `MalformedError` if it is none, or in another than its one form."""
    try:
        plain = msgpack.unpackb(
            data, raw=False, use_list=True, max_array_len=LONGEST_LIST, max_map_len=0, max_ext_len=0
        )
        value = form(kind).raise_(plain)
        again = msgpack.packb(plain, use_bin_type=True)
    except MalformedError:
        raise
    except Exception as error:
        raise MalformedError(f"not a value: {error}") from error
    # `msgpack` accepts longer forms of numbers and lengths; there is only one valid form, so it must come back.
    if again != data:
        raise MalformedError("not in the shortest form")
    return typing.cast(T, value)


@cache
def form(kind: Any) -> _Form:
    """The form of a type, made once."""
    origin = typing.get_origin(kind)
    if origin is Annotated:
        inner, *notes = typing.get_args(kind)
        for note in notes:
            if isinstance(note, Number):
                return _number(note)
            if isinstance(note, Names):
                return _names(*typing.get_args(inner))
            if isinstance(note, Sum):
                return _sum(note)
            if isinstance(note, Tagged):
                return _tagged(note)
        return form(inner)
    if origin in (Union, types.UnionType):
        inner, nothing = sorted(typing.get_args(kind), key=lambda one: one is type(None))
        if nothing is not type(None):
            raise TypeError(f"a union without tags: {kind}")
        return _optional(form(inner))
    if origin is tuple:
        return _list(form(typing.get_args(kind)[0]))
    if kind in (bytes, str, bool):
        check = _exactly(kind)
        return _Form(check, check)
    if isinstance(kind, type) and issubclass(kind, IntEnum):
        return _names(kind)
    if isinstance(kind, type) and issubclass(kind, Bare):
        return _bare(kind)
    if isinstance(kind, type) and issubclass(kind, Record):
        return _record(kind)
    raise TypeError(f"no type of the wire: {kind}")


def _exactly(kind: type) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise MalformedError(f"{value!r:.60} for {kind.__name__}")
        return value

    return check


def _number(number: Number) -> _Form:
    low = -(1 << (number.bits - 1)) if number.signed else 0
    high = (1 << (number.bits - 1) if number.signed else 1 << number.bits) - 1

    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise MalformedError(f"{value!r:.60} for a number of {number.bits} bits")
        return int(value)

    if number.bits <= 64:
        return _Form(check, check)

    def lower(value: Any) -> int | bytes:
        whole = check(value)
        return whole if whole < 1 << 64 else whole.to_bytes(16, "big")

    def raise_(plain: Any) -> int:
        if type(plain) is bytes:
            if len(plain) != 16 or not any(plain[:8]):
                raise MalformedError(f"a number in {len(plain)} bytes that has a shorter form, or none")
            return int.from_bytes(plain, "big")
        return check(plain)

    return _Form(lower, raise_)


def _sum(known: Sum) -> _Form:
    def check(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < 0 or value & ~known.known:
            raise MalformedError(f"{value!r:.60} for flags")
        return int(value)

    return _Form(check, check)


def _optional(inner: _Form) -> _Form:
    lower, raise_ = inner.lower, inner.raise_
    return _Form(
        lambda value: None if value is None else lower(value),
        lambda plain: None if plain is None else raise_(plain),
    )


def _list(inner: _Form) -> _Form:
    lower, raise_ = inner.lower, inner.raise_

    def raise_all(plain: Any) -> tuple[Any, ...]:
        if type(plain) is not list:
            raise MalformedError(f"{plain!r:.60} for a list")
        return tuple([raise_(one) for one in plain])

    return _Form(lambda value: [lower(one) for one in value], raise_all)


def _names(*kinds: type[IntEnum]) -> _Form:
    known = {int(one): one for kind in kinds for one in kind}
    called = " or ".join(kind.__name__ for kind in kinds)

    def lower(value: Any) -> int:
        if type(value) not in kinds:
            raise MalformedError(f"{value!r:.60} for {called}")
        return int(value)

    def raise_(plain: Any) -> IntEnum:
        if type(plain) is not int or plain not in known:
            raise MalformedError(f"{plain!r:.60} for {called}")
        return known[plain]

    return _Form(lower, raise_)


def _fields(kind: type) -> list[tuple[str, _Form]]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return [(field.name, form(hints[field.name])) for field in dataclasses.fields(kind)]


def _bare(kind: Any) -> _Form:
    ((name, inner),) = _fields(kind)
    lower, raise_ = inner.lower, inner.raise_
    return _Form(lambda value: lower(getattr(value, name)), lambda plain: kind(raise_(plain)))


def _record(kind: Any) -> _Form:
    fields = _fields(kind)

    def lower(value: Any) -> list[Any]:
        if type(value) is not kind:
            raise MalformedError(f"{value!r:.60} for {kind.__name__}")
        return [inner.lower(getattr(value, name)) for name, inner in fields]

    def raise_(plain: Any) -> Any:
        if type(plain) is not list or len(plain) != len(fields):
            raise MalformedError(f"{plain!r:.60} for {kind.__name__}, which has {len(fields)} fields")
        return kind(*[inner.raise_(one) for (_, inner), one in zip(fields, plain, strict=True)])

    return _Form(lower, raise_)


def _tagged(tagged: Tagged) -> _Form:
    forms = {tag: form(case) for tag, case in tagged.cases.items()}
    tags = {case: tag for tag, case in tagged.cases.items()}

    def lower(value: Any) -> list[Any]:
        tag = tags.get(type(value))
        if tag is None:
            raise MalformedError(f"{value!r:.60} is none of the cases")
        return [tag, forms[tag].lower(value)]

    def raise_(plain: Any) -> Any:
        if type(plain) is not list or len(plain) != 2 or type(plain[0]) is not int or plain[0] not in forms:
            raise MalformedError(f"{plain!r:.60} is none of the cases")
        return forms[plain[0]].raise_(plain[1])

    return _Form(lower, raise_)
