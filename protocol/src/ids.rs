//! A type of its own for every number, so that mixing them does not compile.

use std::fmt;
use std::str::FromStr;

use crate::wire::codec::{wire_newtype, wire_struct};

macro_rules! number {
    ($($(#[$doc:meta])* $name:ident($inner:ty) $prefix:literal),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<$name, IdError> {
                let digits = text.strip_prefix($prefix).unwrap_or("");
                let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !(digits.len() > 1 && digits.starts_with('0'));
                match digits.parse() {
                    Ok(number) if plain => Ok($name(number)),
                    _ => Err(IdError { text: text.to_owned(), form: concat!($prefix, "NUMBER") }),
                }
            }
        }

        wire_newtype!($name);
    )+};
}

number! {
    /// One process, with a data directory and a listening address. Written `n1`.
    NodeId(u16) "n",
    /// A set of replicas that runs Multi-Paxos over one log. Written `g1`; `g0` is the placement service.
    GroupId(u16) "g",
    /// A replica of a group; a new one at each admission, so that ballots are never used twice (hazard S25).
    ReplicaId(u32) "r",
    /// The unit of placement: a part of the keyspace that belongs to one group at an epoch.
    ShardId(u16) "s",
    /// A version of the shard map.
    Epoch(u64) "e",
    /// A position in a group's log, from 0. As a length: the number of entries before it.
    Slot(u64) "",
    /// An account of the ledger.
    AccountId(u128) "",
}

/// A text that is not an id of the wanted form.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is not of the form {form}")]
pub struct IdError {
    text: String,
    form: &'static str,
}

impl Slot {
    /// The position after this one.
    pub fn next(self) -> Slot {
        Slot(self.0.saturating_add(1))
    }

    /// The position `count` after this one.
    pub fn plus(self, count: usize) -> Slot {
        Slot(self.0.saturating_add(count as u64))
    }

    /// How many entries lie between `start` and this position; zero if it lies before `start`.
    pub fn distance_from(self, start: Slot) -> usize {
        usize::try_from(self.0.saturating_sub(start.0)).unwrap_or(usize::MAX)
    }
}

macro_rules! hex_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<$name, IdError> {
                let wrong = || IdError { text: text.to_owned(), form: "1 to 32 hexadecimal digits" };
                if text.is_empty() || text.len() > 32 || text.starts_with('+') {
                    return Err(wrong());
                }
                u128::from_str_radix(text, 16).map($name).map_err(|_| wrong())
            }
        }

        wire_newtype!($name);
    )+};
}

hex_id! {
    /// Chosen by the client; unique per debit account, for ever. Written as hexadecimal digits.
    TransferId,
    /// A client's identity as the client chose it; see [`Session`].
    SessionId,
    /// A hash of the cluster's shape; nodes and directories of another cluster are refused by it.
    ClusterId,
    /// Drawn at random when a data directory is formatted.
    DirectoryId,
}

/// (round, replica), totally ordered.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ballot {
    /// Grows with each election.
    pub round: u64,
    /// Who leads it.
    pub replica: ReplicaId,
}
wire_struct!(Ballot { round, replica });

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.replica)
    }
}

/// A transaction's identity: its id, and its first account, as the client wrote it. The same in every retry.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TxnId {
    /// Chosen by the client.
    pub id: TransferId,
    /// The account (a transfer's debit account) under which the id is unique; its group coordinates.
    pub first: AccountId,
}
wire_struct!(TxnId { id, first });

impl fmt::Display for TxnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.id, self.first)
    }
}

/// One try at a transaction. It contains the ballot of the leader that began it, so that a retry never shares its
/// identity with an aborted try (hazard S7).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Attempt {
    /// The ballot of the coordinator's leader.
    pub ballot: Ballot,
    /// Counts the attempts of that leader.
    pub number: u64,
}
wire_struct!(Attempt { ballot, number });

/// A place in the order of waiting: a Lamport counter, then the id. Smaller is older. Given once, kept over retries
/// (hazard L6).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Age {
    /// The counter of the group that gave it.
    pub counter: u64,
    /// Breaks ties.
    pub id: TransferId,
}
wire_struct!(Age { counter, id });

/// A client's session in one group: its id and the slot of its registration there, so that a second registration
/// under the same id is another session (hazard S17).
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Session {
    /// Chosen by the client.
    pub id: SessionId,
    /// Where the group's log registered it.
    pub registered: Slot,
}
wire_struct!(Session { id, registered });

/// Where an answer goes: a connection of the gateway and the request on it. Means something on its own node only.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Origin {
    /// The gateway's connection.
    pub connection: u64,
    /// The client's correlation id.
    pub correlation: u64,
}

/// A command's place in the log.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CommandRef {
    /// The entry.
    pub slot: Slot,
    /// The command in it, from 0.
    pub index: u32,
}
wire_struct!(CommandRef { slot, index });
