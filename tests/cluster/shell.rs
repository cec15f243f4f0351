//! Sessions of the shell: from a file or program on a pipe, and by hand on a terminal.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;

use crate::common::{PATIENCE, Scratch, World, text};

/// A shell of this cluster. Nothing of the user's own is read or written.
fn shell(world: &World, home: &Scratch, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drachma"));
    command.args(["shell", "--config"]).arg(world.local.data().join("cluster.toml")).args(arguments);
    command.env_remove("DRACHMA_CONFIG").env_remove("DRACHMA_ENDPOINTS").env("XDG_STATE_HOME", &home.0);
    command.current_dir(&home.0);
    command
}

/// What a shell says to these lines.
fn told(world: &World, home: &Scratch, arguments: &[&str], lines: &[u8]) -> Output {
    let mut command = shell(world, home, &[&["--timeout", "30s"], arguments].concat());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may end before it has read everything.
    let _ = child.stdin.take().unwrap().write_all(lines);
    child.wait_with_output().unwrap()
}

#[track_caller]
fn ended(output: &Output, status: i32) -> (String, String) {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{err}");
    assert!(!out.contains('\u{1b}') && !err.contains('\u{1b}') && !err.contains("drachma> "), "{out:?}{err:?}");
    (out, err)
}

fn objects(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn a_session_on_a_pipe_carries_out_its_lines_and_stops_at_the_first_error() {
    let world = World::start("a_session_on_a_pipe_carries_out_its_lines_and_stops_at_the_first_error");
    let home = Scratch::new("shell-pipe");
    lines_and_options(&world, &home);
    errors(&world, &home);
    blocks(&world, &home);
    sessions(&world, &home);
    assert!(!home.0.join("drachma").exists(), "only what is typed has a history");
    ended(&told(&world, &home, &[], b"audit\n"), 0);
}

fn lines_and_options(world: &World, home: &Scratch) {
    let lines = b"# a comment, and a blank line\n\nput s/1 'a b' --id a1\nget s/1\n  get s/1 --output table\n\
        transfer 1 3001 2\nversion\nexit\nfrobnicate\n";
    let (out, err) = ended(&told(world, home, &["--output", "json"], lines), 0);
    let rows: Vec<&str> = out.lines().collect();
    assert!(rows[0].contains("\"outcome\":\"committed\""), "{out}");
    assert_eq!((rows[1], rows[2]), ("{\"key\":\"s/1\",\"value\":\"a b\"}", "a b"), "{out}");
    assert!(rows[3].contains("committed") && rows[4].contains("command_format"), "{out}");
    assert_eq!((rows.len(), err.as_str()), (5, ""));
    let (out, _) = ended(&told(world, home, &[], b"help\nhelp transfer\n"), 0);
    assert!(out.contains("  balance ") && out.contains("  exit ") && out.contains("--expires"), "{out}");
}

fn errors(world: &World, home: &Scratch) {
    // Wrong words, a rejection, nothing there: each has its status, its line, and nothing after it is done.
    for (line, status, part) in [
        ("frobnicate", 2, "line 2: error: unrecognized subcommand 'frobnicate'"),
        ("put 'a", 2, "line 2: error: a quote ' is not closed"),
        ("put a", 2, "line 2: error: the following required arguments"),
        ("shell", 2, "line 2: error: this is a shell already"),
        ("transfer 1 3001 1000000", 1, "line 2: ended with exit status 1"),
        ("get no/such/key", 1, "line 2: error: there is no key no/such/key"),
        ("txn missing.txn", 2, "line 2: error: missing.txn: No such file"),
        ("config check --config missing.toml", 2, "line 2: ended with exit status 2"),
        ("balance 1 --endpoints 127.0.0.1:1 --timeout 300ms", 3, "line 2: error: "),
    ] {
        let lines = format!("put e/1 before\n{line}\nput e/2 after\n");
        let (out, err) = ended(&told(world, home, &[], lines.as_bytes()), status);
        assert!(err.contains(part) && !out.contains("e/2"), "{line}: {out}{err}");
        ended(&told(world, home, &[], b"get e/2\n"), 1);
    }
    let lines = b"get no/such/key\nfrobnicate\n\xff\nput e/3 after\nget e/3\n";
    let (out, err) = ended(&told(world, home, &["--keep-going"], lines), 1);
    assert!(out.ends_with("after\n"), "{out}");
    for part in ["line 1: error: there is no key", "line 2: error: unrec", "line 3: error: the line is not UTF-8"] {
        assert!(err.contains(part), "{err}");
    }
    let long = [b"put e/4 ", "x".repeat(1 << 20).as_bytes(), b"\nget e/3\n"].concat();
    let (out, err) = ended(&told(world, home, &["--keep-going"], &long), 2);
    assert!(err.contains("line 1: error: the line has more than 1048576 bytes") && out == "after\n", "{out}{err}");
}

fn blocks(world: &World, home: &Scratch) {
    let lines = b"txn --id b1\nabsent b/1\nput b/1 one\nadd n/1 5\ntransfer 2 6001 1\ncommit\nget b/1\n\
        txn\nput b/1 two\nabort\nget b/1\n\
        txn\n[[operations]]\nappend = { key = \"b/1\", value = \"+\" }\n[[operations]]\nget = \"n/1\"\nend\n";
    let (out, _) = ended(&told(world, home, &["--output", "json"], lines), 0);
    let rows = objects(&out);
    assert_eq!((&rows[0]["id"], &rows[0]["outcome"]), (&format!("{:032x}", 0xb1).into(), &"committed".into()), "{out}");
    let values: Vec<&Value> = rows.iter().filter(|row| row["key"] == "b/1").map(|row| &row["value"]).collect();
    assert!(values.starts_with(&[&"one".into(), &"one".into()]), "a block that was dropped has done nothing: {out}");
    ended(&told(world, home, &[], b"get b/1\n"), 0);
    // Again under its id, and under another one.
    let again = b"txn --id b1\nabsent b/1\nput b/1 one\nadd n/1 5\ntransfer 2 6001 1\nend\n";
    assert_eq!(objects(&ended(&told(world, home, &["--output", "json"], again), 0).0)[0]["replayed"], true);
    let other = b"txn\nabsent b/1\nput b/1 three\nend\n";
    assert!(ended(&told(world, home, &[], other), 1).1.contains("line 4: ended with exit status 1"));
    // Nothing is done of what is wrong, or has no end.
    for (lines, part) in [
        ("txn\nput b/2 x\nput b/2\ncommit\nget b/1\n", "line 3: error: the following required"),
        ("txn\n[[operations]]\nput = { key = \"b/2\" }\ncommit\n", "line 3: error: missing field `value`"),
        ("get b/1\ntxn\nput b/2 x\n", "line 2: error: the transaction that begins here has no end"),
        ("txn\nend\n", "line 2: error: expected a condition or an operation"),
    ] {
        for options in [&[][..], &["--keep-going"]] {
            let (_, err) = ended(&told(world, home, options, lines.as_bytes()), 2);
            assert!(err.contains(part), "{lines}: {err}");
            ended(&told(world, home, &[], b"get b/2\n"), 1);
        }
    }
}

/// A token of the whole session, kept for the next one.
fn sessions(world: &World, home: &Scratch) {
    let file = home.0.join("token");
    let token = || std::fs::read_to_string(&file).unwrap();
    ended(&told(world, home, &["--session", "token"], b"put t/1 x\nget t/1\n"), 0);
    let first = token();
    ended(&told(world, home, &["--session", "token"], b"txn\nput t/1 y\nend\nget t/1\n"), 0);
    assert_ne!(token(), first, "the session goes on");
    let (out, err) = ended(&told(world, home, &["--level", "any"], b"get t/1 --level quorum\nget t/1\n"), 0);
    assert!(out.starts_with("y\n") && err.contains(" old") || err.contains("unknown"), "{out}{err}");
}

#[test]
fn a_session_outlives_its_nodes() {
    let mut world = World::start("a_session_outlives_its_nodes");
    let home = Scratch::new("shell-nodes");
    let mut command = shell(&world, &home, &["--timeout", "30s", "--keep-going"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut keys, mut out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut answer = |line: &str, part: &str| {
        keys.write_all(line.as_bytes()).unwrap();
        let (mut told, mut byte) = (String::new(), [0]);
        while !told.contains(part) {
            assert_eq!(out.read(&mut byte).unwrap(), 1, "it ended: {told}");
            told.push(char::from(byte[0]));
        }
    };
    answer("put o/1 before\n", "committed");
    for node in world.nodes() {
        world.local.kill(node).unwrap();
    }
    world.start_all();
    answer("get o/1\n", "before\n");
    answer("put o/1 after\n", "committed");
    drop(keys);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    world.verify(&[]);
}

/// A person at a terminal.
struct Hand {
    keys: std::fs::File,
    screen: mpsc::Receiver<Vec<u8>>,
    shown: String,
    // What of it was looked at.
    seen: usize,
}

impl Hand {
    fn at(terminal: std::fs::File) -> Hand {
        let (sender, screen) = mpsc::channel();
        let mut shows = terminal.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut bytes = [0; 256];
            // The end of whoever writes is an error here.
            while let Ok(count @ 1..) = shows.read(&mut bytes) {
                if sender.send(bytes[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Hand { keys: terminal, screen, shown: String::new(), seen: 0 }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Looks on until this is shown, after what was seen before.
    #[track_caller]
    fn sees(&mut self, part: &str) {
        loop {
            if let Some(place) = self.shown[self.seen..].find(part) {
                self.seen += place + part.len();
                return;
            }
            match self.screen.recv_timeout(PATIENCE) {
                Ok(bytes) => self.shown += &String::from_utf8_lossy(&bytes),
                Err(error) => panic!("{error}: no {part:?} after {:?} in {:?}", self.seen, self.shown),
            }
        }
    }
}

#[test]
fn a_person_edits_lines_drops_them_and_finds_them_again() {
    let world = World::start("a_person_edits_lines_drops_them_and_finds_them_again");
    let home = Scratch::new("shell-hand");
    for visit in [1, 2] {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let end = || std::fs::OpenOptions::new().read(true).write(true).open(&name).unwrap();
        let mut command = Command::new("setsid");
        let inner = shell(&world, &home, &["--timeout", "30s"]);
        command.args(["--ctty", "--wait"]).arg(inner.get_program()).args(inner.get_args());
        command.envs([("TERM", "xterm"), ("XDG_STATE_HOME", home.0.to_str().unwrap())]);
        let mut child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut hand = Hand::at(terminal.into());
        hand.sees("drachma> ");
        if visit == 1 {
            // A line that is dropped, one that is completed, and a wrong one, after which it goes on.
            hand.types("put h/1 dropped\u{3}");
            hand.sees("drachma> ");
            hand.types("vers\t\r");
            hand.sees("command format");
            hand.types("frobnicate\r");
            hand.sees("unrecognized subcommand");
            hand.types("get h/1\r");
            hand.sees("there is no key h/1");
            hand.types("put h/2 typed\r");
            hand.sees("committed");
        } else {
            // The line before the last one of the session before.
            hand.types("\u{1b}[A\u{1b}[A\r");
            hand.sees("there is no key h/1");
            hand.types("get h/2\r");
            hand.sees("typed\r\n");
        }
        hand.sees("drachma> ");
        hand.types("\u{4}");
        assert_eq!(child.wait().unwrap().code(), Some(0), "{}", hand.shown);
    }
    let mode = |path: &str| std::fs::metadata(home.0.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("drachma"), mode("drachma/history")), (0o700, 0o600));
    let kept = std::fs::read_to_string(home.0.join("drachma/history")).unwrap();
    assert!(kept.contains("put h/2 typed\n") && !kept.contains("dropped"), "{kept}");
}
