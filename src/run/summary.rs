//! Counting: rows, outcomes, latencies, gaps, and the time that was spent on rows.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::audit::AuditReport;

/// Latencies are kept up to an hour, in microseconds, with three digits.
const LATENCY_LIMIT: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Counts what a run does. Times are given, since the run began.
#[derive(Debug)]
pub(super) struct Tally {
    rows: u64,
    outcomes: BTreeMap<&'static str, u64>,
    level_not_met: u64,
    transfers: Histogram<u64>,
    balances: Histogram<u64>,
    clock: ActiveClock,
    // On the active clock.
    last_committed: Option<Duration>,
    longest_gap: Duration,
}

/// Runs while rows are in flight: from the first one sent to the last one answered of each stretch without a barrier.
#[derive(Clone, Copy, Debug, Default)]
struct ActiveClock {
    past: Duration,
    since: Option<Duration>,
    last: Duration,
}

impl ActiveClock {
    fn start(&mut self, at: Duration) {
        self.stop();
        (self.since, self.last) = (Some(at), at);
    }

    fn answered(&mut self, at: Duration) -> Duration {
        self.last = at;
        self.reading()
    }

    fn stop(&mut self) {
        self.past = self.reading();
        self.since = None;
    }

    fn reading(&self) -> Duration {
        self.past + self.since.map_or(Duration::ZERO, |since| self.last.saturating_sub(since))
    }
}

impl Tally {
    pub(super) fn new() -> Tally {
        let histogram = || {
            Histogram::new_with_bounds(1, LATENCY_LIMIT, DIGITS).expect("the bounds are ordered and three digits fine")
        };
        Tally {
            rows: 0,
            outcomes: BTreeMap::new(),
            level_not_met: 0,
            transfers: histogram(),
            balances: histogram(),
            clock: ActiveClock::default(),
            last_committed: None,
            longest_gap: Duration::ZERO,
        }
    }

    /// The first row after a barrier is sent.
    pub(super) fn start(&mut self, at: Duration) {
        self.clock.start(at);
    }

    /// Every row that was sent is answered.
    pub(super) fn stop(&mut self) {
        self.clock.stop();
    }

    /// A row without an outcome was carried out.
    pub(super) fn control(&mut self) {
        self.rows += 1;
    }

    /// A row was answered.
    pub(super) fn answered(&mut self, at: Duration, outcome: &'static str, is_transfer: bool, latency: Duration) {
        self.rows += 1;
        *self.outcomes.entry(outcome).or_default() += 1;
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let histogram = if is_transfer { &mut self.transfers } else { &mut self.balances };
        histogram.saturating_record(micros.clamp(1, LATENCY_LIMIT));
        let reading = self.clock.answered(at);
        if outcome == "committed" {
            let gap = self.last_committed.map_or(Duration::ZERO, |last| reading.saturating_sub(last));
            self.longest_gap = self.longest_gap.max(gap);
            self.last_committed = Some(reading);
        }
    }

    /// The level of a row that was answered was not met.
    pub(super) fn level_missed(&mut self) {
        self.level_not_met += 1;
    }

    /// A row was sent, and its answer is not waited for.
    pub(super) fn given_up(&mut self, outcome: &'static str) {
        self.rows += 1;
        *self.outcomes.entry(outcome).or_default() += 1;
    }

    /// All of it.
    pub(super) fn summary<'a>(&self, run_id: &'a str, interrupted: bool, audit: &'a AuditReport) -> Summary<'a> {
        let wall = self.clock.reading().as_secs_f64();
        let committed = self.outcomes.get("committed").copied().unwrap_or(0);
        let per_second = if wall > 0.0 { committed as f64 / wall } else { 0.0 };
        Summary {
            kind: "summary",
            run_id,
            rows: self.rows,
            outcomes: self.outcomes.clone(),
            level_not_met: self.level_not_met,
            wall_s: rounded(wall, 1e6),
            committed_per_s: rounded(per_second, 10.0),
            latency_us: Latencies { transfer: quantiles(&self.transfers), balance: quantiles(&self.balances) },
            longest_gap_ms: rounded(self.longest_gap.as_secs_f64() * 1e3, 1e3),
            interrupted,
            audit,
        }
    }
}

fn rounded(value: f64, parts: f64) -> f64 {
    (value * parts).round() / parts
}

fn quantiles(histogram: &Histogram<u64>) -> Option<Quantiles> {
    (!histogram.is_empty()).then(|| Quantiles {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
    })
}

/// The last line of a run.
#[derive(Debug, Serialize)]
pub(super) struct Summary<'a> {
    kind: &'static str,
    pub(super) run_id: &'a str,
    pub(super) rows: u64,
    pub(super) outcomes: BTreeMap<&'static str, u64>,
    pub(super) level_not_met: u64,
    pub(super) wall_s: f64,
    pub(super) committed_per_s: f64,
    pub(super) latency_us: Latencies,
    pub(super) longest_gap_ms: f64,
    pub(super) interrupted: bool,
    pub(super) audit: &'a AuditReport,
}

/// Latencies by kind of row; kinds that did not occur are left out.
#[derive(Debug, Serialize)]
pub(super) struct Latencies {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) transfer: Option<Quantiles>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) balance: Option<Quantiles>,
}

/// In microseconds, with three digits.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn time_runs_while_rows_are_in_flight_only() {
        let mut tally = Tally::new();
        let audit = AuditReport::default();
        tally.start(ms(1000));
        tally.answered(ms(1100), "committed", true, ms(100));
        tally.answered(ms(1400), "committed", true, ms(300));
        tally.answered(ms(1500), "unavailable", true, ms(400));
        tally.stop();
        tally.control(); // Five seconds for a node that starts.
        tally.start(ms(6500));
        tally.answered(ms(6700), "committed", true, ms(200));
        tally.answered(ms(6800), "ok", false, ms(50));
        tally.stop();
        let summary = tally.summary("r", false, &audit);
        assert_eq!((summary.rows, summary.wall_s, summary.committed_per_s), (6, 0.8, 3.8));
        // From 400 to 700 on the clock that stands still at the barrier.
        assert_eq!(summary.longest_gap_ms, 300.0);
        let outcomes: Vec<(&str, u64)> = summary.outcomes.into_iter().collect();
        assert_eq!(outcomes, [("committed", 3), ("ok", 1), ("unavailable", 1)]);
        assert_eq!(summary.latency_us.balance.map(|quantiles| quantiles.p50 / 100), Some(500));
        assert_eq!(summary.latency_us.transfer.map(|quantiles| quantiles.max / 1000), Some(400));
    }

    #[test]
    fn a_run_without_rows_has_zeros_and_no_latencies() {
        let audit = AuditReport::default();
        let tally = Tally::new();
        let text = serde_json::to_string(&tally.summary("r", true, &audit)).expect("fine");
        let expected = concat!(
            r#"{"kind":"summary","run_id":"r","rows":0,"outcomes":{},"level_not_met":0,"wall_s":0.0,"committed_per_s":0.0,"#,
            r#""latency_us":{},"longest_gap_ms":0.0,"interrupted":true,"audit":{"verdict":"clean""#
        );
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn an_interrupted_stretch_counts_to_its_last_answer() {
        let mut tally = Tally::new();
        let audit = AuditReport::default();
        tally.start(ms(10));
        tally.answered(ms(30), "committed", true, ms(20));
        tally.given_up("unknown");
        let summary = tally.summary("r", true, &audit);
        assert_eq!((summary.rows, summary.wall_s, summary.longest_gap_ms), (2, 0.02, 0.0));
    }

    #[test]
    fn quantiles_have_three_digits() {
        let mut tally = Tally::new();
        tally.start(ms(0));
        for micros in 1..=10_000u64 {
            tally.answered(ms(1), "committed", true, Duration::from_micros(micros));
        }
        let audit = AuditReport::default();
        let quantiles = tally.summary("r", false, &audit).latency_us.transfer.expect("fine");
        assert!((4990..=5010).contains(&quantiles.p50), "{quantiles:?}");
        assert!((9890..=9910).contains(&quantiles.p99), "{quantiles:?}");
    }
}
