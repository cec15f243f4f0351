"""Transfers in two phases, chains, closed accounts and lists, on a real cluster of three groups."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import drachma
from conftest import RealCluster
from drachma import (
    HISTORY,
    NewAccount,
    OfAccount,
    OfCode,
    Pend,
    PendingState,
    Post,
    Posted,
    Reason,
    Rejected,
    Result,
    Transfer,
    Void,
    new_id,
)
from drachma.phases import chain_of


@pytest.fixture
async def client(nine: RealCluster) -> AsyncIterator[drachma.Client]:
    async with await drachma.connect(nine.endpoints, timeout=30) as client:
        yield client


async def reason(call: object) -> Reason:
    with pytest.raises(Rejected) as caught:
        await call  # type: ignore[misc]
    return caught.value.reason


async def totals(client: drachma.Client, account: int) -> tuple[int, int, int, int]:
    found = await client.read(account)
    assert found is not None
    return found.debits_pending, found.debits_posted, found.credits_pending, found.credits_posted


@pytest.mark.parametrize("credit", [702, 4702], ids=["one group", "two groups"])
async def test_a_pending_transfer_is_posted_in_part_or_voided_once(client: drachma.Client, credit: int) -> None:
    debit = credit - 1
    start = await totals(client, debit)
    pending = new_id()
    assert not (await client.pend(debit, credit, 10, id=pending)).replayed
    assert (await client.pend(debit, credit, 10, id=pending)).replayed
    assert await totals(client, debit) == (start[0] + 10, *start[1:])
    posting = new_id()
    await client.post(pending, debit, credit, 4, id=posting)
    assert (await client.post(pending, debit, credit, 4, id=posting)).replayed
    assert await totals(client, debit) == (start[0], start[1] + 4, *start[2:])
    assert await reason(client.post(pending, debit, credit)) is Reason.PENDING_ALREADY_POSTED
    other = new_id()
    await client.pend(debit, credit, 3, id=other)
    assert await reason(client.post(other, debit, credit, 4)) is Reason.EXCEEDS_PENDING_AMOUNT
    assert await reason(client.void(other, debit, credit + 1)) is Reason.PENDING_DIFFERENT_ACCOUNTS
    await client.void(other, debit, credit)
    assert await reason(client.void(other, debit, credit)) is Reason.PENDING_ALREADY_VOIDED
    assert await reason(client.void(new_id(), debit, credit)) is Reason.PENDING_NOT_FOUND
    assert await totals(client, debit) == (start[0], start[1] + 4, *start[2:])
    states = {row.transfer.id: (row.state, row.posted) async for row in client.pending(debit)}
    assert states == {pending: (PendingState.POSTED, 4), other: (PendingState.VOIDED, 0)}
    assert [row.transfer.id async for row in client.posted(debit)] == [posting]


async def test_a_pending_transfer_expires(client: drachma.Client) -> None:
    pending = new_id()
    await client.pend(711, 4711, 5, id=pending, expires=0.05)

    async def until_it_has() -> Reason:
        # The void of more than there is says what it is without ending it.
        while (why := await reason(client.post(pending, 711, 4711, 6))) is Reason.EXCEEDS_PENDING_AMOUNT:
            pass
        return why

    assert await asyncio.wait_for(until_it_has(), 30) is Reason.PENDING_EXPIRED
    (row,) = [row async for row in client.pending(711)]
    assert row.state is PendingState.EXPIRED


async def test_phases_stand_beside_other_operations(client: drachma.Client) -> None:
    pending = new_id()
    await client.transact([], [Pend(Transfer(pending, 721, 4721, 5), 0), drachma.Put(b"phase", b"1")])
    await client.transact([], [Post(0, pending, 721, 4721, 2), drachma.Put(b"phase", b"2")])
    assert [row.posted async for row in client.pending(721)] == [2]
    assert await client.get(b"phase") == b"2"


async def test_a_closed_account_takes_nothing_until_it_is_open(client: drachma.Client) -> None:
    pending = new_id()
    await client.pend(731, 4731, 1, id=pending)
    await client.close_account(4731)
    await client.close_account(4731)
    assert await reason(client.transfer(731, 4731, 1)) is Reason.CLOSED
    assert await reason(client.post(pending, 731, 4731)) is Reason.CLOSED
    await client.void(pending, 731, 4731)
    await client.open_account(4731)
    await client.transfer(731, 4731, 1)


def words(results: list[Result]) -> list[Reason | None]:
    return [result.reason for result in results]


async def test_chains_take_effect_whole_or_not_at_all(client: drachma.Client) -> None:
    start = [await client.balance(account) for account in (741, 742, 4741)]
    pending = new_id()
    batch: list[tuple[Transfer | Pend | Post | Void, bool]] = [
        (Transfer(new_id(), 741, 742, 1), True),
        (Transfer(new_id(), 742, 4741, 2), False),
        (Transfer(new_id(), 741, 742, 4), False),
        (Transfer(new_id(), 741, 742, 8), True),
        (Transfer(new_id(), 741, 742, 10**9), False),
        (Pend(Transfer(pending, 742, 4741, 1)), False),
        (Transfer(new_id(), 741, 742, 16), True),
    ]
    failed, is_open = Reason.LINKED_EVENT_FAILED, Reason.LINKED_EVENT_CHAIN_OPEN
    expected = [None, None, None, failed, Reason.EXCEEDS_CREDITS, None, is_open]
    first = await client.linked(batch)
    assert words(first) == expected
    assert [result.id for result in first[:2]] == [member.id for member, _ in batch[:2] if isinstance(member, Transfer)]
    end = [await client.balance(account) for account in (741, 742, 4741)]
    assert [after - before for after, before in zip(end, start, strict=True)] == [-5, 3, 2]
    # The same chains are the same transactions.
    again = await client.linked(batch)
    assert words(again) == expected
    assert all(result.replayed for result in again[:6])
    assert end == [await client.balance(account) for account in (741, 742, 4741)]
    await client.linked([(Void(new_id(), pending, 742, 4741), False)])


async def test_the_longest_chain_is_carried_out_and_a_longer_one_is_not(client: drachma.Client) -> None:
    def chain(length: int) -> list[tuple[Transfer, bool]]:
        return [(Transfer(new_id(), 751, 4751, 1), place < length - 1) for place in range(length)]

    before = await client.balance(4751)
    longest = chain(1_000)
    assert words(await client.linked(longest)) == [None] * 1_000
    too_long = words(await client.linked(chain(1_025)))
    assert too_long == [Reason.LINKED_EVENT_FAILED] * 1_024 + [Reason.TOO_LARGE]
    assert await client.balance(4751) == before + 1_000


def test_the_same_chain_has_the_same_id() -> None:
    one, other = Transfer(1, 2, 3, 4), Transfer(5, 6, 7, 8)
    assert chain_of([one, other]).id == chain_of([one, other]).id != chain_of([other, one]).id
    # Pinned: the Rust client makes the same of it.
    pinned = [Transfer(1, 1, 2, 1), Transfer(2, 1, 2, 1)]
    assert chain_of(pinned).id == 46361719837499378709282246372646211039
    assert chain_of([Pend(one)]).id == 1
    assert chain_of([Void(9, 1, 2, 3)]).id == 9


async def test_lists_go_page_by_page_in_both_directions(client: drachma.Client) -> None:
    account, code = 8_761, 61
    ids = [new_id() for _ in range(5)]
    for identity in ids:
        await client.transfer(account, 762, 1, id=identity, code=code)
    assert [row.transfer.id async for row in client.posted(account)] == ids
    assert [row.transfer.id async for row in client.posted(account, newest=True)] == ids[::-1]
    found: list[int] = []
    place: int | None = None
    while True:
        page = await client.list_page(drachma.List(OfAccount(account), limit=2, from_=place))
        assert isinstance(page.rows, drachma.model.PostedRows)
        found += [row.transfer.id for row in page.rows.rows]
        place = page.next
        if place is None:
            break
    assert found == ids
    # Both groups have each of them: once in the list of all.
    everywhere: list[Posted] = await client.posted_with(OfCode(code))
    assert [row.transfer.id for row in everywhere] == ids
    assert await reason(client.list_page(drachma.List(OfAccount(10**6)))) is Reason.NO_SUCH_ACCOUNT
    with pytest.raises(drachma.InvalidRequest):
        await client.list_page(drachma.List(OfCode(code)))


async def test_an_account_keeps_its_history_if_it_is_to(nine: RealCluster, single: RealCluster) -> None:
    async with await drachma.connect(single.endpoints, timeout=30) as client:
        source, kept = new_id(), new_id()
        await client.create_accounts([NewAccount(source, flags=0), NewAccount(kept, flags=HISTORY)])
        for amount in (1, 2, 3):
            await client.transfer(source, kept, amount)
        assert [row.credits_posted async for row in client.history(kept)] == [1, 3, 6]
        assert [row.credits_posted async for row in client.history(kept, newest=True)] == [6, 3, 1]
