//! Images of the ledger, as a replica that has fallen behind gets them from another one.

use drachma_protocol::ids::{Ballot, ReplicaId};
use drachma_protocol::ledger::Ledger;
use drachma_protocol::ledger::image::{ImageError, ImageLoader};
use drachma_protocol::message::command::{Content, Entry, FORMAT, LeaderStart};
use drachma_protocol::time::LogTime;
use drachma_protocol::wire::codec::{Decode, Encode, Reader, encode_array_len, encode_bin, to_vec};
use xxhash_rust::xxh3::Xxh3;

use crate::draw::Draw;
use crate::ledger::apply;
use crate::measured;
use crate::values::genesis;

/// Entries before the image is taken: a run takes milliseconds.
const ENTRIES: u8 = 40;

/// An image of whatever state entries can bring about is loaded, and goes on like the ledger that it was taken of. Then
/// its chunks are changed, with their checksums or under new ones: nothing panics or takes memory out of proportion, and
/// what is loaded has the digest that it should have.
pub fn ledger_image(data: &[u8]) {
    let mut draw = Draw::new(data);
    let mut ledger = Ledger::with_parts(1, &genesis(), 1);
    let mut leader = Ballot { round: 1, replica: ReplicaId(1) };
    let first = Content::LeaderStart(LeaderStart { ballot: leader, members: Some(Vec::new()) });
    apply(&mut ledger, &to_vec(&Entry { format: FORMAT, time: LogTime(0), wall: 0, content: first }), usize::MAX);
    let mut step = |draw: &mut Draw<'_>| {
        let mut entry = draw.entry(leader);
        if let Content::LeaderStart(start) = &mut entry.content {
            leader.round += 1;
            start.ballot = leader;
        }
        to_vec(&entry)
    };
    for _ in 0..draw.below(ENTRIES) {
        apply(&mut ledger, &step(&mut draw), usize::MAX);
    }
    let image = ledger.image();
    assert_eq!(image.digest(), ledger.totals().digest, "an image has the digest of its ledger");
    let mut encoder = image.encoder();
    let chunks: Vec<Vec<u8>> = std::iter::from_fn(|| encoder.next_chunk()).collect();
    let digest = ledger.totals().digest;
    let mut loaded = load(&chunks).expect("an image can be loaded");
    assert_eq!(loaded.totals(), ledger.totals(), "it is the same");
    for _ in 0..draw.below(8) {
        let entry = step(&mut draw);
        assert_eq!(apply(&mut loaded, &entry, 1), apply(&mut ledger, &entry, usize::MAX), "it goes on alike");
        assert_eq!(loaded.totals(), ledger.totals(), "it goes on alike");
    }
    let (changed, size) = change(&mut draw, chunks);
    let (result, memory) = measured(|| load(&changed));
    // The first row of a table takes room for thousands; a row has its indexes beside it.
    assert!(memory < (4 << 20) + 400 * size, "{memory} bytes of memory for {size} bytes");
    if let Ok(other) = result {
        assert_eq!(other.totals().digest, digest, "what is loaded is what was taken");
    }
}

fn load(chunks: &[Vec<u8>]) -> Result<Ledger, ImageError> {
    let mut loader = ImageLoader::with_parts(2, &genesis(), 1);
    chunks.iter().try_for_each(|chunk| loader.push(chunk))?;
    loader.finish()
}

/// Changes the rows of some chunks, or the order of the chunks; the checksums are made anew, or not.
fn change(draw: &mut Draw<'_>, mut chunks: Vec<Vec<u8>>) -> (Vec<Vec<u8>>, usize) {
    for _ in 0..draw.below(4) {
        let index = usize::from(draw.byte()) % chunks.len();
        let other = usize::from(draw.byte()) % chunks.len();
        match draw.below(8) {
            0 => chunks.swap(index, other),
            1 => chunks.insert(index, chunks[other].clone()),
            2 if chunks.len() > 1 => drop(chunks.remove(index)),
            _ => {
                let Some((number, section, rows)) = parse(&chunks[index]) else { continue };
                let mut rows = rows.to_vec();
                let at = draw.number() as usize % (rows.len() + 1);
                let until = rows.len().min(at + usize::from(draw.below(4)));
                let new = draw.bytes();
                rows.splice(at..until, new);
                chunks[index] = sealed(number, section, 0, &rows).0;
            }
        }
    }
    if !draw.once_in(8) {
        let mut before = 0;
        for chunk in &mut chunks {
            let Some((number, section, rows)) = parse(chunk) else { continue };
            (*chunk, before) = sealed(number, section, before, &rows.to_vec());
        }
    }
    let size = chunks.iter().map(Vec::len).sum();
    (chunks, size)
}

fn parse(chunk: &[u8]) -> Option<(u32, u64, &[u8])> {
    let mut reader = Reader::new(chunk);
    reader.array_of(4).ok()?;
    let (number, section) = (u32::decode(&mut reader).ok()?, reader.uint().ok()?);
    reader.uint().ok()?;
    Some((number, section, reader.bin().ok()?))
}

fn sealed(number: u32, section: u64, before: u64, rows: &[u8]) -> (Vec<u8>, u64) {
    let mut hash = Xxh3::with_seed(before);
    hash.update(&to_vec(&(number, section)));
    hash.update(rows);
    let checksum = hash.digest();
    let mut out = Vec::new();
    encode_array_len(&mut out, 4);
    number.encode(&mut out);
    section.encode(&mut out);
    checksum.encode(&mut out);
    encode_bin(&mut out, rows);
    (out, checksum)
}
