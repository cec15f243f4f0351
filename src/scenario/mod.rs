//! Files of transactions: what a row means, and where an unreadable one stands.
//!
//! Two forms, told apart by their first row. The *scenario* form is a CSV file whose columns count by position: the
//! number of a set, on its first row only; one or more transactions; the nodes that are up when the set starts; the
//! nodes to ask first. The *plain* form is `from,to,amount` on each line. Either may have a header.
//!
//! A file is checked whole before anything is done with it, and then kept as its text and eight bytes a row: a row is
//! read from its text again when it is carried out, so that a million rows cost little more than the file.

mod action;
mod csv;
mod reader;
#[cfg(test)]
mod tests;

use std::ops::Range;

use drachma_protocol::ids::{AccountId, NodeId};
pub use drachma_protocol::message::level::Level;

/// What a row does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Moves money.
    Transfer {
        /// From this account.
        debit: AccountId,
        /// To this account.
        credit: AccountId,
        /// So much.
        amount: u128,
    },
    /// Reserves an amount, under a label by which other rows post or void it.
    Pend {
        /// What other rows call it.
        label: u64,
        /// From this account.
        debit: AccountId,
        /// To this account.
        credit: AccountId,
        /// So much.
        amount: u128,
        /// How long, in microseconds; 0: for ever.
        expires: u64,
    },
    /// Posts what is pending under a label.
    Post {
        /// What its row calls it.
        label: u64,
        /// From this account.
        debit: AccountId,
        /// To this account.
        credit: AccountId,
        /// So much of it; nothing: all.
        amount: Option<u128>,
    },
    /// Releases what is pending under a label.
    Void {
        /// What its row calls it.
        label: u64,
        /// From this account.
        debit: AccountId,
        /// To this account.
        credit: AccountId,
    },
    /// Several of these together, or none of them: see [`Row::members`].
    Chain,
    /// Reads the balance of an account.
    Balance(AccountId),
    /// Stops a node the hard way.
    Fail(NodeId),
    /// Starts a node again.
    Recover(NodeId),
    /// Stops the leader of the first group the hard way.
    FailLeader,
}

impl Action {
    /// Its name in reports.
    pub fn kind(&self) -> &'static str {
        match self {
            Action::Transfer { .. } => "transfer",
            Action::Pend { .. } => "pend",
            Action::Post { .. } => "post",
            Action::Void { .. } => "void",
            Action::Chain => "chain",
            Action::Balance(_) => "balance",
            Action::Fail(_) => "fail",
            Action::Recover(_) => "recover",
            Action::FailLeader => "fail_leader",
        }
    }

    /// The accounts that it names.
    pub fn accounts(&self) -> Vec<AccountId> {
        match *self {
            Action::Transfer { debit, credit, .. }
            | Action::Pend { debit, credit, .. }
            | Action::Post { debit, credit, .. }
            | Action::Void { debit, credit, .. } => vec![debit, credit],
            Action::Balance(account) => vec![account],
            Action::Chain | Action::Fail(_) | Action::Recover(_) | Action::FailLeader => Vec::new(),
        }
    }

    /// Whether it is carried out as a transaction rather than as a transfer.
    pub fn is_transaction(&self) -> bool {
        matches!(self, Action::Pend { .. } | Action::Post { .. } | Action::Void { .. } | Action::Chain)
    }

    /// Whether it stops or starts nodes rather than asking the cluster.
    pub fn is_control(&self) -> bool {
        matches!(self, Action::Fail(_) | Action::Recover(_) | Action::FailLeader)
    }
}

/// One row: one transaction, also if its cell has several.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row<'a> {
    /// Its number over all rows, from 0.
    pub index: usize,
    /// The number of its set.
    pub set: u64,
    /// That part of the file as written, trimmed.
    pub text: &'a str,
    /// What it does.
    pub action: Action,
    /// The level; linearizable if none is written.
    pub level: Level,
}

impl Row<'_> {
    /// The members of a chain; of another row what it does.
    pub fn members(&self) -> Vec<Action> {
        match self.action {
            Action::Chain => action::members(self.text).expect("every row was read when its file was added").0,
            action => vec![action],
        }
    }
}

/// Rows that begin from the same nodes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Set {
    /// As written; 1 where the file has none.
    pub number: u64,
    /// The nodes that are up when the set starts, an empty list for all of them; nothing if none are written.
    pub live: Option<Vec<NodeId>>,
    /// The node of each group to ask first, if the file says so.
    pub contact: Vec<NodeId>,
    /// The indices of its rows.
    pub rows: Range<usize>,
    source: usize,
    // Where the lists of nodes stand in the text.
    live_at: usize,
    contact_at: usize,
}

/// Something in a file that is not what it must be. Nothing has been done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{file}:{line}:{column}: expected {expected}, found {found}")]
pub struct ScenarioError {
    /// The file's name as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What may stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

/// Checked rows, of one file or several.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    sources: Vec<Source>,
    sets: Vec<Set>,
    parts: Vec<Part>,
    controls: bool,
    levels: bool,
    transactions: bool,
}

#[derive(Clone, Debug)]
struct Source {
    name: String,
    text: String,
    plain: bool,
}

// A row's text within its source.
#[derive(Clone, Copy, Debug)]
struct Part {
    start: u32,
    length: u32,
}

/// The largest file, in bytes.
pub const FILE_LIMIT: usize = u32::MAX as usize;

impl Scenario {
    /// Reads another file; its rows follow those that are there.
    ///
    /// # Errors
    /// At the first thing that cannot be read. The scenario must not be used then.
    pub fn add(&mut self, name: &str, bytes: Vec<u8>) -> Result<(), ScenarioError> {
        reader::read(self, name, bytes)
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The sets in the order of the files. There is one at least for each file.
    pub fn sets(&self) -> &[Set] {
        &self.sets
    }

    /// Whether nodes are stopped or started: by rows, or because a set lists the nodes that are up.
    pub fn needs_control(&self) -> bool {
        self.controls || self.has_live()
    }

    /// Whether some set lists the nodes that are up.
    pub fn has_live(&self) -> bool {
        self.sets.iter().any(|set| set.live.as_ref().is_some_and(|live| !live.is_empty()))
    }

    /// Whether some row is at another level than linearizable.
    pub fn has_levels(&self) -> bool {
        self.levels
    }

    /// Whether some row is a transaction: pending transfers, and chains.
    pub fn has_transactions(&self) -> bool {
        self.transactions
    }

    /// One row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&self, index: usize) -> Row<'_> {
        let set = &self.sets[self.sets.partition_point(|set| set.rows.end <= index)];
        let source = &self.sources[set.source];
        let part = self.parts[index];
        let text = &source.text[part.start as usize..][..part.length as usize];
        let read = if source.plain { action::plain(text) } else { action::transaction(text) };
        let (action, level) = read.expect("every row was read when its file was added");
        Row { index, set: set.number, text, action, level }
    }

    /// Checks that every node that is named exists.
    ///
    /// # Errors
    /// Where one is named that does not.
    pub fn check_nodes(&self, known: &[NodeId]) -> Result<(), ScenarioError> {
        let unknown = |source: &Source, at: usize, node: NodeId| {
            let names: Vec<String> = known.iter().map(NodeId::to_string).collect();
            source.error(at, format!("a node of the configuration ({})", names.join(", ")), format!("`{node}`"))
        };
        for set in &self.sets {
            let source = &self.sources[set.source];
            let lists = [(set.live.as_deref().unwrap_or_default(), set.live_at), (&set.contact, set.contact_at)];
            for (nodes, at) in lists {
                if let Some(node) = nodes.iter().find(|node| !known.contains(node)) {
                    return Err(unknown(source, at, *node));
                }
            }
            // Rows name nodes only where there are controls; a long file has none.
            for index in set.rows.clone().filter(|_| self.controls) {
                if let Action::Fail(node) | Action::Recover(node) = self.row(index).action
                    && !known.contains(&node)
                {
                    return Err(unknown(source, self.parts[index].start as usize, node));
                }
            }
        }
        Ok(())
    }
}

impl Source {
    fn error(&self, at: usize, expected: String, found: String) -> ScenarioError {
        let (line, column) = position(&self.text, at);
        ScenarioError { file: self.name.clone(), line, column, expected, found }
    }
}

/// Line and column, in characters, of a byte of `text`.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(at)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
