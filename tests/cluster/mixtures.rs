//! Several keys of several groups, written and read together while leaders die: nobody sees a mixture, and the recorded
//! history has a serial order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use drachma_client::{Client, Recorder, Status};
use drachma_protocol::ids::{GroupId, ShardId, TransferId};
use drachma_protocol::ledger::Limits;
use drachma_protocol::ledger::model::Reason;
use drachma_protocol::ledger::operations::{Condition, Key, KeyIs, Operation, Put, Reply, Swap, Transaction, Value};
use drachma_protocol::message::operator::{KeysCall, Nothing, OperatorAnswer, OperatorCall};
use drachma_protocol::rng::Rng;
use drachma_protocol::time::Span;
use drachma_sim::checkers::keys::Keys;
use drachma_sim::checkers::{Checker, End, ReplicaView};
use drachma_sim::client::streets::{Street, Streets, TOKEN};
use drachma_sim::history::{History, QueryRecord};
use drachma_sim::recorded;
use drachma_sim::shape::Shape;
use tokio::task::JoinSet;

use crate::common::{World, setting};

const CLIENTS: usize = 32;

/// What the clients share.
struct Shared {
    keys: Vec<Key>,
    // In each group one that is replaced on condition of what it held, all of them together.
    chain: Vec<Key>,
    next: AtomicU64,
    stop: AtomicBool,
    puts: AtomicU64,
    swaps: AtomicU64,
    links: AtomicU64,
    reads: AtomicU64,
}

#[test]
fn nobody_sees_a_mixture_of_values_that_were_written_together() {
    let mut world = World::start("nobody_sees_a_mixture_of_values_that_were_written_together");
    let seconds = setting("DRACHMA_SECONDS", 5);
    let groups = world.groups();
    let shape = shape(&world);
    let streets = Streets::of(&shape);
    let file = world.local.data().join("history.jsonl");
    let recorder = Recorder::create(&file).unwrap();
    let shared = Arc::new(Shared {
        keys: streets.everywhere(Street::Board),
        chain: streets.everywhere(Street::Chain),
        next: AtomicU64::new(1),
        stop: AtomicBool::new(false),
        puts: AtomicU64::new(0),
        swaps: AtomicU64::new(0),
        links: AtomicU64::new(0),
        reads: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = world.connect(number % world.nodes().len(), None).recorded(&recorder);
        clients.spawn_on(one(client, Arc::clone(&shared), world.rng.fork()), world.runtime.handle());
    }
    // Each half second another group loses its leader, and gets the node back.
    for round in 0..(seconds * 2).max(2) {
        world.wait(async { tokio::time::sleep(Duration::from_millis(250)).await });
        let group = groups[round as usize % groups.len()];
        let killed = world.leader(group, None);
        world.local.kill(killed).unwrap();
        world.wait(async { tokio::time::sleep(Duration::from_millis(250)).await });
        let next = world.leader(group, Some(killed));
        println!("{group}: {killed} was killed, {next} took over");
        world.start_node(killed);
    }
    shared.stop.store(true, Ordering::SeqCst);
    world.wait(clients.join_all());
    let count = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
    let (puts, swaps, reads) = (count(&shared.puts), count(&shared.swaps), count(&shared.reads));
    let links = count(&shared.links);
    println!("{puts} times all keys were set, {swaps} swaps, {links} links, {reads} times all were read: no mixture");
    assert!(puts > 20 && swaps > 20 && links > 5 && reads > 20, "{puts} {swaps} {links} {reads}");
    recorder.flush().unwrap();
    judge(&mut world, &shape, &std::fs::read_to_string(&file).unwrap());
    world.verify(&[]);
}

/// This cluster in the checkers' form. They know no timers.
fn shape(world: &World) -> Shape {
    let settings = world.local.settings();
    let none = Span(0);
    Shape {
        groups: settings.groups().iter().map(|group| (group.id, group.nodes.clone())).collect(),
        map: settings.shard_map(),
        accounts: settings.accounts(),
        initial_balance: settings.initial_balance(),
        limits: Limits::default(),
        heartbeat: none,
        leader_timeout: none,
        resend: none,
        inquire_after: none,
        snapshot_every: u64::MAX,
    }
}

/// The checkers of the simulator judge what was recorded.
fn judge(world: &mut World, shape: &Shape, text: &str) {
    let history = recorded::read(text, &shape.map).unwrap();
    let groups: BTreeMap<GroupId, Vec<ReplicaView>> =
        world.groups().into_iter().map(|group| (group, vec![view(world, group)])).collect();
    let verdict = |history: &History| Keys.at_end(&End::new(shape, history, &groups, None));
    println!("{} transactions and {} queries were recorded", history.transactions.len(), history.queries.len());
    assert_eq!(verdict(&history), Ok(()));
    // It would have been found: a read that began when all was over, and saw what the first one saw.
    let mut old = history.clone();
    let chain = |query: &&QueryRecord| query.replies.iter().all(|reply| matches!(reply, Reply::Value(Some(_))));
    let links = old.queries.iter().filter(chain).filter(|query| query.operations.iter().any(is_link));
    let mut stale = links.min_by_key(|query| query.completed).expect("the chain was read").clone();
    let last = old.queries.iter().map(|query| query.completed).max().unwrap_or_default();
    (stale.invoked, stale.completed) = (last + 1, last + 2);
    old.queries.push(stale);
    assert!(verdict(&old).is_err(), "a stale read passes");
}

fn is_link(operation: &Operation) -> bool {
    matches!(operation, Operation::Get(key) if Street::of(key) == Some(Street::Chain))
}

/// What the group's leader holds in the end, as far as keys go.
fn view(world: &mut World, group: GroupId) -> ReplicaView {
    let node = world.leader(group, None);
    let Some(OperatorAnswer::Totals(totals)) = world.ask(node, group, OperatorCall::Totals(Nothing {})) else {
        panic!("{node} does not tell its totals");
    };
    let mut keys = BTreeMap::new();
    let mut next = Some((ShardId(0), None));
    while let Some((shard, from)) = next {
        let call = KeysCall { shard, from, limit: 1000 };
        let Some(OperatorAnswer::Keys(page)) = world.ask(node, group, OperatorCall::Keys(call)) else {
            panic!("{node} does not tell its keys");
        };
        keys.extend(page.rows);
        next = page.next.map(|(shard, key)| (shard, Some(key)));
    }
    ReplicaView { node, totals, posted: Vec::new(), accounts: Vec::new(), keys, pending: Vec::new() }
}

/// Sets all keys to a new value, exchanges two of them, or reads them all, until it is told to stop.
async fn one(client: Client, shared: Arc<Shared>, mut rng: Rng) {
    while !shared.stop.load(Ordering::SeqCst) {
        match rng.below(5) {
            0 => set(&client, &shared, &mut rng).await,
            1 => swap(&client, &shared, &mut rng).await,
            2 => link(&client, &shared, &mut rng).await,
            _ => read(&client, &shared).await,
        }
    }
}

async fn set(client: &Client, shared: &Shared, rng: &mut Rng) {
    let value = Value::from(shared.next.fetch_add(1, Ordering::SeqCst) as i64);
    let put = |key: &Key| Operation::Put(Put { key: key.clone(), value: value.clone() });
    let transaction = of(rng, shared.keys.iter().map(put).collect());
    let done = client.transact(&transaction, None).await;
    assert_eq!(done.status, Status::Committed, "{transaction:?}");
    shared.puts.fetch_add(1, Ordering::SeqCst);
}

async fn swap(client: &Client, shared: &Shared, rng: &mut Rng) {
    let first = rng.below(shared.keys.len() as u64) as usize;
    let second = (first + 1 + rng.below(shared.keys.len() as u64 - 1) as usize) % shared.keys.len();
    let (left, right) = (shared.keys[first].clone(), shared.keys[second].clone());
    let transaction = of(rng, vec![Operation::Swap(Swap { left, right })]);
    let done = client.transact(&transaction, None).await;
    assert_eq!(done.status, Status::Committed, "{transaction:?}");
    match done.replies.as_deref() {
        Some([Reply::Swapped(held)]) => assert_eq!(held.left, held.right, "a swap has seen a mixture"),
        // Not kept for ever.
        None => assert!(done.replayed, "a commit says what it has yielded"),
        other => panic!("{other:?}"),
    }
    shared.swaps.fetch_add(1, Ordering::SeqCst);
}

/// Reads the chain, and replaces it if it still holds that.
async fn link(client: &Client, shared: &Shared, rng: &mut Rng) {
    let gets: Vec<Operation> = shared.chain.iter().cloned().map(Operation::Get).collect();
    let replies = client.query(&gets, None).await.unwrap();
    assert!(replies.iter().all(|reply| *reply == replies[0]), "a mixture: {replies:?}");
    let Reply::Value(value) = &replies[0] else { panic!("{replies:?}") };
    let key = shared.chain[rng.below(shared.chain.len() as u64) as usize].clone();
    let condition = Condition::Is(KeyIs { key, value: value.clone() });
    let token = Value::new(rng.next_u64().to_be_bytes()[..TOKEN].to_vec()).unwrap();
    let put = |key: &Key| Operation::Put(Put { key: key.clone(), value: token.clone() });
    let operations = shared.chain.iter().map(put).collect();
    let transaction = Transaction { conditions: vec![condition], ..of(rng, operations) };
    let done = client.transact(&transaction, None).await;
    match done.status {
        Status::Committed => drop(shared.links.fetch_add(1, Ordering::SeqCst)),
        status => assert_eq!(status, Status::Rejected(Reason::Condition), "{transaction:?}"),
    }
}

async fn read(client: &Client, shared: &Shared) {
    let gets: Vec<Operation> = shared.keys.iter().cloned().map(Operation::Get).collect();
    let replies = client.query(&gets, None).await.unwrap();
    assert_eq!(replies.len(), gets.len());
    assert!(replies.iter().all(|reply| matches!(reply, Reply::Value(_))), "{replies:?}");
    assert!(replies.iter().all(|reply| *reply == replies[0]), "a mixture: {replies:?}");
    shared.reads.fetch_add(1, Ordering::SeqCst);
}

fn of(rng: &mut Rng, operations: Vec<Operation>) -> Transaction {
    Transaction { id: TransferId(rng.next_u128()), conditions: Vec::new(), operations }
}
