//! A client that asks what no good client asks: pages and statuses, sessions that do not exist or are used out of order,
//! accounts of other groups, bodies that are not what their envelopes say. Its answers prove nothing; that it brings
//! nobody down does.

use bytes::Bytes;

use drachma_protocol::ids::{AccountId, NodeId, Session, SessionId, Slot, TransferId, TxnId};
use drachma_protocol::ledger::model::{Flags, NewAccount};
use drachma_protocol::message::client::{Call, FenceCall, ReadCall, Request, Response};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::message::operator::{AccountsCall, Nothing, OperatorCall, PageCall};
use drachma_protocol::rng::Rng;
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::to_vec;

use crate::draw::{exponential, pick};
use crate::history::{CreationRecord, History};
use crate::shape::Shape;

/// The mean time between two of its requests, in microseconds.
const MEAN_PAUSE: u64 = 200_000;

/// See the module.
pub struct Stranger {
    rng: Rng,
    session: Option<Session>,
    asked: u64,
    // What its last request asks for.
    accounts: Vec<NewAccount>,
}

impl Stranger {
    /// A stranger.
    pub fn new(rng: Rng) -> Stranger {
        Stranger { rng, session: None, asked: 0, accounts: Vec::new() }
    }

    /// How long until it asks again, in microseconds.
    pub fn pause(&mut self) -> u64 {
        1 + exponential(&mut self.rng, MEAN_PAUSE)
    }

    /// Whom it asks what, and under which correlation id. What may come of it is in the history, without an answer.
    pub fn ask(&mut self, now: u64, shape: &Shape, history: &mut History) -> (NodeId, u64, Request) {
        self.asked += 1;
        let (group, nodes) = &shape.groups[self.rng.below(shape.groups.len() as u64) as usize];
        let node = pick(&mut self.rng, nodes);
        let call = self.call(shape);
        let accounts = std::mem::take(&mut self.accounts);
        if !accounts.is_empty() {
            history.creations.push(CreationRecord { group: *group, accounts, invoked: now, answers: Vec::new() });
        }
        (node, self.asked, Request { group: *group, call })
    }

    /// It remembers its session, and nothing else.
    pub fn on_response(&mut self, response: &Response) {
        if let Response::Registered(session) = response {
            self.session = Some(*session);
        }
    }

    fn call(&mut self, shape: &Shape) -> Call {
        let account = AccountId(u128::from(self.rng.below(shape.accounts * 2)));
        let txn = TxnId { id: TransferId(self.rng.next_u128()), first: account };
        let deadline = Span(self.rng.below(100_000));
        match self.rng.below(10) {
            0 => Call::Read(ReadCall { account, deadline, epoch: shape.map.epoch }),
            1 => Call::Lookup(FenceCall { txn, deadline }),
            2 => Call::Fence(FenceCall { txn, deadline }),
            3 | 4 => Call::Operator(self.operator()),
            5 => {
                let session = SessionId(self.rng.next_u128());
                self.command(shape, CommandKind::Register, 1, to_vec(&session))
            }
            6 | 7 => {
                // Beyond what clients open.
                let id = AccountId(account.0 + 990_000);
                let new = NewAccount { id, ledger: 1, code: 1, flags: Flags::NONE };
                self.accounts = vec![new];
                self.command(shape, CommandKind::CreateAccounts, 1, to_vec(&self.accounts))
            }
            8 => self.command(shape, CommandKind::Transact, 7, vec![0xc1]),
            _ => self.command(shape, CommandKind::Transfers, 7, vec![0xc1]),
        }
    }

    fn command(&mut self, shape: &Shape, kind: CommandKind, count: u32, body: Vec<u8>) -> Call {
        let unknown = Session { id: SessionId(1), registered: Slot(0) };
        let session = if self.rng.chance(80) { self.session } else { Some(unknown) };
        let sequence = pick(&mut self.rng, &[1, self.asked, self.asked + 5_000]);
        let deadline = Span(1_000_000);
        let session = session.filter(|_| kind != CommandKind::Register);
        Call::Command(ClientCommand {
            kind,
            session,
            sequence,
            deadline,
            epoch: shape.map.epoch,
            count,
            body: Bytes::from(body),
        })
    }

    fn operator(&mut self) -> OperatorCall {
        let page = PageCall { from: self.rng.below(100), limit: self.rng.below(100) as u32 };
        match self.rng.below(8) {
            0 => OperatorCall::LeaderStatus(Nothing {}),
            1 => OperatorCall::ReplicaStatus(Nothing {}),
            2 => OperatorCall::Posted(page),
            3 => OperatorCall::PostedDigest(page),
            4 => OperatorCall::Log(page),
            5 => OperatorCall::Pending(Nothing {}),
            6 => OperatorCall::Totals(Nothing {}),
            _ => OperatorCall::Accounts(AccountsCall { from: page.from, limit: 10, changed: false, reserved: true }),
        }
    }
}
