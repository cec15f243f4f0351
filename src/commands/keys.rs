//! `drachma get`, `put`, `del`, `append`, `cas`, `add`, `scan`, `mget`, `mput` and `swap`.

use clap::Args;
use drachma_client::LevelRead;
use drachma_protocol::ids::TransferId;
use drachma_protocol::ledger::operations::{
    Add, Condition, Key, KeyIs, Operation, Put, Reply, SCAN_LIMIT, Scan, Swap, Transaction, Value,
};

use super::level::{LevelArgs, Requests, Unread};
use super::{Context, text, txn};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell, Format};

/// `drachma get`.
#[derive(Args, Clone, Debug)]
pub struct GetArgs {
    /// Which key
    #[arg(value_parser = text::key)]
    pub key: Key,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma del`.
#[derive(Args, Clone, Debug)]
pub struct OneKeyArgs {
    /// Which key
    #[arg(value_parser = text::key)]
    pub key: Key,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma put` and `append`.
#[derive(Args, Clone, Debug)]
pub struct PutArgs {
    /// Which key
    #[arg(value_parser = text::key)]
    pub key: Key,
    /// The value; put `--` before one that begins with `-`
    pub value: String,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma cas`.
#[derive(Args, Clone, Debug)]
pub struct CasArgs {
    /// Which key
    #[arg(value_parser = text::key)]
    pub key: Key,
    /// What it must hold, and what it then holds; with --absent only the latter
    #[arg(required = true, num_args = 1..=2, value_names = ["EXPECTED", "VALUE"])]
    pub values: Vec<String>,
    /// The key must not exist
    #[arg(long)]
    pub absent: bool,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma add`.
#[derive(Args, Clone, Debug)]
pub struct AddArgs {
    /// Which key
    #[arg(value_parser = text::key)]
    pub key: Key,
    /// What is added; negative to take off
    #[arg(allow_negative_numbers = true)]
    pub number: i64,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma scan`.
#[derive(Args, Clone, Debug)]
pub struct ScanArgs {
    /// The first key, if it exists
    #[arg(value_parser = text::key)]
    pub from: Key,
    /// The first key that is not shown any more [default: all that share the part before the first `/`]
    #[arg(long, value_name = "KEY", value_parser = text::key)]
    pub to: Option<Key>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = SCAN_LIMIT, value_parser = scan_limit)]
    pub limit: u32,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

fn scan_limit(text: &str) -> Result<u32, String> {
    let limit = text.parse().ok().filter(|limit| (1..=SCAN_LIMIT).contains(limit));
    limit.ok_or_else(|| format!("1 to {SCAN_LIMIT} is allowed"))
}

/// `drachma mget`.
#[derive(Args, Clone, Debug)]
pub struct MgetArgs {
    /// Which keys
    #[arg(required = true, value_name = "KEY", value_parser = text::key)]
    pub keys: Vec<Key>,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma mput`.
#[derive(Args, Clone, Debug)]
pub struct MputArgs {
    /// A key, its value, and so on
    #[arg(required = true, num_args = 2.., value_name = "KEY VALUE")]
    pub pairs: Vec<String>,
    /// Values are hexadecimal digits
    #[arg(long)]
    pub hex: bool,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// `drachma swap`.
#[derive(Args, Clone, Debug)]
pub struct SwapArgs {
    /// One key
    #[arg(value_name = "KEY", value_parser = text::key)]
    pub left: Key,
    /// Another one
    #[arg(value_name = "KEY", value_parser = text::key)]
    pub right: Key,
    /// The transaction's id: sent again under the same id, it takes effect once [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// Shows what a key holds.
///
/// # Errors
/// With exit status 1 if there is no such key, 3 if it cannot be read in time.
pub async fn get(context: &Context, args: &GetArgs) -> Outcome {
    let requests = Requests::open(context, &args.at)?;
    let read = query(&requests, vec![Operation::Get(args.key.clone())]).await?;
    let value = match &read.replies[..] {
        [Reply::Value(Some(value))] => value,
        _ => return Err(Failure::failed(format!("there is no key {}", text::shown(args.key.as_bytes())))),
    };
    let value = txn::held(context.format, Some(value), args.hex);
    match value {
        Cell::Text(value) if context.format == Format::Table => {
            requests.age(&read);
            output::line(value)?;
        }
        value => print(context, &requests, &read, vec![vec![txn::name(&args.key), value]])?,
    }
    Ok(requests.exit(Exit::Done, read.level_met))
}

/// Prints keys with what they hold, and what is to be said of the level.
fn print(
    context: &Context,
    requests: &Requests<'_>,
    read: &LevelRead,
    mut rows: Vec<Vec<Cell>>,
) -> Result<(), Failure> {
    let (age, met) = (requests.age(read), requests.met(read.level_met));
    let mut headers = vec!["key", "value"];
    for (header, cell) in [("age_us", age), ("level_met", met)] {
        if cell != Cell::None {
            headers.push(header);
            rows.iter_mut().for_each(|row| row.push(cell.clone()));
        }
    }
    Ok(output::print(context.format, &headers, &rows)?)
}

/// Shows what several keys of any groups hold, as one consistent snapshot.
///
/// # Errors
/// With exit status 3 if they cannot be read in time, 1 if they are too large together.
pub async fn mget(context: &Context, args: &MgetArgs) -> Outcome {
    let requests = Requests::open(context, &args.at)?;
    let read = query(&requests, args.keys.iter().cloned().map(Operation::Get).collect()).await?;
    let row = |(key, reply): (&Key, &Reply)| {
        let value = if let Reply::Value(value) = reply { value.as_ref() } else { None };
        vec![txn::name(key), txn::held(context.format, value, args.hex)]
    };
    let rows: Vec<Vec<Cell>> = args.keys.iter().zip(&read.replies).map(row).collect();
    print(context, &requests, &read, rows)?;
    Ok(requests.exit(Exit::Done, read.level_met))
}

/// Shows the keys of a range that share the part before the first `/`, in order, as one consistent snapshot.
///
/// # Errors
/// With exit status 2 if the end of the range is of another part, 3 if it cannot be read in time.
pub async fn scan(context: &Context, args: &ScanArgs) -> Outcome {
    let scan = Scan { from: args.from.clone(), to: args.to.clone(), limit: args.limit };
    let requests = Requests::open(context, &args.at)?;
    let read = query(&requests, vec![Operation::Scan(scan)]).await?;
    let Some(Reply::Rows(found)) = read.replies.first() else {
        return Err(Failure::unavailable("a node answered another question; is it of another version?"));
    };
    let row = |(key, value): &(Key, Value)| vec![txn::name(key), txn::held(context.format, Some(value), args.hex)];
    let rows: Vec<Vec<Cell>> = found.rows.iter().map(row).collect();
    print(context, &requests, &read, rows)?;
    if let Some(next) = &found.next {
        eprintln!("there is more, from {}", text::quoted(&text::shown(next.as_bytes())));
    }
    Ok(requests.exit(Exit::Done, read.level_met))
}

async fn query(requests: &Requests<'_>, operations: Vec<Operation>) -> Result<LevelRead, Failure> {
    let transaction = Transaction { id: TransferId(0), conditions: Vec::new(), operations };
    if let Some(fault) = txn::fault(&transaction) {
        return Err(Failure::usage(fault));
    }
    let read = requests.query(&transaction.operations).await.map_err(|unread| match unread {
        Unread::Status(status) => txn::not_read(status),
        Unread::Failure(failure) => failure,
    })?;
    if read.replies.len() == transaction.operations.len() {
        Ok(read)
    } else {
        Err(Failure::unavailable("a node answered another question; is it of another version?"))
    }
}

/// Sets a key.
///
/// # Errors
/// If standard output fails. The exit status is 1 if it was rejected, 3 if its outcome is not known; then the line that
/// settles it is printed. So for all that write.
pub async fn put(context: &Context, args: &PutArgs) -> Outcome {
    let value = value(&args.value, args.hex)?;
    write(context, (args.id, &args.at), vec![], vec![Operation::Put(Put { key: args.key.clone(), value })]).await
}

/// Removes a key, if it exists.
///
/// # Errors
/// As [`put`].
pub async fn del(context: &Context, args: &OneKeyArgs) -> Outcome {
    write(context, (args.id, &args.at), vec![], vec![Operation::Delete(args.key.clone())]).await
}

/// Appends to what a key holds, or to nothing.
///
/// # Errors
/// As [`put`].
pub async fn append(context: &Context, args: &PutArgs) -> Outcome {
    let value = value(&args.value, args.hex)?;
    write(context, (args.id, &args.at), vec![], vec![Operation::Append(Put { key: args.key.clone(), value })]).await
}

/// Sets a key if it holds what is expected, or does not exist.
///
/// # Errors
/// As [`put`]; with exit status 2 if there are more or fewer values than that takes.
pub async fn cas(context: &Context, args: &CasArgs) -> Outcome {
    let (condition, put) = compare_and_set(args)?;
    write(context, (args.id, &args.at), vec![condition], vec![put]).await
}

/// The condition and the operation of `cas`.
///
/// # Errors
/// With exit status 2 if there are more or fewer values than it takes, or one is none.
pub(crate) fn compare_and_set(args: &CasArgs) -> Result<(Condition, Operation), Failure> {
    let (expected, new) = match (&args.values[..], args.absent) {
        ([new], true) => (None, new),
        ([expected, new], false) => (Some(value(expected, args.hex)?), new),
        (_, true) => return Err(Failure::usage("with --absent, `cas` takes KEY VALUE")),
        (_, false) => return Err(Failure::usage("`cas` takes KEY EXPECTED VALUE, or KEY VALUE with --absent")),
    };
    let key = args.key.clone();
    let condition = Condition::Is(KeyIs { key: key.clone(), value: expected });
    let put = Operation::Put(Put { key, value: value(new, args.hex)? });
    Ok((condition, put))
}

/// Adds to the number that a key holds, or to 0.
///
/// # Errors
/// As [`put`].
pub async fn add(context: &Context, args: &AddArgs) -> Outcome {
    write(context, (args.id, &args.at), vec![], vec![Operation::Add(Add { key: args.key.clone(), delta: args.number })])
        .await
}

/// Sets several keys of any groups: all of them, or none.
///
/// # Errors
/// As [`put`]; with exit status 2 if a key has no value.
pub async fn mput(context: &Context, args: &MputArgs) -> Outcome {
    write(context, (args.id, &args.at), vec![], puts(args)?).await
}

/// The operations of `mput`.
///
/// # Errors
/// With exit status 2 if a key has no value, or one is none.
pub(crate) fn puts(args: &MputArgs) -> Result<Vec<Operation>, Failure> {
    if !args.pairs.len().is_multiple_of(2) {
        return Err(Failure::usage("`mput` takes KEY VALUE, any number of times; the last key has no value"));
    }
    let put = |pair: &[String]| -> Result<Operation, Failure> {
        let key = text::key(&pair[0]).map_err(Failure::usage)?;
        Ok(Operation::Put(Put { key, value: value(&pair[1], args.hex)? }))
    };
    args.pairs.chunks_exact(2).map(put).collect()
}

/// Exchanges what two keys of any groups hold.
///
/// # Errors
/// As [`put`]; with exit status 2 if it is one key.
pub async fn swap(context: &Context, args: &SwapArgs) -> Outcome {
    let swap = Swap { left: args.left.clone(), right: args.right.clone() };
    write(context, (args.id, &args.at), vec![], vec![Operation::Swap(swap)]).await
}

/// Carries it out and prints what became of it.
async fn write(
    context: &Context,
    (id, at): (Option<TransferId>, &LevelArgs),
    conditions: Vec<Condition>,
    operations: Vec<Operation>,
) -> Outcome {
    let requests = Requests::open(context, at)?;
    let transaction = Transaction { id: txn::id(id)?, conditions, operations };
    let done = txn::carry_out(&requests, &transaction).await?;
    let replies = done.answer.replies.as_deref();
    let more = replies.and_then(<[Reply]>::first).map_or(vec![], |reply| columns(context.format, reply));
    txn::outcome(context, &requests, (&transaction, &done), &more)
}

/// What is worth a column of what the first, and mostly the only, operation yields.
fn columns(format: Format, reply: &Reply) -> Vec<(&'static str, Cell)> {
    match reply {
        Reply::Number(number) => vec![("number", Cell::number(number))],
        Reply::Length(length) => vec![("length", Cell::number(length))],
        // Each key has now what the other one had.
        Reply::Swapped(swapped) => vec![
            ("left", txn::held(format, swapped.right.as_ref(), false)),
            ("right", txn::held(format, swapped.left.as_ref(), false)),
        ],
        _ => Vec::new(),
    }
}

/// The value that a word of the command line says.
///
/// # Errors
/// With exit status 2 if it is too long, or not what `hex` says.
pub(crate) fn value(word: &str, hex: bool) -> Result<Value, Failure> {
    let bytes = if hex { text::from_hex(word).map_err(Failure::usage)? } else { word.as_bytes().to_vec() };
    text::value_of(bytes).map_err(Failure::usage)
}
