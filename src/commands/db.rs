//! `drachma db`: what differs from the opening state, on every replica side by side.

use std::collections::BTreeMap;

use clap::Args;
use drachma_protocol::ids::{AccountId, GroupId, NodeId, ShardId};
use drachma_protocol::ledger::model::Balance;
use drachma_protocol::ledger::operations::{Key, Value};
use drachma_protocol::message::operator::{AccountsCall, KeysCall, OperatorAnswer, OperatorCall};

use super::{Context, text};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell, Format};
use crate::target;

/// `drachma db`.
#[derive(Args, Clone, Debug)]
pub struct DbArgs {
    /// A node (n1), a group (g1), a list (n1,n2) or `all`
    #[arg(default_value = "all")]
    pub target: String,
}

/// Accounts or keys asked for at once.
const PAGE: u32 = 1000;

/// What a replica holds in an account, or under a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Held<V> {
    /// This.
    Now(V),
    /// What it had when the cluster was formatted; of a key: nothing.
    Opening,
    /// The node does not answer.
    Down,
}

/// What of a replica differs from the opening state; nothing if its node does not answer.
type Found<K, V> = Option<BTreeMap<K, V>>;

/// An account or a key that differs from its opening state on some replica, with what each replica of its group holds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Changed<K, V> {
    /// The account, or the key.
    pub what: K,
    /// By node.
    pub replicas: BTreeMap<NodeId, Held<V>>,
}

/// Shows them for the replicas of a target: the accounts, then the keys.
///
/// # Errors
/// With exit status 2 if there is no such target.
pub async fn db(context: &Context, target: &str) -> Outcome {
    let replicas = target::replicas(target, &context.topology).map_err(Failure::usage)?;
    let mut accounts = BTreeMap::new();
    let mut keys = BTreeMap::new();
    for (group, node) in &replicas {
        let found = accounts_on(context, *group, *node).await;
        accounts.entry(*group).or_insert_with(Vec::new).push((*node, found));
        let found = keys_on(context, *group, *node).await;
        keys.entry(*group).or_insert_with(Vec::new).push((*node, found));
    }
    let (accounts, keys) = (changed(&accounts), changed(&keys));
    match context.format {
        Format::Json => {
            for row in &accounts {
                output::line(account_json(context, row))?;
            }
            for row in &keys {
                output::line(key_json(row))?;
            }
        }
        Format::Table => {
            print_table(&replicas, "account", &accounts, |account, held| account_cell(context, *account, held))?;
            if !keys.is_empty() {
                print_table(&replicas, "key", &keys, |_, held| key_cell(held))?;
            }
        }
    }
    Ok(Exit::Done)
}

/// What was found on each replica of a group.
type Replicas<K, V> = Vec<(NodeId, Found<K, V>)>;

/// Everything that differs from its opening state on one of these replicas, in order.
fn changed<K: Clone + Ord, V: Clone>(groups: &BTreeMap<GroupId, Replicas<K, V>>) -> Vec<Changed<K, V>> {
    let mut changed: Vec<Changed<K, V>> = groups.values().flat_map(|replicas| side_by_side(replicas)).collect();
    changed.sort_by(|one, other| one.what.cmp(&other.what));
    changed
}

fn side_by_side<K: Clone + Ord, V: Clone>(replicas: &[(NodeId, Found<K, V>)]) -> Vec<Changed<K, V>> {
    let mut all: Vec<&K> = replicas.iter().filter_map(|(_, found)| found.as_ref()).flat_map(BTreeMap::keys).collect();
    all.sort_unstable();
    all.dedup();
    let held = |what: &K, found: &Found<K, V>| match found {
        None => Held::Down,
        Some(found) => found.get(what).map_or(Held::Opening, |value| Held::Now(value.clone())),
    };
    let row = |what: &K| Changed {
        what: what.clone(),
        replicas: replicas.iter().map(|(node, found)| (*node, held(what, found))).collect(),
    };
    all.into_iter().map(row).collect()
}

async fn accounts_on(context: &Context, group: GroupId, node: NodeId) -> Found<AccountId, Balance> {
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

async fn keys_on(context: &Context, group: GroupId, node: NodeId) -> Found<Key, Value> {
    let mut found = BTreeMap::new();
    let mut next = Some((ShardId(0), None));
    while let Some((shard, from)) = next {
        let call = KeysCall { shard, from, limit: PAGE };
        match context.ask(node, group, OperatorCall::Keys(call)).await {
            Ok(OperatorAnswer::Keys(page)) => {
                found.extend(page.rows);
                next = page.next.map(|(shard, key)| (shard, Some(key)));
            }
            _ => return None,
        }
    }
    Some(found)
}

fn account_cell(context: &Context, account: AccountId, held: &Held<Balance>) -> Cell {
    match held {
        Held::Now(balance) => Cell::number(balance),
        Held::Down => Cell::text("down"),
        Held::Opening if !context.verified => Cell::text("opening"),
        Held::Opening => Cell::number(opening(context, account)),
    }
}

fn opening(context: &Context, account: AccountId) -> u128 {
    let made = (1..=u128::from(context.settings.accounts())).contains(&account.0);
    if made { context.settings.initial_balance() } else { 0 }
}

fn key_cell(held: &Held<Value>) -> Cell {
    match held {
        Held::Now(value) => Cell::Text(text::brief(value.as_bytes())),
        Held::Opening => Cell::text(text::ABSENT),
        Held::Down => Cell::text("(down)"),
    }
}

fn account_json(context: &Context, row: &Changed<AccountId, Balance>) -> String {
    let replicas = by_node(row, |held| account_cell(context, row.what, held));
    format!("{{\"kind\":\"balances\",\"account\":{},\"replicas\":{replicas}}}", row.what)
}

/// A value is any text, so `down` is no word for a node that does not answer: it has a field of its own. A replica that
/// does not have the key is in neither.
fn key_json(row: &Changed<Key, Value>) -> String {
    let replicas = by_node(row, |held| match held {
        Held::Now(value) => Cell::Text(text::shown(value.as_bytes())),
        Held::Opening | Held::Down => Cell::None,
    });
    let down = row.replicas.iter().filter(|(_, held)| **held == Held::Down).map(|(node, _)| node.to_string());
    let rest = output::object(&["key", "down"], &[super::txn::name(&row.what), Cell::List(down.collect())]);
    format!("{{\"kind\":\"values\",\"replicas\":{replicas},{}", &rest[1..])
}

fn by_node<K, V>(row: &Changed<K, V>, cell: impl Fn(&Held<V>) -> Cell) -> String {
    let names: Vec<String> = row.replicas.keys().map(ToString::to_string).collect();
    let headers: Vec<&str> = names.iter().map(String::as_str).collect();
    let cells: Vec<Cell> = row.replicas.values().map(cell).collect();
    output::object(&headers, &cells)
}

fn print_table<K: Name, V>(
    replicas: &[(GroupId, NodeId)],
    kind: &str,
    changed: &[Changed<K, V>],
    cell: impl Fn(&K, &Held<V>) -> Cell,
) -> Result<(), Failure> {
    let mut nodes: Vec<NodeId> = replicas.iter().map(|(_, node)| *node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let headers: Vec<&str> = std::iter::once(kind).chain(names.iter().map(String::as_str)).collect();
    let row = |row: &Changed<K, V>| {
        let held = nodes.iter().map(|node| row.replicas.get(node));
        let cells = held.map(|held| held.map_or(Cell::None, |held| cell(&row.what, held)));
        std::iter::once(row.what.name()).chain(cells).collect()
    };
    let rows: Vec<Vec<Cell>> = changed.iter().map(row).collect();
    output::print(Format::Table, &headers, &rows)?;
    Ok(())
}

/// What stands in the first column.
trait Name {
    fn name(&self) -> Cell;
}

impl Name for AccountId {
    fn name(&self) -> Cell {
        Cell::number(self)
    }
}

impl Name for Key {
    fn name(&self) -> Cell {
        super::txn::name(self)
    }
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
            BTreeMap::from([(NodeId(1), Held::Now(ten)), (NodeId(2), Held::Opening), (NodeId(3), Held::Down)]);
        assert_eq!(changed, [Changed { what: AccountId(5), replicas: expected }]);
    }

    #[test]
    fn a_key_is_shown_with_who_has_it_who_does_not_and_who_is_down() {
        let key = |name: &'static str| Key::new(name).unwrap();
        let value = |text: &'static str| Value::new(text).unwrap();
        let g1 = vec![
            (NodeId(1), Some(BTreeMap::from([(key("b"), value("down")), (key("c"), value("1"))]))),
            (NodeId(2), Some(BTreeMap::from([(key("c"), value("2"))]))),
            (NodeId(3), None),
        ];
        let g2 = vec![(NodeId(4), Some(BTreeMap::from([(key("a"), value("x"))])))];
        let changed = changed(&BTreeMap::from([(GroupId(1), g1), (GroupId(2), g2)]));
        let lines: Vec<String> = changed.iter().map(key_json).collect();
        assert_eq!(
            lines,
            [
                r#"{"kind":"values","replicas":{"n4":"x"},"key":"a","down":[]}"#,
                r#"{"kind":"values","replicas":{"n1":"down"},"key":"b","down":["n3"]}"#,
                r#"{"kind":"values","replicas":{"n1":"1","n2":"2"},"key":"c","down":["n3"]}"#,
            ]
        );
        let cells: Vec<Cell> = changed[1].replicas.values().map(key_cell).collect();
        assert_eq!(cells, [Cell::text("down"), Cell::text("(none)"), Cell::text("(down)")]);
    }
}
