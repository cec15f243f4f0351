//! Files of transactions: TOML with one, or JSON with one a line.

use std::fmt;
use std::path::Path;

use drachma_protocol::ids::{AccountId, TransferId};
use drachma_protocol::ledger::model::{Balance, Transfer};
use drachma_protocol::ledger::operations as ops;
use drachma_protocol::ledger::operations::{Condition, Operation, SCAN_LIMIT, Transaction};
use drachma_protocol::time::Span;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, Visitor};

use crate::commands::text;

/// Reads the transactions of a file. One without an id has id 0.
///
/// # Errors
/// With file, line and column: what is wrong, and what is allowed.
pub fn read(path: &Path) -> Result<Vec<Transaction>, String> {
    let origin = path.display();
    let text = std::fs::read_to_string(path).map_err(|error| format!("{origin}: {error}"))?;
    let transactions = match path.extension().and_then(|extension| extension.to_str()) {
        Some("txn" | "toml") => vec![toml(&text).map_err(|error| format!("{origin}{error}"))?],
        Some("jsonl" | "json") => lines(&text).map_err(|error| format!("{origin}{error}"))?,
        _ => {
            return Err(format!(
                "{origin}: expected a file named .txn or .toml (TOML), or .jsonl or .json (a line each)"
            ));
        }
    };
    if transactions.is_empty() {
        return Err(format!("{origin}: expected a transaction, and there is none"));
    }
    Ok(transactions)
}

/// One transaction in TOML. An error begins with its place.
///
/// # Errors
/// As [`read`].
pub fn toml(text: &str) -> Result<Transaction, String> {
    placed(text).map_err(|(at, message)| match at {
        Some((line, column)) => format!(":{line}:{column}: {message}"),
        None => format!(": {message}"),
    })
}

/// One transaction in TOML.
///
/// # Errors
/// What is wrong, and at which line and column, if not with the whole.
pub(crate) fn placed(text: &str) -> Result<Transaction, (Option<(usize, usize)>, String)> {
    let raw: Raw = toml::from_str(text)
        .map_err(|error| (error.span().map(|span| place(text, span.start)), error.message().to_owned()))?;
    raw.transaction().map_err(|fault| (None, fault))
}

/// One transaction in each line of JSON that is not blank.
///
/// # Errors
/// As [`read`].
pub fn lines(text: &str) -> Result<Vec<Transaction>, String> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let transactions = lines.map(|(number, line)| {
        let raw: Raw = json(line).map_err(|(column, message)| format!(":{number}:{column}: {message}"))?;
        raw.transaction().map_err(|fault| format!(":{number}: {fault}"))
    });
    transactions.collect()
}

fn json<T: DeserializeOwned>(line: &str) -> Result<T, (usize, String)> {
    serde_json::from_str(line).map_err(|error| {
        let (text, column) = (error.to_string(), error.column());
        // The line is that of the file, which serde_json does not know.
        let message = text.strip_suffix(&format!(" at line {} column {column}", error.line()));
        (column, message.unwrap_or(&text).to_owned())
    })
}

/// Line and column, from 1 on.
fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// A transaction as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    id: Option<Id>,
    #[serde(default)]
    conditions: Vec<RawCondition>,
    #[serde(default)]
    operations: Vec<RawOperation>,
}

impl Raw {
    fn transaction(self) -> Result<Transaction, String> {
        let transaction = Transaction {
            id: self.id.map_or(TransferId(0), |id| id.0),
            conditions: self.conditions.into_iter().map(Condition::from).collect(),
            operations: self.operations.into_iter().map(Operation::from).collect(),
        };
        match super::fault(&transaction) {
            Some(fault) => Err(fault),
            None => Ok(transaction),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RawCondition {
    Is { key: Key, value: Value },
    IsNot { key: Key, value: Value },
    Absent(Key),
    Exists(Key),
    AtLeast { account: Number, balance: Signed },
    AtMost { account: Number, balance: Signed },
}

impl From<RawCondition> for Condition {
    fn from(raw: RawCondition) -> Condition {
        let key = |key: Key, value: Option<Value>| ops::KeyIs { key: key.0, value: value.map(|value| value.0) };
        let account =
            |account: Number, balance: Signed| ops::BalanceIs { account: AccountId(account.0), balance: balance.0 };
        match raw {
            RawCondition::Is { key: name, value } => Condition::Is(key(name, Some(value))),
            RawCondition::IsNot { key: name, value } => Condition::IsNot(key(name, Some(value))),
            RawCondition::Absent(name) => Condition::Is(key(name, None)),
            RawCondition::Exists(name) => Condition::IsNot(key(name, None)),
            RawCondition::AtLeast { account: id, balance } => Condition::AtLeast(account(id, balance)),
            RawCondition::AtMost { account: id, balance } => Condition::AtMost(account(id, balance)),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum RawOperation {
    Transfer(RawTransfer),
    Put { key: Key, value: Value },
    Delete(Key),
    Append { key: Key, value: Value },
    Add { key: Key, number: i64 },
    Swap { left: Key, right: Key },
    Get(Key),
    Scan { from: Key, to: Option<Key>, limit: Option<u32> },
    Read(Number),
    Pend(RawPend),
    Post(RawPost),
    Void(RawVoid),
    Close(Number),
    Open(Number),
}

impl From<RawOperation> for Operation {
    fn from(raw: RawOperation) -> Operation {
        match raw {
            RawOperation::Transfer(transfer) => Operation::Transfer(transfer.into()),
            RawOperation::Put { key, value } => Operation::Put(ops::Put { key: key.0, value: value.0 }),
            RawOperation::Delete(key) => Operation::Delete(key.0),
            RawOperation::Append { key, value } => Operation::Append(ops::Put { key: key.0, value: value.0 }),
            RawOperation::Add { key, number } => Operation::Add(ops::Add { key: key.0, delta: number }),
            RawOperation::Swap { left, right } => Operation::Swap(ops::Swap { left: left.0, right: right.0 }),
            RawOperation::Get(key) => Operation::Get(key.0),
            RawOperation::Scan { from, to, limit } => {
                let (to, limit) = (to.map(|to| to.0), limit.unwrap_or(SCAN_LIMIT));
                Operation::Scan(ops::Scan { from: from.0, to, limit })
            }
            RawOperation::Read(account) => Operation::Read(AccountId(account.0)),
            RawOperation::Pend(raw) => Operation::Pend(raw.into()),
            RawOperation::Post(RawPost { id, pending, debit, credit, amount }) => Operation::Post(ops::PostPending {
                id: id.map_or(TransferId(0), |id| id.0),
                pending: pending.0,
                debit: AccountId(debit.0),
                credit: AccountId(credit.0),
                amount: amount.map(|amount| amount.0),
            }),
            RawOperation::Void(RawVoid { id, pending, debit, credit }) => Operation::Void(ops::VoidPending {
                id: id.map_or(TransferId(0), |id| id.0),
                pending: pending.0,
                debit: AccountId(debit.0),
                credit: AccountId(credit.0),
            }),
            RawOperation::Close(account) => Operation::Close(AccountId(account.0)),
            RawOperation::Open(account) => Operation::Open(AccountId(account.0)),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTransfer {
    id: Option<Id>,
    debit: Number,
    credit: Number,
    amount: Number,
    ledger: Option<u32>,
    code: Option<u16>,
    user_data_128: Option<Number>,
    user_data_64: Option<u64>,
    user_data_32: Option<u32>,
}

impl From<RawTransfer> for Transfer {
    fn from(raw: RawTransfer) -> Transfer {
        Transfer {
            id: raw.id.map_or(TransferId(0), |id| id.0),
            debit: AccountId(raw.debit.0),
            credit: AccountId(raw.credit.0),
            amount: raw.amount.0,
            ledger: raw.ledger.unwrap_or(1),
            code: raw.code.unwrap_or(1),
            user_data_128: raw.user_data_128.map_or(0, |data| data.0),
            user_data_64: raw.user_data_64.unwrap_or(0),
            user_data_32: raw.user_data_32.unwrap_or(0),
        }
    }
}

/// A pending transfer: a transfer, and how long it may stay pending.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPend {
    id: Id,
    debit: Number,
    credit: Number,
    amount: Number,
    ledger: Option<u32>,
    code: Option<u16>,
    user_data_128: Option<Number>,
    user_data_64: Option<u64>,
    user_data_32: Option<u32>,
    timeout: Option<Timeout>,
}

impl From<RawPend> for ops::Pend {
    fn from(raw: RawPend) -> ops::Pend {
        let RawPend { id, debit, credit, amount, ledger, code, user_data_128, user_data_64, user_data_32, timeout } =
            raw;
        let id = Some(id);
        let transfer =
            RawTransfer { id, debit, credit, amount, ledger, code, user_data_128, user_data_64, user_data_32 };
        ops::Pend { transfer: transfer.into(), timeout: timeout.map_or(Span(0), |timeout| timeout.0) }
    }
}

/// What names a pending transfer, to post or to void it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVoid {
    id: Option<Id>,
    pending: Id,
    debit: Number,
    credit: Number,
}

/// As [`RawVoid`], with how much is posted; nothing: all of it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPost {
    id: Option<Id>,
    pending: Id,
    debit: Number,
    credit: Number,
    amount: Option<Number>,
}

/// A length of time, such as `30s`.
struct Timeout(Span);

impl<'de> Deserialize<'de> for Timeout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timeout, D::Error> {
        let duration = crate::cli::duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)?;
        Ok(Timeout(Span(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))))
    }
}

/// An id: a text of 1 to 32 hexadecimal digits.
struct Id(TransferId);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        let id: TransferId = String::deserialize(deserializer)?.parse().map_err(D::Error::custom)?;
        Ok(Id(id))
    }
}

/// A key: a text, or `{ hex = "00ff" }`.
struct Key(ops::Key);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        deserializer.deserialize_any(BytesVisitor(|bytes| text::key_of(bytes).map(Key)))
    }
}

/// A value: a text, or `{ hex = "00ff" }`.
struct Value(ops::Value);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(BytesVisitor(|bytes| text::value_of(bytes).map(Value)))
    }
}

/// What is wrong is said here, inside the visitor, where the format knows the place.
struct BytesVisitor<T>(fn(Vec<u8>) -> Result<T, String>);

impl<'de, T> Visitor<'de> for BytesVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or bytes as { hex = \"00ff\" }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text.as_bytes().to_vec()).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut bytes = None;
        while let Some(name) = map.next_key::<String>()? {
            if name != "hex" {
                return Err(A::Error::unknown_field(&name, &["hex"]));
            }
            let digits: String = map.next_value()?;
            bytes = Some(text::from_hex(&digits).map_err(A::Error::custom)?);
        }
        let bytes = bytes.ok_or_else(|| A::Error::missing_field("hex"))?;
        (self.0)(bytes).map_err(A::Error::custom)
    }
}

/// A number from 0 to 2^128-1; as a text of digits where the format has no integer so large.
struct Number(u128);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        let Signed(Balance { negative, magnitude }) = deserializer.deserialize_any(SignedVisitor)?;
        if negative {
            return Err(D::Error::custom("expected a number that is not negative"));
        }
        Ok(Number(magnitude))
    }
}

/// As [`Number`], perhaps negative.
struct Signed(Balance);

impl<'de> Deserialize<'de> for Signed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Signed, D::Error> {
        deserializer.deserialize_any(SignedVisitor)
    }
}

struct SignedVisitor;

impl Visitor<'_> for SignedVisitor {
    type Value = Signed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number below 2^128, or one above 2^63-1 as a text of digits")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Signed, E> {
        Ok(Signed(Balance { negative: number < 0, magnitude: u128::from(number.unsigned_abs()) }))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Signed, E> {
        Ok(Signed(Balance { negative: false, magnitude: u128::from(number) }))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Signed, E> {
        let digits = text.strip_prefix('-').unwrap_or(text);
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        match digits.parse() {
            Ok(magnitude) if plain => {
                Ok(Signed(Balance { negative: text.starts_with('-') && magnitude > 0, magnitude }))
            }
            _ => Err(E::custom("expected a whole number below 2^128, such as 10 or \"10\"")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_say_the_same() {
        let first = toml(
            "id = \"a1\"\n[[conditions]]\nis = { key = \"a\", value = \"1\" }\n[[conditions]]\nabsent = \"b\"\n\
             [[operations]]\nput = { key = \"a\", value = { hex = \"00ff\" } }\n\
             [[operations]]\ntransfer = { debit = 1, credit = \"340282366920938463463374607431768211455\", amount = 3 }\n",
        );
        let second = lines(
            "\n{\"id\":\"a1\",\"conditions\":[{\"is\":{\"key\":\"a\",\"value\":\"1\"}},{\"absent\":\"b\"}],\
             \"operations\":[{\"put\":{\"key\":\"a\",\"value\":{\"hex\":\"00ff\"}}},{\"transfer\":{\"debit\":1,\
             \"credit\":\"340282366920938463463374607431768211455\",\"amount\":3}}]}\n",
        );
        assert_eq!(vec![first.unwrap()], second.unwrap());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place_and_what_is_allowed() {
        let cases = [
            ("colour = 1\n", ":1:1: unknown field `colour`, expected one of `id`, `conditions`, `operations`"),
            ("[[operations]]\npaint = \"a\"\n", "unknown variant `paint`, expected one of `transfer`, `put`"),
            ("[[operations]]\nput = { key = \"a\" }\n", "missing field `value`"),
            (
                "[[operations]]\nput = { key = \"a\", value = \"b\", ttl = 1 }\n",
                ":2:33: unexpected keys in table: ttl, available keys: key, value",
            ),
            ("[[operations]]\nget = \"\"\n", "a key has 1 to 1024 bytes, and this one has 0"),
            ("[[operations]]\nread = -1\n", "expected a number that is not negative"),
            ("[[operations]]\nget = 5\n", "expected a text, or bytes as { hex"),
            ("id = \"xyz\"\n", "hexadecimal digits"),
            ("", "expected at least one condition or operation"),
            ("[[operations]]\nscan = { from = \"a/1\", to = \"b/1\" }\n", "the keys that share the part before"),
            ("[[operations]]\nswap = { left = \"a\", right = \"a\" }\n", "a key that is swapped and not written"),
        ];
        for (text, part) in cases {
            let error = toml(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = toml("[[operations]]\nget = \"a\"\n[[operations]]\nget = \"\"\n").unwrap_err();
        assert!(error.starts_with(":4:"), "{error}");
        let error = lines("{\"operations\":[{\"get\":\"a\"}]}\n{\"operation\":[]}\n").unwrap_err();
        assert!(error.starts_with(":2:") && error.contains("unknown field `operation`"), "{error}");
        let error = lines("{\"operations\":[]}").unwrap_err();
        assert!(error.starts_with(":1: expected at least one"), "{error}");
    }

    #[test]
    fn as_many_operations_as_the_limit_are_read_and_one_more_is_not() {
        let of = |count: usize| format!("{{\"operations\":[{}]}}", vec!["{\"get\":\"a\"}"; count].join(","));
        assert_eq!(lines(&of(ops::OPERATIONS_LIMIT)).unwrap()[0].operations.len(), ops::OPERATIONS_LIMIT);
        let error = lines(&of(ops::OPERATIONS_LIMIT + 1)).unwrap_err();
        assert!(error.contains("1025 conditions and operations; a transaction has at most 1024"), "{error}");
    }
}
