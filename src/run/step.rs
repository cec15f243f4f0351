//! Waiting for a key between sets, and commands there.

use std::io::BufRead;
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::mpsc;

/// What may be asked between two sets. The commands are the command line's own.
const COMMANDS: [&str; 6] = ["db", "status", "leader", "balance", "log", "performance"];
const HELP: &str = "Enter or `next` goes on; db, status, leader, balance ID, log TARGET, performance show the cluster";

/// Reads lines from standard input. Its end means that nobody waits any more.
#[derive(Default)]
pub(super) struct Stepper {
    lines: Option<mpsc::Receiver<String>>,
}

impl Stepper {
    /// Waits between two sets. What commands print goes to standard error: standard output has the rows.
    pub(super) async fn wait(&mut self, last: u64, next: u64, arguments: &[String]) {
        eprintln!("set {last} is done, set {next} is next. {HELP}");
        loop {
            let Some(line) = self.line().await else { return };
            match read(&line) {
                Word::Next => return,
                Word::Command(words) => carry_out(&words, arguments).await,
                Word::Unknown => eprintln!("{HELP}"),
            }
        }
    }

    async fn line(&mut self) -> Option<String> {
        self.lines.get_or_insert_with(listen).recv().await
    }
}

/// A thread of its own reads: a read from a terminal cannot be called off.
fn listen() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            let Ok(line) = line else { return };
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

#[derive(Debug, Eq, PartialEq)]
enum Word {
    Next,
    Command(Vec<String>),
    Unknown,
}

fn read(line: &str) -> Word {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match words.first().map(String::as_str) {
        None | Some("next") => Word::Next,
        Some(word) if COMMANDS.contains(&word) => Word::Command(words),
        Some(_) => Word::Unknown,
    }
}

/// Runs a command of this executable on the run's cluster.
async fn carry_out(words: &[String], arguments: &[String]) {
    let started = std::env::current_exe().and_then(|executable| {
        Command::new(executable)
            .args(arguments)
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::from(std::io::stderr()))
            .kill_on_drop(true)
            .spawn()
    });
    let ended = match started {
        Ok(mut child) => child.wait().await.map(drop),
        Err(error) => Err(error),
    };
    if let Err(error) = ended {
        eprintln!("cannot run `{}`: {error}", words.join(" "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_told_apart() {
        assert_eq!((read(""), read(" next ")), (Word::Next, Word::Next));
        assert_eq!(read("balance  7"), Word::Command(vec!["balance".to_owned(), "7".to_owned()]));
        assert_eq!((read("down"), read("help")), (Word::Unknown, Word::Unknown));
    }
}
