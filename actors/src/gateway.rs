//! The gateway: brings clients' requests to the roles, and the roles' answers to the clients.
//!
//! [`Front`] is what the transport sees: it keeps the table of clients and hands requests over as messages.
//! [`GatewayActor`] routes them: a turn's requests for a role become one message, a turn's answers to a client one
//! write. What concerns the node itself (the map, counts, latencies) it answers on its own.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, Context, Handler};
use drachma_protocol::ids::{GroupId, NodeId, Origin};
use drachma_protocol::message::client::{Call, MapDone, Request, Response, Why};
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::message::hello::Refusal;
use drachma_protocol::message::operator::{HandOverCall, NodeStatus, OperatorAnswer, OperatorCall};
use drachma_protocol::role::{Address, Input, RoleKind};
use tokio::sync::{Notify, oneshot};

use crate::clock::Clock;
use crate::counters::Counters;
use crate::mailbox::{EndOfTurn, Gauge, Halt, Replies, Roster};
use crate::performance::Recorder;
use crate::transport::hello::goodbye;
use crate::transport::{Client, Doors};

/// The clients that are connected, by the number of their connection, which is never used again.
#[derive(Clone, Default)]
pub(crate) struct Clients(Rc<RefCell<HashMap<u64, Rc<Client>>>>);

impl Clients {
    fn get(&self, connection: u64) -> Option<Rc<Client>> {
        self.0.borrow().get(&connection).cloned()
    }

    /// Whether nobody is connected.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }
}

/// Requests of one read.
pub(crate) struct Requests(Vec<(Origin, Request)>);

impl actix::Message for Requests {
    type Result = ();
}

/// Hand over what this node leads; told when that is done, or has come to nothing. Clients are served meanwhile.
pub(crate) struct Leave(pub(crate) oneshot::Sender<()>);

impl actix::Message for Leave {
    type Result = ();
}

/// The connection of the node's own questions; clients' are numbered from 1.
const OWN: u64 = 0;

/// What the transport sees of the node.
pub(crate) struct Front {
    /// The way to the roles.
    pub(crate) roster: Roster,
    /// The table that is shared with the gateway.
    pub(crate) clients: Clients,
    /// The gateway.
    pub(crate) gateway: Addr<GatewayActor>,
    /// The gateway's gauge.
    pub(crate) gauge: Arc<Gauge>,
    /// Of the links to each peer.
    pub(crate) bells: BTreeMap<NodeId, Vec<Arc<Notify>>>,
    /// The node's counts.
    pub(crate) counters: Arc<Counters>,
}

impl Doors for Front {
    fn on_peer(&self, node: NodeId) {
        for bell in self.bells.get(&node).into_iter().flatten() {
            bell.notify_one();
        }
    }

    fn on_messages(&self, to: Address, inputs: Vec<Input>, bytes: usize) {
        let count = inputs.len() as u64;
        match self.roster.role(to.group, to.role) {
            None => self.counters.peer_messages_misrouted.add(count),
            Some(mailbox) if mailbox.is_full() => self.counters.peer_messages_dropped.add(count),
            Some(mailbox) => {
                self.counters.peer_messages.add(count);
                mailbox.deliver(inputs, bytes);
            }
        }
    }

    fn on_client(&self, client: Rc<Client>) {
        self.clients.0.borrow_mut().insert(client.connection, client);
    }

    fn on_requests(&self, requests: Vec<(Origin, Request)>) {
        self.gauge.sent(0);
        self.gateway.do_send(Requests(requests));
    }

    fn on_client_gone(&self, connection: u64) {
        self.clients.0.borrow_mut().remove(&connection);
    }
}

/// What the gateway says of the node when it is asked.
pub(crate) struct About {
    /// The node.
    pub(crate) node: NodeId,
    /// The shard map and where everything is.
    pub(crate) map: MapDone,
    /// The node's clock.
    pub(crate) clock: Clock,
    /// The node's counts.
    pub(crate) counters: Arc<Counters>,
}

/// The actor of the gateway.
pub(crate) struct GatewayActor {
    about: About,
    roster: Roster,
    clients: Clients,
    gauge: Arc<Gauge>,
    own: Addr<GatewayActor>,
    recorder: Recorder,
    // Of this turn: requests by role, and clients with answers to write.
    routed: Vec<(GroupId, RoleKind, Vec<Input>)>,
    answered: Vec<u64>,
    turning: bool,
    // The groups whose leaders have not said yet what became of their hand-over, and who waits for that.
    leaving: Option<(BTreeSet<u64>, oneshot::Sender<()>)>,
}

/// Who answers a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Desk {
    /// A role of the group that is named.
    Role(RoleKind),
    /// The gateway.
    Gateway,
}

impl Desk {
    fn of(call: &Call) -> Desk {
        match call {
            Call::Command(command) => match command.kind {
                CommandKind::Register | CommandKind::Transfers | CommandKind::CreateAccounts => {
                    Desk::Role(RoleKind::Leader)
                }
                CommandKind::Transact => Desk::Role(RoleKind::Coordinator),
            },
            Call::Read(_) | Call::Fence(_) => Desk::Role(RoleKind::Leader),
            Call::Lookup(_) => Desk::Role(RoleKind::Replica),
            Call::Map(_) => Desk::Gateway,
            Call::Operator(call) => match call {
                OperatorCall::NodeStatus(_) | OperatorCall::Performance(_) => Desk::Gateway,
                OperatorCall::LeaderStatus(_) | OperatorCall::HandOver(_) => Desk::Role(RoleKind::Leader),
                OperatorCall::ReplicaStatus(_)
                | OperatorCall::Accounts(_)
                | OperatorCall::Posted(_)
                | OperatorCall::PostedDigest(_)
                | OperatorCall::Log(_)
                | OperatorCall::Pending(_)
                | OperatorCall::Totals(_)
                | OperatorCall::Outcomes(_) => Desk::Role(RoleKind::Replica),
            },
        }
    }
}

impl GatewayActor {
    /// A gateway without clients.
    pub(crate) fn new(
        about: About,
        roster: Roster,
        clients: Clients,
        gauge: Arc<Gauge>,
        own: Addr<GatewayActor>,
    ) -> GatewayActor {
        let recorder = Recorder::new(about.clock.now());
        GatewayActor {
            about,
            roster,
            clients,
            gauge,
            own,
            recorder,
            routed: Vec::new(),
            answered: Vec::new(),
            turning: false,
            leaving: None,
        }
    }

    fn begin_turn(&mut self) {
        self.gauge.handled(0);
        if !self.turning {
            self.turning = true;
            self.own.do_send(EndOfTurn);
        }
    }

    fn route(&mut self, origin: Origin, request: Request) {
        match Desk::of(&request.call) {
            Desk::Gateway => {
                let response = self.own_answer(&request.call);
                self.answer(origin, &response);
            }
            Desk::Role(role) if self.roster.role(request.group, role).is_some() => {
                let group = request.group;
                let input = Input::Request { origin, request };
                match self.routed.iter_mut().find(|(g, r, _)| (*g, *r) == (group, role)) {
                    Some((.., inputs)) => inputs.push(input),
                    None => self.routed.push((group, role, vec![input])),
                }
            }
            Desk::Role(_) => {
                self.about.counters.requests_misrouted.bump();
                self.answer(origin, &Response::refused(Why::WrongNode));
            }
        }
    }

    fn own_answer(&mut self, call: &Call) -> Response {
        match call {
            Call::Map(_) => Response::Map(self.about.map.clone()),
            Call::Operator(OperatorCall::Performance(_)) => {
                let told = self.recorder.take(self.about.clock.now());
                Response::Operator(OperatorAnswer::Performance(told))
            }
            _ => Response::Operator(OperatorAnswer::NodeStatus(self.status())),
        }
    }

    fn status(&self) -> NodeStatus {
        NodeStatus {
            node: self.about.node,
            process: std::process::id(),
            uptime: self.about.clock.now().0,
            actors: self.roster.status(),
            counters: self.about.counters.all(),
        }
    }

    /// The node stops: what is led here is handed over to whoever is closest.
    fn leave(&mut self, done: oneshot::Sender<()>) {
        let groups: Vec<GroupId> = self.roster.groups().collect();
        self.leaving = Some((groups.iter().map(|group| u64::from(group.0)).collect(), done));
        for group in groups {
            let origin = Origin { connection: OWN, correlation: u64::from(group.0) };
            let call = Call::Operator(OperatorCall::HandOver(HandOverCall { target: None }));
            self.route(origin, Request { group, call });
        }
    }

    /// A leader has handed over, or could not, or was none.
    fn left(&mut self, group: u64, response: &Response) {
        tracing::debug!(node = %self.about.node, group, ?response, "hand-over at the stop");
        let Some((open, done)) = self.leaving.take() else { return };
        let open: BTreeSet<u64> = open.into_iter().filter(|other| *other != group).collect();
        if open.is_empty() {
            // Who waits may have lost patience.
            let _ = done.send(());
        } else {
            self.leaving = Some((open, done));
        }
    }

    fn answer(&mut self, origin: Origin, response: &Response) {
        if origin.connection == OWN {
            return self.left(origin.correlation, response);
        }
        let client = self.clients.get(origin.connection);
        let Some((client, waiting)) = client.and_then(|client| {
            let waiting = client.answer(origin.correlation, response)?;
            Some((client, waiting))
        }) else {
            return self.about.counters.answers_unwanted.bump();
        };
        let latency = self.about.clock.now().since(waiting.since);
        self.recorder.record(waiting.kind, latency, response);
        self.answered.push(client.connection);
    }
}

impl Actor for GatewayActor {
    type Context = Context<Self>;
}

impl Handler<Requests> for GatewayActor {
    type Result = ();

    fn handle(&mut self, Requests(requests): Requests, _: &mut Context<Self>) {
        self.begin_turn();
        for (origin, request) in requests {
            self.route(origin, request);
        }
    }
}

impl Handler<Replies> for GatewayActor {
    type Result = ();

    fn handle(&mut self, Replies(replies): Replies, _: &mut Context<Self>) {
        self.begin_turn();
        for (origin, response) in replies {
            self.answer(origin, &response);
        }
    }
}

impl Handler<Leave> for GatewayActor {
    type Result = ();

    fn handle(&mut self, Leave(done): Leave, _: &mut Context<Self>) {
        self.gauge.sent(0);
        self.begin_turn();
        self.leave(done);
    }
}

impl Handler<EndOfTurn> for GatewayActor {
    type Result = ();

    fn handle(&mut self, _: EndOfTurn, _: &mut Context<Self>) {
        self.turning = false;
        for (group, role, inputs) in self.routed.drain(..) {
            if let Some(mailbox) = self.roster.role(group, role) {
                mailbox.deliver(inputs, 0);
            }
        }
        self.answered.sort_unstable();
        self.answered.dedup();
        for connection in self.answered.drain(..) {
            if let Some(client) = self.clients.get(connection) {
                client.flush();
            }
        }
    }
}

impl Handler<Halt> for GatewayActor {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Context<Self>) {
        for client in self.clients.0.borrow().values() {
            client.dismiss(goodbye(Refusal::Stopping, "this node stops"));
        }
        ctx.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use drachma_protocol::ids::{AccountId, Epoch, Slot, TxnId};
    use drachma_protocol::message::client::{FenceCall, MapCall, ReadCall};
    use drachma_protocol::message::command::ClientCommand;
    use drachma_protocol::message::operator::{AccountsCall, Nothing, OutcomesCall, PageCall};
    use drachma_protocol::time::Span;

    fn command(kind: CommandKind) -> Call {
        let (deadline, epoch) = (Span(1), Epoch(1));
        let body = bytes::Bytes::new();
        Call::Command(ClientCommand { kind, session: None, sequence: 0, deadline, epoch, count: 0, body })
    }

    #[test]
    fn every_call_has_its_desk() {
        use Desk::{Gateway, Role};
        use RoleKind::{Coordinator, Leader, Replica};
        let fence = FenceCall { txn: TxnId::default(), deadline: Span(1) };
        let read = ReadCall { account: AccountId(1), deadline: Span(1), epoch: Epoch(1) };
        let page = PageCall { from: Slot(0).0, limit: 1 };
        let accounts = AccountsCall { from: 0, limit: 1, changed: false, reserved: false };
        let cases = [
            (command(CommandKind::Register), Role(Leader)),
            (command(CommandKind::Transfers), Role(Leader)),
            (command(CommandKind::CreateAccounts), Role(Leader)),
            (command(CommandKind::Transact), Role(Coordinator)),
            (Call::Read(read), Role(Leader)),
            (Call::Fence(fence.clone()), Role(Leader)),
            (Call::Lookup(fence), Role(Replica)),
            (Call::Map(MapCall { epoch: Epoch(0) }), Gateway),
            (Call::Operator(OperatorCall::LeaderStatus(Nothing {})), Role(Leader)),
            (Call::Operator(OperatorCall::HandOver(HandOverCall { target: None })), Role(Leader)),
            (Call::Operator(OperatorCall::ReplicaStatus(Nothing {})), Role(Replica)),
            (Call::Operator(OperatorCall::Accounts(accounts)), Role(Replica)),
            (Call::Operator(OperatorCall::Posted(page)), Role(Replica)),
            (Call::Operator(OperatorCall::PostedDigest(page)), Role(Replica)),
            (Call::Operator(OperatorCall::Log(page)), Role(Replica)),
            (Call::Operator(OperatorCall::Pending(Nothing {})), Role(Replica)),
            (Call::Operator(OperatorCall::Totals(Nothing {})), Role(Replica)),
            (Call::Operator(OperatorCall::Outcomes(OutcomesCall { ids: Vec::new() })), Role(Replica)),
            (Call::Operator(OperatorCall::NodeStatus(Nothing {})), Gateway),
            (Call::Operator(OperatorCall::Performance(Nothing {})), Gateway),
        ];
        for (call, desk) in cases {
            assert_eq!(Desk::of(&call), desk, "{call:?}");
        }
    }
}
