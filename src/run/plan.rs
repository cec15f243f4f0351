//! What is to be done, checked before anything is started.

use std::path::PathBuf;
use std::time::Duration;

use drachma_client::Recorder;
use drachma_protocol::ids::{NodeId, TransferId, TxnId};
use drachma_protocol::ledger::model::Transfer;
use xxhash_rust::xxh3::xxh3_128;

use super::args::RunArgs;
use super::expect::Expectation;
use crate::cli::Globals;
use crate::exit::Failure;
use crate::output::Format;
use crate::scenario::{Action, Scenario};
use crate::settings::Settings;

/// The most rows in flight.
const CLIENTS_LIMIT: usize = 10_000;
const RUN_ID_LIMIT: usize = 64;
/// The command line's ledger and code, those of the data set, too.
const LEDGER: u32 = 1;
const CODE: u16 = 1;

/// A run that can begin.
pub(super) struct Plan {
    pub(super) scenario: Scenario,
    pub(super) settings: Settings,
    pub(super) embedded: bool,
    pub(super) isolate: bool,
    pub(super) clients: usize,
    pub(super) deadline: Option<Duration>,
    pub(super) run_id: String,
    // Rows may have been executed before. Otherwise an answer that is not new is one to an earlier try of the row.
    pub(super) repeats: bool,
    pub(super) expectation: Option<Expectation>,
    pub(super) step: bool,
    pub(super) recorder: Option<Recorder>,
    pub(super) format: Format,
    pub(super) globals: Globals,
}

impl Plan {
    /// Reads the files and the configuration, and checks that they go together.
    ///
    /// # Errors
    /// With exit status 2, if something cannot be used.
    pub(super) fn new(args: &RunArgs, globals: &Globals) -> Result<Plan, Failure> {
        check(args)?;
        let scenario = read(&args.files)?;
        let expectation = args.expect.as_deref().map(Expectation::read).transpose().map_err(Failure::usage)?;
        let settings = Settings::load(globals.config.as_deref())?;
        let nodes: Vec<NodeId> = settings.nodes().iter().map(|node| node.id).collect();
        scenario.check_nodes(&nodes).map_err(Failure::usage)?;
        if args.deadline.0.is_none() && scenario.needs_control() {
            return Err(Failure::usage(
                "--deadline none waits until every row is final, which rows that stop nodes and lists of live nodes \
                 may prevent for ever: give a deadline",
            ));
        }
        let record = |path: &PathBuf| {
            Recorder::create(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
        };
        let recorder = args.history.as_ref().map(record).transpose()?;
        let run_id = match &args.run_id {
            Some(id) => id.clone(),
            None => {
                let random = crate::id::random().map_err(|error| Failure::failed(format!("no run id: {error}")))?;
                format!("{random:032x}")
            }
        };
        Ok(Plan {
            scenario,
            settings,
            embedded: args.embedded,
            isolate: args.isolate_sets,
            clients: args.clients,
            deadline: args.deadline.0,
            run_id,
            repeats: args.run_id.is_some(),
            expectation,
            step: args.step,
            recorder,
            format: globals.output,
            globals: globals.clone(),
        })
    }

    /// The transfer of a row; nothing if the row is none.
    pub(super) fn transfer(&self, index: usize) -> Option<Transfer> {
        let Action::Transfer { debit, credit, amount } = self.scenario.row(index).action else { return None };
        let id = row_id(&self.run_id, index);
        Some(Transfer { id, debit, credit, amount, ledger: LEDGER, code: CODE, ..Transfer::default() })
    }

    /// The transaction of a row; nothing if the row is no transfer.
    pub(super) fn txn(&self, index: usize) -> Option<TxnId> {
        self.transfer(index).as_ref().map(TxnId::from)
    }

    /// Where the nodes' directories are, if the user says so.
    pub(super) fn data(&self) -> Option<PathBuf> {
        self.globals.data.clone()
    }
}

/// The id of a row's transfer: a hash of the run's id, as text, and the row's index in eight bytes, big-endian.
fn row_id(run_id: &str, index: usize) -> TransferId {
    let mut bytes = Vec::with_capacity(run_id.len() + 8);
    bytes.extend_from_slice(run_id.as_bytes());
    bytes.extend_from_slice(&(index as u64).to_be_bytes());
    TransferId(xxh3_128(&bytes))
}

fn check(args: &RunArgs) -> Result<(), Failure> {
    if args.isolate_sets && !args.embedded {
        return Err(Failure::usage(
            "--isolate-sets formats all nodes before each set, which is done to a cluster of its own only: add \
             --embedded",
        ));
    }
    if !(1..=CLIENTS_LIMIT).contains(&args.clients) {
        return Err(Failure::usage(format!("--clients is a number from 1 to {CLIENTS_LIMIT}")));
    }
    let fine = |id: &String| {
        (1..=RUN_ID_LIMIT).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    };
    if args.run_id.as_ref().is_some_and(|id| !fine(id)) {
        return Err(Failure::usage(format!(
            "--run-id is 1 to {RUN_ID_LIMIT} letters, digits, dots, hyphens and underscores"
        )));
    }
    Ok(())
}

fn read(files: &[PathBuf]) -> Result<Scenario, Failure> {
    let mut scenario = Scenario::default();
    for file in files {
        let bytes =
            std::fs::read(file).map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
        scenario.add(&file.display().to_string(), bytes).map_err(Failure::usage)?;
    }
    Ok(scenario)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Deadline;

    fn args() -> RunArgs {
        RunArgs {
            files: vec![],
            embedded: false,
            isolate_sets: false,
            clients: 1,
            deadline: Deadline(None),
            run_id: None,
            history: None,
            expect: None,
            step: false,
        }
    }

    #[test]
    fn ids_are_a_hash_of_run_and_index() {
        // XXH3 with 128 bits, seed 0, over these bytes.
        assert_eq!(row_id("r", 1), TransferId(xxh3_128(b"r\0\0\0\0\0\0\0\x01")));
        // Pinned: a later build must repeat the runs of an earlier one.
        assert_eq!(row_id("first", 0).to_string(), "6fbbc0944b1c2666a2212512a3d7f464");
        assert_ne!(row_id("first", 0), row_id("first", 1));
        assert_ne!(row_id("first", 0), row_id("second", 0));
    }

    #[test]
    fn what_does_not_go_together_is_wrong_usage() {
        let status = |args: &RunArgs| check(args).map_err(|failure| failure.exit.status());
        assert_eq!(status(&args()), Ok(()));
        assert_eq!(status(&RunArgs { isolate_sets: true, ..args() }), Err(2));
        assert_eq!(status(&RunArgs { isolate_sets: true, embedded: true, ..args() }), Ok(()));
        assert_eq!(status(&RunArgs { clients: 0, ..args() }), Err(2));
        assert_eq!(status(&RunArgs { clients: CLIENTS_LIMIT + 1, ..args() }), Err(2));
        for (id, fine) in
            [("a-1_2.Z", true), ("", false), ("a b", false), (&"x".repeat(64), true), (&"x".repeat(65), false)]
        {
            assert_eq!(status(&RunArgs { run_id: Some(id.to_owned()), ..args() }).is_ok(), fine, "{id:?}");
        }
    }
}
