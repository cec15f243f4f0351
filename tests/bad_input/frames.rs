//! Frames and connections: limits, checksums, garbage, strangers, and whoever never reads.

use std::io::Write;
use std::time::Instant;

use drachma_protocol::ids::{ClusterId, DirectoryId, GroupId, NodeId};
use drachma_protocol::message::client::{Call, MapCall, Request, Response, Why};
use drachma_protocol::message::command::CommandKind;
use drachma_protocol::message::hello::{Caller, Hello, Refusal};
use drachma_protocol::message::operator::{Nothing, OperatorAnswer, OperatorCall};
use drachma_protocol::rng::Rng;
use drachma_protocol::wire::codec::to_vec;
use drachma_protocol::wire::frame::{self, Kind, LIMIT_CLIENT, LIMIT_HELLO};

use crate::rig::{Heard, Line, PATIENCE, Rig, client_hello, hello_frame, raw_command, raw_frame, seal, transfer};

const N1: NodeId = NodeId(1);

/// A request whose frame has exactly `total` bytes, header included: a command with a body of garbage.
fn request_of(total: usize) -> Vec<u8> {
    let frame = |body: usize| {
        let call = Call::Command(raw_command(CommandKind::Transfers, 1, vec![0xc1; body]));
        let mut out = Vec::new();
        frame::encode(&mut out, Kind::Request, 5, &Request { group: GroupId(1), call });
        out
    };
    let around = frame(100_000).len() - 100_000;
    let out = frame(total - around);
    assert_eq!(out.len(), total);
    out
}

#[test]
fn a_frame_at_each_limit_passes_and_one_byte_more_is_too_large() {
    let mut rig = Rig::small("limits");
    let before = rig.settled();
    let leader = rig.leader(1);
    // No Hello is as large as it may be: at the limit it is looked at, and is none.
    for (total, refusal) in [(LIMIT_HELLO, Refusal::Malformed), (LIMIT_HELLO + 1, Refusal::TooLarge)] {
        let mut line = rig.line(leader);
        line.say(&raw_frame(Kind::Hello as u16, 0, &vec![0; total - frame::HEADER]));
        assert_eq!(line.refusal(), refusal, "{total}");
    }
    // The largest request goes through the log of every replica: chosen, applied, and refused by all of them alike.
    let mut line = rig.caller(leader);
    line.say(&request_of(LIMIT_CLIENT));
    match line.hear() {
        Heard::Answer(5, Response::Refused(refused)) => assert_eq!(refused.why, Why::Malformed),
        other => panic!("{other:?}"),
    }
    // Refused as soon as its length is there: before it has arrived, and before memory is taken.
    line.say(&request_of(LIMIT_CLIENT + 1)[..8]);
    assert_eq!(line.refusal(), Refusal::TooLarge);
    assert_eq!(rig.count(leader, "frames_too_large"), 2);
    for announced in [0u32, 11, u32::MAX] {
        let mut line = rig.caller(leader);
        let mut bytes = announced.to_be_bytes().to_vec();
        bytes.resize(64, 0);
        line.say(&bytes);
        let refusal = line.refusal();
        assert_eq!(refusal, if announced == u32::MAX { Refusal::TooLarge } else { Refusal::Malformed });
    }
    assert_eq!(rig.settled(), before);
    rig.assert_unharmed();
}

#[test]
fn damaged_unknown_and_unexpected_frames_close_the_connection_with_a_word_and_are_counted() {
    let mut rig = Rig::small("frames");
    let before = rig.settled();
    let map = to_vec(&Request { group: GroupId(0), call: Call::Map(MapCall { epoch: Default::default() }) });
    let good = raw_frame(Kind::Request as u16, 1, &map);
    // Every bit of the checksum and of what it covers, one at a time; the length is another matter.
    for bit in 32..good.len() * 8 {
        let mut line = rig.caller(N1);
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        line.say(&bad);
        assert_eq!(line.refusal(), Refusal::Malformed, "bit {bit}");
    }
    assert_eq!(rig.count(N1, "frames_bad_checksum"), (good.len() * 8 - 32) as u64);
    let version = |version, flags| {
        let mut bad = good.clone();
        (bad[10], bad[11]) = (version, flags);
        seal(&mut bad);
        bad
    };
    let unexpected = [
        version(0, 0),
        version(2, 0),
        version(255, 0),
        version(1, 1),
        raw_frame(0, 1, &map),
        raw_frame(4, 1, &map),
        raw_frame(u16::MAX, 1, &map),
        raw_frame(Kind::Welcome as u16, 1, &map),
        raw_frame(Kind::Response as u16, 1, &map),
        raw_frame(Kind::Paxos as u16, 1, &map),
        raw_frame(Kind::Txn as u16, 1, &map),
        hello_frame(&client_hello()), // Once is enough.
        raw_frame(Kind::Request as u16, 1, &[]),
    ];
    for (n, bytes) in unexpected.iter().enumerate() {
        let mut line = rig.caller(N1);
        line.say(bytes);
        assert_eq!(line.refusal(), Refusal::Malformed, "{n}");
    }
    // The same before Hello, when nothing but Hello is understood.
    for bytes in unexpected.iter().filter(|bytes| !bytes.starts_with(&hello_frame(&client_hello())[..8])).chain([&good])
    {
        let mut line = rig.line(N1);
        line.say(bytes);
        assert_eq!(line.refusal(), Refusal::Malformed);
    }
    // Two requests under one correlation id: the second is not told from the first.
    let mut line = rig.caller(N1);
    let read = |line: &mut Line| {
        let body = to_vec(&vec![transfer(1, 199_999, 199_998, 1)]);
        line.ask(3, 1, Call::Command(raw_command(CommandKind::Transfers, 1, body)));
    };
    let leader = rig.leader(1);
    if leader == N1 {
        read(&mut line);
        read(&mut line);
        loop {
            match line.hear() {
                Heard::Answer(3, _) => {}
                Heard::Goodbye(goodbye) => break assert_eq!(goodbye.refusal, Refusal::Malformed),
                other => panic!("{other:?}"),
            }
        }
    }
    let after = rig.settled();
    assert_eq!(after[&GroupId(2)], before[&GroupId(2)]);
    assert_eq!(after[&GroupId(1)].ledgers, before[&GroupId(1)].ledgers);
    rig.assert_unharmed();
}

#[test]
fn garbage_on_the_port_is_refused_before_and_after_hello() {
    let mut rig = Rig::small("garbage");
    let before = rig.settled();
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let mut texts: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), // TLS.
        vec![0; 5_000],
        vec![0xff; 5_000],
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
    ];
    texts.extend((0..60).map(|_| (0..rng.below(9_000) + 24).map(|_| rng.next_u64() as u8).collect()));
    for (n, text) in texts.iter().enumerate() {
        for node in rig.nodes() {
            let mut line = rig.line(node);
            if n % 2 == 1 {
                line.hello();
            }
            line.say(text);
            // So that what could still be the beginning of a frame is not waited for.
            line.stream().shutdown(std::net::Shutdown::Write).ok();
            match line.hear() {
                Heard::Closed => {}
                Heard::Goodbye(word) => {
                    assert!(matches!(word.refusal, Refusal::TooLarge | Refusal::Malformed), "{n}: {word:?}");
                }
                other => panic!("{n}: {other:?}"),
            }
        }
    }
    assert_eq!(rig.settled(), before);
    rig.assert_unharmed();
}

#[test]
fn a_stranger_is_refused_as_a_peer_and_another_cluster_as_anything() {
    let mut rig = Rig::small("stranger");
    let cluster = rig.cluster.settings().cluster_id();
    let peer = Hello {
        lowest: 1,
        highest: 1,
        cluster: Some(cluster),
        caller: Caller::Peer,
        node: Some(NodeId(9)),
        directory: Some(DirectoryId(1)),
    };
    let other = Some(ClusterId(cluster.0 ^ 1));
    let cases = [
        (peer.clone(), Refusal::Stranger),
        (Hello { node: Some(N1), ..peer.clone() }, Refusal::Stranger),
        (Hello { node: None, ..peer.clone() }, Refusal::Stranger),
        (Hello { node: Some(NodeId(2)), directory: None, ..peer.clone() }, Refusal::Stranger),
        (Hello { node: Some(NodeId(2)), cluster: None, ..peer.clone() }, Refusal::Stranger),
        (Hello { node: Some(NodeId(2)), cluster: other, ..peer.clone() }, Refusal::Cluster),
        (Hello { cluster: other, ..client_hello() }, Refusal::Cluster),
        (Hello { cluster: other, caller: Caller::Operator, ..client_hello() }, Refusal::Cluster),
        (Hello { lowest: 2, highest: 255, ..client_hello() }, Refusal::Version),
        (Hello { lowest: 0, highest: 0, ..client_hello() }, Refusal::Version),
        (Hello { lowest: 2, highest: 1, ..client_hello() }, Refusal::Version),
    ];
    for (hello, refusal) in &cases {
        let mut line = rig.line(N1);
        line.say(&hello_frame(hello));
        assert_eq!(line.refusal(), *refusal, "{hello:?}");
    }
    assert_eq!(rig.count(N1, "hello_refused"), cases.len() as u64);
    // Whoever passes as a peer may not ask as a client, nor say what is not a message.
    for bytes in [request_of(100_000), raw_frame(Kind::Paxos as u16, 0, &[0xc1]), raw_frame(Kind::Txn as u16, 0, b"x")]
    {
        let mut line = rig.line(N1);
        line.say(&hello_frame(&Hello { node: Some(NodeId(2)), ..peer.clone() }));
        assert!(matches!(line.hear(), Heard::Welcome));
        line.say(&bytes);
        assert_eq!(line.refusal(), Refusal::Malformed);
    }
    rig.assert_unharmed();
}

#[test]
fn a_node_that_comes_back_with_another_directory_is_no_voter() {
    let mut rig = Rig::small("wiped");
    rig.assert_serves(1);
    let n3 = NodeId(3);
    rig.cluster.kill(n3).expect("killed");
    let data = rig.cluster.data().to_owned();
    std::fs::remove_dir_all(data.join("n3")).expect("removed");
    let format = rig.cli(&["node", "--id", "n3", "--format", "--data", &data.display().to_string()]);
    assert!(format.status.success(), "{format:?}");
    rig.cluster.start(n3).expect("started");
    let Rig { cluster, client, .. } = &mut rig;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(cluster.wait_ready(n3, PATIENCE)).expect("it serves, and says what it is");
    drop(client.clone());
    let end = Instant::now() + PATIENCE;
    loop {
        let OperatorAnswer::ReplicaStatus(status) = rig.ask(n3, 1, OperatorCall::ReplicaStatus(Nothing {})) else {
            panic!("another answer");
        };
        if status.foreign {
            break;
        }
        assert!(Instant::now() < end, "{status:?}");
    }
    rig.assert_serves(2);
    // Without another voter there is no majority: the foreign replica is none.
    let leader = rig.leader(1);
    let other = [N1, NodeId(2)].into_iter().find(|node| *node != leader).expect("one of two");
    rig.cluster.kill(other).expect("killed");
    let answer = rig.block_on(rig.client.transfer(transfer(77, 1, 2, 1), Some(std::time::Duration::from_secs(2))));
    assert!(!answer.status.is_final(), "{answer:?}");
    rig.cluster.start(other).expect("started");
    let answer = rig.block_on(rig.client.transfer(transfer(77, 1, 2, 1), Some(PATIENCE)));
    assert_eq!(answer.status, drachma_client::Status::Committed);
}

#[test]
fn a_client_that_never_reads_is_cut_off_and_nobody_else_notices() {
    let mut rig = Rig::small("unread");
    let leader = rig.leader(1);
    let line = rig.caller(leader);
    let mut frames = Vec::new();
    for correlation in 0..1_000 {
        let call = Call::Operator(OperatorCall::NodeStatus(Nothing {}));
        frame::encode(&mut frames, Kind::Request, correlation, &Request { group: GroupId(0), call });
    }
    // The node reads on until the answers that wait are too many; then it closes, and nothing more can be said.
    let began = Instant::now();
    let mut said = 0u64;
    let one = frames.len() / 1_000;
    loop {
        for at in frames.chunks_exact_mut(one) {
            let correlation = u64::from_be_bytes(at[12..20].try_into().unwrap()) + 1_000;
            at[12..20].copy_from_slice(&correlation.to_be_bytes());
            seal(at);
        }
        if line.stream().write_all(&frames).is_err() {
            break;
        }
        said += 1_000;
        assert!(began.elapsed() < PATIENCE, "after {said} requests it is still listened to");
        if said.is_multiple_of(10_000) {
            rig.assert_serves(u128::from(said));
        }
    }
    assert_eq!(rig.count(leader, "clients_cut_off"), 1, "after {said} requests");
    rig.assert_unharmed();
}
