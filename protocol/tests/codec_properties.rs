//! Every value comes back from its bytes, and whatever is read from bytes has exactly these bytes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod values;

use drachma_protocol::ledger::model::{Account, BATCH_LIMIT, NewAccount, Transfer};
use drachma_protocol::log::record::Record;
use drachma_protocol::message::client::{Call, Request, Response};
use drachma_protocol::message::command::{ClientCommand, Command, CommandKind, Content, Entry, FORMAT};
use drachma_protocol::message::hello::{Goodbye, Hello, Welcome};
use drachma_protocol::message::paxos::{Accept, PaxosMessage};
use drachma_protocol::message::txn::TxnMessage;
use drachma_protocol::wire::codec::{Decode, DecodeError, Encode, from_slice, to_vec};
use drachma_protocol::wire::frame::{self, FrameError, Kind, LIMIT_CLIENT, LIMIT_PEER};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Reads `bytes` as a `T`: an error, or a value that has exactly these bytes.
fn reads_strictly<T: Decode + Encode>(bytes: &[u8]) -> Result<bool, TestCaseError> {
    match from_slice::<T>(bytes) {
        Err(_) => Ok(false),
        Ok(value) => {
            prop_assert_eq!(to_vec(&value), bytes, "a second form of one value");
            Ok(true)
        }
    }
}

/// The same for every type that comes from outside.
fn all_read_strictly(bytes: &[u8]) -> Result<(), TestCaseError> {
    reads_strictly::<Request>(bytes)?;
    reads_strictly::<Response>(bytes)?;
    reads_strictly::<Entry>(bytes)?;
    reads_strictly::<TxnMessage>(bytes)?;
    reads_strictly::<PaxosMessage>(bytes)?;
    reads_strictly::<Hello>(bytes)?;
    reads_strictly::<Welcome>(bytes)?;
    reads_strictly::<Goodbye>(bytes)?;
    reads_strictly::<Record>(bytes)?;
    reads_strictly::<Vec<Transfer>>(bytes)?;
    reads_strictly::<Vec<NewAccount>>(bytes)?;
    Ok(())
}

/// A change to some bytes.
#[derive(Clone, Debug)]
enum Change {
    Set(Index, u8),
    Remove(Index),
    Insert(Index, u8),
    Cut(Index),
}

/// The longer forms of the number, length or byte string that may begin with `byte`.
fn longer_forms(byte: u8) -> Vec<Vec<u8>> {
    let padded = |head: &[u8], zeros: usize, last: u8| [head, &vec![0; zeros], &[last]].concat();
    match byte {
        0x00..=0x7f => vec![
            padded(&[0xcc], 0, byte),
            padded(&[0xcd], 1, byte),
            padded(&[0xce], 3, byte),
            padded(&[0xcf], 7, byte),
            padded(&[0xc4, 16], 15, byte),
        ],
        0x90..=0x9f => vec![padded(&[0xdc], 1, byte & 15), padded(&[0xdd], 3, byte & 15)],
        0xa0..=0xbf => vec![padded(&[0xd9], 0, byte & 31), padded(&[0xda], 1, byte & 31)],
        // The length follows.
        0xc4 => vec![vec![0xc5, 0], vec![0xc6, 0, 0, 0]],
        0xcc => vec![vec![0xcd, 0]],
        0xcd => vec![vec![0xce, 0, 0]],
        0xce => vec![vec![0xcf, 0, 0, 0, 0], [&[0xc4, 16][..], &[0; 12]].concat()],
        0xcf => vec![[&[0xc4, 16][..], &[0; 8]].concat()],
        _ => Vec::new(),
    }
}

/// Every number and every length of a value has one form: with a longer one it is refused.
fn has_one_form<T: Decode + Encode>(bytes: &[u8]) -> Result<(), TestCaseError> {
    for at in 0..bytes.len() {
        for form in longer_forms(bytes[at]) {
            reads_strictly::<T>(&[&bytes[..at], &form, &bytes[at + 1..]].concat())?;
        }
    }
    Ok(())
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), interesting()).prop_map(|(at, byte)| Change::Set(at, byte)),
        any::<Index>().prop_map(Change::Remove),
        (any::<Index>(), interesting()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        any::<Index>().prop_map(Change::Cut),
    ]
}

/// Bytes of which many mean something in MessagePack.
fn interesting() -> impl Strategy<Value = u8> {
    prop_oneof![any::<u8>(), 0x90u8..=0x9f, 0xc0u8..=0xdf, 0u8..16]
}

fn changed(mut bytes: Vec<u8>, changes: &[Change]) -> Vec<u8> {
    for change in changes {
        match change {
            Change::Insert(at, byte) => bytes.insert(at.index(bytes.len() + 1), *byte),
            _ if bytes.is_empty() => {}
            Change::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            Change::Remove(at) => drop(bytes.remove(at.index(bytes.len()))),
            Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
        }
    }
    bytes
}

/// A value comes back, and so do, or are refused, all small changes of its bytes.
fn comes_back<T: Decode + Encode + PartialEq + std::fmt::Debug>(
    value: &T,
    changes: &[Change],
) -> Result<(), TestCaseError> {
    let bytes = to_vec(value);
    let read = from_slice::<T>(&bytes);
    prop_assert_eq!(read.as_ref(), Ok(value));
    let mut longer = bytes.clone();
    longer.push(0);
    prop_assert_eq!(from_slice::<T>(&longer), Err(DecodeError::Trailing));
    for cut in 0..bytes.len() {
        prop_assert!(from_slice::<T>(&bytes[..cut]).is_err(), "cut at {}", cut);
    }
    has_one_form::<T>(&bytes)?;
    reads_strictly::<T>(&changed(bytes, changes))?;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests_come_back(value in values::request(), changes in vec(change(), 1..4)) {
        comes_back(&value, &changes)?;
    }

    #[test]
    fn responses_come_back(value in values::response(), changes in vec(change(), 1..4)) {
        comes_back(&value, &changes)?;
    }

    #[test]
    fn entries_come_back(value in values::entry(), changes in vec(change(), 1..4)) {
        comes_back(&value, &changes)?;
    }

    #[test]
    fn transaction_messages_come_back(value in values::txn_message(), changes in vec(change(), 1..4)) {
        comes_back(&value, &changes)?;
    }

    #[test]
    fn paxos_messages_come_back(value in values::paxos_message(), changes in vec(change(), 1..4)) {
        // They cannot be compared; their bytes can.
        let bytes = to_vec(&value);
        prop_assert!(reads_strictly::<PaxosMessage>(&bytes)?);
        for cut in 0..bytes.len() {
            prop_assert!(from_slice::<PaxosMessage>(&bytes[..cut]).is_err());
        }
        has_one_form::<PaxosMessage>(&bytes)?;
        reads_strictly::<PaxosMessage>(&changed(bytes, &changes))?;
    }

    #[test]
    fn the_beginning_of_a_connection_comes_back(
        hello in values::hello(),
        welcome in values::welcome(),
        goodbye in values::goodbye(),
        changes in vec(change(), 1..4),
    ) {
        comes_back(&hello, &changes)?;
        comes_back(&welcome, &changes)?;
        comes_back(&goodbye, &changes)?;
    }

    #[test]
    fn any_bytes_are_refused_or_the_one_form_of_a_value(bytes in vec(any::<u8>(), 0..200)) {
        all_read_strictly(&bytes)?;
    }

    #[test]
    fn any_bytes_that_look_like_messages_are_refused_or_the_one_form_of_a_value(bytes in vec(interesting(), 0..60)) {
        all_read_strictly(&bytes)?;
    }

    #[test]
    fn any_bytes_as_a_frame_are_refused_or_whole(bytes in vec(any::<u8>(), 0..100), limit in 0usize..200) {
        if let Ok(Some(length)) = frame::length(&bytes, limit) {
            prop_assert!((frame::HEADER..=limit).contains(&length));
        }
        if let Ok(frame) = frame::decode(&bytes) {
            prop_assert_eq!(frame.body.len() + frame::HEADER, bytes.len());
        }
    }

    #[test]
    fn a_frame_in_pieces_is_told_from_its_first_four_bytes(value in values::request(), correlation in any::<u64>()) {
        let mut bytes = Vec::new();
        frame::encode(&mut bytes, Kind::Request, correlation, &value);
        for cut in 0..bytes.len() {
            let length = frame::length(&bytes[..cut], LIMIT_CLIENT);
            prop_assert_eq!(length, Ok((cut >= 4).then_some(bytes.len())));
            prop_assert!(frame::decode(&bytes[..cut]).is_err());
        }
        let frame = frame::decode(&bytes).unwrap();
        prop_assert_eq!((frame.kind, frame.correlation), (Kind::Request, correlation));
        prop_assert_eq!(from_slice::<Request>(frame.body), Ok(value));
    }
}

#[test]
fn an_announced_length_takes_no_memory() {
    // Arrays, byte strings and texts of 2^32 - 1 elements, of which none follows: 400 GiB of accounts, if believed.
    for head in [&[0xdd, 0xff, 0xff, 0xff, 0xff][..], &[0xc6, 0xff, 0xff, 0xff, 0xff], &[0xdb, 0xff, 0xff, 0xff, 0xff]]
    {
        assert!(from_slice::<Vec<Transfer>>(head).is_err());
        assert!(from_slice::<Vec<Account>>(head).is_err());
        assert!(from_slice::<bytes::Bytes>(head).is_err());
        assert!(from_slice::<String>(head).is_err());
    }
    assert_eq!(from_slice::<Vec<Transfer>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Err(DecodeError::Truncated));
}

#[test]
fn the_longest_batch_fits_a_clients_frame_and_a_clients_frame_fits_an_accept() {
    let most = u128::MAX;
    let transfer = Transfer {
        id: drachma_protocol::ids::TransferId(most),
        debit: drachma_protocol::ids::AccountId(most),
        credit: drachma_protocol::ids::AccountId(most),
        amount: most,
        ledger: u32::MAX,
        code: u16::MAX,
        user_data_128: most,
        user_data_64: u64::MAX,
        user_data_32: u32::MAX,
    };
    let batch = request(to_vec(&vec![transfer; BATCH_LIMIT]));
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, Kind::Request, u64::MAX, &batch);
    assert!(bytes.len() <= LIMIT_CLIENT, "{} bytes", bytes.len());

    // Hazard L9: the largest request, wrapped in an entry and an accept, is no larger than a peer's frame.
    let spare = request(Vec::new());
    let mut overhead = Vec::new();
    frame::encode(&mut overhead, Kind::Request, u64::MAX, &spare);
    let largest = request(vec![0; LIMIT_CLIENT - overhead.len() - 3]);
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, Kind::Request, u64::MAX, &largest);
    assert_eq!(bytes.len(), LIMIT_CLIENT);
    let Call::Command(command) = largest.call else { unreachable!("made above") };
    let time = drachma_protocol::time::LogTime(u64::MAX);
    let content = Content::Commands(vec![Command::Client(command)]);
    let entry = to_vec(&Entry { format: FORMAT, time, wall: u64::MAX, content });
    let slot = drachma_protocol::ids::Slot(u64::MAX);
    let ballot = values::largest_ballot();
    let accept = PaxosMessage::Accept(Accept { ballot, slot, chosen: slot, entry: entry.into() });
    let mut bytes = Vec::new();
    frame::encode(&mut bytes, Kind::Paxos, u64::MAX, &accept);
    assert!(bytes.len() <= LIMIT_PEER, "{} bytes", bytes.len());
    assert_eq!(frame::length(&bytes, LIMIT_PEER), Ok(Some(bytes.len())));
    let announced = bytes.len();
    assert_eq!(frame::length(&bytes, announced - 1), Err(FrameError::TooLarge { announced, limit: announced - 1 }));
}

fn request(body: Vec<u8>) -> Request {
    let command = ClientCommand {
        kind: CommandKind::Transfers,
        session: None,
        sequence: u64::MAX,
        deadline: drachma_protocol::time::Span(u64::MAX),
        epoch: drachma_protocol::ids::Epoch(u64::MAX),
        count: u32::MAX,
        body: body.into(),
    };
    Request { group: drachma_protocol::ids::GroupId(u16::MAX), call: Call::Command(command) }
}
