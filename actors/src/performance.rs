//! How long requests take, by kind, since somebody last asked.
//!
//! Measured at the gateway, from the moment a request was read to the moment its answer was encoded. Histograms have
//! two significant digits; one takes memory only once its kind was asked for.

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
    /// An id is looked up.
    Lookup,
    /// The shard map.
    Map,
    /// The command line's own.
    Operator,
}

const KINDS: [(RequestKind, &str); 12] = [
    (RequestKind::Transfer, "transfer"),
    (RequestKind::Transact, "transact"),
    (RequestKind::Balance, "balance"),
    (RequestKind::CreateAccounts, "create_accounts"),
    (RequestKind::Register, "register"),
    (RequestKind::Fence, "fence"),
    (RequestKind::Transaction, "transaction"),
    (RequestKind::TransactOver, "transact_over"),
    (RequestKind::Query, "query"),
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
            Call::Query(_) => RequestKind::Query,
            Call::Read(_) => RequestKind::Balance,
            Call::Fence(_) => RequestKind::Fence,
            Call::Lookup(_) => RequestKind::Lookup,
            Call::Map(_) => RequestKind::Map,
            Call::Operator(_) => RequestKind::Operator,
        }
    }
}

struct Record {
    latencies: Histogram<u64>,
    refused: u64,
}

/// Measures until it is asked.
pub(crate) struct Recorder {
    since: Time,
    kinds: [Option<Box<Record>>; KINDS.len()],
}

impl Recorder {
    /// Begins at `now`.
    pub(crate) fn new(now: Time) -> Recorder {
        Recorder { since: now, kinds: Default::default() }
    }

    /// A request was answered, or refused, after so long.
    pub(crate) fn record(&mut self, kind: RequestKind, latency: Span, response: &Response) {
        let record = self.kinds[kind as usize].get_or_insert_with(|| {
            let latencies = Histogram::new_with_bounds(1, LONGEST, 2).expect("these bounds are valid constants");
            Box::new(Record { latencies, refused: 0 })
        });
        if matches!(response, Response::Refused(_)) {
            record.refused += 1;
        } else {
            record.latencies.saturating_record(latency.0.max(1));
        }
    }

    /// What was measured; begins anew.
    pub(crate) fn take(&mut self, now: Time) -> Performance {
        let told = std::mem::replace(self, Recorder::new(now));
        let row = |(index, record): (usize, Option<Box<Record>>)| {
            let record = record?;
            let quantile = |q| record.latencies.value_at_quantile(q);
            Some(KindPerformance {
                kind: KINDS[index].1.to_owned(),
                count: record.latencies.len(),
                refused: record.refused,
                p50: quantile(0.5),
                p99: quantile(0.99),
                max: record.latencies.max(),
            })
        };
        let kinds = told.kinds.into_iter().enumerate().filter_map(row).collect();
        Performance { window: now.since(told.since).0, kinds }
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
    }
}
