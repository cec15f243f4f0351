//! What a node tells Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;

use drachma::local::{LocalCluster, LocalOptions};
use drachma::settings::Settings;
use tokio::runtime::Builder;

use crate::common::{PATIENCE, Scratch, drachma, text};

const ONE_NODE: &str = include_str!("../../samples/cluster-1x1.toml");

/// A configuration of one node on a free port, which serves metrics on another.
fn configuration(scratch: &Scratch) -> (LocalCluster, String, SocketAddr) {
    let settings = Settings::parse(ONE_NODE, "one node").unwrap();
    let ports = LocalCluster::create(settings, scratch.0.join("ports"), LocalOptions::embedded()).unwrap();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = format!("{}\n[metrics]\naddress = \"{free}\"\n", ports.settings().to_toml());
    (ports, text, free)
}

/// One request over a connection of its own: status and body.
fn ask(address: SocketAddr, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = format!("Content-Length: {}", body.len());
    assert!(head.lines().any(|line| line == length), "{head}");
    (status, body.to_owned())
}

/// A scrape, line by line.
#[derive(Debug, Default)]
struct Scraped {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

fn scrape(address: SocketAddr) -> Scraped {
    let (status, body) = ask(address, "GET /metrics HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(status, 200, "{body}");
    let mut scraped = Scraped::default();
    let mut helped = BTreeSet::new();
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(lines.last(), Some(&"# EOF"));
    for line in &lines[..lines.len() - 1] {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(help.len() > 5 && helped.insert(name.to_owned()), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(helped.contains(name), "{line}: no help before");
            assert_eq!(scraped.types.insert(name.to_owned(), kind.to_owned()), None, "{line}");
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
            let bare = name.split('{').next().unwrap();
            assert!(bare.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{line}");
            let family = scraped.types.iter().find(|(family, kind)| {
                bare.strip_prefix(family.as_str()).is_some_and(|end| match kind.as_str() {
                    "counter" => end == "_total",
                    "gauge" => end.is_empty(),
                    _ => ["_sum", "_count", "_bucket"].contains(&end),
                })
            });
            assert!(family.is_some(), "{line}: of no type");
            assert!(value >= 0.0 && scraped.samples.insert(name.to_owned(), value).is_none(), "{line}");
        }
    }
    scraped
}

/// The table of docs/operations.md: name and type.
fn documented() -> BTreeMap<String, String> {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md")).unwrap();
    let section = page.split("\n## Metrics\n").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `drachma_"));
    let row = |row: &str| {
        let (name, rest) = row.split_once("` | ").unwrap();
        let (kind, _) = rest.split_once(' ').unwrap();
        (format!("drachma_{name}"), kind.to_owned())
    };
    rows.map(row).collect()
}

/// The same of a scrape, by the names that Prometheus gives.
fn told(scraped: &Scraped) -> BTreeMap<String, String> {
    let name = |(name, kind): (&String, &String)| match kind.as_str() {
        "counter" => (format!("{name}_total"), kind.clone()),
        _ => (name.clone(), kind.clone()),
    };
    scraped.types.iter().map(name).collect()
}

#[test]
fn a_node_tells_what_is_documented_and_its_counts_move() {
    let scratch = Scratch::new("metrics");
    let (_ports, config, address) = configuration(&scratch);
    let path = scratch.0.join("cluster.toml");
    std::fs::write(&path, &config).unwrap();
    let settings = Settings::parse(&config, "one node").unwrap();
    let executable = Some(env!("CARGO_BIN_EXE_drachma").into());
    let options = LocalOptions { executable, free_ports: false, owned: true };
    let mut local = LocalCluster::create(settings, scratch.0.join("data"), options).unwrap();
    local.format_all().unwrap();
    let node = local.settings().nodes()[0].id;
    let group = local.settings().groups()[0].id;
    local.start(node).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        local.wait_ready(node, PATIENCE).await.unwrap();
        assert!(local.wait_leaders(&[group], PATIENCE).await);
    });
    let before = scrape(address);
    assert_eq!(told(&before), documented(), "docs/operations.md has another table than the node tells");
    let config = path.display().to_string();
    let run = |line: &str| {
        let output = drachma(&[&["--config", &config], line.split(' ').collect::<Vec<_>>().as_slice()].concat());
        assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
    };
    run("transfer 1 2 3");
    run("balance 1");
    run("performance");
    let after = scrape(address);
    let value = |name: &str| *after.samples.get(name).unwrap_or_else(|| panic!("no {name}: {after:?}"));
    for (name, least) in [
        ("drachma_leader{group=\"g1\"}", 1.0),
        ("drachma_request_seconds_count{kind=\"transfer\"}", 1.0),
        ("drachma_request_seconds_bucket{le=\"+Inf\",kind=\"query\"}", 1.0),
        ("drachma_requests_total", before.samples["drachma_requests_total"] + 3.0),
        ("drachma_log_sync_seconds_count", before.samples["drachma_log_sync_seconds_count"] + 1.0),
        ("drachma_applied_entries{group=\"g1\"}", before.samples["drachma_applied_entries{group=\"g1\"}"] + 1.0),
        ("drachma_mailbox_handled_total{group=\"g1\",role=\"leader\"}", 2.0),
        ("drachma_resident_memory_bytes", 1e6),
        (concat!("drachma_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert!(value(name) >= least, "{name} is {}, and should be {least} at least", value(name));
    }
    assert_eq!(value("drachma_request_seconds_count{kind=\"transfer\"}"), 1.0, "`performance` takes nothing away");
    assert_eq!(value("drachma_apply_lag_entries{group=\"g1\"}"), 0.0);
    at_most_sixteen_callers(address);
    assert_eq!(ask(address, "GET / HTTP/1.1\r\n\r\n").0, 404);
    assert_eq!(ask(address, "POST /metrics HTTP/1.1\r\n\r\n").0, 405);
    assert_eq!(ask(address, &format!("GET /{} HTTP/1.1\r\n", "a".repeat(8192))).0, 431);
}

/// Sixteen connections that say nothing are kept, the next one is closed, and there is room when they have gone.
fn at_most_sixteen_callers(address: SocketAddr) {
    let mut callers: Vec<TcpStream> = (0..17).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut last = callers.pop().unwrap();
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(!last.read(&mut [0; 16]).is_ok_and(|count| count > 0), "the last one was not closed");
    callers[15].write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
    let mut answer = String::new();
    callers[15].read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("# EOF\n"), "the sixteenth was not answered");
}

#[test]
fn a_port_that_another_program_has_is_named() {
    let scratch = Scratch::new("metrics-port");
    let (ports, config, address) = configuration(&scratch);
    let _taken = TcpListener::bind(address).unwrap();
    let path = scratch.0.join("cluster.toml");
    std::fs::write(&path, &config).unwrap();
    let (config, data) = (path.display().to_string(), scratch.0.join("data").display().to_string());
    let node = ports.settings().nodes()[0].id.to_string();
    let run = |more: &[&str]| drachma(&[&["--config", &config, "--data", &data, "node", "--id", &node], more].concat());
    assert_eq!(run(&["--format"]).status.code(), Some(0));
    let output = run(&[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains(&format!("cannot serve metrics on {address}")) && said.contains("[metrics] address"),
        "{said}"
    );
}

#[test]
fn every_metric_of_the_grafana_board_exists() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/drachma.json");
    let board: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let known = documented();
    let panels = board["panels"].as_array().unwrap();
    assert!(panels.len() > 15);
    for panel in panels {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let names: Vec<&str> = words.filter(|word| word.starts_with("drachma_")).collect();
            assert!(!names.is_empty(), "{expression}");
            for name in names {
                let bare = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
                let histogram = bare.is_some_and(|bare| known.get(bare).is_some_and(|kind| kind == "histogram"));
                assert!(histogram || known.contains_key(name), "{name} in {expression}");
            }
        }
    }
}
