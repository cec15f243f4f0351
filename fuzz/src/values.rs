//! Values of the protocol, drawn so that they often meet: few ids, few ballots, small numbers, and now and then one
//! that nobody expects.

use bytes::Bytes;
use drachma_protocol::ids::{
    AccountId, Age, Attempt, Ballot, DirectoryId, Epoch, GroupId, NodeId, ReplicaId, Session, SessionId, Slot,
    TransferId, TxnId,
};
use drachma_protocol::ledger::model::{Flags, NewAccount, Reason, Transfer};
use drachma_protocol::ledger::{Genesis, Limits};
use drachma_protocol::message::client::{Call, FenceCall, MapCall, QueryCall, ReadCall};
use drachma_protocol::message::command::{
    Begin, ClientCommand, Command, CommandKind, Content, Decide, Entry, FORMAT, Fence, Forget, LeaderStart, Prepare,
    ReadCommand, Resolve, Verdict,
};
use drachma_protocol::message::level::{Level, PositionCall, ReplicaReadCall, WriteCall};
use drachma_protocol::message::operator::{AccountsCall, HandOverCall, Nothing, OperatorCall, OutcomesCall, PageCall};
use drachma_protocol::message::txn::{Inquire, Redirect, Resolved, TxnMessage, Vote, VoteKind};
use drachma_protocol::placement::map::{AccountRange, Mode, ShardMap};
use drachma_protocol::time::{LogTime, Span};
use drachma_protocol::wire::codec::{Encode, encode_array_len, from_slice, to_vec};

use crate::draw::Draw;

/// The group whose roles are driven.
pub(crate) const OWN: GroupId = GroupId(1);
/// Accounts that each of the three groups has from the beginning.
const ACCOUNTS: u64 = 4;

/// Three groups with a range of accounts each.
pub(crate) fn shard_map() -> ShardMap {
    let range = |n: u64| AccountRange {
        first: AccountId(u128::from(n * ACCOUNTS + 1)),
        last: AccountId(u128::from((n + 1) * ACCOUNTS)),
    };
    let owners = vec![OWN, GroupId(2), GroupId(3)];
    ShardMap { epoch: Epoch(1), mode: Mode::Range((0..3).map(range).collect()), owners }
}

/// What the group begins with; its limits are low enough to be met.
pub(crate) fn genesis() -> Genesis {
    let limits = Limits { waiting: 6, sessions: 3, session_lifetime: Span::from_millis(500), in_doubt_per_group: 4 };
    // One id of each range is left to be created.
    Genesis { group: OWN, map: shard_map(), accounts: 3 * ACCOUNTS - 1, initial_balance: 20, limits }
}

/// The directory of a node.
pub(crate) fn directory(node: NodeId) -> DirectoryId {
    DirectoryId(0xd0 + u128::from(node.0))
}

impl Draw<'_> {
    pub(crate) fn span(&mut self) -> Span {
        match self.byte() {
            0 => Span(0),
            255 => Span(self.number()),
            byte => Span::from_millis(u64::from(byte) * 4),
        }
    }

    pub(crate) fn group(&mut self) -> GroupId {
        GroupId(self.pick(&[1, 2, 3, 1, 2, 3, 0, 9]))
    }

    fn groups(&mut self) -> Vec<GroupId> {
        match self.below(8) {
            0..=3 => vec![GroupId(2), OWN],
            4 => vec![OWN, GroupId(2)],
            5 => vec![GroupId(3), OWN],
            _ => (0..self.below(5)).map(|_| self.group()).collect(),
        }
    }

    pub(crate) fn ballot(&mut self) -> Ballot {
        Ballot { round: self.number(), replica: ReplicaId(u32::from(self.below(5))) }
    }

    pub(crate) fn attempt(&mut self) -> Attempt {
        Attempt { ballot: self.ballot(), number: self.number() }
    }

    /// One of few transfers: the same id has mostly the same content.
    pub(crate) fn transfer(&mut self) -> Transfer {
        let seed = self.byte();
        let mut transfer = Transfer {
            id: TransferId(u128::from(seed % 8)),
            debit: AccountId(u128::from(seed / 8 % 13)),
            credit: AccountId(u128::from(self.below(13))),
            amount: u128::from(self.below(30)),
            ledger: 1,
            code: 1,
            ..Transfer::default()
        };
        if self.once_in(8) {
            transfer.debit = AccountId(self.wide());
            transfer.amount = self.wide();
            transfer.ledger = u32::from(self.below(3));
            transfer.user_data_64 = self.number();
        }
        transfer
    }

    pub(crate) fn txn(&mut self) -> TxnId {
        TxnId::from(&self.transfer())
    }

    fn age(&mut self) -> Age {
        Age { counter: self.number(), id: TransferId(u128::from(self.below(8))) }
    }

    pub(crate) fn verdict(&mut self) -> Verdict {
        match self.below(4) {
            0 | 1 => Verdict::Commit,
            2 => Verdict::Abort,
            _ => Verdict::Reject(self.reason()),
        }
    }

    fn reason(&mut self) -> Reason {
        self.pick(Reason::ALL).0
    }

    fn session(&mut self) -> Option<Session> {
        match self.below(4) {
            0 => None,
            n => Some(Session { id: SessionId(u128::from(n)), registered: Slot(self.number()) }),
        }
    }

    fn array<T: Encode>(&mut self, item: fn(&mut Self) -> T) -> (u32, Bytes) {
        let count = if self.once_in(8) { self.below(64) } else { self.below(4) };
        let mut body = Vec::new();
        encode_array_len(&mut body, usize::from(count));
        (0..count).for_each(|_| item(self).encode(&mut body));
        let claimed = if self.once_in(16) { self.number() as u32 } else { u32::from(count) };
        (claimed, body.into())
    }

    /// What a client may send as a command: an envelope and any body.
    pub(crate) fn client_command(&mut self) -> ClientCommand {
        let kind = self.pick(&[
            CommandKind::Transfers,
            CommandKind::Transfers,
            CommandKind::Transact,
            CommandKind::Register,
            CommandKind::CreateAccounts,
            CommandKind::Transaction,
            CommandKind::Transaction,
            CommandKind::TransactOver,
        ]);
        let (count, mut body) = match kind {
            CommandKind::Transfers | CommandKind::Transact => self.array(Draw::transfer),
            CommandKind::CreateAccounts => self.array(Draw::new_account),
            CommandKind::Transaction | CommandKind::TransactOver => (1, to_vec(&self.raw_transaction()).into()),
            CommandKind::Register => (0, to_vec(&SessionId(u128::from(self.below(6)))).into()),
        };
        if self.once_in(16) {
            body = self.bytes();
        }
        let session = if kind == CommandKind::Register { None } else { self.session() };
        let (sequence, deadline) = (self.number(), self.span());
        ClientCommand { kind, session, sequence, deadline, epoch: Epoch(self.number()), count, body }
    }

    fn new_account(&mut self) -> NewAccount {
        let flags = [
            Flags::NONE,
            Flags::DEBITS_MUST_NOT_EXCEED_CREDITS,
            Flags::CREDITS_MUST_NOT_EXCEED_DEBITS,
            Flags::CLOSED,
            Flags::HISTORY,
        ];
        let flags = self.pick(&flags).with(self.pick(&flags));
        NewAccount { id: AccountId(self.wide()), ledger: u32::from(self.below(3)), code: 1, flags }
    }

    /// What a client may ask.
    pub(crate) fn call(&mut self) -> Call {
        let nothing = Nothing {};
        match self.below(26) {
            23 => {
                let level = self.pick(&[Level::Linearizable, Level::All, Level::Session, Level::Any]);
                Call::Write(WriteCall { level, command: self.client_command() })
            }
            24 => {
                let (everywhere, deadline) = (self.once_in(2), self.span());
                Call::Position(PositionCall { everywhere, deadline, epoch: Epoch(self.number()) })
            }
            25 => {
                let operations = (0..self.below(5)).map(|_| self.operation()).collect();
                let (after, settled, deadline) = (Slot(self.number()), self.once_in(2), self.span());
                let epoch = Epoch(self.number());
                Call::ReplicaRead(ReplicaReadCall { operations, after, settled, deadline, epoch })
            }
            21 | 22 => {
                let operations = (0..self.below(5)).map(|_| self.operation()).collect();
                let (confirmed, deadline) = (self.once_in(2), self.span());
                Call::Query(QueryCall { operations, confirmed, deadline, epoch: Epoch(self.number()) })
            }
            0..=7 => Call::Command(self.client_command()),
            8 | 9 => {
                let (account, deadline) = (AccountId(u128::from(self.below(14))), self.span());
                Call::Read(ReadCall { account, deadline, epoch: Epoch(self.number()) })
            }
            10 => Call::Fence(FenceCall { txn: self.txn(), deadline: self.span() }),
            11 => Call::Lookup(FenceCall { txn: self.txn(), deadline: self.span() }),
            12 => Call::Map(MapCall { epoch: Epoch(self.number()) }),
            13 => Call::Operator(OperatorCall::Accounts(AccountsCall {
                from: self.number(),
                limit: self.number() as u32,
                changed: self.once_in(2),
                reserved: self.once_in(2),
            })),
            14 => Call::Operator(OperatorCall::Posted(self.page())),
            15 => Call::Operator(OperatorCall::PostedDigest(self.page())),
            16 => Call::Operator(OperatorCall::Log(self.page())),
            17 => {
                let ids = (0..self.below(4)).map(|_| self.txn()).collect();
                Call::Operator(OperatorCall::Outcomes(OutcomesCall { ids }))
            }
            18 => {
                let target = self.once_in(2).then(|| NodeId(u16::from(self.below(24))));
                Call::Operator(OperatorCall::HandOver(HandOverCall { target }))
            }
            19 => Call::Operator(self.pick(&[OperatorCall::LeaderStatus, OperatorCall::ReplicaStatus])(nothing)),
            _ => Call::Operator(self.pick(&[OperatorCall::Pending, OperatorCall::Totals])(nothing)),
        }
    }

    fn page(&mut self) -> PageCall {
        PageCall { from: self.number(), limit: self.number() as u32 }
    }

    /// A `Prepare` as any node may send it.
    pub(crate) fn prepare(&mut self) -> Prepare {
        let (txn, action) = self.action();
        Prepare {
            txn,
            attempt: self.attempt(),
            age: self.age(),
            participants: self.groups(),
            action,
            deadline: self.span(),
        }
    }

    /// A message between groups. `known` are attempts that were heard of.
    pub(crate) fn txn_message(&mut self, known: &[(TxnId, Attempt)]) -> TxnMessage {
        let (mut txn, mut attempt) = (self.txn(), self.attempt());
        if let Some(one) = known.get(usize::from(self.byte()) % known.len().max(1))
            && !self.once_in(8)
        {
            (txn, attempt) = *one;
        }
        let group = self.group();
        match self.below(8) {
            0 => TxnMessage::Prepare(self.prepare()),
            1 => {
                // Another copy of something known, or another try.
                let prepare = self.prepare();
                TxnMessage::Prepare(Prepare { attempt, ..prepare })
            }
            2 | 3 => {
                let reason = self.reason();
                let vote = self.pick(&[
                    VoteKind::Yes,
                    VoteKind::Yes,
                    VoteKind::No(reason),
                    VoteKind::Die,
                    VoteKind::Expired,
                    VoteKind::AlreadyCommitted,
                    VoteKind::Moved,
                ]);
                TxnMessage::Vote(Vote { txn, attempt, group, vote, counter: self.number(), values: self.answers() })
            }
            4 => TxnMessage::Resolve(Resolve { txn, attempt, verdict: self.verdict(), values: self.answers() }),
            5 => TxnMessage::Resolved(Resolved { txn, attempt, group }),
            6 => TxnMessage::Inquire(Inquire { txn, attempt, group }),
            _ => {
                let leader = self.once_in(2).then(|| NodeId(u16::from(self.below(24))));
                TxnMessage::Redirect(Redirect { group, leader, no_quorum: self.once_in(2) })
            }
        }
    }

    /// A command as a leader of this group may log it.
    pub(crate) fn command(&mut self, leader: Ballot) -> Command {
        match self.below(12) {
            0..=4 => Command::Client(self.client_command()),
            5 => {
                let Prepare { txn, age, participants, action, deadline, .. } = self.prepare();
                let others = participants.into_iter().filter(|group| *group != OWN).collect();
                let participants = [vec![OWN], others].concat();
                let attempt = Attempt { ballot: self.near(leader), number: u64::from(self.below(4)) };
                Command::Begin(Begin { txn, attempt, age, participants, action, deadline })
            }
            6 => {
                let attempt = Attempt { ballot: self.near(leader), number: u64::from(self.below(4)) };
                let (verdict, replies) = (self.verdict(), self.replies());
                Command::Decide(Decide { txn: self.txn(), attempt, verdict, replies })
            }
            7 | 8 => Command::Prepare(self.prepare()),
            9 => {
                let (verdict, values) = (self.verdict(), self.answers());
                Command::Resolve(Resolve { txn: self.txn(), attempt: self.attempt(), verdict, values })
            }
            10 => match self.below(3) {
                0 => {
                    let attempt = Attempt { ballot: self.near(leader), number: u64::from(self.below(4)) };
                    Command::Forget(Forget { ended: vec![(self.txn(), attempt)] })
                }
                1 => Command::Fence(Fence { txn: self.txn() }),
                _ => {
                    let account = AccountId(u128::from(self.below(14)));
                    Command::Read(ReadCommand { account, deadline: self.span() })
                }
            },
            _ => Command::Prepare(self.prepare()),
        }
    }

    fn near(&mut self, ballot: Ballot) -> Ballot {
        if self.once_in(8) { self.ballot() } else { ballot }
    }

    /// A whole entry; its log time and wall clock are anything.
    pub(crate) fn entry(&mut self, leader: Ballot) -> Entry {
        let content = if self.once_in(6) {
            Content::LeaderStart(LeaderStart { ballot: leader, members: None })
        } else {
            Content::Commands((0..self.below(5)).map(|_| self.command(leader)).collect())
        };
        let time = LogTime(if self.once_in(16) { self.number() } else { u64::from(self.byte()) * 2000 });
        Entry { format: FORMAT, time, wall: self.number(), content }
    }

    /// The bytes of a batch of commands, or bytes that are no entry. First entries of leaders are left to leaders: who
    /// invents one says that an election was won.
    pub(crate) fn entry_bytes(&mut self, leader: Ballot) -> Bytes {
        if self.once_in(16) {
            return self.bytes();
        }
        let commands = (0..self.below(5)).map(|_| self.command(leader)).collect();
        let (time, wall) = (LogTime(u64::from(self.byte()) * 2000), self.number());
        to_vec(&Entry { format: FORMAT, time, wall, content: Content::Commands(commands) }).into()
    }
}

/// A value as the wire brings it. What is sent is well-formed, so it must come back.
pub(crate) fn over_the_wire<T: Encode + drachma_protocol::wire::codec::Decode>(value: &impl Encode) -> T {
    from_slice(&to_vec(value)).expect("what is sent can be read")
}
