//! What one replica has lost, doubled or changed is found by `drachma audit`, and the transfer is named.

use std::path::Path;

use drachma_client::Status;
use drachma_protocol::ids::{GroupId, NodeId, TransferId};
use drachma_protocol::ledger::model::Transfer;
use drachma_protocol::log::record::Record;
use drachma_protocol::log::recover::Recoverer;
use drachma_protocol::log::segment::{self, HEADER, Header, Kind};
use drachma_protocol::log::writer::Appender;
use drachma_protocol::message::command::{Command, CommandKind, Content, Entry};
use drachma_protocol::wire::codec::{from_slice, to_vec};

use crate::common::{World, text, transfer};

const GROUP: GroupId = GroupId(2);
const LOST: TransferId = TransferId(0xdead_0001);
const COPY: TransferId = TransferId(0xc0b1_0002);

#[test]
fn a_planted_loss_makes_the_audit_fail_and_names_the_transfer() {
    let said = planted("a_planted_loss_makes_the_audit_fail_and_names_the_transfer", |transfers| {
        transfers.retain(|transfer| transfer.id != LOST);
    });
    assert!(said.contains("has lost transfer") && said.contains(&LOST.to_string()), "{said}");
}

#[test]
fn a_planted_double_makes_the_audit_fail_and_names_the_transfer() {
    let said = planted("a_planted_double_makes_the_audit_fail_and_names_the_transfer", |transfers| {
        let copied = transfers.iter().find(|transfer| transfer.id == LOST).copied();
        transfers.extend(copied.map(|transfer| Transfer { id: COPY, ..transfer }));
    });
    assert!(said.contains("once more than") && said.contains(&COPY.to_string()), "{said}");
}

#[test]
fn a_planted_change_makes_the_audit_fail_and_names_the_transfer() {
    let said = planted("a_planted_change_makes_the_audit_fail_and_names_the_transfer", |transfers| {
        transfers.iter_mut().filter(|transfer| transfer.id == LOST).for_each(|transfer| transfer.amount += 1);
    });
    assert!(said.contains("has posted transfer") && said.contains(&LOST.to_string()), "{said}");
}

/// Changes one batch in the log of one replica, and returns what the audit says of it.
fn planted(test: &str, change: fn(&mut Vec<Transfer>)) -> String {
    let mut world = World::start(test);
    let batch: Vec<Transfer> = (0..5).map(|n| transfer(LOST.0 + n * 16, 3001 + n, 3101 + n, 2)).collect();
    let across = transfer(77, 1, 3001, 1);
    let answers = world.wait(world.client.transfers(&[&batch[..], &[across]].concat(), None));
    assert!(answers.iter().all(|answer| answer.status == Status::Committed), "{answers:?}");
    let clean = world.drachma(&["audit"]);
    assert_eq!(clean.status.code(), Some(0), "{}{}", text(&clean.stdout), text(&clean.stderr));

    let leader = world.leader(GROUP, None);
    let victim = world.members(GROUP).into_iter().find(|node| *node != leader).unwrap();
    world.local.stop(&[victim]).unwrap();
    let changed = rewrite(&world.local.data().join(victim.to_string()).join("log"), GROUP, change);
    assert_eq!(changed, 1, "the batch is in one entry");
    world.start_node(victim);

    let table = world.drachma(&["audit"]);
    assert_eq!(table.status.code(), Some(1), "{}{}", text(&table.stdout), text(&table.stderr));
    let json = world.drachma(&["audit", "--output", "json"]);
    assert_eq!(json.status.code(), Some(1));
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((&report["verdict"], &report["replicas"]), (&"violated".into(), &9.into()), "{report}");
    let said = text(&table.stdout);
    assert!(said.contains(&victim.to_string()), "the replica is named: {said}");
    println!("{said}");
    still_runs(&mut world, victim);
    said
}

/// The replica goes on with the others, unaware.
fn still_runs(world: &mut World, victim: NodeId) {
    let answer = world.wait(world.client.transfer(transfer(78, 1, 3001, 1), None));
    assert_eq!(answer.status, Status::Committed);
    assert!(world.runtime.block_on(world.local.wait_caught_up(victim, crate::common::PATIENCE)));
}

/// Writes the log in a directory anew, with its batches of one group changed; returns how many entries differ.
fn rewrite(log: &Path, group: GroupId, change: fn(&mut Vec<Transfer>)) -> usize {
    let mut files: Vec<_> = std::fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let (mut records, mut owner, mut size) = (Vec::new(), None, 0);
    for file in &files {
        let bytes = std::fs::read(file).unwrap();
        std::fs::remove_file(file).unwrap();
        // The segment that was prepared ahead has no header yet.
        let Ok(header) = Header::decode(&bytes) else { continue };
        owner = Some(header.owner);
        size += bytes.len();
        let mut offset = HEADER;
        while let Some((head, body)) = segment::decode(&bytes[offset as usize..], header.segment, offset) {
            let record = (head.kind == Kind::Data as u8).then(|| from_slice::<Record>(body).unwrap());
            // A base says again what the records before it add up to.
            records.extend(record.filter(|it| !matches!(it, Record::Base(_))).map(|it| (head.group, it)));
            offset += head.length;
        }
    }
    let owner = owner.expect("the log has a segment");
    let mut groups: Vec<GroupId> = records.iter().map(|(group, _)| *group).collect();
    groups.sort_unstable();
    groups.dedup();
    let header = Appender::first_header(owner, u32::try_from(size + (1 << 20)).unwrap());
    let mut bytes = header.encode();
    bytes.resize(header.size as usize, 0);
    let mut recoverer = Recoverer::new(owner, &groups);
    recoverer.segment(1, &bytes).unwrap();
    let mut appender = recoverer.finish().unwrap().appender;
    let mut changed = 0;
    for (of, mut record) in records {
        if of == group {
            changed += entries(&mut record).into_iter().map(|entry| usize::from(alter(entry, change))).sum::<usize>();
        }
        appender.push(of, &record).unwrap();
    }
    let pending = appender.pending();
    let start = pending.position.offset as usize;
    bytes[start..start + pending.bytes.len()].copy_from_slice(pending.bytes);
    std::fs::write(log.join("00000001.log"), &bytes).unwrap();
    changed
}

fn entries(record: &mut Record) -> Vec<&mut bytes::Bytes> {
    match record {
        Record::Accept(accept) => vec![&mut accept.entry],
        Record::Synchronise(synchronise) => synchronise.entries.iter_mut().collect(),
        Record::Learn(learn) => learn.entries.iter_mut().collect(),
        Record::Base(base) => base.tail.iter_mut().collect(),
        Record::Promise(_) | Record::Chosen(_) | Record::Doubt(_) | Record::Snapshot(_) => Vec::new(),
    }
}

/// Changes the batches of an entry; whether it is another now.
fn alter(bytes: &mut bytes::Bytes, change: fn(&mut Vec<Transfer>)) -> bool {
    let mut entry: Entry = from_slice(bytes).unwrap();
    if let Content::Commands(commands) = &mut entry.content {
        for command in commands {
            let Command::Client(client) = command else { continue };
            if client.kind == CommandKind::Transfers {
                let mut transfers: Vec<Transfer> = from_slice(&client.body).unwrap();
                change(&mut transfers);
                client.count = u32::try_from(transfers.len()).unwrap();
                client.body = to_vec(&transfers).into();
            }
        }
    }
    let altered = to_vec(&entry);
    let differs = altered != bytes[..];
    *bytes = altered.into();
    differs
}
