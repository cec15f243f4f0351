//! A node: its listener, its groups, its log.
//!
//! With one group everything runs on one thread: roles, links, gateway and connections, so that nothing that a request
//! needs crosses threads but the log. With several groups each has a thread of its own, and the gateway has the main
//! one. The log has its own thread always.
//!
//! Assembly goes from the disk up: recover, load the snapshots at which logs begin, start the log, build the groups asleep, fill the roster, wake them,
//! listen. A stop goes the other way. A panic anywhere ends the process: half a node is worse than none, and the next
//! start recovers.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{AsyncContext, Context, Recipient};
use actix_rt::{Arbiter, System};
use drachma_protocol::ids::{DirectoryId, GroupId, Slot};
use drachma_protocol::ledger::Ledger;
use drachma_protocol::log::record::Recovered;
use drachma_protocol::log::snapshot::Name;
use drachma_protocol::message::client::{GroupNodes, MapDone, NodeAddress};
use drachma_protocol::role::{Input, RoleKind};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::clock::{Clock, duration};
use crate::config::{NodeConfig, NodeLimits};
use crate::counters::Counters;
use crate::gateway::{About, Clients, Front, GatewayActor, Leave, Scrape};
use crate::group::{self, GroupPlan, StartedGroup};
use crate::mailbox::{GatewayMailbox, Gauge, Halt, Roster};
use crate::metrics::http;
use crate::roles::{self, RealRoles, RoleFactory};
use crate::shell::Log;
use crate::storage::{self, LogEvent, StorageError};
use crate::transport::{Hub, Identity, listener};

/// How long other nodes may take to lead what this one led, at most.
const LEAVE: Duration = Duration::from_secs(3);

/// How long clients may take to be told that the node stops.
const FAREWELL: Duration = Duration::from_millis(700);

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Metrics cannot be served.
    #[error("cannot serve metrics on {address}: {error}")]
    Metrics {
        /// What was tried.
        address: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {error}")]
    Listen {
        /// What was tried.
        address: String,
        /// What the system said.
        error: std::io::Error,
    },
}

/// Runs a node until it is asked to stop (SIGTERM, SIGINT). `ready` is called with the address when it listens and
/// has recovered.
///
/// # Errors
/// If it cannot start. A disk error later ends the process.
pub fn run(config: &NodeConfig, ready: impl FnOnce(SocketAddr)) -> Result<(), NodeError> {
    let factory = Arc::new(RealRoles(config.clone()));
    run_with(config, factory, ready)
}

/// Runs a node as [`run`] does, with the roles that `factory` builds.
///
/// # Errors
/// As [`run`].
pub fn run_with(
    config: &NodeConfig,
    factory: Arc<dyn RoleFactory>,
    ready: impl FnOnce(SocketAddr),
) -> Result<(), NodeError> {
    abort_on_panic();
    raise_file_limit();
    let disk = || {
        let local: Vec<GroupId> = local_groups(config);
        let opened = storage::open(&config.data, config.cluster, config.node, &local, config.storage)?;
        let ledgers = load(config, &opened.groups)?;
        let log = opened.log;
        let start = Box::new(move |sink| Arc::new(log.start(sink)) as Arc<dyn Log>);
        Ok(Disk { directory: opened.directory, groups: opened.groups, ledgers, start })
    };
    serve(config, NodeLimits::default(), factory, disk, ready, asked_to_stop())
}

// Loads the states at which logs begin: all groups at once, since nobody is served before the last one is there.
fn load(
    config: &NodeConfig,
    groups: &BTreeMap<GroupId, Recovered>,
) -> Result<BTreeMap<GroupId, Box<Ledger>>, StorageError> {
    let begun = std::time::Instant::now();
    let needed = groups.iter().filter(|(_, recovered)| recovered.start > Slot(0));
    let load = |group: GroupId, slot: Slot| {
        let genesis = config.genesis.iter().find(|genesis| genesis.group == group);
        let genesis = genesis.expect("every group has its genesis");
        let name = Name { cluster: config.cluster, group, slot };
        let ledger = storage::load(&config.data, name, roles::seed(), genesis)?;
        tracing::info!(%group, %slot, millis = begun.elapsed().as_millis() as u64, "snapshot loaded");
        Ok((group, Box::new(ledger)))
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = needed.map(|(group, state)| scope.spawn(move || load(*group, state.start))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a panic there has ended the process")).collect()
    })
}

/// What the shell needs of a data directory.
pub(crate) struct Disk {
    /// Its id.
    pub(crate) directory: DirectoryId,
    /// What it held of each group.
    pub(crate) groups: BTreeMap<GroupId, Recovered>,
    /// The state at which a group's log begins, if that is not the very first one.
    pub(crate) ledgers: BTreeMap<GroupId, Box<Ledger>>,
    /// Starts the log.
    pub(crate) start: Box<dyn FnOnce(Sink) -> Arc<dyn Log>>,
}

/// What the log thread calls.
pub(crate) type Sink = Arc<dyn Fn(LogEvent) + Send + Sync>;

/// Runs a node on what `open` finds until `stop` comes.
pub(crate) fn serve(
    config: &NodeConfig,
    limits: NodeLimits,
    factory: Arc<dyn RoleFactory>,
    open: impl FnOnce() -> Result<Disk, StorageError>,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()> + 'static,
) -> Result<(), NodeError> {
    let cannot_listen = |error| NodeError::Listen { address: config.listen.clone(), error };
    let clock = Clock::start();
    let system = System::new();
    let mut arbiters = Vec::new();
    let outcome = system.block_on(async {
        // The address first: a mistake there should not wait for recovery.
        let socket = listener::bind(&config.listen).map_err(cannot_listen)?;
        let metrics = bind_metrics(config)?;
        let disk = open()?;
        let node = assemble(config, limits, factory, disk, clock, &mut arbiters).await;
        let listener = socket.listen(listener::BACKLOG).map_err(cannot_listen)?;
        let address = listener.local_addr().map_err(cannot_listen)?;
        let accepting = actix_rt::spawn(listener::accept(listener, node.hub.clone()));
        if let Some(metrics) = metrics {
            actix_rt::spawn(http::serve(metrics, node.scrape.clone()));
        }
        tracing::info!(node = %config.node, %address, groups = node.groups, "serves");
        ready(address);
        // In a task of its own: the main future is looked at whenever anything happens.
        let _ = actix_rt::spawn(stop).await;
        tracing::info!(node = %config.node, "stops");
        node.leave(patience(config)).await;
        accepting.abort();
        node.stop().await;
        Ok(())
    });
    for arbiter in arbiters {
        arbiter.stop();
        // A panic there has ended the process before.
        let _ = arbiter.join();
    }
    outcome
}

struct Node {
    hub: Rc<Hub>,
    groups: usize,
    clients: Clients,
    gateway: Recipient<Halt>,
    leave: Recipient<Leave>,
    scrape: Recipient<Scrape>,
    roles: Vec<Recipient<Halt>>,
    log: Arc<dyn Log>,
}

async fn assemble(
    config: &NodeConfig,
    limits: NodeLimits,
    factory: Arc<dyn RoleFactory>,
    mut disk: Disk,
    clock: Clock,
    arbiters: &mut Vec<Arbiter>,
) -> Node {
    let roster = Roster::default();
    let counters = Arc::new(Counters::default());
    let identity = Identity {
        cluster: config.cluster,
        node: config.node,
        directory: disk.directory,
        nodes: config.nodes.iter().map(|(node, _)| *node).collect(),
    };
    let log = (disk.start)(sink(roster.clone()));
    let alone = disk.groups.len() == 1;
    let mut started = BTreeMap::new();
    for (group, recovered) in disk.groups {
        let plan = GroupPlan {
            group,
            recovered,
            ledger: disk.ledgers.remove(&group),
            factory: factory.clone(),
            identity: identity.clone(),
            nodes: config.nodes.clone(),
            link_bytes: limits.link_bytes,
            seed: link_seed(disk.directory, group),
            clock,
            roster: roster.clone(),
            log: log.clone(),
            counters: counters.clone(),
        };
        let parts = if alone { group::start(plan) } else { start_apart(plan, arbiters).await };
        started.insert(group, parts);
    }
    wake(config, limits, Shared { roster, counters, identity, clock, log }, started)
}

struct Shared {
    roster: Roster,
    counters: Arc<Counters>,
    identity: Identity,
    clock: Clock,
    log: Arc<dyn Log>,
}

// Connects the groups with each other and with the gateway, and lets them begin.
fn wake(config: &NodeConfig, limits: NodeLimits, shared: Shared, started: BTreeMap<GroupId, StartedGroup>) -> Node {
    let Shared { roster, counters, identity, clock, log } = shared;
    let (clients, gauge) = (Clients::default(), Arc::new(Gauge::default()));
    let about = About { node: config.node, map: map_of(config), clock, counters: counters.clone() };
    let context = Context::<GatewayActor>::new();
    let gateway = context.address();
    let actor = GatewayActor::new(about, roster.clone(), clients.clone(), gauge.clone(), gateway.clone(), log.clone());
    context.run(actor);
    let groups = started.len();
    let (mut mailboxes, mut roles, mut begins) = (BTreeMap::new(), Vec::new(), Vec::new());
    let mut bells: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (group, parts) in started {
        mailboxes.insert(group, parts.mailboxes);
        roles.extend(parts.halts);
        begins.push(parts.begin);
        for (node, bell) in parts.bells {
            bells.entry(node).or_default().push(bell);
        }
    }
    roster.fill(mailboxes, GatewayMailbox::new(gateway.clone().recipient(), gauge.clone()));
    let (halt, leave, scrape) = (gateway.clone().recipient(), gateway.clone().recipient(), gateway.clone().recipient());
    let front = Front { roster, clients: clients.clone(), gateway, gauge, bells, counters: counters.clone() };
    let hub = Rc::new(Hub::new(identity, limits, counters, clock, Box::new(front)));
    for begin in begins {
        // Its thread lives as long as this one.
        let _ = begin.send(());
    }
    Node { hub, groups, clients, gateway: halt, leave, scrape, roles, log }
}

impl Node {
    // Has other nodes lead what is led here, so that nobody waits for an election.
    async fn leave(&self, patience: Duration) {
        let (done, left) = oneshot::channel();
        self.leave.do_send(Leave(done));
        if tokio::time::timeout(patience, left).await.is_err() {
            tracing::warn!("what was led here was not handed over in time");
        }
    }

    // Nothing that is done here is needed for safety: a crash is as good.
    async fn stop(self) {
        // Whoever has stopped already needs not be told.
        let _ = self.gateway.send(Halt).await;
        for role in self.roles {
            let _ = role.send(Halt).await;
        }
        let farewell = async {
            while !self.clients.is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
        self.log.close();
    }
}

async fn start_apart(plan: GroupPlan, arbiters: &mut Vec<Arbiter>) -> StartedGroup {
    let arbiter = Arbiter::new();
    let (done, parts) = oneshot::channel();
    arbiter.spawn_fn(move || {
        // The receiver waits just below.
        let _ = done.send(group::start(plan));
    });
    arbiters.push(arbiter);
    parts.await.expect("a fresh thread runs what it is given first, and a panic there has ended the process")
}

// Brings what the log's threads tell to the replica that it concerns.
fn sink(roster: Roster) -> Sink {
    Arc::new(move |event| {
        let (group, input) = match event {
            LogEvent::Persisted(group, token) => (group, Input::Persisted(token)),
            LogEvent::Fetched(group, start, entries) => (group, Input::Fetched { start, entries }),
            LogEvent::Snapshotted { group, slot, bytes } => (group, Input::Snapshotted { slot, bytes }),
            LogEvent::SnapshotDue(group) => (group, Input::SnapshotDue),
            LogEvent::SnapshotRead { group, slot, offset, piece } => {
                (group, Input::SnapshotRead { slot, offset, piece })
            }
        };
        if let Some(mailbox) = roster.role(group, RoleKind::Replica) {
            mailbox.deliver(vec![input], 0);
        }
    })
}

// Takes the address for metrics, if one is configured, and listens on it.
fn bind_metrics(config: &NodeConfig) -> Result<Option<TcpListener>, NodeError> {
    let Some(address) = &config.metrics else { return Ok(None) };
    let listener = listener::bind(address).and_then(|socket| socket.listen(http::BACKLOG));
    listener.map(Some).map_err(|error| NodeError::Metrics { address: address.clone(), error })
}

// A leader gives up each of the two steps of a hand-over after an election timeout.
fn patience(config: &NodeConfig) -> Duration {
    (duration(config.timers.leader_timeout) * 2 + Duration::from_millis(100)).min(LEAVE)
}

fn local_groups(config: &NodeConfig) -> Vec<GroupId> {
    let local = config.groups.iter().filter(|(_, nodes)| nodes.contains(&config.node));
    local.map(|(group, _)| *group).collect()
}

fn map_of(config: &NodeConfig) -> MapDone {
    let map = config.genesis.first().map(|genesis| genesis.map.clone());
    let groups = config.groups.iter().map(|(group, nodes)| GroupNodes { group: *group, nodes: nodes.clone() });
    let nodes = config.nodes.iter().map(|(node, address)| NodeAddress { node: *node, address: address.clone() });
    MapDone {
        map: map.expect("a cluster has at least one group, and every group its genesis"),
        groups: groups.collect(),
        nodes: nodes.collect(),
    }
}

// Differs per node and group, so that pauses do; a directory's id is random.
fn link_seed(directory: DirectoryId, group: GroupId) -> u64 {
    (directory.0 as u64) ^ (directory.0 >> 64) as u64 ^ u64::from(group.0)
}

async fn asked_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be caught: stop this node by killing it");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Ends the process at a panic, whichever thread it is on: a role that panicked would leave a process that answers
/// heartbeats and does nothing else.
pub fn abort_on_panic() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        tell(info);
        std::process::abort();
    }));
}

// Ten thousand connections need more descriptors than most shells give.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the number of open files stays as it is");
    }
}
