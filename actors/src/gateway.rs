//! The gateway: brings clients' requests to the roles, and the roles' answers to the clients.
//!
//! [`Front`] is what the transport sees: it keeps the table of clients and hands requests over as messages.
//! [`GatewayActor`] routes them: a turn's requests for a role become one message, a turn's answers to a client one
//! write. What concerns the node itself (the map, counts, latencies) it answers on its own.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler};
use drachma_protocol::ids::{GroupId, NodeId, Origin};
use drachma_protocol::message::client::{Call, MapDone, Request, Response, Why};
use drachma_protocol::message::hello::Refusal;
use drachma_protocol::message::operator::{HandOverCall, NodeStatus, Nothing, OperatorAnswer, OperatorCall};
use drachma_protocol::role::{Address, Input, RoleKind};
use tokio::sync::{Notify, oneshot};

use crate::clock::Clock;
use crate::counters::Counters;
use crate::mailbox::{EndOfTurn, Gauge, Halt, Replies, Roster};
use crate::metrics::{self, GroupView, Snapshot};
use crate::performance::Recorder;
use crate::shell::Log;
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

/// Everything there is to tell, as OpenMetrics text.
pub(crate) struct Scrape(pub(crate) oneshot::Sender<String>);

impl actix::Message for Scrape {
    type Result = ();
}

/// How long roles may take to say how they are; what is known then is told.
const SURVEY: Duration = Duration::from_millis(500);
/// So many may wait for the same survey.
const SCRAPES: usize = 16;

/// What the node asks its own roles.
#[derive(Clone, Copy, Debug)]
enum Question {
    /// Have another node lead.
    Leave,
    /// How are you? Of the survey of this number.
    View(GroupId, u64),
}

/// Roles are asked how they are.
struct Survey {
    number: u64,
    // Answers that are still to come.
    open: usize,
    views: BTreeMap<GroupId, GroupView>,
    asked_by: Vec<oneshot::Sender<String>>,
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
    // The node's own questions that are not answered, by correlation id.
    questions: BTreeMap<u64, Question>,
    last_question: u64,
    // How many hand-overs have no end yet, and who waits for that.
    leaving: Option<(usize, oneshot::Sender<()>)>,
    survey: Option<Survey>,
    log: Arc<dyn Log>,
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
            Call::Command(command) if command.kind.is_coordinated() => Desk::Role(RoleKind::Coordinator),
            Call::Query(query) if !query.confirmed => Desk::Role(RoleKind::Replica),
            Call::Command(_) | Call::Read(_) | Call::Fence(_) | Call::Query(_) | Call::Write(_) | Call::Position(_) => {
                Desk::Role(RoleKind::Leader)
            }
            Call::Lookup(_) | Call::ReplicaRead(_) => Desk::Role(RoleKind::Replica),
            Call::Map(_) => Desk::Gateway,
            Call::Operator(call) => match call {
                OperatorCall::NodeStatus(_) | OperatorCall::Performance(_) => Desk::Gateway,
                OperatorCall::LeaderStatus(_) | OperatorCall::HandOver(_) => Desk::Role(RoleKind::Leader),
                OperatorCall::ReplicaStatus(_)
                | OperatorCall::Accounts(_)
                | OperatorCall::Keys(_)
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
        log: Arc<dyn Log>,
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
            questions: BTreeMap::new(),
            last_question: 0,
            leaving: None,
            survey: None,
            log,
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
        if groups.is_empty() {
            return; // Who waits is told by the end of the channel.
        }
        self.leaving = Some((groups.len(), done));
        for group in groups {
            self.ask(Question::Leave, group, OperatorCall::HandOver(HandOverCall { target: None }));
        }
    }

    /// Asks a role of this node; the answer comes like those for clients.
    fn ask(&mut self, question: Question, group: GroupId, call: OperatorCall) {
        self.last_question += 1;
        self.questions.insert(self.last_question, question);
        let origin = Origin { connection: OWN, correlation: self.last_question };
        self.route(origin, Request { group, call: Call::Operator(call) });
    }

    fn on_own_answer(&mut self, correlation: u64, response: &Response) {
        match self.questions.remove(&correlation) {
            Some(Question::Leave) => self.left(response),
            Some(Question::View(group, survey)) => self.viewed(group, survey, response),
            None => {}
        }
    }

    /// Asks every role that leads or replicates how it is.
    fn survey(&mut self, told: oneshot::Sender<String>, ctx: &mut Context<Self>) {
        if let Some(survey) = &mut self.survey {
            if survey.asked_by.len() < SCRAPES {
                survey.asked_by.push(told);
            }
            return;
        }
        let groups: Vec<GroupId> = self.roster.groups().collect();
        let number = self.last_question;
        let open = groups.len() * 3;
        self.survey = Some(Survey { number, open, views: BTreeMap::new(), asked_by: vec![told] });
        for group in groups {
            let nothing = Nothing {};
            for call in [OperatorCall::LeaderStatus, OperatorCall::ReplicaStatus, OperatorCall::Pending] {
                self.ask(Question::View(group, number), group, call(nothing));
            }
        }
        ctx.run_later(SURVEY, move |gateway, _| {
            if gateway.survey.as_ref().is_some_and(|survey| survey.number == number) {
                gateway.questions.retain(|_, question| !matches!(question, Question::View(..)));
                gateway.end_survey();
            }
        });
    }

    fn viewed(&mut self, group: GroupId, number: u64, response: &Response) {
        let Some(survey) = self.survey.as_mut().filter(|survey| survey.number == number) else { return };
        let view = survey.views.entry(group).or_default();
        match response {
            Response::Operator(OperatorAnswer::LeaderStatus(status)) => view.leader = Some(status.clone()),
            Response::Operator(OperatorAnswer::ReplicaStatus(status)) => view.replica = Some(status.clone()),
            Response::Operator(OperatorAnswer::Pending(page)) => view.pending = Some(page.clone()),
            _ => {}
        }
        survey.open -= 1;
        if survey.open == 0 {
            self.end_survey();
        }
    }

    fn end_survey(&mut self) {
        let Some(survey) = self.survey.take() else { return };
        let snapshot = Snapshot {
            uptime: self.about.clock.now().0,
            counters: self.about.counters.told(),
            log: self.log.counters().into_iter().collect(),
            syncs: self.log.sync_times(),
            log_credit: self.log.credit(),
            snapshots: self.log.snapshots(),
            actors: self.roster.status(),
            requests: self.recorder.totals(&metrics::BOUNDS),
            groups: survey.views,
        };
        let text = snapshot.into_text();
        for told in survey.asked_by {
            // Who asked may have gone.
            let _ = told.send(text.clone());
        }
    }

    /// A leader has handed over, or could not, or was none.
    fn left(&mut self, response: &Response) {
        tracing::debug!(node = %self.about.node, ?response, "hand-over at the stop");
        match self.leaving.take() {
            Some((open, done)) if open > 1 => self.leaving = Some((open - 1, done)),
            // Who waits may have lost patience.
            Some((_, done)) => drop(done.send(())),
            None => {}
        }
    }

    fn answer(&mut self, origin: Origin, response: &Response) {
        if origin.connection == OWN {
            return self.on_own_answer(origin.correlation, response);
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

impl Handler<Scrape> for GatewayActor {
    type Result = ();

    fn handle(&mut self, Scrape(told): Scrape, ctx: &mut Context<Self>) {
        self.gauge.sent(0);
        self.begin_turn();
        self.survey(told, ctx);
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
    use drachma_protocol::message::client::{FenceCall, MapCall, QueryCall, ReadCall};
    use drachma_protocol::message::command::{ClientCommand, CommandKind};
    use drachma_protocol::message::level::{Level, PositionCall, ReplicaReadCall, WriteCall};
    use drachma_protocol::message::operator::{AccountsCall, Nothing, OutcomesCall, PageCall};
    use drachma_protocol::time::Span;

    fn command_of(kind: CommandKind) -> ClientCommand {
        let (deadline, epoch) = (Span(1), Epoch(1));
        let body = bytes::Bytes::new();
        ClientCommand { kind, session: None, sequence: 0, deadline, epoch, count: 0, body }
    }

    fn command(kind: CommandKind) -> Call {
        Call::Command(command_of(kind))
    }

    fn query(confirmed: bool) -> Call {
        Call::Query(QueryCall { operations: Vec::new(), confirmed, deadline: Span(1), epoch: Epoch(1) })
    }

    #[test]
    fn every_call_has_its_desk() {
        use Desk::{Gateway, Role};
        use RoleKind::{Coordinator, Leader, Replica};
        let fence = FenceCall { txn: TxnId::default(), deadline: Span(1) };
        let read = ReadCall { account: AccountId(1), deadline: Span(1), epoch: Epoch(1) };
        let page = PageCall { from: Slot(0).0, limit: 1 };
        let accounts = AccountsCall { from: 0, limit: 1, changed: false, reserved: false };
        let (operations, after, settled) = (Vec::new(), Slot(0), true);
        let replica_read = ReplicaReadCall { operations, after, settled, deadline: Span(1), epoch: Epoch(1) };
        let cases = [
            (command(CommandKind::Register), Role(Leader)),
            (command(CommandKind::Transfers), Role(Leader)),
            (command(CommandKind::CreateAccounts), Role(Leader)),
            (command(CommandKind::Transaction), Role(Leader)),
            (command(CommandKind::Transact), Role(Coordinator)),
            (command(CommandKind::TransactOver), Role(Coordinator)),
            (query(true), Role(Leader)),
            (query(false), Role(Replica)),
            (Call::Read(read), Role(Leader)),
            (Call::Fence(fence.clone()), Role(Leader)),
            (Call::Lookup(fence), Role(Replica)),
            (Call::Write(WriteCall { level: Level::Any, command: command_of(CommandKind::Transfers) }), Role(Leader)),
            (Call::Position(PositionCall { everywhere: true, deadline: Span(1), epoch: Epoch(1) }), Role(Leader)),
            (Call::ReplicaRead(replica_read), Role(Replica)),
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
