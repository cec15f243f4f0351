//! What commands print: a table, or one JSON object a line. Never a colour.

use std::fmt::{Display, Write as _};
use std::io::{self, Write};

use comfy_table::{CellAlignment, Table, TableStyle};

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
    /// Texts.
    List(Vec<String>),
    /// No value: blank in a table, left out in JSON.
    None,
}

impl Cell {
    /// A text.
    pub fn text(value: impl Display) -> Cell {
        Cell::Text(value.to_string())
    }

    /// A number. Its text must be decimal digits, with a `-` before them if negative.
    pub fn number(value: impl Display) -> Cell {
        Cell::Number(value.to_string())
    }

    /// A text, or no value.
    pub fn maybe(value: Option<impl Display>) -> Cell {
        value.map_or(Cell::None, Cell::text)
    }

    fn shown(&self) -> String {
        match self {
            Cell::Text(text) => text.clone(),
            Cell::Number(digits) => digits.clone(),
            Cell::Bool(value) => if *value { "yes" } else { "no" }.to_owned(),
            Cell::List(items) => items.join(" "),
            Cell::None => String::new(),
        }
    }

    fn json(&self) -> Option<String> {
        match self {
            Cell::Text(text) => Some(quoted(text)),
            Cell::Number(digits) => Some(digits.clone()),
            Cell::Bool(value) => Some(value.to_string()),
            Cell::List(items) => {
                let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
                Some(format!("[{}]", items.join(",")))
            }
            Cell::None => None,
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// One row as a JSON object with the headers as keys; cells without a value are left out.
pub fn object(headers: &[&str], row: &[Cell]) -> String {
    let mut line = String::from("{");
    for (key, value) in headers.iter().zip(row).filter_map(|(key, cell)| cell.json().map(|value| (key, value))) {
        let comma = if line.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(line, "{comma}{}:{value}", quoted(key));
    }
    line.push('}');
    line
}

/// Prints rows under `headers`: as a table, or each as an object with the headers as keys.
///
/// # Errors
/// If `out` cannot be written to.
pub fn rows(out: &mut impl Write, format: Format, headers: &[&str], rows: &[Vec<Cell>]) -> io::Result<()> {
    match format {
        Format::Json => rows.iter().try_for_each(|row| writeln!(out, "{}", object(headers, row))),
        Format::Table => writeln!(out, "{}", table(headers, rows)),
    }
}

/// A table of text, without lines between its columns.
pub fn table(headers: &[&str], rows: &[Vec<Cell>]) -> String {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_header(headers.iter().map(|header| header.replace('_', " ")));
    for row in rows {
        table.add_row(row.iter().map(Cell::shown));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if rows.iter().any(|row| matches!(row.get(index), Some(Cell::Number(_)))) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Prints rows to standard output. A reader that has gone away (`| head`) is no error.
///
/// # Errors
/// If standard output cannot be written to otherwise.
pub fn print(format: Format, headers: &[&str], cells: &[Vec<Cell>]) -> io::Result<()> {
    closed_is_fine(rows(&mut io::stdout().lock(), format, headers, cells))
}

/// Prints one line to standard output, as [`print()`].
///
/// # Errors
/// As [`print()`].
pub fn line(text: impl Display) -> io::Result<()> {
    closed_is_fine(writeln!(io::stdout().lock(), "{text}"))
}

fn closed_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<Vec<Cell>> {
        vec![
            vec![Cell::text("n1"), Cell::number(u128::MAX), Cell::Bool(true), Cell::None],
            vec![
                Cell::text("a \"b\"\n"),
                Cell::number(-7),
                Cell::Bool(false),
                Cell::List(vec!["g1".into(), "g2".into()]),
            ],
        ]
    }

    #[test]
    fn json_is_one_object_a_line_with_exact_numbers() {
        let mut out = Vec::new();
        rows(&mut out, Format::Json, &["node", "amount", "up", "groups"], &sample()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "{\"node\":\"n1\",\"amount\":340282366920938463463374607431768211455,\"up\":true}\n\
             {\"node\":\"a \\\"b\\\"\\n\",\"amount\":-7,\"up\":false,\"groups\":[\"g1\",\"g2\"]}\n"
        );
    }

    #[test]
    fn a_table_has_no_colour_and_numbers_stand_right() {
        let cells = vec![vec![Cell::text("n1"), Cell::number(5)], vec![Cell::text("n10"), Cell::number(1234)]];
        let text = table(&["node", "log_length"], &cells);
        assert!(!text.contains('\u{1b}'), "{text:?}");
        let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
        assert_eq!(lines, ["node  log length", "n1             5", "n10         1234"]);
    }

    #[test]
    fn an_empty_table_has_its_header_and_empty_json_nothing() {
        assert_eq!(table(&["node"], &[]).trim_end(), "node");
        let mut out = Vec::new();
        rows(&mut out, Format::Json, &["node"], &[]).unwrap();
        assert!(out.is_empty());
    }
}
