//! What a run prints: JSON lines or a table on standard output, a progress bar on standard error.

use std::collections::BTreeMap;
use std::io::{BufWriter, IsTerminal, Stdout, Write};

use drachma_protocol::ledger::model::{Balance, Reason};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::{Serialize, Serializer};

use super::summary::Summary;
use crate::audit::Verdict;
use crate::output::Format;

/// Files from this many rows on have a progress bar, and a table shows only those rows that went wrong.
const LONG: usize = 1000;

/// A row that was carried out; fields without a value are left out.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct RowLine<'a> {
    pub(super) index: usize,
    pub(super) set: u64,
    pub(super) row: &'a str,
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) groups: Option<Vec<u16>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) level: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) level_met: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) age_us: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) outcome: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    #[serde(rename = "final", skip_serializing_if = "Option::is_none")]
    pub(super) is_final: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replayed: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) value: Option<Amount>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) node: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) latency_us: Option<u64>,
}

/// A balance as an integer. One beyond 128 bits with its sign is a text: no program would read the number.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Amount(pub(super) Balance);

impl Amount {
    /// The number, if it has at most 128 bits with its sign.
    pub(super) fn number(self) -> Option<i128> {
        let magnitude = i128::try_from(self.0.magnitude).ok()?;
        Some(if self.0.negative { -magnitude } else { magnitude })
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.number() {
            Some(number) => serializer.serialize_i128(number),
            None => serializer.collect_str(&self.0),
        }
    }
}

/// What a replica holds of an account.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Held {
    /// So much.
    Amount(Amount),
    /// Its node is stopped.
    #[serde(serialize_with = "down")]
    Down,
}

fn down<S: Serializer>(serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str("down")
}

/// An account whose totals have changed, on every replica.
#[derive(Debug, Serialize)]
pub(super) struct BalancesLine {
    kind: &'static str,
    set: u64,
    #[serde(serialize_with = "number")]
    account: u128,
    replicas: BTreeMap<String, Held>,
}

fn number<S: Serializer>(value: &u128, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(*value)
}

impl BalancesLine {
    pub(super) fn new(set: u64, account: u128, replicas: BTreeMap<String, Held>) -> BalancesLine {
        BalancesLine { kind: "balances", set, account, replicas }
    }
}

#[derive(Serialize)]
struct RunLine<'a> {
    kind: &'static str,
    run_id: &'a str,
}

/// A transfer that was open, settled.
#[derive(Serialize)]
struct FinalLine {
    kind: &'static str,
    index: usize,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Prints a run as it goes.
pub(super) struct Report {
    format: Format,
    out: BufWriter<Stdout>,
    bar: ProgressBar,
    long: bool,
}

impl Report {
    /// Begins with the run's id.
    pub(super) fn new(format: Format, rows: usize, run_id: &str) -> std::io::Result<Report> {
        let long = rows >= LONG;
        let bar = if long && std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows, {per_sec}, {eta} left");
            ProgressBar::with_draw_target(Some(rows as u64), ProgressDrawTarget::stderr())
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        } else {
            ProgressBar::hidden()
        };
        let mut report = Report { format, out: BufWriter::new(std::io::stdout()), bar, long };
        match format {
            Format::Json => report.json(&RunLine { kind: "run", run_id })?,
            Format::Table => {
                writeln!(report.out, "run {run_id}")?;
                if long {
                    writeln!(report.out, "{rows} rows; those that are committed or read are not listed")?;
                }
                writeln!(report.out, "{:>7} {:>4}  {:<26} {:<10} result", "row", "set", "transaction", "groups")?;
            }
        }
        report.flush()?;
        Ok(report)
    }

    /// A row was carried out.
    pub(super) fn row(&mut self, line: &RowLine<'_>) -> std::io::Result<()> {
        self.bar.inc(1);
        match self.format {
            Format::Json => self.json(line),
            Format::Table if self.long && matches!(line.outcome, Some("committed" | "ok")) => Ok(()),
            Format::Table => {
                let groups: Vec<String> = line.groups.iter().flatten().map(|group| format!("g{group}")).collect();
                let RowLine { index, set, row, .. } = line;
                let groups = groups.join(", ");
                writeln!(self.out, "{index:>7} {set:>4}  {row:<26} {groups:<10} {}", result(line))
            }
        }
    }

    /// An account on every replica.
    pub(super) fn balances(&mut self, line: &BalancesLine) -> std::io::Result<()> {
        if self.format == Format::Json {
            return self.json(line);
        }
        let held = |(node, held): (&String, &Held)| match held {
            Held::Amount(amount) => format!("{node} {}", amount.0),
            Held::Down => format!("{node} down"),
        };
        let replicas: Vec<String> = line.replicas.iter().map(held).collect();
        writeln!(self.out, "set {} account {}: {}", line.set, line.account, replicas.join(", "))
    }

    /// An open transfer was settled.
    pub(super) fn settled(&mut self, index: usize, reason: Option<Reason>) -> std::io::Result<()> {
        let outcome = if reason.is_some() { "rejected" } else { "committed" };
        let reason = reason.map(|reason| reason.to_string());
        match self.format {
            Format::Json => self.json(&FinalLine { kind: "final", index, outcome, reason }),
            Format::Table => writeln!(self.out, "row {index} in the end: {}", words(outcome, reason.as_deref())),
        }
    }

    /// The last line.
    pub(super) fn summary(&mut self, summary: &Summary<'_>) -> std::io::Result<()> {
        self.bar.finish_and_clear();
        match self.format {
            Format::Json => self.json(summary)?,
            Format::Table => self.summary_table(summary)?,
        }
        self.flush()
    }

    fn summary_table(&mut self, summary: &Summary<'_>) -> std::io::Result<()> {
        let out = &mut self.out;
        let outcomes: Vec<String> = summary.outcomes.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let interrupted = if summary.interrupted { ", interrupted" } else { "" };
        writeln!(out, "\n{} rows: {}{interrupted}", summary.rows, outcomes.join(", "))?;
        let (wall, rate, gap) = (summary.wall_s, summary.committed_per_s, summary.longest_gap_ms);
        writeln!(out, "{wall:.3} s, {rate:.1} committed/s, longest gap {gap:.1} ms")?;
        if summary.level_not_met > 0 {
            writeln!(out, "level not met: {} rows", summary.level_not_met)?;
        }
        for (kind, latency) in [("transfer", summary.latency_us.transfer), ("balance", summary.latency_us.balance)] {
            if let Some(latency) = latency {
                writeln!(out, "{kind}: p50 {} us, p99 {} us, max {} us", latency.p50, latency.p99, latency.max)?;
            }
        }
        let audit = summary.audit;
        let verdict = match audit.verdict {
            Verdict::Clean => "clean",
            Verdict::Incomplete => "incomplete",
            Verdict::Violated => "violated",
        };
        let conserved = if audit.conserved { "conserved" } else { "not conserved" };
        writeln!(
            out,
            "audit: {verdict}; {conserved}, {} acknowledged, {} missing, {} doubled, {} in doubt, {} replicas",
            audit.acknowledged, audit.missing, audit.doubled, audit.in_doubt, audit.replicas
        )?;
        audit.findings.iter().try_for_each(|finding| writeln!(out, "  {finding}"))
    }

    /// Hands everything printed so far to the system.
    pub(super) fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }

    fn json(&mut self, line: &impl Serialize) -> std::io::Result<()> {
        serde_json::to_writer(&mut self.out, line)?;
        self.out.write_all(b"\n")
    }
}

fn words(outcome: &str, reason: Option<&str>) -> String {
    reason.map_or_else(|| outcome.to_owned(), |reason| format!("{outcome}: {reason}"))
}

/// The last column of a table's row.
fn result(line: &RowLine<'_>) -> String {
    let Some(outcome) = line.outcome else {
        return line.node.clone().unwrap_or_else(|| "no node".to_owned());
    };
    let mut text = match line.value {
        Some(value) => value.0.to_string(),
        None => words(outcome, line.reason.as_deref()),
    };
    if line.replayed == Some(true) {
        text += " (replayed)";
    }
    if line.level_met == Some(false) {
        text += " (level not met)";
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn balance(negative: bool, magnitude: u128) -> Amount {
        Amount(Balance { negative, magnitude })
    }

    #[test]
    fn fields_without_a_value_are_left_out() {
        let line =
            RowLine { index: 4, set: 2, row: "F(n3)", kind: "fail", node: Some("n3".into()), ..RowLine::default() };
        let text = r#"{"index":4,"set":2,"row":"F(n3)","kind":"fail","node":"n3"}"#;
        assert_eq!(serde_json::to_string(&line).expect("fine"), text);
    }

    #[test]
    fn rows_have_the_names_of_the_contract() {
        let line = RowLine {
            index: 0,
            set: 1,
            row: "(7)",
            kind: "balance",
            id: Some("0a".into()),
            groups: Some(vec![1, 2]),
            level: Some("any".into()),
            level_met: Some(false),
            age_us: Some(70),
            outcome: Some("ok"),
            reason: Some("closed".into()),
            is_final: Some(true),
            replayed: Some(true),
            value: Some(balance(true, 5)),
            node: None,
            attempts: Some(1),
            latency_us: Some(600),
        };
        let text = concat!(
            r#"{"index":0,"set":1,"row":"(7)","kind":"balance","id":"0a","groups":[1,2],"level":"any","#,
            r#""level_met":false,"age_us":70,"outcome":"ok","reason":"closed","final":true,"replayed":true,"value":-5,"attempts":1,"latency_us":600}"#
        );
        assert_eq!(serde_json::to_string(&line).expect("fine"), text);
    }

    #[test]
    fn balances_are_integers_and_stopped_nodes_down() {
        let replicas = [("n1".to_owned(), Held::Amount(balance(false, 9))), ("n2".to_owned(), Held::Down)];
        let line = BalancesLine::new(3, u128::MAX, replicas.into());
        let text = concat!(
            r#"{"kind":"balances","set":3,"account":340282366920938463463374607431768211455,"#,
            r#""replicas":{"n1":9,"n2":"down"}}"#
        );
        assert_eq!(serde_json::to_string(&line).expect("fine"), text);
    }

    #[test]
    fn large_amounts_are_numbers_as_long_as_they_can_be() {
        let text = |amount: Amount| serde_json::to_string(&amount).expect("fine");
        assert_eq!(text(balance(true, i128::MAX as u128)), format!("-{}", i128::MAX));
        assert_eq!(text(balance(true, u128::MAX)), format!("\"-{}\"", u128::MAX));
        assert_eq!(balance(true, 3).number(), Some(-3));
    }
}
