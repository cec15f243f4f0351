//! What the log carries: entries, and the commands in them.

use bytes::Bytes;

use crate::ids::{
    AccountId, Age, Attempt, Ballot, DirectoryId, Epoch, GroupId, NodeId, ReplicaId, Session, TransferId, TxnId,
};
use crate::ledger::model::{Reason, Transfer};
use crate::ledger::operations::{Action, Answered, Reply};
use crate::time::{LogTime, Span};
use crate::wire::codec::{Decode, DecodeError, Reader, wire_enum, wire_struct, wire_tags};

/// The format version of commands that this build writes; it reads all up to it.
pub const FORMAT: u8 = 1;

/// What is chosen for a slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The format version of its commands; all members of the group know it.
    pub format: u8,
    /// The leader's log time; apply takes the larger of it and the last applied (hazard S26).
    pub time: LogTime,
    /// The leader's wall clock in microseconds since 1970; shown, never used.
    pub wall: u64,
    /// The rest.
    pub content: Content,
}
wire_struct!(Entry { format, time, wall, content });

impl Entry {
    /// Whether `bytes` are an entry that this build can apply, the bodies of clients' commands aside. What a peer sends
    /// is looked at before it can be accepted: once it is chosen, every replica has to apply it.
    pub fn is_well_formed(bytes: &[u8]) -> bool {
        let mut reader = Reader::new(bytes);
        Entry::check(&mut reader).and_then(|()| reader.finish()).is_ok()
    }

    fn check(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        reader.array_of(Entry::FIELDS.len() as u32)?;
        if u8::decode(reader)? > FORMAT {
            return Err(DecodeError::Expected("a format that this build knows"));
        }
        LogTime::decode(reader)?;
        u64::decode(reader)?;
        reader.array_of(2)?;
        match reader.uint()? {
            1 => LeaderStart::decode(reader).map(drop),
            // One after the other: an entry is large, a command need not be.
            2 => (0..reader.array_len()?).try_for_each(|_| Command::decode(reader).map(drop)),
            tag => Err(DecodeError::Tag(tag)),
        }
    }
}

/// The content of an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// The first entry of a leader.
    LeaderStart(LeaderStart),
    /// A batch.
    Commands(Vec<Command>),
}
wire_enum!(Content { 1 => LeaderStart, 2 => Commands });

/// Names the ballot of the leader whose first entry this is. Records of older ballots are void after it (hazard S35).
#[derive(Clone, Debug, PartialEq)]
pub struct LeaderStart {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The members of the group: in the very first entry of a group only.
    pub members: Option<Vec<Member>>,
}
wire_struct!(LeaderStart { ballot, members });

/// A voter of a group.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    /// Its identity in ballots.
    pub replica: ReplicaId,
    /// Where it runs.
    pub node: NodeId,
    /// The data directory that it was admitted with; another one is refused (hazard S25).
    pub directory: DirectoryId,
}
wire_struct!(Member { replica, node, directory });

/// One command of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A client's, as it came.
    Client(ClientCommand),
    /// Coordinator: a transaction begins; contains the local prepare.
    Begin(Begin),
    /// Participant: promise to be able to apply.
    Prepare(Prepare),
    /// Coordinator: the decision.
    Decide(Decide),
    /// Participant: the decision, carried out.
    Resolve(Resolve),
    /// Coordinator: all participants have acknowledged.
    Forget(Forget),
    /// A read that met something in doubt: evaluated at the first moment when nothing is.
    Read(ReadCommand),
    /// Settles an id for ever: if it has no outcome, it never will have one.
    Fence(Fence),
}
wire_enum!(Command {
    1 => Client, 2 => Begin, 3 => Prepare, 4 => Decide, 5 => Resolve, 6 => Forget, 7 => Read, 8 => Fence,
});

/// A command of the roles, about: an id, an attempt, an age and the head.
const COMMAND_BYTES: usize = 160;

impl Command {
    /// About how many bytes it has in an entry.
    pub(crate) fn bytes(&self) -> usize {
        let content = match self {
            Command::Client(command) => command.body.len(),
            Command::Begin(begin) => begin.action.bytes(),
            Command::Prepare(prepare) => prepare.action.bytes(),
            Command::Decide(decide) => decide.replies.iter().map(Reply::bytes).sum(),
            Command::Resolve(resolve) => resolve.values.iter().map(|value| value.reply.bytes()).sum(),
            Command::Forget(forget) => forget.ended.len() * 64,
            Command::Read(_) | Command::Fence(_) => 0,
        };
        COMMAND_BYTES + content
    }
}

/// What the body of a client's command is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CommandKind {
    /// Registers the session that the envelope's sequence names; the body is the session id.
    Register,
    /// A batch of transfers, all accounts in one group; the body is an array of them.
    Transfers,
    /// A batch of transfers with debit accounts in the coordinator's group and credit accounts elsewhere. Never
    /// logged as it came: the coordinator takes it apart.
    Transact,
    /// Creates accounts; the body is an array of them.
    CreateAccounts,
    /// One transaction, all of whose accounts and keys are in one group.
    Transaction,
    /// One transaction over groups, sent to the one that coordinates it. Never logged as it came.
    TransactOver,
}
wire_tags!(CommandKind {
    1 => Register, 2 => Transfers, 3 => Transact, 4 => CreateAccounts, 5 => Transaction, 6 => TransactOver,
});

impl CommandKind {
    /// Whether the coordinator takes it apart; the leader takes the others.
    pub fn is_coordinated(self) -> bool {
        matches!(self, CommandKind::Transact | CommandKind::TransactOver)
    }
}

/// A client's command: the envelope, which is read on the way, and the body, which is decoded when it is applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCommand {
    /// What the body is.
    pub kind: CommandKind,
    /// Who sends it; nothing for `Register`.
    pub session: Option<Session>,
    /// Counts the session's commands over all groups; a retry has the same.
    pub sequence: u64,
    /// How long the client still waits.
    pub deadline: Span,
    /// The version of the shard map that routed it.
    pub epoch: Epoch,
    /// How many operations the body has.
    pub count: u32,
    /// Opaque until it is applied.
    pub body: Bytes,
}
wire_struct!(ClientCommand { kind, session, sequence, deadline, epoch, count, body });

/// A transaction begins. Void after its own abort, or after the first entry of a newer leader (hazards S7, S35).
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Begin {
    /// The transaction.
    pub txn: TxnId,
    /// The try.
    pub attempt: Attempt,
    /// Its place in the order of waiting, kept over retries and failovers.
    pub age: Age,
    /// Every group that takes part, the coordinator's first.
    pub participants: Vec<GroupId>,
    /// What it does.
    pub action: Action,
    /// How long the client still waits.
    pub deadline: Span,
}
wire_struct!(Begin { txn, attempt, age, participants, action, deadline });

/// Promise to be able to apply. The vote is what applying it yields.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prepare {
    /// The transaction.
    pub txn: TxnId,
    /// The try.
    pub attempt: Attempt,
    /// Its place in the order of waiting.
    pub age: Age,
    /// Every group that takes part, the coordinator's first (hazard S14).
    pub participants: Vec<GroupId>,
    /// What it does; each participant applies what it owns of it.
    pub action: Action,
    /// How long it may wait for its vote.
    pub deadline: Span,
}
wire_struct!(Prepare { txn, attempt, age, participants, action, deadline });

/// How an attempt ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// Every participant applies it.
    Commit,
    /// Every participant lets go; the id stays open and may be tried again.
    Abort,
    /// Every participant lets go and records the rejection under the id.
    Reject(Reason),
}

/// The decision on an attempt. The first one that is applied stands.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Decide {
    /// The transaction.
    pub txn: TxnId,
    /// The try.
    pub attempt: Attempt,
    /// How it ends.
    pub verdict: Verdict,
    /// Of a commit: what each operation yields, in their order. Nothing of a transfer alone.
    pub replies: Vec<Reply>,
}
wire_struct!(Decide { txn, attempt, verdict, replies });

/// The decision, at a participant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Resolve {
    /// The transaction.
    pub txn: TxnId,
    /// The try.
    pub attempt: Attempt,
    /// How it ends.
    pub verdict: Verdict,
    /// Of a commit: what the keys of its swaps held, for those that write it elsewhere (hazard S5).
    pub values: Vec<Answered>,
}
wire_struct!(Resolve { txn, attempt, verdict, values });

/// Coordinator's records that are no longer needed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Forget {
    /// Each acknowledged by all its participants.
    pub ended: Vec<(TxnId, Attempt)>,
}
wire_struct!(Forget { ended });

/// Reads that wait for a quiet moment; all reads of an account share one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReadCommand {
    /// What is read.
    pub account: AccountId,
    /// How long it may wait.
    pub deadline: Span,
}
wire_struct!(ReadCommand { account, deadline });

/// Settles an id.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fence {
    /// The id and the account under which it is unique.
    pub txn: TxnId,
}
wire_struct!(Fence { txn });

mod verdict {
    use super::Verdict;
    use crate::ledger::model::Reason;
    use crate::wire::codec::{Decode, DecodeError, Encode, Reader};

    // 0 commit, 64 abort, anything else the tag of a reason.
    impl Encode for Verdict {
        fn encode(&self, out: &mut Vec<u8>) {
            match self {
                Verdict::Commit => 0u8.encode(out),
                Verdict::Abort => 64u8.encode(out),
                Verdict::Reject(reason) => reason.encode(out),
            }
        }
    }

    impl Decode for Verdict {
        fn decode(reader: &mut Reader<'_>) -> Result<Verdict, DecodeError> {
            match reader.uint()? {
                0 => Ok(Verdict::Commit),
                64 => Ok(Verdict::Abort),
                tag => {
                    let reason = Reason::ALL.iter().find(|(_, n)| *n == tag).ok_or(DecodeError::Tag(tag))?;
                    Ok(Verdict::Reject(reason.0))
                }
            }
        }
    }
}

/// A transfer's fields are in `ledger::model`; the id of the transaction that carries it:
impl From<&Transfer> for TxnId {
    fn from(transfer: &Transfer) -> TxnId {
        TxnId { id: TransferId(transfer.id.0), first: transfer.debit }
    }
}
