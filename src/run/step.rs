//! Waiting for a person between sets, and commands there: those of the shell that ask the cluster.

use rustix::process::{Signal, getpid, kill_process};

use crate::cli::{Globals, grammar};
use crate::settings::Settings;
use crate::shell::{Dispatcher, LINE_LIMIT, Line, Lines, Names, Said, split};

const PROMPT: &str = "step> ";
const HELP: &str =
    "Enter or `next` goes on; what asks the cluster is possible here (db, status, balance ID...), see `help`";

/// Reads lines from standard input. Its end means that nobody waits any more.
#[derive(Default)]
pub(super) struct Stepper {
    lines: Option<Lines>,
}

impl Stepper {
    /// Waits between two sets. What commands print goes to standard error: standard output has the rows.
    pub(super) async fn wait(&mut self, (last, next): (u64, u64), globals: Globals, settings: &Settings) {
        eprintln!("set {last} is done, set {next} is next. {HELP}");
        let grammar = grammar(&own(), true);
        let mut dispatcher = Dispatcher::aside(grammar.clone(), globals);
        let lines = self.lines.get_or_insert_with(|| Lines::open(grammar, Names::from(settings)));
        loop {
            let text = match lines.next(PROMPT).await {
                Ok(Line::Text(text)) => text,
                Ok(Line::End) | Err(_) => return,
                Ok(Line::Interrupted) => return interrupt().await,
                Ok(Line::TooLong | Line::NotText) => {
                    eprintln!("error: a line is text of at most {LINE_LIMIT} bytes");
                    continue;
                }
            };
            match split(&text) {
                Ok(words) if words.is_empty() => return,
                Ok(words) => match dispatcher.carry_out(&words).await {
                    Ok(Said::Own) => return,
                    Ok(_) => {}
                    Err(failure) => drop(failure.report()),
                },
                Err(message) => eprintln!("error: {message}"),
            }
        }
    }
}

/// The words that are known here only.
fn own() -> [clap::Command; 1] {
    [clap::Command::new("next").about("Go on with the next set, as an empty line does")]
}

/// While a line is edited Ctrl-C is a key: it means here what it means elsewhere in a run.
async fn interrupt() {
    if kill_process(getpid(), Signal::INT).is_ok() {
        std::future::pending::<()>().await;
    }
}
