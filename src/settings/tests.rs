use std::time::Duration;

use drachma_actors::config::Fsync;
use drachma_protocol::ids::{AccountId, GroupId, NodeId};
use drachma_protocol::time::Span;

use super::{Settings, shape};

const SMALL: &str = r#"[[node]]
id = "n1"
[[node]]
id = "n2"
[[node]]
id = "n3"
[[group]]
id = "g1"
nodes = ["n1", "n2", "n3"]
[data_set]
accounts = 30
initial_balance = 10
"#;

fn small(more: &str) -> Result<Settings, super::SettingsError> {
    Settings::parse(&format!("{SMALL}{more}"), "test.toml")
}

#[test]
fn the_sample_is_three_groups_of_three_with_the_documented_defaults() {
    let sample = Settings::sample();
    assert_eq!(sample.nodes().len(), 9);
    assert_eq!(sample.node_address(NodeId(1)), Some("127.0.0.1:7101"));
    assert_eq!(sample.node_address(NodeId(9)), Some("127.0.0.1:7109"));
    assert_eq!(sample.group(GroupId(2)).unwrap().nodes, [NodeId(4), NodeId(5), NodeId(6)]);
    assert_eq!(sample.groups_of(NodeId(7)), [GroupId(3)]);
    let map = sample.shard_map();
    for (account, group) in [(1, 1), (3000, 1), (3001, 2), (6000, 2), (6001, 3), (9000, 3)] {
        assert_eq!(map.owner_of(AccountId(account)), Some(GroupId(group)), "account {account}");
    }
    assert_eq!(map.owner_of(AccountId(9001)), None);
    assert_eq!((sample.accounts(), sample.initial_balance()), (9000, 10));
    assert!(sample.warnings().is_empty(), "{:?}", sample.warnings());
}

#[test]
fn the_sample_says_the_defaults() {
    let bare = small("").unwrap();
    let sample = Settings::sample();
    assert_eq!(bare.timers().heartbeat, sample.timers().heartbeat);
    assert_eq!(bare.timers().leader_timeout, Span::from_millis(250));
    assert_eq!(bare.timers().deadline, sample.timers().deadline);
    assert_eq!(bare.limits(), sample.limits());
    assert_eq!(bare.log(), sample.log());
    let config = bare.node_config(NodeId(1), "data/n1".into()).unwrap();
    assert_eq!(config.storage.fsync, Fsync::Always);
    assert_eq!(config.storage.segment_bytes, 16 << 20);
    assert_eq!(config.storage.snapshot_every_bytes, 256 << 20);
    assert_eq!(bare.data_dir(), std::path::Path::new("data"));
    assert!(bare.node_config(NodeId(4), "data/n4".into()).is_none());
}

#[test]
fn the_other_samples_are_good() {
    for (file, text, nodes, groups) in [
        ("cluster-4x5.toml", include_str!("../../samples/cluster-4x5.toml"), 20, 4),
        ("cluster-1x1.toml", include_str!("../../samples/cluster-1x1.toml"), 1, 1),
    ] {
        let settings = Settings::parse(text, file).unwrap();
        assert_eq!((settings.nodes().len(), settings.groups().len()), (nodes, groups), "{file}");
        assert!(settings.warnings().is_empty(), "{file}: {:?}", settings.warnings());
    }
}

#[test]
fn every_bad_input_is_refused_with_file_line_and_column() {
    let at = |row: usize| SMALL.lines().count() + row;
    for (more, line, column, part) in [
        ("[clutser]\n", at(1), 2, "unknown field `clutser`, expected one of `cluster`"),
        ("[timers]\nhartbeat = \"1s\"\n", at(2), 1, "unknown field `hartbeat`, expected one of `heartbeat`"),
        ("[timers]\nheartbeat = 50\n", at(2), 13, "expected a string"),
        ("[timers]\nheartbeat = \"50\"\n", at(2), 13, "a whole number with a unit"),
        ("[timers]\nheartbeat = \"11s\"\n", at(2), 13, "1ms to 10s is allowed"),
        ("[timers]\nheartbeat = \"100ms\"\n", at(2), 13, "must be below a third of leader_timeout (250ms)"),
        ("[timers]\nleader_timeout = \"150ms\"\n", at(2), 18, "heartbeat (75ms) must be below a third"),
        ("[timers]\ndeadline = \"0s\"\n", at(2), 12, "1ms to 1h is allowed"),
        ("[storage]\nfsync = \"sometimes\"\n", at(2), 9, "`always`, `never` and `interval:10ms`"),
        ("[storage]\nfsync = \"interval:0ms\"\n", at(2), 9, "1ms to 10s"),
        ("[storage]\nsegment_bytes = 1000\n", at(2), 17, "1048576 to 1073741824 is allowed"),
        ("[storage]\nsegment_bytes = -1\n", at(2), 17, "not negative"),
        ("[storage]\nsnapshot_every_bytes = 1000\n", at(2), 24, "1048576 to 1125899906842624 is allowed"),
        ("[limits]\nsessions = 100001\n", at(2), 12, "1 to 100000 is allowed"),
        ("[limits]\nwaiting = 0\n", at(2), 11, "1 to 1048576 is allowed"),
        ("[limits]\nsession_lifetime = \"721h\"\n", at(2), 20, "1s to 720h is allowed"),
        ("[log]\nformat = \"xml\"\n", at(2), 10, "`text` and `json` are allowed"),
        ("[log]\nlevel = \"a=b=c\"\n", at(2), 9, "error, warn, info"),
        ("[metrics]\naddress = \"9100\"\n", at(2), 11, "host:port"),
        ("[metrics]\naddress = \"a:65535\"\n", at(2), 11, "n2 would serve its metrics at port 65536"),
        ("[metrics]\naddress = \"127.0.0.1:7100\"\n", at(2), 11, "n2 would serve its metrics where n1 listens"),
        ("[cluster]\nname = \"a b\"\n", at(2), 8, "1 to 64 letters"),
        ("[cluster]\nbase_port = 0\n", at(2), 13, "1 to 65535 is allowed"),
        ("[cluster]\nbase_port = 65534\n", 6, 6, "n3 would have port 65536"),
        ("[cluster]\nlisten = \"localhost\"\n", at(2), 10, "an IP address without a port"),
        ("[[node]]\nid = \"n2\"\naddress = \"127.0.0.1:1\"\n", at(2), 6, "n2 is there twice"),
        (
            "[[node]]\nid = \"n4\"\naddress = \"127.0.0.1:7101\"\n",
            at(3),
            11,
            "n4 has the address 127.0.0.1:7101, as n1 has",
        ),
        ("[[node]]\nid = \"n0\"\n", at(2), 6, "numbered from 1"),
        ("[[node]]\nid = \"x4\"\n", at(2), 6, "`x4` is not of the form nNUMBER"),
        ("[[node]]\nid = \"n4\"\naddress = \"nowhere\"\n", at(3), 11, "host:port"),
        ("[[node]]\nname = \"n4\"\n", at(2), 1, "unknown field `name`, expected `id` or `address`"),
        ("[[node]]\naddress = \"h:1\"\n", at(1), 1, "missing field `id`"),
        ("[[group]]\nid = \"g2\"\nnodes = [\"n1\", \"n5\"]\n", at(3), 16, "g2 names n5, and there is no [[node]]"),
        ("[[group]]\nid = \"g2\"\nnodes = [\"n1\", \"n1\"]\n", at(3), 16, "g2 names n1 twice"),
        ("[[group]]\nid = \"g2\"\nnodes = []\n", at(3), 9, "1 to 7 are allowed"),
        ("[[group]]\nid = \"g1\"\nnodes = [\"n1\"]\n", at(2), 6, "g1 is there twice"),
        ("[[group]]\nid = \"g0\"\nnodes = [\"n1\"]\n", at(2), 6, "g0 is the placement service"),
        ("[placement]\nmode = \"random\"\n", at(2), 8, "`range` and `hash` are allowed"),
        ("[placement]\nshards = 4097\n", at(2), 10, "1 to 4096 is allowed"),
        ("[placement]\nshards = 31\n", at(2), 10, "30 accounts cannot be divided over 31 shards"),
        ("[placement]\nmode = \"hash\"\nranges = []\n", at(3), 10, "takes no ranges"),
        ("[placement]\nshards_file = \"missing.csv\"\n", at(2), 15, "shards_file missing.csv"),
        ("[placement]\nranges = [{ first = 1, last = 30, group = \"g7\" }]\n", at(2), 11, "g7 owns 1 to 30"),
        ("[placement]\nranges = [{ first = 9, last = 3, group = \"g1\" }]\n", at(2), 11, "not a range"),
        ("this is no toml\n", at(1), 6, ""),
    ] {
        let error = small(more).expect_err(more);
        assert_eq!((error.at, error.origin.as_str()), (Some((line, column)), "test.toml"), "{more}: {error}");
        assert!(error.message.contains(part), "{more}: {error}");
        assert!(error.to_string().starts_with(&format!("test.toml:{line}:{column}: ")), "{error}");
    }
}

#[test]
fn ranges_that_overlap_or_leave_accounts_out_are_refused() {
    let ranges = |text: &str| small(&format!("[placement]\nranges = [{text}]\n")).map(|_| ()).unwrap_err().to_string();
    let overlap = ranges("{ first = 1, last = 20, group = \"g1\" }, { first = 20, last = 30, group = \"g1\" }");
    assert!(overlap.contains("20 to 30 overlaps 1 to 20"), "{overlap}");
    let gap = ranges("{ first = 21, last = 40, group = \"g1\" }, { first = 1, last = 19, group = \"g1\" }");
    assert!(gap.contains("no range has account 20"), "{gap}");
    let big =
        small(&format!("[placement]\nranges = [{{ first = 1, last = \"{}\", group = \"g1\" }}]\n", u128::MAX - 4096));
    assert_eq!(big.unwrap().shard_map().owner_of(AccountId(1 << 100)), Some(GroupId(1)));
}

#[test]
fn a_configuration_without_nodes_or_groups_is_refused() {
    assert!(Settings::parse("", "a").unwrap_err().to_string().contains("no [[node]]"));
    assert!(Settings::parse("[[node]]\nid = \"n1\"\n", "a").unwrap_err().to_string().contains("no [[group]]"));
}

#[test]
fn the_limits_hold_and_one_past_them_is_refused() {
    let cluster = |nodes: usize, groups: usize, members: usize| {
        let mut text = "[cluster]\nbase_port = 1000\n[placement]\nmode = \"hash\"\n".to_owned();
        (1..=nodes).for_each(|n| text += &format!("[[node]]\nid = \"n{n}\"\n"));
        let members: Vec<String> = (1..=members).map(|n| format!("\"n{n}\"")).collect();
        (1..=groups).for_each(|g| text += &format!("[[group]]\nid = \"g{g}\"\nnodes = [{}]\n", members.join(",")));
        Settings::parse(&text, "a")
    };
    assert!(cluster(1000, 1, 3).is_ok());
    assert!(cluster(1001, 1, 3).unwrap_err().message.contains("at most 1000"));
    assert!(cluster(7, 1, 7).is_ok());
    assert!(cluster(8, 1, 8).unwrap_err().message.contains("1 to 7 are allowed"));
    assert!(cluster(1, 64, 1).is_ok());
    assert!(cluster(1, 65, 1).unwrap_err().message.contains("more than 64 groups"));
    let hash = |shards: u32| small(&format!("[placement]\nmode = \"hash\"\nshards = {shards}\n"));
    assert_eq!(hash(4096).unwrap().shard_map().owners.len(), 4096);
    assert!(hash(4097).is_err());
}

#[test]
fn what_is_unwise_is_warned_about() {
    let warned = |more: &str, part: &str| {
        let settings = small(more).unwrap();
        assert!(settings.warnings().iter().any(|w| w.contains(part)), "{more}: {:?}", settings.warnings());
    };
    warned("[[group]]\nid = \"g2\"\nnodes = [\"n1\", \"n2\"]\n", "g2 has 2 replicas");
    warned("[[node]]\nid = \"n4\"\n", "n4 has no replica");
    warned("[cluster]\nlisten = \"0.0.0.0\"\n", "listens on 0.0.0.0:7101");
    warned("[[node]]\nid = \"n4\"\naddress = \"10.0.0.1:7104\"\n", "listens on 10.0.0.1:7104");
    assert!(small("[cluster]\nlisten = \"::1\"\n").unwrap().warnings().is_empty());
}

#[test]
fn a_wildcard_is_listened_on_and_not_connected_to() {
    let settings = small("[cluster]\nlisten = \"0.0.0.0\"\n").unwrap();
    assert_eq!(settings.node_address(NodeId(2)), Some("127.0.0.1:7102"));
    assert_eq!(settings.node_config(NodeId(2), "d".into()).unwrap().listen, "0.0.0.0:7102");
    let six = small("[cluster]\nlisten = \"::1\"\n").unwrap();
    assert_eq!(six.node_config(NodeId(2), "d".into()).unwrap().listen, "[::1]:7102");
}

#[test]
fn the_shape_is_what_may_not_change_and_nothing_else() {
    let base = small("").unwrap();
    for allowed in [
        "[cluster]\nbase_port = 8000\n",
        "[cluster]\nlisten = \"0.0.0.0\"\n",
        "[cluster]\ndata_dir = \"elsewhere\"\n",
        "[timers]\nheartbeat = \"20ms\"\n",
        "[storage]\nfsync = \"never\"\nsegment_bytes = 1048576\nsnapshot_every_bytes = 2097152\n",
        "[log]\nlevel = \"debug\"\n",
        "[metrics]\naddress = \"127.0.0.1:9100\"\n",
        "[placement]\nshards = 1\n",
    ] {
        assert_eq!(small(allowed).unwrap().cluster_id(), base.cluster_id(), "{allowed}");
    }
    for changed in [
        "[cluster]\nname = \"other\"\n",
        "[[node]]\nid = \"n4\"\n",
        "[[group]]\nid = \"g2\"\nnodes = [\"n1\"]\n",
        "[placement]\nshards = 2\n",
        "[placement]\nmode = \"hash\"\n",
        "[limits]\nwaiting = 5\n",
        "[limits]\nsession_lifetime = \"2h\"\n",
    ] {
        assert_ne!(small(changed).unwrap().cluster_id(), base.cluster_id(), "{changed}");
    }
    let reordered = "[data_set]\ninitial_balance = 10\naccounts = 30\n[[node]]\nid = \"n3\"\n[[node]]\nid = \"n1\"\n\
        [[node]]\nid = \"n2\"\n[[group]]\nid = \"g1\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n";
    assert_eq!(Settings::parse(reordered, "b").unwrap().cluster_id(), base.cluster_id());
}

/// The id is on every disk: if this fails, every cluster refuses its data. Change the shape only by adding lines that
/// are absent at their default.
#[test]
fn the_shape_and_the_cluster_id_are_stable() {
    let settings = small("").unwrap();
    assert_eq!(
        settings.shape(),
        "cluster drachma\nnode n1\nnode n2\nnode n3\ngroup g1 of n1 n2 n3\nplacement by range\n\
         shard s0 of g1: 1 to 30\ndata set of 30 accounts with 10 each\nlimit waiting 65536\nlimit sessions 100000\n\
         limit session_lifetime 1h\nlimit in_doubt_per_group 65536\n"
    );
    assert_eq!(settings.cluster_id().to_string(), "d923126d0e1fb7cede18160b16217c1c");
}

#[test]
fn a_changed_shape_is_told_line_by_line() {
    let was = small("").unwrap().shape();
    let is = small("[limits]\nwaiting = 5\n").unwrap().shape();
    assert_eq!(shape::difference(&was, &is), "  - limit waiting 65536\n  + limit waiting 5\n");
    assert_eq!(shape::difference(&was, &was), "");
}

#[test]
fn settings_survive_being_written_and_read_again() {
    for more in [
        "[cluster]\nname = \"x.y\"\nlisten = \"0.0.0.0\"\ndata_dir = \"a \\\"b\\\"\"\n",
        "[placement]\nmode = \"hash\"\nshards = 7\n",
        "[storage]\nfsync = \"interval:10ms\"\n[log]\nlevel = \"debug\"\nformat = \"json\"\n",
        "[timers]\nheartbeat = \"1500us\"\ndeadline = \"90s\"\n",
    ] {
        let settings = small(more).unwrap();
        let again = Settings::parse(&settings.to_toml(), "again").unwrap_or_else(|error| panic!("{more}: {error}"));
        assert_eq!(again.to_toml(), settings.to_toml());
        assert_eq!(again.cluster_id(), settings.cluster_id());
        assert_eq!(again.log(), settings.log());
        let of = |s: &Settings| format!("{:?}", s.node_config(NodeId(1), "d".into()));
        assert_eq!(of(&again), of(&settings));
    }
}

#[test]
fn other_ports_are_the_same_cluster() {
    let base = small("[cluster]\nlisten = \"0.0.0.0\"\n").unwrap();
    let moved = base.clone().with_ports(vec![(NodeId(2), "127.0.0.1:9999".to_owned())]);
    assert_eq!(moved.node_address(NodeId(2)), Some("127.0.0.1:9999"));
    assert_eq!(moved.node_address(NodeId(1)), Some("127.0.0.1:7101"));
    assert_eq!(moved.node_config(NodeId(2), "d".into()).unwrap().listen, "127.0.0.1:9999");
    assert_eq!(moved.cluster_id(), base.cluster_id());
}

#[test]
fn a_missing_file_is_named() {
    let error = Settings::load(Some(std::path::Path::new("/nowhere/cluster.toml"))).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/cluster.toml: "), "{error}");
}

#[test]
fn spans_of_timers_are_microseconds() {
    let settings = small("[timers]\nheartbeat = \"1500us\"\n").unwrap();
    assert_eq!(settings.timers().heartbeat, Span(1500));
    assert_eq!(settings.timers().deadline, super::units::span(Duration::from_secs(2)));
}
