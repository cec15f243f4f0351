//! An account is created once and stays as it was created; what was answered about it is true.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::AccountId;
use drachma_protocol::ledger::model::{Account, CreateResult, Flags, NewAccount};

use super::{Checker, End, Verdict};
use crate::history::CreationRecord;
use crate::shape::Shape;

/// See the module.
pub struct Accounts;

impl Checker for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let found = found(end)?;
        let mut asked: BTreeMap<AccountId, Vec<NewAccount>> = BTreeMap::new();
        for new in end.history.creations.iter().flat_map(|creation| &creation.accounts) {
            asked.entry(new.id).or_default().push(*new);
        }
        for (id, account) in &found {
            let was_asked = || asked.get(id).is_some_and(|all| all.iter().any(|new| is_as(new, account)));
            if is_opened_by_clients(end.shape, *id) && !was_asked() {
                return Err(format!("nobody asked for this account: {account:?}"));
            }
        }
        let mut created = BTreeSet::new();
        for creation in &end.history.creations {
            let mut own = BTreeSet::new();
            for (at, results) in &creation.answers {
                for (new, result) in creation.accounts.iter().zip(results) {
                    is_true(end.shape, &found, creation, new, *result)?;
                    // A retry may be answered once more that this command has created it.
                    if *result == CreateResult::Created && own.insert(new.id) && !created.insert(new.id) {
                        return Err(format!("{} was created twice, as was answered at {at}: {creation:?}", new.id));
                    }
                }
            }
        }
        reads(end)
    }
}

/// Every account of every group, once.
fn found(end: &End<'_>) -> Result<BTreeMap<AccountId, Account>, String> {
    let mut found = BTreeMap::new();
    for (group, replicas) in end.groups {
        for account in replicas.first().map_or(&[][..], |replica| &replica.accounts) {
            if found.insert(account.id, *account).is_some() {
                return Err(format!("there are two accounts {}, one in {group}", account.id));
            }
        }
    }
    Ok(found)
}

/// Whether it is closed changes, and is not compared; who looks at that is another checker.
fn is_as(new: &NewAccount, account: &Account) -> bool {
    let rules = |flags: Flags| flags.without(Flags::CLOSED);
    (new.ledger, new.code, rules(new.flags)) == (account.ledger, account.code, rules(account.flags))
}

fn is_reserved(shape: &Shape, id: AccountId) -> bool {
    u128::MAX - id.0 < shape.map.owners.len() as u128
}

fn is_opened_by_clients(shape: &Shape, id: AccountId) -> bool {
    (id.0 == 0 || id.0 > u128::from(shape.accounts)) && !is_reserved(shape, id)
}

fn is_true(
    shape: &Shape,
    found: &BTreeMap<AccountId, Account>,
    creation: &CreationRecord,
    new: &NewAccount,
    result: CreateResult,
) -> Verdict {
    let account = found.get(&new.id);
    let is_here = shape.map.owner_of(new.id) == Some(creation.group) && !is_reserved(shape, new.id);
    let is_right = match result {
        CreateResult::Created | CreateResult::Exists => is_here && account.is_some_and(|account| is_as(new, account)),
        CreateResult::ExistsDifferent => is_here && account.is_some_and(|account| !is_as(new, account)),
        CreateResult::Moved => !is_here,
    };
    if is_right { Ok(()) } else { Err(format!("{new:?} was answered {result:?} by {}: {account:?}", creation.group)) }
}

/// Whoever reads an account after it was known to exist finds it, and finds it as it was created.
fn reads(end: &End<'_>) -> Verdict {
    let mut known: BTreeMap<AccountId, (u64, NewAccount)> = BTreeMap::new();
    for creation in &end.history.creations {
        for (at, results) in &creation.answers {
            for (new, result) in creation.accounts.iter().zip(results) {
                if matches!(result, CreateResult::Created | CreateResult::Exists) {
                    let since = known.entry(new.id).or_insert((*at, *new));
                    since.0 = since.0.min(*at);
                }
            }
        }
    }
    for read in &end.history.reads {
        let Some((since, new)) = known.get(&read.account) else { continue };
        match &read.found {
            None if *since < read.invoked => {
                return Err(format!("a read missed {new:?}, known since {since}: {read:?}"));
            }
            Some(account) if !is_as(new, account) => {
                return Err(format!("a read saw other rules than {new:?}: {read:?}"));
            }
            _ => {}
        }
    }
    Ok(())
}
