//! The sessions of a client: several identities, each registered in a group when something there needs it.

use std::collections::{BTreeMap, BTreeSet};

use drachma_protocol::ids::{GroupId, Session, SessionId};
use drachma_protocol::ledger::model::NewAccount;
use drachma_protocol::rng::Rng;

use super::exchange::Part;
use crate::draw::{between, permille};

/// How many of 1,000 sequence numbers leave a gap wider than a session's window.
const GAPS: u64 = 2;

/// Something that waits for its session to be registered.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) identity: usize,
    pub(super) group: GroupId,
    pub(super) accounts: Vec<NewAccount>,
    pub(super) part: Option<Part>,
}

/// The sessions of a client.
#[derive(Debug)]
pub(super) struct Sessions {
    identities: Vec<(SessionId, u64)>,
    known: BTreeMap<(usize, GroupId), Session>,
    pub(super) registering: BTreeSet<(usize, GroupId)>,
    pub(super) pending: Vec<Pending>,
}

impl Sessions {
    /// New identities, registered nowhere.
    pub(super) fn new(rng: &mut Rng, count: u64) -> Sessions {
        Sessions {
            identities: (0..count.max(1)).map(|_| (SessionId(rng.next_u128()), 1)).collect(),
            known: BTreeMap::new(),
            registering: BTreeSet::new(),
            pending: Vec::new(),
        }
    }

    /// One of the identities.
    pub(super) fn pick(&self, rng: &mut Rng) -> usize {
        rng.below(self.identities.len() as u64) as usize
    }

    pub(super) fn id(&self, identity: usize) -> SessionId {
        self.identities[identity].0
    }

    /// The session of an identity in a group, if it is registered there.
    pub(super) fn in_group(&self, identity: usize, group: GroupId) -> Option<Session> {
        self.known.get(&(identity, group)).copied()
    }

    /// The next sequence number of an identity.
    pub(super) fn sequence(&mut self, rng: &mut Rng, identity: usize) -> u64 {
        let next = &mut self.identities[identity].1;
        let sequence = *next;
        *next += if permille(rng, GAPS) { between(rng, 1000, 3000) } else { 1 };
        sequence
    }

    /// An identity is registered; what waited for it is to be sent now. A second answer is of no use.
    pub(super) fn registered(&mut self, identity: usize, group: GroupId, session: Session) -> Vec<Pending> {
        self.registering.remove(&(identity, group));
        if session.id != self.id(identity) {
            return Vec::new();
        }
        self.known.entry((identity, group)).or_insert(session);
        let is_ready = |pending: &mut Pending| (pending.identity, pending.group) == (identity, group);
        self.pending.extract_if(.., is_ready).collect()
    }

    /// A group does not know a session (any more): it is not used again. The identity comes back under another
    /// registration, or there is a new one.
    pub(super) fn lose(&mut self, rng: &mut Rng, session: Session) {
        self.known.retain(|_, known| *known != session);
        if rng.chance(50) {
            return;
        }
        if let Some(identity) = self.identities.iter().position(|(id, _)| *id == session.id) {
            self.identities[identity] = (SessionId(rng.next_u128()), 1);
            self.known.retain(|(of, _), _| *of != identity);
        }
    }
}
