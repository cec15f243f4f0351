//! Effects as the lines of a script.

use crate::ids::{Age, Attempt, GroupId, TxnId};
use crate::ledger::model::Transfer;
use crate::ledger::operations::{Action, Expire};
use crate::message::Message;
use crate::message::client::Response;
use crate::message::command::{Command, Verdict};
use crate::message::local::LocalMessage;
use crate::message::txn::{TxnMessage, VoteKind};
use crate::role::Effect;
use crate::time::{Span, Time};

pub(super) fn deadline(deadline: Option<Time>) -> String {
    deadline.map_or("deadline none".to_owned(), |time| format!("deadline {}", millis(Span(time.0))))
}

pub(super) fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Send { to, message: Message::Txn(message) } => {
            let role = format!("{:?}", to.role).to_lowercase();
            format!("-> {} {} {role}: {}", to.node, to.group, txn_message(message))
        }
        Effect::Send { message: Message::Local(LocalMessage::Propose(commands)), .. } => {
            let commands: Vec<String> = commands.iter().map(command).collect();
            format!("propose {}", commands.join("\n        "))
        }
        Effect::Reply { to, response } => format!("reply {}: {}", to.correlation, reply(response)),
        Effect::Trace(trace) => {
            let detail = trace.detail.replace("00000000000000000000000000000", "").replace(".r1", "");
            format!("trace {} {detail}", trace.event).trim_end().to_owned()
        }
        Effect::Again => "again".to_owned(),
        other => format!("{other:?}"),
    }
}

fn millis(span: Span) -> String {
    match span.0 % 1000 {
        0 => format!("{} ms", span.0 / 1000),
        micros => format!("{}.{micros:03} ms", span.0 / 1000),
    }
}

fn txn(txn: &TxnId, attempt: &Attempt) -> String {
    format!("{:x}@{} {}#{}", txn.id.0, txn.first, attempt.ballot.round, attempt.number)
}

fn content(action: &Action, age: &Age, participants: &[GroupId], deadline: Span) -> String {
    let groups: Vec<String> = participants.iter().map(ToString::to_string).collect();
    let what = match action {
        Action::Transfer(Transfer { debit, credit, amount, .. }) => format!("{debit}->{credit}:{amount}"),
        Action::Expire(Expire { pending, debit, credit, .. }) => format!("expire {:x}:{debit}->{credit}", pending.0),
        Action::Transaction(_) => panic!("the scripts have no transactions"),
    };
    let (age, groups) = (age.counter, groups.join(","));
    format!("{what} age {age} in {groups} within {}", millis(deadline))
}

fn verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Commit => "commit".to_owned(),
        Verdict::Abort => "abort".to_owned(),
        Verdict::Reject(reason) => format!("reject {reason}"),
    }
}

fn command(command: &Command) -> String {
    match command {
        Command::Begin(b) => {
            format!("Begin {} {}", txn(&b.txn, &b.attempt), content(&b.action, &b.age, &b.participants, b.deadline))
        }
        Command::Prepare(p) => {
            format!("Prepare {} {}", txn(&p.txn, &p.attempt), content(&p.action, &p.age, &p.participants, p.deadline))
        }
        Command::Decide(d) => format!("Decide {} {}", txn(&d.txn, &d.attempt), verdict(d.verdict)),
        Command::Resolve(r) => format!("Resolve {} {}", txn(&r.txn, &r.attempt), verdict(r.verdict)),
        Command::Forget(f) => {
            let ended: Vec<String> = f.ended.iter().map(|(id, attempt)| txn(id, attempt)).collect();
            format!("Forget {}", ended.join(", "))
        }
        other => format!("{other:?}"),
    }
}

fn txn_message(message: &TxnMessage) -> String {
    match message {
        TxnMessage::Prepare(p) => command(&Command::Prepare(p.clone())),
        TxnMessage::Resolve(r) => command(&Command::Resolve(r.clone())),
        TxnMessage::Vote(v) => {
            let kind = match v.vote {
                VoteKind::No(reason) => format!("no {reason}"),
                other => format!("{other:?}").to_lowercase(),
            };
            format!("Vote {} {kind} counter {}", txn(&v.txn, &v.attempt), v.counter)
        }
        TxnMessage::Resolved(r) => format!("Resolved {}", txn(&r.txn, &r.attempt)),
        TxnMessage::Inquire(i) => format!("Inquire {}", txn(&i.txn, &i.attempt)),
        TxnMessage::Redirect(r) => {
            let leader = r.leader.map_or("nobody".to_owned(), |node| node.to_string());
            format!("Redirect {} to {leader}{}", r.group, if r.no_quorum { ", no quorum" } else { "" })
        }
    }
}

fn reply(response: &Response) -> String {
    match response {
        Response::Transfers(done) if done.items.is_empty() => "all committed".to_owned(),
        Response::Transfers(done) => {
            let item = |item: &crate::ledger::model::ItemResult| {
                let replayed = if item.replayed { " (replayed)" } else { "" };
                format!("[{}] {:?}{replayed}", item.index, item.result)
            };
            done.items.iter().map(item).collect::<Vec<_>>().join(", ")
        }
        Response::Refused(refused) => {
            let leader = refused.leader.map_or(String::new(), |node| format!(", leader {node}"));
            let after =
                if refused.after == Span(0) { String::new() } else { format!(", after {}", millis(refused.after)) };
            format!("refused, {:?}{leader}{after}", refused.why)
        }
        other => format!("{other:?}"),
    }
}
