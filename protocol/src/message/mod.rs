//! Everything that is said, one file per protocol, one struct per message, a sentence per field.
//!
//! [`client`], [`level`] and [`token`] are public: they are what `docs/protocol.md` describes. [`operator`] serves the command line. [`paxos`] is
//! spoken within a group, [`txn`] between groups; [`local`] between the roles of one group on one node, never on a
//! wire. [`command`] is what the log carries.

pub mod client;
pub mod command;
pub mod hello;
pub mod level;
pub mod local;
pub mod operator;
pub mod paxos;
pub mod token;
pub mod txn;

pub use local::LocalMessage;
pub use paxos::PaxosMessage;
pub use txn::TxnMessage;

/// A message from role to role.
#[derive(Clone, Debug)]
pub enum Message {
    /// Within a group.
    Paxos(PaxosMessage),
    /// Between groups.
    Txn(TxnMessage),
    /// Between the roles of one group on one node.
    Local(LocalMessage),
}
