//! A configuration as canonical text: what may not change, and all of it.

use std::collections::BTreeSet;
use std::fmt::Write;

use drachma_actors::config::Fsync;
use drachma_protocol::placement::map::Mode;

use super::{Settings, units};

/// What may not change after formatting, one fact a line, the same however the file is ordered. The cluster's id is its
/// hash: a change of this text is a change of the on-disk format.
pub(super) fn shape(settings: &Settings) -> String {
    let mut lines = vec![format!("cluster {}", settings.name)];
    lines.extend(settings.nodes.iter().map(|node| format!("node {}", node.id)));
    for group in &settings.groups {
        let members: Vec<String> = group.nodes.iter().map(ToString::to_string).collect();
        lines.push(format!("group {} of {}", group.id, members.join(" ")));
    }
    let mode = if matches!(settings.map.mode, Mode::Range(_)) { "range" } else { "hash" };
    lines.push(format!("placement by {mode}"));
    for (shard, owner) in settings.map.owners.iter().enumerate() {
        lines.push(match &settings.map.mode {
            Mode::Range(ranges) => {
                format!("shard s{shard} of {owner}: {} to {}", ranges[shard].first, ranges[shard].last)
            }
            Mode::Hash(_) => format!("shard s{shard} of {owner}"),
        });
    }
    lines.push(format!("data set of {} accounts with {} each", settings.accounts, settings.initial_balance));
    let limits = &settings.limits;
    lines.push(format!("limit waiting {}", limits.waiting));
    lines.push(format!("limit sessions {}", limits.sessions));
    lines.push(format!("limit session_lifetime {}", units::show_span(limits.session_lifetime)));
    lines.push(format!("limit in_doubt_per_group {}", limits.in_doubt_per_group));
    lines.push(String::new());
    lines.join("\n")
}

/// The lines by which two shapes differ: `-` was, `+` is. Empty if they are equal.
pub fn difference(was: &str, is: &str) -> String {
    let lines = |text: &'_ str| -> BTreeSet<String> { text.lines().map(str::to_owned).collect() };
    let (old, new) = (lines(was), lines(is));
    let gone = was.lines().filter(|line| !new.contains(*line)).map(|line| format!("  - {line}\n"));
    let come = is.lines().filter(|line| !old.contains(*line)).map(|line| format!("  + {line}\n"));
    gone.chain(come).collect()
}

/// A complete `cluster.toml` of the settings as they stand after checking.
pub(super) fn to_toml(settings: &Settings) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_toml(&mut text, settings);
    text
}

fn write_toml(out: &mut String, settings: &Settings) -> std::fmt::Result {
    let quote = |text: &str| toml::Value::String(text.to_owned()).to_string();
    writeln!(out, "[cluster]\nname = {}", quote(&settings.name))?;
    writeln!(out, "data_dir = {}", quote(&settings.data_dir.display().to_string()))?;
    if let Some(listen) = &settings.listen {
        writeln!(out, "listen = {}", quote(listen))?;
    }
    for node in &settings.nodes {
        writeln!(out, "\n[[node]]\nid = \"{}\"\naddress = {}", node.id, quote(&node.address))?;
    }
    for group in &settings.groups {
        let members: Vec<String> = group.nodes.iter().map(|node| format!("\"{node}\"")).collect();
        writeln!(out, "\n[[group]]\nid = \"{}\"\nnodes = [{}]", group.id, members.join(", "))?;
    }
    write_placement(out, settings)?;
    let timers = &settings.timers;
    writeln!(out, "\n[timers]\nheartbeat = \"{}\"", units::show_span(timers.heartbeat))?;
    writeln!(out, "leader_timeout = \"{}\"", units::show_span(timers.leader_timeout))?;
    writeln!(out, "deadline = \"{}\"", units::show_span(timers.deadline))?;
    let fsync = match settings.storage.fsync {
        Fsync::Always => "always".to_owned(),
        Fsync::Never => "never".to_owned(),
        Fsync::Interval(span) => format!("interval:{}", units::show_span(span)),
    };
    let (segment, between) = (settings.storage.segment_bytes, settings.storage.snapshot_every_bytes);
    writeln!(out, "\n[storage]\nfsync = \"{fsync}\"\nsegment_bytes = {segment}")?;
    writeln!(out, "snapshot_every_bytes = {between}")?;
    let limits = &settings.limits;
    writeln!(out, "\n[limits]\nwaiting = {}\nsessions = {}", limits.waiting, limits.sessions)?;
    writeln!(out, "session_lifetime = \"{}\"", units::show_span(limits.session_lifetime))?;
    writeln!(out, "in_doubt_per_group = {}", limits.in_doubt_per_group)?;
    let (accounts, balance) = (settings.accounts, settings.initial_balance);
    writeln!(out, "\n[data_set]\naccounts = {accounts}\ninitial_balance = \"{balance}\"")?;
    let format = if settings.log.json { "json" } else { "text" };
    writeln!(out, "\n[log]\nlevel = {}\nformat = \"{format}\"", quote(&settings.log.level))?;
    match &settings.metrics {
        Some((host, port)) => writeln!(out, "\n[metrics]\naddress = {}", quote(&format!("{host}:{port}"))),
        None => Ok(()),
    }
}

fn write_placement(out: &mut String, settings: &Settings) -> std::fmt::Result {
    match &settings.map.mode {
        Mode::Hash(_) => {
            writeln!(out, "\n[placement]\nmode = \"hash\"\nshards = {}", settings.map.owners.len())
        }
        Mode::Range(ranges) => {
            writeln!(out, "\n[placement]\nmode = \"range\"\nranges = [")?;
            for (range, owner) in ranges.iter().zip(&settings.map.owners) {
                writeln!(out, "  {{ first = \"{}\", last = \"{}\", group = \"{owner}\" }},", range.first, range.last)?;
            }
            writeln!(out, "]")
        }
    }
}
