//! `drachma log`: the replicated log as transaction records.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Args;
use drachma_protocol::ids::{GroupId, NodeId, Slot, TransferId, TxnId};
use drachma_protocol::ledger::model::{BATCH_LIMIT, Outcome as TransferOutcome};
use drachma_protocol::message::operator::{LogPage, OperatorAnswer, OperatorCall, OutcomesCall, PageCall};

use super::replay::{Event, LogRecord, Replay, Rest};
use super::{Context, context::unexpected, text};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell, Format};
use crate::target;

/// `drachma log`.
#[derive(Args, Clone, Debug)]
pub struct LogArgs {
    /// A node (n1), a group (g1), a list (n1,n2) or `all`
    pub target: String,
    /// From this slot of the log on
    #[arg(long, value_name = "SLOT", default_value_t = 0)]
    pub from: u64,
    /// At most so many records of each replica
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Go on with what comes later, until interrupted
    #[arg(long)]
    pub follow: bool,
    /// Only this transaction
    #[arg(long, value_name = "ID")]
    pub txn: Option<TransferId>,
}

const HEADERS: [&str; 11] =
    ["node", "group", "slot", "id", "first", "record", "account", "balance", "key", "value", "reason"];
/// Entries asked for at once.
const PAGE: u32 = 256;
/// Between two looks at a log that is followed.
const PAUSE: Duration = Duration::from_millis(200);

/// One replica's log, as far as it was read.
struct Reader {
    node: NodeId,
    replay: Replay,
    /// What is read instead if the beginning of the log is not there any more.
    rest: Option<Rest>,
    printed: u64,
}

impl Reader {
    fn next(&self) -> Slot {
        self.rest.as_ref().map_or_else(|| self.replay.next(), Rest::next)
    }

    /// The entries before `start` are in a snapshot.
    fn skip_to(&mut self, start: Slot, context: &Context) {
        let (node, group) = (self.node, self.replay.group());
        eprintln!(
            "{node} has the log of {group} from slot {start} on; what lies before is in a snapshot, so new balances and \
             values cannot be told. `drachma committed {node}` lists all transfers"
        );
        self.rest = Some(Rest::new(context.settings.shard_map(), start));
    }

    /// The records of the next entry.
    async fn tell(&mut self, context: &Context, entry: &[u8]) -> Result<Vec<LogRecord>, Failure> {
        let Some(rest) = &mut self.rest else { return self.replay.apply(entry).map_err(Failure::failed) };
        let page = rest.read(entry).map_err(Failure::failed)?;
        let outcomes = outcomes(context, self.node, self.replay.group(), &page.alone).await?;
        Ok(rest.tell(&page, &outcomes))
    }
}

/// Prints the records of a target's logs, and with `--follow` goes on until interrupted.
///
/// # Errors
/// With exit status 2 if there is no such target, or the configuration is not the cluster's own. The exit status is 3
/// if a node does not answer.
pub async fn log(context: &Context, args: &LogArgs) -> Outcome {
    if !context.verified {
        let message =
            "the log is applied again from the cluster's opening balances: name its configuration with --config";
        return Err(Failure::usage(message));
    }
    let replicas = target::replicas(&args.target, &context.topology).map_err(Failure::usage)?;
    let several = replicas.len() > 1;
    let reader = |(group, node): (GroupId, NodeId)| {
        let replay = Replay::new(context.settings.genesis(group));
        Reader { node, replay, rest: None, printed: 0 }
    };
    let mut readers: Vec<Reader> = replicas.into_iter().map(reader).collect();
    let mut exit = Exit::Done;
    loop {
        for reader in &mut readers {
            if let Err(failure) = read_on(context, args, reader, several).await {
                exit = failure.report();
            }
        }
        if !args.follow {
            return Ok(exit);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Prints what a replica has chosen beyond what was read; stops at its limit.
async fn read_on(context: &Context, args: &LogArgs, reader: &mut Reader, several: bool) -> Result<(), Failure> {
    let group = reader.replay.group();
    let mut heading = several && context.format == Format::Table;
    loop {
        let from = reader.next();
        let page = page(context, reader.node, group, from).await?;
        if page.from != from {
            reader.skip_to(page.from, context);
        }
        for entry in &page.entries {
            for record in reader.tell(context, entry).await? {
                if !wanted(args, &record) {
                    continue;
                }
                if args.limit.is_some_and(|limit| reader.printed >= limit) {
                    return Ok(());
                }
                if std::mem::take(&mut heading) {
                    output::line(format!("# {group} on {}", reader.node))?;
                }
                reader.printed += 1;
                print(context.format, reader, &record)?;
            }
        }
        if page.entries.is_empty() || reader.next() >= page.chosen {
            return Ok(());
        }
    }
}

async fn page(context: &Context, node: NodeId, group: GroupId, from: Slot) -> Result<LogPage, Failure> {
    let call = OperatorCall::Log(PageCall { from: from.0, limit: PAGE });
    match context.ask(node, group, call).await {
        Ok(OperatorAnswer::Log(page)) => Ok(page),
        Ok(other) => Err(unexpected(&other)),
        Err(error) => Err(Failure::unavailable(format!("{node} does not answer: {error}"))),
    }
}

/// What a replica knows of transactions.
async fn outcomes(
    context: &Context,
    node: NodeId,
    group: GroupId,
    ids: &[TxnId],
) -> Result<BTreeMap<TxnId, TransferOutcome>, Failure> {
    let mut known = BTreeMap::new();
    for ids in ids.chunks(BATCH_LIMIT) {
        let call = OperatorCall::Outcomes(OutcomesCall { ids: ids.to_vec() });
        match context.ask(node, group, call).await {
            Ok(OperatorAnswer::Outcomes(page)) => {
                let pairs = ids.iter().zip(page.outcomes);
                known.extend(pairs.filter_map(|(txn, outcome)| Some((*txn, outcome?))));
            }
            Ok(other) => return Err(unexpected(&other)),
            Err(error) => return Err(Failure::unavailable(format!("{node} does not answer: {error}"))),
        }
    }
    Ok(known)
}

fn wanted(args: &LogArgs, record: &LogRecord) -> bool {
    record.slot.0 >= args.from && args.txn.is_none_or(|id| id == record.txn.id)
}

fn print(format: Format, reader: &Reader, record: &LogRecord) -> Result<(), Failure> {
    if format == Format::Table {
        output::line(record)?;
        return Ok(());
    }
    let (mut account, mut balance) = (Cell::None, Cell::None);
    let (mut key, mut value, mut reason) = (Cell::None, Cell::None, Cell::None);
    let word = match &record.event {
        Event::Start => "start",
        Event::Update(id, new) => {
            (account, balance) = (Cell::number(id), Cell::number(new));
            "update"
        }
        Event::Set(name, new) => {
            key = Cell::Text(text::shown(name.as_bytes()));
            value = Cell::maybe(new.as_ref().map(|new| text::shown(new.as_bytes())));
            "update"
        }
        Event::Commit => "commit",
        Event::Abort(why) => {
            reason = Cell::maybe(*why);
            "abort"
        }
    };
    let row = vec![
        Cell::text(reader.node),
        Cell::text(reader.replay.group()),
        Cell::number(record.slot),
        Cell::text(record.txn.id),
        Cell::number(record.txn.first),
        Cell::text(word),
        account,
        balance,
        key,
        value,
        reason,
    ];
    output::print(format, &HEADERS, &[row])?;
    Ok(())
}
