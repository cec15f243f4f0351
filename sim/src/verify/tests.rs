//! Ten thousand good operations, and one thing wrong in them.

use drachma_protocol::rng::Rng;

use super::*;

/// Lines of a history in which operations take effect at some moment between call and return; clients overlap.
struct Story {
    lines: Vec<String>,
}

/// Registers with small values; each operation takes effect when it returns.
fn registers(seed: u64, count: usize, clients: u64, keys: u64) -> Story {
    let mut rng = Rng::new(seed);
    let mut values: Vec<Option<u64>> = vec![None; keys as usize];
    let mut open: Vec<Option<(u64, u64, u64, u64)>> = vec![None; clients as usize];
    let (mut lines, mut called) = (Vec::new(), 0);
    let show = |value: Option<u64>| value.map_or("nil".to_owned(), |value| value.to_string());
    while called < count || open.iter().any(Option::is_some) {
        let client = rng.below(clients) as usize;
        let mut tell = |kind: &str, function: &str, key: u64, value: String| {
            lines.push(format!("{{:process {client}, :type :{kind}, :f :{function}, :value [{key} {value}]}}"));
        };
        match open[client].take() {
            None if called < count => {
                let (function, key, new, old) = (rng.below(3), rng.below(keys), rng.below(5), rng.below(5));
                open[client] = Some((function, key, new, old));
                called += 1;
                match function {
                    0 => tell("invoke", "read", key, "nil".into()),
                    1 => tell("invoke", "write", key, new.to_string()),
                    _ => tell("invoke", "cas", key, format!("[{old} {new}]")),
                }
            }
            None => {}
            Some((function, key, new, old)) => {
                let value = &mut values[key as usize];
                match function {
                    0 => tell("ok", "read", key, show(*value)),
                    1 => {
                        *value = Some(new);
                        tell("ok", "write", key, new.to_string());
                    }
                    _ if *value == Some(old) => {
                        *value = Some(new);
                        tell("ok", "cas", key, format!("[{old} {new}]"));
                    }
                    _ => tell("fail", "cas", key, format!("[{old} {new}]")),
                }
            }
        }
    }
    Story { lines }
}

fn judged(story: &Story) -> Verdict {
    judge(&jepsen::read(&story.lines.join("\n")).expect("a history"), &mut || false)
}

#[test]
fn ten_thousand_good_operations_are_good() {
    for (seed, clients, keys) in [(1, 10, 1), (2, 50, 100), (3, 3, 3)] {
        assert_eq!(judged(&registers(seed, 10_000, clients, keys)), Verdict::Good, "seed {seed}");
    }
}

/// Puts these events of a process of their own behind a line.
fn planted(behind: usize, events: &[(u64, &str, &str, &str)]) -> Story {
    let mut story = registers(7, 10_000, 10, 10);
    let lines = events.iter().map(|(process, kind, function, value)| {
        format!("{{:process {process}, :type :{kind}, :f :{function}, :value [3 {value}]}}")
    });
    let behind = behind.min(story.lines.len());
    story.lines.splice(behind..behind, lines.collect::<Vec<_>>());
    story
}

fn part(story: &Story) -> Vec<String> {
    match judged(story) {
        Verdict::Bad { key, part } => {
            assert_eq!(key, "3");
            part.into_iter().map(|told| told.what).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stale_read_is_found() {
    let story = planted(
        9_000,
        &[
            (90, "invoke", "write", "77"),
            (90, "ok", "write", "77"),
            (90, "invoke", "write", "78"),
            (90, "ok", "write", "78"),
            (91, "invoke", "read", "nil"),
            (91, "ok", "read", "77"),
        ],
    );
    assert_eq!(part(&story), [":write 3 78", ":read 3 77"]);
}

#[test]
fn a_lost_update_is_found() {
    let story = planted(
        9_000,
        &[
            (90, "invoke", "write", "77"),
            (90, "ok", "write", "77"),
            (90, "invoke", "cas", "[77 78]"),
            (91, "invoke", "cas", "[77 79]"),
            (90, "ok", "cas", "[77 78]"),
            (91, "ok", "cas", "[77 79]"),
        ],
    );
    assert_eq!(part(&story), [":cas 3 [77 78]", ":cas 3 [77 79]"], "nobody has written 77 in between");
}

#[test]
fn a_write_that_comes_back_is_found() {
    let story = planted(
        9_000,
        &[
            (90, "invoke", "write", "77"),
            (90, "ok", "write", "77"),
            (91, "invoke", "write", "78"),
            (91, "ok", "write", "78"),
            (92, "invoke", "read", "nil"),
            (92, "ok", "read", "78"),
            (93, "invoke", "read", "nil"),
            (93, "ok", "read", "77"),
        ],
    );
    assert_eq!(part(&story), [":read 3 78", ":read 3 77"], "nobody has written 77 in between");
}

#[test]
fn a_read_of_what_failed_is_found() {
    let story = planted(
        9_000,
        &[
            (90, "invoke", "write", "77"),
            (91, "invoke", "read", "nil"),
            (91, "ok", "read", "77"),
            (90, "fail", "write", "77"),
        ],
    );
    let part = part(&story);
    assert!(part.len() <= 2 && part.contains(&":read 3 77".to_owned()), "{part:?}");
}

#[test]
fn an_unknown_write_explains_what_is_read_and_excuses_nothing_else() {
    let story = planted(
        usize::MAX,
        &[
            (90, "invoke", "write", "77"),
            (90, "info", "write", "77"),
            (91, "invoke", "read", "nil"),
            (91, "ok", "read", "77"),
        ],
    );
    assert_eq!(judged(&story), Verdict::Good);
    let story = planted(usize::MAX, &[(91, "invoke", "read", "nil"), (91, "ok", "read", "77")]);
    assert!(part(&story).contains(&":read 3 77".to_owned()));
}

#[test]
fn a_store_is_judged_key_by_key() {
    let line = |process: u64, kind: &str, function: &str, key: &str, value: &str| {
        format!("{{:process {process}, :type :{kind}, :f :{function}, :key \"{key}\", :value {value}}}")
    };
    let good = [
        line(0, "invoke", "append", "a", "\"x\""),
        line(1, "invoke", "append", "a", "\"y\""),
        line(0, "ok", "append", "a", "\"x\""),
        line(2, "invoke", "get", "a", "nil"),
        line(2, "ok", "get", "a", "\"yx\""),
        line(1, "ok", "append", "a", "\"y\""),
        line(2, "invoke", "get", "b", "nil"),
        line(2, "ok", "get", "b", "\"\""),
    ];
    let mut story = Story { lines: good.to_vec() };
    assert_eq!(judged(&story), Verdict::Good);
    story.lines.extend([line(2, "invoke", "get", "a", "nil"), line(2, "ok", "get", "a", "\"xy\"")]);
    assert!(matches!(judged(&story), Verdict::Bad { key, .. } if key == "\"a\""));
}

#[test]
fn who_is_out_of_time_is_undecided() {
    let story = registers(1, 20_000, 10, 1);
    let registers = jepsen::read(&story.lines.join("\n")).expect("a history");
    assert_eq!(judge(&registers, &mut || true), Verdict::Undecided { keys: vec!["0".into()] });
}
