//! What is to be done, checked before anything is started.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use drachma_client::Recorder;
use drachma_protocol::ids::{AccountId, NodeId, TransferId, TxnId};
use drachma_protocol::ledger::model::Transfer;
use drachma_protocol::ledger::operations::{Operation, Pend, PostPending, Transaction, VoidPending};
use drachma_protocol::time::Span;
use xxhash_rust::xxh3::xxh3_128;

use super::args::RunArgs;
use super::expect::Expectation;
use crate::cli::Globals;
use crate::commands::txn;
use crate::exit::Failure;
use crate::output::Format;
use crate::scenario::{Action, Row, Scenario};
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
        check_transactions(&scenario, &run_id)?;
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

    /// What a row writes; nothing if it does not write.
    pub(super) fn work(&self, index: usize) -> Option<Work> {
        work(&self.run_id, &self.scenario.row(index))
    }

    /// The identity of what a row writes; nothing if it does not write.
    pub(super) fn txn(&self, index: usize) -> Option<TxnId> {
        self.work(index).map(|work| work.txn())
    }

    /// What the audit looks for when a row has committed: its identity, at every account that it names.
    pub(super) fn traces(&self, index: usize) -> Vec<Transfer> {
        match self.work(index) {
            None => Vec::new(),
            Some(Work::Transfer(transfer)) => vec![transfer],
            Some(work) => {
                let TxnId { id, first: debit } = work.txn();
                let accounts: BTreeSet<AccountId> =
                    self.scenario.row(index).members().iter().flat_map(Action::accounts).collect();
                let trace = |credit| Transfer { id, debit, credit, ..Transfer::default() };
                accounts.into_iter().map(trace).collect()
            }
        }
    }

    /// Where the nodes' directories are, if the user says so.
    pub(super) fn data(&self) -> Option<PathBuf> {
        self.globals.data.clone()
    }
}

/// What a row writes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Work {
    /// A transfer.
    Transfer(Transfer),
    /// Pending transfers, and chains.
    Transaction(Transaction),
}

impl Work {
    fn txn(&self) -> TxnId {
        match self {
            Work::Transfer(transfer) => TxnId::from(transfer),
            Work::Transaction(transaction) => {
                let named = transaction.operations.first().and_then(debit_of);
                TxnId { id: transaction.id, first: named.unwrap_or_default() }
            }
        }
    }
}

fn debit_of(operation: &Operation) -> Option<AccountId> {
    match operation {
        Operation::Transfer(transfer) => Some(transfer.debit),
        Operation::Pend(pend) => Some(pend.transfer.debit),
        Operation::Post(post) => Some(post.debit),
        Operation::Void(void) => Some(void.debit),
        _ => None,
    }
}

fn work(run_id: &str, row: &Row<'_>) -> Option<Work> {
    let id = row_id(run_id, row.index);
    if row.action != Action::Chain {
        // What stands alone shares the id of its transaction.
        let operation = operation(run_id, &row.action, id)?;
        return Some(match operation {
            Operation::Transfer(transfer) => Work::Transfer(transfer),
            Operation::Pend(ref pend) => transaction(pend.transfer.id, vec![operation]),
            operation => transaction(id, vec![operation]),
        });
    }
    let own = |(place, action): (usize, Action)| {
        let is_transfer = matches!(action, Action::Transfer { .. });
        operation(run_id, &action, if is_transfer { member_id(id, place) } else { TransferId(0) })
    };
    Some(transaction(id, row.members().into_iter().enumerate().filter_map(own).collect()))
}

fn transaction(id: TransferId, operations: Vec<Operation>) -> Work {
    Work::Transaction(Transaction { id, conditions: Vec::new(), operations })
}

/// What an action writes under this id; a pending transfer has that of its label.
fn operation(run_id: &str, action: &Action, id: TransferId) -> Option<Operation> {
    let pending = |label| pending_id(run_id, label);
    let transfer = |id, debit, credit, amount| Transfer {
        id,
        debit,
        credit,
        amount,
        ledger: LEDGER,
        code: CODE,
        ..Transfer::default()
    };
    match *action {
        Action::Transfer { debit, credit, amount } => Some(Operation::Transfer(transfer(id, debit, credit, amount))),
        Action::Pend { label, debit, credit, amount, expires } => {
            let transfer = transfer(pending(label), debit, credit, amount);
            Some(Operation::Pend(Pend { transfer, timeout: Span(expires) }))
        }
        Action::Post { label, debit, credit, amount } => {
            Some(Operation::Post(PostPending { id, pending: pending(label), debit, credit, amount }))
        }
        Action::Void { label, debit, credit } => {
            Some(Operation::Void(VoidPending { id, pending: pending(label), debit, credit }))
        }
        _ => None,
    }
}

/// The id of a pending transfer: a hash of the run's id, the word `pending`, and the label in eight bytes, big-endian.
fn pending_id(run_id: &str, label: u64) -> TransferId {
    TransferId(xxh3_128(&[run_id.as_bytes(), b"pending", &label.to_be_bytes()].concat()))
}

/// The id of a chain's transfer: a hash of the row's id in sixteen bytes, and its place in eight, big-endian.
fn member_id(row: TransferId, place: usize) -> TransferId {
    TransferId(xxh3_128(&[&row.0.to_be_bytes()[..], &(place as u64).to_be_bytes()].concat()))
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

/// What nodes would refuse is told before anything is started.
fn check_transactions(scenario: &Scenario, run_id: &str) -> Result<(), Failure> {
    let rows = if scenario.has_transactions() { scenario.len() } else { 0 };
    for row in (0..rows).map(|index| scenario.row(index)) {
        if let Some(Work::Transaction(transaction)) = work(run_id, &row)
            && let Some(fault) = txn::fault(&transaction)
        {
            return Err(Failure::usage(format!("row {} `{}`: {fault}", row.index, row.text)));
        }
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
    fn rows_of_two_phases_and_chains_are_transactions_with_ids_of_the_run() {
        let mut scenario = Scenario::default();
        let text =
            "1,\"PEND(7, 1, 2, 3, 30s)\",\n,\"POST(7, 1, 2, 1)\",\n,\"(1, 2, 3) + VOID(7, 1, 2) + (2, 3, 4)\",\n";
        scenario.add("f.csv", text.as_bytes().to_vec()).expect("readable");
        let transaction = |index| match work("r", &scenario.row(index)) {
            Some(Work::Transaction(transaction)) => transaction,
            other => panic!("{other:?}"),
        };
        let (pend, post, chain) = (transaction(0), transaction(1), transaction(2));
        assert_eq!((pend.id, post.id, chain.id), (pending_id("r", 7), row_id("r", 1), row_id("r", 2)));
        assert!(matches!(&pend.operations[..], [Operation::Pend(it)] if it.timeout == Span(30_000_000)));
        assert!(matches!(&post.operations[..], [Operation::Post(it)] if it.pending == pend.id && it.id == post.id));
        let [Operation::Transfer(first), Operation::Void(void), Operation::Transfer(last)] = &chain.operations[..]
        else {
            panic!("{chain:?}")
        };
        assert_eq!((void.id, void.pending), (TransferId(0), pend.id));
        assert_eq!((first.id, last.id), (member_id(chain.id, 0), member_id(chain.id, 2)));
        assert_eq!(Work::Transaction(chain).txn().first, AccountId(1));
        assert_ne!(pending_id("r", 7), pending_id("s", 7));
        // Pinned: a later build must repeat the runs of an earlier one.
        assert_eq!(pending_id("first", 0).to_string(), "4ba32c14d1ddc4ee9e3a4f4c7abab60d");
        assert_eq!(member_id(TransferId(1), 2).to_string(), "d5722feee291cf361393a41f2ed7bc99");
        assert!(check_transactions(&scenario, "r").is_ok());
        scenario.add("g.csv", b"1,\"VOID(7, 1, 2) + VOID(7, 1, 2)\",\n".to_vec()).expect("readable");
        assert!(check_transactions(&scenario, "r").unwrap_err().message.contains("row 3 `VOID(7, 1, 2) + "));
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
