//! A transaction over several lines: as in a file of TOML, or one condition or operation a line.

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use drachma_protocol::ids::{AccountId, TransferId};
use drachma_protocol::ledger::model::{Balance, Transfer};
use drachma_protocol::ledger::operations::{
    Add, BalanceIs, Condition, Key, KeyIs, OPERATIONS_LIMIT, Operation, Pend, PostPending, Put, Scan, Swap,
    Transaction, VoidPending,
};
use drachma_protocol::time::Span;

use super::words;
use crate::commands::account::SwitchArgs;
use crate::commands::balance::BalanceArgs;
use crate::commands::keys::{
    self, AddArgs, CasArgs, GetArgs, MgetArgs, MputArgs, OneKeyArgs, PutArgs, ScanArgs, SwapArgs,
};
use crate::commands::level::LevelArgs;
use crate::commands::text;
use crate::commands::transfer::{PostArgs, TransferArgs, TransferCommand, VoidArgs};
use crate::commands::txn::{self, TxnArgs, file};

/// The most bytes of a block: what its transaction may have, too.
pub(super) const BLOCK_LIMIT: usize = 4 << 20;

/// A transaction that is being written.
pub(super) struct Block {
    /// The number of its first line, the one that opened it.
    pub(super) first: u64,
    /// The first of its lines that was wrong; then it is not carried out.
    pub(super) wrong: Option<u64>,
    /// What its first line said.
    pub(super) args: TxnArgs,
    bytes: usize,
    content: Content,
}

enum Content {
    Nothing,
    Toml(String),
    Words(Transaction),
}

/// What is wrong, and in which line if not in the last.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Fault {
    pub(super) line: Option<u64>,
    pub(super) message: String,
}

impl From<String> for Fault {
    fn from(message: String) -> Fault {
        Fault { line: None, message }
    }
}

impl Block {
    /// An empty one, whose first line has this number.
    pub(super) fn new(args: TxnArgs, first: u64) -> Block {
        Block { first, wrong: None, args, bytes: 0, content: Content::Nothing }
    }

    /// One more line.
    ///
    /// # Errors
    /// What is wrong with it, or help; then it is left out.
    pub(super) fn add(&mut self, line: &str) -> Result<(), clap::Error> {
        if self.bytes + line.len() + 1 > BLOCK_LIMIT {
            return Err(wrong(format!("a transaction has at most {BLOCK_LIMIT} bytes")));
        }
        if let (Content::Nothing, false) = (&self.content, is_blank(line)) {
            self.content = if is_toml(line) {
                // So that lines keep their numbers.
                Content::Toml("\n".repeat(self.bytes))
            } else {
                let (id, conditions, operations) = (TransferId(0), Vec::new(), Vec::new());
                Content::Words(Transaction { id, conditions, operations })
            };
        }
        match &mut self.content {
            // Blank lines and comments before anything else: only their number counts.
            Content::Nothing => self.bytes += 1,
            Content::Toml(text) => {
                text.push_str(line);
                text.push('\n');
                self.bytes += line.len() + 1;
            }
            Content::Words(_) if is_blank(line) => {}
            Content::Words(transaction) => {
                let (conditions, operations) = parse(&words::split(line).map_err(wrong)?)?;
                let count = transaction.conditions.len() + transaction.operations.len();
                if count + conditions.len() + operations.len() > OPERATIONS_LIMIT {
                    let message = format!("a transaction has at most {OPERATIONS_LIMIT} conditions and operations");
                    return Err(wrong(message));
                }
                transaction.conditions.extend(conditions);
                transaction.operations.extend(operations);
                self.bytes += line.len() + 1;
            }
        }
        Ok(())
    }

    /// The whole transaction; without an id it has id 0.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub(super) fn transaction(&self) -> Result<Transaction, Fault> {
        if let Some(line) = self.wrong {
            return Err(format!("the transaction is not carried out: its line {line} is wrong").into());
        }
        let mut transaction = match &self.content {
            Content::Nothing => return Err("expected a condition or an operation before the end".to_owned().into()),
            Content::Toml(text) => file::placed(text)
                .map_err(|(place, message)| Fault { line: place.map(|(line, _)| self.first + line as u64), message })?,
            Content::Words(transaction) => match txn::fault(transaction) {
                Some(fault) => return Err(fault.into()),
                None => transaction.clone(),
            },
        };
        transaction.id = self.args.id.unwrap_or(transaction.id);
        Ok(transaction)
    }
}

fn is_blank(line: &str) -> bool {
    matches!(line.trim_start().chars().next(), None | Some('#'))
}

/// `[[operations]]`, or `id = "5e5e"`.
fn is_toml(line: &str) -> bool {
    let line = line.trim_start();
    let name = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(line.len());
    line.starts_with('[') || name > 0 && line[name..].trim_start().starts_with('=')
}

fn wrong(message: String) -> clap::Error {
    clap::Error::raw(clap::error::ErrorKind::ValueValidation, message)
}

/// A line of a transaction.
#[derive(Parser)]
#[command(
    name = "txn",
    no_binary_name = true,
    max_term_width = 120,
    after_help = "`commit` or `end` carries the transaction out, `abort` drops it. Its lines may be TOML, too, as in files \
                  of transactions. Conditions and reads see the state before the transaction."
)]
struct Entry {
    #[command(subcommand)]
    word: Word,
}

#[derive(Subcommand)]
enum Word {
    /// Condition: the key holds exactly this
    Is(KeyValue),
    /// Condition: the key holds something else than this, or nothing
    #[command(name = "is_not")]
    IsNot(KeyValue),
    /// Condition: the key does not exist
    Absent(OneKey),
    /// Condition: the key exists
    Exists(OneKey),
    /// Condition: the account's balance is this or more
    #[command(name = "at_least")]
    AtLeast(BalanceBound),
    /// Condition: the account's balance is this or less
    #[command(name = "at_most")]
    AtMost(BalanceBound),
    /// Move money, or reserve it (`--pending --id ID`), or `post` or `void` what is reserved
    Transfer(Box<TransferArgs>),
    /// Show an account's balance
    #[command(alias = "read")]
    Balance(BalanceArgs),
    /// Close an account
    Close(SwitchArgs),
    /// Open an account that is closed
    Open(SwitchArgs),
    /// Show what a key holds
    Get(GetArgs),
    /// Set a key
    Put(PutArgs),
    /// Remove a key, if it exists
    #[command(alias = "delete")]
    Del(OneKeyArgs),
    /// Append to what a key holds, or to nothing
    Append(PutArgs),
    /// Set a key if it holds what is expected
    Cas(CasArgs),
    /// Add to the number that a key holds, or to 0
    Add(AddArgs),
    /// Show the keys of a range, in order
    Scan(ScanArgs),
    /// Show what several keys hold
    Mget(MgetArgs),
    /// Set several keys
    Mput(MputArgs),
    /// Exchange what two keys hold
    Swap(SwapArgs),
}

#[derive(clap::Args)]
struct KeyValue {
    /// Which key
    #[arg(value_parser = text::key)]
    key: Key,
    /// The value; put `--` before one that begins with `-`
    value: String,
    /// The value is hexadecimal digits
    #[arg(long)]
    hex: bool,
}

#[derive(clap::Args)]
struct OneKey {
    /// Which key
    #[arg(value_parser = text::key)]
    key: Key,
}

#[derive(clap::Args)]
struct BalanceBound {
    /// Which account
    account: AccountId,
    /// The balance
    #[arg(allow_negative_numbers = true, value_parser = balance)]
    balance: Balance,
}

fn balance(text: &str) -> Result<Balance, String> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let magnitude: u128 = digits.parse().map_err(|_| "a whole number below 2^128 is allowed".to_owned())?;
    Ok(Balance { negative: digits.len() < text.len() && magnitude > 0, magnitude })
}

type Parts = (Vec<Condition>, Vec<Operation>);

fn parse(words: &[String]) -> Result<Parts, clap::Error> {
    let matches = Entry::command().try_get_matches_from(words)?;
    Entry::from_arg_matches(&matches)?.word.parts().map_err(wrong)
}

impl Word {
    fn parts(self) -> Result<Parts, String> {
        let condition = |condition| Ok((vec![condition], Vec::new()));
        match self {
            Word::Is(args) => condition(Condition::Is(args.condition()?)),
            Word::IsNot(args) => condition(Condition::IsNot(args.condition()?)),
            Word::Absent(OneKey { key }) => condition(Condition::Is(KeyIs { key, value: None })),
            Word::Exists(OneKey { key }) => condition(Condition::IsNot(KeyIs { key, value: None })),
            Word::AtLeast(BalanceBound { account, balance }) => {
                condition(Condition::AtLeast(BalanceIs { account, balance }))
            }
            Word::AtMost(BalanceBound { account, balance }) => {
                condition(Condition::AtMost(BalanceIs { account, balance }))
            }
            Word::Cas(args) => {
                whole(args.id, &args.at)?;
                let (condition, put) = keys::compare_and_set(&args).map_err(|failure| failure.message)?;
                Ok((vec![condition], vec![put]))
            }
            operation => Ok((Vec::new(), operation.operations()?)),
        }
    }

    fn operations(self) -> Result<Vec<Operation>, String> {
        let one = |operation| Ok(vec![operation]);
        match self {
            Word::Transfer(args) => one(transfer(*args)?),
            Word::Balance(BalanceArgs { id, at }) => whole(None, &at).map(|()| vec![Operation::Read(id)]),
            Word::Close(args) => whole(args.id, &args.at).map(|()| vec![Operation::Close(args.account)]),
            Word::Open(args) => whole(args.id, &args.at).map(|()| vec![Operation::Open(args.account)]),
            Word::Get(args) => whole(None, &args.at).map(|()| vec![Operation::Get(args.key)]),
            Word::Put(args) => whole(args.id, &args.at).and_then(|()| one(Operation::Put(put(args)?))),
            Word::Append(args) => whole(args.id, &args.at).and_then(|()| one(Operation::Append(put(args)?))),
            Word::Del(args) => whole(args.id, &args.at).map(|()| vec![Operation::Delete(args.key)]),
            Word::Add(AddArgs { key, number: delta, id, at }) => {
                whole(id, &at).map(|()| vec![Operation::Add(Add { key, delta })])
            }
            Word::Scan(ScanArgs { from, to, limit, at, .. }) => {
                whole(None, &at).map(|()| vec![Operation::Scan(Scan { from, to, limit })])
            }
            Word::Mget(args) => whole(None, &args.at).map(|()| args.keys.into_iter().map(Operation::Get).collect()),
            Word::Mput(args) => {
                whole(args.id, &args.at)?;
                keys::puts(&args).map_err(|failure| failure.message)
            }
            Word::Swap(SwapArgs { left, right, id, at }) => {
                whole(id, &at).map(|()| vec![Operation::Swap(Swap { left, right })])
            }
            // Those are conditions.
            _ => Ok(Vec::new()),
        }
    }
}

impl KeyValue {
    fn condition(self) -> Result<KeyIs, String> {
        let value = keys::value(&self.value, self.hex).map_err(|failure| failure.message)?;
        Ok(KeyIs { key: self.key, value: Some(value) })
    }
}

fn put(args: PutArgs) -> Result<Put, String> {
    let value = keys::value(&args.value, args.hex).map_err(|failure| failure.message)?;
    Ok(Put { key: args.key, value })
}

/// What the whole transaction has is not said of one operation.
fn whole(id: Option<TransferId>, at: &LevelArgs) -> Result<(), String> {
    if id.is_some() || at.level.is_some() || at.session.is_some() {
        return Err("--id, --level and --session are the whole transaction's: give them with `txn`".to_owned());
    }
    Ok(())
}

fn transfer(args: TransferArgs) -> Result<Operation, String> {
    let own = |id: Option<TransferId>| id.unwrap_or(TransferId(0));
    match args.command {
        None => {}
        Some(TransferCommand::Post(PostArgs { pending, debit, credit, amount, id, at })) => {
            return whole(None, &at)
                .map(|()| Operation::Post(PostPending { id: own(id), pending, debit, credit, amount }));
        }
        Some(TransferCommand::Void(VoidArgs { pending, debit, credit, id, at })) => {
            return whole(None, &at).map(|()| Operation::Void(VoidPending { id: own(id), pending, debit, credit }));
        }
        Some(TransferCommand::List(_)) => return Err("a transaction has no lists".to_owned()),
    }
    whole(None, &args.at)?;
    let (Some(debit), Some(credit), Some(amount)) = (args.debit, args.credit, args.amount) else {
        return Err("a transfer has a debit account, a credit account and an amount".to_owned());
    };
    let (ledger, code) = (args.ledger, args.code);
    let transfer = Transfer { id: own(args.id), debit, credit, amount, ledger, code, ..Transfer::default() };
    if !args.pending {
        return Ok(Operation::Transfer(transfer));
    }
    if args.id.is_none() {
        return Err("a pending transfer in a transaction needs an --id, by which to post or void it".to_owned());
    }
    let timeout = args.expires.map_or(Span(0), |timeout| Span(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX)));
    Ok(Operation::Pend(Pend { transfer, timeout }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Block {
        Block::new(TxnArgs::default(), 1)
    }

    fn add(block: &mut Block, line: &str) -> Result<(), clap::Error> {
        block.add(line)
    }

    fn of(lines: &str) -> Result<Transaction, Fault> {
        let mut block = block();
        for line in lines.lines() {
            add(&mut block, line).map_err(|error| Fault { line: None, message: error.to_string() })?;
        }
        block.transaction()
    }

    #[test]
    fn lines_of_words_say_the_same_as_toml() {
        let words = "# a comment\nis a 1\nis_not b x\nabsent c\nexists d\nat_least 1 -3\nat_most 2 5\n\
            transfer 1 2 3 --code 7\ntransfer 1 2 3 --pending --id a3 --expires 60s\ntransfer post a1 1 2 --amount 2\n\
            transfer void a2 1 2\nput a 00ff --hex\nappend a 'b c'\ndel e\nadd n -5\nswap f g\nget a\n\
            scan s/ --limit 3\nread 1\nclose 4\nopen 5\nmput h 1 i 2";
        let toml = "[[conditions]]\nis = { key = \"a\", value = \"1\" }\n\
            [[conditions]]\nis_not = { key = \"b\", value = \"x\" }\n[[conditions]]\nabsent = \"c\"\n\
            [[conditions]]\nexists = \"d\"\n[[conditions]]\nat_least = { account = 1, balance = -3 }\n\
            [[conditions]]\nat_most = { account = 2, balance = 5 }\n\
            [[operations]]\ntransfer = { debit = 1, credit = 2, amount = 3, code = 7 }\n\
            [[operations]]\npend = { id = \"a3\", debit = 1, credit = 2, amount = 3, timeout = \"60s\" }\n\
            [[operations]]\npost = { pending = \"a1\", debit = 1, credit = 2, amount = 2 }\n\
            [[operations]]\nvoid = { pending = \"a2\", debit = 1, credit = 2 }\n\
            [[operations]]\nput = { key = \"a\", value = { hex = \"00ff\" } }\n\
            [[operations]]\nappend = { key = \"a\", value = \"b c\" }\n[[operations]]\ndelete = \"e\"\n\
            [[operations]]\nadd = { key = \"n\", number = -5 }\n[[operations]]\nswap = { left = \"f\", right = \"g\" }\n\
            [[operations]]\nget = \"a\"\n[[operations]]\nscan = { from = \"s/\", limit = 3 }\n\
            [[operations]]\nread = 1\n[[operations]]\nclose = 4\n[[operations]]\nopen = 5\n\
            [[operations]]\nput = { key = \"h\", value = \"1\" }\n[[operations]]\nput = { key = \"i\", value = \"2\" }\n";
        assert_eq!(of(words).unwrap(), of(toml).unwrap());
    }

    #[test]
    fn compare_and_set_is_a_condition_and_a_put() {
        assert_eq!(of("cas a 1 2").unwrap(), of("is a 1\nput a 2").unwrap());
        assert_eq!(of("cas a 2 --absent").unwrap(), of("absent a\nput a 2").unwrap());
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let fault = of("\n# x\n[[operations]]\nget = 5\n").unwrap_err();
        assert_eq!(fault.line, Some(5), "{fault:?}: the block's first line is 1");
        assert!(fault.message.contains("expected a text"), "{fault:?}");
        for (lines, part) in [
            ("", "before the end"),
            ("put a", "required"),
            ("frobnicate", "unrecognized subcommand"),
            ("put a b --id 5", "the whole transaction's"),
            ("get a --level any", "the whole transaction's"),
            ("transfer 1 2 3 --pending", "needs an --id"),
            ("transfer list --account 1", "no lists"),
            ("swap a a", "swapped"),
            ("at_least 1 x", "whole number"),
        ] {
            let fault = of(lines).unwrap_err();
            assert!(fault.message.contains(part), "{lines}: {fault:?}");
        }
    }

    #[test]
    fn a_block_with_a_wrong_line_is_not_carried_out() {
        let mut block = block();
        add(&mut block, "put a b").unwrap();
        assert!(add(&mut block, "put").is_err());
        block.wrong = Some(3);
        assert!(block.transaction().unwrap_err().message.contains("its line 3 is wrong"));
    }

    #[test]
    fn a_block_at_each_limit_is_taken_and_one_past_it_is_not() {
        let mut most = block();
        (0..OPERATIONS_LIMIT).for_each(|_| add(&mut most, "get a").unwrap());
        assert!(add(&mut most, "get a").unwrap_err().to_string().contains("at most 1024"));
        assert_eq!(most.transaction().unwrap().operations.len(), OPERATIONS_LIMIT);
        let mut large = block();
        let line = format!("put a {}", "x".repeat((256 << 10) - 7));
        (0..16).for_each(|_| add(&mut large, &line).unwrap());
        assert_eq!(large.bytes, BLOCK_LIMIT);
        assert!(add(&mut large, "del a").unwrap_err().to_string().contains("4194304 bytes"));
    }

    #[test]
    fn toml_is_told_from_words() {
        assert!(["[[operations]]", " id = \"a\"", "id=\"a\""].into_iter().all(is_toml));
        assert!(!["put a = b", "put a=b", "get a", "# x", "= 1"].into_iter().any(is_toml));
    }
}
