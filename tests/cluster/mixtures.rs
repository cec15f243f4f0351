//! Several keys of several groups, written and read together while leaders die: nobody sees a mixture.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use drachma_client::{Client, Status};
use drachma_protocol::ids::TransferId;
use drachma_protocol::ledger::operations::{Key, Operation, Put, Reply, Swap, Transaction, Value};
use drachma_protocol::rng::Rng;
use tokio::task::JoinSet;

use crate::common::{World, setting};
use crate::keys::key_of;

const CLIENTS: usize = 32;

/// What the clients share.
struct Shared {
    keys: Vec<Key>,
    next: AtomicU64,
    stop: AtomicBool,
    puts: AtomicU64,
    swaps: AtomicU64,
    reads: AtomicU64,
}

#[test]
fn nobody_sees_a_mixture_of_values_that_were_written_together() {
    let mut world = World::start("nobody_sees_a_mixture_of_values_that_were_written_together");
    let seconds = setting("DRACHMA_SECONDS", 5);
    let groups = world.groups();
    let keys = groups.iter().map(|group| Key::new(key_of(&world, *group, "mixture")).unwrap()).collect();
    let shared = Arc::new(Shared {
        keys,
        next: AtomicU64::new(1),
        stop: AtomicBool::new(false),
        puts: AtomicU64::new(0),
        swaps: AtomicU64::new(0),
        reads: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let client = world.connect(number % world.nodes().len(), None);
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
    println!("{puts} times all keys were set, {swaps} swaps, {reads} times all keys were read: no mixture");
    assert!(puts > 20 && swaps > 20 && reads > 20, "{puts} {swaps} {reads}");
    world.verify(&[]);
}

/// Sets all keys to a new value, exchanges two of them, or reads them all, until it is told to stop.
async fn one(client: Client, shared: Arc<Shared>, mut rng: Rng) {
    while !shared.stop.load(Ordering::SeqCst) {
        match rng.below(4) {
            0 => set(&client, &shared, &mut rng).await,
            1 => swap(&client, &shared, &mut rng).await,
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
