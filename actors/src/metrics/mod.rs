//! What a node tells Prometheus: everything that is counted anyway, gathered when somebody asks.
//!
//! Nothing is kept here. The counts are those of `status` and `performance`, read where they are; what the roles know
//! they are asked, as the command line asks them. So metrics cost the node nothing between two questions.

pub(crate) mod http;

use std::collections::BTreeMap;
use std::fmt;

use drachma_protocol::ids::GroupId;
use drachma_protocol::message::operator::{ActorStatus, LeaderPhase, LeaderStatus, PendingPage, ReplicaStatus};
use drachma_protocol::time::Span;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::performance::KindTotals;
use crate::storage::SnapshotState;

/// The bounds of the times of requests.
pub(crate) const BOUNDS: [Span; 15] = [
    Span(100),
    Span(250),
    Span(500),
    Span(1_000),
    Span(2_500),
    Span(5_000),
    Span(10_000),
    Span(25_000),
    Span(50_000),
    Span(100_000),
    Span(250_000),
    Span(500_000),
    Span(1_000_000),
    Span(2_500_000),
    Span(10_000_000),
];

/// What the roles of a group say of themselves; nothing if they did not answer in time.
#[derive(Debug, Default)]
pub(crate) struct GroupView {
    /// The leader role's.
    pub(crate) leader: Option<LeaderStatus>,
    /// The replica's.
    pub(crate) replica: Option<ReplicaStatus>,
    /// What is in doubt.
    pub(crate) pending: Option<PendingPage>,
}

/// Everything that is told at one time.
pub(crate) struct Snapshot {
    /// Microseconds since the node started.
    pub(crate) uptime: u64,
    /// The node's counts, with what they count.
    pub(crate) counters: Vec<(&'static str, &'static str, u64)>,
    /// The log's counts.
    pub(crate) log: BTreeMap<&'static str, u64>,
    /// How long its syncs took.
    pub(crate) syncs: Vec<(u64, u64)>,
    /// Bytes that may still be queued for the log.
    pub(crate) log_credit: usize,
    /// The groups' snapshots.
    pub(crate) snapshots: Vec<(GroupId, SnapshotState)>,
    /// The roles' mailboxes.
    pub(crate) actors: Vec<ActorStatus>,
    /// Requests by kind.
    pub(crate) requests: Vec<KindTotals>,
    /// The groups.
    pub(crate) groups: BTreeMap<GroupId, GroupView>,
}

impl Snapshot {
    /// As OpenMetrics text.
    pub(crate) fn into_text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        match text::encode(&mut out, &registry) {
            Ok(()) => out,
            Err(fmt::Error) => String::new(), // Writing to a string does not fail.
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").finish_non_exhaustive()
    }
}

/// Writes one metric after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Writer<'_> {
    fn rows<T>(
        &mut self,
        (name, help): (&str, &str),
        kind: MetricType,
        rows: impl IntoIterator<Item = T>,
        mut row: impl FnMut(&mut MetricEncoder<'_>, T) -> fmt::Result,
    ) -> fmt::Result {
        let name = format!("drachma_{name}");
        let help = help.trim().trim_end_matches('.');
        let mut metric = self.0.encode_descriptor(&name, help, None, kind)?;
        rows.into_iter().try_for_each(|value| row(&mut metric, value))
    }

    /// A count that only grows; the name gets `_total`.
    fn counters<'a>(&mut self, what: (&str, &str), rows: impl IntoIterator<Item = (Labels<'a>, f64)>) -> fmt::Result {
        self.rows(what, MetricType::Counter, rows, |metric, (labels, value)| match labels.is_empty() {
            true => metric.encode_counter::<NoLabelSet, f64, f64>(&value, None),
            false => metric.encode_family(&labels)?.encode_counter::<NoLabelSet, f64, f64>(&value, None),
        })
    }

    fn gauges<'a>(&mut self, what: (&str, &str), rows: impl IntoIterator<Item = (Labels<'a>, f64)>) -> fmt::Result {
        self.rows(what, MetricType::Gauge, rows, |metric, (labels, value)| match labels.is_empty() {
            true => metric.encode_gauge(&value),
            false => metric.encode_family(&labels)?.encode_gauge(&value),
        })
    }

    fn histograms<'a>(
        &mut self,
        what: (&str, &str),
        rows: impl IntoIterator<Item = (Labels<'a>, Times)>,
    ) -> fmt::Result {
        self.rows(what, MetricType::Histogram, rows, |metric, (labels, times)| {
            let Times { sum, count, buckets } = times;
            match labels.is_empty() {
                true => metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None),
                false => metric.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None),
            }
        })
    }
}

/// Times in seconds: their sum, their number, how many in each bucket, the last of which has no bound.
struct Times {
    sum: f64,
    count: u64,
    buckets: Vec<(f64, u64)>,
}

impl Times {
    fn new(sum: u64, count: u64, buckets: impl Iterator<Item = (u64, u64)>) -> Times {
        let mut buckets: Vec<(f64, u64)> = buckets.map(|(bound, count)| (seconds(bound), count)).collect();
        // The counts are read one after the other: one more may have come since.
        let within = buckets.iter().map(|(_, count)| count).sum::<u64>();
        buckets.push((f64::INFINITY, count.saturating_sub(within)));
        Times { sum: seconds(sum), count: count.max(within), buckets }
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Bytes of memory that the process has, by the system.
fn resident() -> Option<f64> {
    let pages: f64 = std::fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as f64)
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut writer = Writer(encoder);
        self.node(&mut writer)?;
        self.log(&mut writer)?;
        self.snapshots(&mut writer)?;
        self.requests(&mut writer)?;
        self.leaders(&mut writer)?;
        self.replicas(&mut writer)?;
        self.in_doubt(&mut writer)
    }
}

impl Snapshot {
    fn node(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        writer.gauges(("build_info", "Always 1; the version is a label"), [(version, 1.0)])?;
        writer.gauges(("uptime_seconds", "Since the process started"), [(Labels::new(), seconds(self.uptime))])?;
        let resident = resident().map(|bytes| (Labels::new(), bytes));
        writer.gauges(("resident_memory_bytes", "Memory of the process that is in RAM"), resident)?;
        for (name, help, value) in &self.counters {
            let value = [(Labels::new(), *value as f64)];
            match name.ends_with("_open") {
                true => writer.gauges((name, help), value)?,
                false => writer.counters((name, help), value)?,
            }
        }
        let groups: Vec<String> = self.actors.iter().map(|actor| actor.group.to_string()).collect();
        let rows = |value: fn(&ActorStatus) -> u64| {
            let pairs = self.actors.iter().zip(&groups);
            pairs.map(|(actor, group)| (labels_of(actor, group), value(actor) as f64)).collect::<Vec<_>>()
        };
        writer.gauges(("mailbox_messages", "Messages that wait for a role"), rows(|actor| actor.depth))?;
        writer.counters(("mailbox_handled", "Messages that a role has handled"), rows(|actor| actor.handled))
    }

    fn log(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let value = |name: &str| self.log.get(name).copied().unwrap_or_default();
        let times = Times::new(value("log_sync_us"), value("log_syncs"), self.syncs.iter().copied());
        writer.histograms(("log_sync_seconds", "How long a sync of the log takes"), [(Labels::new(), times)])?;
        let spent = seconds(value("log_segment_us"));
        writer.counters(("log_segment_seconds", "Time spent on new segments of the log"), [(Labels::new(), spent)])?;
        for (name, key, help) in [
            ("log_records", "log_records", "Records written to the log"),
            ("log_written_bytes", "log_bytes", "Bytes written to the log"),
            ("log_segments", "log_segments", "Segments of the log that were begun"),
            ("log_fetches", "log_fetches", "Times that entries were read back from the log"),
            ("log_fetched_entries", "log_fetched_entries", "Entries read back from the log"),
            ("log_refused", "log_refused", "Times that the log had no room for records"),
        ] {
            writer.counters((name, help), [(Labels::new(), value(key) as f64)])?;
        }
        let used = [(Labels::new(), value("log_segments_used") as f64)];
        writer.gauges(("log_segments_used", "Segments of the log that are on the disk and needed"), used)?;
        let room = [(Labels::new(), self.log_credit as f64)];
        writer.gauges(("log_room_bytes", "Bytes that may still be queued for the log"), room)
    }

    fn snapshots(&self, writer: &mut Writer<'_>) -> fmt::Result {
        type Row = (&'static str, &'static str, fn(&SnapshotState) -> f64);
        const ROWS: [Row; 5] = [
            ("snapshot_entries", "Entries that are in the last snapshot; 0 if there is none", |it| it.slot.0 as f64),
            ("snapshot_bytes", "The size of the last snapshot", |it| it.bytes as f64),
            ("snapshot_seconds", "How long the last snapshot took to write; 0 if that was before the start", |it| {
                it.took.as_secs_f64()
            }),
            ("snapshot_writing", "1 while a snapshot is being written", |it| flag(it.writing)),
            ("snapshots_total", "Snapshots that were written", |it| it.written as f64),
        ];
        let groups: Vec<String> = self.snapshots.iter().map(|(group, _)| group.to_string()).collect();
        ROWS.into_iter().try_for_each(|(name, help, value)| {
            let rows = self.snapshots.iter().zip(&groups);
            let rows = rows.map(|((_, state), group)| (vec![("group", group.as_str())], value(state)));
            match name.strip_suffix("_total") {
                Some(name) => writer.counters((name, help), rows),
                None => writer.gauges((name, help), rows),
            }
        })
    }

    fn requests(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let times = self.requests.iter().map(|kind| {
            let buckets = kind.buckets.iter().map(|(bound, count)| (bound.0, *count));
            (vec![("kind", kind.kind)], Times::new(kind.sum, kind.count, buckets))
        });
        let help = "From the moment a request was read to its answer, refusals left out";
        writer.histograms(("request_seconds", help), times.collect::<Vec<_>>())?;
        let refused = self.requests.iter().map(|kind| (vec![("kind", kind.kind)], kind.refused as f64));
        writer.counters(("requests_refused", "Requests refused"), refused.collect::<Vec<_>>())
    }

    /// One row for each group that has answered.
    fn by_group<T>(
        &self,
        writer: &mut Writer<'_>,
        what: (&str, &str),
        of: fn(&GroupView) -> Option<&T>,
        value: fn(&T) -> f64,
    ) -> fmt::Result {
        let rows = self.groups.iter().filter_map(|(group, view)| Some((group.to_string(), value(of(view)?))));
        let rows: Vec<(String, f64)> = rows.collect();
        let rows = rows.iter().map(|(group, value)| (vec![("group", group.as_str())], *value));
        match what.0.strip_suffix("_total") {
            Some(name) => writer.counters((name, what.1), rows),
            None => writer.gauges(what, rows),
        }
    }

    fn leaders(&self, writer: &mut Writer<'_>) -> fmt::Result {
        type Row = (&'static str, &'static str, fn(&LeaderStatus) -> f64);
        const ROWS: [Row; 6] = [
            ("leader", "1 if this node leads the group and serves", |it| flag(it.phase == LeaderPhase::Serving)),
            ("no_quorum", "1 if this node has looked for a quorum of the group and found none", |it| {
                flag(it.no_quorum)
            }),
            ("ballot_round", "The round of the highest ballot known", |it| it.ballot.round as f64),
            ("elections_total", "Elections that this node has begun", |it| it.elections as f64),
            ("waiting_commands", "Commands that wait for a place in the log", |it| it.waiting as f64),
            ("in_flight_entries", "Entries proposed and not yet chosen", |it| it.in_flight as f64),
        ];
        ROWS.into_iter()
            .try_for_each(|(name, help, value)| self.by_group(writer, (name, help), |view| view.leader.as_ref(), value))
    }

    fn replicas(&self, writer: &mut Writer<'_>) -> fmt::Result {
        type Row = (&'static str, &'static str, fn(&ReplicaStatus) -> f64);
        const ROWS: [Row; 5] = [
            ("log_length_entries", "Entries of the group's log on this node", |it| it.length.0 as f64),
            ("chosen_entries", "Entries that this node knows to be chosen", |it| it.chosen.0 as f64),
            ("applied_entries", "Entries that this node has applied", |it| it.applied.0 as f64),
            ("apply_lag_entries", "Entries chosen and not yet applied here", |it| {
                it.chosen.0.saturating_sub(it.applied.0) as f64
            }),
            ("abstains", "1 if this replica neither promises nor accepts: doubtful or foreign", |it| {
                flag(it.doubtful || it.foreign)
            }),
        ];
        ROWS.into_iter().try_for_each(|(name, help, value)| {
            self.by_group(writer, (name, help), |view| view.replica.as_ref(), value)
        })
    }

    fn in_doubt(&self, writer: &mut Writer<'_>) -> fmt::Result {
        type Row = (&'static str, &'static str, fn(&PendingPage) -> f64);
        const ROWS: [Row; 3] = [
            ("in_doubt_transactions", "Transactions in doubt", |it| it.total as f64),
            ("in_doubt_oldest_seconds", "The age of the oldest of the first 1,000 in doubt, in log time", |it| {
                let since = it.rows.iter().map(|row| row.since.0).min();
                since.map_or(0.0, |since| seconds(it.time.0.saturating_sub(since)))
            }),
            ("waiting_operations", "Operations that wait in the queues of accounts", |it| it.waiting as f64),
        ];
        ROWS.into_iter().try_for_each(|(name, help, value)| {
            self.by_group(writer, (name, help), |view| view.pending.as_ref(), value)
        })
    }
}

fn flag(on: bool) -> f64 {
    f64::from(u8::from(on))
}

fn labels_of<'a>(actor: &'a ActorStatus, group: &'a str) -> Labels<'a> {
    // The gateway is the node's own.
    let group = (actor.group != GroupId(0)).then_some(("group", group));
    group.into_iter().chain([("role", actor.role.as_str())]).collect()
}
