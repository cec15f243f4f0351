//! Cells: comma-separated, with or without quotes, as ranges of the text.

use std::ops::Range;

/// One thing wrong with the text: where, what was expected, and what stands there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Wrong {
    /// The byte, within the text that was given.
    pub(super) at: usize,
    /// What may stand there.
    pub(super) expected: String,
    /// What stands there.
    pub(super) found: String,
}

impl Wrong {
    pub(super) fn new(at: usize, expected: impl Into<String>, found: &str) -> Wrong {
        Wrong { at, expected: expected.into(), found: show(found) }
    }
}

/// A part of the input for an error message: bounded and on one line.
fn show(found: &str) -> String {
    const SHOWN: usize = 40;
    let trimmed = found.trim();
    if trimmed.is_empty() {
        return "nothing".to_owned();
    }
    let short: String = trimmed.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if trimmed.chars().nth(SHOWN).is_some() { format!("`{short}...`") } else { format!("`{short}`") }
}

/// Reads the record that begins at `start` into `cells`, trimmed and without quotes, and returns where the next one
/// begins. Commas within quotes, and within parentheses or brackets, belong to a cell.
pub(super) fn record(text: &str, start: usize, cells: &mut Vec<Range<usize>>) -> Result<usize, Wrong> {
    cells.clear();
    let bytes = text.as_bytes();
    let mut at = start;
    loop {
        let (cell, end) = cell(text, at)?;
        cells.push(cell);
        match bytes.get(end) {
            Some(b',') => at = end + 1,
            Some(_) => return Ok(end + 1),
            None => return Ok(end),
        }
    }
}

/// One cell, and where it ends: at a comma, a line feed, or the end of the text.
fn cell(text: &str, start: usize) -> Result<(Range<usize>, usize), Wrong> {
    let bytes = text.as_bytes();
    let blank = |at: &usize| matches!(bytes.get(*at), Some(b' ' | b'\t' | b'\r'));
    let mut at = start;
    while blank(&at) {
        at += 1;
    }
    if bytes.get(at) != Some(&b'"') {
        let end = bare_end(bytes, at);
        return Ok((trim(text, at..end), end));
    }
    let inner = at + 1;
    let mut close = inner;
    loop {
        match (bytes.get(close), bytes.get(close + 1)) {
            (Some(b'"'), Some(b'"')) => close += 2,
            (Some(b'"'), _) => break,
            (Some(_), _) => close += 1,
            (None, _) => return Err(Wrong::new(at, "a closing quote", "the end of the file")),
        }
    }
    let mut end = close + 1;
    while blank(&end) {
        end += 1;
    }
    if !matches!(bytes.get(end), None | Some(b',' | b'\n')) {
        return Err(Wrong::new(end, "a comma after the closing quote", text[end..].lines().next().unwrap_or("")));
    }
    Ok((trim(text, inner..close), end))
}

fn bare_end(bytes: &[u8], start: usize) -> usize {
    let mut depth = 0u32;
    for (offset, byte) in bytes[start..].iter().enumerate() {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return start + offset,
            b'\n' => return start + offset,
            _ => {}
        }
    }
    bytes.len()
}

/// The range without white space at its ends; where nothing else is in it, its end.
pub(super) fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_start().len());
    start..start + part.trim().len()
}
