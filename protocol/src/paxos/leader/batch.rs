//! Commands that wait for a slot.
//!
//! There is no timer: a batch closes when the pipeline has room. The roles of this node come first, since what they
//! propose relieves others; then the clients' connections in turn, so that one with large batches does not starve one
//! with single transfers.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{CommandRef, Origin, Slot};
use crate::message::client::{Response, Why};
use crate::message::command::{ClientCommand, Command, Fence};
use crate::role::{Effect, Effects};
use crate::time::{Span, Time};

use super::clients::Waiting;
use super::levels::Wanted;
use super::pipeline::Leading;

/// The bytes of one entry's commands; a larger command goes alone.
const ENTRY_BYTES: usize = 1024 * 1024;
/// So many commands that have expired are refused at once.
const EXPIRED_SLICE: usize = 256;
/// What the envelope of a command adds to its body, about.
const ENVELOPE_BYTES: usize = 64;
/// Bytes of clients' commands that may wait.
const WAITING_BYTES: usize = 64 * 1024 * 1024;

/// A client's command that waits.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) origin: Origin,
    pub(super) wanted: Wanted,
    pub(super) arrived: Time,
    pub(super) deadline: Span,
    pub(super) command: ClientWork,
}

/// What a client wants in the log.
#[derive(Clone, Debug)]
pub(super) enum ClientWork {
    Command(ClientCommand),
    Fence(Fence),
}

impl ClientWork {
    fn bytes(&self) -> usize {
        match self {
            ClientWork::Command(command) => command.body.len() + ENVELOPE_BYTES,
            ClientWork::Fence(_) => ENVELOPE_BYTES,
        }
    }
}

/// Commands that wait for a slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    internal: VecDeque<Command>,
    connections: BTreeMap<u64, VecDeque<Pending>>,
    turns: VecDeque<u64>,
    bytes: usize,
    count: usize,
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        self.internal.len() + self.count
    }

    pub(super) fn push_internal(&mut self, commands: Vec<Command>) {
        self.internal.extend(commands);
    }

    /// Adds a client's command; returns false if too much waits already.
    pub(super) fn push(&mut self, pending: Pending) -> bool {
        let bytes = pending.command.bytes();
        if self.bytes + bytes > WAITING_BYTES {
            return false;
        }
        self.bytes += bytes;
        self.count += 1;
        let connection = pending.origin.connection;
        let queue = self.connections.entry(connection).or_default();
        if queue.is_empty() {
            self.turns.push_back(connection);
        }
        queue.push_back(pending);
        true
    }

    /// The next client's command, if it fits `room`.
    fn pop(&mut self, room: usize) -> Option<Pending> {
        let connection = *self.turns.front()?;
        let queue = self.connections.get_mut(&connection)?;
        if queue.front()?.command.bytes() > room {
            return None;
        }
        let pending = queue.pop_front()?;
        self.turns.pop_front();
        if queue.is_empty() {
            self.connections.remove(&connection);
        } else {
            self.turns.push_back(connection);
        }
        self.bytes -= pending.command.bytes();
        self.count -= 1;
        Some(pending)
    }

    /// Everything that waits, of clients.
    pub(super) fn into_origins(self) -> impl Iterator<Item = Origin> {
        self.connections.into_values().flatten().map(|pending| pending.origin)
    }
}

impl Leading {
    /// The commands of the next entry; nothing if none waits. Clients' commands that have expired are refused.
    pub(super) fn next_batch(&mut self, slot: Slot, now: Time, effects: &mut Effects) -> Option<Vec<Command>> {
        let mut commands = Vec::new();
        let (mut bytes, mut expired) = (0, 0);
        while let Some(command) = self.batch.internal.front() {
            if !commands.is_empty() && bytes + command.bytes() > ENTRY_BYTES {
                break;
            }
            bytes += command.bytes();
            commands.extend(self.batch.internal.pop_front());
        }
        loop {
            let room = if commands.is_empty() { usize::MAX } else { ENTRY_BYTES.saturating_sub(bytes) };
            let Some(pending) = self.batch.pop(room) else { break };
            let waited = now.since(pending.arrived);
            if waited >= pending.deadline {
                effects.reply(pending.origin, Response::refused(Why::Expired));
                expired += 1;
                if expired == EXPIRED_SLICE {
                    effects.push(Effect::Again); // A leader that was paused may find thousands.
                    break;
                }
                continue;
            }
            bytes += pending.command.bytes();
            let index = commands.len() as u32;
            let place = CommandRef { slot, index };
            self.waiting.insert(place, Waiting::new(pending.origin, pending.wanted));
            self.await_own_disk(place, pending.wanted);
            let remaining = Span(pending.deadline.0 - waited.0);
            commands.push(match pending.command {
                ClientWork::Command(command) => Command::Client(ClientCommand { deadline: remaining, ..command }),
                ClientWork::Fence(fence) => Command::Fence(fence),
            });
        }
        if commands.is_empty() { None } else { Some(commands) }
    }
}
