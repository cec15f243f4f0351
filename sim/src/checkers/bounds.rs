//! Number 16: memory, log and messages are bounded per piece of work, as far as that shows from outside: messages and
//! bytes of log per operation that clients asked for, entries under way, transactions in doubt, operations that wait, and
//! the length of a message. What time alone brings (heartbeats, elections, questions that are asked again) is allowed
//! for by the time that passed. Calm runs are held to strict bounds; where things fail, what is sent again is allowed
//! for, too.

use bytes::Bytes;

use drachma_protocol::log::record::Record;
use drachma_protocol::message::client::{Call, Request};
use drachma_protocol::message::{Message, PaxosMessage};

use super::{Applied, Checker, End, Persisted, Sent, State, Verdict};
use crate::faults::Swarm;

/// A peer's frame has at most so many bytes.
const FRAME: usize = 4 * 1024 * 1024 + 64 * 1024;
/// A leader has at most so many entries under way; as many again may come from its predecessor.
const WINDOW: u64 = 8;

/// Messages of the protocols per piece of work and replica.
const MESSAGES: u64 = 12;
/// Bytes of log per piece of work and replica.
const BYTES: u64 = 1_500;
/// How often what a request says stands in the log of a replica: in a transaction's begin, its prepare and its tries.
const COPIES: u64 = 6;
/// Records of a log per piece of work and replica.
const RECORDS: u64 = 6;
/// Work that nobody asked for: elections, the first entries of leaders.
const BASE: u64 = 20;
/// Where things fail, everything under way may be sent again at this pace, in microseconds.
const AGAIN: u64 = 10_000;

/// See the module.
#[derive(Default)]
pub struct Bounds {
    calm: bool,
    heartbeat: u64,
    groups: u64,
    replicas: u64,
    limits: (u64, u64),
    now: u64,
    seen: Counted,
}

/// What was asked, and what it cost.
#[derive(Debug, Default)]
struct Counted {
    // Copies of requests, with one more for each transfer of a transaction.
    work: u64,
    // Copies of requests and of the transfers in them.
    volume: u64,
    // Bytes of requests.
    asked: u64,
    // Messages that work brings, and those that time brings.
    messages: u64,
    by_time: u64,
    bytes: u64,
    records: u64,
}

impl Bounds {
    /// What is allowed: per piece of work, and what time brings.
    fn judge(&self) -> Verdict {
        let (n, seen) = (self.replicas.max(1), &self.seen);
        let (work, volume) = (seen.work + BASE, seen.volume + BASE);
        let members = self.groups * n;
        let beats = self.now / self.heartbeat.max(1) + BASE;
        let again = if self.calm { 0 } else { self.now / AGAIN + BASE };
        let kinds = [
            ("messages", seen.messages, MESSAGES * n * work + WINDOW * members * again),
            // A round of heartbeats for each read and beat; in an election everybody asks everybody.
            ("messages that time brings", seen.by_time, 4 * n * work + 4 * members * (beats + n * again)),
            ("bytes of log", seen.bytes, n * (BYTES * volume + COPIES * seen.asked) * if self.calm { 1 } else { 3 }),
            ("records of log", seen.records, RECORDS * n * volume + members * again),
        ];
        match kinds.into_iter().find(|(_, count, most)| count > most) {
            Some((kind, count, most)) => Err(format!("{count} {kind}, more than {most}: {seen:?}, {n} replicas")),
            None => Ok(()),
        }
    }
}

impl Checker for Bounds {
    fn name(&self) -> &'static str {
        "bounds"
    }

    fn on_begin(&mut self, swarm: &Swarm) {
        let shape = &swarm.shape;
        self.calm = swarm.kinds.is_empty() && swarm.network.loss == 0 && swarm.network.straggler == 0;
        self.heartbeat = shape.heartbeat.0;
        self.groups = shape.groups.len() as u64;
        self.replicas = shape.groups.iter().map(|(_, nodes)| nodes.len() as u64).max().unwrap_or(0);
        let in_doubt = (shape.limits.in_doubt_per_group as u64).saturating_mul(self.groups);
        self.limits = (shape.limits.waiting as u64, in_doubt);
    }

    fn on_request(&mut self, _client: u32, request: &Request) -> Verdict {
        let (transfers, is_transaction, bytes) = match &request.call {
            Call::Command(command) => {
                (u64::from(command.count), command.kind.is_coordinated(), command.body.len() as u64)
            }
            _ => (0, false, 0),
        };
        self.seen.asked += bytes;
        self.seen.volume += 1 + transfers;
        self.seen.work += 1 + if is_transaction { transfers } else { 0 };
        Ok(())
    }

    fn on_message(&mut self, sent: &Sent<'_>) -> Verdict {
        self.now = sent.at;
        if sent.from.node == sent.to.node {
            return Ok(());
        }
        if sent.bytes > FRAME {
            return Err(format!("{} sends a message of {} bytes", sent.from.group, sent.bytes));
        }
        match sent.message {
            Message::Paxos(PaxosMessage::Accept(accept)) => {
                self.seen.messages += 1;
                let under_way = accept.slot.0.saturating_sub(accept.chosen.0);
                if under_way > 2 * WINDOW {
                    return Err(format!("{} has {under_way} entries under way", sent.from.group));
                }
            }
            Message::Paxos(PaxosMessage::Accepted(_) | PaxosMessage::Commit(_)) | Message::Txn(_) => {
                self.seen.messages += 1;
            }
            Message::Paxos(_) | Message::Local(_) => self.seen.by_time += 1,
        }
        Ok(())
    }

    fn on_persist(&mut self, persisted: &Persisted<'_>) -> Verdict {
        let length = |entries: &[Bytes]| entries.iter().map(|entry| entry.len() as u64).sum::<u64>();
        for record in persisted.records {
            self.seen.records += 1;
            self.seen.bytes += match record {
                Record::Accept(accept) => accept.entry.len() as u64,
                Record::Synchronise(record) => length(&record.entries),
                Record::Learn(record) => length(&record.entries),
                Record::Promise(_) | Record::Chosen(_) | Record::Doubt(_) | Record::Base(_) | Record::Snapshot(_) => 0,
            };
        }
        Ok(())
    }

    fn on_applied(&mut self, applied: &Applied<'_>) -> Verdict {
        let Some(State { totals, .. }) = applied.state else { return Ok(()) };
        let (waiting, in_doubt) = self.limits;
        let asked = self.seen.volume;
        if totals.waiting > waiting.min(asked) || totals.in_doubt > in_doubt.min(asked) {
            return Err(format!("{} on {} holds more than was asked for: {totals:?}", applied.group, applied.node));
        }
        Ok(())
    }

    fn at_end(&mut self, _end: &End<'_>) -> Verdict {
        self.judge()
    }
}
