//! What groups log, and what they say within and among each other.

use drachma_protocol::message::command::{
    Begin, ClientCommand, Command, CommandKind, Content, Decide, Entry, Fence, Forget, LeaderStart, Member, Prepare,
    ReadCommand, Resolve, Verdict,
};
use drachma_protocol::message::paxos::{self, PaxosMessage};
use drachma_protocol::message::txn::{Inquire, Redirect, Resolved, TxnMessage, Vote, VoteKind};
use drachma_protocol::role::Durable;
use drachma_protocol::time::Time;
use drachma_protocol::wire::codec::{Encode, from_slice, to_vec};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::operations::{action, answered, reply};
use super::*;

prop_compose! {
    pub(crate) fn client_command()(
        kind in one_of(CommandKind::ALL), session in option::of(session()), sequence in u64s(), deadline in span(),
        epoch in epoch(), count in u32s(), body in bytes(),
    ) -> ClientCommand {
        ClientCommand { kind, session, sequence, deadline, epoch, count, body }
    }
}

prop_compose! {
    pub(crate) fn entry()(format in any::<u8>(), time in log_time(), wall in u64s(), content in content()) -> Entry {
        Entry { format, time, wall, content }
    }
}

fn content() -> impl Strategy<Value = Content> {
    let member =
        (replica(), node(), directory()).prop_map(|(replica, node, directory)| Member { replica, node, directory });
    prop_oneof![
        (ballot(), option::of(vec(member, 0..7)))
            .prop_map(|(ballot, members)| Content::LeaderStart(LeaderStart { ballot, members })),
        vec(command(), 0..5).prop_map(Content::Commands),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        client_command().prop_map(Command::Client),
        prepare().prop_map(|Prepare { txn, attempt, age, participants, action, deadline }| {
            Command::Begin(Begin { txn, attempt, age, participants, action, deadline })
        }),
        prepare().prop_map(Command::Prepare),
        decide().prop_map(Command::Decide),
        resolve().prop_map(Command::Resolve),
        vec((txn(), attempt()), 0..5).prop_map(|ended| Command::Forget(Forget { ended })),
        (account_id(), span()).prop_map(|(account, deadline)| Command::Read(ReadCommand { account, deadline })),
        txn().prop_map(|txn| Command::Fence(Fence { txn })),
    ]
}

prop_compose! {
    fn prepare()(
        txn in txn(), attempt in attempt(), age in age(), participants in vec(group_id(), 0..4),
        action in action(), deadline in span(),
    ) -> Prepare {
        Prepare { txn, attempt, age, participants, action, deadline }
    }
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Commit), Just(Verdict::Abort), reason().prop_map(Verdict::Reject)]
}

fn resolve() -> impl Strategy<Value = Resolve> {
    let values = vec(answered(), 0..4);
    (txn(), attempt(), verdict(), values).prop_map(|(txn, attempt, verdict, values)| Resolve {
        txn,
        attempt,
        verdict,
        values,
    })
}

fn decide() -> impl Strategy<Value = Decide> {
    let replies = vec(reply(), 0..4);
    (txn(), attempt(), verdict(), replies).prop_map(|(txn, attempt, verdict, replies)| Decide {
        txn,
        attempt,
        verdict,
        replies,
    })
}

pub(crate) fn txn_message() -> impl Strategy<Value = TxnMessage> {
    prop_oneof![
        prepare().prop_map(TxnMessage::Prepare),
        (txn(), attempt(), group_id(), vote_kind(), u64s(), vec(answered(), 0..4)).prop_map(
            |(txn, attempt, group, vote, counter, values)| {
                TxnMessage::Vote(Vote { txn, attempt, group, vote, counter, values })
            }
        ),
        resolve().prop_map(TxnMessage::Resolve),
        (txn(), attempt(), group_id()).prop_map(|(txn, attempt, group)| TxnMessage::Resolved(Resolved {
            txn,
            attempt,
            group
        })),
        (txn(), attempt(), group_id()).prop_map(|(txn, attempt, group)| TxnMessage::Inquire(Inquire {
            txn,
            attempt,
            group
        })),
        (group_id(), option::of(node()), any::<bool>())
            .prop_map(|(group, leader, no_quorum)| { TxnMessage::Redirect(Redirect { group, leader, no_quorum }) }),
    ]
}

fn vote_kind() -> impl Strategy<Value = VoteKind> {
    prop_oneof![
        Just(VoteKind::Yes),
        reason().prop_map(VoteKind::No),
        Just(VoteKind::Die),
        Just(VoteKind::Expired),
        Just(VoteKind::AlreadyCommitted),
        Just(VoteKind::Moved),
    ]
}

/// As if it had come from the wire: only there, and by the gate, is one made.
fn durable<T: Encode>(value: &T) -> Durable<T>
where
    Durable<T>: drachma_protocol::wire::codec::Decode,
{
    from_slice(&to_vec(value)).unwrap()
}

fn entries() -> impl Strategy<Value = Vec<Bytes>> {
    vec(bytes(), 0..4)
}

pub(crate) fn paxos_message() -> impl Strategy<Value = PaxosMessage> {
    prop_oneof![election(), replication(), catching_up()]
}

fn election() -> impl Strategy<Value = PaxosMessage> {
    use paxos::{Aged, AskAge, PreCheck, PreCheckReply, Prepare, TakeOver};
    prop_oneof![
        (u64s(), ballot()).prop_map(|(round, ballot)| PaxosMessage::PreCheck(PreCheck { round, ballot })),
        (u64s(), any::<bool>(), ballot())
            .prop_map(|(round, lost, ballot)| PaxosMessage::PreCheckReply(PreCheckReply { round, lost, ballot })),
        (ballot(), ballot(), slot(), slot(), directory()).prop_map(|(ballot, accepted, length, chosen, directory)| {
            PaxosMessage::Prepare(Prepare { ballot, accepted, length, chosen, directory })
        }),
        promise().prop_map(|promise| PaxosMessage::Promise(durable(&promise))),
        ballot().prop_map(|ballot| PaxosMessage::TakeOver(TakeOver { ballot })),
        (u64s(), u64s()).prop_map(|(nonce, asked)| PaxosMessage::AskAge(AskAge { nonce, asked: Time(asked) })),
        (u64s(), u64s(), slot()).prop_map(|(nonce, asked, chosen)| {
            PaxosMessage::Aged(Aged { question: AskAge { nonce, asked: Time(asked) }, chosen })
        }),
    ]
}

prop_compose! {
    fn promise()(
        (ballot, accepted) in (ballot(), ballot()), (length, chosen, start) in (slot(), slot(), slot()),
        entries in entries(), last in any::<bool>(), doubtful in any::<bool>(), directory in directory(),
    ) -> paxos::Promise {
        paxos::Promise { ballot, accepted, length, chosen, start, entries, last, doubtful, directory }
    }
}

fn replication() -> impl Strategy<Value = PaxosMessage> {
    use paxos::{Accept, Accepted, Commit, Heartbeat, HeartbeatAck, Synchronise};
    prop_oneof![
        (ballot(), slot(), slot(), entries(), any::<bool>(), slot(), u64s()).prop_map(
            |(ballot, from, start, entries, last, chosen, nonce)| {
                PaxosMessage::Synchronise(Synchronise { ballot, from, start, entries, last, chosen, nonce })
            }
        ),
        (ballot(), slot(), slot(), bytes())
            .prop_map(|(ballot, slot, chosen, entry)| { PaxosMessage::Accept(Accept { ballot, slot, chosen, entry }) }),
        (ballot(), slot()).prop_map(|(ballot, length)| PaxosMessage::Accepted(durable(&Accepted { ballot, length }))),
        (ballot(), slot()).prop_map(|(ballot, chosen)| PaxosMessage::Commit(Commit { ballot, chosen })),
        (ballot(), u64s(), slot(), slot(), vec(replica(), 0..7)).prop_map(
            |(ballot, round, length, chosen, succession)| {
                PaxosMessage::Heartbeat(Heartbeat { ballot, round, length, chosen, succession })
            }
        ),
        (ballot(), u64s(), slot())
            .prop_map(|(ballot, round, chosen)| { PaxosMessage::HeartbeatAck(HeartbeatAck { ballot, round, chosen }) }),
    ]
}

fn catching_up() -> impl Strategy<Value = PaxosMessage> {
    use paxos::{ChosenEntries, FetchChosen, FetchSnapshot, Missing, Refused, SnapshotPiece};
    prop_oneof![
        (ballot(), ballot()).prop_map(|(ballot, promised)| PaxosMessage::Refused(Refused { ballot, promised })),
        (ballot(), any::<bool>(), slot(), u64s()).prop_map(|(ballot, synchronised, from, nonce)| {
            PaxosMessage::Missing(Missing { ballot, synchronised, from, nonce })
        }),
        slot().prop_map(|from| PaxosMessage::FetchChosen(FetchChosen { from })),
        (slot(), entries(), slot()).prop_map(|(start, entries, chosen)| {
            PaxosMessage::ChosenEntries(ChosenEntries { start, entries, chosen })
        }),
        (slot(), u64s()).prop_map(|(slot, offset)| PaxosMessage::FetchSnapshot(FetchSnapshot { slot, offset })),
        (slot(), u64s(), any::<Vec<u8>>()).prop_map(|(slot, offset, piece)| {
            PaxosMessage::SnapshotPiece(SnapshotPiece { slot, offset, piece: piece.into() })
        }),
    ]
}
