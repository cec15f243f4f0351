"""Frames: a header of 20 bytes with length, checksum, kind and correlation id, and a body that is one value."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

import google_crc32c

from .codec import MalformedError

HEADER = 20
VERSION = 1
# Before `Welcome`, a frame of any kind has at most this, header included.
LARGEST_GREETING = 4 << 10
LARGEST = 4 << 20

_OUTER = struct.Struct(">II")
_INNER = struct.Struct(">HBBQ")


class Kind(IntEnum):
    """What the body of a frame is. The kinds between nodes are none of a client's."""

    HELLO = 1
    WELCOME = 2
    GOODBYE = 3
    REQUEST = 16
    RESPONSE = 17


class TooLargeError(MalformedError):
    """A frame over the limit of its kind."""


LIMITS = {
    Kind.HELLO: LARGEST_GREETING,
    Kind.WELCOME: LARGEST_GREETING,
    Kind.GOODBYE: LARGEST_GREETING,
    Kind.REQUEST: LARGEST,
    Kind.RESPONSE: LARGEST,
}


@dataclass(frozen=True)
class Header:
    """The header of a frame, checked but for its checksum, which covers the body, too."""

    size: int
    checksum: int
    kind: Kind
    correlation: int

    @property
    def body(self) -> int:
        """The length of the body."""
        return self.size - HEADER


def encode_frame(kind: Kind, correlation: int, body: bytes) -> bytes:
    """A whole frame."""
    size = HEADER + len(body)
    if size > LIMITS[kind]:
        raise TooLargeError(f"a {kind.name.lower()} of {size} bytes; at most {LIMITS[kind]} fit")
    inner = _INNER.pack(kind, VERSION, 0, correlation) + body
    return _OUTER.pack(len(inner), google_crc32c.value(inner)) + inner


def decode_header(data: bytes) -> Header:
    """Reads the first 20 bytes of a frame, before memory is taken for the rest."""
    if len(data) < HEADER:
        raise MalformedError("the header is cut off")
    length, checksum = _OUTER.unpack_from(data)
    number, version, flags, correlation = _INNER.unpack_from(data, _OUTER.size)
    try:
        kind = Kind(number)
    except ValueError as error:
        raise MalformedError(f"a frame of kind {number}") from error
    if version != VERSION or flags != 0:
        raise MalformedError(f"a frame of version {version} with flags {flags}")
    size = length + _OUTER.size
    if size < HEADER:
        raise MalformedError("a frame shorter than its header")
    if size > LIMITS[kind]:
        raise TooLargeError(f"a frame of {size} bytes")
    return Header(size, checksum, kind, correlation)


def check_body(header: Header, head: bytes, body: bytes) -> bytes:
    """The body, if the checksum of the header covers it."""
    if google_crc32c.extend(google_crc32c.value(head[_OUTER.size : HEADER]), body) != header.checksum:
        raise MalformedError("a wrong checksum")
    return body


def decode_frame(data: bytes) -> tuple[Header, bytes]:
    """A frame that is there as a whole: its header and its body."""
    header = decode_header(data)
    if len(data) != header.size:
        raise MalformedError(f"{len(data)} bytes for a frame of {header.size}")
    return header, check_body(header, data, data[HEADER:])
