//! What `drachma sim` prints: text for people, or one JSON object a line.

use std::collections::BTreeMap;
use std::fmt::Write;

use drachma_sim::coverage::Coverage;
use drachma_sim::failover::{Failovers, quantile};
use drachma_sim::plan::Plan;
use drachma_sim::run::{Failure, Summary};
use drachma_sim::world::Outcome;
use serde_json::json;

use crate::output::Format;

/// What a summary does not know itself.
pub(super) struct Totals {
    pub(super) count: u64,
    pub(super) seconds: f64,
    pub(super) threads: usize,
    pub(super) from: u64,
}

/// A trace is larger than its file may be.
pub(super) fn left_out(run: &Outcome, limit: usize) -> String {
    let (left_out, kept) = (run.left_out, run.lines.len());
    format!(
        "the trace is larger than {limit} bytes (--trace-limit): the first {left_out} lines are left out, the last {kept} follow"
    )
}

pub(super) fn failure(failure: &Failure, format: Format) -> String {
    match format {
        Format::Table => format!("{failure}\n"),
        Format::Json => {
            let shrunk = failure.shrunk.as_ref();
            json!({
                "kind": "failure",
                "seed": failure.seed,
                "checker": failure.violation.checker,
                "class": failure.violation.class.to_string(),
                "text": failure.violation.text,
                "events": failure.events,
                "shrunk_events": shrunk.map(|shrunk| shrunk.events),
                "shrinking_runs": shrunk.map(|shrunk| shrunk.runs),
                "again": failure.smallest().to_string(),
                "as_drawn": failure.plan.to_string(),
                "lines": failure.lines,
            })
            .to_string()
        }
    }
}

pub(super) fn summary(summary: &Summary, totals: &Totals, format: Format) -> String {
    let seeds = summary.passed + summary.failed.len() as u64;
    let (hours, rate) = (summary.length as f64 / 3.6e9, seeds as f64 / totals.seconds.max(0.001));
    if format == Format::Json {
        let failed: Vec<u64> = summary.failed.iter().map(|(seed, _)| *seed).collect();
        return json!({
            "kind": "summary",
            "from": totals.from,
            "seeds": seeds,
            "asked_for": totals.count,
            "passed": summary.passed,
            "failed": failed,
            "simulated_us": summary.length,
            "events": summary.events,
            "transfers": summary.transfers,
            "committed": summary.committed,
            "reads": summary.reads,
            "seconds": totals.seconds,
            "seeds_per_second": rate,
            "threads": totals.threads,
            "counts": counts(&summary.coverage),
            "never_happened": summary.coverage.zeros().iter().map(|(_, name)| *name).collect::<Vec<_>>(),
            "hopeless": summary.hopeless,
            "longest_rest_us": summary.longest_rest.0,
        })
        .to_string();
    }
    let mut text = format!("{summary}\n");
    // Writing to a string cannot fail.
    for (seed, violation) in &summary.failed {
        let _ = writeln!(text, "seed {seed}: {} ({})", violation.checker, violation.class);
    }
    let _ = write!(
        text,
        "{seeds} of {} seeds from {} in {:.1} s on {} threads: {rate:.1} seeds/s, {hours:.2} simulated hours",
        totals.count, totals.from, totals.seconds, totals.threads
    );
    text
}

/// One run that went well.
pub(super) fn run(plan: &Plan, run: &Outcome, lines: &[String], format: Format) -> String {
    if format == Format::Json {
        return json!({
            "kind": "run",
            "seed": plan.seed,
            "command": plan.to_string(),
            "events": run.events,
            "simulated_us": run.length,
            "trace": format!("{:016x}", run.hash),
            "counts": counts(&run.coverage),
            "lines": lines,
        })
        .to_string();
    }
    let mut text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    for (_, name, count) in run.coverage.iter().filter(|(.., count)| *count > 0) {
        let _ = writeln!(text, "{count:>12} {name}");
    }
    let (events, length, hash) = (run.events, run.length as f64 / 1e6, run.hash);
    let _ = write!(
        text,
        "seed {}: nothing found; {events} events, {length:.6} simulated seconds, trace {hash:016x}",
        plan.seed
    );
    text
}

/// By what is counted together, and by name.
fn counts(coverage: &Coverage) -> BTreeMap<&'static str, BTreeMap<&'static str, u64>> {
    let mut counts: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    for (kind, name, count) in coverage.iter() {
        counts.entry(kind.title()).or_default().insert(name, count);
    }
    counts
}

pub(super) fn failovers(found: &Failovers, format: Format) -> String {
    if format == Format::Table {
        return found.to_string();
    }
    let lost = |lengths: &[u64]| {
        let at = |permille| quantile(lengths, permille);
        json!({ "times": lengths.len(), "median_us": at(500), "p99_us": at(990), "max_us": at(1000) })
    };
    json!({
        "kind": "failovers",
        "connection_broken": lost(&found.noticed),
        "machine_gone": lost(&found.silent),
        "unanswered": found.unanswered,
    })
    .to_string()
}
