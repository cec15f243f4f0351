//! The steps of the model in words.

use drachma_protocol::ids::{Attempt, TxnId};
use drachma_protocol::message::TxnMessage;
use drachma_protocol::message::command::Command;

use super::node::{Answer, GROUPS, node_id};
use super::{Action, Commit, Group, Letter, State};
use crate::model::explore::{Sometimes, Told};

impl Told for Commit {
    fn tell(&self, action: &Action) -> String {
        match action {
            Action::Deliver(letter) => show_letter(letter, "gets"),
            Action::Duplicate(letter) => show_letter(letter, "gets a copy of"),
            Action::Drop(letter) => show_letter(letter, "never gets"),
            Action::Choose(group) => format!("{} chooses and applies its next entry", GROUPS[*group]),
            Action::Fail { group, adopted, crash } => {
                let how = if *crash { "crashes" } else { "is deposed and does not know it" };
                format!("the leader of {} {how}; {adopted} of what it proposed are adopted", GROUPS[*group])
            }
            Action::Learn(group) => format!("the deposed leader of {} learns of it", GROUPS[*group]),
            Action::Submit(number) => format!("a client sends t{}", number + 1),
            Action::Timer(index) => format!("{}'s clock reaches its next deadline", node_id(*index)),
            Action::Expire(group) => format!("what waits in {} expires", GROUPS[*group]),
        }
    }

    fn sometimes(&self) -> Vec<Sometimes<Commit>> {
        super::sometimes(&self.options)
    }

    fn changes(&self, before: &State, after: &State) -> Vec<String> {
        let mut lines = Vec::new();
        for (index, (old, new)) in before.groups.iter().zip(&after.groups).enumerate() {
            let (old, new) = (show_group(old), show_group(new));
            if old != new {
                lines.push(format!("{}: {new}", GROUPS[index]));
            }
        }
        for letter in after.network.iter().filter(|letter| before.network.iter().all(|other| other != *letter)) {
            lines.push(format!("{} sends {} {}", letter.from.node, letter.to.node, show(&letter.message)));
        }
        for (number, (old, new)) in before.clients.iter().zip(&after.clients).enumerate() {
            if let (None, Some(answer)) = (old.answer, new.answer) {
                let word = if answer == Answer::Committed { "committed" } else { "rejected" };
                lines.push(format!("the client is told that t{} is {word}", number + 1));
            }
        }
        if let Some(broken) = &after.broken {
            lines.push(format!("BROKEN: {}: {}", broken.rule, broken.text));
        }
        lines
    }
}

fn show_letter(letter: &Letter, verb: &str) -> String {
    format!("{} {verb} {} from {}", letter.to.node, show(&letter.message), letter.from.node)
}

fn show_group(group: &Group) -> String {
    let sides = group.books.sides.iter().enumerate().map(|(number, (outcome, held))| {
        let what = match outcome {
            Some(outcome) => format!("{outcome:?}"),
            None if *held => "held".to_owned(),
            None => "open".to_owned(),
        };
        format!("t{} {what}", number + 1)
    });
    let pending =
        group.pending.iter().map(|commands| commands.iter().map(show_command).collect::<Vec<_>>().join(" and "));
    let (sides, pending) = (sides.collect::<Vec<_>>().join(", "), pending.collect::<Vec<_>>().join(", "));
    let (leader, applied) = (node_id(group.leader), group.books.ledger.applied());
    format!("led by {leader}, {applied} entries applied: {sides}; proposed [{pending}]")
}

fn label(txn: TxnId, attempt: Attempt) -> String {
    format!("t{} {}#{}", txn.id.0, attempt.ballot, attempt.number)
}

fn show_command(command: &Command) -> String {
    match command {
        Command::Begin(m) => format!("Begin {}", label(m.txn, m.attempt)),
        Command::Prepare(m) => format!("Prepare {}", label(m.txn, m.attempt)),
        Command::Decide(m) => format!("Decide {} {:?}", label(m.txn, m.attempt), m.verdict),
        Command::Resolve(m) => format!("Resolve {} {:?}", label(m.txn, m.attempt), m.verdict),
        Command::Forget(_) => "Forget".to_owned(),
        Command::Client(_) | Command::Read(_) | Command::Fence(_) => "a client's command".to_owned(),
    }
}

fn show(message: &TxnMessage) -> String {
    match message {
        TxnMessage::Prepare(m) => format!("Prepare {}", label(m.txn, m.attempt)),
        TxnMessage::Vote(m) => format!("Vote {} {:?}", label(m.txn, m.attempt), m.vote),
        TxnMessage::Resolve(m) => format!("Resolve {} {:?}", label(m.txn, m.attempt), m.verdict),
        TxnMessage::Resolved(m) => format!("Resolved {}", label(m.txn, m.attempt)),
        TxnMessage::Inquire(m) => format!("Inquire {}", label(m.txn, m.attempt)),
        TxnMessage::Redirect(m) => match m.leader {
            Some(leader) => format!("Redirect to {leader}"),
            None => "Redirect".to_owned(),
        },
    }
}
