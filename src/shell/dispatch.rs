//! Carries out what a line says: on the session's connection, or as a process of its own.

use std::io;
use std::process::{ExitStatus, Stdio};

use drachma_protocol::ledger::operations::Transaction;
use tokio::process;

use crate::cli::{Ask, Command, Globals, Parsed, parse_line};
use crate::commands::level::LevelArgs;
use crate::commands::txn::{self, TxnArgs};
use crate::commands::{Context, timeout};
use crate::exit::{Exit, Failure, Outcome};

/// How lines are carried out.
pub(crate) struct Dispatcher {
    grammar: clap::Command,
    /// The global options that the session was begun with.
    globals: Globals,
    at: LevelArgs,
    place: Place,
    // A person is there to answer.
    interactive: bool,
}

enum Place {
    // Commands that ask a cluster share a connection, made when the first of them needs it.
    Here(Option<Box<Context>>),
    // Standard output is somebody else's: what commands print goes to standard error.
    Aside,
}

/// What a line leaves to whoever has read it.
pub(crate) enum Said {
    /// It was carried out.
    Done(Exit),
    /// A word of the shell's own.
    Own,
    /// `txn` without a file.
    Block(TxnArgs),
}

impl Dispatcher {
    /// Everything the command line knows, and `grammar`'s own words.
    pub(super) fn here(grammar: clap::Command, globals: Globals, at: LevelArgs, interactive: bool) -> Dispatcher {
        Dispatcher { grammar, globals, at, place: Place::Here(None), interactive }
    }

    /// What asks a cluster, with everything printed to standard error.
    pub(crate) fn aside(grammar: clap::Command, globals: Globals) -> Dispatcher {
        Dispatcher { grammar, globals, at: LevelArgs::default(), place: Place::Aside, interactive: false }
    }

    /// Carries out the words of a line.
    ///
    /// # Errors
    /// With exit status 2 if they are no command, else as the command.
    pub(crate) async fn carry_out(&mut self, words: &[String]) -> Result<Said, Failure> {
        let (globals, command) = match parse_line(&self.grammar, words, &self.globals) {
            Ok(Parsed::Command(parsed)) => *parsed,
            Ok(Parsed::Own) => return Ok(Said::Own),
            Err(error) => return self.told(&error).map(Said::Done),
        };
        let is_aside = matches!(self.place, Place::Aside);
        match command {
            Command::Shell(_) => Err(Failure::usage("this is a shell already")),
            Command::Ask(Ask::Txn(args)) if args.file.is_none() && !is_aside => Ok(Said::Block(args)),
            Command::Ask(ask) if !is_aside => {
                self.ask(&globals, async |context| ask.carry_out(context, &globals).await).await.map(Said::Done)
            }
            command if is_aside && !matches!(command, Command::Ask(_)) => {
                Err(Failure::usage("only what asks the cluster is possible here; `help` shows it"))
            }
            _ => self.process(&globals, words).await.map(Said::Done),
        }
    }

    /// Carries out a transaction that was written line by line.
    ///
    /// # Errors
    /// As [`txn::transactions`].
    pub(super) async fn transact(&mut self, transaction: Transaction, at: &LevelArgs) -> Outcome {
        let globals = self.globals.clone();
        self.ask(&globals, async |context| txn::transactions(context, vec![transaction], at).await).await
    }

    /// Help goes where results go; anything else is wrong usage.
    fn told(&self, error: &clap::Error) -> Outcome {
        let text = error.render().to_string();
        if error.use_stderr() {
            return Err(usage(&text));
        }
        match self.place {
            Place::Here(_) => crate::output::line(text.trim_end())?,
            Place::Aside => eprintln!("{}", text.trim_end()),
        }
        Ok(Exit::Done)
    }

    /// On the session's connection, unless the line names another cluster; a person may interrupt it.
    async fn ask(&mut self, globals: &Globals, command: impl AsyncFnOnce(&Context) -> Outcome) -> Outcome {
        if !self.interactive {
            return self.asked(globals, command).await;
        }
        tokio::select! {
            outcome = self.asked(globals, command) => outcome,
            _ = tokio::signal::ctrl_c() => {
                eprintln!("interrupted: what was asked may be carried out all the same");
                Ok(Exit::Interrupted)
            }
        }
    }

    async fn asked(&mut self, globals: &Globals, command: impl AsyncFnOnce(&Context) -> Outcome) -> Outcome {
        let Place::Here(connection) = &mut self.place else {
            return Err(Failure::usage("there is no connection here"));
        };
        if !globals.same_cluster(&self.globals) {
            let context = Context::connect(globals).await?;
            return command(&context).await;
        }
        if connection.is_none() {
            let context = Context::connect(globals).await?;
            *connection = Some(Box::new(Context { usual: self.at.clone(), ..context }));
        }
        let Some(context) = connection else { return Err(Failure::unavailable("there is no connection")) };
        (context.format, context.timeout) = (globals.output, timeout(globals, &context.settings));
        let outcome = command(context).await;
        // The client reaches its nodes again by itself; a cluster that was made anew, or elsewhere, it does not know.
        let lost = matches!(&outcome, Ok(Exit::Unavailable) | Err(Failure { exit: Exit::Unavailable, .. }));
        if lost {
            *connection = None;
        }
        outcome
    }

    /// A command that needs no connection, or whose output must go elsewhere, is a process of this executable.
    async fn process(&self, globals: &Globals, words: &[String]) -> Outcome {
        // From a file or program the lines are this shell's, not the command's.
        let input = if self.interactive { Stdio::inherit() } else { Stdio::null() };
        let output = match self.place {
            Place::Here(_) => Stdio::inherit(),
            Place::Aside => Stdio::from(io::stderr()),
        };
        let mut command = process::Command::new(std::env::current_exe()?);
        command.args(globals.arguments()).args(words).stdin(input).stdout(output).kill_on_drop(true);
        let mut child = command.spawn()?;
        if !self.interactive {
            return Ok(exit_of(child.wait().await?));
        }
        loop {
            tokio::select! {
                ended = child.wait() => return Ok(exit_of(ended?)),
                // The terminal tells the process, too: it ends as it does without a shell.
                _ = tokio::signal::ctrl_c() => {}
            }
        }
    }
}

/// Wrong usage in the words of the parser.
pub(super) fn usage(text: &str) -> Failure {
    Failure::usage(text.strip_prefix("error: ").unwrap_or(text).trim_end())
}

fn exit_of(status: ExitStatus) -> Exit {
    let all = [Exit::Done, Exit::Failed, Exit::Usage, Exit::Unavailable, Exit::Stuck, Exit::Crashed];
    let known = all.into_iter().find(|exit| status.code() == Some(i32::from(exit.status())));
    // Whatever else there is has ended by a signal.
    known.unwrap_or(Exit::Interrupted)
}
