//! The steps of the model in words.

use bytes::Bytes;

use drachma_protocol::ids::Ballot;
use drachma_protocol::message::PaxosMessage;
use drachma_protocol::message::command::{Content, Entry};
use drachma_protocol::role::RoleKind;
use drachma_protocol::wire::codec::from_slice;

use super::node::{NODES, Node};
use super::{Action, Letter, Paxos, State};
use crate::model::explore::{Sometimes, Told};

impl Told for Paxos {
    fn tell(&self, action: &Action) -> String {
        match action {
            Action::Deliver(letter) => show_letter(letter, "gets"),
            Action::Duplicate(letter) => show_letter(letter, "gets a copy of"),
            Action::Drop(letter) => show_letter(letter, "never gets"),
            Action::Sync(index) => format!("{}'s disk syncs", NODES[*index]),
            Action::Crash(index) => format!("{} crashes and comes back", NODES[*index]),
            Action::Rot(index) => {
                format!("{} crashes; its last record is damaged, and it comes back in doubt", NODES[*index])
            }
            Action::Stand(index) => format!("{} has lost its leader and stands", NODES[*index]),
            Action::Move(index, target) => format!("{} is to hand over to {}", NODES[*index], NODES[*target]),
            Action::Submit(index, command) => format!("a client sends t{} to {}", command + 1, NODES[*index]),
            Action::Timer(index) => format!("{}'s clock reaches its next deadline", NODES[*index]),
        }
    }

    fn sometimes(&self) -> Vec<Sometimes<Paxos>> {
        super::sometimes(&self.options)
    }

    fn changes(&self, before: &State, after: &State) -> Vec<String> {
        let mut lines = Vec::new();
        for (index, (old, new)) in before.nodes.iter().zip(&after.nodes).enumerate() {
            let (old, new) = (show_node(old), show_node(new));
            if old != new {
                lines.push(format!("{}: {new}", NODES[index]));
            }
        }
        for letter in after.network.iter().filter(|letter| before.network.iter().all(|other| other != *letter)) {
            lines.push(format!("{} sends {} {}", letter.from.node, letter.to.node, show(&letter.message)));
        }
        if after.chosen.len() > before.chosen.len() {
            lines.push(format!("{} entries are known to be chosen", after.chosen.len()));
        }
        for command in (0..8).filter(|command| after.spent.answered & !before.spent.answered & (1 << command) != 0) {
            lines.push(format!("the client is told that t{} is committed", command + 1));
        }
        if let Some(broken) = &after.broken {
            lines.push(format!("BROKEN: {}: {}", broken.rule, broken.text));
        }
        lines
    }
}

fn show_letter(letter: &Letter, verb: &str) -> String {
    let role = if letter.to.role == RoleKind::Leader { "leader" } else { "replica" };
    format!("{}'s {role} {verb} {} from {}", letter.to.node, show(&letter.message), letter.from.node)
}

fn show_node(node: &Node) -> String {
    let entries = node.disk.log().iter().map(|entry| show_entry(entry)).collect::<Vec<_>>().join(", ");
    let (promise, accepted) = (node.replica.promise(), node.replica.accepted());
    let (chosen, applied) = (node.chosen().len(), node.applied().len());
    let doubt = if node.disk.is_in_doubt() { ", in doubt" } else { "" };
    let unsynced = if node.disk.is_dirty() { ", unsynced" } else { "" };
    let leads = match node.leader.ballot() {
        None => String::new(),
        Some(ballot) if node.leader.is_serving() => format!(", serves with {ballot}"),
        Some(ballot) => format!(", stands or leads with {ballot}"),
    };
    format!(
        "promise {promise}, log of {accepted} [{entries}], chosen {chosen}, applied {applied}{unsynced}{doubt}{leads}"
    )
}

fn show_entry(entry: &Bytes) -> String {
    match from_slice::<Entry>(entry) {
        Ok(Entry { content: Content::LeaderStart(start), .. }) => format!("start {}", start.ballot),
        Ok(Entry { content: Content::Commands(commands), time, .. }) => {
            let ids = commands.iter().map(|command| match command {
                drachma_protocol::message::command::Command::Client(client) => show_transfers(&client.body),
                _ => "?".to_owned(),
            });
            let ids = ids.collect::<Vec<_>>().join(" ");
            if ids.is_empty() { format!("time {}", time.0) } else { ids }
        }
        Err(error) => error.to_string(),
    }
}

fn show_transfers(body: &Bytes) -> String {
    let transfers: Vec<drachma_protocol::ledger::model::Transfer> = from_slice(body).unwrap_or_default();
    transfers.iter().map(|transfer| format!("t{}", transfer.id.0)).collect::<Vec<_>>().join(" ")
}

fn show_entries(entries: &[Bytes]) -> String {
    format!("[{}]", entries.iter().map(show_entry).collect::<Vec<_>>().join(", "))
}

fn show(message: &PaxosMessage) -> String {
    let log = |ballot: Ballot, length, chosen| format!("log of {ballot} with {length}, {chosen} chosen");
    let rest = match message {
        PaxosMessage::PreCheck(m) => format!("{}", m.ballot),
        PaxosMessage::PreCheckReply(m) => format!("lost {}", m.lost),
        PaxosMessage::Prepare(m) => format!("{} ({})", m.ballot, log(m.accepted, m.length, m.chosen)),
        PaxosMessage::Promise(m) => {
            let m = m.get();
            format!("{} ({}) {}", m.ballot, log(m.accepted, m.length, m.chosen), show_entries(&m.entries))
        }
        PaxosMessage::Synchronise(m) => {
            format!("{} from {}: {}, {} chosen", m.ballot, m.from, show_entries(&m.entries), m.chosen)
        }
        PaxosMessage::Accept(m) => {
            format!("{} slot {}: {}, {} chosen", m.ballot, m.slot, show_entry(&m.entry), m.chosen)
        }
        PaxosMessage::Accepted(m) => format!("{} to {}", m.get().ballot, m.get().length),
        PaxosMessage::Commit(m) => format!("{} to {}", m.ballot, m.chosen),
        PaxosMessage::Heartbeat(m) => format!("{} round {}, {} chosen", m.ballot, m.round, m.chosen),
        PaxosMessage::HeartbeatAck(m) => format!("{} round {}", m.ballot, m.round),
        PaxosMessage::Refused(m) => format!("{}: {} was promised", m.ballot, m.promised),
        PaxosMessage::Missing(m) => format!("{} from {}", m.ballot, m.from),
        PaxosMessage::TakeOver(m) => format!("{}", m.ballot),
        PaxosMessage::AskAge(m) => format!("at {}", m.asked.0),
        PaxosMessage::Aged(m) => format!("at {}, {} chosen", m.question.asked.0, m.chosen),
        PaxosMessage::FetchChosen(m) => format!("from {}", m.from),
        PaxosMessage::FetchSnapshot(m) => format!("at {}", m.slot),
        PaxosMessage::SnapshotPiece(m) => format!("at {}", m.slot),
        PaxosMessage::ChosenEntries(m) => {
            format!("from {}: {}, {} chosen", m.start, show_entries(&m.entries), m.chosen)
        }
    };
    format!("{} {rest}", message.kind())
}
