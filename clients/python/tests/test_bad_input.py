"""What is malformed, too large, or at a limit: byte by byte, against a real node."""

from __future__ import annotations

import asyncio
from typing import Any

import google_crc32c
import pytest

import drachma
from conftest import RealCluster
from drachma import messages as m
from drachma import model as o
from drachma import new_id
from drachma.codec import encode
from drachma.connection import Connection, read_frame
from drachma.frames import LARGEST, LARGEST_GREETING, Kind, encode_frame
from drachma.messages import CommandKind, Refusal, Why

MOMENT = 5_000_000


def frame_of(kind: int, correlation: int, body: bytes, version: int = 1, flags: int = 0) -> bytes:
    """A frame with a right checksum, whatever else is wrong with it."""
    good = bytearray(encode_frame(Kind.REQUEST, correlation, body))
    good[8:10] = kind.to_bytes(2, "big")
    good[10], good[11] = version, flags
    return with_checksum(bytes(good))


def with_checksum(frame: bytes) -> bytes:
    checksum: int = google_crc32c.value(frame[8:])
    return frame[:4] + checksum.to_bytes(4, "big") + frame[8:]


def hello(lowest: int = 1, highest: int = 1, cluster: int | None = None, caller: int = 2) -> bytes:
    return encode(m.Hello, m.Hello(lowest, highest, cluster, m.Caller(caller)))


async def greeting(cluster: RealCluster, data: bytes) -> tuple[Kind, Any]:
    """What a node answers to the first bytes of a connection."""
    host, port = cluster.endpoints[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(data)
        header, body = await asyncio.wait_for(read_frame(reader), 10)
        kinds: dict[Kind, Any] = {Kind.WELCOME: m.Welcome, Kind.GOODBYE: m.Goodbye}
        value: Any = drachma.codec.decode(kinds[header.kind], body)
        if header.kind is Kind.GOODBYE:
            assert await asyncio.wait_for(reader.read(), 10) == b""
        return header.kind, value
    finally:
        writer.close()


async def refusal(connection: Connection, data: bytes) -> Refusal:
    """Why a node ends a connection after these bytes."""
    connection.write(data)
    await asyncio.wait_for(connection.closed(), 10)
    assert isinstance(connection.error, drachma.SaidGoodbye), connection.error
    return connection.error.refusal


async def test_hellos(single: RealCluster) -> None:
    kind, welcome = await greeting(single, encode_frame(Kind.HELLO, 0, hello()))
    assert kind is Kind.WELCOME
    for data, expected in (
        (encode_frame(Kind.HELLO, 0, hello(2, 9)), Refusal.VERSION),
        (encode_frame(Kind.HELLO, 0, hello(cluster=welcome.cluster ^ 1)), Refusal.CLUSTER),
        (encode_frame(Kind.HELLO, 0, hello()[:-1]), Refusal.MALFORMED),
        (encode_frame(Kind.HELLO, 0, hello() + b"\x00"), Refusal.MALFORMED),
        (encode_frame(Kind.REQUEST, 1, encode(m.Request, m.Request(0, m.MapCall(0)))), Refusal.MALFORMED),
        (frame_of(99, 0, b""), Refusal.MALFORMED),
        (frame_of(1, 0, hello(), flags=1), Refusal.MALFORMED),
        (encode_frame(Kind.HELLO, 0, hello(caller=1)), Refusal.STRANGER),
    ):
        kind, goodbye = await greeting(single, data)
        assert kind is Kind.GOODBYE, data.hex()
        assert goodbye.refusal is expected, data.hex()
    kind, welcome = await greeting(single, encode_frame(Kind.HELLO, 0, hello(1, 9)))
    assert kind is Kind.WELCOME
    assert welcome.version == 1
    # What versions the caller speaks is for the body of a hello to say, not for its header.
    for version in (0, 2, 255):
        kind, _ = await greeting(single, frame_of(1, 0, hello(), version=version))
        assert kind is Kind.WELCOME


async def test_a_first_frame_over_its_limit_is_too_large(single: RealCluster) -> None:
    padded = hello().ljust(LARGEST_GREETING - 20, b"\xc0")
    _, goodbye = await greeting(single, frame_of(1, 0, padded))
    assert goodbye.refusal is Refusal.MALFORMED
    _, goodbye = await greeting(single, frame_of(1, 0, padded + b"\xc0"))
    assert goodbye.refusal is Refusal.TOO_LARGE


async def test_frames_that_are_no_frames(single: RealCluster) -> None:
    good = encode_frame(Kind.REQUEST, 1, encode(m.Request, m.Request(0, m.MapCall(0))))
    flipped = bytearray(good)
    flipped[-1] ^= 1
    for data, expected in (
        (bytes(flipped), Refusal.MALFORMED),
        (frame_of(99, 1, b""), Refusal.MALFORMED),
        (frame_of(17, 1, good[20:]), Refusal.MALFORMED),
        (frame_of(32, 1, good[20:]), Refusal.MALFORMED),
        (frame_of(16, 1, good[20:], version=2), Refusal.MALFORMED),
        (frame_of(16, 1, good[20:], flags=1), Refusal.MALFORMED),
        ((11).to_bytes(4, "big") + good[4:], Refusal.MALFORMED),
        (encode_frame(Kind.REQUEST, 1, good[20:] + b"\x00"), Refusal.MALFORMED),
        (encode_frame(Kind.REQUEST, 1, b"\x92\x00\x92\x63\x90"), Refusal.MALFORMED),
        (encode_frame(Kind.REQUEST, 1, b"\xdd\xff\xff\xff\xff"), Refusal.MALFORMED),
        ((LARGEST - 8 + 1).to_bytes(4, "big") + good[4:], Refusal.TOO_LARGE),
        (encode_frame(Kind.HELLO, 0, hello()), Refusal.MALFORMED),
    ):
        connection = await Connection.open(single.endpoints[0])
        assert await refusal(connection, data) is expected, data[:40].hex()


async def test_a_client_does_not_send_what_does_not_fit(single: RealCluster) -> None:
    connection = await Connection.open(single.endpoints[0])
    body = bytes(LARGEST)
    with pytest.raises(drachma.InvalidRequest):
        connection.send(1, m.ClientCommand(CommandKind.TRANSFERS, None, 1, MOMENT, 1, 1, body))
    # The largest frame passes, and its body is found not to be what the envelope says.
    largest = m.ClientCommand(CommandKind.TRANSFERS, None, 1, MOMENT, 1, 1, bytes(LARGEST - 64))
    room = LARGEST - len(encode_frame(Kind.REQUEST, 1, encode(m.Request, m.Request(1, largest))))
    largest = m.ClientCommand(CommandKind.TRANSFERS, None, 1, MOMENT, 1, 1, bytes(LARGEST - 64 + room))
    frame = encode_frame(Kind.REQUEST, 1, encode(m.Request, m.Request(1, largest)))
    assert len(frame) == LARGEST
    answer = await send(connection, 1, largest)
    assert isinstance(answer, m.Refused)
    assert answer.why is Why.MALFORMED
    connection.close()


async def send(connection: Connection, group: int, call: Any) -> Any:
    """Asks, again if the node does not lead at this moment: an election is over within some round trips."""
    while True:
        answer = await asyncio.wait_for(connection.send(group, call), 10)
        if not isinstance(answer, m.Refused) or answer.why is not Why.NOT_LEADER:
            return answer


async def ask(connection: Connection, kind: CommandKind, body: bytes, count: int, **more: Any) -> Any:
    session, sequence = more.get("session"), more.get("sequence", 1)
    command = m.ClientCommand(kind, session, sequence, more.get("deadline", MOMENT), 1, count, body)
    return await send(connection, more.get("group", 1), command)


async def test_bodies_that_are_not_what_the_envelope_says(single: RealCluster) -> None:
    connection = await Connection.open(single.endpoints[0])
    one = encode(tuple[o.Transfer, ...], [o.Transfer(new_id(), 301, 302, 1)])
    known = await ask(connection, CommandKind.REGISTER, encode(o.SessionId, new_id()), 1, sequence=0)
    for kind, body, count in (
        (CommandKind.TRANSFERS, one, 2),
        (CommandKind.TRANSFERS, one, 0),
        (CommandKind.TRANSFERS, one[:-1], 1),
        (CommandKind.TRANSFERS, one + b"\x00", 1),
        (CommandKind.TRANSFERS, b"", 1),
        (CommandKind.TRANSFERS, b"\x90", 1),
        (CommandKind.TRANSACT, one[:-1], 1),
        (CommandKind.REGISTER, b"\xc0", 1),
        (CommandKind.CREATE_ACCOUNTS, b"\x91\x94\x01\x01\x01\x10", 1),
    ):
        session = known if kind is CommandKind.CREATE_ACCOUNTS else None
        sequence = 0 if kind is CommandKind.REGISTER else 1
        answer = await ask(connection, kind, body, count, session=session, sequence=sequence)
        assert isinstance(answer, m.Refused), (kind, body.hex(), count, answer)
        assert answer.why is Why.MALFORMED, (kind, body.hex(), count)
    # Nothing is a list, too.
    assert await ask(connection, CommandKind.TRANSFERS, b"\x90", 0) == m.TransfersDone(())
    connection.close()


async def test_a_batch_at_the_limit_and_one_past_it(single: RealCluster) -> None:
    connection = await Connection.open(single.endpoints[0])
    widest = (1 << 128) - 1
    for count, fits in ((8_190, True), (8_191, False)):
        transfers = [o.Transfer(widest - i, 1, 2, widest, 1, 1, widest) for i in range(count)]
        answer = await ask(connection, CommandKind.TRANSFERS, encode(tuple[o.Transfer, ...], transfers), count)
        if fits:
            assert isinstance(answer, m.TransfersDone)
            assert len(answer.items) == count
        else:
            assert isinstance(answer, m.Refused)
            assert answer.why is Why.MALFORMED
    connection.close()


async def test_sessions(single: RealCluster) -> None:
    connection = await Connection.open(single.endpoints[0])
    body = encode(tuple[o.NewAccount, ...], [o.NewAccount(new_id())])

    async def create(session: m.Session | None, sequence: int, data: bytes = body) -> Any:
        return await ask(connection, CommandKind.CREATE_ACCOUNTS, data, 1, session=session, sequence=sequence)

    unknown = await create(m.Session(new_id(), 1), 1)
    assert unknown.why is Why.UNKNOWN_SESSION
    identity = encode(o.SessionId, new_id())
    session = await ask(connection, CommandKind.REGISTER, identity, 1, sequence=0)
    assert isinstance(session, m.Session)
    # Registered again it is another session, with a window of its own; the first remains.
    again = await ask(connection, CommandKind.REGISTER, identity, 1, sequence=0)
    assert again.id == session.id
    assert again.registered > session.registered
    wrong = await create(m.Session(session.id, again.registered + 1), 1)
    assert wrong.why is Why.UNKNOWN_SESSION
    assert await create(session, 1) == m.CreatedDone((o.CreateResult.CREATED,))
    # The same number again is the same command, whatever its body.
    assert await create(session, 1) == m.CreatedDone((o.CreateResult.CREATED,))
    assert await create(session, 2_000) == m.CreatedDone((o.CreateResult.EXISTS,))
    assert (await create(session, 2_000 - 1_024)).why is Why.SESSION_WINDOW
    assert await create(session, 2_000 - 1_023) == m.CreatedDone((o.CreateResult.EXISTS,))
    connection.close()


async def test_amounts_that_overflow(single: RealCluster) -> None:
    async with await drachma.connect(single.endpoints) as client:
        left, right = new_id(), new_id()
        await client.create_accounts([o.NewAccount(left, flags=0), o.NewAccount(right, flags=0)])
        await client.transfer(left, right, (1 << 128) - 1)
        with pytest.raises(drachma.Rejected) as caught:
            await client.transfer(left, right, 1)
        assert caught.value.reason is o.Reason.OVERFLOW


async def test_other_groups_and_deadlines(single: RealCluster) -> None:
    connection = await Connection.open(single.endpoints[0])
    assert (await connection.send(9, m.ReadCall(1, MOMENT, 1))).why is Why.WRONG_NODE
    # A command with no time left is over at once; a read that can be answered at once is.
    transfer = encode(tuple[o.Transfer, ...], [o.Transfer(new_id(), 303, 304, 1)])
    assert (await ask(connection, CommandKind.TRANSFERS, transfer, 1, deadline=0)).why is Why.EXPIRED
    assert (await send(connection, 1, m.FenceCall(o.TxnId(new_id(), 303), 0))).why is Why.EXPIRED
    for epoch in (0, 1, 99):
        read = await send(connection, 1, m.ReadCall(303, MOMENT, epoch))
        assert isinstance(read, m.ReadDone)
        assert read.account is not None
        assert read.account.balance == 1_000
    done = await connection.send(0, m.MapCall(1))
    assert isinstance(done, m.MapDone)
    assert done.map.epoch == 1
    connection.close()


async def test_correlation_ids_are_the_clients(single: RealCluster) -> None:
    host, port = single.endpoints[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(encode_frame(Kind.HELLO, 0, hello()))
    await read_frame(reader)
    wanted = {0, 7, (1 << 64) - 1}
    body = encode(m.Request, m.Request(0, m.MapCall(0)))
    writer.write(b"".join(encode_frame(Kind.REQUEST, one, body) for one in wanted))
    assert {(await asyncio.wait_for(read_frame(reader), 5))[0].correlation for _ in wanted} == wanted
    writer.close()
