//! What a word may become: commands, options, their values, nodes and groups, and files.

use clap::{Arg, Command, ValueHint};
use rustyline::completion::{Completer, FilenameCompleter, Pair};
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::Validator;
use rustyline::{Context, Helper};

use super::words;
use crate::commands::text::quoted;
use crate::settings::Settings;

/// The levels, as they are written.
const LEVELS: [&str; 7] = ["linearizable", "quorum", "all", "session", "ryw", "any", "eventual"];

/// The names of a cluster.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    nodes: Vec<String>,
    groups: Vec<String>,
}

impl From<&Settings> for Names {
    fn from(settings: &Settings) -> Names {
        let nodes = settings.nodes().iter().map(|node| node.id.to_string()).collect();
        let groups = settings.groups().iter().map(|group| group.id.to_string()).collect();
        Names { nodes, groups }
    }
}

/// What a word may become.
#[derive(Debug, Default, Eq, PartialEq)]
struct Candidates {
    words: Vec<String>,
    files: bool,
}

impl Candidates {
    fn of(words: impl IntoIterator<Item = impl Into<String>>) -> Candidates {
        Candidates { words: words.into_iter().map(Into::into).collect(), files: false }
    }
}

/// Completes the words of a line by the grammar of the commands.
pub(super) struct Completion {
    grammar: Command,
    names: Names,
    files: FilenameCompleter,
}

impl Completion {
    pub(super) fn new(grammar: Command, names: Names) -> Completion {
        Completion { grammar, names, files: FilenameCompleter::new() }
    }

    /// What the word that begins with `partial` may become, behind the words before it.
    fn candidates(&self, before: &[String], partial: &str) -> Candidates {
        let mut command = &self.grammar;
        let mut open: Option<&Arg> = None;
        let (mut position, mut options) = (0, true);
        for word in before {
            if open.take().is_some() {
                continue;
            }
            if options && word == "--" {
                options = false;
            } else if options && word.starts_with('-') {
                open = option(command, word);
            } else if let Some(inner) = command.find_subcommand(word) {
                (command, position) = (inner, 0);
            } else {
                position += 1;
            }
        }
        let found = match open {
            Some(arg) => self.values(arg),
            None if options && partial.starts_with('-') => long_options(command),
            None if command.has_subcommands() && position == 0 => Candidates::of(subcommands(command)),
            None => positional(command, position).map_or_else(Candidates::default, |arg| self.values(arg)),
        };
        let words = found.words.into_iter().filter(|word| word.starts_with(partial)).collect();
        Candidates { words, files: found.files }
    }

    /// What an argument may be.
    fn values(&self, arg: &Arg) -> Candidates {
        let Names { nodes, groups } = &self.names;
        let possible = arg.get_possible_values();
        match arg.get_id().as_str() {
            _ if !possible.is_empty() => Candidates::of(possible.iter().map(|value| value.get_name())),
            "target" => Candidates::of(nodes.iter().chain(groups).map(String::as_str).chain(["all"])),
            "node" => Candidates::of(nodes),
            "group" => Candidates::of(groups),
            "level" => Candidates::of(LEVELS),
            _ => {
                let hint = arg.get_value_hint();
                let files = matches!(hint, ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath);
                Candidates { words: Vec::new(), files }
            }
        }
    }
}

/// The option of this word, if it takes a value that is not in the word already.
fn option<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    let name = word.strip_prefix("--")?;
    command.get_arguments().find(|arg| arg.get_long() == Some(name) && arg.get_action().takes_values())
}

fn long_options(command: &Command) -> Candidates {
    let shown = command.get_arguments().filter(|arg| !arg.is_hide_set());
    Candidates::of(shown.filter_map(|arg| arg.get_long()).map(|name| format!("--{name}")))
}

fn subcommands(command: &Command) -> impl Iterator<Item = &str> {
    command.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name)
}

/// The argument at a position; the last one may stand for many.
fn positional(command: &Command, position: usize) -> Option<&Arg> {
    let mut positionals = command.get_positionals();
    let many = |arg: &&Arg| arg.get_num_args().is_some_and(|range| range.max_values() > 1);
    positionals.nth(position).or_else(|| command.get_positionals().last().filter(many))
}

impl Completer for Completion {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let line = line.get(..at).unwrap_or(line);
        let (mut words, open) = words::read(line);
        let is_new = open.is_none() && line.ends_with(char::is_whitespace) || words.is_empty();
        let last = if is_new { None } else { words.pop() };
        let (start, partial) = last.map_or((at, String::new()), |word| (word.start, word.text));
        let before: Vec<String> = words.into_iter().map(|word| word.text).collect();
        let Candidates { words, files } = self.candidates(&before, &partial);
        if files {
            return self.files.complete_path(line, at);
        }
        let only = words.len() == 1;
        let pair = |word: String| {
            let replacement = if only { format!("{} ", option_or_quoted(&word)) } else { option_or_quoted(&word) };
            Pair { display: word, replacement }
        };
        Ok((start, words.into_iter().map(pair).collect()))
    }
}

fn option_or_quoted(word: &str) -> String {
    if word.starts_with('-') { word.to_owned() } else { quoted(word) }
}

impl Hinter for Completion {
    type Hint = String;
}
impl Highlighter for Completion {}
impl Validator for Completion {}
impl Helper for Completion {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli;

    fn found(before: &str, partial: &str) -> Candidates {
        let completion = Completion::new(cli::grammar(&[Command::new("exit")], false), (&Settings::sample()).into());
        let before: Vec<String> = before.split_whitespace().map(str::to_owned).collect();
        completion.candidates(&before, partial)
    }

    #[test]
    fn commands_and_options_are_completed() {
        assert_eq!(found("", "bal"), Candidates::of(["balance"]));
        assert_eq!(found("", "ex"), Candidates::of(["exit"]));
        assert_eq!(found("transfer", "po"), Candidates::of(["post"]));
        assert_eq!(found("account", "cl"), Candidates::of(["close"]));
        assert_eq!(found("balance 5", "--le"), Candidates::of(["--level"]));
        assert_eq!(found("balance 5", "--out"), Candidates::of(["--output"]), "global options, too");
        assert_eq!(found("", "she"), Candidates::default(), "it is one already");
    }

    #[test]
    fn values_are_completed() {
        assert_eq!(found("balance 5 --level", "l"), Candidates::of(["linearizable"]));
        assert_eq!(found("balance 5 --output", ""), Candidates::of(["table", "json"]));
        assert_eq!(found("db", "g"), Candidates::of(["g1", "g2", "g3"]));
        assert_eq!(found("stop", "a"), Candidates::of(["all"]));
        assert_eq!(found("leader move", ""), Candidates::of(["g1", "g2", "g3"]));
        assert_eq!(found("leader move g1", "n1"), Candidates::of(["n1"]));
        assert_eq!(found("balance", ""), Candidates::default());
    }

    #[test]
    fn files_are_left_to_their_own_completion() {
        for before in ["txn", "run", "run a", "balance 1 --session", "balance 1 --config"] {
            assert!(found(before, "x").files, "{before}");
        }
        assert!(!found("put", "x").files);
    }
}
