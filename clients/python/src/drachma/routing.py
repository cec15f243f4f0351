"""Where accounts and keys live."""

from __future__ import annotations

from bisect import bisect_right

import xxhash

from .messages import GroupNodes, Hash, MapDone, NodeAddress, ShardMap

TOP = 1 << 128


def reserved_account(shard: int) -> int:
    """The account that stands for a shard's keys where an account is needed."""
    return TOP - 1 - shard


def part_of(key: bytes) -> bytes:
    """What decides where a key lives: the bytes before the first `/`."""
    return key.partition(b"/")[0]


class Routes:
    """One version of the map."""

    def __init__(self, done: MapDone) -> None:
        """Prepares the ranges for searching; they may come in any order."""
        self.map: ShardMap = done.map
        self.groups: dict[int, tuple[int, ...]] = {one.group: one.nodes for one in done.groups}
        self.addresses: dict[int, str] = {one.node: one.address for one in done.nodes}
        mode = done.map.mode
        self._ranges = (
            None
            if isinstance(mode, Hash)
            else sorted((one.first, one.last, shard) for shard, one in enumerate(mode.ranges))
        )

    @classmethod
    def of_map(cls, shard_map: ShardMap) -> Routes:
        """Routes that know shards but no nodes."""
        groups: tuple[GroupNodes, ...] = ()
        nodes: tuple[NodeAddress, ...] = ()
        return cls(MapDone(shard_map, groups, nodes))

    @property
    def epoch(self) -> int:
        """The version of this map."""
        return self.map.epoch

    @property
    def shards(self) -> int:
        """How many shards there are."""
        return len(self.map.owners)

    def shard_of_account(self, account: int) -> int | None:
        """The shard of an account; none if its id lies outside all ranges."""
        if TOP - 1 - account < self.shards:
            return TOP - 1 - account
        if self._ranges is None:
            return xxhash.xxh3_64_intdigest(account.to_bytes(16, "big")) % self.shards
        place = bisect_right(self._ranges, account, key=lambda one: one[0]) - 1
        if place >= 0:
            first, last, shard = self._ranges[place]
            if first <= account <= last:
                return shard
        return None

    def shard_of_key(self, key: bytes) -> int:
        """The shard of a key, in both modes."""
        return xxhash.xxh3_64_intdigest(part_of(key)) % self.shards

    def group_of_account(self, account: int) -> int | None:
        """The group of an account; none if it belongs to no shard."""
        shard = self.shard_of_account(account)
        return None if shard is None else self.map.owners[shard]

    def group_of_key(self, key: bytes) -> int:
        """The group of a key."""
        return self.map.owners[self.shard_of_key(key)]
