//! `drachma txn`, and what every command that writes keys does with its transaction.

pub mod file;

use std::path::PathBuf;

use clap::Args;
use drachma_client::{Leveled, Status, Transacted};
use drachma_protocol::ids::TransferId;
use drachma_protocol::ledger::operations::{Key, Operation, Reply, Subject, Transaction, Value};

use super::level::{LevelArgs, Requests};
use super::transfer::words;
use super::{Context, text};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell, Format};

/// `drachma txn`.
#[derive(Args, Clone, Debug, Default)]
pub struct TxnArgs {
    /// A transaction in TOML (.txn, .toml), or one a line in JSON (.jsonl, .json)
    #[arg(required = true)]
    pub file: Option<PathBuf>,
    /// The transaction's id, instead of the file's [default: a new one, if the file has none]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

const REPLIES: [&str; 8] = ["id", "operation", "does", "key", "account", "value", "balance", "next"];

/// Carries out the transactions of a file, one after the other.
///
/// # Errors
/// With exit status 2 if the file cannot be read or used; nothing is carried out then. The exit status is 3 if the
/// outcome of some transaction is not known, else 1 if one was rejected.
pub async fn txn(context: &Context, args: &TxnArgs) -> Outcome {
    // Without one a shell takes the lines of the transaction itself.
    let file = args.file.as_deref().ok_or_else(|| Failure::usage("`txn` takes a file"))?;
    let mut transactions = file::read(file).map_err(Failure::usage)?;
    match (args.id, &mut transactions[..]) {
        (None, _) => {}
        (Some(id), [one]) => one.id = id,
        (Some(_), several) => {
            let message = format!("--id is for one transaction, and {} has {}", file.display(), several.len());
            return Err(Failure::usage(message));
        }
    }
    self::transactions(context, transactions, &args.at).await
}

/// Carries out transactions, one after the other. One with id 0 gets a new id.
///
/// # Errors
/// With exit status 2 if a level does not allow them. The exit status is 3 if the outcome of some transaction is not
/// known, else 1 if one was rejected.
pub async fn transactions(context: &Context, transactions: Vec<Transaction>, at: &LevelArgs) -> Outcome {
    let requests = Requests::open(context, at)?;
    let mut exit = Exit::Done;
    for mut transaction in transactions {
        if transaction.id == TransferId(0) {
            transaction.id = TransferId(crate::id::fresh()?);
        }
        let done = requests.transact(&transaction).await?;
        let one = outcome(context, &requests, (&transaction, &done), &[])?;
        replies(context, &transaction, done.answer.replies.as_deref().unwrap_or_default())?;
        exit = if one == Exit::Unavailable || exit == Exit::Done { one } else { exit };
    }
    Ok(exit)
}

/// What was given, or a new one.
pub(super) fn id(given: Option<TransferId>) -> Result<TransferId, Failure> {
    match given {
        Some(id) => Ok(id),
        None => Ok(TransferId(crate::id::fresh()?)),
    }
}

/// Carries out a transaction that a command has made; the error says what is wrong with it.
pub(super) async fn carry_out(
    requests: &Requests<'_>,
    transaction: &Transaction,
) -> Result<Leveled<Transacted>, Failure> {
    if let Some(fault) = fault(transaction) {
        return Err(Failure::usage(fault));
    }
    requests.transact(transaction).await
}

/// What is wrong with a transaction that can be said without asking anybody.
pub(crate) fn fault(transaction: &Transaction) -> Option<String> {
    use drachma_protocol::ledger::operations::OPERATIONS_LIMIT;
    let count = transaction.conditions.len() + transaction.operations.len();
    if count > OPERATIONS_LIMIT {
        return Some(format!(
            "{count} conditions and operations; a transaction has at most {OPERATIONS_LIMIT} of them, together"
        ));
    }
    transaction.fault().map(|fault| format!("expected {fault}"))
}

/// Prints what became of a transaction, with more columns if there is more to say; gives the exit status.
pub(super) fn outcome(
    context: &Context,
    requests: &Requests<'_>,
    (transaction, leveled): (&Transaction, &Leveled<Transacted>),
    more: &[(&'static str, Cell)],
) -> Result<Exit, Failure> {
    let done = &leveled.answer;
    let (word, reason, exit) = words(done.status);
    let replayed = if done.replayed { Cell::Bool(true) } else { Cell::None };
    let (id, attempts) = (transaction.id, Cell::number(done.attempts));
    let mut headers = vec!["id", "outcome", "reason", "replayed", "attempts"];
    let mut row = vec![Cell::text(id), Cell::text(word), reason, replayed, attempts];
    requests.add_met(leveled.level_met, &mut headers, &mut row);
    for (header, cell) in more {
        headers.push(header);
        row.push(cell.clone());
    }
    output::print(context.format, &headers, &[row])?;
    if exit == Exit::Unavailable {
        eprintln!("whether it took effect is not known; this tells, and settles it:");
        eprintln!("  drachma lookup {id} {} --fence", at(context, transaction));
    }
    if exit == Exit::Done && done.status == Status::Accepted {
        eprintln!("accepted is no outcome; this tells what became of it:");
        eprintln!("  drachma lookup {id} {}", at(context, transaction));
    }
    Ok(requests.exit(exit, leveled.level_met))
}

/// Where the id of a transaction lives, in the words of `lookup`.
fn at(context: &Context, transaction: &Transaction) -> String {
    match transaction.subjects().next() {
        Some(Subject::Key(key)) if std::str::from_utf8(key.as_bytes()).is_ok() => {
            format!("--key={}", text::quoted(&String::from_utf8_lossy(key.as_bytes())))
        }
        _ => format!("--at {}", transaction.txn(&context.client.map().map).first),
    }
}

/// Prints what the operations have yielded, but for what is merely done.
fn replies(context: &Context, transaction: &Transaction, replies: &[Reply]) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (index, (operation, reply)) in transaction.operations.iter().zip(replies).enumerate() {
        for yielded in yields(context.format, operation, reply) {
            let mut row = vec![Cell::text(transaction.id), Cell::number(index + 1), Cell::text(verb(operation))];
            row.extend(yielded);
            rows.push(row);
        }
    }
    if !rows.is_empty() {
        output::print(context.format, &REPLIES, &rows)?;
    }
    Ok(())
}

/// The last five cells of the rows of a reply.
fn yields(format: Format, operation: &Operation, reply: &Reply) -> Vec<[Cell; 5]> {
    let none = || Cell::None;
    let of = |key: &Key, value: Cell| [name(key), none(), value, none(), none()];
    match (operation, reply) {
        (Operation::Get(key), Reply::Value(value)) => vec![of(key, held(format, value.as_ref(), false))],
        (Operation::Add(add), Reply::Number(number)) => vec![of(&add.key, Cell::number(number))],
        (Operation::Append(put), Reply::Length(length)) => vec![of(&put.key, Cell::number(length))],
        (Operation::Swap(swap), Reply::Swapped(swapped)) => vec![
            of(&swap.left, held(format, swapped.right.as_ref(), false)),
            of(&swap.right, held(format, swapped.left.as_ref(), false)),
        ],
        (Operation::Scan(_), Reply::Rows(found)) => {
            let row = |(key, value): &(Key, Value)| of(key, held(format, Some(value), false));
            let next = found.next.as_ref().map(|next| [none(), none(), none(), none(), name(next)]);
            found.rows.iter().map(row).chain(next).collect()
        }
        (Operation::Read(id), Reply::Account(account)) => {
            vec![[none(), Cell::number(id), none(), Cell::number(account.balance()), none()]]
        }
        _ => Vec::new(),
    }
}

/// A key as text.
pub(super) fn name(key: &Key) -> Cell {
    Cell::Text(text::shown(key.as_bytes()))
}

/// What a key holds: as text, or in hexadecimal digits.
pub(super) fn held(format: Format, value: Option<&Value>, hex: bool) -> Cell {
    match value {
        Some(value) if hex => Cell::Text(text::to_hex(value.as_bytes())),
        Some(value) => Cell::Text(text::shown(value.as_bytes())),
        None if format == Format::Table => Cell::text(text::ABSENT),
        None => Cell::None,
    }
}

fn verb(operation: &Operation) -> &'static str {
    match operation {
        Operation::Transfer(_) => "transfer",
        Operation::Put(_) => "put",
        Operation::Delete(_) => "delete",
        Operation::Append(_) => "append",
        Operation::Add(_) => "add",
        Operation::Swap(_) => "swap",
        Operation::Get(_) => "get",
        Operation::Scan(_) => "scan",
        Operation::Read(_) => "read",
        Operation::Pend(_) => "pend",
        Operation::Post(_) => "post",
        Operation::Void(_) => "void",
        Operation::Close(_) => "close",
        Operation::Open(_) => "open",
        Operation::List(_) => "list",
    }
}

/// The words for keys that could not be read.
pub(super) fn not_read(status: Status) -> Failure {
    match status {
        Status::Rejected(reason) => Failure::failed(format!("rejected: {reason}")),
        Status::Unavailable => Failure::unavailable(
            "unavailable: a group of these keys has no majority; `drachma status` shows which nodes are down",
        ),
        _ => Failure::unavailable("the keys could not be read in time; a longer --timeout may help"),
    }
}
