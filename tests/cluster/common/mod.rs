//! A cluster in a directory of its own, driven from one thread; it goes with its value.

pub(crate) mod load;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use drachma::audit::{self, AuditReport, Opening, Verdict};
use drachma::local::{LocalCluster, LocalOptions};
use drachma::settings::Settings;
use drachma_client::{Client, Options, Status};
use drachma_protocol::ids::{AccountId, GroupId, NodeId, TransferId, TxnId};
use drachma_protocol::ledger::model::{Account, Transfer};
use drachma_protocol::message::operator::{AccountsCall, Nothing, OperatorAnswer, OperatorCall, PendingPage};
use drachma_protocol::rng::Rng;
use rustix::process::Pid;
use tokio::runtime::{Builder, Runtime};

/// For everything that must happen sooner or later; reaching it fails the test.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// For one answer of one node.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(2);

/// The number in an environment variable, or `usual`.
pub(crate) fn setting(name: &str, usual: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number")),
        Err(_) => usual,
    }
}

/// A seed: that of the environment, else a new one; printed with the command that uses it again.
pub(crate) fn seed(test: &str) -> u64 {
    let seed = setting("DRACHMA_SEED", drachma::id::random().unwrap() as u64);
    println!("seed {seed}; again: DRACHMA_SEED={seed} cargo test -p drachma --test cluster {test} -- --nocapture");
    seed
}

/// A directory of the test's own that goes with it.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("drachma-cluster-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let kept = std::thread::panicking() && std::env::var_os("DRACHMA_KEEP").is_some();
        if kept {
            println!("kept: {}", self.0.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// The sample cluster on free ports, with everything that a test asks of it.
pub(crate) struct World {
    // In this order they go: connections, nodes, files.
    pub(crate) client: Client,
    pub(crate) local: LocalCluster,
    pub(crate) runtime: Runtime,
    pub(crate) rng: Rng,
    _scratch: Scratch,
}

impl World {
    /// Formatted and started; every group has a leader.
    pub(crate) fn start(test: &str) -> World {
        World::start_with(test, Settings::sample())
    }

    /// The same with another configuration of the sample's shape.
    pub(crate) fn start_with(test: &str, settings: Settings) -> World {
        let mut rng = Rng::new(seed(test));
        let scratch = Scratch::new(test);
        let executable = Some(env!("CARGO_BIN_EXE_drachma").into());
        let options = LocalOptions { executable, ..LocalOptions::embedded() };
        let mut local = LocalCluster::create(settings, scratch.0.join("data"), options).unwrap();
        local.format_all().unwrap();
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(bring_up(&mut local));
        let client = runtime.block_on(connect(&local, 0, Some(PATIENCE)));
        World { client, local, runtime, rng: rng.fork(), _scratch: scratch }
    }

    /// Carries out something asynchronous.
    pub(crate) fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Starts every node that is down; every group has a leader afterwards.
    pub(crate) fn start_all(&mut self) {
        self.runtime.block_on(bring_up(&mut self.local));
    }

    /// Starts one node and waits until it has caught up.
    pub(crate) fn start_node(&mut self, node: NodeId) {
        self.local.start(node).unwrap();
        self.runtime.block_on(async {
            self.local.wait_ready(node, PATIENCE).await.unwrap();
            assert!(self.local.wait_caught_up(node, PATIENCE).await, "{node} has not caught up");
        });
    }

    pub(crate) fn groups(&self) -> Vec<GroupId> {
        self.local.settings().groups().iter().map(|group| group.id).collect()
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.local.settings().nodes().iter().map(|node| node.id).collect()
    }

    pub(crate) fn members(&self, group: GroupId) -> Vec<NodeId> {
        self.local.settings().group(group).unwrap().nodes.clone()
    }

    /// The node that leads the group, as soon as there is one other than `not`.
    pub(crate) fn leader(&mut self, group: GroupId, not: Option<NodeId>) -> NodeId {
        let end = Instant::now() + PATIENCE;
        let found = self.runtime.block_on(async {
            loop {
                match self.local.leader_of(group).await {
                    Some(node) if Some(node) != not => return Some(node),
                    _ if Instant::now() >= end => return None,
                    _ => tokio::time::sleep(PAUSE).await,
                }
            }
        });
        found.unwrap_or_else(|| {
            let running = self.local.running();
            for node in self.members(group) {
                println!("{node}: running {}", running.contains(&node));
                println!("  {:?}", self.ask(node, group, OperatorCall::LeaderStatus(Nothing {})));
                println!("  {:?}", self.ask(node, group, OperatorCall::ReplicaStatus(Nothing {})));
            }
            panic!("{group} finds no leader other than {not:?}")
        })
    }

    /// A client of its own connection, which asks the node at this place of the configuration first.
    pub(crate) fn connect(&self, first: usize, deadline: Option<Duration>) -> Client {
        self.wait(connect(&self.local, first, deadline))
    }

    /// Asks one node.
    pub(crate) fn ask(&self, node: NodeId, group: GroupId, call: OperatorCall) -> Option<OperatorAnswer> {
        self.wait(self.client.operator(node, group, call, ANSWER)).ok()
    }

    /// What is in doubt at one replica.
    pub(crate) fn pending(&self, node: NodeId, group: GroupId) -> Option<PendingPage> {
        match self.ask(node, group, OperatorCall::Pending(Nothing {}))? {
            OperatorAnswer::Pending(page) => Some(page),
            other => panic!("{other:?}"),
        }
    }

    /// A node's process, as it says itself.
    pub(crate) fn process(&self, node: NodeId) -> Pid {
        match self.ask(node, GroupId(0), OperatorCall::NodeStatus(Nothing {})) {
            Some(OperatorAnswer::NodeStatus(status)) => Pid::from_raw(status.process as i32).unwrap(),
            other => panic!("{node}: {other:?}"),
        }
    }

    /// Settles what is not final, audits all replicas, and compares every account with what the committed transfers
    /// make of it. Whatever is not as it must be fails the test.
    pub(crate) fn verify(&mut self, sent: &[(Transfer, Status)]) {
        self.start_all();
        let mut committed = Vec::new();
        let mut settled = 0;
        for (transfer, status) in sent {
            let status = if status.is_final() { *status } else { self.settle(transfer, &mut settled) };
            if status == Status::Committed {
                committed.push(*transfer);
            }
        }
        let report = self.audit(&committed);
        assert_eq!(report.verdict, Verdict::Clean, "{report:?}");
        assert_eq!((report.in_doubt, report.missing, report.doubled, report.replicas), (0, 0, 0, 9), "{report:?}");
        self.compare_balances(&committed);
        let (all, good) = (sent.len(), committed.len());
        println!("{all} transfers: {good} committed, {settled} settled by a fence; the audit is clean");
    }

    fn settle(&self, transfer: &Transfer, settled: &mut u64) -> Status {
        *settled += 1;
        let answer = self.wait(self.client.fence(TxnId::from(transfer), Some(PATIENCE)));
        assert!(answer.status.is_final(), "{transfer:?} cannot be settled: {answer:?}");
        answer.status
    }

    fn audit(&self, committed: &[Transfer]) -> AuditReport {
        let settings = self.local.settings();
        let opening = Opening { accounts: settings.accounts(), balance: settings.initial_balance() };
        self.wait(audit::audit(&self.client, Some(opening), committed.iter().copied(), PATIENCE))
    }

    /// Every replica's accounts, against a model that knows nothing of groups.
    fn compare_balances(&self, committed: &[Transfer]) {
        let mut expected: BTreeMap<AccountId, (u128, u128)> = BTreeMap::new();
        let opening = self.local.settings().initial_balance();
        for transfer in committed {
            expected.entry(transfer.debit).or_insert((0, opening)).0 += transfer.amount;
            expected.entry(transfer.credit).or_insert((0, opening)).1 += transfer.amount;
        }
        for group in self.groups() {
            let owner = |account: &AccountId| self.local.settings().shard_map().owner_of(*account) == Some(group);
            let expected: BTreeMap<_, _> = expected.iter().filter(|(id, _)| owner(id)).map(|(k, v)| (*k, *v)).collect();
            for node in self.members(group) {
                let found = self.changed(node, group);
                let found: BTreeMap<_, _> = found.iter().map(|a| (a.id, (a.debits_posted, a.credits_posted))).collect();
                let differ: Vec<_> = expected
                    .keys()
                    .chain(found.keys())
                    .filter(|id| expected.get(id) != found.get(id))
                    .map(|id| (id, expected.get(id), found.get(id)))
                    .collect();
                assert!(differ.is_empty(), "{group} on {node}: account, expected, found: {differ:?}");
            }
        }
    }

    /// The accounts of a replica that have changed.
    fn changed(&self, node: NodeId, group: GroupId) -> Vec<Account> {
        let mut found = Vec::new();
        let mut from = Some(0);
        while let Some(position) = from {
            let call = AccountsCall { from: position, limit: 1000, changed: true, reserved: false };
            match self.ask(node, group, OperatorCall::Accounts(call)) {
                Some(OperatorAnswer::Accounts(page)) => {
                    found.extend(page.accounts);
                    from = page.next;
                }
                other => panic!("{node}: {other:?}"),
            }
        }
        found
    }

    /// `drachma` with this cluster's configuration.
    pub(crate) fn drachma(&self, arguments: &[&str]) -> Output {
        let config = self.local.data().join("cluster.toml");
        drachma(&[&["--config", &config.display().to_string()], arguments].concat())
    }
}

/// `drachma` without anything from the environment.
pub(crate) fn drachma(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drachma"));
    command.args(arguments).env_remove("DRACHMA_CONFIG").env_remove("DRACHMA_ENDPOINTS");
    command.current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command.output().expect("the binary runs")
}

/// The text of a stream.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A transfer of the data set's currency.
pub(crate) fn transfer(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    Transfer { id: TransferId(id), debit, credit, amount, ledger: 1, code: 1, ..Transfer::default() }
}

async fn bring_up(local: &mut LocalCluster) {
    local.start_all().unwrap();
    let settings = local.settings().clone();
    for node in settings.nodes() {
        local.wait_ready(node.id, PATIENCE).await.unwrap();
    }
    let groups: Vec<GroupId> = settings.groups().iter().map(|group| group.id).collect();
    assert!(local.wait_leaders(&groups, PATIENCE).await, "a group finds no leader");
}

async fn connect(local: &LocalCluster, first: usize, deadline: Option<Duration>) -> Client {
    let mut endpoints = local.endpoints();
    endpoints.rotate_left(first);
    let options = Options { endpoints, cluster: Some(local.settings().cluster_id()), deadline };
    Client::connect(options).await.unwrap()
}
