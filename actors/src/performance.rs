//! How long requests take, by kind: since the start, and since somebody last asked.
//!
//! Measured at the gateway, from the moment a request was read to the moment its answer was encoded. Histograms have
//! two significant digits; one takes memory only once its kind was asked for. There is one count of everything: what was
//! since the last question is the difference to what was then.

use drachma_protocol::message::client::{Call, Response};
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::message::operator::{KindPerformance, Performance};
use drachma_protocol::time::{Span, Time};
use hdrhistogram::Histogram;

/// The longest time that is told apart: an hour.
const LONGEST: u64 = 3_600_000_000;

/// The kinds of requests that are measured apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum RequestKind {
    /// A batch of transfers within a group.
    Transfer,
    /// A batch of transfers across groups.
    Transact,
    /// A linearizable read of an account.
    Balance,
    /// New accounts.
    CreateAccounts,
    /// A new session.
    Register,
    /// An id is settled.
    Fence,
    /// A transaction within a group.
    Transaction,
    /// A transaction over groups.
    TransactOver,
    /// Keys and accounts are read together.
    Query,
    /// The same, from any replica.
    ReplicaRead,
    /// An id is looked up.
    Lookup,
    /// The shard map.
    Map,
    /// The command line's own.
    Operator,
}

const KINDS: [(RequestKind, &str); 13] = [
    (RequestKind::Transfer, "transfer"),
    (RequestKind::Transact, "transact"),
    (RequestKind::Balance, "balance"),
    (RequestKind::CreateAccounts, "create_accounts"),
    (RequestKind::Register, "register"),
    (RequestKind::Fence, "fence"),
    (RequestKind::Transaction, "transaction"),
    (RequestKind::TransactOver, "transact_over"),
    (RequestKind::Query, "query"),
    (RequestKind::ReplicaRead, "replica_read"),
    (RequestKind::Lookup, "lookup"),
    (RequestKind::Map, "map"),
    (RequestKind::Operator, "operator"),
];

impl RequestKind {
    /// The kind of a call.
    pub(crate) fn of(call: &Call) -> RequestKind {
        match call {
            Call::Command(command) => match command.kind {
                CommandKind::Register => RequestKind::Register,
                CommandKind::Transfers => RequestKind::Transfer,
                CommandKind::Transact => RequestKind::Transact,
                CommandKind::CreateAccounts => RequestKind::CreateAccounts,
                CommandKind::Transaction => RequestKind::Transaction,
                CommandKind::TransactOver => RequestKind::TransactOver,
            },
            Call::Write(write) if write.command.kind == CommandKind::Transfers => RequestKind::Transfer,
            Call::Write(_) => RequestKind::Transaction,
            Call::Query(_) | Call::Position(_) => RequestKind::Query,
            Call::ReplicaRead(_) => RequestKind::ReplicaRead,
            Call::Read(_) => RequestKind::Balance,
            Call::Fence(_) => RequestKind::Fence,
            Call::Lookup(_) => RequestKind::Lookup,
            Call::Map(_) => RequestKind::Map,
            Call::Operator(_) => RequestKind::Operator,
        }
    }
}

#[derive(Clone)]
struct Record {
    latencies: Histogram<u64>,
    // Microseconds, all together.
    sum: u64,
    refused: u64,
}

impl Record {
    fn new() -> Record {
        let latencies = Histogram::new_with_bounds(1, LONGEST, 2).expect("these bounds are valid constants");
        Record { latencies, sum: 0, refused: 0 }
    }

    /// What came since `before`, which was this record once.
    fn since(&self, before: Option<&Record>) -> Record {
        let mut new = self.clone();
        if let Some(before) = before {
            new.latencies.subtract(&before.latencies).expect("what was counted before is part of it");
            new.refused -= before.refused;
        }
        new
    }
}

/// One kind since the start.
pub(crate) struct KindTotals {
    /// Its name.
    pub(crate) kind: &'static str,
    /// How many were answered, by time: so many up to each bound, and in none of those before.
    pub(crate) buckets: Vec<(Span, u64)>,
    /// How many were answered.
    pub(crate) count: u64,
    /// How long they took together, in microseconds.
    pub(crate) sum: u64,
    /// How many were refused.
    pub(crate) refused: u64,
}

/// Measures.
pub(crate) struct Recorder {
    kinds: [Option<Box<Record>>; KINDS.len()],
    // When somebody last asked, and what was measured then.
    since: Time,
    told: [Option<Box<Record>>; KINDS.len()],
}

impl Recorder {
    /// Begins at `now`.
    pub(crate) fn new(now: Time) -> Recorder {
        Recorder { kinds: Default::default(), since: now, told: Default::default() }
    }

    /// A request was answered, or refused, after so long.
    pub(crate) fn record(&mut self, kind: RequestKind, latency: Span, response: &Response) {
        let record = self.kinds[kind as usize].get_or_insert_with(|| Box::new(Record::new()));
        if matches!(response, Response::Refused(_)) {
            record.refused += 1;
        } else {
            record.latencies.saturating_record(latency.0.max(1));
            record.sum = record.sum.saturating_add(latency.0);
        }
    }

    /// What was measured since this was asked last.
    pub(crate) fn take(&mut self, now: Time) -> Performance {
        let row = |(index, (_, name)): (usize, (RequestKind, &str))| {
            let record = self.kinds[index].as_ref()?.since(self.told[index].as_deref());
            let quantile = |q| record.latencies.value_at_quantile(q);
            let any = !record.latencies.is_empty() || record.refused > 0;
            any.then(|| KindPerformance {
                kind: name.to_owned(),
                count: record.latencies.len(),
                refused: record.refused,
                p50: quantile(0.5),
                p99: quantile(0.99),
                max: record.latencies.max(),
            })
        };
        let kinds = KINDS.into_iter().enumerate().filter_map(row).collect();
        let window = now.since(self.since).0;
        (self.since, self.told) = (now, self.kinds.clone());
        Performance { window, kinds }
    }

    /// Everything since the start, by kind; the times counted by these bounds, which grow.
    pub(crate) fn totals(&self, bounds: &[Span]) -> Vec<KindTotals> {
        let total = |(record, (_, kind)): (&Option<Box<Record>>, (RequestKind, &'static str))| {
            let record = record.as_ref()?;
            let Record { latencies, sum, refused } = &**record;
            let mut buckets: Vec<(Span, u64)> = bounds.iter().map(|bound| (*bound, 0)).collect();
            for step in latencies.iter_recorded() {
                let least = latencies.lowest_equivalent(step.value_iterated_to());
                if let Some((_, count)) = buckets.iter_mut().find(|(bound, _)| least <= bound.0) {
                    *count += step.count_since_last_iteration();
                }
            }
            Some(KindTotals { kind, buckets, count: latencies.len(), sum: *sum, refused: *refused })
        };
        self.kinds.iter().zip(KINDS).filter_map(total).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drachma_protocol::ids::Slot;
    use drachma_protocol::message::client::{ReadDone, Why};

    #[test]
    fn kinds_stand_at_their_numbers() {
        for (index, (kind, name)) in KINDS.into_iter().enumerate() {
            assert_eq!(kind as usize, index, "{name}");
        }
    }

    #[test]
    fn quantiles_are_those_since_the_last_question() {
        let mut recorder = Recorder::new(Time(0));
        let good = Response::Read(ReadDone { account: None, slot: Slot(0) });
        for latency in 1..=100 {
            recorder.record(RequestKind::Balance, Span(latency * 1000), &good);
        }
        recorder.record(RequestKind::Balance, Span(1), &Response::refused(Why::NotLeader));
        let told = recorder.take(Time(5_000_000));
        let [row] = &told.kinds[..] else { panic!("{told:?}") };
        assert_eq!((told.window, row.kind.as_str(), row.count, row.refused), (5_000_000, "balance", 100, 1));
        assert!(row.p50.abs_diff(50_000) <= 1_000 && row.p99.abs_diff(99_000) <= 1_000, "{row:?}");
        assert!(row.max.abs_diff(100_000) <= 1_000, "{row:?}");
        let empty = recorder.take(Time(6_000_000));
        assert_eq!((empty.window, empty.kinds.len()), (1_000_000, 0));
        recorder.record(RequestKind::Balance, Span(7), &good);
        let [row] = &recorder.take(Time(7_000_000)).kinds[..] else { panic!("one kind was asked for") };
        assert_eq!((row.count, row.refused, row.p50, row.max), (1, 0, 7, 7));
    }

    #[test]
    fn totals_are_those_since_the_start_whoever_asked_meanwhile() {
        let mut recorder = Recorder::new(Time(0));
        let good = Response::Read(ReadDone { account: None, slot: Slot(0) });
        for latency in [1, 100, 101, 10_000, 2_000_000] {
            recorder.record(RequestKind::Balance, Span(latency), &good);
            recorder.take(Time(latency));
        }
        recorder.record(RequestKind::Balance, Span(1), &Response::refused(Why::NotLeader));
        let totals = recorder.totals(&[Span(100), Span(1_000), Span(1_000_000)]);
        let [row] = &totals[..] else { panic!("one kind was asked for") };
        assert_eq!(row.buckets, [(Span(100), 2), (Span(1_000), 1), (Span(1_000_000), 1)]);
        assert_eq!((row.kind, row.count, row.sum, row.refused), ("balance", 5, 2_010_202, 1));
    }
}
