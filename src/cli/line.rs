//! The grammar of one line of a shell: that of the command line, without its first word.

use std::path::Path;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory, FromArgMatches, Subcommand};

use super::{Ask, Cli, Command, Globals};

/// What a line of a shell says.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// A word that only this shell knows.
    Own,
    /// A command, with the global options as they are for this line.
    Command(Box<(Globals, Command)>),
}

/// The command line's grammar for the lines of a shell that knows `own` words besides. With `asking` only those
/// commands are shown that ask a cluster.
pub(crate) fn grammar(own: &[clap::Command], asking: bool) -> clap::Command {
    let whole = Cli::command();
    let asks = Ask::augment_subcommands(clap::Command::new("asks"));
    let is_shown = |name: &str| name != "shell" && (!asking || asks.find_subcommand(name).is_some());
    let hidden: Vec<String> =
        whole.get_subcommands().map(|command| command.get_name().to_owned()).filter(|name| !is_shown(name)).collect();
    let shown = hidden.into_iter().fold(whole, |grammar, name| grammar.mut_subcommand(name, |it| it.hide(true)));
    let mut grammar = shown
        .no_binary_name(true)
        .override_usage("COMMAND [ARGUMENT]... [OPTION]...")
        .subcommands(own)
        // Without a file `txn` opens a block.
        .mut_subcommand("txn", |txn| txn.mut_arg("file", |file| file.required(false)));
    // Gives global options to every command, for those who look at the grammar.
    grammar.build();
    grammar
}

/// Reads a line. What it does not say of the global options is as usual.
///
/// # Errors
/// With the words to print; also if these are help.
pub(crate) fn parse_line(grammar: &clap::Command, words: &[String], usual: &Globals) -> Result<Parsed, clap::Error> {
    let matches = grammar.clone().try_get_matches_from(words)?;
    let name = matches.subcommand_name().ok_or_else(|| clap::Error::new(ErrorKind::MissingSubcommand))?;
    if !Command::has_subcommand(name) {
        return Ok(Parsed::Own);
    }
    let Cli { globals: line, command } = Cli::from_arg_matches(&matches)?;
    let is_given = |option: &str| matches.value_source(option) == Some(ValueSource::CommandLine);
    let mut globals = usual.clone();
    if is_given("config") {
        globals.config = line.config;
    }
    if is_given("endpoints") {
        globals.endpoints = line.endpoints;
    }
    if is_given("data") {
        globals.data = line.data;
    }
    if is_given("timeout") {
        globals.timeout = line.timeout;
    }
    if is_given("output") {
        globals.output = line.output;
    }
    Ok(Parsed::Command(Box::new((globals, command))))
}

impl Globals {
    /// Whether both lead to the same cluster.
    pub(crate) fn same_cluster(&self, other: &Globals) -> bool {
        let place = |globals: &Globals| (globals.config.as_deref().map(Path::to_owned), globals.endpoints.clone());
        place(self) == place(other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Format;
    use std::time::Duration;

    fn own() -> Vec<clap::Command> {
        vec![clap::Command::new("exit")]
    }

    fn parse(line: &str, usual: &Globals) -> Result<Parsed, clap::Error> {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        parse_line(&grammar(&own(), false), &words, usual)
    }

    fn globals_of(line: &str, usual: &Globals) -> Globals {
        match parse(line, usual).unwrap() {
            Parsed::Command(parsed) => parsed.0,
            Parsed::Own => panic!("a word of the shell's own"),
        }
    }

    #[test]
    fn global_options_of_the_session_hold_and_a_line_overrides_them() {
        let usual = Globals {
            endpoints: vec!["a:1".into(), "b:2".into()],
            output: Format::Json,
            timeout: Some(Duration::from_secs(5)),
            ..Globals::default()
        };
        let kept = globals_of("balance 1", &usual);
        assert_eq!((kept.output, kept.timeout), (Format::Json, usual.timeout));
        assert!(kept.same_cluster(&usual));
        for line in ["balance 1 --output table --timeout 1s", "--output table --timeout 1s balance 1"] {
            let other = globals_of(line, &usual);
            assert_eq!((other.output, other.timeout), (Format::Table, Some(Duration::from_secs(1))), "{line}");
            assert!(other.same_cluster(&usual));
        }
        assert!(!globals_of("balance 1 --endpoints c:3", &usual).same_cluster(&usual));
        assert!(!globals_of("balance 1 --config x.toml", &usual).same_cluster(&usual));
    }

    #[test]
    fn every_command_is_known_and_some_words_more() {
        let usual = Globals::default();
        assert!(matches!(parse("exit", &usual), Ok(Parsed::Own)));
        assert!(matches!(parse("version", &usual), Ok(Parsed::Command(_))));
        assert!(matches!(parse("txn", &usual), Ok(Parsed::Command(_))), "it opens a block");
        assert_eq!(parse("frobnicate", &usual).unwrap_err().kind(), ErrorKind::InvalidSubcommand);
        assert_eq!(parse("help transfer", &usual).unwrap_err().kind(), ErrorKind::DisplayHelp);
        assert_eq!(parse("drachma version", &usual).unwrap_err().exit_code(), 2);
    }

    #[test]
    fn where_only_questions_are_possible_help_has_no_others() {
        let help = grammar(&own(), true).render_help().to_string();
        assert!(help.contains("  balance ") && help.contains("  exit"), "{help}");
        assert!(!help.contains("  down ") && !help.contains("  shell "), "{help}");
    }
}
