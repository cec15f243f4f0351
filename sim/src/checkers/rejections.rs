//! Number 4: a rejection is an observation. One for want of money needs a moment between its request and its answer at
//! which the account did not allow the transfer even if everything in doubt had gone well for it (hazard S3): with at
//! least the debits' and credits' that clients knew of, and with at most those that had been asked for. The other reasons
//! speak of what does not change, and must be true. What is `fenced` was fenced by an entry of the log.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{AccountId, TxnId};
use drachma_protocol::ledger::model::{Account, Flags, Outcome, Reason, Transfer};
use drachma_protocol::message::command::{Command, Content};

use super::versions::{Step, Versions};
use super::{Checker, Chosen, End, Verdict};

/// See the module.
#[derive(Default)]
pub struct Rejections {
    fenced: BTreeSet<TxnId>,
}

impl Checker for Rejections {
    fn name(&self) -> &'static str {
        "rejections"
    }

    fn on_entry(&mut self, chosen: &Chosen<'_>) -> Verdict {
        if let Content::Commands(commands) = &chosen.entry.content {
            let fences = commands.iter().filter_map(|command| match command {
                Command::Fence(fence) => Some(fence.txn),
                _ => None,
            });
            self.fenced.extend(fences);
        }
        Ok(())
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let accounts: BTreeMap<AccountId, Account> = end
            .furthest()
            .flat_map(|(_, replica)| replica.accounts.iter().map(|account| (account.id, *account)))
            .collect();
        for record in end.history.transfers.values() {
            // Not looked at when the answer comes: the rest of a large entry is applied after it.
            let fenced = record.answers.iter().any(|(_, outcome)| *outcome == Outcome::Rejected(Reason::Fenced));
            if fenced && !self.fenced.contains(&TxnId::from(&record.transfer)) {
                return Err(format!("answered as fenced, but nobody has fenced it: {record:?}"));
            }
            if let Some(Outcome::Rejected(reason)) = record.outcome()
                && !is_true(end, &accounts, &record.transfer, reason)
            {
                return Err(format!("the reason of a rejection is not true: {record:?}"));
            }
        }
        let all = end.versions();
        match rejections(end, all).into_iter().find(|rejection| !rejection.justified) {
            None => Ok(()),
            Some(rejection) => {
                let record = end.history.transfers.get(&rejection.txn);
                Err(format!("at no moment between request and answer was this to be rejected: {record:?}"))
            }
        }
    }
}

/// Whether what a reason says of content and rules is so, as far as it does not change.
fn is_true(end: &End<'_>, accounts: &BTreeMap<AccountId, Account>, transfer: &Transfer, reason: Reason) -> bool {
    let (debit, credit) = (accounts.get(&transfer.debit), accounts.get(&transfer.credit));
    let both = || debit.into_iter().chain(credit);
    let genesis = |account: AccountId| (1..=u128::from(end.shape.accounts)).contains(&account.0);
    match reason {
        Reason::ExceedsCredits => debit.is_some_and(|a| a.flags.has(Flags::DEBITS_MUST_NOT_EXCEED_CREDITS)),
        Reason::ExceedsDebits => credit.is_some_and(|a| a.flags.has(Flags::CREDITS_MUST_NOT_EXCEED_DEBITS)),
        Reason::NoSuchAccount => !genesis(transfer.debit) || !genesis(transfer.credit),
        Reason::SameAccount => transfer.debit == transfer.credit,
        Reason::ZeroAmount => transfer.amount == 0,
        Reason::LedgerMismatch => both().any(|account| account.ledger != transfer.ledger),
        Reason::Closed => both().any(|account| account.flags.has(Flags::CLOSED)),
        Reason::Overflow => {
            let most = both().map(|account| account.debits_posted.max(account.credits_posted)).max();
            most.unwrap_or(0).checked_add(transfer.amount).is_none()
        }
        // A transfer has no conditions and no keys.
        Reason::Condition | Reason::TooLarge | Reason::NotANumber => false,
        // Nor does it end a pending one, and no batch has a chain.
        Reason::PendingNotFound
        | Reason::PendingAlreadyPosted
        | Reason::PendingAlreadyVoided
        | Reason::PendingExpired
        | Reason::ExceedsPendingAmount
        | Reason::PendingDifferentAccounts
        | Reason::LinkedEventFailed
        | Reason::LinkedEventChainOpen => false,
        // A conflict speaks of a content that is not in the history under this id.
        Reason::Fenced | Reason::IdConflict => true,
    }
}

/// On which side of a rejected transfer another one must lie.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Without it there would have been enough.
    Before,
    /// With it there would have been enough.
    After,
}

/// A transfer that was rejected for want of money.
#[derive(Debug)]
pub struct Rejection {
    /// Which.
    pub txn: TxnId,
    /// There was a moment at which it was to be rejected.
    pub justified: bool,
    /// Which transfers must lie where.
    pub forced: Vec<(TxnId, Side)>,
}

/// All rejections for want of money.
pub fn rejections(end: &End<'_>, all: &BTreeMap<AccountId, Versions>) -> Vec<Rejection> {
    let mut indexes: BTreeMap<(AccountId, bool), Index> = BTreeMap::new();
    let mut found = Vec::new();
    for record in end.history.transfers.values() {
        let Some((answered, Outcome::Rejected(reason))) = record.answers.first().copied() else { continue };
        let account = match reason {
            Reason::ExceedsCredits => record.transfer.debit,
            Reason::ExceedsDebits => record.transfer.credit,
            _ => continue,
        };
        let Some(versions) = all.get(&account) else { continue };
        let of_credits = reason == Reason::ExceedsCredits;
        let index = indexes.entry((account, of_credits)).or_insert_with(|| Index::new(versions, of_credits));
        let demand = Demand { amount: record.transfer.amount, invoked: record.invoked, answered };
        found.push(index.judge(TxnId::from(&record.transfer), &demand, versions));
    }
    found
}

/// What a rejected transfer wanted of an account, and when.
struct Demand {
    amount: u128,
    invoked: u64,
    answered: u64,
}

/// What one transfer gave to an account and took from it.
#[derive(Clone, Copy)]
struct Change {
    gives: u128,
    takes: u128,
    invoked: u64,
    committed: Option<u64>,
}

/// The transfers of an account, so that a rejection looks at those only that ran beside it: thousands are rejected at an
/// account with thousands of transfers.
struct Index {
    // In the order of posting, and the sums before each.
    changes: Vec<Change>,
    sums: Vec<(u128, u128)>,
    // When it was known, and of all known until then: what they gave, and the place after the last that took.
    known: Vec<(u64, u128, usize)>,
    // When it was asked for, its place, what all until then took, and the latest end of them.
    asked: Vec<(u64, usize, u128, u64)>,
    // Those that nobody was told of.
    unanswered: Vec<usize>,
}

impl Index {
    /// `of_credits`: credits give room and debits take it; otherwise the reverse.
    fn new(versions: &Versions, of_credits: bool) -> Index {
        let sides = |(debit, credit): (u128, u128)| if of_credits { (credit, debit) } else { (debit, credit) };
        let change = |step: &Step| {
            let (gives, takes) = sides((step.debit, step.credit));
            Change { gives, takes, invoked: step.invoked, committed: step.committed }
        };
        let changes: Vec<Change> = versions.steps.iter().map(change).collect();
        let mut sums = vec![sides(versions.opening)];
        for (place, change) in changes.iter().enumerate() {
            let (room, used) = sums[place];
            sums.push((room + change.gives, used + change.takes));
        }
        let numbered = || changes.iter().enumerate();
        let mut known: Vec<(u64, u128, usize)> = numbered()
            .filter_map(|(place, it)| Some((it.committed?, it.gives, if it.takes > 0 { place + 1 } else { 0 })))
            .collect();
        known.sort_unstable();
        let (mut gave, mut after) = (0, 0);
        for row in &mut known {
            (gave, after) = (gave + row.1, after.max(row.2));
            (row.1, row.2) = (gave, after);
        }
        let mut asked: Vec<(u64, usize, u128, u64)> =
            numbered().map(|(place, it)| (it.invoked, place, it.takes, it.committed.unwrap_or(0))).collect();
        asked.sort_unstable();
        let (mut took, mut latest) = (0, 0);
        for row in &mut asked {
            (took, latest) = (took + row.2, latest.max(row.3));
            (row.2, row.3) = (took, latest);
        }
        let unanswered = numbered().filter(|(_, it)| it.committed.is_none()).map(|(place, _)| place).collect();
        Index { changes, sums, known, asked, unanswered }
    }

    fn judge(&self, txn: TxnId, demand: &Demand, versions: &Versions) -> Rejection {
        let beside = self.beside(demand);
        let known = self.known.partition_point(|(at, ..)| *at < demand.invoked).checked_sub(1);
        let (gave, least) = known.map_or((0, 0), |last| (self.known[last].1, self.known[last].2));
        let most = versions.most(demand.answered);
        let justified = self.is_refused(demand, (least, most), gave, &beside);
        Rejection { txn, justified, forced: self.forced(demand, gave, &beside, versions) }
    }

    /// The transfers that had been asked for when the rejection was answered and were not known when it was asked for.
    fn beside(&self, demand: &Demand) -> Vec<usize> {
        let until = self.asked.partition_point(|(at, ..)| *at <= demand.answered);
        let reaching = self.asked[..until].iter().rev().take_while(|(.., latest)| *latest >= demand.invoked);
        let ended = |place: &usize| self.changes[*place].committed.is_some_and(|at| at >= demand.invoked);
        let answered = reaching.map(|(_, place, ..)| *place).filter(ended);
        let asked = |place: &usize| self.changes[*place].invoked <= demand.answered;
        let mut beside: Vec<usize> = answered.chain(self.unanswered.iter().copied().filter(asked)).collect();
        beside.sort_unstable();
        beside
    }

    /// Whether some version that was possible refuses. What takes is posted in its account's group before it is answered;
    /// what gives, from another group, may be answered first, and is then in doubt: it counts as if it were posted.
    fn is_refused(&self, demand: &Demand, (least, most): (usize, usize), gave: u128, beside: &[usize]) -> bool {
        let unknown_before = |place: usize| -> u128 {
            beside.iter().take_while(|other| **other < place).map(|other| self.changes[*other].gives).sum()
        };
        (least..=most.max(least)).take_while(|version| *version <= most).any(|version| {
            let (room, used) = self.sums[version];
            // Of what is known to have been given, whatever is not posted by then.
            let posted = room - self.sums[0].0 - unknown_before(version);
            let in_doubt = gave.saturating_sub(posted);
            used.saturating_add(demand.amount) > room + in_doubt
        })
    }

    /// With the least room that any order leaves, what can have made the difference alone? What was known before lies
    /// before it anyway.
    fn forced(&self, demand: &Demand, gave: u128, beside: &[usize], versions: &Versions) -> Vec<(TxnId, Side)> {
        let until = self.asked.partition_point(|(at, ..)| *at <= demand.answered).checked_sub(1);
        let took = until.map_or(0, |last| self.asked[last].2);
        let (room, used) = (self.sums[0].0 + gave, self.sums[0].1 + took);
        let Some(missing) = used.saturating_add(demand.amount).checked_sub(room).filter(|missing| *missing > 0) else {
            return Vec::new();
        };
        let side = |place: &usize| {
            let change = self.changes[*place];
            let side = if change.takes >= missing {
                Side::Before
            } else if change.gives >= missing {
                Side::After
            } else {
                return None;
            };
            Some((versions.steps[*place].txn, side))
        };
        beside.iter().filter_map(side).collect()
    }
}

#[cfg(test)]
mod tests {
    use drachma_protocol::ids::{AccountId, TransferId};
    use drachma_protocol::rng::Rng;

    use super::*;

    /// The rules as they are said, one step after the other.
    fn plainly(demand: &Demand, versions: &Versions, of_credits: bool) -> (bool, Vec<(TxnId, Side)>) {
        let sides = |(debit, credit): (u128, u128)| if of_credits { (credit, debit) } else { (debit, credit) };
        let known = |step: &Step| step.committed.is_some_and(|at| at < demand.invoked);
        let gives = |step: &Step| sides((step.debit, step.credit)).0;
        let takes = |step: &Step| sides((step.debit, step.credit)).1;
        let taken = |step: &Step| takes(step) > 0 && known(step);
        let least = versions.steps.iter().rposition(taken).map_or(0, |index| index + 1);
        let late = |step: &Step| if known(step) { gives(step) } else { 0 };
        let mut in_doubt: u128 = versions.steps.iter().map(late).sum();
        let (mut room, mut used) = sides(versions.opening);
        let mut refused = false;
        for version in 0..=versions.most(demand.answered) {
            refused |= version >= least && used + demand.amount > room + in_doubt;
            let Some(step) = versions.steps.get(version) else { break };
            (room, used, in_doubt) = (room + gives(step), used + takes(step), in_doubt - late(step));
        }
        let possible = || versions.steps.iter().filter(|step| step.invoked <= demand.answered);
        let (room, used) = sides(versions.opening);
        let least_room = room + possible().map(late).sum::<u128>();
        let most_used = used + possible().map(takes).sum::<u128>();
        let missing = (most_used + demand.amount).saturating_sub(least_room);
        let side = |step: &&Step| match (takes(step) >= missing, gives(step) >= missing) {
            _ if missing == 0 || known(step) => None,
            (true, _) => Some((step.txn, Side::Before)),
            (false, true) => Some((step.txn, Side::After)),
            (false, false) => None,
        };
        (refused, possible().filter_map(|step| side(&step)).collect())
    }

    #[test]
    fn the_index_says_what_the_rules_say() {
        let mut rng = Rng::new(11);
        for round in 0..400 {
            let mut time = 0;
            let step = |id: u64, rng: &mut Rng| {
                time += rng.below(5);
                let (out, amount) = (rng.below(2) == 0, u128::from(rng.below(9)) + 1);
                Step {
                    txn: TxnId { id: TransferId(u128::from(id)), first: AccountId(1) },
                    debit: if out { amount } else { 0 },
                    credit: if out { 0 } else { amount },
                    invoked: time,
                    committed: (rng.below(8) > 0).then(|| time + 1 + rng.below(30)),
                }
            };
            let steps: Vec<Step> = {
                let mut step = step;
                (0..rng.below(40)).map(|id| step(id, &mut rng)).collect()
            };
            let versions = Versions::for_tests((5, 9), steps);
            for of_credits in [true, false] {
                let index = Index::new(&versions, of_credits);
                for _ in 0..20 {
                    let invoked = rng.below(120);
                    let demand =
                        Demand { amount: u128::from(rng.below(20)), invoked, answered: invoked + rng.below(40) };
                    let rejection = index.judge(TxnId::default(), &demand, &versions);
                    let plain = plainly(&demand, &versions, of_credits);
                    assert_eq!((rejection.justified, rejection.forced), plain, "round {round}");
                }
            }
        }
    }
}
