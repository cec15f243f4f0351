//! Random histories: against a naive model, across two groups, and twice with other seeds and budgets.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::ledger::operations::Action;
use crate::message::operator::PageCall;
use crate::rng::Rng;

/// What a ledger of one group is, without any of its means.
#[derive(Default)]
struct Model {
    balances: BTreeMap<u128, i128>,
    done: BTreeMap<(u128, u128), (Transfer, Outcome)>,
}

impl Model {
    fn apply(&mut self, transfer: Transfer) -> (Outcome, bool) {
        let key = (transfer.id.0, transfer.debit.0);
        if let Some((before, outcome)) = self.done.get(&key) {
            let same = *before == transfer;
            return (if same { *outcome } else { Outcome::Rejected(Reason::IdConflict) }, same);
        }
        let (debit, credit) = (transfer.debit.0, transfer.credit.0);
        let outcome = if transfer.amount == 0 {
            Outcome::Rejected(Reason::ZeroAmount)
        } else if debit == credit {
            Outcome::Rejected(Reason::SameAccount)
        } else if !self.balances.contains_key(&debit) || !self.balances.contains_key(&credit) {
            Outcome::Rejected(Reason::NoSuchAccount)
        } else if transfer.ledger != 1 {
            Outcome::Rejected(Reason::LedgerMismatch)
        } else if debit <= 10 && self.balances[&debit] < transfer.amount as i128 {
            Outcome::Rejected(Reason::ExceedsCredits)
        } else {
            *self.balances.entry(debit).or_default() -= transfer.amount as i128;
            *self.balances.entry(credit).or_default() += transfer.amount as i128;
            Outcome::Committed
        };
        self.done.insert(key, (transfer, outcome));
        (outcome, false)
    }
}

#[test]
fn one_group_agrees_with_a_naive_model() {
    for seed in 0..100 {
        println!("seed {seed}");
        let mut rng = Rng::new(seed);
        let mut world = World::new(G1);
        let mut model = Model::default();
        model.balances.extend((1..=10).map(|account| (account, 10)));
        model.balances.extend([(u128::MAX, -100), (u128::MAX - 2, 0)]);
        let mut all = Vec::new();
        for _ in 0..40 {
            let batch: Vec<Transfer> = (0..rng.below(20))
                .map(|_| {
                    let mut account = || match rng.below(14) {
                        11 => u128::MAX,
                        12 => 105,
                        13 => 5000,
                        other => u128::from(other.max(1)),
                    };
                    let (debit, credit) = (account(), account());
                    let ledger = if rng.chance(3) { 2 } else { 1 };
                    let amount = u128::from(rng.below(8));
                    Transfer { ledger, ..move_money(u128::from(rng.below(200)), debit, credit, amount) }
                })
                .collect();
            let outputs = world.one(transfers(&batch));
            let (items, waiting) = transfers_done(&outputs[0]).expect("a batch is answered");
            let mut items: BTreeMap<u32, ItemResult> = items.iter().map(|item| (item.index, *item)).collect();
            assert_eq!(waiting, 0);
            for (index, transfer) in batch.iter().enumerate() {
                let (outcome, replayed) = model.apply(*transfer);
                let item = items.remove(&(index as u32));
                let found = item.map_or((COMMITTED, false), |item| (item.result, item.replayed));
                assert_eq!(found, (TransferResult::Done(outcome), replayed), "{transfer:?}");
            }
            assert!(items.is_empty());
            all.extend(outputs);
        }
        for (account, balance) in &model.balances {
            assert_eq!(world.balance(*account), *balance, "account {account}");
        }
        // The first entry is the leader's.
        world.assert_replays(G1, Limits::default(), &all, 1, seed + 1000);
        world.assert_replays(G1, Limits::default(), &all, 37, seed + 2000);
    }
}

/// A message between groups that may come late, twice, or never.
#[derive(Clone)]
enum Mail {
    Prepare(Transfer, u64, u64),
    Resolve(Transfer, u64, Verdict),
}

/// Two groups and what lies between them: a coordinator that forgets nothing, on a bad network.
struct Pair {
    rng: Rng,
    groups: BTreeMap<GroupId, World>,
    outputs: BTreeMap<GroupId, Vec<Output>>,
    mail: Vec<Mail>,
    transfers: BTreeMap<TxnId, (Transfer, u64, u64)>,
    votes: BTreeMap<(TxnId, Attempt), BTreeMap<GroupId, VoteKind>>,
}

impl Pair {
    fn new(seed: u64, limits: Limits) -> Pair {
        let groups = [G1, G2].map(|group| (group, World::with(group, limits)));
        Pair {
            rng: Rng::new(seed),
            groups: groups.into(),
            outputs: BTreeMap::new(),
            mail: Vec::new(),
            transfers: BTreeMap::new(),
            votes: BTreeMap::new(),
        }
    }

    fn run(&mut self, group: GroupId, commands: Vec<Command>) {
        let world = self.groups.get_mut(&group).expect("there are two groups");
        let outputs = world.run(commands);
        for output in &outputs {
            match output {
                Output::Txn(TxnOutput::Voted { txn, attempt, vote, .. }) => {
                    self.votes.entry((*txn, *attempt)).or_default().insert(group, *vote);
                }
                Output::Txn(TxnOutput::Decided { txn, attempt, verdict, .. }) => {
                    let transfer = self.transfers[txn].0;
                    self.mail.push(Mail::Resolve(transfer, attempt.number, *verdict));
                }
                _ => {}
            }
        }
        self.outputs.entry(group).or_default().extend(outputs);
    }

    fn account(&mut self, group: GroupId) -> u128 {
        // Few accounts, so that they meet.
        let first = if group == G1 { 1 } else { 11 };
        first + u128::from(self.rng.below(3))
    }

    fn group(&mut self) -> GroupId {
        if self.rng.chance(50) { G1 } else { G2 }
    }

    /// A new transaction, or another attempt at one: even if an attempt is under way, or has been committed.
    fn start(&mut self) {
        let home = self.group();
        let away = if home == G1 { G2 } else { G1 };
        let (id, amount) = (u128::from(self.rng.below(60)), u128::from(1 + self.rng.below(9)));
        let new = move_money(id, self.account(home), self.account(away), amount);
        let counter = self.groups[&home].ledger.counter() + 1;
        let entry = self.transfers.entry(TxnId::from(&new)).or_insert((new, counter, 0));
        entry.2 += 1;
        let (transfer, counter, number) = *entry;
        self.mail.push(Mail::Prepare(transfer, number, counter));
        if self.rng.chance(90) {
            self.run(home, vec![begin(transfer, number, counter)]);
        }
    }

    /// Decides what has all its votes, or loses patience.
    fn decide_one(&mut self) {
        let group = self.group();
        let live: Vec<_> =
            self.groups[&group].ledger.coordinated().into_iter().filter(|record| record.verdict.is_none()).collect();
        if live.is_empty() {
            return;
        }
        let record = &live[self.rng.below(live.len() as u64) as usize];
        let none = BTreeMap::new();
        let votes = self.votes.get(&(record.txn, record.attempt)).unwrap_or(&none);
        let no = votes.values().find_map(|vote| if let VoteKind::No(reason) = vote { Some(*reason) } else { None });
        let verdict = if votes.len() == 2 && votes.values().all(|vote| *vote == VoteKind::Yes) {
            Verdict::Commit
        } else if let Some(reason) = no {
            Verdict::Reject(reason)
        } else if votes.values().any(|vote| *vote != VoteKind::Yes) || self.rng.chance(10) {
            Verdict::Abort
        } else {
            return;
        };
        self.run(group, vec![decide(transfer_of(&record.action), record.attempt.number, verdict)]);
    }

    fn deliver(&mut self) {
        if self.mail.is_empty() {
            return;
        }
        let index = self.rng.below(self.mail.len() as u64) as usize;
        // Twice, or late again.
        let mail = if self.rng.chance(30) { self.mail[index].clone() } else { self.mail.swap_remove(index) };
        let to = |transfer: &Transfer| if transfer.debit.0 <= 10 { G2 } else { G1 };
        match mail {
            Mail::Prepare(transfer, number, counter) => {
                let deadline = Span(1 + self.rng.below(300));
                self.run(to(&transfer), vec![prepare_within(transfer, number, counter, deadline)]);
            }
            Mail::Resolve(transfer, number, verdict) => {
                self.run(to(&transfer), vec![resolve(transfer, number, verdict)]);
            }
        }
    }

    fn local(&mut self) {
        let group = self.group();
        let count = 1 + self.rng.below(4);
        let batch: Vec<Transfer> = (0..count)
            .map(|_| {
                let (debit, credit) = (self.account(group), self.account(group));
                let id = 1000 + u128::from(self.rng.below(200));
                move_money(id, debit, credit, u128::from(1 + self.rng.below(9)))
            })
            .collect();
        self.run(group, vec![transfers(&batch)]);
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..20 => self.start(),
            20..45 => self.decide_one(),
            45..75 => self.deliver(),
            75..88 => self.local(),
            88..94 => {
                let group = self.group();
                let account = self.account(group);
                self.run(group, vec![read(account)]);
            }
            94..96 => {
                let all: Vec<Transfer> = self.transfers.values().map(|(transfer, ..)| *transfer).collect();
                if let Some(transfer) = all.get(self.rng.below(60) as usize) {
                    let home = if transfer.debit.0 <= 10 { G1 } else { G2 };
                    self.run(home, vec![fence(*transfer)]);
                }
            }
            _ => {
                let group = self.group();
                let span = self.rng.below(400);
                self.groups.get_mut(&group).expect("there are two groups").time += span;
                self.run(group, Vec::new());
            }
        }
    }

    /// Everything undecided is aborted, everything in doubt is told its end.
    fn settle(&mut self) {
        for group in [G1, G2] {
            for record in self.groups[&group].ledger.coordinated() {
                if record.verdict.is_none() {
                    self.run(group, vec![decide(transfer_of(&record.action), record.attempt.number, Verdict::Abort)]);
                }
            }
        }
        for group in [G1, G2] {
            for row in self.groups[&group].ledger.in_doubt() {
                let record = self.groups[&row.coordinator].ledger.coordinated_one(row.txn, row.attempt);
                let verdict = record.and_then(|record| record.verdict).unwrap_or(Verdict::Abort);
                self.run(group, vec![resolve(self.transfers[&row.txn].0, row.attempt.number, verdict)]);
            }
        }
    }

    fn check(&self) {
        let mut sum = 0;
        let mut flow = 0u128;
        let mut posted: BTreeMap<GroupId, BTreeSet<TxnId>> = BTreeMap::new();
        for (group, world) in &self.groups {
            let totals = world.ledger.totals();
            assert_eq!((totals.in_doubt, totals.waiting, world.ledger.in_doubt().len()), (0, 0, 0));
            let ledger = totals.ledgers[0];
            assert_eq!(ledger.debits.wrapping_sub(ledger.credits), ledger.sent.wrapping_sub(ledger.received));
            flow = flow.wrapping_add(ledger.sent).wrapping_sub(ledger.received);
            sum += totals.ledgers.iter().map(|l| l.credits as i128 - l.debits as i128).sum::<i128>();
            let rows = world.ledger.posted_page(&PageCall { from: 0, limit: 8190 }).rows;
            assert_eq!(rows.len() as u64, totals.posted);
            for row in rows {
                let new = posted.entry(*group).or_default().insert(TxnId::from(&row.transfer));
                assert!(new, "{} is posted twice in {group}", row.transfer.id);
            }
        }
        assert_eq!((sum, flow), (0, 0), "money is neither made nor lost");
        for txn in self.transfers.keys() {
            let here = [G1, G2].map(|group| posted.get(&group).is_some_and(|rows| rows.contains(txn)));
            assert_eq!(here[0], here[1], "{txn} took effect in one group only");
            let outcomes = [G1, G2].map(|group| self.groups[&group].ledger.outcome(*txn) == Some(Outcome::Committed));
            assert_eq!(outcomes, here, "{txn}: the outcome is not what happened");
        }
    }
}

#[test]
fn random_transactions_conserve_money_take_effect_everywhere_or_nowhere_and_replay_alike() {
    let limits = Limits { waiting: 12, in_doubt_per_group: 20, ..Limits::default() };
    let (mut committed, mut waited) = (0, 0);
    for seed in 0..300 {
        println!("seed {seed}");
        let mut pair = Pair::new(seed, limits);
        for _ in 0..250 {
            pair.step();
            waited += pair.groups[&G1].ledger.totals().waiting;
        }
        pair.settle();
        pair.check();
        for (group, world) in &pair.groups {
            let outputs = pair.outputs.get(group).map_or(&[][..], |outputs| outputs);
            world.assert_replays(*group, limits, outputs, 1, seed + 17);
            world.assert_replays(*group, limits, outputs, 3, seed + 18);
            let ledger = world.ledger.totals().ledgers[0];
            committed += ledger.sent;
        }
    }
    assert!(committed > 10_000 && waited > 5_000, "the histories do something: {committed} sent, {waited} waited");
}

fn transfer_of(action: &Action) -> Transfer {
    match action {
        Action::Transfer(transfer) => *transfer,
        Action::Transaction(_) | Action::Expire(_) => panic!("these histories have transfers only"),
    }
}
