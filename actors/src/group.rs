//! One group on this node: its four actors and its links, all on one thread.

use std::rc::Rc;
use std::sync::Arc;

use actix::{Addr, AsyncContext, Context, Recipient};
use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::ledger::Ledger;
use drachma_protocol::log::record::Recovered;
use drachma_protocol::role::{Address, Input, Role, RoleKind};
use tokio::sync::{Notify, oneshot};

use crate::actor::{Kind, RoleActor};
use crate::clock::Clock;
use crate::coordinator::CoordinatorActor;
use crate::counters::Counters;
use crate::leader::LeaderActor;
use crate::mailbox::{Gauge, GroupMailboxes, Halt, Mailbox, Roster};
use crate::participant::ParticipantActor;
use crate::replica::ReplicaActor;
use crate::roles::{Birth, RoleFactory};
use crate::shell::{Log, Shell, Wiring};
use crate::transport::{Identity, Links};

/// What a group needs; can be brought to another thread.
pub(crate) struct GroupPlan {
    /// Which group.
    pub(crate) group: GroupId,
    /// What the directory held of it.
    pub(crate) recovered: Recovered,
    /// The state at which its log begins, if that is not the very first one.
    pub(crate) ledger: Option<Box<Ledger>>,
    /// Builds its roles.
    pub(crate) factory: Arc<dyn RoleFactory>,
    /// Who this node is.
    pub(crate) identity: Identity,
    /// Every node with its address.
    pub(crate) nodes: Vec<(NodeId, String)>,
    /// Bytes that may wait for one peer.
    pub(crate) link_bytes: usize,
    /// Of the links' pauses.
    pub(crate) seed: u64,
    /// The node's clock.
    pub(crate) clock: Clock,
    /// The node's mailboxes.
    pub(crate) roster: Roster,
    /// The node's log.
    pub(crate) log: Arc<dyn Log>,
    /// The node's counts.
    pub(crate) counters: Arc<Counters>,
}

/// A group that is assembled and asleep.
pub(crate) struct StartedGroup {
    /// The ways to its roles.
    pub(crate) mailboxes: GroupMailboxes,
    /// The ways to stop them.
    pub(crate) halts: Vec<Recipient<Halt>>,
    /// Of its links.
    pub(crate) bells: Vec<(NodeId, Arc<Notify>)>,
    /// Wakes it.
    pub(crate) begin: oneshot::Sender<()>,
}

/// Assembles a group on the current thread. It sleeps until it is told to begin, which must not be before the roster
/// is filled.
pub(crate) fn start(plan: GroupPlan) -> StartedGroup {
    let own = plan.identity.node;
    let links = Rc::new(Links::new(own, &plan.nodes, plan.link_bytes, plan.counters.clone()));
    let wiring = Wiring {
        clock: plan.clock,
        roster: plan.roster.clone(),
        links: links.clone(),
        log: plan.log,
        counters: plan.counters,
    };
    let shell = |role, pure| Shell::new(Address { node: own, group: plan.group, role }, pure, wiring.clone());
    let birth = Birth {
        group: plan.group,
        directory: plan.identity.directory,
        recovered: plan.recovered,
        ledger: plan.ledger,
        wall: plan.clock.wall(),
    };
    let [replica, leader, coordinator, participant] = plan.factory.build(birth);
    let (replica, halt_replica) = start_role(ReplicaActor::new, replica, &shell);
    let (leader, halt_leader) = start_role(LeaderActor::new, leader, &shell);
    let (coordinator, halt_coordinator) = start_role(CoordinatorActor::new, coordinator, &shell);
    let (participant, halt_participant) = start_role(ParticipantActor::new, participant, &shell);
    let (begin, begun) = oneshot::channel();
    let bells = links.bells();
    let (roster, group, identity, seed) = (plan.roster, plan.group, Rc::new(plan.identity), plan.seed);
    actix_rt::spawn(async move {
        if begun.await.is_err() {
            return; // The node did not start.
        }
        let tell: Rc<dyn Fn(NodeId, bool)> = {
            let roster = roster.clone();
            Rc::new(move |node, up| {
                for mailbox in roster.group(group) {
                    mailbox.deliver(vec![Input::Link { node, up }], 0);
                }
            })
        };
        links.start(&identity, seed, &tell);
        // An empty batch: the first turn, after which the roles' deadlines count.
        for mailbox in roster.group(group) {
            mailbox.deliver(Vec::new(), 0);
        }
    });
    StartedGroup {
        mailboxes: [replica, leader, coordinator, participant],
        halts: vec![halt_leader, halt_coordinator, halt_participant, halt_replica],
        bells,
        begin,
    }
}

fn start_role<K: Kind>(
    actor: impl FnOnce(Shell, Arc<Gauge>, Addr<RoleActor<K>>) -> RoleActor<K>,
    role: Box<dyn Role>,
    shell: &impl Fn(RoleKind, Box<dyn Role>) -> Shell,
) -> (Mailbox, Recipient<Halt>) {
    let context = Context::<RoleActor<K>>::new();
    let address = context.address();
    let gauge = Arc::new(Gauge::default());
    context.run(actor(shell(K::ROLE, role), gauge.clone(), address.clone()));
    (Mailbox::new(address.clone().recipient(), gauge), address.recipient())
}
