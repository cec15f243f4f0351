//! The ledger's tests: rules, hazards by their numbers, and random histories against models.

mod batches;
mod bounds;
mod hazards;
mod keys;
mod lists;
mod operators;
mod phases;
mod random;
mod rules;
mod transactions;
mod waiting;

use bytes::Bytes;

use super::model::{ItemResult, NewAccount, Outcome, Reason, Transfer, TransferResult};
use super::output::{CommandResult, Output, TxnOutput};
use super::{Genesis, Ledger, Limits};
use crate::ids::{
    AccountId, Age, Attempt, Ballot, Epoch, GroupId, ReplicaId, Session, SessionId, Slot, TransferId, TxnId,
};
use crate::message::command::{
    Begin, ClientCommand, Command, CommandKind, Content, Decide, Entry, FORMAT, Fence, LeaderStart, Prepare,
    ReadCommand, Resolve, Verdict,
};
use crate::message::txn::VoteKind;
use crate::placement::map::{AccountRange, Mode, ShardMap};
use crate::time::{LogTime, Span};
use crate::wire::codec::{Encode, to_vec};

pub(super) const G1: GroupId = GroupId(1);
pub(super) const G2: GroupId = GroupId(2);
pub(super) const LONG: Span = Span(1_000_000);

/// Accounts 1 to 10 are g1's, 11 to 20 g2's; each begins with 10. Ids 101 to 110 are g1's, too, in another shard, for
/// tests that create accounts.
pub(super) fn genesis(group: GroupId, limits: Limits) -> Genesis {
    let range = |first, last| AccountRange { first: AccountId(first), last: AccountId(last) };
    let mode = Mode::Range(vec![range(1, 10), range(11, 20), range(101, 110)]);
    let map = ShardMap { epoch: Epoch(1), mode, owners: vec![G1, G2, G1] };
    Genesis { group, map, accounts: 20, initial_balance: 10, limits }
}

/// A ledger and the log that it has applied.
pub(super) struct World {
    pub(super) ledger: Ledger,
    pub(super) time: u64,
    pub(super) log: Vec<Vec<u8>>,
}

impl World {
    pub(super) fn new(group: GroupId) -> World {
        World::with(group, Limits::default())
    }

    pub(super) fn with(group: GroupId, limits: Limits) -> World {
        let mut world = World { ledger: Ledger::new(7, &genesis(group, limits)), time: 0, log: Vec::new() };
        world.lead(1);
        world
    }

    /// A leader of this round starts.
    pub(super) fn lead(&mut self, round: u64) {
        let ballot = Ballot { round, replica: ReplicaId(1) };
        let outputs = self.entry(Content::LeaderStart(LeaderStart { ballot, members: None }));
        assert_eq!(outputs, [], "a leader's first entry yields nothing here");
    }

    pub(super) fn entry(&mut self, content: Content) -> Vec<Output> {
        let entry = to_vec(&Entry { format: FORMAT, time: LogTime(self.time), wall: 0, content });
        let mut outputs = Vec::new();
        self.ledger.begin(self.ledger.applied(), &entry);
        while !self.ledger.apply(512, &mut outputs) {}
        self.log.push(entry);
        outputs
    }

    /// One entry of these commands.
    pub(super) fn run(&mut self, commands: impl Into<Vec<Command>>) -> Vec<Output> {
        self.entry(Content::Commands(commands.into()))
    }

    /// One entry of one command.
    pub(super) fn one(&mut self, command: Command) -> Vec<Output> {
        self.run([command])
    }

    /// Submits one transfer; its result, or nothing if it waits.
    pub(super) fn transfer(&mut self, transfer: Transfer) -> Option<TransferResult> {
        let outputs = self.one(transfers(&[transfer]));
        let first = outputs.iter().find_map(transfers_done).expect("a batch is answered");
        match first {
            (items, 0) if items.is_empty() => Some(TransferResult::Done(Outcome::Committed)),
            (items, 0) => Some(items[0].result),
            _ => None,
        }
    }

    /// Prepares as participant; the votes that came of it.
    pub(super) fn prepare(&mut self, transfer: Transfer, number: u64, counter: u64) -> Vec<VoteKind> {
        let outputs = self.one(prepare(transfer, number, counter));
        votes(&outputs)
    }

    /// Begins and, if the vote is yes, leaves it there; the votes.
    pub(super) fn begin(&mut self, transfer: Transfer, number: u64, counter: u64) -> Vec<VoteKind> {
        let outputs = self.one(begin(transfer, number, counter));
        assert!(outputs.iter().any(|output| matches!(output, Output::Txn(TxnOutput::Begun { .. }))), "{outputs:?}");
        votes(&outputs)
    }

    pub(super) fn decide(&mut self, transfer: Transfer, number: u64, verdict: Verdict) -> Vec<Output> {
        self.one(decide(transfer, number, verdict))
    }

    pub(super) fn resolve(&mut self, transfer: Transfer, number: u64, verdict: Verdict) -> Vec<Output> {
        self.one(resolve(transfer, number, verdict))
    }

    /// Credits posted less debits posted.
    pub(super) fn balance(&self, account: u128) -> i128 {
        let super::Whereabouts::Here(place) = self.ledger.accounts.whereabouts(AccountId(account)) else {
            panic!("account {account} is not here");
        };
        let account = self.ledger.accounts.row(place).account;
        account.credits_posted as i128 - account.debits_posted as i128
    }

    /// Creates accounts, which must work.
    pub(super) fn create(&mut self, accounts: &[NewAccount]) {
        let session = self.register(99);
        let outputs = self.one(create(session, 1, accounts));
        let [Output::Client(output)] = &outputs[..] else { panic!("{outputs:?}") };
        let CommandResult::Created(results) = &output.result else { panic!("{outputs:?}") };
        assert!(results.iter().all(|result| *result == super::model::CreateResult::Created), "{results:?}");
    }

    /// Registers a session.
    pub(super) fn register(&mut self, id: u128) -> Session {
        let outputs = self.one(register(id));
        match &outputs[..] {
            [Output::Client(output)] => match output.result {
                CommandResult::Registered(session) => session,
                _ => panic!("{outputs:?}"),
            },
            _ => panic!("{outputs:?}"),
        }
    }

    /// Applies the same log to a second ledger in steps of `budget`; both must end alike.
    pub(super) fn assert_replays(&self, group: GroupId, limits: Limits, outputs: &[Output], budget: usize, seed: u64) {
        let mut other = Ledger::new(seed, &genesis(group, limits));
        let mut again = Vec::new();
        for (slot, entry) in self.log.iter().enumerate() {
            other.begin(Slot(slot as u64), entry);
            while !other.apply(budget, &mut again) {}
        }
        assert_eq!(again, outputs, "budget {budget}, seed {seed}");
        assert_eq!(other.totals(), self.ledger.totals(), "budget {budget}, seed {seed}");
    }
}

pub(super) fn move_money(id: u128, debit: u128, credit: u128, amount: u128) -> Transfer {
    Transfer {
        id: TransferId(id),
        debit: AccountId(debit),
        credit: AccountId(credit),
        amount,
        ledger: 1,
        code: 1,
        ..Transfer::default()
    }
}

pub(super) fn client<T: Encode>(kind: CommandKind, session: Option<Session>, sequence: u64, items: &[T]) -> Command {
    let mut body = Vec::new();
    crate::wire::codec::encode_array_len(&mut body, items.len());
    items.iter().for_each(|item| item.encode(&mut body));
    let (count, body) = (items.len() as u32, Bytes::from(body));
    Command::Client(ClientCommand { kind, session, sequence, deadline: LONG, epoch: Epoch(1), count, body })
}

pub(super) fn transfers(items: &[Transfer]) -> Command {
    client(CommandKind::Transfers, None, 0, items)
}

pub(super) fn create(session: Session, sequence: u64, items: &[NewAccount]) -> Command {
    client(CommandKind::CreateAccounts, Some(session), sequence, items)
}

pub(super) fn register(id: u128) -> Command {
    Command::Client(ClientCommand {
        kind: CommandKind::Register,
        session: None,
        sequence: 0,
        deadline: LONG,
        epoch: Epoch(1),
        count: 0,
        body: to_vec(&SessionId(id)).into(),
    })
}

/// The attempt `number` of the leader of round 1.
pub(super) fn attempt(number: u64) -> Attempt {
    Attempt { ballot: Ballot { round: 1, replica: ReplicaId(1) }, number }
}

fn owner(account: AccountId) -> GroupId {
    if account.0 <= 10 { G1 } else { G2 }
}

fn age(transfer: &Transfer, counter: u64) -> Age {
    Age { counter, id: transfer.id }
}

pub(super) fn prepare_within(transfer: Transfer, number: u64, counter: u64, deadline: Span) -> Command {
    Command::Prepare(Prepare {
        txn: TxnId::from(&transfer),
        attempt: attempt(number),
        age: age(&transfer, counter),
        participants: vec![owner(transfer.debit), owner(transfer.credit)],
        action: transfer.into(),
        deadline,
    })
}

pub(super) fn prepare(transfer: Transfer, number: u64, counter: u64) -> Command {
    prepare_within(transfer, number, counter, LONG)
}

pub(super) fn begin(transfer: Transfer, number: u64, counter: u64) -> Command {
    Command::Begin(Begin {
        txn: TxnId::from(&transfer),
        attempt: attempt(number),
        age: age(&transfer, counter),
        participants: vec![owner(transfer.debit), owner(transfer.credit)],
        action: transfer.into(),
        deadline: LONG,
    })
}

pub(super) fn decide(transfer: Transfer, number: u64, verdict: Verdict) -> Command {
    Command::Decide(Decide { txn: TxnId::from(&transfer), attempt: attempt(number), verdict, replies: Vec::new() })
}

pub(super) fn resolve(transfer: Transfer, number: u64, verdict: Verdict) -> Command {
    Command::Resolve(Resolve { txn: TxnId::from(&transfer), attempt: attempt(number), verdict, values: Vec::new() })
}

pub(super) fn read(account: u128) -> Command {
    Command::Read(ReadCommand { account: AccountId(account), deadline: LONG })
}

pub(super) fn fence(transfer: Transfer) -> Command {
    Command::Fence(Fence { txn: TxnId::from(&transfer) })
}

pub(super) fn votes(outputs: &[Output]) -> Vec<VoteKind> {
    let vote = |output: &Output| match output {
        Output::Txn(TxnOutput::Voted { vote, .. }) => Some(*vote),
        _ => None,
    };
    outputs.iter().filter_map(vote).collect()
}

pub(super) fn is_resolved(outputs: &[Output]) -> bool {
    outputs.iter().any(|output| matches!(output, Output::Txn(TxnOutput::Resolved { .. })))
}

pub(super) fn decided(outputs: &[Output]) -> Option<Verdict> {
    outputs.iter().find_map(|output| match output {
        Output::Txn(TxnOutput::Decided { verdict, .. }) => Some(*verdict),
        _ => None,
    })
}

pub(super) fn transfers_done(output: &Output) -> Option<(&Vec<ItemResult>, u32)> {
    match output {
        Output::Client(output) => match &output.result {
            CommandResult::Transfers { items, waiting } => Some((items, *waiting)),
            _ => None,
        },
        _ => None,
    }
}

/// The late results, by slot and index.
pub(super) fn late(outputs: &[Output]) -> Vec<(u64, u32, TransferResult)> {
    let one = |output: &Output| match output {
        Output::Client(output) => match output.result {
            CommandResult::Late(item) => Some((output.command.slot.0, item.index, item.result)),
            _ => None,
        },
        _ => None,
    };
    outputs.iter().filter_map(one).collect()
}

/// The balances that reads found; nothing for an account that does not exist.
pub(super) fn reads(outputs: &[Output]) -> Vec<Option<i128>> {
    let one = |output: &Output| match output {
        Output::Read(_, account) => Some(account.map(|a| a.credits_posted as i128 - a.debits_posted as i128)),
        _ => None,
    };
    outputs.iter().filter_map(one).collect()
}

pub(super) const COMMITTED: TransferResult = TransferResult::Done(Outcome::Committed);

pub(super) const fn rejected(reason: Reason) -> TransferResult {
    TransferResult::Done(Outcome::Rejected(reason))
}
