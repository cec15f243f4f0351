//! Doubles for the tests of this crate: a log in memory, roles by closure, a node on a thread of its own, a client
//! that says what it is told to.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use drachma_protocol::ids::{AccountId, ClusterId, DirectoryId, Epoch, GroupId, NodeId, Slot};
use drachma_protocol::ledger::image::Image;
use drachma_protocol::ledger::{Genesis, Limits};
use drachma_protocol::log::record::{Record, Recovered};
use drachma_protocol::message::client::{Call, ReadCall, Request, Response};
use drachma_protocol::message::hello::{Caller, Goodbye, Hello, Refusal, Welcome};
use drachma_protocol::message::operator::{LogPage, NodeStatus, Nothing, OperatorAnswer, OperatorCall};
use drachma_protocol::placement::map::{Mode, ShardMap};
use drachma_protocol::role::{Effect, Effects, Input, Role, RoleKind, Token};
use drachma_protocol::time::{Span, Time};
use drachma_protocol::wire::codec::{Encode, from_slice};
use drachma_protocol::wire::frame::{self, Kind};
use tokio::sync::oneshot;

use crate::config::{Fsync, NodeConfig, NodeLimits, StorageConfig, Timers};
use crate::node::{Disk, Sink, serve};
use crate::roles::{Birth, RoleFactory};
use crate::shell::Log;
use crate::storage::Full;

/// A log that remembers what it was given and confirms when it is told to.
pub(crate) struct TestLog {
    pub(crate) appended: Mutex<Vec<(GroupId, Token)>>,
    pub(crate) credit: AtomicUsize,
    // Appends that are refused before one is taken again.
    pub(crate) refusals: AtomicUsize,
    // What was asked of snapshots: to write one, or to read it from an offset on.
    pub(crate) snapshots: Mutex<Vec<(GroupId, Slot, Option<u64>)>>,
}

impl TestLog {
    pub(crate) fn new() -> Arc<TestLog> {
        Arc::new(TestLog {
            appended: Mutex::default(),
            credit: AtomicUsize::new(usize::MAX),
            refusals: AtomicUsize::new(0),
            snapshots: Mutex::default(),
        })
    }

    pub(crate) fn tokens(&self) -> Vec<u64> {
        self.appended.lock().unwrap().iter().map(|(_, token)| token.0).collect()
    }
}

impl Log for TestLog {
    fn append(&self, group: GroupId, token: Token, _: Vec<Record>) -> Result<(), Full> {
        let less = |left: usize| left.checked_sub(1);
        if self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
            return Err(Full);
        }
        self.appended.lock().unwrap().push((group, token));
        Ok(())
    }

    fn fetch(&self, _: GroupId, _: Slot, _: Slot, _: usize) {}

    fn snapshot(&self, group: GroupId, image: Image) {
        self.snapshots.lock().unwrap().push((group, image.slot(), None));
    }

    fn read_snapshot(&self, group: GroupId, slot: Slot, offset: u64) {
        self.snapshots.lock().unwrap().push((group, slot, Some(offset)));
    }

    fn credit(&self) -> usize {
        self.credit.load(Ordering::SeqCst)
    }

    fn close(&self) {}
}

/// A role that does what a closure says.
pub(crate) struct Acts<F> {
    pub(crate) act: F,
    pub(crate) deadline: Option<Time>,
}

impl<F: FnMut(Time, Input, &mut Effects, &mut Option<Time>)> Role for Acts<F> {
    fn step(&mut self, now: Time, input: Input, effects: &mut Effects) {
        (self.act)(now, input, effects, &mut self.deadline);
    }

    fn deadline(&self) -> Option<Time> {
        self.deadline
    }
}

/// A role by closure.
pub(crate) fn acts(act: impl FnMut(Time, Input, &mut Effects, &mut Option<Time>) + 'static) -> Box<dyn Role> {
    Box::new(Acts { act, deadline: None })
}

/// A role that does nothing.
pub(crate) fn idle() -> Box<dyn Role> {
    acts(|_, _, _, _| {})
}

/// Builds roles by closure.
pub(crate) struct Builds<F>(pub(crate) F);

impl<F: Fn(GroupId) -> [Box<dyn Role>; 4] + Send + Sync> RoleFactory for Builds<F> {
    fn build(&self, birth: Birth) -> [Box<dyn Role>; 4] {
        (self.0)(birth.group)
    }
}

/// A leader that answers a read of account n with n bytes, and keeps silent about account 0; the rest is idle.
pub(crate) fn parrot() -> Arc<dyn RoleFactory> {
    Arc::new(Builds(|_| [idle(), acts(answer_by_size), idle(), idle()]))
}

fn answer_by_size(_: Time, input: Input, effects: &mut Effects, _: &mut Option<Time>) {
    let Input::Request { origin, request } = input else { return };
    let size = match request.call {
        Call::Read(read) => usize::try_from(read.account.0).unwrap(),
        _ => 1,
    };
    if size > 0 {
        effects.push(Effect::Reply { to: origin, response: sized(size) });
    }
}

/// An answer of about `size` bytes.
pub(crate) fn sized(size: usize) -> Response {
    let entries = vec![Bytes::from(vec![0; size])];
    Response::Operator(OperatorAnswer::Log(LogPage { from: Slot(0), entries, chosen: Slot(0) }))
}

pub(crate) const CLUSTER: ClusterId = ClusterId(77);

/// A node's data directory.
pub(crate) fn directory(node: u16) -> DirectoryId {
    DirectoryId(1000 + u128::from(node))
}

/// The configuration of node `id` among `nodes`, with one group of all of them.
pub(crate) fn config(id: u16, nodes: &[(u16, String)]) -> NodeConfig {
    let ids: Vec<NodeId> = nodes.iter().map(|(node, _)| NodeId(*node)).collect();
    let map = ShardMap { epoch: Epoch(1), mode: Mode::Hash(Nothing {}), owners: vec![GroupId(1)] };
    let genesis = Genesis { group: GroupId(1), map, accounts: 0, initial_balance: 0, limits: Limits::default() };
    NodeConfig {
        node: NodeId(id),
        cluster: CLUSTER,
        data: std::path::PathBuf::new(),
        listen: nodes.iter().find(|(node, _)| *node == id).unwrap().1.clone(),
        nodes: nodes.iter().map(|(node, address)| (NodeId(*node), address.clone())).collect(),
        groups: vec![(GroupId(1), ids)],
        genesis: vec![genesis],
        timers: Timers {
            heartbeat: Span::from_millis(50),
            leader_timeout: Span::from_millis(200),
            deadline: Span::from_millis(1000),
        },
        storage: StorageConfig { fsync: Fsync::Never, segment_bytes: 1 << 20, snapshot_every_bytes: u64::MAX },
        metrics: None,
    }
}

/// A node that runs on a thread of its own until it is stopped.
pub(crate) struct TestNode {
    pub(crate) address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl TestNode {
    /// Starts `config` with `groups` groups and the roles of `factory`.
    pub(crate) fn start(config: NodeConfig, limits: NodeLimits, factory: Arc<dyn RoleFactory>) -> TestNode {
        let (stop, stopped) = oneshot::channel::<()>();
        let (tell, told) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let groups: BTreeMap<GroupId, Recovered> =
                config.groups.iter().map(|(group, _)| (*group, Recovered::default())).collect();
            let directory = directory(config.node.0);
            let open = || {
                let start = Box::new(|_: Sink| TestLog::new() as Arc<dyn Log>);
                Ok(Disk { directory, groups, ledgers: BTreeMap::new(), start })
            };
            let stop = async {
                let _ = stopped.await;
            };
            serve(&config, limits, factory, open, |address| tell.send(address).unwrap(), stop).unwrap();
        });
        let address = told.recv_timeout(Duration::from_secs(10)).expect("the node starts");
        TestNode { address, stop: Some(stop), thread: Some(thread) }
    }

    /// One node with the parrot.
    pub(crate) fn parrot(limits: NodeLimits) -> TestNode {
        TestNode::start(config(1, &[(1, "127.0.0.1:0".to_owned())]), limits, parrot())
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// A client that has said Hello.
    pub(crate) fn client(&self) -> Line {
        let mut caller = self.caller();
        caller.hello(&client_hello());
        assert!(matches!(caller.hear(), Heard::Welcome));
        caller
    }

    /// Somebody who has said nothing yet.
    pub(crate) fn caller(&self) -> Line {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        Line { stream, received: Vec::new() }
    }

    /// The node's own view, asked by a client of its own.
    pub(crate) fn status(&self) -> NodeStatus {
        self.client().status()
    }

    /// One count.
    pub(crate) fn count(&self, name: &str) -> u64 {
        count(&self.status(), name)
    }

    /// Waits until a count has at least this value; the test's harness ends a test that waits for ever.
    pub(crate) fn await_count(&self, name: &str, least: u64) {
        let mut asking = self.client();
        while count(&asking.status(), name) < least {
            std::thread::yield_now();
        }
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

pub(crate) fn count(status: &NodeStatus, name: &str) -> u64 {
    status.counters.iter().find(|counter| counter.name == name).unwrap_or_else(|| panic!("no count {name}")).value
}

/// What a client says first.
pub(crate) fn client_hello() -> Hello {
    Hello { lowest: 1, highest: 1, cluster: None, caller: Caller::Client, node: None, directory: None }
}

/// What a peer says first.
pub(crate) fn peer_hello(node: u16) -> Hello {
    Hello {
        cluster: Some(CLUSTER),
        caller: Caller::Peer,
        node: Some(NodeId(node)),
        directory: Some(directory(node)),
        ..client_hello()
    }
}

/// The other end of a connection, byte by byte.
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    received: Vec<u8>,
}

/// A frame that was heard.
#[derive(Debug)]
pub(crate) enum Heard {
    Welcome,
    Goodbye(Goodbye),
    Response(u64, Response),
    Other,
    /// The connection was closed, or reset.
    End,
}

impl Line {
    pub(crate) fn hello(&mut self, hello: &Hello) {
        self.say(Kind::Hello, 0, hello);
    }

    pub(crate) fn say<T: Encode>(&mut self, kind: Kind, correlation: u64, body: &T) {
        let mut out = Vec::new();
        frame::encode(&mut out, kind, correlation, body);
        self.send(&out);
    }

    /// Sends bytes; a connection that was closed meanwhile shows when it is heard.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    pub(crate) fn request(&mut self, correlation: u64, group: u16, call: Call) {
        self.say(Kind::Request, correlation, &Request { group: GroupId(group), call });
    }

    /// Reads account `size` of group 1: the parrot's answer has that many bytes.
    pub(crate) fn read(&mut self, correlation: u64, size: usize) {
        self.request(correlation, 1, read(size));
    }

    pub(crate) fn hear(&mut self) -> Heard {
        loop {
            if let Some(whole) = frame::length(&self.received, usize::MAX).unwrap()
                && whole <= self.received.len()
            {
                let bytes: Vec<u8> = self.received.drain(..whole).collect();
                let frame = frame::decode(&bytes).unwrap();
                return match frame.kind {
                    Kind::Welcome => {
                        from_slice::<Welcome>(frame.body).unwrap();
                        Heard::Welcome
                    }
                    Kind::Goodbye => Heard::Goodbye(from_slice(frame.body).unwrap()),
                    Kind::Response => Heard::Response(frame.correlation, from_slice(frame.body).unwrap()),
                    _ => Heard::Other,
                };
            }
            let mut buffer = [0; 65536];
            match self.stream.read(&mut buffer) {
                Ok(count) if count > 0 => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing was heard for 20 s"),
                _ => return Heard::End,
            }
        }
    }

    /// The refusal with which the connection ends, after whatever else is heard.
    pub(crate) fn refusal(&mut self) -> Refusal {
        loop {
            match self.hear() {
                Heard::Goodbye(goodbye) => return goodbye.refusal,
                Heard::End => panic!("closed without a word"),
                _ => {}
            }
        }
    }

    /// Hears until the connection ends.
    pub(crate) fn end(&mut self) {
        while !matches!(self.hear(), Heard::End) {}
    }

    pub(crate) fn response(&mut self) -> (u64, Response) {
        match self.hear() {
            Heard::Response(correlation, response) => (correlation, response),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn status(&mut self) -> NodeStatus {
        self.request(u64::MAX, 0, Call::Operator(OperatorCall::NodeStatus(Nothing {})));
        let (_, Response::Operator(OperatorAnswer::NodeStatus(status))) = self.response() else {
            panic!("a status was asked for")
        };
        status
    }
}

pub(crate) fn read(size: usize) -> Call {
    Call::Read(ReadCall { account: AccountId(size as u128), deadline: Span(1), epoch: Epoch(1) })
}

/// The role that a test plays beside its own.
pub(crate) fn at(role: RoleKind, played: Box<dyn Role>) -> [Box<dyn Role>; 4] {
    let mut roles = [idle(), idle(), idle(), idle()];
    roles[role as usize] = played;
    roles
}
