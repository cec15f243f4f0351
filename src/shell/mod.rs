//! `drachma shell`: the commands of the command line, line by line.
//!
//! [`lines`] reads, [`words`] parts a line, the command line's own parser reads the words, and [`dispatch`] carries them
//! out: those that ask a cluster on one connection for the whole session. [`block`] gathers transactions over several
//! lines. The menu of `run --step` is made of the same parts.

mod block;
mod complete;
mod dispatch;
mod history;
mod lines;
mod words;

use clap::Args;

use crate::cli::{Globals, grammar};
use crate::commands::block_on;
use crate::commands::level::LevelArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::settings::Settings;
use block::Block;
pub(crate) use complete::Names;
pub(crate) use dispatch::{Dispatcher, Said};
pub(crate) use lines::{LINE_LIMIT, Line, Lines};
pub(crate) use words::split;

const PROMPT: &str = "drachma> ";
const BLOCK_PROMPT: &str = "txn> ";

/// `drachma shell`.
#[derive(Args, Clone, Debug)]
pub struct ShellArgs {
    /// From a file or program: go on after errors; the exit status is that of the first one
    #[arg(long)]
    pub keep_going: bool,
    /// How consistent the commands are that do not say so themselves
    #[command(flatten)]
    pub at: LevelArgs,
}

/// Takes lines until standard input ends. From a file or program it stops at the first error.
///
/// # Errors
/// If standard input fails. The exit status is that of the first line that went wrong; 0 where a person types.
pub fn shell(args: &ShellArgs, globals: &Globals) -> Outcome {
    // Before anybody types: a configuration that cannot be used is told at once.
    let settings = Settings::load(globals.config.as_deref())?;
    block_on(async {
        let grammar = grammar(&own(), false);
        let lines = Lines::open(grammar.clone(), Names::from(&settings));
        let dispatcher = Dispatcher::here(grammar, globals.clone(), args.at.clone(), lines.interactive());
        let mut session = Session { lines, dispatcher, block: None, number: 0, keep_going: args.keep_going };
        session.run().await
    })
}

/// The words that only a shell knows.
fn own() -> [clap::Command; 1] {
    [clap::Command::new("exit").visible_alias("quit").about("End the session, as Ctrl-D does")]
}

/// A shell under way.
struct Session {
    lines: Lines,
    dispatcher: Dispatcher,
    block: Option<Block>,
    /// The number of the last line that was read, from 1 on.
    number: u64,
    keep_going: bool,
}

/// How a line has ended.
enum Ended {
    With(Exit),
    Session,
}

impl Session {
    async fn run(&mut self) -> Outcome {
        let mut first = Exit::Done;
        if self.lines.interactive() {
            eprintln!("`help` shows the commands, `help COMMAND` what one takes; Ctrl-D ends");
        }
        loop {
            let ended = match self.next().await {
                Ok(Ended::Session) => break,
                Ok(Ended::With(exit)) => exit,
                Err(failure) => self.report(&failure, self.number),
            };
            if ended == Exit::Done || self.lines.interactive() {
                continue;
            }
            first = if first == Exit::Done { ended } else { first };
            if !self.keep_going {
                return Ok(first);
            }
        }
        if let Some(block) = self.block.take() {
            let failure = Failure::usage("the transaction that begins here has no end; nothing of it was carried out");
            let exit = self.report(&failure, block.first);
            first = if first == Exit::Done && !self.lines.interactive() { exit } else { first };
        }
        Ok(first)
    }

    /// Reads a line and carries it out.
    async fn next(&mut self) -> Result<Ended, Failure> {
        let prompt = if self.block.is_some() { BLOCK_PROMPT } else { PROMPT };
        let line = self.lines.next(prompt).await?;
        self.number += 1;
        let outcome = match line {
            Line::End => return Ok(Ended::Session),
            Line::Interrupted => {
                if self.block.is_some() {
                    eprintln!("the line is dropped; `abort` drops the transaction");
                }
                return Ok(Ended::With(Exit::Done));
            }
            Line::Text(text) => self.line(&text).await,
            Line::TooLong => Err(Failure::usage(format!("the line has more than {LINE_LIMIT} bytes"))),
            Line::NotText => Err(Failure::usage("the line is not UTF-8; bytes are given with --hex")),
        };
        match &outcome {
            Ok(Ended::With(exit)) if *exit != Exit::Done && !self.lines.interactive() => {
                eprintln!("line {}: ended with exit status {}", self.number, exit.status());
            }
            // A person sees that it was wrong and types it again; from elsewhere a part would be carried out.
            Err(_) if !self.lines.interactive() => {
                if let Some(block) = &mut self.block {
                    block.wrong.get_or_insert(self.number);
                }
            }
            _ => {}
        }
        outcome
    }

    async fn line(&mut self, text: &str) -> Result<Ended, Failure> {
        if self.block.is_some() {
            return self.block_line(text).await.map(Ended::With);
        }
        let words = split(text).map_err(Failure::usage)?;
        if words.is_empty() {
            return Ok(Ended::With(Exit::Done));
        }
        match self.dispatcher.carry_out(&words).await? {
            Said::Done(exit) => return Ok(Ended::With(exit)),
            Said::Own => return Ok(Ended::Session),
            Said::Block(args) => self.block = Some(Block::new(args, self.number)),
        }
        if self.lines.interactive() {
            eprintln!("one condition or operation a line, or TOML; `commit` carries it out, `abort` drops it");
        }
        Ok(Ended::With(Exit::Done))
    }

    /// A line of a transaction.
    async fn block_line(&mut self, text: &str) -> Outcome {
        match text.trim() {
            "end" | "commit" => return self.commit().await,
            "abort" => {
                self.block = None;
                return Ok(Exit::Done);
            }
            _ => {}
        }
        let Some(block) = &mut self.block else { return Ok(Exit::Done) };
        match block.add(text) {
            Ok(()) => Ok(Exit::Done),
            Err(error) if error.use_stderr() => Err(dispatch::usage(&error.render().to_string())),
            Err(help) => {
                crate::output::line(help.render().to_string().trim_end())?;
                Ok(Exit::Done)
            }
        }
    }

    async fn commit(&mut self) -> Outcome {
        let Some(block) = self.block.take() else { return Ok(Exit::Done) };
        let transaction = match block.transaction() {
            Ok(transaction) => transaction,
            Err(fault) => {
                let failure = Failure::usage(fault.message);
                let exit = self.report(&failure, fault.line.unwrap_or(self.number));
                return Err(Failure { exit, message: String::new() });
            }
        };
        self.dispatcher.transact(transaction, &block.args.at).await
    }

    /// Says what went wrong, and in which line if nobody has just typed it.
    fn report(&self, failure: &Failure, line: u64) -> Exit {
        if self.lines.interactive() || failure.message.is_empty() {
            return failure.report();
        }
        eprintln!("line {line}: error: {}", failure.message);
        failure.exit
    }
}
