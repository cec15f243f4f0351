//! A group of the model: the real ledger over a log that is taken for granted.
//!
//! What the leader proposes waits; the first of it may be chosen and applied at any time. When the leader fails, some
//! of what waits is adopted and the rest lost, and the next leader's first entry follows.

use std::fmt;

use drachma_protocol::ids::{Ballot, DirectoryId, ReplicaId, TxnId};
use drachma_protocol::ledger::Ledger;
use drachma_protocol::ledger::model::Outcome;
use drachma_protocol::ledger::output::{Output, TxnOutput};
use drachma_protocol::message::command::{Content, Entry, FORMAT, LeaderStart, Member};
use drachma_protocol::message::local::Serve;
use drachma_protocol::message::operator::AccountsCall;
use drachma_protocol::time::LogTime;
use drachma_protocol::wire::codec::to_vec;

use super::node::{BALANCE, GROUPS, genesis, node_id, transfer};

/// What a group has applied, with what the properties need to know of it.
#[derive(Clone)]
pub(super) struct Books {
    pub(super) ledger: Ledger,
    /// Of each transfer: its outcome here, and whether it is held here after a yes for another group.
    pub(super) sides: Vec<(Option<Outcome>, bool)>,
    /// Nothing is in doubt, waits, or is coordinated.
    pub(super) at_rest: bool,
    /// A decided record was begun by an earlier leader.
    pub(super) decided_for_another: bool,
    /// A record is not of its leader's first attempt.
    pub(super) tried_again: bool,
    /// What the accounts hold is what the committed transfers make of them, each once.
    pub(super) balanced: bool,
}

/// The ledger determines the rest.
impl fmt::Debug for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ledger.fmt(f)
    }
}

/// The ballot of a group's leader: the round counts changes of leadership.
pub(super) fn ballot(round: u64, leader: usize) -> Ballot {
    Ballot { round, replica: ReplicaId(leader as u32 % 2 + 1) }
}

impl Books {
    /// A group before its first entry.
    pub(super) fn new(group: usize, commands: u8) -> Books {
        Books::of(Ledger::with_parts(1, &genesis(GROUPS[group]), 1), commands)
    }

    fn of(ledger: Ledger, commands: u8) -> Books {
        let (in_doubt, coordinated) = (ledger.in_doubt(), ledger.coordinated());
        let side = |number| {
            let txn = TxnId::from(&transfer(number));
            (ledger.outcome(txn), in_doubt.iter().any(|held| held.txn == txn && !held.waiting))
        };
        let leader = ledger.leader();
        Books {
            sides: (0..commands).map(side).collect(),
            at_rest: in_doubt.is_empty() && coordinated.is_empty() && ledger.next_expiry().is_none(),
            decided_for_another: coordinated.iter().any(|r| r.verdict.is_some() && r.attempt.ballot < leader),
            tried_again: coordinated.iter().any(|record| record.attempt.number > 1),
            balanced: is_balanced(&ledger, commands),
            ledger,
        }
    }

    /// Applies an entry; what it yields for transactions.
    pub(super) fn apply(&self, time: LogTime, content: Content, commands: u8) -> (Books, Vec<TxnOutput>) {
        let mut ledger = self.ledger.clone();
        let entry = to_vec(&Entry { format: FORMAT, time, wall: 0, content });
        let mut outputs = Vec::new();
        ledger.begin(ledger.applied(), &entry);
        while !ledger.apply(usize::MAX, &mut outputs) {}
        let events = outputs.into_iter().filter_map(|output| match output {
            Output::Txn(event) => Some(event),
            Output::Client(_) | Output::Read(..) | Output::ReadExpired(_) => None,
        });
        (Books::of(ledger, commands), events.collect())
    }

    /// The first entry of a leader; the members are named in the very first one.
    pub(super) fn start(&self, group: usize, ballot: Ballot) -> Content {
        let member = |place: usize| Member {
            replica: ReplicaId(place as u32 + 1),
            node: node_id(2 * group + place),
            directory: DirectoryId(place as u128 + 1),
        };
        let members = self.ledger.members().is_none().then(|| vec![member(0), member(1)]);
        Content::LeaderStart(LeaderStart { ballot, members })
    }

    /// What a new leader's roles are told.
    pub(super) fn serve(&self) -> Serve {
        Serve {
            ballot: self.ledger.leader(),
            time: self.ledger.time(),
            members: Vec::new(),
            counter: self.ledger.counter(),
            coordinated: self.ledger.coordinated(),
            in_doubt: self.ledger.in_doubt(),
        }
    }
}

fn is_balanced(ledger: &Ledger, commands: u8) -> bool {
    let all = AccountsCall { from: 0, limit: 100, changed: false, reserved: false };
    let committed: Vec<_> = (0..commands)
        .map(transfer)
        .filter(|transfer| ledger.outcome(TxnId::from(transfer)) == Some(Outcome::Committed))
        .collect();
    let posted = ledger.totals().posted == committed.len() as u64;
    posted
        && ledger.accounts_page(&all).accounts.iter().all(|account| {
            let sum = |debit: bool| -> u128 {
                let side = |t: &&drachma_protocol::ledger::model::Transfer| {
                    (if debit { t.debit } else { t.credit }) == account.id
                };
                committed.iter().filter(side).map(|transfer| transfer.amount).sum()
            };
            account.debits_posted == sum(true) && account.credits_posted == BALANCE + sum(false)
        })
}
