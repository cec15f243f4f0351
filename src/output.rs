//! What commands print: a table, or one JSON object a line. Never a colour.

use std::io::Write;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs: one object a line, and nothing else.
    Json,
}

/// One value of a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cell {
    /// A text.
    Text(String),
    /// A number in decimal digits, of any size.
    Number(String),
    /// Yes or no.
    Bool(bool),
    /// No value: blank in a table, left out in JSON.
    None,
}

/// Prints rows under `headers`: as a table, or each as an object with the headers as keys.
///
/// # Errors
/// If `out` cannot be written to.
pub fn rows(out: &mut impl Write, format: Format, headers: &[&str], rows: &[Vec<Cell>]) -> std::io::Result<()> {
    let _ = (out, format, headers, rows);
    unimplemented!()
}
