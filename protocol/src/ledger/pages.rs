//! What operators ask: pages of accounts and transfers, what is pending, totals and digests.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::Xxh3;

use super::Ledger;
use super::accounts::{NO_TRANSFER, Place};
use super::digest::Sum;
use super::image::Row;
use super::model::BATCH_LIMIT;
use super::operations::{REPLIES_LIMIT, ROW_BYTES};
use crate::message::operator::{
    AccountsCall, AccountsPage, KeysCall, KeysPage, LedgerTotals, PageCall, PendingPage, PendingRow, PostedDigest,
    PostedPage, Totals,
};
use crate::wire::codec::Encode;

/// The most rows of an answer, whatever was asked for: an answer fits a frame, and a step its time.
const PAGE_LIMIT: usize = BATCH_LIMIT;

/// The most rows that are looked at for one page of accounts.
const SCAN_LIMIT: usize = 16_384;

/// The most pending transactions that are shown.
const PENDING_LIMIT: usize = 1000;

/// Positions of accounts count within a shard; the shard is in the upper bits.
const SHARD_SHIFT: u32 = 32;

impl Ledger {
    /// A page of accounts, shard by shard in the order of creation. A position names the shard in its upper 32 bits,
    /// so go on at `next`; a page may be shorter than the limit, or empty, and have a next one.
    pub fn accounts_page(&self, call: &AccountsCall) -> AccountsPage {
        let mut page = AccountsPage { accounts: Vec::new(), next: None, applied: self.applied };
        let Ok(shard) = u16::try_from(call.from >> SHARD_SHIFT) else { return page };
        let from = Place { shard, position: call.from as u32 };
        let limit = (call.limit as usize).min(PAGE_LIMIT);
        for (looked_at, (place, row)) in self.accounts.from(from).enumerate() {
            if page.accounts.len() == limit || looked_at == SCAN_LIMIT {
                page.next = Some(u64::from(place.shard) << SHARD_SHIFT | u64::from(place.position));
                break;
            }
            let changed = row.last != NO_TRANSFER;
            let reserved = self.accounts.is_reserved(row.account.id);
            if (changed || !call.changed) && (call.reserved || !reserved) {
                page.accounts.push(row.account);
            }
        }
        page
    }

    /// A page of posted transfers in their order: at most [`BATCH_LIMIT`], whatever was asked for.
    pub fn posted_page(&self, call: &PageCall) -> PostedPage {
        let limit = (call.limit as usize).min(PAGE_LIMIT);
        let rows = self.posted.from(call.from).take(limit).map(|row| row.posted).collect();
        PostedPage { rows, total: self.posted.len(), applied: self.applied }
    }

    /// A digest of a range of posted transfers: of at most [`BATCH_LIMIT`], whatever was asked for; `rows` says of how
    /// many.
    pub fn posted_digest(&self, call: &PageCall) -> PostedDigest {
        let limit = (call.limit as usize).min(PAGE_LIMIT);
        let mut hash = Xxh3::new();
        let mut bytes = Vec::new();
        let mut rows = 0;
        for row in self.posted.from(call.from).take(limit) {
            bytes.clear();
            row.posted.encode(&mut bytes);
            hash.update(&bytes);
            rows += 1;
        }
        PostedDigest { digest: hash.digest128(), rows, total: self.posted.len(), applied: self.applied }
    }

    /// A page of keys, shard by shard, in order: whatever was asked for, not more than an answer may have.
    pub fn keys_page(&self, call: &KeysCall) -> KeysPage {
        let mut page = KeysPage { rows: Vec::new(), next: None, applied: self.applied };
        let (limit, mut bytes) = ((call.limit as usize).min(PAGE_LIMIT), 0);
        for (shard, key, value) in self.keys.from(call.shard, call.from.as_ref()) {
            bytes += ROW_BYTES + key.as_bytes().len() + value.as_bytes().len();
            if page.rows.len() == limit || bytes > REPLIES_LIMIT {
                page.next = Some((shard, key.clone()));
                break;
            }
            page.rows.push((key.clone(), value.clone()));
        }
        page
    }

    /// What is in doubt or waits for its vote: at most 1,000 of it.
    pub fn pending_page(&self) -> PendingPage {
        let rows = self.transactions.in_doubt().take(PENDING_LIMIT).map(|row| PendingRow {
            txn: row.txn,
            attempt: row.attempt,
            coordinator: row.coordinator,
            since: row.since,
            waiting: row.waiting,
        });
        PendingPage {
            rows: rows.collect(),
            total: self.transactions.held_len() as u64,
            waiting: self.queue.len() as u64,
            time: self.time,
        }
    }

    /// The totals, recomputed from the accounts; equal on all replicas between the same two entries.
    pub fn totals(&self) -> Totals {
        let mut ledgers: BTreeMap<u32, LedgerTotals> = BTreeMap::new();
        let mut sum = Sum::default();
        for (place, row) in self.accounts.from(Place::default()) {
            let account = &row.account;
            let totals = ledgers.entry(account.ledger).or_default();
            totals.ledger = account.ledger;
            totals.debits = totals.debits.wrapping_add(account.debits_posted);
            totals.credits = totals.credits.wrapping_add(account.credits_posted);
            totals.debits_pending = totals.debits_pending.wrapping_add(account.debits_pending);
            totals.credits_pending = totals.credits_pending.wrapping_add(account.credits_pending);
            row.digest(self.accounts.shard(place), place.position, &mut sum);
        }
        for (ledger, flow) in &self.flows {
            let totals = ledgers.entry(*ledger).or_default();
            (totals.sent, totals.received) = (flow.sent, flow.received);
        }
        for (ledger, held) in self.pendings.held() {
            let pending = ledgers.get(ledger).map_or((0, 0), |totals| (totals.debits_pending, totals.credits_pending));
            assert_eq!(pending, *held, "what is pending at the accounts is what the pending transfers hold");
        }
        self.digest_all_but_accounts(&mut sum);
        Totals {
            applied: self.applied,
            digest: sum.total(),
            accounts: self.accounts.len() as u64,
            posted: self.posted.len(),
            keys: self.keys.len(),
            key_bytes: self.keys.bytes(),
            ids: self.ids.len() as u64,
            in_doubt: self.transactions.prepared_len() as u64,
            coordinated: self.transactions.records_len() as u64,
            waiting: self.queue.len() as u64,
            ledgers: ledgers.into_values().collect(),
            epoch: self.epoch(),
        }
    }

    /// Adds to a digest of the accounts what else the state has.
    pub(super) fn digest_all_but_accounts(&self, sum: &mut Sum) {
        self.flows.iter().for_each(|(ledger, flow)| Row::digest(&(*ledger, *flow), sum));
        sum.add(self.ids.sum());
        sum.add(self.posted.sum());
        sum.add(self.pendings.sum());
        sum.add(self.balances.sum());
        sum.add(self.keys.sum());
        sum.add(self.replies.sum());
        self.sessions.digest(sum);
        self.transactions.digest(sum);
        for (turn, waiter) in self.queue.iter() {
            waiter.digest(*turn, sum);
        }
        self.digest_head(sum);
    }
}
