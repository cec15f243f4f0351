//! From a file's bytes to checked rows.

use std::ops::Range;

use drachma_protocol::ids::NodeId;

use super::csv::{Wrong, record, trim};
use super::{Action, FILE_LIMIT, Part, Scenario, ScenarioError, Set, Source, action};

/// Reads a file and appends its rows and sets.
pub(super) fn read(scenario: &mut Scenario, name: &str, bytes: Vec<u8>) -> Result<(), ScenarioError> {
    let text = decode(name, bytes)?;
    let mut reader = Reader::new(scenario, Source { name: name.to_owned(), text, plain: false });
    match reader.records() {
        Ok(()) => {
            let Reader { source, .. } = reader;
            scenario.sources.push(source);
            Ok(())
        }
        Err(wrong) => Err(reader.source.error(wrong.at, wrong.expected, wrong.found)),
    }
}

/// UTF-8 without its byte order mark.
fn decode(name: &str, mut bytes: Vec<u8>) -> Result<String, ScenarioError> {
    let error = |line, column, expected: &str, found: String| ScenarioError {
        file: name.to_owned(),
        line,
        column,
        expected: expected.to_owned(),
        found,
    };
    if bytes.len() > FILE_LIMIT {
        return Err(error(1, 1, "a file below 4 GiB", format!("{} bytes", bytes.len())));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        bytes.drain(..3);
    }
    String::from_utf8(bytes).map_err(|wrong| {
        let at = wrong.utf8_error().valid_up_to();
        let byte = wrong.as_bytes()[at];
        let before = String::from_utf8_lossy(&wrong.as_bytes()[..at]);
        let (line, column) = super::position(&before, before.len());
        error(line, column, "UTF-8 text", format!("the byte 0x{byte:02x}"))
    })
}

// The columns of the scenario form.
const SET: usize = 0;
const TRANSACTIONS: usize = 1;
const LIVE: usize = 2;
const CONTACT: usize = 3;

struct Reader<'a> {
    scenario: &'a mut Scenario,
    source: Source,
    // The index of the first set of this source.
    first_set: usize,
}

impl<'a> Reader<'a> {
    fn new(scenario: &'a mut Scenario, source: Source) -> Reader<'a> {
        let first_set = scenario.sets.len();
        Reader { scenario, source, first_set }
    }

    fn records(&mut self) -> Result<(), Wrong> {
        let mut cells = Vec::with_capacity(4);
        let mut at = 0;
        let mut form = None;
        let mut header = None;
        while at < self.source.text.len() {
            let start = at;
            at = record(&self.source.text, at, &mut cells)?;
            if cells.iter().all(Range::is_empty) {
                continue;
            }
            if form.is_none() && header.is_none() && is_header(&self.source.text, &cells) {
                header = Some(announces_plain(&self.source.text, &cells));
                continue;
            }
            let plain =
                *form.get_or_insert_with(|| header.flatten().unwrap_or_else(|| looks_plain(&self.source.text, &cells)));
            self.source.plain = plain;
            if plain { self.plain_row(start..at)? } else { self.scenario_row(&cells)? }
        }
        if self.scenario.sets.len() == self.first_set {
            self.begin_set(1, 0);
        }
        Ok(())
    }

    fn plain_row(&mut self, range: Range<usize>) -> Result<(), Wrong> {
        if self.scenario.sets.len() == self.first_set {
            self.begin_set(1, range.start);
        }
        self.push(trim(&self.source.text, range), action::plain)
    }

    fn scenario_row(&mut self, cells: &[Range<usize>]) -> Result<(), Wrong> {
        // A file without a column of set numbers begins with the transactions.
        let shift = usize::from(is_transaction(&self.source.text[cells[0].clone()]));
        let end = cells.last().map_or(0, |cell| cell.end);
        let cell = |column: usize| match column.checked_sub(shift) {
            Some(index) => cells.get(index).cloned().unwrap_or(end..end),
            None => cells[0].start..cells[0].start,
        };
        let begins = self.set_cell(cell(SET))?;
        self.node_cells(cell(LIVE), cell(CONTACT), begins)?;
        if let Some(extra) = (CONTACT + 1..cells.len() + shift).map(cell).find(|cell| !cell.is_empty()) {
            let expected = "at most four columns: set number, transactions, live nodes, contact servers";
            return Err(Wrong::new(extra.start, expected, &self.source.text[extra.clone()]));
        }
        self.transactions(cell(TRANSACTIONS))
    }

    /// Begins a set if the cell or the beginning of the file says so.
    fn set_cell(&mut self, cell: Range<usize>) -> Result<bool, Wrong> {
        let text = &self.source.text[cell.clone()];
        let first = self.scenario.sets.len() == self.first_set;
        if text.is_empty() {
            if first {
                self.begin_set(1, cell.start);
            }
            return Ok(first);
        }
        let number = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(number) = number else {
            let expected = "a set number, or an empty cell, before the transactions";
            return Err(Wrong::new(cell.start, expected, text));
        };
        let current = self.scenario.sets.last().filter(|_| !first).map(|set| set.number);
        if current == Some(number) {
            return Ok(false); // Written on every row of the set.
        }
        self.begin_set(number, cell.start);
        Ok(true)
    }

    fn node_cells(&mut self, live: Range<usize>, contact: Range<usize>, begins: bool) -> Result<(), Wrong> {
        let live_nodes = self.node_list(live.clone())?;
        let contact_nodes = self.node_list(contact.clone())?;
        let Some(set) = self.scenario.sets.last_mut() else { return Ok(()) };
        if begins {
            (set.live_at, set.contact_at) = (live.start, contact.start);
            set.live = live_nodes;
            set.contact = contact_nodes.unwrap_or_default();
        } else if live_nodes.is_some() && live_nodes != set.live {
            let expected = "live nodes on the first row of a set only";
            return Err(Wrong::new(live.start, expected, &self.source.text[live.clone()]));
        }
        Ok(())
    }

    fn node_list(&self, cell: Range<usize>) -> Result<Option<Vec<NodeId>>, Wrong> {
        let text = &self.source.text[cell.clone()];
        if text.is_empty() {
            return Ok(None);
        }
        action::nodes(text).map(Some).map_err(|wrong| Wrong { at: wrong.at + cell.start, ..wrong })
    }

    fn transactions(&mut self, cell: Range<usize>) -> Result<(), Wrong> {
        let mut start = cell.start;
        while start < cell.end {
            let length = self.source.text[start..cell.end].find(';').unwrap_or(cell.end - start);
            let part = trim(&self.source.text, start..start + length);
            if !part.is_empty() {
                self.push(part, action::transaction)?;
            }
            start += length + 1;
        }
        Ok(())
    }

    fn push(
        &mut self,
        part: Range<usize>,
        read: fn(&str) -> Result<(Action, super::Level), Wrong>,
    ) -> Result<(), Wrong> {
        let text = &self.source.text[part.clone()];
        let (action, level) = read(text).map_err(|wrong| Wrong { at: wrong.at + part.start, ..wrong })?;
        self.scenario.controls |= action.is_control();
        self.scenario.transactions |= action.is_transaction();
        self.scenario.levels |= level != super::Level::Linearizable;
        // Both fit: the file was found to be small enough.
        self.scenario.parts.push(Part { start: part.start as u32, length: part.len() as u32 });
        if let Some(set) = self.scenario.sets.last_mut() {
            set.rows.end = self.scenario.parts.len();
        }
        Ok(())
    }

    fn begin_set(&mut self, number: u64, at: usize) {
        let next = self.scenario.parts.len();
        self.scenario.sets.push(Set {
            number,
            live: None,
            contact: Vec::new(),
            rows: next..next,
            source: self.scenario.sources.len(),
            live_at: at,
            contact_at: at,
        });
    }
}

/// Whether a cell has the shape of a transaction, readable or not.
fn is_transaction(cell: &str) -> bool {
    cell.contains('(') || cell.eq_ignore_ascii_case("LF")
}

/// Words only: no cell begins like a number, a list or a transaction.
fn is_header(text: &str, cells: &[Range<usize>]) -> bool {
    let word = |cell: &Range<usize>| {
        let cell = &text[cell.clone()];
        cell.is_empty() || cell.starts_with(char::is_alphabetic) && !is_transaction(cell)
    };
    cells.iter().all(word)
}

/// What a header says about the form, if it says anything.
fn announces_plain(text: &str, cells: &[Range<usize>]) -> Option<bool> {
    let word = |index: usize| cells.get(index).map_or("", |cell| &text[cell.clone()]).to_ascii_lowercase();
    if word(0).contains("transaction") || word(1).contains("transaction") {
        return Some(false);
    }
    (word(0) == "from" && word(1) == "to").then_some(true)
}

/// The plain form has a number where the other one has transactions.
fn looks_plain(text: &str, cells: &[Range<usize>]) -> bool {
    cells
        .get(1)
        .is_some_and(|cell| text[cell.clone()].starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '+'))
}
