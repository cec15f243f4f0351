//! Number 5, over keys: transactions and queries have an order that agrees with real time and with all that was seen,
//! and what was answered took effect, once.
//!
//! The order in which a key was written is known for three kinds of keys (see [`Street`]). A list is its own history:
//! every token in it belongs to one append of one transaction. A counter grows by one, so its number is a position. A
//! chain is replaced only on condition of the value before. So every read has a place among the writes: behind what it
//! saw, before what it did not see; these demands, and real time, must have no cycle. A condition that held is a read.
//! The other kinds hold together in every read and at the end: a ring is one ring, exchanged numbers are all still
//! there, and what is always written in all groups together is equal in all of them.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::TxnId;
use drachma_protocol::ledger::model::{Outcome, Reason};
use drachma_protocol::ledger::operations::{Condition, Key, Operation, Put, Reply, Transaction, Value};
use drachma_protocol::wire::codec::to_vec;

use super::graph::{Graph, Node, Span, Why};
use super::{Checker, End, Verdict};
use crate::client::streets::{RING, SEATS, Street, Streets, TOKEN};
use crate::history::{History, TransactionRecord};

/// So many bytes of replies a group keeps at least.
const ROOM: usize = 12 * 1024 * 1024;
/// What replies take beside their bytes.
const BESIDE: usize = 200;

/// See the module.
pub struct Keys;

impl Checker for Keys {
    fn name(&self) -> &'static str {
        "keys"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        end.history.transactions.iter().try_for_each(|(txn, record)| answers(*txn, record))?;
        kept(end.history)?;
        let mut state = State::of(end);
        state.lists()?;
        state.chain()?;
        state.observe()?;
        state.ends()?;
        state.rejections()?;
        state.demand()?;
        state.graph.real_time(&state.spans);
        match state.graph.cycle() {
            None => Ok(()),
            Some(cycle) => Err(format!("no serial order exists: {cycle}")),
        }
    }
}

/// All answers to a transaction say the same, and it may have been said.
fn answers(txn: TxnId, record: &TransactionRecord) -> Verdict {
    if !record.is_recorded() {
        return Ok(());
    }
    let Some((_, outcome)) = record.outcome() else { return Ok(()) };
    if record.outcomes().any(|(_, other)| other != outcome) {
        return Err(format!("{txn} was answered in different ways: {record:?}"));
    }
    if let Some(replies) = record.replies()
        && record.answers.iter().any(|answer| answer.replies.as_ref().is_some_and(|other| other != replies))
    {
        return Err(format!("{txn} yielded different things: {record:?}"));
    }
    let first = record.answers.iter().find(|answer| !answer.replayed && answer.outcome == Outcome::Committed);
    if first.is_some_and(|answer| answer.replies.is_none()) {
        return Err(format!("{txn} committed, and what it yielded was not said: {record:?}"));
    }
    match outcome {
        Outcome::Rejected(reason) if !is_possible(&record.transaction, reason) => {
            Err(format!("{txn} was not to be rejected so: {record:?}"))
        }
        Outcome::Committed if is_hopeless(&record.transaction) => Err(format!("{txn} was to be rejected: {record:?}")),
        _ => Ok(()),
    }
}

/// As long as there is room for all of it, what a transaction has yielded is told to everyone who asks.
fn kept(history: &History) -> Verdict {
    let said = |replies: &Vec<Reply>| replies.iter().any(|reply| !matches!(reply, Reply::Done(_)));
    let told = || history.transactions.values().filter(|record| record.is_recorded());
    let bytes: usize =
        told().filter_map(|record| record.replies()).map(|replies| BESIDE + 2 * to_vec(replies).len()).sum();
    if bytes > ROOM {
        return Ok(());
    }
    for record in told().filter(|record| record.replies().is_some_and(said)) {
        if let Some(without) = record.answers.iter().find(|answer| answer.replies.is_none()) {
            return Err(format!("what this had yielded was forgotten, {without:?}: {record:?}"));
        }
    }
    Ok(())
}

fn is_possible(transaction: &Transaction, reason: Reason) -> bool {
    match reason {
        Reason::Condition => !transaction.conditions.is_empty(),
        Reason::NotANumber | Reason::TooLarge => is_hopeless(transaction),
        Reason::Fenced => true,
        _ => false,
    }
}

/// Whether it adds to what is no number, or appends to what is as long as a value may be.
fn is_hopeless(transaction: &Transaction) -> bool {
    let adds = |operation: &Operation| match operation {
        Operation::Add(add) => Street::of(&add.key) == Some(Street::Odd),
        Operation::Append(put) => Street::of(&put.key) == Some(Street::Odd),
        _ => false,
    };
    transaction.operations.iter().any(adds)
}

/// One key whose versions are numbered, or several that are written as one.
#[derive(Default)]
struct Versions {
    // Who made which version, the first one being 1; not all need be known.
    made: BTreeMap<u64, Node>,
    seen: Vec<(u64, Node)>,
}

struct State<'a> {
    end: &'a End<'a>,
    streets: Streets,
    graph: Graph,
    spans: Vec<(Node, Span)>,
    nodes: BTreeMap<TxnId, Node>,
    // What the keys hold at the end.
    last: BTreeMap<&'a Key, &'a Value>,
    versions: BTreeMap<Key, Versions>,
    // The version of the chain that each value is.
    chain: BTreeMap<Value, u64>,
    chain_key: Option<Key>,
}

/// What somebody saw together.
type Seen = BTreeMap<Key, Option<Value>>;

impl<'a> State<'a> {
    fn of(end: &'a End<'a>) -> State<'a> {
        let streets = Streets::of(end.shape);
        let last = end.furthest().flat_map(|(_, replica)| &replica.keys).collect();
        let (graph, spans, nodes) = (Graph::default(), Vec::new(), BTreeMap::new());
        let chain_key = streets.everywhere(Street::Chain).into_iter().next();
        let (versions, chain) = (BTreeMap::new(), BTreeMap::new());
        State { end, streets, graph, spans, nodes, last, versions, chain, chain_key }
    }

    fn records(&self) -> impl Iterator<Item = (TxnId, &'a TransactionRecord)> + use<'a> {
        self.end.history.transactions.iter().map(|(txn, record)| (*txn, record))
    }

    /// The operation of a transaction that took effect.
    fn node(&mut self, txn: TxnId, record: &TransactionRecord) -> Node {
        if let Some(node) = self.nodes.get(&txn) {
            return *node;
        }
        let ended = record.outcome().map(|(at, _)| at);
        let end = ended.map_or_else(|| "unanswered".to_owned(), |at| at.to_string());
        let name = format!("{txn} {} [{}, {end}]", told(&record.transaction), record.invoked);
        let node = self.graph.operation(name);
        self.spans.push((node, (record.invoked, ended)));
        self.nodes.insert(txn, node);
        node
    }

    /// Every token of every list belongs to one transaction that was not rejected, all of whose tokens are there.
    fn lists(&mut self) -> Verdict {
        let mut asked: BTreeMap<(&Key, &[u8]), TxnId> = BTreeMap::new();
        for (txn, record) in self.records() {
            asked.extend(appends(&record.transaction).map(|put| ((&put.key, put.value.as_bytes()), txn)));
        }
        let mut found: BTreeSet<(&Key, &[u8])> = BTreeSet::new();
        for (key, value) in self.last.clone() {
            if Street::of(key) != Some(Street::List) {
                continue;
            }
            for (place, token) in value.as_bytes().chunks(TOKEN).enumerate() {
                let Some(txn) = asked.get(&(key, token)).copied() else {
                    return Err(format!("{key:?} has at {place} what was never to be appended to it: {token:02x?}"));
                };
                let record = &self.end.history.transactions[&txn];
                if let Some((_, Outcome::Rejected(reason))) = record.outcome() {
                    return Err(format!("{key:?} has at {place} what was rejected ({reason:?}): {record:?}"));
                }
                if !found.insert((key, token)) {
                    return Err(format!("{key:?} has twice what was appended once: {record:?}"));
                }
                let node = self.node(txn, record);
                self.versions.entry(key.clone()).or_default().made.insert(place as u64 + 1, node);
            }
        }
        for (txn, record) in self.records() {
            let committed = matches!(record.outcome(), Some((_, Outcome::Committed)));
            let is_there = |put: &&Put| found.contains(&(&put.key, put.value.as_bytes()));
            let (there, all) =
                (appends(&record.transaction).filter(is_there).count(), appends(&record.transaction).count());
            if (committed || there > 0) && there < all {
                return Err(format!("of {all} tokens of {txn} {there} are there: {record:?}"));
            }
        }
        Ok(())
    }

    /// From the last value of the chain back to none, each was put on condition of the one before.
    fn chain(&mut self) -> Verdict {
        let Some(first) = self.chain_key.clone() else { return Ok(()) };
        let mut by_value: BTreeMap<&Value, (TxnId, Option<&Value>)> = BTreeMap::new();
        for (txn, record) in self.records() {
            let put = record.transaction.operations.iter().find_map(|operation| match operation {
                Operation::Put(put) if Street::of(&put.key) == Some(Street::Chain) => Some(&put.value),
                _ => None,
            });
            if let (Some(value), Some(Condition::Is(is))) = (put, record.transaction.conditions.first()) {
                by_value.insert(value, (txn, is.value.as_ref()));
            }
        }
        let mut links = Vec::new();
        let mut current = self.last.get(&first).copied();
        while let Some(value) = current {
            let Some((txn, before)) = by_value.remove(value) else {
                return Err(format!("the chain has what was never put into it, or twice: {value:?}"));
            };
            links.push((value.clone(), txn));
            current = before;
        }
        for (index, (value, txn)) in links.into_iter().rev().enumerate() {
            let record = &self.end.history.transactions[&txn];
            if let Some((_, Outcome::Rejected(reason))) = record.outcome() {
                return Err(format!("the chain has what was rejected ({reason:?}): {record:?}"));
            }
            let node = self.node(txn, record);
            self.versions.entry(first.clone()).or_default().made.insert(index as u64 + 1, node);
            self.chain.insert(value, index as u64 + 1);
        }
        for (txn, _) in by_value.into_values() {
            let record = &self.end.history.transactions[&txn];
            if matches!(record.outcome(), Some((_, Outcome::Committed))) {
                return Err(format!("committed, and not part of the chain: {record:?}"));
            }
        }
        Ok(())
    }

    /// Everything that was seen: each has its place among the versions.
    fn observe(&mut self) -> Verdict {
        for (txn, record) in self.records() {
            let committed = record.answers.iter().filter(|answer| answer.outcome == Outcome::Committed);
            if !record.is_recorded() {
                // Carried out anew for everyone who asks.
                for answer in committed {
                    let name = format!("{txn} {} [{}, {}]", told(&record.transaction), record.invoked, answer.at);
                    let node = self.graph.operation(name);
                    self.spans.push((node, (record.invoked, Some(answer.at))));
                    let replies = answer.replies.as_deref().unwrap_or_default();
                    self.observed(node, &record.transaction, replies)?;
                }
            } else if matches!(record.outcome(), Some((_, Outcome::Committed))) || self.nodes.contains_key(&txn) {
                let node = self.node(txn, record);
                let replies = record.replies().map(Vec::as_slice).unwrap_or_default();
                self.observed(node, &record.transaction, replies)?;
            }
        }
        for query in &self.end.history.queries {
            let (begin, end) = (query.invoked, query.completed);
            let (conditions, operations) = (Vec::new(), query.operations.clone());
            let read = Transaction { operations, conditions, ..Transaction::default() };
            let node = self.graph.operation(format!("query {} [{begin}, {end}]", told(&read)));
            self.spans.push((node, (begin, Some(end))));
            self.observed(node, &read, &query.replies)?;
        }
        Ok(())
    }

    fn observed(&mut self, node: Node, transaction: &Transaction, replies: &[Reply]) -> Verdict {
        let seen = self.seen(transaction, replies)?;
        let context = |text: String| format!("{text}, in {}", told(transaction));
        for (key, value) in &seen {
            self.place(node, key, value.as_ref()).map_err(context)?;
        }
        self.hold_together(&seen).map_err(context)?;
        for (operation, reply) in transaction.operations.iter().zip(replies) {
            match (operation, reply) {
                (Operation::Append(put), Reply::Length(length)) => self.is_at(put, *length).map_err(context)?,
                (Operation::Add(add), Reply::Number(number)) => {
                    let versions = self.versions.entry(add.key.clone()).or_default();
                    if *number < 1 || versions.made.insert(*number as u64, node).is_some() {
                        return Err(context(format!("{:?} had the number {number} twice, or out of order", add.key)));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What keys held, as far as it was said. Within a range absent keys count, too.
    fn seen(&self, transaction: &Transaction, replies: &[Reply]) -> Result<Seen, String> {
        let mut all: Vec<(Key, Option<Value>)> = Vec::new();
        let is = |condition: &Condition| match condition {
            Condition::Is(is) => Some((is.key.clone(), is.value.clone())),
            _ => None,
        };
        all.extend(transaction.conditions.iter().filter_map(is));
        for (operation, reply) in transaction.operations.iter().zip(replies) {
            match (operation, reply) {
                (Operation::Get(key), Reply::Value(value)) => all.push((key.clone(), value.clone())),
                (Operation::Swap(swap), Reply::Swapped(held)) => {
                    all.push((swap.left.clone(), held.left.clone()));
                    all.push((swap.right.clone(), held.right.clone()));
                }
                (Operation::Scan(scan), Reply::Rows(rows)) => {
                    if let Some(wrong) = rows.rows.iter().find(|(key, _)| !scan.covers(key)) {
                        return Err(format!("{scan:?} found {wrong:?}"));
                    }
                    let found: BTreeMap<&Key, &Value> = rows.rows.iter().map(|(key, value)| (key, value)).collect();
                    let read = |key: &Key| scan.covers(key) && rows.next.as_ref().is_none_or(|next| key < next);
                    let known = self.last.keys().copied().filter(|key| read(key) && !found.contains_key(key));
                    all.extend(known.map(|key| (key.clone(), None)));
                    all.extend(rows.rows.iter().map(|(key, value)| (key.clone(), Some(value.clone()))));
                }
                _ => {}
            }
        }
        let mut seen = Seen::new();
        for (key, value) in all {
            if let Some(other) = seen.insert(key.clone(), value.clone())
                && other != value
            {
                return Err(format!("{key:?} held {other:?} and {value:?} at once"));
            }
        }
        Ok(seen)
    }

    /// Which version of a key this is.
    fn version(&self, key: &Key, value: Option<&Value>) -> Result<Option<u64>, String> {
        let last = self.last.get(key).map_or(&[][..], |value| value.as_bytes());
        Ok(match Street::of(key) {
            Some(Street::List) => {
                let bytes = value.map_or(&[][..], Value::as_bytes);
                if !last.starts_with(bytes) || !bytes.len().is_multiple_of(TOKEN) {
                    return Err(format!("{key:?} never held {value:?}"));
                }
                Some((bytes.len() / TOKEN) as u64)
            }
            Some(Street::Counter) => {
                let number = value.map_or(Some(0), Value::number);
                let most = self.last.get(key).copied().map_or(Some(0), Value::number);
                match number.filter(|number| *number >= 0 && Some(*number) <= most) {
                    Some(number) => Some(number as u64),
                    None => return Err(format!("{key:?} never held {value:?}")),
                }
            }
            Some(Street::Chain) => match value.map(|value| self.chain.get(value).copied()) {
                None => Some(0),
                Some(Some(version)) => Some(version),
                Some(None) => return Err(format!("the chain never was {value:?}")),
            },
            _ => None,
        })
    }

    fn place(&mut self, node: Node, key: &Key, value: Option<&Value>) -> Verdict {
        let Some(version) = self.version(key, value)? else { return Ok(()) };
        let key = match (Street::of(key), &self.chain_key) {
            (Some(Street::Chain), Some(first)) => first.clone(),
            _ => key.clone(),
        };
        self.versions.entry(key).or_default().seen.push((version, node));
        Ok(())
    }

    /// An append is where it says.
    fn is_at(&self, put: &Put, length: u64) -> Verdict {
        let end = length as usize;
        let last = self.last.get(&put.key).map_or(&[][..], |value| value.as_bytes());
        let is_list = Street::of(&put.key) == Some(Street::List);
        let own = end.checked_sub(TOKEN).and_then(|begin| last.get(begin..end));
        if is_list && own != Some(put.value.as_bytes()) {
            return Err(format!("{:?} was not {length} long after {:?}", put.key, put.value));
        }
        Ok(())
    }

    /// What is written together is seen together.
    fn hold_together(&self, seen: &Seen) -> Verdict {
        for street in [Street::Chain, Street::Board] {
            let mut values = seen.iter().filter(|(key, _)| Street::of(key) == Some(street)).map(|(_, value)| value);
            let first = values.next();
            if let Some(other) = values.find(|other| Some(*other) != first) {
                return Err(format!("a mixture of {first:?} and {other:?}"));
            }
        }
        let numbers = |keys: &[Key]| -> Option<Vec<Option<i64>>> {
            keys.iter().map(|key| seen.get(key).map(|value| value.as_ref().and_then(Value::number))).collect()
        };
        if let Some(ring) = numbers(&self.streets.spread(Street::Ring, RING)) {
            let (mut at, mut steps) = (0, 0);
            while let Some(Some(next)) = ring.get(at).copied() {
                (at, steps) = (next as usize, steps + 1);
                if at == 0 || steps > RING {
                    break;
                }
            }
            let is_new = ring.iter().all(Option::is_none);
            if !is_new && (at != 0 || steps != RING) {
                return Err(format!("the ring is broken: {ring:?}"));
            }
        }
        if let Some(mut seats) = numbers(&self.streets.spread(Street::Seat, SEATS)) {
            let found = seats.clone();
            seats.sort_unstable();
            let all: Vec<Option<i64>> = (0..SEATS as i64).map(Some).collect();
            if seats != all && seats.iter().any(Option::is_some) {
                return Err(format!("numbers were lost or doubled: {found:?}"));
            }
        }
        Ok(())
    }

    /// What the keys hold at the end.
    fn ends(&self) -> Verdict {
        let keys = [Street::Chain, Street::Board].map(|street| self.streets.everywhere(street)).concat();
        let rows = [self.streets.spread(Street::Ring, RING), self.streets.spread(Street::Seat, SEATS)].concat();
        let last = keys.into_iter().chain(rows).map(|key| {
            let value = self.last.get(&key).map(|value| (*value).clone());
            (key, value)
        });
        self.hold_together(&last.collect()).map_err(|text| format!("at the end: {text}"))?;
        self.counters()
    }

    /// A counter has what was added to it: all that was answered, and perhaps what was not.
    fn counters(&self) -> Verdict {
        let mut sums: BTreeMap<&Key, (i64, i64)> = BTreeMap::new();
        for (txn, record) in self.records() {
            let adds = record.transaction.operations.iter().filter_map(|operation| match operation {
                Operation::Add(add) if Street::of(&add.key) == Some(Street::Counter) => Some(add),
                _ => None,
            });
            let outcome = record.outcome().map(|(_, outcome)| outcome);
            let certain = outcome == Some(Outcome::Committed) || self.nodes.contains_key(&txn);
            for add in adds {
                let (least, most) = sums.entry(&add.key).or_default();
                *least += if certain { add.delta } else { 0 };
                *most += if certain || outcome.is_none() { add.delta } else { 0 };
            }
        }
        for (key, (least, most)) in sums {
            let number = self.last.get(key).copied().map_or(Some(0), Value::number);
            if number.is_none_or(|number| !(least..=most).contains(&number)) {
                return Err(format!("{key:?} is {number:?}, not from {least} to {most}"));
            }
        }
        Ok(())
    }

    /// A condition that was not met was not met at some moment between question and answer.
    fn rejections(&self) -> Verdict {
        let spans: BTreeMap<Node, Span> = self.spans.iter().copied().collect();
        for (txn, record) in self.records() {
            let Some((at, Outcome::Rejected(Reason::Condition))) = record.outcome() else { continue };
            let [Condition::Is(is)] = &record.transaction.conditions[..] else { continue };
            let Ok(Some(version)) = self.version(&is.key, is.value.as_ref()) else { continue };
            let is_chain = Street::of(&is.key) == Some(Street::Chain);
            let key = self.chain_key.as_ref().filter(|_| is_chain).unwrap_or(&is.key);
            let made = self.versions.get(key).map(|versions| &versions.made);
            let span = |version: u64| made.and_then(|made| made.get(&version)).and_then(|node| spans.get(node));
            let before =
                version == 0 || span(version).is_some_and(|span| span.1.is_some_and(|end| end < record.invoked));
            let length = self.last.get(&is.key).map_or(0, |value| (value.as_bytes().len() / TOKEN) as u64);
            let is_last = if is_chain { version == self.chain.len() as u64 } else { version == length };
            let after = is_last || span(version + 1).is_some_and(|span| span.0 > at);
            let is_ordered = is_chain || Street::of(&is.key) == Some(Street::List);
            if is_ordered && before && after {
                return Err(format!("the condition of {txn} held all the time: {record:?}"));
            }
        }
        Ok(())
    }

    /// Every read lies behind what it saw and before what it did not see.
    fn demand(&mut self) -> Verdict {
        for versions in self.versions.values() {
            let made: Vec<Node> = versions.made.values().copied().collect();
            for pair in made.windows(2).filter(|pair| pair[0] != pair[1]) {
                self.graph.order(pair[0], pair[1], Why::Overwritten);
            }
            let mut own: BTreeMap<Node, u64> = BTreeMap::new();
            for (version, node) in &versions.made {
                own.entry(*node).or_insert(*version);
            }
            for (version, node) in &versions.seen {
                if own.get(node).is_some_and(|own| version >= own) {
                    let text = self.spans.iter().find(|(other, _)| other == node);
                    return Err(format!(
                        "an operation has read what it wrote itself, or later: version {version}, {text:?}"
                    ));
                }
                if let Some((_, writer)) =
                    versions.made.range(..=version).next_back().filter(|(_, writer)| *writer != node)
                {
                    self.graph.order(*writer, *node, Why::Seen);
                }
                if let Some((_, writer)) =
                    versions.made.range(version + 1..).next().filter(|(_, writer)| *writer != node)
                {
                    self.graph.order(*node, *writer, Why::NotSeen);
                }
            }
        }
        Ok(())
    }
}

/// What a transaction appends to lists.
fn appends(transaction: &Transaction) -> impl Iterator<Item = &Put> {
    transaction.operations.iter().filter_map(|operation| match operation {
        Operation::Append(put) if Street::of(&put.key) == Some(Street::List) => Some(put),
        _ => None,
    })
}

/// A transaction in a report.
fn told(transaction: &Transaction) -> String {
    format!("{:?} {:?}", transaction.conditions, transaction.operations)
}
