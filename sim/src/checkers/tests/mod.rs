//! Each checker against a run that breaks its property, which it finds and no other does, and against the nearest one
//! that does not.

mod clients;
mod disks;
mod groups;
mod keys;
mod levels;
mod orders;
mod whole;

use drachma_protocol::ids::{AccountId, Epoch, Slot, TransferId};
use drachma_protocol::ledger::Limits as LedgerLimits;
use drachma_protocol::ledger::model::{Flags, Outcome, Reason, Sides, Transfer};
use drachma_protocol::message::command::{Command, Content};
use drachma_protocol::message::operator::LedgerTotals;
use drachma_protocol::placement::map::{AccountRange, Mode, ShardMap};
use drachma_protocol::rng::Rng;
use drachma_protocol::role::RoleKind;
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::to_vec;

use super::*;

const G1: GroupId = GroupId(1);
const G2: GroupId = GroupId(2);

/// Two groups of three nodes: accounts 1 to 5 and 6 to 10, each with 10.
fn swarm() -> Swarm {
    let mut swarm = Swarm::draw(&mut Rng::new(1));
    let range = |first, last| AccountRange { first: AccountId(first), last: AccountId(last) };
    let nodes = |first: u16| (first..first + 3).map(NodeId).collect();
    swarm.shape = Shape {
        groups: vec![(G1, nodes(1)), (G2, nodes(4))],
        map: ShardMap { epoch: Epoch(1), mode: Mode::Range(vec![range(1, 5), range(6, 10)]), owners: vec![G1, G2] },
        accounts: 10,
        initial_balance: 10,
        limits: LedgerLimits::default(),
        heartbeat: Span(1),
        leader_timeout: Span(10),
        resend: Span(1),
        inquire_after: Span(1),
        snapshot_every: u64::MAX,
    };
    swarm.kinds.clear();
    (swarm.network.loss, swarm.network.straggler) = (0, 0);
    swarm
}

fn transfer(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    Transfer { id: TransferId(id), debit, credit, amount, ledger: 1, code: 1, ..Transfer::default() }
}

fn account(id: AccountId, debits_posted: u128, credits_posted: u128) -> Account {
    Account {
        id,
        ledger: 1,
        code: 1,
        flags: Flags::DEBITS_MUST_NOT_EXCEED_CREDITS,
        debits_posted,
        credits_posted,
        ..Account::default()
    }
}

fn totals(applied: u64) -> Totals {
    Totals {
        applied: Slot(applied),
        digest: 0,
        accounts: 5,
        posted: 0,
        keys: 0,
        key_bytes: 0,
        ids: 0,
        in_doubt: 0,
        coordinated: 0,
        waiting: 0,
        ledgers: vec![LedgerTotals { ledger: 1, ..LedgerTotals::default() }],
        epoch: Epoch(1),
    }
}

fn address(group: GroupId, node: u16, role: RoleKind) -> Address {
    Address { node: NodeId(node), group, role }
}

/// An entry with these commands.
fn entry(time: u64, commands: Vec<Command>) -> Bytes {
    let content = Content::Commands(commands);
    Bytes::from(to_vec(&Entry { format: 1, time: LogTime(time), wall: 0, content }))
}

type Happening = Box<dyn Fn(&mut dyn Checker) -> Verdict>;

/// A run in the making.
struct Story {
    swarm: Swarm,
    history: History,
    happenings: Vec<Happening>,
    entries: BTreeMap<GroupId, u64>,
    groups: BTreeMap<GroupId, Vec<ReplicaView>>,
    stuck: Option<&'static str>,
    // Multi-account reads and such.
    extra: Vec<serializable::Observation>,
}

impl Story {
    fn new() -> Story {
        let swarm = swarm();
        let mut groups = BTreeMap::new();
        for (group, nodes) in &swarm.shape.groups {
            let own = (1..=10).map(AccountId).filter(|id| swarm.shape.map.owner_of(*id) == Some(*group));
            let accounts: Vec<Account> = own.map(|id| account(id, 0, 10)).collect();
            let view = |node: &NodeId| ReplicaView {
                node: *node,
                totals: totals(9),
                posted: Vec::new(),
                accounts: accounts.clone(),
                pending: Vec::new(),
                keys: BTreeMap::new(),
            };
            groups.insert(*group, nodes.iter().map(view).collect());
        }
        let (happenings, entries, extra) = (Vec::new(), BTreeMap::new(), Vec::new());
        Story { swarm, history: History::default(), happenings, entries, groups, stuck: None, extra }
    }

    fn happens(&mut self, happening: impl Fn(&mut dyn Checker) -> Verdict + 'static) -> &mut Story {
        self.happenings.push(Box::new(happening));
        self
    }

    /// A replica applies entries that this much has been posted with.
    fn applied(
        &mut self,
        group: GroupId,
        node: u16,
        from: u64,
        entries: Vec<Bytes>,
        posted: Vec<Posted>,
    ) -> &mut Story {
        let known = self.entries.entry(group).or_default();
        let new: Vec<(u64, Entry)> = (from..)
            .zip(&entries)
            .filter(|(slot, _)| slot >= known)
            .map(|(slot, bytes)| (slot, from_slice(bytes).unwrap()))
            .collect();
        *known += new.len() as u64;
        let until = Slot(from + entries.len() as u64);
        self.happens(move |checker| {
            for (slot, entry) in &new {
                checker.on_entry(&Chosen { group, slot: Slot(*slot), entry })?;
            }
            let (node, from, posted_from) = (NodeId(node), Slot(from), 0);
            let seen =
                Applied { node, group, from, until, entries: &entries, posted_from, posted: &posted, state: None };
            checker.on_applied(&seen)
        })
    }

    /// A transfer is asked for and answered.
    fn asked(&mut self, transfer: Transfer, from: u64, until: u64, outcome: Outcome) -> &mut Story {
        self.history.invoke(from, transfer);
        self.history.answer(until, TxnId::from(&transfer), outcome);
        self
    }

    /// One side of a transfer is posted in its group.
    fn posted(&mut self, transfer: Transfer, sides: Sides) -> &mut Story {
        let id = if sides == Sides::Credit { transfer.credit } else { transfer.debit };
        let group = self.swarm.shape.map.owner_of(id).unwrap();
        for view in self.groups.get_mut(&group).unwrap() {
            view.posted.push(Posted { transfer, sides, posted_at: LogTime(0) });
            let ledger = &mut view.totals.ledgers[0];
            for account in &mut view.accounts {
                if account.id == transfer.debit {
                    account.debits_posted += transfer.amount;
                    ledger.debits += transfer.amount;
                    ledger.sent += if sides == Sides::Debit { transfer.amount } else { 0 };
                }
                if account.id == transfer.credit {
                    account.credits_posted += transfer.amount;
                    ledger.credits += transfer.amount;
                    ledger.received += if sides == Sides::Credit { transfer.amount } else { 0 };
                }
            }
        }
        self
    }

    /// A transfer between groups is asked for, committed and posted.
    fn across(&mut self, transfer: Transfer, from: u64, until: u64) -> &mut Story {
        self.asked(transfer, from, until, Outcome::Committed);
        self.posted(transfer, Sides::Debit).posted(transfer, Sides::Credit)
    }

    /// A transfer within a group.
    fn within(&mut self, transfer: Transfer, from: u64, until: u64) -> &mut Story {
        self.asked(transfer, from, until, Outcome::Committed).posted(transfer, Sides::Both)
    }

    fn rejected(&mut self, transfer: Transfer, from: u64, until: u64, reason: Reason) -> &mut Story {
        self.asked(transfer, from, until, Outcome::Rejected(reason))
    }

    fn read(&mut self, id: u128, from: u64, until: u64, debits: u128, credits: u128) -> &mut Story {
        let found = Some(account(AccountId(id), debits, credits));
        self.history.reads.push(ReadRecord { account: AccountId(id), invoked: from, completed: until, found });
        self
    }

    fn replica(&mut self, group: GroupId, index: usize) -> &mut ReplicaView {
        &mut self.groups.get_mut(&group).unwrap()[index]
    }

    fn end(&self) -> End<'_> {
        End::new(&self.swarm.shape, &self.history, &self.groups, self.stuck)
    }

    fn tell(&self, checker: &mut dyn Checker) -> Verdict {
        checker.on_begin(&self.swarm);
        self.happenings.iter().try_for_each(|happening| happening(checker))?;
        checker.at_end(&self.end())
    }

    /// Each checker that finds something, though every one of them is asked by itself.
    fn found(&self) -> Vec<&'static str> {
        let mut all = Checkers::all();
        all.checkers
            .iter_mut()
            .filter_map(|checker| self.tell(checker.as_mut()).err().map(|_| checker.name()))
            .collect()
    }

    /// The smallest cycle of the operations.
    fn cycle(&self) -> Option<String> {
        let mut observations = serializable::observations(&self.history);
        observations.extend(self.extra.iter().cloned());
        serializable::build(&self.end(), &observations).cycle().map(|cycle| cycle.to_string())
    }
}

#[test]
fn a_good_run_passes() {
    let mut story = Story::new();
    story.across(transfer(1, 1, 6, 3), 10, 20).rejected(transfer(2, 1, 7, 99), 10, 20, Reason::ExceedsCredits);
    story.read(1, 30, 40, 3, 10).read(6, 15, 18, 0, 10).read(6, 15, 19, 0, 13);
    assert_eq!(story.found(), Vec::<&str>::new());
}

#[test]
fn every_property_has_its_number_and_the_first_finding_is_reported() {
    let table = include_str!("../mod.rs");
    for checker in Checkers::all().checkers {
        let file = checker.name().replace(' ', "_");
        assert!(table.contains(&format!("[`{file}`]")), "{file} is in no row of the table");
    }
    let mut story = Story::new();
    story.stuck = Some("stuck");
    let end = story.end();
    assert_eq!(Checkers::all().ask(|checker| checker.at_end(&end)).err().map(|v| v.class), Some(Class::Liveness));
    assert!(canary::Canary.at_end(&end).is_err());
}
