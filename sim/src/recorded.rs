//! Histories that real clients have recorded (`docs/histories.md`), read into the form that the checkers judge.
//!
//! Times stay nanoseconds; the checkers only compare them. An operation without an end, and one whose outcome nobody
//! was told, may have taken effect or not. Reads at the levels `session` and `any` promise less than the checkers ask
//! for, and are left out; writes are not.

use std::collections::BTreeMap;
use std::fmt;

use drachma_protocol::ids::TxnId;
use drachma_protocol::ledger::model::{Outcome, Reason, Transfer};
use drachma_protocol::ledger::operations::{Operation, Reply, Transaction};
use drachma_protocol::placement::map::ShardMap;
use drachma_protocol::wire::codec::{Decode, from_slice};
use serde_json::Value as Json;

use crate::history::{History, QueryRecord, ReadRecord, TransactionAnswer};

/// A line that is no part of a history.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadLine {
    /// From 1.
    pub line: usize,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.what)
    }
}

impl std::error::Error for BadLine {}

/// What was asked, until it has an end.
enum Asked {
    Transfer(Transfer),
    Transaction(TxnId),
    Query(Vec<Operation>),
    Fence(TxnId),
    /// Nobody judges it.
    Weak,
}

/// Reads a history of a cluster with this map: groups do not move while it is recorded.
///
/// # Errors
/// At the first line that is not of the form, or ends what was never begun.
pub fn read(text: &str, map: &ShardMap) -> Result<History, BadLine> {
    let mut history = History::default();
    let mut open: BTreeMap<u64, Asked> = BTreeMap::new();
    for (line, text) in (1..).zip(text.lines()) {
        let mut take = || -> Result<(), String> {
            let line: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
            let number = count(&line, "number")?;
            if word(&line, "kind")? == "invoke" {
                let asked = invoke(&line, map, &mut history)?;
                return match open.insert(number, asked) {
                    Some(_) => Err(format!("operation {number} begins twice")),
                    None => Ok(()),
                };
            }
            let asked = open.remove(&number).ok_or_else(|| format!("operation {number} ends and never began"))?;
            end(&line, asked, &mut history)
        };
        take().map_err(|what| BadLine { line, what })?;
    }
    Ok(history)
}

fn field<'a>(line: &'a Json, name: &str) -> Result<&'a Json, String> {
    line.get(name).ok_or_else(|| format!("no `{name}`"))
}

fn word<'a>(line: &'a Json, name: &str) -> Result<&'a str, String> {
    field(line, name)?.as_str().ok_or_else(|| format!("`{name}` is no text"))
}

fn count(line: &Json, name: &str) -> Result<u64, String> {
    field(line, name)?.as_u64().ok_or_else(|| format!("`{name}` is no number"))
}

fn value<T: Decode>(line: &Json, name: &str) -> Result<T, String> {
    let digits = word(line, name)?.as_bytes();
    let pair = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(pair).collect();
    let bytes =
        bytes.filter(|_| digits.len().is_multiple_of(2)).ok_or_else(|| format!("`{name}` is not hexadecimal"))?;
    from_slice(&bytes).map_err(|error| format!("`{name}`: {error}"))
}

fn invoke(line: &Json, map: &ShardMap, history: &mut History) -> Result<Asked, String> {
    let (start, operation) = (count(line, "start")?, field(line, "operation")?);
    let is_weak = matches!(word(operation, "level")?, "session" | "any");
    Ok(match word(operation, "f")? {
        "transfer" => {
            let transfer: Transfer = value(operation, "content")?;
            if history.transfers.get(&TxnId::from(&transfer)).is_some_and(|record| record.transfer != transfer) {
                return Err(format!("transfer {} has two contents", transfer.id));
            }
            history.invoke(start, transfer);
            Asked::Transfer(transfer)
        }
        "transact" => {
            let transaction: Transaction = value(operation, "content")?;
            let txn = transaction.txn(map);
            match history.transactions.get(&txn) {
                None => history.transact(start, txn, &transaction, transaction.participants(map).len() > 1),
                Some(record) if record.transaction == transaction => {}
                Some(_) => return Err(format!("transaction {} has two contents", transaction.id)),
            }
            Asked::Transaction(txn)
        }
        "query" if is_weak => Asked::Weak,
        "query" => Asked::Query(value(operation, "content")?),
        "fence" => Asked::Fence(value(operation, "content")?),
        other => return Err(format!("`{other}` is no operation")),
    })
}

fn end(line: &Json, asked: Asked, history: &mut History) -> Result<(), String> {
    let (start, at, answer) = (count(line, "start")?, count(line, "end")?, field(line, "answer")?);
    if let Asked::Query(operations) = asked {
        if word(answer, "outcome")? == "ok" {
            let replies: Vec<Reply> = value(answer, "replies")?;
            queried(operations, replies, (start, at), history);
        }
        return Ok(());
    }
    let outcome = match word(answer, "outcome")? {
        "committed" => Outcome::Committed,
        "rejected" => {
            let name = word(answer, "reason")?;
            let reason = Reason::ALL.iter().find(|(reason, _)| reason.to_string() == name);
            Outcome::Rejected(reason.ok_or_else(|| format!("`{name}` is no reason"))?.0)
        }
        _ => return Ok(()),
    };
    match asked {
        Asked::Transfer(transfer) => drop(history.answer(at, TxnId::from(&transfer), outcome)),
        Asked::Transaction(txn) => {
            let replayed = field(answer, "replayed")?.as_bool().ok_or("`replayed` is no truth value")?;
            let replies = answer.get("replies").map(|_| value(answer, "replies")).transpose()?;
            history.answer_transaction(txn, TransactionAnswer { at, outcome, replayed, replies });
        }
        Asked::Fence(txn) => {
            history.answer(at, txn, outcome);
            history.settle_transaction(at, txn, outcome);
        }
        Asked::Query(_) | Asked::Weak => {}
    }
    Ok(())
}

/// One account alone is a read.
fn queried(operations: Vec<Operation>, replies: Vec<Reply>, (invoked, completed): (u64, u64), history: &mut History) {
    if let [Operation::Read(account)] = operations[..] {
        let found = match replies.first() {
            Some(Reply::Account(account)) => Some(*account),
            _ => None,
        };
        history.reads.push(ReadRecord { account, invoked, completed, found });
    } else {
        history.queries.push(QueryRecord { operations, replies, invoked, completed });
    }
}

#[cfg(test)]
mod tests {
    use drachma_protocol::ids::{AccountId, Epoch, GroupId, TransferId};
    use drachma_protocol::message::operator::Nothing;
    use drachma_protocol::placement::map::Mode;

    use super::*;

    // The transfer of 3 from account 1 to account 2 under id 7, in ledger 1 with code 1.
    const TRANSFER: &str = "99070102030101000000";

    fn map() -> ShardMap {
        ShardMap { epoch: Epoch(1), mode: Mode::Hash(Nothing {}), owners: vec![GroupId(1)] }
    }

    fn begins(number: u64, start: u64) -> String {
        let operation = format!(r#"{{"f":"transfer","id":"07","content":"{TRANSFER}","level":"linearizable"}}"#);
        format!(r#"{{"client":0,"number":{number},"kind":"invoke","operation":{operation},"start":{start}}}"#)
    }

    fn ends(number: u64, answer: &str) -> String {
        format!(r#"{{"client":0,"number":{number},"kind":"ok","answer":{{{answer}}},"start":5,"end":9}}"#)
    }

    #[test]
    fn a_transfer_is_read_with_its_end_or_without() {
        let both = [begins(1, 5), begins(2, 6), ends(1, r#""outcome":"committed","replayed":false"#)].join("\n");
        let history = read(&both, &map()).expect("a history");
        let id = TxnId { id: TransferId(7), first: AccountId(1) };
        let record = &history.transfers[&id];
        assert_eq!((record.invoked, record.outcome()), (5, Some(Outcome::Committed)));
        assert_eq!((record.transfer.amount, record.answers.len()), (3, 1));
        let rejected = [begins(1, 5), ends(1, r#""outcome":"rejected","replayed":false,"reason":"fenced""#)].join("\n");
        let history = read(&rejected, &map()).expect("a history");
        assert_eq!(history.transfers[&id].outcome(), Some(Outcome::Rejected(Reason::Fenced)));
    }

    #[test]
    fn what_is_no_history_is_refused_with_its_line() {
        let line = |text: &str| read(text, &map()).err().map(|bad| bad.line);
        assert_eq!(line("{}"), Some(1));
        assert_eq!(line(&[begins(1, 5), begins(1, 6)].join("\n")), Some(2));
        assert_eq!(line(&ends(1, "")), Some(1));
        assert_eq!(line(&begins(1, 5).replace(TRANSFER, "9907")), Some(1));
        assert_eq!(line(&begins(1, 5).replace(TRANSFER, "9")), Some(1));
        assert_eq!(line(&begins(1, 5).replace("transfer", "theft")), Some(1));
    }
}
