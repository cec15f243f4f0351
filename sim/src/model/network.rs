//! What is on its way between the nodes of a model: a bag without order, so every order of arrival is a path.

use std::fmt;
use std::hash::{Hash, Hasher};

use drachma_protocol::role::Address;

use super::shared::Shared;

/// More copies of one message than this are as good as lost: nothing is sent so often without timers.
const COPIES: u8 = 2;

/// A message with its way.
#[derive(Clone, Debug)]
pub(super) struct Envelope<M> {
    pub(super) from: Address,
    pub(super) to: Address,
    pub(super) message: M,
}

/// The messages on their way, by digest, with the number of copies.
pub(super) struct Network<M> {
    messages: Vec<(Shared<Envelope<M>>, u8)>,
}

// Derived, these would ask the same of the messages.
impl<M> Clone for Network<M> {
    fn clone(&self) -> Network<M> {
        Network { messages: self.messages.clone() }
    }
}

impl<M> Hash for Network<M> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.messages.hash(state);
    }
}

impl<M> PartialEq for Network<M> {
    fn eq(&self, other: &Network<M>) -> bool {
        self.messages == other.messages
    }
}

impl<M> Network<M> {
    pub(super) fn new() -> Network<M> {
        Network { messages: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Every message once, in a fixed order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Shared<Envelope<M>>> {
        self.messages.iter().map(|(envelope, _)| envelope)
    }

    pub(super) fn add(&mut self, envelope: Shared<Envelope<M>>) {
        match self.find(&envelope) {
            Ok(index) => self.messages[index].1 = (self.messages[index].1 + 1).min(COPIES),
            Err(index) => self.messages.insert(index, (envelope, 1)),
        }
    }

    /// Takes one copy out.
    pub(super) fn take(&mut self, envelope: &Shared<Envelope<M>>) {
        if let Ok(index) = self.find(envelope) {
            self.messages[index].1 -= 1;
            if self.messages[index].1 == 0 {
                self.messages.remove(index);
            }
        }
    }

    /// Takes one copy of the first message out.
    pub(super) fn pop(&mut self) -> Option<Shared<Envelope<M>>> {
        let first = self.iter().next().cloned();
        first.inspect(|envelope| self.take(envelope))
    }

    fn find(&self, envelope: &Shared<Envelope<M>>) -> Result<usize, usize> {
        self.messages.binary_search_by_key(&envelope.digest(), |(other, _)| other.digest())
    }
}

impl<M: fmt::Debug> fmt::Debug for Network<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.messages).finish()
    }
}

#[cfg(test)]
mod tests {
    use drachma_protocol::ids::{GroupId, NodeId};
    use drachma_protocol::role::RoleKind;

    use super::*;

    #[test]
    fn copies_are_counted_and_the_order_of_sending_does_not_matter() {
        let at = |node| Address { node: NodeId(node), group: GroupId(1), role: RoleKind::Leader };
        let envelope = |text| Shared::new(Envelope { from: at(1), to: at(2), message: text });
        let (mut one, mut other) = (Network::new(), Network::new());
        for text in ["a", "b", "b"] {
            one.add(envelope(text));
        }
        for text in ["b", "a", "b"] {
            other.add(envelope(text));
        }
        assert!(one == other);
        assert_eq!(one.iter().count(), 2);
        one.take(&envelope("b"));
        assert_eq!(one.iter().count(), 2);
        one.take(&envelope("b"));
        one.take(&envelope("a"));
        assert!(one.is_empty());
    }
}
