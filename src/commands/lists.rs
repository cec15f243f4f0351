//! `drachma transfer list` and `drachma account history`.

use std::collections::BTreeMap;

use clap::Args;
use drachma_protocol::ids::{AccountId, GroupId, TxnId};
use drachma_protocol::ledger::model::{BalancesAt, PendingTransfer, Posted, Sides};
use drachma_protocol::ledger::operations::{LIST_LIMIT, List, ListOf, Listed, ListedRows};
use drachma_protocol::time::LogTime;

use super::{Context, balance};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell};

/// `drachma transfer list`.
#[derive(Args, Clone, Copy, Debug)]
#[command(group = clap::ArgGroup::new("of").required(true))]
pub struct ListArgs {
    /// What was posted to this account
    #[arg(long, group = "of")]
    pub account: Option<AccountId>,
    /// What was posted with this code
    #[arg(long, group = "of")]
    pub code: Option<u16>,
    /// What was posted with these 128 bits of user data
    #[arg(long, group = "of")]
    pub user_data_128: Option<u128>,
    /// What was posted with these 64 bits of user data
    #[arg(long, group = "of")]
    pub user_data_64: Option<u64>,
    /// What was posted with these 32 bits of user data
    #[arg(long, group = "of")]
    pub user_data_32: Option<u32>,
    /// The pending transfers of this account, ended or not
    #[arg(long, group = "of")]
    pub pending: Option<AccountId>,
    /// Which page
    #[command(flatten)]
    pub page: ListPage,
}

/// A page of a list.
#[derive(Args, Clone, Copy, Debug)]
pub struct ListPage {
    /// The newest first
    #[arg(long)]
    pub newest: bool,
    /// From this log time of the group on, in microseconds
    #[arg(long, value_name = "US", default_value_t = 0)]
    pub since: u64,
    /// Up to before this log time of the group, in microseconds
    #[arg(long, value_name = "US")]
    pub until: Option<u64>,
    /// Where to go on, as the page before says; for lists of one account
    #[arg(long)]
    pub from: Option<u64>,
    /// At most so many rows
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
}

/// `drachma account history`.
#[derive(Args, Clone, Copy, Debug)]
pub struct HistoryArgs {
    /// Which account
    pub account: AccountId,
    /// Which page
    #[command(flatten)]
    pub page: ListPage,
}

const POSTED: [&str; 11] = [
    "group",
    "id",
    "debit",
    "credit",
    "amount",
    "ledger",
    "code",
    "user_data_128",
    "user_data_64",
    "user_data_32",
    "posted_at_us",
];
const PENDING: [&str; 10] =
    ["id", "debit", "credit", "amount", "code", "made_at_us", "timeout_us", "state", "ended_at_us", "posted"];
const BALANCES: [&str; 6] =
    ["transfer", "at_us", "debits_posted", "credits_posted", "debits_pending", "credits_pending"];

/// Lists what was posted, or what is pending.
///
/// # Errors
/// With exit status 1 if there is no such account, 2 for a page that cannot be, 3 if a group does not answer in time.
pub async fn transfers(context: &Context, args: ListArgs) -> Outcome {
    let of = args.account.map(ListOf::Account);
    let of = of.or(args.code.map(ListOf::Code)).or(args.user_data_128.map(ListOf::UserData128));
    let of = of.or(args.user_data_64.map(ListOf::UserData64)).or(args.user_data_32.map(ListOf::UserData32));
    let of = of.or(args.pending.map(ListOf::Pending)).ok_or_else(|| Failure::usage("what is to be listed?"))?;
    show(context, list(of, args.page)).await
}

/// Shows an account's balances after each change.
///
/// # Errors
/// As [`transfers`].
pub async fn history(context: &Context, args: HistoryArgs) -> Outcome {
    show(context, list(ListOf::Balances(args.account), args.page)).await
}

fn list(of: ListOf, page: ListPage) -> List {
    let ListPage { newest, since, until, from, limit } = page;
    List { of, newest, since: LogTime(since), until: until.map(LogTime), from, limit }
}

async fn show(context: &Context, list: List) -> Outcome {
    match list.of.account() {
        Some(account) => show_one(context, list, account).await,
        None if list.from.is_some() => {
            Err(Failure::usage("--from is for lists of one account; use --since or --until"))
        }
        None => show_all(context, list).await,
    }
}

/// As many rows as were asked for, page by page, from one group.
async fn pages(context: &Context, group: GroupId, mut list: List) -> Result<(Vec<ListedRows>, Option<u64>), Failure> {
    let (mut pages, mut left) = (Vec::new(), list.limit);
    loop {
        list.limit = left.min(LIST_LIMIT);
        let found = context.client.list(group, list, Some(context.timeout)).await;
        let Listed { rows, next } = found.map_err(|status| {
            Failure::unavailable(format!("{group} could not be read in time: {status:?}; `drachma status` shows why"))
        })?;
        let count = match &rows {
            ListedRows::Posted(rows) => rows.len(),
            ListedRows::Pending(rows) => rows.len(),
            ListedRows::Balances(rows) => rows.len(),
        };
        left = left.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
        pages.push(rows);
        list.from = next;
        if next.is_none() || left == 0 {
            return Ok((pages, next));
        }
    }
}

async fn show_one(context: &Context, list: List, account: AccountId) -> Outcome {
    let group = context.client.map().map.owner_of(account).ok_or_else(|| balance::no_account(account))?;
    let (pages, next) = pages(context, group, list).await?;
    let mut rows = Vec::new();
    for page in &pages {
        match page {
            ListedRows::Posted(found) => rows.extend(found.iter().map(|row| posted(group, row))),
            ListedRows::Pending(found) => rows.extend(found.iter().map(pending)),
            ListedRows::Balances(found) => rows.extend(found.iter().map(balances)),
        }
    }
    let headers = match list.of {
        ListOf::Pending(_) => &PENDING[..],
        ListOf::Balances(_) => &BALANCES[..],
        _ => &POSTED[..],
    };
    output::print(context.format, headers, &rows)?;
    if let Some(next) = next {
        eprintln!("there is more: --from {next}");
    }
    Ok(Exit::Done)
}

/// The lists of all groups as one, by their log times; the two sides of a transfer are one row.
async fn show_all(context: &Context, list: List) -> Outcome {
    let mut found: BTreeMap<TxnId, (GroupId, Posted)> = BTreeMap::new();
    let mut is_more = false;
    for group in &context.topology.groups {
        let (pages, next) = pages(context, group.id, list).await?;
        is_more |= next.is_some();
        for page in pages {
            let ListedRows::Posted(rows) = page else { continue };
            for row in rows {
                let known = found.entry(TxnId::from(&row.transfer)).or_insert((group.id, row));
                if row.sides == Sides::Debit {
                    *known = (group.id, row);
                }
            }
        }
    }
    let mut rows: Vec<(GroupId, Posted)> = found.into_values().collect();
    rows.sort_by_key(|(_, row)| (row.posted_at, row.transfer.id.0));
    if list.newest {
        rows.reverse();
    }
    let limit = list.limit as usize;
    is_more |= rows.len() > limit;
    let rows: Vec<Vec<Cell>> = rows.iter().take(limit).map(|(group, row)| posted(*group, row)).collect();
    output::print(context.format, &POSTED, &rows)?;
    if is_more {
        eprintln!("there is more: a larger --limit, or --since and --until, show it");
    }
    Ok(Exit::Done)
}

fn posted(group: GroupId, row: &Posted) -> Vec<Cell> {
    let transfer = &row.transfer;
    vec![
        Cell::text(group),
        Cell::text(transfer.id),
        Cell::number(transfer.debit),
        Cell::number(transfer.credit),
        Cell::number(transfer.amount),
        Cell::number(transfer.ledger),
        Cell::number(transfer.code),
        Cell::number(transfer.user_data_128),
        Cell::number(transfer.user_data_64),
        Cell::number(transfer.user_data_32),
        Cell::number(row.posted_at.0),
    ]
}

fn pending(row: &PendingTransfer) -> Vec<Cell> {
    let transfer = &row.transfer;
    vec![
        Cell::text(transfer.id),
        Cell::number(transfer.debit),
        Cell::number(transfer.credit),
        Cell::number(transfer.amount),
        Cell::number(transfer.code),
        Cell::number(row.made_at.0),
        Cell::number(row.timeout.0),
        Cell::text(row.state),
        Cell::number(row.ended_at.0),
        Cell::number(row.posted),
    ]
}

fn balances(row: &BalancesAt) -> Vec<Cell> {
    vec![
        Cell::text(row.transfer),
        Cell::number(row.at.0),
        Cell::number(row.debits_posted),
        Cell::number(row.credits_posted),
        Cell::number(row.debits_pending),
        Cell::number(row.credits_pending),
    ]
}
