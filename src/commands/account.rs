//! `drachma account`: create, show, list, close, open.

use clap::{Args, Subcommand, ValueEnum};
use drachma_protocol::ids::{AccountId, GroupId, TransferId};
use drachma_protocol::ledger::model::{Account, CreateResult, Flags, NewAccount};
use drachma_protocol::ledger::operations::Operation;
use drachma_protocol::message::operator::{AccountsCall, OperatorAnswer, OperatorCall};

use super::level::LevelArgs;
use super::lists::HistoryArgs;
use super::{Context, balance, context::unexpected, lists, transfer, txn};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell};

/// `drachma account`.
#[derive(Clone, Debug, Subcommand)]
pub enum AccountCommand {
    /// Create accounts; those that exist with the same content are left as they are
    Create(CreateArgs),
    /// Show an account with its four totals
    Show {
        /// Which
        id: AccountId,
    },
    /// Close an account: it takes no transfers any more, and what is pending there can only be voided
    Close(SwitchArgs),
    /// Open an account that is closed
    Open(SwitchArgs),
    /// Show an account's balances after each change, if it was created with `--history`
    History(HistoryArgs),
    /// List the accounts, as the leaders have applied them
    List {
        /// The shards' reserved accounts, too
        #[arg(long)]
        all: bool,
    },
}

/// `drachma account create`.
#[derive(Args, Clone, Debug)]
pub struct CreateArgs {
    /// The accounts' ids
    #[arg(required = true, value_name = "ID")]
    pub ids: Vec<AccountId>,
    /// The currency
    #[arg(long, default_value_t = 1)]
    pub ledger: u32,
    /// Your own classification
    #[arg(long, default_value_t = 1)]
    pub code: u16,
    /// Which way the balance is limited
    #[arg(long, value_enum, default_value_t)]
    pub rule: Rule,
    /// Keep a history of balances
    #[arg(long)]
    pub history: bool,
    /// Create them closed
    #[arg(long)]
    pub closed: bool,
}

/// `drachma account close` and `drachma account open`.
#[derive(Args, Clone, Debug)]
pub struct SwitchArgs {
    /// Which account
    pub account: AccountId,
    /// The id of the closing or opening, 1 to 32 hexadecimal digits: sent again under the same id, it takes effect once
    /// [default: a new one]
    #[arg(long)]
    pub id: Option<TransferId>,
    /// How consistent
    #[command(flatten)]
    pub at: LevelArgs,
}

/// Which way an account's balance is limited.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Rule {
    /// The balance never falls below zero.
    #[default]
    DebitsMustNotExceedCredits,
    /// The balance never rises above zero.
    CreditsMustNotExceedDebits,
    /// No rule.
    None,
}

const HEADERS: [&str; 9] = [
    "account",
    "ledger",
    "code",
    "flags",
    "balance",
    "debits_posted",
    "credits_posted",
    "debits_pending",
    "credits_pending",
];
/// Accounts asked for at once.
const PAGE: u32 = 1000;

/// Carries out one of them.
///
/// # Errors
/// As each says.
pub async fn account(context: &Context, command: &AccountCommand) -> Outcome {
    match command {
        AccountCommand::Create(args) => create(context, args).await,
        AccountCommand::Show { id } => show(context, *id).await,
        AccountCommand::List { all } => list(context, *all).await,
        AccountCommand::History(args) => lists::history(context, *args).await,
        AccountCommand::Close(args) => switch(context, args, Operation::Close(args.account)).await,
        AccountCommand::Open(args) => switch(context, args, Operation::Open(args.account)).await,
    }
}

/// Exit status 1 if one exists with other content or belongs nowhere, 3 if an answer is missing.
async fn create(context: &Context, args: &CreateArgs) -> Outcome {
    let flags = match args.rule {
        Rule::DebitsMustNotExceedCredits => Flags::DEBITS_MUST_NOT_EXCEED_CREDITS,
        Rule::CreditsMustNotExceedDebits => Flags::CREDITS_MUST_NOT_EXCEED_DEBITS,
        Rule::None => Flags::NONE,
    };
    let also = [(args.history, Flags::HISTORY), (args.closed, Flags::CLOSED)];
    let also = also.into_iter().filter(|(wanted, _)| *wanted);
    let flags = also.fold(flags, |flags, (_, flag)| flags.with(flag));
    let new = |id: &AccountId| NewAccount { id: *id, ledger: args.ledger, code: args.code, flags };
    let accounts: Vec<NewAccount> = args.ids.iter().map(new).collect();
    let results = context.client.create_accounts(&accounts, Some(context.timeout)).await;
    let (mut rows, mut exit) = (Vec::new(), Exit::Done);
    for (account, result) in accounts.iter().zip(results) {
        let (word, status) = match result {
            Ok(CreateResult::Created) => ("created", Exit::Done),
            Ok(CreateResult::Exists) => ("exists", Exit::Done),
            Ok(CreateResult::ExistsDifferent) => ("exists_different", Exit::Failed),
            Ok(CreateResult::Moved) => ("outside_all_ranges", Exit::Failed),
            Err(status) => (transfer::words(status).0, Exit::Unavailable),
        };
        if exit.status() < status.status() {
            exit = status;
        }
        rows.push(vec![Cell::number(account.id), Cell::text(word)]);
    }
    output::print(context.format, &["account", "result"], &rows)?;
    Ok(exit)
}

/// Closes or opens an account. Exit status 1 if that is rejected, 3 if its outcome is not known or the level not met.
async fn switch(context: &Context, args: &SwitchArgs, operation: Operation) -> Outcome {
    transfer::alone(context, &args.at, txn::id(args.id)?, args.account, operation).await
}

/// Exit status 1 if there is no such account, 3 if it cannot be read in time.
async fn show(context: &Context, id: AccountId) -> Outcome {
    let answer = context.client.read(id, Some(context.timeout)).await;
    let account = answer.account.map_err(|status| balance::not_read(id, status))?;
    let account = account.ok_or_else(|| balance::no_account(id))?;
    output::print(context.format, &HEADERS, &[row(&account)])?;
    Ok(Exit::Done)
}

/// Exit status 3 if a group has no leader.
async fn list(context: &Context, all: bool) -> Outcome {
    let mut accounts = Vec::new();
    for group in &context.topology.groups {
        accounts.extend(group_accounts(context, group.id, all).await?);
    }
    accounts.sort_by_key(|account| account.id);
    let rows: Vec<Vec<Cell>> = accounts.iter().map(row).collect();
    output::print(context.format, &HEADERS, &rows)?;
    Ok(Exit::Done)
}

async fn group_accounts(context: &Context, group: GroupId, reserved: bool) -> Result<Vec<Account>, Failure> {
    let none = || Failure::unavailable(format!("{group} has no leader; `drachma status` shows which nodes are down"));
    let (node, _) = context.leader(group).await.ok_or_else(none)?;
    let mut accounts = Vec::new();
    let mut from = Some(0);
    while let Some(position) = from {
        let call = AccountsCall { from: position, limit: PAGE, changed: false, reserved };
        match context.ask(node, group, OperatorCall::Accounts(call)).await? {
            OperatorAnswer::Accounts(page) => {
                accounts.extend(page.accounts);
                from = page.next;
            }
            other => return Err(unexpected(&other)),
        }
    }
    Ok(accounts)
}

fn row(account: &Account) -> Vec<Cell> {
    vec![
        Cell::number(account.id),
        Cell::number(account.ledger),
        Cell::number(account.code),
        Cell::List(flags(account.flags)),
        Cell::number(account.balance()),
        Cell::number(account.debits_posted),
        Cell::number(account.credits_posted),
        Cell::number(account.debits_pending),
        Cell::number(account.credits_pending),
    ]
}

fn flags(flags: Flags) -> Vec<String> {
    let names = [
        (Flags::DEBITS_MUST_NOT_EXCEED_CREDITS, "debits_must_not_exceed_credits"),
        (Flags::CREDITS_MUST_NOT_EXCEED_DEBITS, "credits_must_not_exceed_debits"),
        (Flags::CLOSED, "closed"),
        (Flags::HISTORY, "history"),
    ];
    names.iter().filter(|(flag, _)| flags.has(*flag)).map(|(_, name)| (*name).to_owned()).collect()
}
