//! How much a step does. No step may take longer than a millisecond: replicas are equal, so what stalls one stalls all of
//! them at the same slot, and a failover does not help.
//!
//! Simulated steps take no time, so their work is counted and priced. The prices are those of a slow core, rounded up;
//! they are meant to catch work that grows with the state or with a backlog, not to measure.

use drachma_protocol::message::{LocalMessage, Message, PaxosMessage};
use drachma_protocol::role::Effect;

/// What a step may cost, in nanoseconds: the millisecond of the design.
pub(super) const MOST: u64 = 1_000_000;

/// An operation of the ledger.
const OPERATION: u64 = 1_000;
/// A message, a record or an answer: made, put into a queue, encoded.
const MESSAGE: u64 = 500;
/// An entry, a command or a row that is handed from one role to another.
const ITEM: u64 = 50;
/// Bytes that are copied in a nanosecond.
const BYTES: u64 = 4;

/// The work of one step.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Work {
    /// Operations of the ledger.
    pub(super) operations: u64,
    /// Messages, records, answers.
    pub(super) messages: u64,
    /// Entries, commands, rows.
    pub(super) items: u64,
    /// Bytes of entries.
    pub(super) bytes: u64,
}

impl Work {
    /// Takes note of an effect.
    pub(super) fn add(&mut self, effect: &Effect) {
        self.messages += 1;
        match effect {
            Effect::Send { message: Message::Paxos(message), .. } => self.add_paxos(message),
            Effect::Send { message: Message::Local(message), .. } => {
                self.items += match message {
                    LocalMessage::Serve(serve) => serve.coordinated.len() + serve.in_doubt.len(),
                    LocalMessage::Propose(commands) => commands.len(),
                    LocalMessage::Read(reads) => reads.reads.len(),
                    LocalMessage::Answers(answers) => answers.len(),
                    LocalMessage::Events(events) => events.len(),
                    _ => 0,
                } as u64;
            }
            Effect::Persist { records, .. } => self.items += records.len() as u64,
            Effect::Trace(_) => self.messages -= 1,
            _ => {}
        }
    }

    fn add_paxos(&mut self, message: &PaxosMessage) {
        let entries = match message {
            PaxosMessage::Promise(promise) => &promise.get().entries,
            PaxosMessage::Synchronise(synchronise) => &synchronise.entries,
            PaxosMessage::ChosenEntries(chosen) => &chosen.entries,
            PaxosMessage::Accept(accept) => return self.bytes += accept.entry.len() as u64,
            _ => return,
        };
        self.items += entries.len() as u64;
        self.bytes += entries.iter().map(|entry| entry.len() as u64).sum::<u64>();
    }

    /// What it cost, in nanoseconds.
    pub(super) fn cost(&self) -> u64 {
        self.operations * OPERATION + self.messages * MESSAGE + self.items * ITEM + self.bytes / BYTES
    }
}

#[cfg(test)]
mod tests {
    use drachma_protocol::ids::{GroupId, NodeId};
    use drachma_protocol::role::{Address, Effects, RoleKind};

    use super::*;

    #[test]
    fn a_full_slice_of_applying_is_allowed_and_two_are_not() {
        assert!(Work { operations: 512, messages: 600, ..Work::default() }.cost() <= MOST);
        assert!(Work { operations: 1024, ..Work::default() }.cost() > MOST);
    }

    #[test]
    fn what_grows_with_a_backlog_is_seen() {
        let me = Address { node: NodeId(1), group: GroupId(1), role: RoleKind::Coordinator };
        let mut effects = Effects::new(me);
        effects.send_local(RoleKind::Leader, LocalMessage::Propose(Vec::new()));
        let mut work = Work::default();
        while let Some(effect) = effects.pop() {
            (0..3000).for_each(|_| work.add(&effect));
        }
        assert!(work.cost() > MOST);
    }
}
