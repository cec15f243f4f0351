//! Who owns an account, who leads its group, and the way there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use drachma_protocol::ids::{ClusterId, GroupId, NodeId};
use drachma_protocol::message::client::{Call, MapCall, MapDone, Request, Response};
use drachma_protocol::message::hello::{Caller, Hello};
use drachma_protocol::placement::map::{Mode, SHARDS_LIMIT};
use drachma_protocol::routing::Routes;
use tokio::time::{Instant, timeout_at};

use crate::connection::Trouble;
use crate::link::Link;

/// How long a node may take to tell the map.
const MAP_TIMEOUT: Duration = Duration::from_millis(500);

/// The map, the leaders as far as they are known, and a link to every node.
pub(crate) struct Router {
    state: Arc<Mutex<State>>,
    hello: Hello,
    // Counts the refreshes; held while one runs, so that many who were told `Moved` ask once.
    refreshed: tokio::sync::Mutex<u64>,
}

struct State {
    map: Arc<MapDone>,
    routes: Routes,
    links: BTreeMap<NodeId, Arc<Link>>,
    operator_links: BTreeMap<NodeId, Arc<Link>>,
    // When the leader of a group last answered.
    confirmed: BTreeMap<GroupId, (NodeId, Instant)>,
    refreshes: u64,
}

impl State {
    fn links_of<'a>(&self, groups: impl Iterator<Item = &'a GroupId>) -> Vec<Arc<Link>> {
        let nodes: BTreeSet<NodeId> = groups.flat_map(|group| self.routes.nodes(*group)).copied().collect();
        nodes.iter().filter_map(|node| self.links.get(node).cloned()).collect()
    }
}

impl Router {
    /// Routes by `map`, which is sound; `hello` names the cluster.
    pub(crate) fn new(map: MapDone, hello: Hello) -> Router {
        let state = State {
            routes: routes(&map),
            map: Arc::new(map),
            links: BTreeMap::new(),
            operator_links: BTreeMap::new(),
            confirmed: BTreeMap::new(),
            refreshes: 0,
        };
        let router = Router { state: Arc::new(Mutex::new(state)), hello, refreshed: tokio::sync::Mutex::new(0) };
        router.lay_links();
        router
    }

    // Nothing that is done under this lock can leave it half done, so a panic elsewhere does not matter.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The map, and how often it has been asked for.
    pub(crate) fn map(&self) -> (Arc<MapDone>, u64) {
        let state = self.state();
        (Arc::clone(&state.map), state.refreshes)
    }

    /// The node to ask next for something of `group`.
    pub(crate) fn target(&self, group: GroupId) -> Option<NodeId> {
        self.state().routes.target(group)
    }

    /// The cluster.
    pub(crate) fn cluster(&self) -> ClusterId {
        self.hello.cluster.expect("a router is made of a Hello that names the cluster")
    }

    /// The nodes of a group.
    pub(crate) fn nodes(&self, group: GroupId) -> Vec<NodeId> {
        self.state().routes.nodes(group).to_vec()
    }

    /// The way to a node of the cluster.
    pub(crate) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.state().links.get(&node).cloned()
    }

    /// The way to a node for the command line's own calls, apart from the clients'.
    pub(crate) fn operator_link(&self, node: NodeId) -> Option<Arc<Link>> {
        let mut state = self.state();
        if let Some(link) = state.operator_links.get(&node) {
            return Some(Arc::clone(link));
        }
        let address = state.links.get(&node)?.address().to_owned();
        let hello = Hello { caller: Caller::Operator, ..self.hello.clone() };
        let link = Arc::new(Link::new(address, hello, Some(node), Box::new(|_| {})));
        state.operator_links.insert(node, Arc::clone(&link));
        Some(link)
    }

    /// `node` answered as the leader of `group`.
    pub(crate) fn confirm(&self, group: GroupId, node: NodeId) {
        let mut state = self.state();
        state.routes.confirm(group, node);
        state.confirmed.insert(group, (node, Instant::now()));
    }

    /// `node` does not serve `group`; `leader` may.
    pub(crate) fn redirect(&self, group: GroupId, node: NodeId, leader: Option<NodeId>, no_quorum: bool) {
        self.state().routes.redirect(group, node, leader, no_quorum);
    }

    /// `node` has not answered a request that was sent at `sent`. If it has answered others since, only this one
    /// waits, and it stays where the group is asked.
    pub(crate) fn silent(&self, group: GroupId, node: NodeId, sent: Instant) {
        let mut state = self.state();
        let served = state.confirmed.get(&group).is_some_and(|(leader, at)| *leader == node && *at >= sent);
        if !served && state.routes.target(group) == Some(node) {
            state.routes.unanswered(group);
        }
    }

    /// Tries to reach every node of these groups: whether they can be reached decides between unavailable and
    /// unknown, and a node that was down may lead by now.
    pub(crate) fn poke(&self, groups: &BTreeSet<GroupId>) {
        let links = self.state().links_of(groups.iter());
        links.iter().for_each(|link| link.poke());
    }

    /// The same for those of the groups that looked unavailable when they were last asked.
    pub(crate) fn poke_lost(&self, groups: &BTreeSet<GroupId>) {
        let links = {
            let state = self.state();
            state.links_of(groups.iter().filter(|group| state.routes.unavailable(**group)))
        };
        links.iter().for_each(|link| link.poke());
    }

    /// Whether `group` looks unavailable from here.
    pub(crate) fn unavailable(&self, group: GroupId) -> bool {
        self.state().routes.unavailable(group)
    }

    /// Asks for the map, `first` before the other nodes, unless somebody did so since `seen`.
    pub(crate) async fn refresh(&self, seen: u64, first: Option<NodeId>) {
        let mut refreshed = self.refreshed.lock().await;
        if *refreshed > seen {
            return;
        }
        let (map, _) = self.map();
        let others = map.nodes.iter().map(|known| known.node).filter(|node| Some(*node) != first);
        for node in first.into_iter().chain(others) {
            let Some(link) = self.link(node) else { continue };
            match ask_map(&link, &map, Instant::now() + MAP_TIMEOUT).await {
                Ok(newer) => {
                    self.adopt(newer);
                    break;
                }
                Err(trouble) => tracing::debug!(%node, ?trouble, "no map"),
            }
        }
        *refreshed += 1;
        self.state().refreshes = *refreshed;
    }

    fn adopt(&self, newer: MapDone) {
        let mut state = self.state();
        if newer.map.epoch <= state.map.map.epoch {
            return;
        }
        tracing::info!(epoch = %newer.map.epoch, "a newer map");
        state.routes = routes(&newer);
        state.map = Arc::new(newer);
        drop(state);
        self.lay_links();
    }

    /// A link for each node of the map; those that lead where they did are kept.
    fn lay_links(&self) {
        let mut state = self.state();
        let map = Arc::clone(&state.map);
        let mut old = std::mem::take(&mut state.links);
        for known in &map.nodes {
            let kept = old.remove(&known.node).filter(|link| link.address() == known.address);
            let link = kept.unwrap_or_else(|| self.new_link(known.node, known.address.clone()));
            state.links.insert(known.node, link);
        }
        let State { links, operator_links, .. } = &mut *state;
        operator_links.retain(|node, link| links.get(node).is_some_and(|new| new.address() == link.address()));
    }

    fn new_link(&self, node: NodeId, address: String) -> Arc<Link> {
        // Weak: the links belong to the state, and their tasks must not keep it.
        let state = Arc::downgrade(&self.state);
        let on_change = move |up| {
            if let Some(state) = state.upgrade() {
                state.lock().unwrap_or_else(PoisonError::into_inner).routes.link(node, up);
            }
        };
        Arc::new(Link::new(address, self.hello.clone(), Some(node), Box::new(on_change)))
    }
}

fn routes(map: &MapDone) -> Routes {
    Routes::new(map.groups.iter().map(|group| (group.group, group.nodes.clone())))
}

/// Asks a node for a map newer than `than`, or as new.
async fn ask_map(link: &Link, than: &MapDone, until: Instant) -> Result<MapDone, Trouble> {
    timeout_at(until, fetch_map(link, MapCall { epoch: than.map.epoch }))
        .await
        .unwrap_or_else(|_| Err(Trouble::Silent(format!("{}: no answer", link.address()))))
        .map(|(map, _)| map)
}

/// Asks the node at the end of `link` for the map; also tells the Hello for the other nodes of its cluster.
pub(crate) async fn fetch_map(link: &Link, call: MapCall) -> Result<(MapDone, Hello), Trouble> {
    let address = link.address();
    let (pipe, welcome) = link.pipe(false).await?;
    let request = Request { group: GroupId(0), call: Call::Map(call) };
    let lost = || Trouble::Unreachable(format!("{address}: the connection was lost"));
    let answer = pipe.send(&request).await.map_err(|_| lost())?.await;
    match answer.ok_or_else(lost)? {
        Response::Map(map) => {
            sound(&map).map_err(|what| Trouble::Protocol(format!("{address}: a map with {what}")))?;
            let hello = Hello { cluster: Some(welcome.cluster), ..hello() };
            Ok((map, hello))
        }
        Response::Refused(refused) => Err(Trouble::Unreachable(format!("{address}: refused: {:?}", refused.why))),
        _ => Err(Trouble::Protocol(format!("{address}: another answer than was asked for"))),
    }
}

/// The Hello of a client that does not know its cluster.
pub(crate) fn hello() -> Hello {
    use drachma_protocol::wire::frame::VERSIONS;
    let (lowest, highest) = (*VERSIONS.start(), *VERSIONS.end());
    Hello { lowest, highest, cluster: None, caller: Caller::Client, node: None, directory: None }
}

/// What everything here relies on; a node that tells anything else is not believed.
fn sound(map: &MapDone) -> Result<(), &'static str> {
    let owners = &map.map.owners;
    if owners.is_empty() || owners.len() > SHARDS_LIMIT {
        return Err("no shards, or too many");
    }
    if let Mode::Range(ranges) = &map.map.mode
        && ranges.len() != owners.len()
    {
        return Err("ranges that are not its shards");
    }
    let nodes: BTreeSet<NodeId> = map.nodes.iter().map(|known| known.node).collect();
    let groups: BTreeSet<GroupId> = map.groups.iter().map(|known| known.group).collect();
    if map.groups.iter().any(|group| group.nodes.is_empty() || !group.nodes.iter().all(|node| nodes.contains(node))) {
        return Err("a group without nodes, or with unknown ones");
    }
    if !owners.iter().all(|owner| groups.contains(owner)) {
        return Err("an unknown owner");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use drachma_protocol::ids::{AccountId, Epoch};
    use drachma_protocol::message::client::{GroupNodes, NodeAddress};
    use drachma_protocol::message::operator::Nothing;
    use drachma_protocol::placement::map::{AccountRange, ShardMap};

    use super::*;

    fn map() -> MapDone {
        let range = AccountRange { first: AccountId(1), last: AccountId(9) };
        MapDone {
            map: ShardMap { epoch: Epoch(1), mode: Mode::Range(vec![range]), owners: vec![GroupId(1)] },
            groups: vec![GroupNodes { group: GroupId(1), nodes: vec![NodeId(1)] }],
            nodes: vec![NodeAddress { node: NodeId(1), address: "127.0.0.1:1".to_owned() }],
        }
    }

    #[test]
    fn a_map_that_would_make_routing_fail_is_not_believed() {
        assert_eq!(sound(&map()), Ok(()));
        let change = |change: fn(&mut MapDone)| {
            let mut map = map();
            change(&mut map);
            sound(&map)
        };
        assert!(change(|map| map.map.owners.clear()).is_err());
        assert!(change(|map| map.map.owners.push(GroupId(1))).is_err());
        assert!(change(|map| map.map.owners[0] = GroupId(2)).is_err());
        assert!(change(|map| map.groups[0].nodes.clear()).is_err());
        assert!(change(|map| map.nodes.clear()).is_err());
        assert!(
            change(|map| {
                map.map.mode = Mode::Hash(Nothing {});
                map.map.owners = vec![GroupId(1); SHARDS_LIMIT + 1];
            })
            .is_err()
        );
    }
}
