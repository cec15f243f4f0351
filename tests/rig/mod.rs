//! What the tests of bad input need: a small cluster of real node processes, and a caller that says what it likes.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use drachma::local::{LocalCluster, LocalOptions};
use drachma::settings::Settings;
use drachma_client::{Client, Options};
use drachma_protocol::ids::{AccountId, Epoch, GroupId, NodeId, TransferId};
use drachma_protocol::ledger::model::{Account, Transfer};
use drachma_protocol::message::client::{Call, Request, Response, Why};
use drachma_protocol::message::command::{ClientCommand, CommandKind};
use drachma_protocol::message::hello::{Caller, Goodbye, Hello, Refusal};
use drachma_protocol::message::operator::{
    AccountsCall, LedgerTotals, Nothing, OperatorAnswer, OperatorCall, PageCall, Totals,
};
use drachma_protocol::time::Span;
use drachma_protocol::wire::codec::{Encode, from_slice, to_vec};
use drachma_protocol::wire::frame::{self, Kind, LIMIT_CLIENT};

/// No test waits longer for anything that must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The binary under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_drachma");

/// Accounts 1 to 1000 and 100000 to 199999 belong to g1, 1001 to 2000 and 200000 to 299999 to g2; of those 1 to 2000
/// exist, with 10 each.
const PLACEMENT: &str = r#"
[placement]
mode = "range"
ranges = [
  { first = 1, last = 1000, group = "g1" },
  { first = 1001, last = 2000, group = "g2" },
  { first = 100000, last = 199999, group = "g1" },
  { first = 200000, last = 299999, group = "g2" },
]
[data_set]
accounts = 2000
initial_balance = 10
[timers]
leader_timeout = "1s"
"#;

/// A configuration with so many nodes and these groups.
pub(crate) fn configuration(nodes: u16, groups: &[&[u16]]) -> String {
    let mut text = "[cluster]\nname = \"bad-input\"\n".to_owned();
    (1..=nodes).for_each(|n| text += &format!("[[node]]\nid = \"n{n}\"\n"));
    for (index, members) in groups.iter().enumerate() {
        let members: Vec<String> = members.iter().map(|n| format!("\"n{n}\"")).collect();
        text += &format!("[[group]]\nid = \"g{}\"\nnodes = [{}]\n", index + 1, members.join(", "));
    }
    text + PLACEMENT
}

/// A directory of the test's own that goes with it.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("drachma-bad-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    pub(crate) fn file(&self, name: &str, content: &str) {
        std::fs::write(self.0.join(name), content).expect("a file");
    }

    /// Every file below, with its bytes.
    pub(crate) fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        content(&self.0)
    }

    /// The command as a user gives it, in this directory.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        let mut command = command(&self.0, arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary runs");
        let end = Instant::now() + PATIENCE;
        // A node that starts where it must not would stay for ever.
        while child.try_wait().expect("a child").is_none() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        // No error if it has ended.
        let _ = child.kill();
        child.wait_with_output().expect("its output")
    }

    /// A command that is refused: its exit status, and a part of what it says.
    #[track_caller]
    pub(crate) fn refused(&self, arguments: &[&str], status: i32, parts: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {said}");
        for part in parts {
            assert!(said.contains(part), "{arguments:?}: no `{part}` in: {said}");
        }
        said
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Every file below a directory, with its bytes.
pub(crate) fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(&directory).expect("a directory").flatten() {
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else {
                let bytes = std::fs::read(&path).expect("a file");
                found.insert(path, bytes);
            }
        }
    }
    found
}

/// The binary with arguments, in a directory, without anything from the environment.
pub(crate) fn command(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(directory);
    command.env_remove("DRACHMA_CONFIG").env_remove("DRACHMA_ENDPOINTS");
    command
}

/// A running cluster that must survive the test: same processes, same state on all replicas.
pub(crate) struct Rig {
    pub(crate) cluster: LocalCluster,
    pub(crate) client: Client,
    pub(crate) scratch: Scratch,
    runtime: tokio::runtime::Runtime,
    processes: BTreeMap<NodeId, u32>,
}

impl Rig {
    /// Nodes n1 to n3 with replicas of g1 and g2 each.
    pub(crate) fn small(name: &str) -> Rig {
        Rig::start(name, &configuration(3, &[&[1, 2, 3], &[1, 2, 3]]))
    }

    pub(crate) fn start(name: &str, text: &str) -> Rig {
        let scratch = Scratch::new(name);
        let settings = Settings::parse(text, "cluster.toml").expect("the test's configuration");
        let options = LocalOptions { executable: Some(BINARY.into()), ..LocalOptions::embedded() };
        let mut cluster = LocalCluster::create(settings, scratch.0.join("data"), options).expect("a cluster");
        cluster.format_all().expect("formatted");
        cluster.start_all().expect("started");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("one");
        let client = runtime.block_on(async {
            let nodes: Vec<NodeId> = cluster.settings().nodes().iter().map(|node| node.id).collect();
            for node in nodes {
                cluster.wait_ready(node, PATIENCE).await.expect("ready");
            }
            let groups: Vec<GroupId> = cluster.settings().groups().iter().map(|group| group.id).collect();
            assert!(cluster.wait_leaders(&groups, PATIENCE).await, "leaders");
            let endpoints = cluster.endpoints();
            let options = Options { endpoints, cluster: None, deadline: Some(PATIENCE) };
            Client::connect(options).await.expect("connected")
        });
        let mut rig = Rig { cluster, client, scratch, runtime, processes: BTreeMap::new() };
        rig.processes = rig.pids();
        rig
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    fn pids(&self) -> BTreeMap<NodeId, u32> {
        self.nodes().into_iter().map(|node| (node, self.pid(node))).collect()
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.cluster.settings().nodes().iter().map(|node| node.id).collect()
    }

    pub(crate) fn address(&self, node: NodeId) -> String {
        self.cluster.settings().node_address(node).expect("a node of the cluster").to_owned()
    }

    pub(crate) fn ask(&self, node: NodeId, group: u16, call: OperatorCall) -> OperatorAnswer {
        let end = Instant::now() + PATIENCE;
        loop {
            // A connection to a process that was killed is found broken when it is used again.
            match self.block_on(self.client.operator(node, GroupId(group), call.clone(), PATIENCE)) {
                Ok(answer) => return answer,
                Err(error) => assert!(Instant::now() < end, "{node}: {error}"),
            }
        }
    }

    pub(crate) fn pid(&self, node: NodeId) -> u32 {
        match self.ask(node, 0, OperatorCall::NodeStatus(Nothing {})) {
            OperatorAnswer::NodeStatus(status) => status.process,
            other => panic!("{other:?}"),
        }
    }

    /// What a node has counted under a name.
    pub(crate) fn count(&self, node: NodeId, name: &str) -> u64 {
        let OperatorAnswer::NodeStatus(status) = self.ask(node, 0, OperatorCall::NodeStatus(Nothing {})) else {
            panic!("another answer");
        };
        status.counters.iter().find(|counter| counter.name == name).expect("a counter").value
    }

    pub(crate) fn leader(&mut self, group: u16) -> NodeId {
        let end = Instant::now() + PATIENCE;
        loop {
            let Rig { runtime, cluster, .. } = self;
            if let Some(leader) = runtime.block_on(cluster.leader_of(GroupId(group))) {
                return leader;
            }
            assert!(Instant::now() < end, "g{group} has no leader");
        }
    }

    fn totals(&self, node: NodeId, group: GroupId) -> Totals {
        match self.ask(node, group.0, OperatorCall::Totals(Nothing {})) {
            OperatorAnswer::Totals(totals) => totals,
            other => panic!("{other:?}"),
        }
    }

    /// The state of every group, when nothing is under way any more and all its replicas agree on it.
    pub(crate) fn settled(&self) -> BTreeMap<GroupId, State> {
        let groups = self.cluster.settings().groups().to_vec();
        let end = Instant::now() + PATIENCE;
        loop {
            let views: Vec<(GroupId, Vec<(NodeId, Totals)>)> = groups
                .iter()
                .map(|group| {
                    let nodes = group.nodes.iter();
                    (group.id, nodes.map(|node| (*node, self.totals(*node, group.id))).collect())
                })
                .collect();
            let rest = |(_, totals): &(NodeId, Totals)| totals.in_doubt + totals.coordinated + totals.waiting == 0;
            let level = |view: &[(NodeId, Totals)]| view.iter().all(|(_, totals)| totals.applied == view[0].1.applied);
            if views.iter().all(|(_, view)| level(view) && view.iter().all(rest)) {
                for (group, view) in &views {
                    for (node, totals) in view {
                        assert_eq!(totals, &view[0].1, "{group}: {node} differs from {}", view[0].0);
                    }
                }
                let node = |view: &[(NodeId, Totals)]| view[0].0;
                return views
                    .iter()
                    .map(|(group, view)| (*group, self.state(node(view), *group, &view[0].1)))
                    .collect();
            }
            assert!(Instant::now() < end, "the groups do not come to rest: {views:?}");
        }
    }

    fn state(&self, node: NodeId, group: GroupId, totals: &Totals) -> State {
        let call = AccountsCall { from: 0, limit: u32::MAX, changed: true, reserved: true };
        let OperatorAnswer::Accounts(page) = self.ask(node, group.0, OperatorCall::Accounts(call)) else {
            panic!("another answer");
        };
        let call = PageCall { from: 0, limit: u32::MAX };
        let OperatorAnswer::PostedDigest(posted) = self.ask(node, group.0, OperatorCall::PostedDigest(call)) else {
            panic!("another answer");
        };
        State {
            accounts: totals.accounts,
            changed: page.accounts,
            posted: totals.posted,
            posted_digest: posted.digest,
            ids: totals.ids,
            ledgers: totals.ledgers.clone(),
        }
    }

    /// Money moves in and between both groups.
    #[track_caller]
    pub(crate) fn assert_serves(&self, seed: u128) {
        for (n, (debit, credit)) in [(900, 901), (1900, 1901), (902, 1902), (1903, 903)].into_iter().enumerate() {
            // There and back, so that it can be repeated.
            for (m, (debit, credit)) in [(debit, credit), (credit, debit)].into_iter().enumerate() {
                let id = seed << 64 | (2 * n + m) as u128;
                let answer = self.block_on(self.client.transfer(transfer(id, debit, credit, 1), Some(PATIENCE)));
                assert_eq!(answer.status, drachma_client::Status::Committed, "{debit} to {credit}: {answer:?}");
            }
        }
    }

    /// Every node is still the process that it was, the cluster serves, the replicas agree and money is conserved.
    #[track_caller]
    pub(crate) fn assert_unharmed(&mut self) {
        assert_eq!(self.cluster.running(), self.nodes(), "every node runs");
        assert_eq!(self.pids(), self.processes, "no node was restarted");
        self.assert_serves(0xbad << 20 | u128::from(std::process::id()));
        let states = self.settled();
        let mut sums: BTreeMap<u32, (u128, u128)> = BTreeMap::new();
        for ledger in states.values().flat_map(|state| &state.ledgers) {
            assert_eq!(
                ledger.debits.wrapping_sub(ledger.credits),
                ledger.sent.wrapping_sub(ledger.received),
                "{ledger:?}"
            );
            let sum = sums.entry(ledger.ledger).or_default();
            *sum = (sum.0.wrapping_add(ledger.debits), sum.1.wrapping_add(ledger.credits));
        }
        assert!(sums.values().all(|(debits, credits)| debits == credits), "{sums:?}");
    }

    /// A command on this cluster.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Output {
        let config = self.cluster.data().join("cluster.toml");
        let mut command = command(&self.scratch.0, arguments);
        command.arg("--config").arg(config).output().expect("the binary runs")
    }

    /// A connection on which nothing was said.
    pub(crate) fn line(&self, node: NodeId) -> Line {
        Line::open(&self.address(node))
    }

    /// A connection that has said Hello as a client.
    pub(crate) fn caller(&self, node: NodeId) -> Line {
        let mut line = self.line(node);
        line.hello();
        line
    }
}

/// Everything of a group that bad input must not change. Log position and log time may move.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct State {
    pub(crate) accounts: u64,
    pub(crate) changed: Vec<Account>,
    pub(crate) posted: u64,
    pub(crate) posted_digest: u128,
    pub(crate) ids: u64,
    pub(crate) ledgers: Vec<LedgerTotals>,
}

/// A transfer of ledger 1.
pub(crate) fn transfer(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
    let (id, debit, credit) = (TransferId(id), AccountId(debit), AccountId(credit));
    Transfer { id, debit, credit, amount, ledger: 1, code: 1, ..Transfer::default() }
}

/// A command with a body as it is.
pub(crate) fn raw_command(kind: CommandKind, count: u32, body: Vec<u8>) -> ClientCommand {
    let deadline = Span::from_millis(PATIENCE.as_millis() as u64);
    ClientCommand { kind, session: None, sequence: 1, deadline, epoch: Epoch(1), count, body: body.into() }
}

/// A batch of transfers as a command.
pub(crate) fn batch(kind: CommandKind, transfers: &[Transfer]) -> Call {
    Call::Command(raw_command(kind, transfers.len() as u32, to_vec(&transfers.to_vec())))
}

/// A frame of a kind with a body of bytes that may be anything, under the right checksum.
pub(crate) fn raw_frame(kind: u16, correlation: u64, body: &[u8]) -> Vec<u8> {
    struct Raw<'a>(&'a [u8]);
    impl Encode for Raw<'_> {
        fn encode(&self, out: &mut Vec<u8>) {
            out.extend_from_slice(self.0);
        }
    }
    let mut out = Vec::new();
    frame::encode(&mut out, Kind::Request, correlation, &Raw(body));
    out[8..10].copy_from_slice(&kind.to_be_bytes());
    seal(&mut out);
    out
}

/// Puts the right checksum on a frame.
pub(crate) fn seal(frame: &mut [u8]) {
    let checksum = drachma_protocol::log::segment::checksum(&frame[8..]);
    frame[4..8].copy_from_slice(&checksum.to_be_bytes());
}

/// What comes back.
#[derive(Debug)]
pub(crate) enum Heard {
    Welcome,
    Answer(u64, Response),
    Goodbye(Goodbye),
    Closed,
}

/// A connection of somebody who says what he likes.
pub(crate) struct Line {
    stream: TcpStream,
}

impl Line {
    pub(crate) fn open(address: &str) -> Line {
        let stream = TcpStream::connect(address).expect("the node listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Line { stream }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Says bytes; false if the other side has closed.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub(crate) fn hello(&mut self) {
        self.say(&hello_frame(&client_hello()));
        let heard = self.hear();
        assert!(matches!(heard, Heard::Welcome), "{heard:?}");
    }

    /// Asks; the answer comes later.
    pub(crate) fn ask(&mut self, correlation: u64, group: u16, call: Call) {
        let mut out = Vec::new();
        frame::encode(&mut out, Kind::Request, correlation, &Request { group: GroupId(group), call });
        assert!(self.say(&out), "the node has closed the connection");
    }

    /// Asks and waits.
    #[track_caller]
    pub(crate) fn answer(&mut self, group: u16, call: Call) -> Response {
        self.ask(77, group, call);
        match self.hear() {
            Heard::Answer(77, response) => response,
            other => panic!("{other:?}"),
        }
    }

    /// Asks and is refused.
    #[track_caller]
    pub(crate) fn refused(&mut self, group: u16, call: Call) -> Why {
        match self.answer(group, call) {
            Response::Refused(refused) => refused.why,
            other => panic!("{other:?}"),
        }
    }

    /// The next frame.
    pub(crate) fn hear(&mut self) -> Heard {
        let mut head = [0; 8];
        match self.stream.read_exact(&mut head) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("no answer in {PATIENCE:?}")
            }
            Err(_) => return Heard::Closed,
        }
        let total = frame::length(&head, LIMIT_CLIENT).expect("a frame within the limit").expect("eight bytes");
        let mut bytes = head.to_vec();
        bytes.resize(total, 0);
        if self.stream.read_exact(&mut bytes[8..]).is_err() {
            return Heard::Closed;
        }
        let frame = frame::decode(&bytes).expect("a node sends good frames");
        match frame.kind {
            Kind::Welcome => Heard::Welcome,
            Kind::Response => Heard::Answer(frame.correlation, from_slice(frame.body).expect("a response")),
            Kind::Goodbye => Heard::Goodbye(from_slice(frame.body).expect("a goodbye")),
            kind => panic!("a node does not say {kind:?} to a client"),
        }
    }

    /// The last word, after which the connection is closed.
    #[track_caller]
    pub(crate) fn refusal(&mut self) -> Refusal {
        match self.hear() {
            Heard::Goodbye(goodbye) => {
                assert!(!goodbye.text.is_empty(), "a refusal has a text for people");
                assert!(matches!(self.hear(), Heard::Closed), "the connection is closed after Goodbye");
                goodbye.refusal
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a client says first.
pub(crate) fn client_hello() -> Hello {
    Hello { lowest: 1, highest: 1, cluster: None, caller: Caller::Client, node: None, directory: None }
}

pub(crate) fn hello_frame(hello: &Hello) -> Vec<u8> {
    let mut out = Vec::new();
    frame::encode(&mut out, Kind::Hello, 0, hello);
    out
}
