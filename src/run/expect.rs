//! Comparing rows with those of a file.

use std::path::Path;

use serde::Deserialize;

/// The rows that a run must give.
#[derive(Debug)]
pub(super) struct Expectation {
    rows: Vec<ExpectedRow>,
}

/// What is compared of a row; what is absent may be anything.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub(super) struct ExpectedRow {
    index: Option<u64>,
    set: Option<u64>,
    row: Option<String>,
    kind: Option<String>,
    groups: Option<Vec<u16>>,
    outcome: Option<String>,
    value: Option<i128>,
}

/// What a row gave.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ActualRow {
    pub(super) index: usize,
    pub(super) set: u64,
    pub(super) row: String,
    pub(super) kind: &'static str,
    pub(super) groups: Option<Vec<u16>>,
    pub(super) outcome: Option<&'static str>,
    pub(super) value: Option<i128>,
}

/// Objects that are no rows, as a run itself prints them.
const OTHER_KINDS: [&str; 4] = ["run", "balances", "final", "summary"];

impl Expectation {
    /// Reads a file.
    ///
    /// # Errors
    /// With the file's name, if it cannot be read or is not JSON of rows.
    pub(super) fn read(path: &Path) -> Result<Expectation, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {name}: {error}"))?;
        Expectation::parse(&text).map_err(|error| format!("{name}:{}:{}: {error}", error.line(), error.column()))
    }

    /// Rows as one array, or as one object a line as a run prints them.
    fn parse(text: &str) -> Result<Expectation, serde_json::Error> {
        let mut rows: Vec<ExpectedRow> = if text.trim_start().starts_with('[') {
            serde_json::from_str(text)?
        } else {
            serde_json::Deserializer::from_str(text).into_iter().collect::<Result<_, _>>()?
        };
        rows.retain(|row| row.kind.as_deref().is_none_or(|kind| !OTHER_KINDS.contains(&kind)));
        // Rows without an index count by their place.
        if rows.iter().all(|row| row.index.is_some()) {
            rows.sort_by_key(|row| row.index);
        }
        Ok(Expectation { rows })
    }

    /// What differs, one line each; `actual` in any order.
    pub(super) fn differences(&self, actual: &mut [ActualRow]) -> Vec<String> {
        actual.sort_by_key(|row| row.index);
        let mut found = Vec::new();
        for (expected, row) in self.rows.iter().zip(&*actual) {
            let fields = expected.differences(row);
            if !fields.is_empty() {
                found.push(format!("row {} `{}`: {}", row.index, row.row, fields.join("; ")));
            }
        }
        for expected in self.rows.iter().skip(actual.len()) {
            found.push(format!("missing: `{}`", expected.row.as_deref().unwrap_or("a row")));
        }
        for row in actual.iter().skip(self.rows.len()) {
            found.push(format!("row {} `{}`: not expected", row.index, row.row));
        }
        found
    }
}

impl ExpectedRow {
    fn differences(&self, actual: &ActualRow) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |field: &str, expected: Option<String>, actual: Option<String>| {
            if let Some(expected) = expected
                && Some(&expected) != actual.as_ref()
            {
                let actual = actual.unwrap_or_else(|| "nothing".to_owned());
                found.push(format!("{field} is {actual}, expected {expected}"));
            }
        };
        let list = |groups: &Vec<u16>| format!("{groups:?}");
        compare("set", self.set.map(|set| set.to_string()), Some(actual.set.to_string()));
        compare("row", self.row.clone(), Some(actual.row.clone()));
        compare("kind", self.kind.clone(), Some(actual.kind.to_owned()));
        compare("groups", self.groups.as_ref().map(list), actual.groups.as_ref().map(list));
        compare("outcome", self.outcome.clone(), actual.outcome.map(str::to_owned));
        compare("value", self.value.map(|value| value.to_string()), actual.value.map(|value| value.to_string()));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actual() -> Vec<ActualRow> {
        let transfer = ActualRow {
            index: 0,
            set: 1,
            row: "(1, 3001, 1)".to_owned(),
            kind: "transfer",
            groups: Some(vec![1, 2]),
            outcome: Some("committed"),
            value: None,
        };
        let fail = ActualRow { index: 1, row: "F(n3)".to_owned(), kind: "fail", set: 1, ..ActualRow::default() };
        let balance = ActualRow {
            index: 2,
            set: 1,
            row: "(1)".to_owned(),
            kind: "balance",
            groups: Some(vec![1]),
            outcome: Some("ok"),
            value: Some(-9),
        };
        vec![transfer, fail, balance]
    }

    const EXPECTED: &str = r#"[
        {"set": 1, "row": "(1, 3001, 1)", "kind": "transfer", "groups": [1, 2], "outcome": "committed"},
        {"set": 1, "row": "F(n3)", "kind": "fail"},
        {"set": 1, "row": "(1)", "kind": "balance", "groups": [1], "outcome": "ok", "value": -9}]"#;

    fn differences(expected: &str, mut actual: Vec<ActualRow>) -> Vec<String> {
        Expectation::parse(expected).expect("fine").differences(&mut actual)
    }

    #[test]
    fn equal_rows_have_no_difference_in_whatever_order_they_were_answered() {
        assert_eq!(differences(EXPECTED, actual()), Vec::<String>::new());
        let mut completed = actual();
        completed.reverse();
        assert_eq!(differences(EXPECTED, completed), Vec::<String>::new());
    }

    #[test]
    fn each_compared_field_shows() {
        let cases = [
            ("\"set\": 1, \"row\": \"(1)\"", "\"set\": 2, \"row\": \"(1)\"", "row 2 `(1)`: set is 1, expected 2"),
            ("F(n3)", "F(n4)", "row 1 `F(n3)`: row is F(n3), expected F(n4)"),
            ("\"fail\"", "\"recover\"", "row 1 `F(n3)`: kind is fail, expected recover"),
            ("[1, 2]", "[1, 3]", "row 0 `(1, 3001, 1)`: groups is [1, 2], expected [1, 3]"),
            ("committed", "rejected", "row 0 `(1, 3001, 1)`: outcome is committed, expected rejected"),
            ("-9", "9", "row 2 `(1)`: value is -9, expected 9"),
            ("\"fail\"}", "\"fail\", \"outcome\": \"ok\"}", "row 1 `F(n3)`: outcome is nothing, expected ok"),
        ];
        for (from, to, found) in cases {
            assert_eq!(differences(&EXPECTED.replace(from, to), actual()), [found]);
        }
    }

    #[test]
    fn absent_and_unknown_fields_are_ignored() {
        assert_eq!(differences(r#"[{}, {"latency_us": 7}, {"value": null}]"#, actual()), Vec::<String>::new());
    }

    #[test]
    fn a_missing_and_an_extra_row_differ() {
        assert_eq!(differences(EXPECTED, actual()[..2].to_vec()), ["missing: `(1)`"]);
        assert_eq!(differences("[{}, {}]", actual()), ["row 2 `(1)`: not expected"]);
        assert_eq!(differences("", vec![]), Vec::<String>::new());
    }

    #[test]
    fn the_output_of_a_run_is_an_expectation() {
        let lines = r#"{"kind":"run","run_id":"x"}
            {"index":2,"kind":"balance","value":-9,"outcome":"ok"}
            {"index":0,"kind":"transfer"}
            {"index":1,"kind":"fail"}
            {"kind":"final","index":0,"outcome":"committed"}
            {"kind":"balances","set":1,"account":4,"replicas":{"n1":"down"}}
            {"kind":"summary","run_id":"x"}"#;
        assert_eq!(differences(lines, actual()), Vec::<String>::new());
    }

    #[test]
    fn what_is_not_json_has_its_place() {
        let error = Expectation::parse("[{\"set\": 1},\n {\"set\": }]").expect_err("not fine");
        assert_eq!((error.line(), error.column()), (2, 10));
        assert!(Expectation::parse("[{\"groups\": \"g1\"}]").is_err());
    }
}
