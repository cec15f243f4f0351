//! Mailboxes: how everything on this node reaches a role.
//!
//! Actix mailboxes are unbounded and tell nothing about themselves, so each is wrapped with a [`Gauge`]: how many
//! messages wait, how many bytes that came from outside they hold, how many were handled. Who brings something from
//! outside asks [`Mailbox::is_full`] first. A message is a batch: all inputs of one socket read, or of one handler
//! run of a sibling.
//!
//! The [`Roster`] knows every mailbox of the node. It is filled once, after all actors exist and before any of them
//! gets its first message: actors start asleep, so nobody looks too early.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use actix::{Message, Recipient};
use drachma_protocol::ids::{GroupId, Origin};
use drachma_protocol::message::client::Response;
use drachma_protocol::message::operator::ActorStatus;
use drachma_protocol::role::{Input, RoleKind};

/// Bytes from outside that may wait in one mailbox; peers' messages beyond are dropped.
pub(crate) const MAILBOX_BYTES: u64 = 64 * 1024 * 1024;

/// A batch of inputs for a role.
pub(crate) struct Inbound {
    /// What comes, in order.
    pub(crate) inputs: Vec<Input>,
    /// How many bytes of frames it was.
    pub(crate) bytes: usize,
}

impl Message for Inbound {
    type Result = ();
}

/// Queued by an actor to itself, behind what has arrived: the turn ends.
pub(crate) struct EndOfTurn;

impl Message for EndOfTurn {
    type Result = ();
}

/// Stop; answered when nothing more will be done.
pub(crate) struct Halt;

impl Message for Halt {
    type Result = ();
}

/// Answers of one handler run, for the gateway.
pub(crate) struct Replies(pub(crate) Vec<(Origin, Response)>);

impl Message for Replies {
    type Result = ();
}

/// What waits in a mailbox, and what has passed through it.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    depth: AtomicU64,
    bytes: AtomicU64,
    handled: AtomicU64,
}

impl Gauge {
    /// A message was sent.
    pub(crate) fn sent(&self, bytes: usize) {
        self.depth.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A message is being handled.
    pub(crate) fn handled(&self, bytes: usize) {
        self.depth.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
        self.handled.fetch_add(1, Ordering::Relaxed);
    }

    /// For people.
    pub(crate) fn status(&self, group: GroupId, role: &str) -> ActorStatus {
        ActorStatus {
            group,
            role: role.to_owned(),
            depth: self.depth.load(Ordering::Relaxed),
            handled: self.handled.load(Ordering::Relaxed),
        }
    }
}

/// The way to a role of this node, from any thread.
#[derive(Clone)]
pub(crate) struct Mailbox {
    recipient: Recipient<Inbound>,
    gauge: Arc<Gauge>,
}

impl Mailbox {
    /// The way to an actor that tells `gauge` what it handles.
    pub(crate) fn new(recipient: Recipient<Inbound>, gauge: Arc<Gauge>) -> Mailbox {
        Mailbox { recipient, gauge }
    }

    /// Queues a batch; `bytes` of it came from outside.
    pub(crate) fn deliver(&self, inputs: Vec<Input>, bytes: usize) {
        self.gauge.sent(bytes);
        self.recipient.do_send(Inbound { inputs, bytes });
    }

    /// Whether a peer's message has no room.
    pub(crate) fn is_full(&self) -> bool {
        self.gauge.bytes.load(Ordering::Relaxed) > MAILBOX_BYTES
    }
}

/// The mailboxes of one group, in the order of [`RoleKind::ALL`].
pub(crate) type GroupMailboxes = [Mailbox; 4];

/// The way to the gateway, from any thread.
#[derive(Clone)]
pub(crate) struct GatewayMailbox {
    recipient: Recipient<Replies>,
    gauge: Arc<Gauge>,
}

impl GatewayMailbox {
    /// The way to an actor that tells `gauge` what it handles.
    pub(crate) fn new(recipient: Recipient<Replies>, gauge: Arc<Gauge>) -> GatewayMailbox {
        GatewayMailbox { recipient, gauge }
    }

    /// Queues answers.
    pub(crate) fn deliver(&self, replies: Vec<(Origin, Response)>) {
        self.gauge.sent(0);
        self.recipient.do_send(Replies(replies));
    }
}

struct Entries {
    groups: BTreeMap<GroupId, GroupMailboxes>,
    gateway: GatewayMailbox,
}

/// Every mailbox of the node.
#[derive(Clone, Default)]
pub(crate) struct Roster(Arc<OnceLock<Entries>>);

impl Roster {
    /// Fills it, once.
    ///
    /// # Panics
    /// If it was filled before.
    pub(crate) fn fill(&self, groups: BTreeMap<GroupId, GroupMailboxes>, gateway: GatewayMailbox) {
        assert!(self.0.set(Entries { groups, gateway }).is_ok(), "a node is assembled once");
    }

    fn entries(&self) -> &Entries {
        self.0.get().expect("no actor gets a message before the roster is filled")
    }

    /// The way to a role; nothing if its group is not here.
    pub(crate) fn role(&self, group: GroupId, role: RoleKind) -> Option<&Mailbox> {
        self.entries().groups.get(&group).map(|mailboxes| &mailboxes[role as usize])
    }

    /// The way to all roles of a group.
    pub(crate) fn group(&self, group: GroupId) -> &[Mailbox] {
        self.entries().groups.get(&group).map_or(&[], |mailboxes| mailboxes.as_slice())
    }

    /// The groups of this node.
    pub(crate) fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        self.entries().groups.keys().copied()
    }

    /// The way to the gateway.
    pub(crate) fn gateway(&self) -> &GatewayMailbox {
        &self.entries().gateway
    }

    /// Every role actor and the gateway.
    pub(crate) fn status(&self) -> Vec<ActorStatus> {
        let entries = self.entries();
        let roles = entries.groups.iter().flat_map(|(group, mailboxes)| {
            RoleKind::ALL.iter().zip(mailboxes).map(|(role, mailbox)| mailbox.gauge.status(*group, name(*role)))
        });
        roles.chain([entries.gateway.gauge.status(GroupId(0), "gateway")]).collect()
    }
}

/// A role's name for people.
pub(crate) fn name(role: RoleKind) -> &'static str {
    match role {
        RoleKind::Replica => "replica",
        RoleKind::Leader => "leader",
        RoleKind::Coordinator => "coordinator",
        RoleKind::Participant => "participant",
    }
}
