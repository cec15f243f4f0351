//! Clients that send transfers until they are told to stop, on a thread of their own, and remember every answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use drachma_client::{Client, Options, Status};
use drachma_protocol::ids::{AccountId, ClusterId};
use drachma_protocol::ledger::model::Transfer;
use drachma_workload::transfer::{Settings, Transfers};
use tokio::runtime::Builder;
use tokio::task::{JoinSet, LocalSet};

use super::{PATIENCE, World};

/// What the clients do.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) clients: u64,
    /// How many of 100 transfers go to another group; nothing leaves it to the draw.
    pub(crate) across_percent: Option<u64>,
    /// Of every second client; the others wait until each transfer is final.
    pub(crate) deadline: Duration,
    /// Nobody touches this account.
    pub(crate) spare: Option<AccountId>,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan { clients: 16, across_percent: None, deadline: Duration::from_millis(100), spare: None }
    }
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answered {
    pub(crate) transfer: Transfer,
    pub(crate) status: Status,
    pub(crate) at: Instant,
    pub(crate) took: Duration,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    answers: Mutex<Vec<Answered>>,
    more: Condvar,
}

/// Running clients.
pub(crate) struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    /// Starts the clients against a running cluster.
    pub(crate) fn start(world: &mut World, plan: Plan) -> Load {
        let shared = Arc::new(Shared::default());
        let settings = world.local.settings();
        let target =
            Target { endpoints: settings.endpoints(), cluster: settings.cluster_id(), map: settings.shard_map() };
        let seed = world.rng.next_u64();
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                LocalSet::new().block_on(&runtime, run(shared, target, plan, seed));
            }
        });
        Load { shared, thread: Some(thread) }
    }

    /// Waits until so many more transfers have been committed.
    pub(crate) fn wait_committed(&self, more: usize) {
        let end = Instant::now() + PATIENCE;
        let committed = |answers: &[Answered]| answers.iter().filter(|a| a.status == Status::Committed).count();
        let mut answers = self.shared.answers.lock().unwrap();
        let (mut seen, mut count) = (answers.len(), 0);
        while count < more {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "only {count} of {more} more transfers were committed in {PATIENCE:?}");
            answers = self.shared.more.wait_timeout(answers, left).unwrap().0;
            count += committed(&answers[seen..]);
            seen = answers.len();
        }
    }

    /// Lets every client end its transfer; all answers in the order of their arrival.
    pub(crate) fn stop(mut self) -> Vec<Answered> {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().expect("the clients end well");
        std::mem::take(&mut *self.shared.answers.lock().unwrap())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // A test that fails does not wait for clients that may wait for ever: they end with the process.
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

struct Target {
    endpoints: Vec<String>,
    cluster: ClusterId,
    map: drachma_protocol::placement::map::ShardMap,
}

async fn run(shared: Arc<Shared>, target: Target, plan: Plan, seed: u64) {
    let options = Options { endpoints: target.endpoints, cluster: Some(target.cluster), deadline: Some(PATIENCE) };
    let client = Client::connect(options).await.unwrap();
    let mut clients = JoinSet::new();
    for number in 0..plan.clients {
        let settings = Settings { accounts: 9000, across_percent: plan.across_percent, ..Settings::default() };
        let transfers = Transfers::new(settings, target.map.clone(), seed.wrapping_add(number));
        // The client's own deadline is far: half of them do not give up.
        let deadline = (number % 2 == 1).then_some(plan.deadline);
        clients.spawn_local(one(Arc::clone(&shared), client.clone(), transfers, deadline, plan.spare));
    }
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client ends well");
    }
}

async fn one(
    shared: Arc<Shared>,
    client: Client,
    mut transfers: Transfers,
    deadline: Option<Duration>,
    spare: Option<AccountId>,
) {
    while !shared.stop.load(Ordering::SeqCst) {
        let transfer = transfers.draw();
        if spare.is_some_and(|spare| [transfer.debit, transfer.credit].contains(&spare)) {
            continue;
        }
        let begun = Instant::now();
        let status = client.transfer(transfer, deadline).await.status;
        let at = Instant::now();
        shared.answers.lock().unwrap().push(Answered { transfer, status, at, took: at - begun });
        shared.more.notify_all();
    }
}

/// What was sent and what became of it.
pub(crate) fn outcomes(answers: &[Answered]) -> Vec<(Transfer, Status)> {
    answers.iter().map(|answered| (answered.transfer, answered.status)).collect()
}

/// The longest time without an acknowledgement, from the first to the last.
pub(crate) fn longest_gap<'a>(answers: impl Iterator<Item = &'a Answered>) -> Duration {
    let committed: Vec<Instant> =
        answers.filter(|answered| answered.status == Status::Committed).map(|answered| answered.at).collect();
    committed.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
}
