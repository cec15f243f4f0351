//! Commands of a script as inputs.

use std::str::{FromStr, SplitWhitespace};

use bytes::Bytes;

use crate::ids::{AccountId, Age, Attempt, Ballot, Epoch, GroupId, NodeId, Origin, ReplicaId, TransferId, TxnId};
use crate::ledger::model::{Outcome, Reason, Transfer};
use crate::ledger::operations::Expire;
use crate::ledger::output::TxnOutput;
use crate::ledger::records::{Coordinated, InDoubt};
use crate::message::Message;
use crate::message::client::{Call, Request};
use crate::message::command::{ClientCommand, CommandKind, Prepare, Resolve, Verdict};
use crate::message::local::{Follow, LocalMessage, Serve};
use crate::message::txn::{Inquire, Redirect, Resolved, TxnMessage, Vote, VoteKind};
use crate::role::{Address, Input, RoleKind};
use crate::time::{LogTime, Span};
use crate::wire::codec::to_vec;

/// What the next `serve` hands over.
#[derive(Default)]
pub(super) struct Records {
    pub(super) coordinated: Vec<Coordinated>,
    pub(super) in_doubt: Vec<InDoubt>,
}

/// The words of a command: first those in order, then `key=value` in any order, then flags.
pub(super) struct Words<'a> {
    text: &'a str,
    words: SplitWhitespace<'a>,
}

impl<'a> Words<'a> {
    pub(super) fn new(text: &'a str) -> Words<'a> {
        Words { text, words: text.split_whitespace() }
    }

    pub(super) fn verb(&mut self) -> &'a str {
        self.next()
    }

    fn next(&mut self) -> &'a str {
        self.words.next().unwrap_or_else(|| panic!("a word is missing in `{}`", self.text))
    }

    pub(super) fn number<T: FromStr>(&mut self) -> T {
        let word = self.next();
        self.parse(word)
    }

    fn parse<T: FromStr>(&self, word: &str) -> T {
        word.parse().unwrap_or_else(|_| panic!("`{word}` in `{}`", self.text))
    }

    fn key<T: FromStr>(&self, key: &str) -> Option<T> {
        let mut values = self.text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.strip_prefix('='));
        values.next().map(|word| self.parse(word))
    }

    fn flag(&self, flag: &str) -> bool {
        self.text.split_whitespace().any(|word| word == flag)
    }

    fn txn(&mut self) -> TxnId {
        let (id, first) = self.next().split_once('@').expect("ID@DEBIT");
        TxnId { id: TransferId(self.parse(id)), first: AccountId(self.parse(first)) }
    }

    fn attempt(&mut self) -> Attempt {
        let (ballot, number) = self.next().split_once('#').expect("BALLOT#NUMBER");
        Attempt { ballot: round(self.parse(ballot)), number: self.parse(number) }
    }

    fn transfer(&mut self) -> Transfer {
        let word = self.next();
        transfer(word).unwrap_or_else(|| panic!("`{word}` is not ID:DEBIT->CREDIT:AMOUNT"))
    }

    fn vote(&mut self) -> VoteKind {
        let word = self.next();
        vote(word)
    }

    fn verdict(&mut self) -> Verdict {
        let word = self.next();
        verdict(word)
    }

    /// `record TRANSFER ATTEMPT age=N deadline=MS [vote=V] [verdict=V]`
    pub(super) fn record(&mut self) -> Coordinated {
        let transfer = self.transfer();
        let credit = (transfer.credit.0 - 1) / 100 + 1;
        Coordinated {
            txn: TxnId::from(&transfer),
            attempt: self.attempt(),
            age: Age { counter: self.key("age").unwrap_or(1), id: transfer.id },
            participants: [1, credit].into_iter().filter(|g| *g <= 3).map(|g| GroupId(g as u16)).collect(),
            action: transfer.into(),
            deadline: LogTime(self.key::<u64>("deadline").unwrap_or(1000) * 1000),
            vote: self.key::<String>("vote").map(|word| vote(&word)),
            values: Vec::new(),
            verdict: self.key::<String>("verdict").map(|word| verdict(&word)),
            swapped: Vec::new(),
        }
    }

    /// `doubt TXN ATTEMPT coordinator=G [waiting]`
    pub(super) fn doubt(&mut self) -> InDoubt {
        InDoubt {
            txn: self.txn(),
            attempt: self.attempt(),
            coordinator: self.key("coordinator").unwrap_or(GroupId(1)),
            since: LogTime(0),
            waiting: self.flag("waiting"),
            yields: self.flag("yields"),
        }
    }

    /// A command that only changes the bench has no forgotten words; flags and keys are words.
    pub(super) fn finish_if_local(&self) {
        let plain =
            self.words.clone().find(|word| !word.contains('=') && word.starts_with(|c: char| c.is_ascii_digit()));
        let local = ["at", "record", "doubt"].contains(&self.text.split_whitespace().next().unwrap_or(""));
        assert!(!local || plain.is_none(), "`{plain:?}` is not understood in `{}`", self.text);
    }
}

fn round(round: u64) -> Ballot {
    Ballot { round, replica: ReplicaId(1) }
}

fn transfer(word: &str) -> Option<Transfer> {
    let (id, rest) = word.split_once(':')?;
    let (debit, rest) = rest.split_once("->")?;
    let (credit, amount) = rest.split_once(':')?;
    Some(Transfer {
        id: TransferId(id.parse().ok()?),
        debit: AccountId(debit.parse().ok()?),
        credit: AccountId(credit.parse().ok()?),
        amount: amount.parse().ok()?,
        ledger: 1,
        ..Transfer::default()
    })
}

fn reason(word: &str) -> Reason {
    let found = Reason::ALL.iter().find(|(reason, _)| reason.to_string() == word);
    found.unwrap_or_else(|| panic!("`{word}` is not a reason")).0
}

fn vote(word: &str) -> VoteKind {
    match word {
        "yes" => VoteKind::Yes,
        "die" => VoteKind::Die,
        "expired" => VoteKind::Expired,
        "moved" => VoteKind::Moved,
        "already" => VoteKind::AlreadyCommitted,
        reason => VoteKind::No(self::reason(reason)),
    }
}

fn verdict(word: &str) -> Verdict {
    match word {
        "commit" => Verdict::Commit,
        "abort" => Verdict::Abort,
        other => Verdict::Reject(reason(other)),
    }
}

/// The input that a command stands for.
pub(super) fn input(me: Address, command: &str, records: &mut Records) -> Input {
    let mut words = Words::new(command);
    match words.verb() {
        "turn" => Input::Turn,
        "timer" => Input::Timer,
        "link" => Input::Link { node: words.number(), up: words.next() == "up" },
        "request" => request(me, &mut words),
        verb @ ("serve" | "follow") => local(me, serving(verb, &words, records)),
        verb @ ("begun" | "void" | "known" | "voted" | "decided" | "due" | "resolved") => {
            local(me, LocalMessage::Events(vec![event(verb, &mut words)]))
        }
        verb => message(me, verb, &mut words),
    }
}

fn local(me: Address, message: LocalMessage) -> Input {
    Input::Message { from: Address { role: RoleKind::Replica, ..me }, message: Message::Local(message) }
}

// `request ORIGIN deadline=MS TRANSFER...`; `count=N`, `kind=create` and `cut` make it a bad one.
fn request(me: Address, words: &mut Words<'_>) -> Input {
    let origin = Origin { connection: 1, correlation: words.number() };
    let transfers: Vec<Transfer> = words.text.split_whitespace().filter_map(transfer).collect();
    let mut body = to_vec(&transfers);
    if words.flag("cut") {
        body.pop();
    }
    let command = ClientCommand {
        kind: if words.flag("create") { CommandKind::CreateAccounts } else { CommandKind::Transact },
        session: None,
        sequence: 1,
        deadline: Span::from_millis(words.key("deadline").unwrap_or(2000)),
        epoch: Epoch(1),
        count: words.key("count").unwrap_or(transfers.len() as u32),
        body: Bytes::from(body),
    };
    let group = words.key("group").unwrap_or(me.group);
    Input::Request { origin, request: Request { group, call: Call::Command(command) } }
}

// `serve ballot=N [counter=N] [time=MS]`; `follow [leader=NODE] [no_quorum]`
fn serving(verb: &str, words: &Words<'_>, records: &mut Records) -> LocalMessage {
    if verb == "follow" {
        return LocalMessage::Follow(Follow { leader: words.key("leader"), no_quorum: words.flag("no_quorum") });
    }
    let Records { coordinated, in_doubt } = std::mem::take(records);
    LocalMessage::Serve(Serve {
        ballot: round(words.key("ballot").expect("serve ballot=N")),
        time: LogTime(words.key::<u64>("time").unwrap_or(0) * 1000),
        members: Vec::new(),
        counter: words.key("counter").unwrap_or(0),
        coordinated,
        in_doubt,
    })
}

// `begun|void TXN ATTEMPT`, `known ... committed|REASON`, `voted ... VOTE [counter=N]`, `decided ... VERDICT`,
// `resolved ...`, `due TXN PENDING:DEBIT->CREDIT:AMOUNT`
fn event(verb: &str, words: &mut Words<'_>) -> TxnOutput {
    if verb == "due" {
        let (id, transfer) = (words.txn().id, words.transfer());
        let Transfer { id: pending, debit, credit, .. } = transfer;
        return TxnOutput::Due(Expire { id, pending, debit, credit });
    }
    let (txn, attempt) = (words.txn(), words.attempt());
    let coordinator = words.key("coordinator").unwrap_or(GroupId(1));
    match verb {
        "begun" => TxnOutput::Begun { txn, attempt },
        "void" => TxnOutput::Void { txn, attempt },
        "voted" => {
            let (vote, counter) = (words.vote(), words.key("counter").unwrap_or(0));
            TxnOutput::Voted { txn, attempt, coordinator, vote, counter, values: Vec::new() }
        }
        "decided" => TxnOutput::Decided { txn, attempt, verdict: words.verdict(), replies: Vec::new() },
        "resolved" => TxnOutput::Resolved { txn, attempt, coordinator },
        _ => {
            let outcome = match words.next() {
                "committed" => Outcome::Committed,
                other => Outcome::Rejected(reason(other)),
            };
            TxnOutput::Known { txn, attempt, outcome, replies: None }
        }
    }
}

// `VERB NODE ...`: what another node sends.
fn message(me: Address, verb: &str, words: &mut Words<'_>) -> Input {
    let node: NodeId = words.number();
    let group = GroupId(node.0.div_ceil(3));
    let message = match verb {
        "prepare" => {
            let (transfer, attempt) = (words.transfer(), words.attempt());
            TxnMessage::Prepare(Prepare {
                txn: TxnId::from(&transfer),
                attempt,
                age: Age { counter: words.key("age").unwrap_or(1), id: transfer.id },
                participants: vec![group, words.key("other").unwrap_or(GroupId(2))],
                action: transfer.into(),
                deadline: Span::from_millis(words.key("deadline").unwrap_or(1500)),
            })
        }
        "resolve" => {
            let (txn, attempt) = (words.txn(), words.attempt());
            TxnMessage::Resolve(Resolve { txn, attempt, verdict: words.verdict(), values: Vec::new() })
        }
        "vote" => {
            let (txn, attempt) = (words.txn(), words.attempt());
            let (vote, counter) = (words.vote(), words.key("counter").unwrap_or(0));
            TxnMessage::Vote(Vote { txn, attempt, group, vote, counter, values: Vec::new() })
        }
        "ack" => TxnMessage::Resolved(Resolved { txn: words.txn(), attempt: words.attempt(), group }),
        "inquire" => TxnMessage::Inquire(Inquire { txn: words.txn(), attempt: words.attempt(), group }),
        "redirect" => {
            TxnMessage::Redirect(Redirect { group, leader: words.key("leader"), no_quorum: words.flag("no_quorum") })
        }
        other => panic!("`{other}` is no command"),
    };
    let role = match me.role {
        RoleKind::Coordinator => RoleKind::Participant,
        _ => RoleKind::Coordinator,
    };
    Input::Message { from: Address { node, group, role }, message: Message::Txn(message) }
}
