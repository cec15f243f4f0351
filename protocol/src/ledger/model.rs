//! The words of the ledger: accounts, transfers, outcomes.

use std::fmt;

use crate::ids::{AccountId, TransferId};
use crate::time::{LogTime, Span};
use crate::wire::codec::{Decode, DecodeError, Encode, Reader, to_vec, wire_struct, wire_tags};

/// The most transfers in one batch.
pub const BATCH_LIMIT: usize = 8190;

/// What rules an account obeys: a set of bits.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Flags(u8);

impl Flags {
    /// No rule.
    pub const NONE: Flags = Flags(0);
    /// The balance never falls below zero.
    pub const DEBITS_MUST_NOT_EXCEED_CREDITS: Flags = Flags(1);
    /// The balance never rises above zero.
    pub const CREDITS_MUST_NOT_EXCEED_DEBITS: Flags = Flags(2);
    /// Takes no transfers; what is pending can only be voided.
    pub const CLOSED: Flags = Flags(4);
    /// Keeps a history of balances.
    pub const HISTORY: Flags = Flags(8);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// This set without `other`.
    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits as they are on the wire.
    pub const fn bits(self) -> u8 {
        self.0
    }
}

impl Encode for Flags {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Flags {
    fn decode(reader: &mut Reader<'_>) -> Result<Flags, DecodeError> {
        match u8::decode(reader)? {
            bits if bits < 16 => Ok(Flags(bits)),
            _ => Err(DecodeError::Number),
        }
    }
}

/// What a client says of a new account.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct NewAccount {
    /// Chosen by the client.
    pub id: AccountId,
    /// The currency; both sides of a transfer share it.
    pub ledger: u32,
    /// The client's own classification.
    pub code: u16,
    /// The rules.
    pub flags: Flags,
}
wire_struct!(NewAccount { id, ledger, code, flags });

/// An account and its four totals.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Account {
    /// Chosen by the client.
    pub id: AccountId,
    /// The currency; both sides of a transfer share it.
    pub ledger: u32,
    /// The client's own classification.
    pub code: u16,
    /// The rules.
    pub flags: Flags,
    /// Reserved by the user's own two-phase transfers, and nothing else.
    pub debits_pending: u128,
    /// What has gone out.
    pub debits_posted: u128,
    /// Announced by the user's own two-phase transfers, and nothing else.
    pub credits_pending: u128,
    /// What has come in.
    pub credits_posted: u128,
}
wire_struct!(Account { id, ledger, code, flags, debits_pending, debits_posted, credits_pending, credits_posted });

/// A signed amount: credits posted less debits posted may need 129 bits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Balance {
    /// Whether it lies below zero.
    pub negative: bool,
    /// Its distance from zero.
    pub magnitude: u128,
}
wire_struct!(Balance { negative, magnitude });

impl fmt::Display for Balance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.negative { "-" } else { "" }, self.magnitude)
    }
}

impl Balance {
    /// Whether it is this much or more.
    pub fn is_at_least(self, least: Balance) -> bool {
        match (self.negative && self.magnitude > 0, least.negative && least.magnitude > 0) {
            (false, false) => self.magnitude >= least.magnitude,
            (true, true) => self.magnitude <= least.magnitude,
            (negative, _) => !negative,
        }
    }
}

impl Account {
    /// Credits posted less debits posted.
    pub fn balance(&self) -> Balance {
        Balance {
            negative: self.debits_posted > self.credits_posted,
            magnitude: self.credits_posted.abs_diff(self.debits_posted),
        }
    }
}

/// A movement of money between two accounts of one ledger.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Transfer {
    /// Unique per debit account, for ever.
    pub id: TransferId,
    /// Where it comes from.
    pub debit: AccountId,
    /// Where it goes.
    pub credit: AccountId,
    /// Not zero.
    pub amount: u128,
    /// The currency of both accounts.
    pub ledger: u32,
    /// The client's own classification.
    pub code: u16,
    /// The client's own.
    pub user_data_128: u128,
    /// The client's own.
    pub user_data_64: u64,
    /// The client's own.
    pub user_data_32: u32,
}
wire_struct!(Transfer { id, debit, credit, amount, ledger, code, user_data_128, user_data_64, user_data_32 });

impl Transfer {
    /// A digest of the whole content: the same id with another digest is an `id_conflict`.
    pub fn digest(&self) -> u128 {
        xxhash_rust::xxh3::xxh3_128(&to_vec(self))
    }
}

/// A transfer as a group has posted it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Posted {
    /// The content.
    pub transfer: Transfer,
    /// Which sides of it this group posted.
    pub sides: Sides,
    /// The group's log time at the posting (hazard A6).
    pub posted_at: LogTime,
}
wire_struct!(Posted { transfer, sides, posted_at });

/// What has become of a pending transfer. Each but the first is final.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum PendingState {
    /// It holds what it has reserved.
    Open,
    /// It was posted, whole or in part.
    Posted,
    /// It was voided.
    Voided,
    /// Its time was over.
    Expired,
}
wire_tags!(PendingState { 1 => Open, 2 => Posted, 3 => Voided, 4 => Expired });

impl PendingState {
    /// Why it cannot be ended once more, if it has ended.
    pub fn refusal(self) -> Option<Reason> {
        match self {
            PendingState::Open => None,
            PendingState::Posted => Some(Reason::PendingAlreadyPosted),
            PendingState::Voided => Some(Reason::PendingAlreadyVoided),
            PendingState::Expired => Some(Reason::PendingExpired),
        }
    }
}

impl fmt::Display for PendingState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PendingState::Open => "pending",
            PendingState::Posted => "posted",
            PendingState::Voided => "voided",
            PendingState::Expired => "expired",
        })
    }
}

/// A transfer in two phases as a group knows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct PendingTransfer {
    /// The transfer; its amount is what was reserved.
    pub transfer: Transfer,
    /// Which sides of it this group has.
    pub sides: Sides,
    /// The group's log time when it was made.
    pub made_at: LogTime,
    /// How long it may stay pending, in the log time of the debit account's group; 0: for ever.
    pub timeout: Span,
    /// What has become of it.
    pub state: PendingState,
    /// The group's log time at its end; 0 while it is open.
    pub ended_at: LogTime,
    /// What was posted of it.
    pub posted: u128,
}
wire_struct!(PendingTransfer { transfer, sides, made_at, timeout, state, ended_at, posted });

/// What an account held after a change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BalancesAt {
    /// The account.
    pub account: AccountId,
    /// The transfer that was posted, reserved or released.
    pub transfer: TransferId,
    /// The group's log time.
    pub at: LogTime,
    /// Reserved by then.
    pub debits_pending: u128,
    /// Gone out by then.
    pub debits_posted: u128,
    /// Announced by then.
    pub credits_pending: u128,
    /// Come in by then.
    pub credits_posted: u128,
}
wire_struct!(BalancesAt { account, transfer, at, debits_pending, debits_posted, credits_pending, credits_posted });

/// Which accounts of a transfer a group owns.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sides {
    /// The debit account only.
    Debit,
    /// The credit account only.
    Credit,
    /// Both.
    Both,
}
wire_tags!(Sides { 1 => Debit, 2 => Credit, 3 => Both });

/// Why a transfer was rejected. Final.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    /// The debit account would owe more than it has.
    ExceedsCredits,
    /// The credit account would be owed more than it owes.
    ExceedsDebits,
    /// One of the accounts does not exist.
    NoSuchAccount,
    /// Debit and credit account are the same.
    SameAccount,
    /// The amount is zero.
    ZeroAmount,
    /// The accounts and the transfer are not all of one ledger.
    LedgerMismatch,
    /// One of the accounts is closed.
    Closed,
    /// A total would not fit 128 bits.
    Overflow,
    /// A condition of the transaction does not hold.
    Condition,
    /// The id was fenced before the transfer arrived.
    Fenced,
    /// The id is known with other content: the only rejection that is not recorded.
    IdConflict,
    /// A value, or all that a transaction yields, would have more bytes than the limit.
    TooLarge,
    /// The key that was to be added to holds no number.
    NotANumber,
    /// There is no pending transfer of this id and debit account.
    PendingNotFound,
    /// The pending transfer was posted before.
    PendingAlreadyPosted,
    /// The pending transfer was voided before.
    PendingAlreadyVoided,
    /// The pending transfer's time is over.
    PendingExpired,
    /// More was to be posted than is pending.
    ExceedsPendingAmount,
    /// The pending transfer has another credit account.
    PendingDifferentAccounts,
    /// Another member of the chain was rejected. Said by client libraries.
    LinkedEventFailed,
    /// The batch ended before the chain did. Said by client libraries.
    LinkedEventChainOpen,
}
wire_tags!(Reason {
    1 => ExceedsCredits, 2 => ExceedsDebits, 3 => NoSuchAccount, 4 => SameAccount, 5 => ZeroAmount,
    6 => LedgerMismatch, 7 => Closed, 8 => Overflow, 9 => Condition, 10 => Fenced, 11 => IdConflict,
    12 => TooLarge, 13 => NotANumber, 14 => PendingNotFound, 15 => PendingAlreadyPosted, 16 => PendingAlreadyVoided,
    17 => PendingExpired, 18 => ExceedsPendingAmount, 19 => PendingDifferentAccounts, 20 => LinkedEventFailed,
    21 => LinkedEventChainOpen,
});

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::ExceedsCredits => "exceeds_credits",
            Reason::ExceedsDebits => "exceeds_debits",
            Reason::NoSuchAccount => "no_such_account",
            Reason::SameAccount => "same_account",
            Reason::ZeroAmount => "zero_amount",
            Reason::LedgerMismatch => "ledger_mismatch",
            Reason::Closed => "closed",
            Reason::Overflow => "overflow",
            Reason::Condition => "condition",
            Reason::Fenced => "fenced",
            Reason::IdConflict => "id_conflict",
            Reason::TooLarge => "too_large",
            Reason::NotANumber => "not_a_number",
            Reason::PendingNotFound => "pending_not_found",
            Reason::PendingAlreadyPosted => "pending_already_posted",
            Reason::PendingAlreadyVoided => "pending_already_voided",
            Reason::PendingExpired => "pending_expired",
            Reason::ExceedsPendingAmount => "exceeds_pending_amount",
            Reason::PendingDifferentAccounts => "pending_different_accounts",
            Reason::LinkedEventFailed => "linked_event_failed",
            Reason::LinkedEventChainOpen => "linked_event_chain_open",
        })
    }
}

/// What became of a transfer, for ever.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// It took effect.
    Committed,
    /// It did not and never will (but for `IdConflict`, which speaks of this content only).
    Rejected(Reason),
}

impl Encode for Outcome {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Outcome::Committed => 0u8.encode(out),
            Outcome::Rejected(reason) => reason.encode(out),
        }
    }
}

impl Decode for Outcome {
    fn decode(reader: &mut Reader<'_>) -> Result<Outcome, DecodeError> {
        // Zero is no reason's tag, so one number tells both.
        let tag = reader.uint()?;
        if tag == 0 {
            return Ok(Outcome::Committed);
        }
        let reason = Reason::ALL.iter().find(|(_, number)| *number == tag).ok_or(DecodeError::Tag(tag))?;
        Ok(Outcome::Rejected(reason.0))
    }
}

/// What a group knows about one transfer of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TransferResult {
    /// Final.
    Done(Outcome),
    /// Not an answer: the queue was full, or it waited until its deadline. Try again under the same id.
    Retry,
    /// Not an answer: this group does not own one of the accounts. Ask for the map and try again.
    Moved,
    /// Not final: of a group that it needs, fewer than a majority of the replicas could be reached, or all that were
    /// reached found no quorum. Whether it took effect is not said; the id stays open.
    Unavailable,
    /// Not final: the deadline passed otherwise. Whether it took effect is not said; the id stays open.
    Unknown,
}

impl Encode for TransferResult {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            TransferResult::Done(outcome) => outcome.encode(out),
            TransferResult::Retry => 64u8.encode(out),
            TransferResult::Moved => 65u8.encode(out),
            TransferResult::Unavailable => 66u8.encode(out),
            TransferResult::Unknown => 67u8.encode(out),
        }
    }
}

impl Decode for TransferResult {
    fn decode(reader: &mut Reader<'_>) -> Result<TransferResult, DecodeError> {
        match reader.uint()? {
            64 => Ok(TransferResult::Retry),
            65 => Ok(TransferResult::Moved),
            66 => Ok(TransferResult::Unavailable),
            67 => Ok(TransferResult::Unknown),
            0 => Ok(TransferResult::Done(Outcome::Committed)),
            tag => {
                let reason = Reason::ALL.iter().find(|(_, number)| *number == tag).ok_or(DecodeError::Tag(tag))?;
                Ok(TransferResult::Done(Outcome::Rejected(reason.0)))
            }
        }
    }
}

/// The result of one transfer of a batch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ItemResult {
    /// Its place in the batch.
    pub index: u32,
    /// What became of it.
    pub result: TransferResult,
    /// It had its outcome before this request.
    pub replayed: bool,
}
wire_struct!(ItemResult { index, result, replayed });

/// What became of an account creation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CreateResult {
    /// It exists now.
    Created,
    /// It existed before, with the same content.
    Exists,
    /// It existed before, with other content; nothing was changed.
    ExistsDifferent,
    /// The id is outside all ranges, reserved, or not this group's.
    Moved,
}
wire_tags!(CreateResult { 1 => Created, 2 => Exists, 3 => ExistsDifferent, 4 => Moved });

#[cfg(test)]
mod tests {
    use super::{Outcome, Reason, TransferResult};
    use crate::wire::codec::{from_slice, to_vec};

    #[test]
    fn every_result_of_a_transfer_has_a_tag_of_its_own() {
        let rejected = Reason::ALL.iter().map(|(reason, _)| TransferResult::Done(Outcome::Rejected(*reason)));
        let open = [TransferResult::Retry, TransferResult::Moved, TransferResult::Unavailable, TransferResult::Unknown];
        let all: Vec<_> = rejected.chain([TransferResult::Done(Outcome::Committed)]).chain(open).collect();
        let mut bytes: Vec<_> = all.iter().map(to_vec).collect();
        for (result, bytes) in all.iter().zip(&bytes) {
            assert_eq!(from_slice::<TransferResult>(bytes), Ok(*result));
        }
        bytes.sort();
        bytes.dedup();
        assert_eq!(bytes.len(), all.len());
    }
}
