//! Nodes that speak the protocol and answer as a test says.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use drachma_client::{Client, Options};
use drachma_protocol::ids::{AccountId, ClusterId, Epoch, GroupId, NodeId, TransferId};
use drachma_protocol::ledger::model::{ItemResult, Transfer, TransferResult};
use drachma_protocol::message::client::{
    Call, GroupNodes, MapDone, NodeAddress, Refused, Request, Response, TransfersDone, Why,
};
use drachma_protocol::message::command::ClientCommand;
use drachma_protocol::message::hello::{Goodbye, Hello, Refusal, Welcome};
use drachma_protocol::placement::map::{AccountRange, Mode, ShardMap};
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::from_slice;
use drachma_protocol::wire::frame::{self, Kind, LIMIT_CLIENT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

pub(crate) const CLUSTER: ClusterId = ClusterId(0xd7ac);

/// A deadline that passes within a test.
pub(crate) const SHORT: Option<Duration> = Some(Duration::from_millis(300));

/// What the nodes were asked, in order.
pub(crate) type Seen = Arc<Mutex<Vec<Question>>>;

pub(crate) fn item(index: u32, result: TransferResult) -> ItemResult {
    ItemResult { index, result, replayed: false }
}

pub(crate) fn committed() -> Reply {
    Reply::Answer(done(Vec::new()))
}

/// A request as a node got it.
pub(crate) struct Question {
    pub(crate) node: u16,
    /// Counts the connections of all nodes, from 0.
    pub(crate) connection: u64,
    pub(crate) correlation: u64,
    pub(crate) request: Request,
}

impl Question {
    /// The command in it.
    pub(crate) fn command(&self) -> &ClientCommand {
        match &self.request.call {
            Call::Command(command) => command,
            other => panic!("{other:?} is no command"),
        }
    }

    /// The transfers in it.
    pub(crate) fn transfers(&self) -> Vec<Transfer> {
        let transfers: Vec<Transfer> = from_slice(&self.command().body).unwrap();
        assert_eq!(transfers.len(), self.command().count as usize, "the envelope's count");
        transfers
    }
}

/// What a node does with it.
pub(crate) enum Reply {
    Answer(Response),
    /// Answers to these correlation ids of the same connection.
    Answers(Vec<(u64, Response)>),
    Silence,
    HangUp,
    Raw(Vec<u8>),
}

type Handler = dyn Fn(Question) -> Reply + Send + Sync;

/// Some nodes; account 1 to 100 belongs to the first group, 101 to 200 to the second, and so on.
pub(crate) struct Fake {
    pub(crate) map: Arc<Mutex<MapDone>>,
    pub(crate) connections: Arc<AtomicU64>,
    tasks: BTreeMap<u16, JoinSet<()>>,
    // Bound, so that nobody else gets the port, and not listening, so that connections are refused.
    down: BTreeMap<u16, TcpSocket>,
    open: tokio::sync::watch::Sender<u64>,
}

impl Fake {
    /// Groups `g1`, `g2` and so on, each of these nodes. Nodes that are `down` refuse connections.
    pub(crate) async fn start(
        groups: &[&[u16]],
        down: &[u16],
        handler: impl Fn(Question) -> Reply + Send + Sync + 'static,
    ) -> Fake {
        let mut sockets = BTreeMap::new();
        for node in groups.iter().flat_map(|nodes| nodes.iter().copied()) {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
            sockets.insert(node, socket);
        }
        let address = |socket: &TcpSocket| socket.local_addr().unwrap().to_string();
        let range =
            |n: usize| AccountRange { first: AccountId(n as u128 * 100 + 1), last: AccountId(n as u128 * 100 + 100) };
        let map = MapDone {
            map: ShardMap {
                epoch: Epoch(1),
                mode: Mode::Range((0..groups.len()).map(range).collect()),
                owners: (0..groups.len()).map(|n| GroupId(n as u16 + 1)).collect(),
            },
            groups: (1..).zip(groups).map(|(n, nodes)| group(n, nodes)).collect(),
            nodes: sockets
                .iter()
                .map(|(node, socket)| NodeAddress { node: NodeId(*node), address: address(socket) })
                .collect(),
        };
        let mut fake = Fake {
            map: Arc::new(Mutex::new(map)),
            connections: Arc::default(),
            tasks: BTreeMap::new(),
            down: BTreeMap::new(),
            open: tokio::sync::watch::Sender::new(0),
        };
        let handler: Arc<Handler> = Arc::new(handler);
        for (node, socket) in sockets {
            if down.contains(&node) {
                fake.down.insert(node, socket);
            } else {
                fake.serve(node, socket.listen(1024).unwrap(), Arc::clone(&handler));
            }
        }
        fake
    }

    fn serve(&mut self, node: u16, listener: TcpListener, handler: Arc<Handler>) {
        let (map, connections) = (Arc::clone(&self.map), Arc::clone(&self.connections));
        let open = self.open.clone();
        self.tasks.entry(node).or_default().spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection = connections.fetch_add(1, Ordering::SeqCst);
                let serve = serve(node, connection, stream, Arc::clone(&map), Arc::clone(&handler));
                let open = open.clone();
                serving.spawn(async move {
                    open.send_modify(|open| *open += 1);
                    serve.await;
                    open.send_modify(|open| *open -= 1);
                });
            }
        });
    }

    /// Starts a node that was down.
    pub(crate) fn revive(&mut self, node: u16, handler: impl Fn(Question) -> Reply + Send + Sync + 'static) {
        let listener = self.down.remove(&node).unwrap().listen(1024).unwrap();
        self.serve(node, listener, Arc::new(handler));
    }

    /// Waits until no connection is open.
    pub(crate) async fn until_all_closed(&self) {
        self.open.subscribe().wait_for(|open| *open == 0).await.unwrap();
    }

    /// The addresses of the nodes that were started.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let map = self.map.lock().unwrap();
        let up = map.nodes.iter().filter(|known| self.tasks.contains_key(&known.node.0));
        up.map(|known| known.address.clone()).collect()
    }

    pub(crate) fn options(&self) -> Options {
        Options { endpoints: self.endpoints(), cluster: Some(CLUSTER), deadline: Some(Duration::from_secs(10)) }
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.options()).await.unwrap()
    }
}

pub(crate) fn group(number: u16, nodes: &[u16]) -> GroupNodes {
    GroupNodes { group: GroupId(number), nodes: nodes.iter().map(|node| NodeId(*node)).collect() }
}

async fn serve(node: u16, connection: u64, mut stream: TcpStream, map: Arc<Mutex<MapDone>>, handler: Arc<Handler>) {
    let mut buffer = BytesMut::new();
    let mut greeted = false;
    loop {
        while let Some(length) = frame::length(&buffer, LIMIT_CLIENT).unwrap().filter(|length| *length <= buffer.len())
        {
            let bytes = buffer.split_to(length);
            let frame = frame::decode(&bytes).unwrap();
            let mut out = Vec::new();
            if !greeted {
                assert_eq!(frame.kind, Kind::Hello);
                greeted = greet(node, &from_slice(frame.body).unwrap(), &mut out);
            } else {
                assert_eq!(frame.kind, Kind::Request);
                let request: Request = from_slice(frame.body).unwrap();
                let correlation = frame.correlation;
                let reply = match request.call {
                    Call::Map(_) => Reply::Answer(Response::Map(map.lock().unwrap().clone())),
                    _ => handler(Question { node, connection, correlation, request }),
                };
                match reply {
                    Reply::Answer(response) => frame::encode(&mut out, Kind::Response, correlation, &response),
                    Reply::Answers(answers) => answers.iter().for_each(|(correlation, response)| {
                        frame::encode(&mut out, Kind::Response, *correlation, response)
                    }),
                    Reply::Silence => {}
                    Reply::HangUp => return,
                    Reply::Raw(bytes) => out = bytes,
                }
            }
            if stream.write_all(&out).await.is_err() {
                return;
            }
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn greet(node: u16, hello: &Hello, out: &mut Vec<u8>) -> bool {
    if hello.cluster.is_some_and(|cluster| cluster != CLUSTER) {
        let goodbye = Goodbye { refusal: Refusal::Cluster, text: "this is another cluster".to_owned() };
        frame::encode(out, Kind::Goodbye, 0, &goodbye);
        return false;
    }
    frame::encode(out, Kind::Welcome, 0, &Welcome { version: 1, cluster: CLUSTER, node: NodeId(node) });
    true
}

/// A transfer of 1 under `id`.
pub(crate) fn transfer(id: u128, debit: u128, credit: u128) -> Transfer {
    Transfer {
        id: TransferId(id),
        debit: AccountId(debit),
        credit: AccountId(credit),
        amount: 1,
        ledger: 1,
        code: 1,
        ..Transfer::default()
    }
}

/// All have committed, but for these.
pub(crate) fn done(items: Vec<ItemResult>) -> Response {
    Response::Transfers(TransfersDone { items })
}

pub(crate) fn refused(why: Why, leader: Option<u16>) -> Reply {
    Reply::Answer(Response::Refused(Refused { why, leader: leader.map(NodeId), after: Span(0) }))
}
