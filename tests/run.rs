//! `drachma run` as users call it, with real node processes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A directory of the test's own that goes with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("drachma-test-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory");
        Scratch(path)
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        std::fs::write(&path, content).expect("a file");
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn sample(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(name).display().to_string()
}

/// A run with its output as JSON; no environment and no `cluster.toml` but the built-in sample.
fn drachma(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_drachma"));
    command.args(["run", "--output", "json"]).args(arguments);
    command.env_remove("DRACHMA_CONFIG").env_remove("DRACHMA_ENDPOINTS").current_dir(std::env::temp_dir());
    command.stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    drachma(arguments).output().expect("the binary runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every line of standard output, each of which must be an object.
fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

fn of_kind<'a>(lines: &'a [Value], kinds: &[&str]) -> Vec<&'a Value> {
    lines.iter().filter(|line| kinds.contains(&line["kind"].as_str().unwrap_or(""))).collect()
}

#[track_caller]
fn assert_exit(output: &Output, code: i32) {
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "stderr: {}\nstdout: {out}", stderr(output));
}

/// Refused before anything is started or sent: exit status 2, nothing on standard output.
#[track_caller]
fn assert_refused(arguments: &[&str], said: &str) {
    let output = run(arguments);
    assert_exit(&output, 2);
    assert!(output.stdout.is_empty(), "{:?}", lines(&output));
    assert!(stderr(&output).contains(said), "{}", stderr(&output));
}

#[test]
fn an_unreadable_row_is_named_and_nothing_is_started() {
    let scratch = Scratch::new("bad-rows");
    let file = scratch.file("bad.csv", "1,\"(1, 2, 1)\",\n,\"(3, 4)\",\n");
    assert_refused(&["--embedded", &file], &format!("{file}:2:7: expected a level"));
    let file = scratch.file("node.csv", "1,F(n12),\n");
    assert_refused(&["--embedded", &file], &format!("{file}:1:3: expected a node of the configuration"));
    assert_refused(&["--embedded", &scratch.path("absent.csv")], "cannot read");
}

#[test]
fn arguments_that_do_not_go_together_are_refused() {
    let scratch = Scratch::new("usage");
    let control = scratch.file("control.csv", "1,F(n1),\n");
    let live = scratch.file("live.csv", "1,(1),[n1]\n");
    assert_refused(&["--isolate-sets", &sample("plain.csv")], "--embedded");
    for file in [&control, &live] {
        assert_refused(&["--embedded", "--deadline", "none", file], "--deadline none");
    }
    assert_refused(&["--embedded", "--clients", "0", &control], "--clients");
    assert_refused(&["--embedded", "--run-id", "a b", &control], "--run-id");
    let expectation = scratch.file("bad.json", "[{]");
    assert_refused(&["--embedded", "--expect", &expectation, &control], &format!("{expectation}:1:3"));
    let data = scratch.path("no-such-cluster");
    assert_refused(&["--data", &data, &control], "the file stops or starts nodes");
    assert_refused(&["--endpoints", "127.0.0.1:1", &control], "the file stops or starts nodes");
}

#[test]
fn without_a_cluster_the_exit_status_is_3() {
    // Nothing listens on port 1.
    let output = run(&["--endpoints", "127.0.0.1:1", &sample("plain.csv")]);
    assert_exit(&output, 3);
    assert!(stderr(&output).contains("no cluster"), "{}", stderr(&output));
}

#[test]
fn the_sample_runs_on_a_cluster_of_its_own_and_the_audit_is_clean() {
    let expected = sample("first.expected.json");
    let output = run(&["--embedded", "--deadline", "5s", "--expect", &expected, &sample("first.csv")]);
    assert_exit(&output, 0);
    let lines = lines(&output);
    assert_eq!(lines[0]["kind"], "run");
    let rows = of_kind(&lines, &["transfer", "balance", "fail", "recover", "fail_leader"]);
    let indices: Vec<u64> = rows.iter().filter_map(|row| row["index"].as_u64()).collect();
    assert_eq!(indices, (0..20).collect::<Vec<u64>>(), "file order with one client");
    assert_eq!(rows[0]["id"].as_str().map(str::len), Some(32));
    assert_eq!((&rows[0]["level"], &rows[0]["final"]), (&Value::from("linearizable"), &Value::from(true)));
    let settled = of_kind(&lines, &["final"]);
    assert_eq!(settled.len(), 1, "{settled:?}");
    assert_eq!((settled[0]["index"].as_u64(), settled[0]["outcome"].is_string()), (Some(15), true));
    let balances = of_kind(&lines, &["balances"]);
    let of_1001 = balances.iter().find(|line| line["account"] == 1001).expect("account 1001 changed");
    assert_eq!(of_1001["replicas"]["n3"], "down");
    assert_eq!(of_1001["replicas"]["n1"], 5);
    let summary = lines.last().expect("a summary");
    assert_eq!((&summary["kind"], &summary["run_id"]), (&Value::from("summary"), &lines[0]["run_id"]));
    assert_eq!((&summary["rows"], &summary["interrupted"]), (&Value::from(20), &Value::from(false)));
    let audit = &summary["audit"];
    assert_eq!((&audit["verdict"], &audit["replicas"]), (&Value::from("clean"), &Value::from(9)), "{audit}");
    assert_eq!(audit["acknowledged"], summary["outcomes"]["committed"]);
}

#[test]
fn a_difference_from_the_expectation_is_exit_status_1() {
    let scratch = Scratch::new("expect");
    let expected = scratch.file("e.json", r#"[{"outcome": "committed"}, {"outcome": "rejected"}]"#);
    let file = scratch.file("f.csv", "1,2,1\n2,3,1\n");
    let output = run(&["--embedded", "--expect", &expected, &file]);
    assert_exit(&output, 1);
    let said = stderr(&output);
    assert!(said.contains("row 1 `2,3,1`: outcome is committed, expected rejected"), "{said}");
}

#[test]
fn a_repeated_run_answers_as_it_did_and_moves_nothing() {
    let scratch = Scratch::new("replay");
    let data = scratch.path("data");
    let arguments = ["--embedded", "--data", &data, "--run-id", "again", "--clients", "4", &sample("plain.csv")];
    let by_index = |lines: &[Value], replayed: bool| -> BTreeMap<u64, (Value, Value, Value)> {
        let rows = of_kind(lines, &["transfer"]);
        assert!(rows.iter().all(|row| (row["replayed"] == true) == replayed), "{rows:?}");
        let row = |row: &&Value| (row["id"].clone(), row["outcome"].clone(), row["reason"].clone());
        rows.iter().map(|value| (value["index"].as_u64().expect("an index"), row(value))).collect()
    };
    let (first, second) = (run(&arguments), run(&arguments));
    assert_exit(&first, 0);
    assert_exit(&second, 0);
    let (first, second) = (lines(&first), lines(&second));
    assert_eq!(by_index(&first, false), by_index(&second, true));
    assert_eq!(by_index(&first, false).len(), 10);
    let balances = |lines: &[Value]| {
        let rows: Vec<Value> = of_kind(lines, &["balances"]).into_iter().cloned().collect();
        rows
    };
    assert_eq!(balances(&first), balances(&second));
}

#[test]
fn every_isolated_set_begins_with_the_data_set() {
    let scratch = Scratch::new("isolated");
    let file = scratch.file("f.csv", "1,\"(1, 2, 10)\",\n,(1),\n2,(1),\n,\"(1, 3001, 4)\",\n");
    let values = |arguments: &[&str]| {
        let output = run(arguments);
        assert_exit(&output, 0);
        let lines = lines(&output);
        let values: Vec<Value> = of_kind(&lines, &["balance"]).iter().map(|row| row["value"].clone()).collect();
        (values, lines.last().expect("a summary")["audit"]["acknowledged"].clone())
    };
    assert_eq!(values(&["--embedded", "--isolate-sets", &file]), (vec![0.into(), 10.into()], 2.into()));
    assert_eq!(values(&["--embedded", &file]).0, [Value::from(0), Value::from(0)]);
}

/// A run that waits between two sets: its nodes, and what it has printed so far.
fn waiting(scratch: &Scratch) -> (Child, Vec<Pid>, BufReader<std::process::ChildStdout>) {
    let file = scratch.file("two.csv", "1,\"(1, 2, 1)\",\n2,(1),\n");
    let mut command = drachma(&["--embedded", "--step", &file]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("the binary runs");
    let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    while !line.contains("\"index\":0") {
        line.clear();
        assert_ne!(out.read_line(&mut line).expect("a line"), 0, "the run ended before its first row");
    }
    let nodes = children(child.id());
    assert_eq!(nodes.len(), 9);
    (child, nodes, out)
}

/// The processes that a process has started.
fn children(parent: u32) -> Vec<Pid> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("a process table").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // After the name, which may have anything in it: the state, then the parent.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        if rest.split_whitespace().nth(1) == Some(parent.to_string().as_str()) {
            found.extend(Pid::from_raw(pid));
        }
    }
    found
}

/// Whether a process still does something; one that ended and was not waited for does not.
fn lives(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    !matches!(state, None | Some("Z" | "X"))
}

#[track_caller]
fn assert_gone(nodes: &[Pid]) {
    let end = Instant::now() + Duration::from_secs(10);
    while nodes.iter().any(|pid| lives(*pid)) {
        assert!(Instant::now() < end, "nodes outlive their run");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_nodes_end_with_a_run_that_is_killed() {
    let scratch = Scratch::new("killed");
    let (mut child, nodes, _out) = waiting(&scratch);
    child.kill().expect("SIGKILL");
    child.wait().expect("it ended");
    assert_gone(&nodes);
}

#[test]
fn an_interrupted_run_prints_its_summary_and_stops_its_nodes() {
    let scratch = Scratch::new("interrupted");
    let (mut child, nodes, mut out) = waiting(&scratch);
    kill_process(Pid::from_child(&child), Signal::INT).expect("SIGINT");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!(child.wait().expect("it ended").code(), Some(130));
    let summary: Value = serde_json::from_str(rest.lines().last().expect("a summary")).expect("JSON");
    assert_eq!((&summary["kind"], &summary["interrupted"]), (&Value::from("summary"), &Value::from(true)));
    assert_eq!(summary["audit"]["verdict"], "incomplete");
    assert_gone(&nodes);
}

#[test]
fn pending_transfers_and_chains_are_rows_like_others() {
    let output = run(&["--embedded", "--deadline", "20s", &sample("phases.csv")]);
    assert_exit(&output, 0);
    let lines = lines(&output);
    let rows: Vec<&Value> =
        lines.iter().filter(|line| line["outcome"].is_string() && line["row"].is_string()).collect();
    let told: Vec<(&str, &str, &str)> = rows
        .iter()
        .map(|row| {
            let word = |name: &str| row[name].as_str().unwrap_or("");
            (word("kind"), word("outcome"), word("reason"))
        })
        .collect();
    let expected = [
        ("pend", "committed", ""),
        ("post", "committed", ""),
        ("void", "rejected", "pending_already_posted"),
        ("balance", "ok", ""),
        ("chain", "committed", ""),
        ("chain", "rejected", "exceeds_credits"),
        ("balance", "ok", ""),
        ("pend", "committed", ""),
        ("chain", "committed", ""),
        ("balance", "ok", ""),
    ];
    assert_eq!(told, expected);
    let values: Vec<&Value> = rows.iter().map(|row| &row["value"]).filter(|value| !value.is_null()).collect();
    assert_eq!(values, [13, 10, 9]);
    assert_eq!(rows[4]["groups"], serde_json::json!([1, 2, 3]));
    let audit = &lines.last().expect("a summary")["audit"];
    assert_eq!((&audit["verdict"], &audit["acknowledged"]), (&"clean".into(), &5.into()), "{audit}");
}

#[test]
fn pending_transfers_and_chains_have_levels_and_are_checked_first() {
    let scratch = Scratch::new("phases");
    let rows = "1,\"PEND(1, 1, 2, 1, 30s, all)\",\n,\"VOID(1, 1, 2, session)\",\n\
        ,\"(1, 2, 1) + (2, 3001, 1, any)\",\n,\"(1, 2, 1) + (2, 3, 1, any)\",\n";
    let output = run(&["--embedded", "--deadline", "20s", &scratch.file("levels.csv", rows)]);
    assert_exit(&output, 0);
    let lines = lines(&output);
    let rows = of_kind(&lines, &["pend", "void", "chain"]);
    let outcomes: Vec<&str> = rows.iter().map(|row| row["outcome"].as_str().unwrap_or("")).collect();
    assert_eq!(outcomes, ["committed", "committed", "rejected", "accepted"]);
    assert_eq!((&rows[0]["level_met"], &rows[2]["reason"]), (&true.into(), &"several_groups".into()));
    // What was only accepted is settled in the end.
    assert_eq!(of_kind(&lines, &["final"])[0]["outcome"], "committed");
    let twice = scratch.file("twice.csv", "1,\"VOID(1, 1, 2) + VOID(1, 1, 2)\",\n");
    assert_refused(
        &["--embedded", &twice],
        "row 0 `VOID(1, 1, 2) + VOID(1, 1, 2)`: expected each pending transfer once",
    );
}

#[test]
fn steps_take_commands_and_go_on() {
    use std::io::Write;
    let scratch = Scratch::new("steps");
    let (mut child, _, mut out) = waiting(&scratch);
    let mut keys = child.stdin.take().expect("a pipe");
    keys.write_all(b"leader\nbalance 1\nnonsense\nnext\n").expect("written");
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest");
    assert_eq!(child.wait().expect("it ended").code(), Some(0), "{rest}");
    // Whatever the commands print, standard output has the rows only.
    let kinds: Vec<Value> =
        rest.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["kind"].clone()).collect();
    assert_eq!(kinds, ["balance", "balances", "balances", "summary"]);
}

/// The handed-out file lies beside the checkout.
#[test]
fn the_handed_out_scenario_gives_what_it_must() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = |base: &Path| base.join("shared/data/scenario-3x3.csv");
    let Some(file) = manifest.ancestors().skip(1).map(data).find(|path| path.exists()) else {
        println!("skipped: there is no ../shared/data/scenario-3x3.csv beside this checkout");
        return;
    };
    let expected = file.with_file_name("scenario-3x3.expected.json").display().to_string();
    let began = Instant::now();
    let output = run(&["--embedded", "--isolate-sets", "--expect", &expected, &file.display().to_string()]);
    assert_exit(&output, 0);
    println!("took {:?}", began.elapsed());
}
