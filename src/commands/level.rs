//! What `--level` and `--session` do to a command.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use drachma_client::{Answer, Level, LevelError, LevelRead, Leveled, ReadError, Session, Token, Transacted};
use drachma_protocol::ledger::model::Transfer;
use drachma_protocol::ledger::operations::{Operation, Transaction};

use super::Context;
use crate::exit::{Exit, Failure};
use crate::output::{Cell, Format};

/// How consistent a command is to be, and what it is to see.
#[derive(Args, Clone, Debug, Default)]
pub struct LevelArgs {
    /// How consistent: linearizable (or quorum); all (every replica); session (ryw: sees what this session has done,
    /// wherever it reads); any (eventual: a read from any replica; a write that a failover may lose) [default:
    /// linearizable; with --session: session]
    #[arg(long, value_name = "LEVEL")]
    pub level: Option<Level>,
    /// Keep in this file what the session has written and read; made if there is none
    #[arg(long, value_name = "FILE")]
    pub session: Option<PathBuf>,
}

/// The requests of one command, at its level.
pub(super) struct Requests<'a> {
    context: &'a Context,
    level: Level,
    // Where nobody wants to know of the others, none is kept: that saves a question.
    session: Option<Session>,
    file: Option<&'a Path>,
}

/// What a request cannot be answered with.
pub(super) enum Unread {
    /// For the words of whoever asked.
    Status(drachma_client::Status),
    /// Said as it is.
    Failure(Failure),
}

impl<'a> Requests<'a> {
    /// Reads the token, if there is one.
    ///
    /// # Errors
    /// With exit status 2 if it is none, or of another cluster.
    pub(super) fn open(context: &'a Context, args: &'a LevelArgs) -> Result<Requests<'a>, Failure> {
        let file = args.session.as_deref().or(context.usual.session.as_deref());
        let usual = if file.is_some() { Level::Session } else { Level::Linearizable };
        let level = args.level.or(context.usual.level).unwrap_or(usual);
        let session = match file {
            Some(file) => Some(resume(context, file)?),
            None => (level != Level::Linearizable).then(|| context.client.session()),
        };
        Ok(Requests { context, level, session, file })
    }

    /// Moves money.
    pub(super) async fn transfer(&self, transfer: Transfer) -> Result<Leveled<Answer>, Failure> {
        let (client, timeout) = (&self.context.client, Some(self.context.timeout));
        let Some(session) = &self.session else {
            return Ok(Leveled { answer: client.transfer(transfer, timeout).await, level_met: true });
        };
        self.warn();
        let done = session.transfer(transfer, self.level, timeout).await.map_err(refused)?;
        self.save()?;
        Ok(done)
    }

    /// Carries out a transaction.
    pub(super) async fn transact(&self, transaction: &Transaction) -> Result<Leveled<Transacted>, Failure> {
        let (client, timeout) = (&self.context.client, Some(self.context.timeout));
        let Some(session) = &self.session else {
            return Ok(Leveled { answer: client.transact(transaction, timeout).await, level_met: true });
        };
        self.warn();
        let done = session.transact(transaction, self.level, timeout).await.map_err(refused)?;
        self.save()?;
        Ok(done)
    }

    /// Reads.
    pub(super) async fn query(&self, operations: &[Operation]) -> Result<LevelRead, Unread> {
        let (client, timeout) = (&self.context.client, Some(self.context.timeout));
        let Some(session) = &self.session else {
            let replies = client.query(operations, timeout).await.map_err(Unread::Status)?;
            return Ok(LevelRead { replies, slots: Default::default(), age: None, level_met: true });
        };
        let read = session.query(operations, self.level, timeout).await.map_err(|error| match error {
            ReadError::Status(status) => Unread::Status(status),
            ReadError::Differ(group) => Unread::Failure(Failure::failed(format!(
                "replicas of {group} hold different things at the same version; `drachma audit` shows which"
            ))),
        })?;
        self.save().map_err(Unread::Failure)?;
        Ok(read)
    }

    /// What level `any` means for a write, before it is sent.
    fn warn(&self) {
        if self.level == Level::Any {
            eprintln!("level any: answered when the leader's own disk has it; a failover may lose it");
        }
    }

    fn save(&self) -> Result<(), Failure> {
        let (Some(session), Some(file)) = (&self.session, self.file) else { return Ok(()) };
        write(file, &session.token()).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
    }

    /// Whether level `all` was met.
    pub(super) fn met(&self, met: bool) -> Cell {
        if self.level == Level::All || !met { Cell::Bool(met) } else { Cell::None }
    }

    /// One more column, if there is something to say.
    pub(super) fn add_met(&self, met: bool, headers: &mut Vec<&'static str>, row: &mut Vec<Cell>) {
        let cell = self.met(met);
        if cell != Cell::None {
            headers.push("level_met");
            row.push(cell);
        }
    }

    /// The exit status of a request whose own is `exit`; says what is missing.
    pub(super) fn exit(&self, exit: Exit, met: bool) -> Exit {
        if met || exit == Exit::Unavailable {
            return exit;
        }
        match self.level {
            Level::All => eprintln!("the level was not met: not every replica had it in time; its outcome stands"),
            _ => eprintln!("the session could not be told how far its groups are: it may read without this write"),
        }
        Exit::Unavailable
    }

    /// One more column of a read: how old the state is at most, at level `any`. A table says it beside it.
    pub(super) fn age(&self, read: &LevelRead) -> Cell {
        if self.level != Level::Any {
            return Cell::None;
        }
        let age = read.age.map(|age| age.as_micros());
        if self.context.format == Format::Table {
            match age {
                Some(age) => eprintln!("at most {}.{:03} ms old", age / 1000, age % 1000),
                None => eprintln!("its age is unknown"),
            }
            return Cell::None;
        }
        age.map_or_else(|| Cell::text("unknown"), Cell::number)
    }
}

fn refused(error: LevelError) -> Failure {
    Failure::usage(error)
}

fn resume(context: &Context, file: &Path) -> Result<Session, Failure> {
    let wrong = |what: &dyn std::fmt::Display| Failure::usage(format!("{}: {what}", file.display()));
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(context.client.session()),
        Err(error) => return Err(wrong(&error)),
    };
    let token: Token = text.trim().parse().map_err(|error| wrong(&error))?;
    context.client.resume(token).map_err(|error| wrong(&error))
}

/// Whole or not at all: half a token would be none.
fn write(file: &Path, token: &Token) -> std::io::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let beside = Path::new(&name);
    let mut out = std::fs::File::create(beside)?;
    writeln!(out, "{token}")?;
    out.sync_all()?;
    std::fs::rename(beside, file)
}
