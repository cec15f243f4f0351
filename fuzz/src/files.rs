//! What people write: `cluster.toml` and files of transactions.

use drachma_protocol::ids::NodeId;
use drachma_protocol::ledger::Ledger;

use crate::measured;
use crate::scenario::Scenario;
use crate::settings::Settings;

/// Accounts that a configuration may ask for here: enough to see that a ledger can be made from it.
const FEW_ACCOUNTS: u64 = 1000;

/// The settings: an error names a place of the text, or what is missing from it; what is accepted can be used, and means the same when it is
/// written out again.
pub fn cluster_toml(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Settings::parse(text, "fuzz") {
        Err(error) => {
            // What is missing altogether has no place.
            if let Some((line, column)) = error.at {
                check_place(text, line, column);
            }
            assert!(!error.message.is_empty(), "an error says what is wrong");
        }
        Ok(settings) => {
            let written = settings.to_toml();
            let again = Settings::parse(&written, "fuzz").expect("what was written out is accepted");
            assert_eq!(again.shape(), settings.shape(), "written out, it is the same cluster");
            assert_eq!(again.cluster_id(), settings.cluster_id(), "with the same id");
            for group in settings.groups() {
                if settings.accounts() <= FEW_ACCOUNTS {
                    Ledger::new(7, &settings.genesis(group.id));
                }
            }
            for node in settings.nodes() {
                assert!(settings.node_config(node.id, "data".into()).is_some(), "every node can be started");
            }
        }
    }
}

/// Files of transactions: an error has a place in the file, rows of an accepted file can be read, and reading takes
/// memory in proportion to the file.
pub fn run_file(data: &[u8]) {
    let mut scenario = Scenario::default();
    let bytes = data.to_vec();
    let (result, memory) = measured(|| scenario.add("fuzz.csv", bytes));
    assert!(memory <= 64 * data.len() + 64 * 1024, "{memory} bytes of memory for a file of {}", data.len());
    let text = String::from_utf8_lossy(data);
    if let Err(error) = result {
        assert!(!error.expected.is_empty() && !error.found.is_empty(), "an error says what is wrong");
        return check_place(&text, error.line, error.column);
    }
    for index in 0..scenario.len() {
        let row = scenario.row(index);
        assert_eq!(row.index, index, "rows are counted");
        assert!(text.contains(row.text), "a row's text is in the file");
    }
    let rows: usize = scenario.sets().iter().map(|set| set.rows.len()).sum();
    assert_eq!(rows, scenario.len(), "every row belongs to one set");
    if let Err(error) = scenario.check_nodes(&[NodeId(1), NodeId(2), NodeId(3)]) {
        check_place(&text, error.line, error.column);
    }
}

/// A place lies in the text, or right behind a line of it.
fn check_place(text: &str, line: usize, column: usize) {
    assert!(line >= 1 && column >= 1, "lines and columns count from 1");
    let found = text.split('\n').nth(line - 1);
    let length = found.expect("the line exists").chars().count();
    assert!(column <= length + 1, "column {column} of a line of {length} characters");
}
