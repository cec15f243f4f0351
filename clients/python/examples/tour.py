"""A tour of the client against a running cluster: `python tour.py HOST:PORT[,HOST:PORT...]`."""

from __future__ import annotations

import asyncio
import sys

import drachma
from drachma import Add, AtLeast, Balance, Get, Put, Read, Transfer


async def main(endpoints: str) -> None:
    """Moves money, settles an id, and writes keys together with a transfer."""
    async with await drachma.connect(endpoints, timeout=5) as client:
        identity = drachma.new_id()
        await client.transfer(1, 4000, 1, id=identity)
        print("balance of 4000:", await client.balance(4000))

        again = await client.transfer(1, 4000, 1, id=identity)
        print("sent again under its id, it was there already:", again.replayed)
        print("its outcome:", (await client.fence(identity, 1)).name)

        batch = [Transfer(drachma.new_id(), account, account + 3000, 1) for account in range(2, 10)]
        print("a batch over groups:", [result.status for result in await client.transfers(batch)])

        try:
            await client.transfer(1, 4000, 10**6)
        except drachma.Rejected as rejected:
            print("too much:", rejected.reason.name)

        try:
            done = await client.transact(
                [AtLeast(4000, Balance.of(1))],
                [Transfer(0, 4000, 1, 1), Put(b"tour/last", b"4000 to 1"), Add(b"tour/count", 1)],
            )
        except drachma.InvalidRequest:
            print("these nodes are too old for transactions and keys")
            return
        print("a transaction:", done.replies)
        print("one snapshot:", await client.query([Get(b"tour/last"), Get(b"tour/count"), Read(4000)]))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
