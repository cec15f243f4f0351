//! What the clients of a run do: drawn once for a seed.

use drachma_protocol::rng::Rng;

use crate::draw::{between, pick};

/// What the clients of a run do.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The mean time between the end of an operation and the next, in microseconds.
    pub mean_pause: u64,
    /// How many operations a client begins at most.
    pub operations: u64,
    /// How many operations a client has under way at a time.
    pub in_flight: u64,
    /// The most transfers of a request.
    pub largest_batch: u64,
    /// How many of 100 operations read.
    pub reads: u64,
    /// How many of 100 batches go to other groups.
    pub across: u64,
    /// Amounts are up to this.
    pub largest_amount: u64,
    /// The number of hot accounts.
    pub hot: u64,
    /// How many of 100 accounts are hot ones.
    pub hot_percent: u64,
    /// Silence after which a client tries another node, in microseconds.
    pub timeout: u64,
    /// The deadline of a request, in microseconds.
    pub deadline: u64,
    /// How many of 1,000 requests go to a second node at once.
    pub second_copy: u64,
    /// How many of 1,000 silences make the client give up for ever.
    pub give_up: u64,
    /// How many of 100 ids are used again under another debit account.
    pub shared_ids: u64,
    /// How many of 100 operations are the bank's.
    pub bank: u64,
    /// How many of 100 operations are the ledger's.
    pub ledger: u64,
    /// How many of 100 reads are of several accounts at once.
    pub snapshots: u64,
    /// How many of 100 operations are out of the ordinary: lookups, fences, conflicts, rejections, malformed requests.
    pub mischief: u64,
    /// How many sessions a client has.
    pub sessions: u64,
    /// How many of 1,000 requests come once more, long after.
    pub late_copies: u64,
    /// The mean delay of such a copy, in microseconds.
    pub late_delay: u64,
    /// How many of 1,000 requests have a deadline that hardly can be kept.
    pub hurried: u64,
    /// How many of 1,000 beginnings are bursts.
    pub bursts: u64,
    /// How many operations a burst has.
    pub burst: u64,
    /// How many of 1,000 ends of an operation are followed by a restart of the client.
    pub restarts: u64,
    /// How many of 1,000 transfers are twice in their batch.
    pub doubles: u64,
    /// How many of 100 operations are about keys.
    pub keys: u64,
    /// How many of 100 transactions over keys are about several groups.
    pub keys_across: u64,
    /// How many lists of each group are in use at a time.
    pub lists: u64,
    /// How many of 100 operations are about pending transfers, chains and closed accounts.
    pub vault: u64,
    /// How many of 100 operations are at a level of their own.
    pub levels: u64,
}

impl ClientOptions {
    /// Draws what clients do.
    pub fn draw(rng: &mut Rng) -> ClientOptions {
        // Drawn beside the stream: seeds of before are what they were, but for this.
        let mut own = Rng::new(rng.clone().next_u64() ^ 0x0076_6175_6c74);
        ClientOptions {
            vault: pick(&mut own, &[0, 10, 40, 80]),
            mean_pause: pick(rng, &[300_000, 1_000_000, 2_000_000]),
            operations: between(rng, 5_000, 20_000),
            in_flight: between(rng, 1, 4),
            largest_batch: pick(rng, &[1, 1, 3, 3, 30]),
            reads: pick(rng, &[0, 20, 50]),
            across: pick(rng, &[0, 30, 70, 100]),
            largest_amount: pick(rng, &[1, 20, 200]),
            hot: pick(rng, &[0, 2, 4]),
            hot_percent: pick(rng, &[50, 90]),
            timeout: pick(rng, &[100_000, 500_000, 2_000_000]),
            deadline: pick(rng, &[200_000, 1_000_000, 5_000_000]),
            second_copy: pick(rng, &[0, 0, 50, 300]),
            give_up: pick(rng, &[0, 0, 100, 500]),
            shared_ids: pick(rng, &[0, 0, 10]),
            bank: pick(rng, &[0, 0, 15, 40]),
            ledger: pick(rng, &[0, 0, 20, 50]),
            snapshots: pick(rng, &[0, 10, 30]),
            mischief: pick(rng, &[0, 5, 15, 40]),
            sessions: between(rng, 1, 3),
            late_copies: pick(rng, &[0, 0, 10, 100]),
            late_delay: pick(rng, &[100_000, 1_000_000, 8_000_000]),
            hurried: pick(rng, &[0, 0, 20, 200]),
            // The operations of a burst may begin bursts: less than one each, or the load grows without end.
            bursts: pick(rng, &[0, 0, 1, 1]),
            burst: pick(rng, &[20, 40, 70]),
            restarts: pick(rng, &[0, 0, 5, 30]),
            doubles: pick(rng, &[0, 0, 100]),
            keys: pick(rng, &[0, 10, 30, 60, 100]),
            keys_across: pick(rng, &[0, 50, 100]),
            lists: between(rng, 1, 3),
            levels: 0, // Drawn beside the stream.
        }
    }
}
