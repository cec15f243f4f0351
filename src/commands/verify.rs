//! `drachma verify`: judges a history that somebody has recorded.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use drachma_sim::verify::jepsen::{self, Told};
use drachma_sim::verify::{Verdict, judge};
use serde_json::json;

use crate::cli::Globals;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use crate::settings::units;

/// How long a judgement may take, unless `--timeout` says otherwise.
const PATIENCE: Duration = Duration::from_secs(60);

/// No history may be longer, in bytes.
const LARGEST: u64 = 1 << 30;

/// `drachma verify`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "FILE has one EDN map for each event, as Jepsen writes them: of a register (:read, :write, :cas) or \
                        of a key-value store (:get, :put, :append, each with a :key).\nExit status: 0 the history can be \
                        explained; 1 it cannot, and a small part of it that cannot is printed; 3 nobody knows: it took \
                        longer than --timeout (60 s if not given); 2 the file is no history."
)]
pub struct VerifyArgs {
    /// The history
    pub file: PathBuf,
}

/// Judges a history.
///
/// # Errors
/// If the file cannot be read or is no history, or if standard output fails.
pub fn verify(args: &VerifyArgs, globals: &Globals) -> Outcome {
    let path = args.file.display();
    let bad = |error: &dyn std::fmt::Display| Failure::usage(format!("{path}: {error}"));
    let size = fs::metadata(&args.file).map_err(|error| bad(&error))?.len();
    if size > LARGEST {
        return Err(bad(&format!("{size} bytes: a history has at most {LARGEST}")));
    }
    let text = fs::read_to_string(&args.file).map_err(|error| bad(&error))?;
    let registers =
        jepsen::read(&text).map_err(|error| Failure::usage(format!("{path}:{}: {}", error.line, error.what)))?;
    let patience = globals.timeout.unwrap_or(PATIENCE);
    let begun = Instant::now();
    let verdict = judge(&registers, &mut || begun.elapsed() > patience);
    let operations = registers.told.len();
    match globals.output {
        Format::Json => output::line(as_json(&verdict, operations, registers.keys.len()))?,
        Format::Table => {
            output::line(format!("{operations} operations on {} keys", registers.keys.len()))?;
            as_text(&verdict, patience).into_iter().try_for_each(output::line)?;
        }
    }
    Ok(match verdict {
        Verdict::Good => Exit::Done,
        Verdict::Bad { .. } => Exit::Failed,
        Verdict::Undecided { .. } => Exit::Unavailable,
    })
}

fn as_text(verdict: &Verdict, patience: Duration) -> Vec<String> {
    match verdict {
        Verdict::Good => vec!["good: linearizable".to_owned()],
        Verdict::Undecided { keys } => vec![format!(
            "undecided after {}: {} keys could not be judged; --timeout gives more time",
            units::show(patience),
            keys.len()
        )],
        Verdict::Bad { key, part } => {
            let which = if key.is_empty() { String::new() } else { format!(" of key {key}") };
            let mut lines = vec![format!("bad: these operations{which} have no explanation, whatever the others did")];
            lines.extend(part.iter().map(|told| format!("  {}", line(told))));
            lines
        }
    }
}

fn line(Told { call, returned, process, what }: &Told) -> String {
    match returned {
        Some(end) => format!("lines {call} to {end}, process {process}: {what}"),
        None => format!("line {call}, process {process}: {what}"),
    }
}

fn as_json(verdict: &Verdict, operations: usize, keys: usize) -> String {
    let told = |told: &Told| json!({ "call_line": told.call, "return_line": told.returned, "process": told.process, "operation": told.what });
    let mut object = json!({ "operations": operations, "keys": keys });
    let more = match verdict {
        Verdict::Good => json!({ "verdict": "good" }),
        Verdict::Undecided { keys } => json!({ "verdict": "undecided", "undecided_keys": keys }),
        Verdict::Bad { key, part } => {
            json!({ "verdict": "bad", "key": key, "part": part.iter().map(told).collect::<Vec<_>>() })
        }
    };
    if let (Some(object), serde_json::Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object.to_string()
}
