//! Begins that lie on their way from a coordinator to the leader on its node: what was proposed after them is there
//! before them, or the node has lost the lead meanwhile. Then they come when it leads again, under another ballot, and are
//! void (hazard S35).
//!
//! None comes twice: a copy that came after its attempt was forgotten would begin it anew, with nobody to end it.

use drachma_protocol::ids::GroupId;
use drachma_protocol::message::command::Command;
use drachma_protocol::message::{LocalMessage, Message};
use drachma_protocol::role::{Address, Input};

use super::World;
use super::events::Event;
use crate::coverage::{self, Kind, Wire};
use crate::draw::{exponential, permille};

/// What is on its way.
#[derive(Default)]
pub(super) struct Proposals {
    last: u64,
    held: Vec<Held>,
}

struct Held {
    number: u64,
    node: usize,
    boot: u32,
    from: Address,
    to: Address,
    begins: Vec<Command>,
    // Its node no longer leads as it did.
    deposed: bool,
}

impl World<'_> {
    /// What comes at once of a message on a node.
    pub(super) fn hold_up(
        &mut self,
        (node, boot): (usize, u32),
        (from, to): (Address, Address),
        message: Message,
    ) -> Message {
        match message {
            Message::Local(LocalMessage::Follow(follow)) => {
                let lost = self.late.held.iter_mut().filter(|held| held.node == node && held.from == to);
                lost.for_each(|held| held.deposed = true);
                Message::Local(LocalMessage::Follow(follow))
            }
            Message::Local(LocalMessage::Propose(commands)) if self.swarm.late > 0 && !self.healed => {
                let is_begin = |command: &Command| matches!(command, Command::Begin(_));
                if !commands.iter().any(is_begin) || !permille(&mut self.rng, self.swarm.late) {
                    return Message::Local(LocalMessage::Propose(commands));
                }
                let (begins, others) = commands.into_iter().partition(is_begin);
                self.late.last += 1;
                let number = self.late.last;
                self.late.held.push(Held { number, node, boot, from, to, begins, deposed: false });
                let at = self.now + 1 + exponential(&mut self.rng, self.swarm.mean_late);
                self.at(at, Event::Late { number });
                Message::Local(LocalMessage::Propose(others))
            }
            other => other,
        }
    }

    pub(super) fn on_late(&mut self, number: u64) {
        self.let_come(|held| held.number == number && !held.deposed, 0);
    }

    /// A coordinator begins to serve: what it proposed when its node led before comes now.
    pub(super) fn begin_again(&mut self, node: usize, group: GroupId) {
        let delay = exponential(&mut self.rng, self.swarm.network.mean_delay);
        self.let_come(|held| held.node == node && held.from.group == group, delay);
    }

    /// Nothing is late any more.
    pub(super) fn hurry(&mut self) {
        self.let_come(|held| !held.deposed, 0);
    }

    fn let_come(&mut self, which: impl Fn(&Held) -> bool, delay: u64) {
        let come: Vec<Held> = self.late.held.extract_if(.., |held| which(held)).collect();
        for Held { node, boot, from, to, begins, .. } in come {
            self.count(Kind::Wire, coverage::wire(Wire::Late));
            let input = Input::Message { from, message: Message::Local(LocalMessage::Propose(begins)) };
            self.at(self.now + delay, Event::Echo { node, boot, to, input: Box::new(input) });
        }
    }
}
