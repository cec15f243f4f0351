"""Ids of transfers, transactions and sessions: by time, then by chance, so that they sort by time."""

from __future__ import annotations

import secrets
import time

_RANDOM_BITS = 80


def new_id() -> int:
    """A new id: 48 bits of milliseconds since 1970 and 80 random ones; never 0."""
    milliseconds = (time.time_ns() // 1_000_000) & ((1 << 48) - 1)
    return milliseconds << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
