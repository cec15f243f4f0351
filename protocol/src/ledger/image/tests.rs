//! An image has everything, as it was; whatever else arrives is refused.

mod story;

use super::{CHUNK_BYTES, CHUNK_LIMIT, Image, ImageError, ImageLoader, encoder::Chunk};
use crate::ids::{AccountId, Epoch, GroupId, Slot};
use crate::ledger::operations::{Key, LIST_LIMIT, List, ListOf, Operation, Put, Transaction, VALUE_LIMIT, Value};
use crate::ledger::output::Output;
use crate::ledger::tests::{G1, G2, World, genesis, move_money, transfers};
use crate::ledger::{Ledger, Limits};
use crate::message::operator::{AccountsCall, KeysCall, PageCall};
use crate::rng::Rng;
use crate::time::LogTime;
use story::Story;

/// All chunks.
fn chunks(image: Image) -> Vec<Vec<u8>> {
    let mut encoder = image.encoder();
    std::iter::from_fn(|| encoder.next_chunk()).collect()
}

fn load(limits: Limits, seed: u64, chunks: &[Vec<u8>]) -> Result<Ledger, ImageError> {
    let mut loader = ImageLoader::with_parts(seed, &genesis(G1, limits), 8);
    chunks.iter().try_for_each(|chunk| loader.push(chunk))?;
    loader.finish()
}

/// Everything that can be asked of a ledger but versions, which are no state.
fn assert_alike(one: &Ledger, two: &Ledger, what: &str) {
    assert_eq!(one.totals(), two.totals(), "{what}");
    assert_eq!(one.pending_page(), two.pending_page(), "{what}");
    assert_eq!((one.coordinated(), one.in_doubt()), (two.coordinated(), two.in_doubt()), "{what}");
    let accounts = AccountsCall { from: 0, limit: 8190, changed: false, reserved: true };
    assert_eq!(one.accounts_page(&accounts), two.accounts_page(&accounts), "{what}");
    let all = PageCall { from: 0, limit: 8190 };
    assert_eq!(one.posted_page(&all), two.posted_page(&all), "{what}");
    let keys = KeysCall { shard: crate::ids::ShardId(0), from: None, limit: 8190 };
    assert_eq!(one.keys_page(&keys), two.keys_page(&keys), "{what}");
    assert_eq!(one.pending_transfers(0, 8190), two.pending_transfers(0, 8190), "{what}");
    for of in lists() {
        for newest in [false, true] {
            let list = List { of, newest, since: LogTime(0), until: None, from: None, limit: LIST_LIMIT };
            assert_eq!(one.list(&list), two.list(&list), "{what}: {of:?}");
        }
    }
    assert_eq!((one.time(), one.leader(), one.members()), (two.time(), two.leader(), two.members()), "{what}");
    assert_eq!((one.counter(), one.epoch(), one.next_expiry()), (two.counter(), two.epoch(), two.next_expiry()));
}

/// Every list that a story can have.
fn lists() -> Vec<ListOf> {
    let accounts = [1, 2, 3, 11, 12, 13].into_iter().chain(101..=110).map(AccountId);
    let of_accounts =
        accounts.flat_map(|account| [ListOf::Account(account), ListOf::Pending(account), ListOf::Balances(account)]);
    let others = [ListOf::Code(1), ListOf::UserData64(1), ListOf::UserData64(2), ListOf::UserData32(1)];
    of_accounts.chain(others).collect()
}

fn apply(ledger: &mut Ledger, entry: &[u8], budget: usize) -> Vec<Output> {
    let mut outputs = Vec::new();
    ledger.begin(ledger.applied(), entry);
    while !ledger.apply(budget, &mut outputs) {}
    outputs
}

#[test]
fn a_ledger_that_was_loaded_goes_on_like_the_one_that_was_not() {
    let limits = Limits { waiting: 20, sessions: 5, in_doubt_per_group: 12, ..Limits::default() };
    let mut seen = story::Seen::default();
    for seed in 0..150 {
        let mut story = Story::new(seed, limits);
        let mut rng = Rng::new(seed ^ 0xabcd);
        let mut copies: Vec<Ledger> = Vec::new();
        for step in 0..120 {
            let what = format!("seed {seed}, step {step}");
            let outputs = story.step();
            for copy in &mut copies {
                assert_eq!(apply(copy, story.last_entry(), 1 + rng.below(9) as usize), outputs, "{what}");
            }
            if rng.chance(8) {
                let image = story.world.ledger.image();
                assert_eq!(image.digest(), story.world.ledger.totals().digest, "{what}");
                let bytes = chunks(image);
                for copy in &mut copies {
                    assert_eq!(chunks(copy.image()), bytes, "{what}: images at one slot are equal");
                }
                let copy = load(limits, rng.next_u64(), &bytes).expect("an image can be loaded");
                assert_alike(&copy, &story.world.ledger, &what);
                copies.truncate(1);
                copies.push(copy);
            }
        }
        for copy in &copies {
            assert_alike(copy, &story.world.ledger, &format!("seed {seed}"));
        }
        seen.add(&story);
    }
    seen.check();
}

#[test]
fn an_image_stays_as_it_was_when_it_was_taken() {
    for seed in 0..40 {
        let mut story = Story::new(seed, Limits::default());
        (0..60).for_each(|_| drop(story.step()));
        let image = story.world.ledger.image();
        let (slot, digest) = (image.slot(), story.world.ledger.totals().digest);
        let before = chunks(image.clone());
        let mut slow = image.clone().encoder();
        let mut after = Vec::new();
        for _ in 0..60 {
            story.step();
            after.extend(slow.next_chunk());
        }
        after.extend(std::iter::from_fn(|| slow.next_chunk()));
        assert_eq!(after, before, "seed {seed}");
        assert_eq!((image.slot(), image.digest(), slow.digest()), (slot, digest, Some(digest)), "seed {seed}");
        assert_ne!(story.world.ledger.totals().digest, digest, "seed {seed}: the ledger went on");
    }
}

/// A story's image in many small chunks of the sections that it has.
fn sample() -> (Limits, Vec<Vec<u8>>) {
    let mut story = Story::new(4, Limits::default());
    (0..150).for_each(|_| drop(story.step()));
    (Limits::default(), chunks(story.world.ledger.image()))
}

#[test]
fn a_chunk_that_is_damaged_is_refused_and_the_right_one_is_still_taken() {
    let (limits, chunks) = sample();
    let mut loader = ImageLoader::with_parts(1, &genesis(G1, limits), 8);
    let mut rng = Rng::new(11);
    for chunk in &chunks {
        for _ in 0..200 {
            let mut bad = chunk.clone();
            if rng.chance(30) {
                bad.truncate(rng.below(bad.len() as u64) as usize);
            } else {
                let at = rng.below(bad.len() as u64) as usize;
                bad[at] ^= 1 << rng.below(8);
            }
            assert!(loader.push(&bad).is_err());
        }
        loader.push(chunk).expect("it is the next one");
    }
    loader.finish().expect("the image is whole");
}

#[test]
fn a_chunk_left_out_doubled_or_out_of_place_is_refused() {
    let (limits, chunks) = sample();
    let of_another = {
        let image = |seed| {
            let mut story = Story::new(seed, limits);
            (0..150).for_each(|_| drop(story.step()));
            super::tests::chunks(story.world.ledger.image())
        };
        (5..).map(image).find(|others| others.len() >= chunks.len()).expect("stories go on for ever")
    };
    assert!(chunks.len() > 8, "there are {} chunks", chunks.len());
    for at in 0..chunks.len() {
        let mut left_out = chunks.clone();
        left_out.remove(at);
        assert!(load(limits, 1, &left_out).is_err(), "{at}");
        let mut doubled = chunks.clone();
        doubled.insert(at, chunks[at].clone());
        assert!(load(limits, 1, &doubled).is_err(), "{at}");
        let mut swapped = chunks.clone();
        swapped.swap(at, (at + 1) % chunks.len());
        assert!(load(limits, 1, &swapped).is_err(), "{at}");
        let mut mixed = chunks.clone();
        mixed[at] = of_another[at].clone();
        assert!(load(limits, 1, &mixed).is_err(), "{at}");
    }
    assert_eq!(load(limits, 1, &chunks[..chunks.len() - 1]).err(), Some(ImageError::Incomplete));
}

/// Rows are changed and the checksums made anew: whatever is loaded then is what the end says, and nothing panics.
#[test]
fn rows_that_were_changed_under_right_checksums_never_become_another_state() {
    let (limits, chunks) = sample();
    let digest = load(limits, 1, &chunks).expect("it is whole").totals().digest;
    let mut rng = Rng::new(12);
    let mut loaded = 0;
    for _ in 0..6000 {
        let target = rng.below(chunks.len() as u64) as usize;
        let mut before = 0;
        let mut forged = Vec::new();
        for (number, chunk) in chunks.iter().enumerate() {
            let chunk = Chunk::from_bytes(chunk).expect("it is a chunk");
            let mut rows = chunk.rows.to_vec();
            if number == target {
                let at = rng.below(rows.len() as u64) as usize;
                match rng.below(4) {
                    0 => rows.truncate(at),
                    1 => rows[at] = rng.next_u64() as u8,
                    2 => rows[at] ^= 1 << rng.below(8),
                    _ => {
                        let again = rows[at..].to_vec();
                        rows.extend(again);
                    }
                }
            }
            let chunk = Chunk::new(chunk.number, chunk.section, before, &rows);
            before = chunk.checksum;
            forged.push(chunk.to_bytes());
        }
        if let Ok(ledger) = load(limits, 2, &forged) {
            assert_eq!(ledger.totals().digest, digest);
            loaded += 1;
        }
    }
    println!("{loaded} of 6000 were loaded");
    assert!(loaded < 3000, "most changes are noticed: {loaded}");
}

#[test]
fn images_of_others_are_refused() {
    let (limits, chunks) = sample();
    let refused = |genesis: &crate::ledger::Genesis| ImageLoader::new(1, genesis).push(&chunks[0]);
    assert_eq!(refused(&genesis(G1, limits)), Ok(()));
    assert_eq!(refused(&genesis(G2, limits)), Err(ImageError::Group { expected: G2, found: G1 }));
    let other = Limits { sessions: 7, ..limits };
    assert_eq!(refused(&genesis(G1, other)), Err(ImageError::Shape("limits")));
    let mut other = genesis(G1, limits);
    other.map.owners[2] = GroupId(9);
    assert_eq!(refused(&other), Err(ImageError::Shape("shards")));
    let mut other = genesis(G1, limits);
    other.map.epoch = Epoch(2);
    assert_eq!(refused(&other), Err(ImageError::Shape("shards")));
    let mut loader = ImageLoader::new(1, &genesis(G1, limits));
    assert_eq!(loader.push(&chunks[1]), Err(ImageError::Order { expected: 0, found: 1 }));
    assert_eq!(loader.finish().err(), Some(ImageError::Incomplete));
}

#[test]
fn chunks_have_their_limit_whatever_the_rows_have() {
    let mut world = World::new(G1);
    let map = genesis(G1, Limits::default()).map;
    let keys = (0..).filter_map(|n: u32| Key::new(format!("k{n}"))).filter(|key| map.owner_of_key(key) == G1);
    // Large values, small ones, and a transaction of 3 MiB that waits.
    let put = |key: Key, bytes: usize| Operation::Put(Put { key, value: Value::new(vec![7; bytes]).expect("it fits") });
    let operations: Vec<Operation> = keys.take(12).map(|key| put(key, VALUE_LIMIT)).collect();
    let transaction = |id, operations: &[Operation]| Transaction {
        id: crate::ids::TransferId(id),
        conditions: Vec::new(),
        operations: operations.to_vec(),
    };
    story::run_transaction(&mut world, &transaction(1, &operations));
    let batch: Vec<_> = (0..8190).map(|id| move_money(10 + id, 1 + id % 2, 2 - id % 2, 1)).collect();
    world.one(transfers(&batch));
    let lock = story::over(2, vec![operations[0].clone(), story::put_elsewhere(&map)]);
    world.one(lock);
    story::run_transaction(&mut world, &transaction(3, &operations));
    assert_eq!((world.ledger.totals().in_doubt, world.ledger.totals().waiting), (1, 1));
    let chunks = chunks(world.ledger.image());
    let sizes: Vec<usize> = chunks.iter().map(Vec::len).collect();
    assert!(sizes.iter().all(|size| *size <= CHUNK_LIMIT), "{sizes:?}");
    let full = sizes.iter().filter(|size| **size > CHUNK_BYTES).count();
    assert!(full >= 24, "{full} chunks are full: {sizes:?}");
    let loaded = load(Limits::default(), 5, &chunks).expect("it is whole");
    assert_eq!(loaded.totals(), world.ledger.totals());
    assert_eq!((loaded.applied(), Slot(sizes.len() as u64).0 > 24), (world.ledger.applied(), true));
    let mut loader = ImageLoader::new(1, &genesis(G1, Limits::default()));
    assert!(matches!(loader.push(&vec![0x94; CHUNK_LIMIT + 1]), Err(ImageError::Chunk(_))));
}
