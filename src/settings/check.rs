//! From what is written to what is meant: every value is checked, and every error has its place.

use std::collections::BTreeMap;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use drachma_actors::config::{Fsync, StorageConfig, Timers};
use drachma_protocol::ids::{GroupId, IdError, NodeId};
use drachma_protocol::ledger::Limits;
use drachma_protocol::time::Span;
use toml::Spanned;
use tracing_subscriber::EnvFilter;

use super::raw::{self, Number, Raw, Value};
use super::{
    GROUPS_PER_NODE_LIMIT, Group, LogSettings, NODES_LIMIT, Node, REPLICAS_LIMIT, Settings, SettingsError, placement,
    units,
};

const MEBI: u128 = 1 << 20;

/// The text and where it came from: turns offsets into lines and columns.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    pub(super) origin: &'a str,
}

impl Source<'_> {
    /// An error at a place of the text.
    pub(super) fn error(&self, at: Range<usize>, message: impl Into<String>) -> SettingsError {
        let before = self.text.get(..at.start).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        SettingsError { origin: self.origin.to_owned(), at: Some((line, column)), message: message.into() }
    }

    /// An error of the whole.
    pub(super) fn whole(&self, message: impl Into<String>) -> SettingsError {
        SettingsError { origin: self.origin.to_owned(), at: None, message: message.into() }
    }

    /// A number within limits, or its default.
    pub(super) fn number(
        &self,
        name: &str,
        value: &Value<Number>,
        default: u128,
        allowed: RangeInclusive<u128>,
    ) -> Result<u128, SettingsError> {
        let Some(value) = value else { return Ok(default) };
        let number = value.get_ref().0;
        if allowed.contains(&number) {
            return Ok(number);
        }
        let (least, most) = allowed.into_inner();
        Err(self.error(value.span(), format!("{name} is {number}; {least} to {most} is allowed")))
    }

    fn span(
        &self,
        name: &str,
        value: &Value<String>,
        default: Duration,
        allowed: RangeInclusive<Duration>,
    ) -> Result<Span, SettingsError> {
        let Some(value) = value else { return Ok(units::span(default)) };
        let duration = units::parse(value.get_ref())
            .map_err(|message| self.error(value.span(), format!("{name} is {message}")))?;
        if allowed.contains(&duration) {
            return Ok(units::span(duration));
        }
        let (least, most) = (units::show(*allowed.start()), units::show(*allowed.end()));
        let message = format!("{name} is {}; {least} to {most} is allowed", value.get_ref());
        Err(self.error(value.span(), message))
    }

    /// An id, with what was expected in the error.
    pub(super) fn id<T: FromStr<Err = IdError>>(&self, value: &Spanned<String>) -> Result<T, SettingsError> {
        value.get_ref().parse().map_err(|error: IdError| self.error(value.span(), error.to_string()))
    }
}

/// Checks a whole configuration.
pub(super) fn settings(source: &Source<'_>) -> Result<Settings, SettingsError> {
    let raw: Raw = toml::from_str(source.text).map_err(|error| match error.span() {
        Some(span) => source.error(span, error.message()),
        None => source.whole(error.message()),
    })?;
    let mut warnings = Vec::new();
    let listen = listen_host(source, &raw.cluster)?;
    let nodes = nodes(source, &raw, listen.as_deref())?;
    let groups = groups(source, &raw, &nodes, &mut warnings)?;
    let accounts = accounts(source, &raw.data_set)?;
    let map = placement::map(source, &raw.placement, &groups, accounts)?;
    let initial_balance = initial_balance(source, &raw.data_set, accounts)?;
    let settings = Settings {
        origin: source.origin.to_owned(),
        name: name(source, &raw.cluster)?,
        data_dir: raw.cluster.data_dir.as_ref().map_or("data", |dir| dir.get_ref()).into(),
        listen,
        nodes,
        groups,
        map,
        timers: timers(source, &raw.timers)?,
        storage: storage(source, &raw.storage)?,
        limits: limits(source, &raw.limits)?,
        accounts,
        initial_balance,
        log: log(source, &raw.log)?,
        metrics: None,
        warnings,
    };
    let metrics = metrics(source, &raw.metrics, &settings.nodes)?;
    Ok(warn(Settings { metrics, ..settings }))
}

fn name(source: &Source<'_>, cluster: &raw::Cluster) -> Result<String, SettingsError> {
    let Some(name) = &cluster.name else { return Ok("drachma".to_owned()) };
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_' || c == '.';
    let text = name.get_ref();
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err(source.error(name.span(), "a name has 1 to 64 letters, digits, `-`, `_` and `.`"));
    }
    Ok(text.clone())
}

fn listen_host(source: &Source<'_>, cluster: &raw::Cluster) -> Result<Option<String>, SettingsError> {
    let Some(listen) = &cluster.listen else { return Ok(None) };
    if listen.get_ref().parse::<std::net::IpAddr>().is_err() {
        let message = format!("listen is `{}`; an IP address without a port is allowed", listen.get_ref());
        return Err(source.error(listen.span(), message));
    }
    Ok(Some(listen.get_ref().clone()))
}

fn nodes(source: &Source<'_>, raw: &Raw, listen: Option<&str>) -> Result<Vec<Node>, SettingsError> {
    if raw.node.is_empty() {
        return Err(source.whole("there is no [[node]]; at least one is needed"));
    }
    if raw.node.len() > NODES_LIMIT {
        let message = format!("there are {} nodes; at most {NODES_LIMIT} are allowed", raw.node.len());
        return Err(source.error(raw.node[NODES_LIMIT].id.span(), message));
    }
    let base = source.number("base_port", &raw.cluster.base_port, 7101, 1..=65_535)?;
    let mut nodes = BTreeMap::new();
    let mut addresses = BTreeMap::new();
    for node in &raw.node {
        let id: NodeId = source.id(&node.id)?;
        if id.0 == 0 {
            return Err(source.error(node.id.span(), "nodes are numbered from 1: n1, n2 and so on"));
        }
        let (address, at) = match &node.address {
            Some(address) => (checked_address(source, address)?, address.span()),
            None => (default_address(source, node, id, base, listen)?, node.id.span()),
        };
        if let Some(other) = addresses.insert(address.clone(), id) {
            return Err(source.error(at, format!("{id} has the address {address}, as {other} has")));
        }
        if nodes.insert(id, Node { id, address }).is_some() {
            return Err(source.error(node.id.span(), format!("{id} is there twice")));
        }
    }
    Ok(nodes.into_values().collect())
}

fn checked_address(source: &Source<'_>, address: &Spanned<String>) -> Result<String, SettingsError> {
    let text = address.get_ref();
    match text.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.clone()),
        _ => {
            let message = format!("`{text}` is not an address; host:port with a port from 1 to 65535 is allowed");
            Err(source.error(address.span(), message))
        }
    }
}

fn default_address(
    source: &Source<'_>,
    node: &raw::Node,
    id: NodeId,
    base: u128,
    listen: Option<&str>,
) -> Result<String, SettingsError> {
    let port = base + u128::from(id.0) - 1;
    if port > 65_535 {
        let message = format!("{id} would have port {port} (base_port {base}, counted from n1); give it an address");
        return Err(source.error(node.id.span(), message));
    }
    // A wildcard can be listened on; others need an address to connect to.
    let host = listen.and_then(|host| host.parse().ok()).filter(|ip: &std::net::IpAddr| !ip.is_unspecified());
    let host = host.unwrap_or(std::net::Ipv4Addr::LOCALHOST.into());
    Ok(std::net::SocketAddr::new(host, port as u16).to_string())
}

fn groups(
    source: &Source<'_>,
    raw: &Raw,
    nodes: &[Node],
    warnings: &mut Vec<String>,
) -> Result<Vec<Group>, SettingsError> {
    if raw.group.is_empty() {
        return Err(source.whole("there is no [[group]]; at least one is needed"));
    }
    let mut groups = BTreeMap::new();
    let mut hosted: BTreeMap<NodeId, usize> = BTreeMap::new();
    for group in &raw.group {
        let id: GroupId = source.id(&group.id)?;
        if id.0 == 0 {
            return Err(source.error(group.id.span(), "g0 is the placement service; groups are numbered from 1"));
        }
        let members = members(source, id, group, nodes)?;
        for (node, written) in members.iter().zip(group.nodes.get_ref()) {
            let count = hosted.entry(*node).or_default();
            *count += 1;
            if *count > GROUPS_PER_NODE_LIMIT {
                let message = format!("{node} is in more than {GROUPS_PER_NODE_LIMIT} groups, which is the limit");
                return Err(source.error(written.span(), message));
            }
        }
        if members.len() % 2 == 0 {
            let (have, less) = (members.len(), members.len() - 1);
            warnings.push(format!("{id} has {have} replicas: it survives no more failures than with {less}"));
        }
        if groups.insert(id, Group { id, nodes: members }).is_some() {
            return Err(source.error(group.id.span(), format!("{id} is there twice")));
        }
    }
    let idle = nodes.iter().filter(|node| !hosted.contains_key(&node.id));
    warnings.extend(idle.map(|node| format!("{} has no replica of any group", node.id)));
    Ok(groups.into_values().collect())
}

fn members(source: &Source<'_>, id: GroupId, group: &raw::Group, nodes: &[Node]) -> Result<Vec<NodeId>, SettingsError> {
    let written = group.nodes.get_ref();
    if written.is_empty() || written.len() > REPLICAS_LIMIT {
        let message = format!("{id} has {} nodes; 1 to {REPLICAS_LIMIT} are allowed", written.len());
        return Err(source.error(group.nodes.span(), message));
    }
    let mut members: Vec<NodeId> = Vec::new();
    for name in written {
        let node: NodeId = source.id(name)?;
        if !nodes.iter().any(|known| known.id == node) {
            let message = format!("{id} names {node}, and there is no [[node]] with that id ({})", known(nodes));
            return Err(source.error(name.span(), message));
        }
        if members.contains(&node) {
            return Err(source.error(name.span(), format!("{id} names {node} twice")));
        }
        members.push(node);
    }
    Ok(members)
}

fn known(nodes: &[Node]) -> String {
    const SHOWN: usize = 12;
    let mut names: Vec<String> = nodes.iter().take(SHOWN).map(|node| node.id.to_string()).collect();
    if nodes.len() > SHOWN {
        names.push("and more".to_owned());
    }
    format!("there are {}", names.join(", "))
}

fn timers(source: &Source<'_>, raw: &raw::Timers) -> Result<Timers, SettingsError> {
    let ms = Duration::from_millis;
    let heartbeat = source.span("heartbeat", &raw.heartbeat, ms(75), ms(1)..=ms(10_000))?;
    let leader_timeout = source.span("leader_timeout", &raw.leader_timeout, ms(250), ms(10)..=ms(60_000))?;
    let deadline = source.span("deadline", &raw.deadline, ms(2_000), ms(1)..=ms(3_600_000))?;
    if heartbeat.0.saturating_mul(3) >= leader_timeout.0 {
        let at = raw.heartbeat.as_ref().or(raw.leader_timeout.as_ref()).map_or(0..0, Spanned::span);
        let message = format!(
            "heartbeat ({}) must be below a third of leader_timeout ({})",
            units::show_span(heartbeat),
            units::show_span(leader_timeout)
        );
        return Err(source.error(at, message));
    }
    Ok(Timers { heartbeat, leader_timeout, deadline })
}

fn storage(source: &Source<'_>, raw: &raw::Storage) -> Result<StorageConfig, SettingsError> {
    let segment = source.number("segment_bytes", &raw.segment_bytes, 16 * MEBI, MEBI..=1024 * MEBI)?;
    let between = source.number("snapshot_every_bytes", &raw.snapshot_every_bytes, 256 * MEBI, MEBI..=1 << 50)?;
    Ok(StorageConfig {
        fsync: fsync(source, &raw.fsync)?,
        segment_bytes: segment as u64,
        snapshot_every_bytes: between as u64,
    })
}

fn fsync(source: &Source<'_>, value: &Value<String>) -> Result<Fsync, SettingsError> {
    let Some(value) = value else { return Ok(Fsync::Always) };
    match value.get_ref().as_str() {
        "always" => Ok(Fsync::Always),
        "never" => Ok(Fsync::Never),
        text => {
            let interval = text.strip_prefix("interval:").and_then(|text| units::parse(text).ok());
            let (least, most) = (Duration::from_millis(1), Duration::from_secs(10));
            match interval.filter(|interval| (least..=most).contains(interval)) {
                Some(interval) => Ok(Fsync::Interval(units::span(interval))),
                None => {
                    let allowed = "`always`, `never` and `interval:10ms` (1ms to 10s) are allowed";
                    Err(source.error(value.span(), format!("fsync is `{text}`; {allowed}")))
                }
            }
        }
    }
}

fn limits(source: &Source<'_>, raw: &raw::Limits) -> Result<Limits, SettingsError> {
    let default = Limits::default();
    let count = |name, value, default: usize, most| {
        source.number(name, value, default as u128, 1..=most).map(|number| number as usize)
    };
    let lifetime = Duration::from_micros(default.session_lifetime.0);
    let allowed = Duration::from_secs(1)..=Duration::from_secs(30 * 86_400);
    Ok(Limits {
        waiting: count("waiting", &raw.waiting, default.waiting, MEBI)?,
        sessions: count("sessions", &raw.sessions, default.sessions, 100_000)?,
        session_lifetime: source.span("session_lifetime", &raw.session_lifetime, lifetime, allowed)?,
        in_doubt_per_group: count("in_doubt_per_group", &raw.in_doubt_per_group, default.in_doubt_per_group, MEBI)?,
    })
}

fn accounts(source: &Source<'_>, raw: &raw::DataSet) -> Result<u64, SettingsError> {
    source.number("accounts", &raw.accounts, 0, 0..=1_000_000_000).map(|number| number as u64)
}

fn initial_balance(source: &Source<'_>, raw: &raw::DataSet, accounts: u64) -> Result<u128, SettingsError> {
    // All accounts of a shard together are owed by its one reserved account.
    let most = u128::MAX / u128::from(accounts.max(1));
    source.number("initial_balance", &raw.initial_balance, 0, 0..=most)
}

fn log(source: &Source<'_>, raw: &raw::Log) -> Result<LogSettings, SettingsError> {
    let level = raw.level.as_ref().map_or("info", |level| level.get_ref()).to_owned();
    if let Err(error) = EnvFilter::try_new(&level) {
        let at = raw.level.as_ref().map_or(0..0, Spanned::span);
        let allowed = "error, warn, info, debug, trace, off, or a filter such as `info,drachma_actors=debug`";
        return Err(source.error(at, format!("level is `{level}` ({error}); allowed are {allowed}")));
    }
    let json = match raw.format.as_ref().map(|format| (format.get_ref().as_str(), format.span())) {
        None | Some(("text", _)) => false,
        Some(("json", _)) => true,
        Some((other, at)) => {
            return Err(source.error(at, format!("format is `{other}`; `text` and `json` are allowed")));
        }
    };
    Ok(LogSettings { level, json })
}

/// Where n1 serves its metrics; every node must have a port of its own there, and none may be one that a node listens on.
fn metrics(source: &Source<'_>, raw: &raw::Metrics, nodes: &[Node]) -> Result<Option<(String, u16)>, SettingsError> {
    let Some(address) = &raw.address else { return Ok(None) };
    let text = checked_address(source, address)?;
    let wrong = |message: String| Err(source.error(address.span(), message));
    let Some((host, Ok(port))) = text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) else {
        return wrong(format!("`{text}` is not an address; host:port is allowed"));
    };
    for node in nodes {
        let own = u32::from(port) + u32::from(node.id.0.saturating_sub(1));
        if own > u32::from(u16::MAX) {
            return wrong(format!("{} would serve its metrics at port {own} ({port}, counted from n1)", node.id));
        }
        let taken = |other: &&Node| other.address == format!("{host}:{own}");
        if let Some(other) = nodes.iter().find(taken) {
            return wrong(format!("{} would serve its metrics where {} listens: {}", node.id, other.id, other.address));
        }
    }
    Ok(Some((host.to_owned(), port)))
}

fn warn(mut settings: Settings) -> Settings {
    let loopback = |address: &str| {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    };
    let wide = settings.nodes.iter().map(|node| settings.listen_address(node)).find(|address| !loopback(address));
    if let Some(address) = wide {
        let why = "there is no authentication yet, so whoever reaches the port can move money";
        settings.warnings.push(format!("a node listens on {address}: {why}"));
    }
    settings
}

/// The directory that relative paths of a configuration start from.
pub(super) fn base(origin: &str) -> &Path {
    Path::new(origin).parent().unwrap_or(Path::new(""))
}
