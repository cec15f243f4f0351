//! `drachma db`: what differs from the opening balances, on every replica side by side.

use std::collections::BTreeMap;

use drachma_protocol::ids::{AccountId, GroupId, NodeId};
use drachma_protocol::ledger::model::Balance;
use drachma_protocol::message::operator::{AccountsCall, OperatorAnswer, OperatorCall};

use super::Context;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell, Format};
use crate::target;

/// Accounts asked for at once.
const PAGE: u32 = 1000;

/// What a replica holds in an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Held {
    /// This balance.
    Balance(Balance),
    /// What it had when the cluster was formatted.
    Opening,
    /// The node does not answer.
    Down,
}

/// The accounts of a replica that differ from their opening balances; nothing if its node does not answer.
type Found = Option<BTreeMap<AccountId, Balance>>;

/// An account that differs from its opening balance on some replica, with what each replica of its group holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed {
    /// The account.
    pub account: AccountId,
    /// By node.
    pub replicas: BTreeMap<NodeId, Held>,
}

/// Shows them for the replicas of a target.
///
/// # Errors
/// With exit status 2 if there is no such target.
pub async fn db(context: &Context, target: &str) -> Outcome {
    let replicas = target::replicas(target, &context.topology).map_err(Failure::usage)?;
    let changed = changed(context, &replicas).await;
    match context.format {
        Format::Json => {
            for row in &changed {
                output::line(json(context, row))?;
            }
        }
        Format::Table => print_table(context, &replicas, &changed)?,
    }
    Ok(Exit::Done)
}

/// Every account that differs from its opening balance on one of these replicas, in order.
pub async fn changed(context: &Context, replicas: &[(GroupId, NodeId)]) -> Vec<Changed> {
    let mut groups: BTreeMap<GroupId, Vec<(NodeId, Found)>> = BTreeMap::new();
    for (group, node) in replicas {
        let found = changed_on(context, *group, *node).await;
        groups.entry(*group).or_default().push((*node, found));
    }
    let mut changed: Vec<Changed> = groups.values().flat_map(|replicas| side_by_side(replicas)).collect();
    changed.sort_by_key(|row| row.account);
    changed
}

fn side_by_side(replicas: &[(NodeId, Found)]) -> Vec<Changed> {
    let mut accounts: Vec<AccountId> =
        replicas.iter().filter_map(|(_, found)| found.as_ref()).flat_map(|found| found.keys().copied()).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let held = |account: &AccountId, found: &Found| match found {
        None => Held::Down,
        Some(found) => found.get(account).map_or(Held::Opening, |balance| Held::Balance(*balance)),
    };
    let row = |account: AccountId| Changed {
        account,
        replicas: replicas.iter().map(|(node, found)| (*node, held(&account, found))).collect(),
    };
    accounts.into_iter().map(row).collect()
}

async fn changed_on(context: &Context, group: GroupId, node: NodeId) -> Found {
    let mut found = BTreeMap::new();
    let mut from = Some(0);
    while let Some(position) = from {
        let call = AccountsCall { from: position, limit: PAGE, changed: true, reserved: false };
        match context.ask(node, group, OperatorCall::Accounts(call)).await {
            Ok(OperatorAnswer::Accounts(page)) => {
                found.extend(page.accounts.iter().map(|account| (account.id, account.balance())));
                from = page.next;
            }
            _ => return None,
        }
    }
    Some(found)
}

fn cell(context: &Context, account: AccountId, held: Held) -> Cell {
    match held {
        Held::Balance(balance) => Cell::number(balance),
        Held::Down => Cell::text("down"),
        Held::Opening if !context.verified => Cell::text("opening"),
        Held::Opening => Cell::number(opening(context, account)),
    }
}

fn opening(context: &Context, account: AccountId) -> u128 {
    let made = (1..=u128::from(context.settings.accounts())).contains(&account.0);
    if made { context.settings.initial_balance() } else { 0 }
}

fn json(context: &Context, row: &Changed) -> String {
    let names: Vec<String> = row.replicas.keys().map(ToString::to_string).collect();
    let headers: Vec<&str> = names.iter().map(String::as_str).collect();
    let cells: Vec<Cell> = row.replicas.values().map(|held| cell(context, row.account, *held)).collect();
    let replicas = output::object(&headers, &cells);
    format!("{{\"kind\":\"balances\",\"account\":{},\"replicas\":{replicas}}}", row.account)
}

fn print_table(context: &Context, replicas: &[(GroupId, NodeId)], changed: &[Changed]) -> Result<(), Failure> {
    let mut nodes: Vec<NodeId> = replicas.iter().map(|(_, node)| *node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let headers: Vec<&str> = std::iter::once("account").chain(names.iter().map(String::as_str)).collect();
    let row = |row: &Changed| {
        let held = nodes.iter().map(|node| row.replicas.get(node));
        let cells = held.map(|held| held.map_or(Cell::None, |held| cell(context, row.account, *held)));
        std::iter::once(Cell::number(row.account)).chain(cells).collect()
    };
    let rows: Vec<Vec<Cell>> = changed.iter().map(row).collect();
    output::print(context.format, &headers, &rows)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_replica_changed_is_shown_on_all() {
        let ten = Balance { negative: false, magnitude: 10 };
        let changed = side_by_side(&[
            (NodeId(1), Some(BTreeMap::from([(AccountId(5), ten)]))),
            (NodeId(2), Some(BTreeMap::new())),
            (NodeId(3), None),
        ]);
        let expected =
            BTreeMap::from([(NodeId(1), Held::Balance(ten)), (NodeId(2), Held::Opening), (NodeId(3), Held::Down)]);
        assert_eq!(changed, [Changed { account: AccountId(5), replicas: expected }]);
    }
}
