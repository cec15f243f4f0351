//! TARGET: a node, a group, a list of either, or `all`.

use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::message::client::MapDone;

use crate::settings::{Group, Node, Settings};

/// The nodes and groups of a cluster: of its configuration, or as a running cluster tells them.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Who says so.
    pub origin: String,
    /// Every node, by id.
    pub nodes: Vec<Node>,
    /// Every group, by id.
    pub groups: Vec<Group>,
}

impl From<&Settings> for Topology {
    fn from(settings: &Settings) -> Topology {
        Topology {
            origin: settings.origin().to_owned(),
            nodes: settings.nodes().to_vec(),
            groups: settings.groups().to_vec(),
        }
    }
}

impl From<&MapDone> for Topology {
    fn from(map: &MapDone) -> Topology {
        let mut nodes: Vec<Node> =
            map.nodes.iter().map(|node| Node { id: node.node, address: node.address.clone() }).collect();
        let mut groups: Vec<Group> =
            map.groups.iter().map(|group| Group { id: group.group, nodes: group.nodes.clone() }).collect();
        nodes.sort_by_key(|node| node.id);
        groups.sort_by_key(|group| group.id);
        Topology { origin: "the cluster".to_owned(), nodes, groups }
    }
}

/// The nodes that a TARGET names, in order, each once. A group stands for its nodes.
///
/// # Errors
/// What is wrong with it, and what there is.
pub fn nodes(target: &str, settings: &Settings) -> Result<Vec<NodeId>, String> {
    let topology = Topology::from(settings);
    let mut nodes = Vec::new();
    for part in target.split(',').map(str::trim) {
        nodes.extend(part_nodes(part, &topology)?);
    }
    nodes.sort_unstable();
    nodes.dedup();
    Ok(nodes)
}

/// The replicas that a TARGET names: a node stands for its replicas of all groups, a group for its replicas on all
/// nodes. In order of groups, then nodes, each once.
///
/// # Errors
/// As [`nodes`].
pub fn replicas(target: &str, topology: &Topology) -> Result<Vec<(GroupId, NodeId)>, String> {
    let mut replicas = Vec::new();
    for part in target.split(',').map(str::trim) {
        let nodes = part_nodes(part, topology)?;
        let only: Option<GroupId> = part.parse().ok();
        for group in topology.groups.iter().filter(|group| only.is_none_or(|only| only == group.id)) {
            let hosted = group.nodes.iter().filter(|node| nodes.contains(node));
            replicas.extend(hosted.map(|node| (group.id, *node)));
        }
    }
    replicas.sort_unstable();
    replicas.dedup();
    Ok(replicas)
}

fn part_nodes(part: &str, topology: &Topology) -> Result<Vec<NodeId>, String> {
    if part == "all" {
        return Ok(topology.nodes.iter().map(|node| node.id).collect());
    }
    if let Ok(id) = part.parse::<NodeId>() {
        return match topology.nodes.iter().any(|node| node.id == id) {
            true => Ok(vec![id]),
            false => Err(format!("there is no node {id} in {}", topology.origin)),
        };
    }
    match part.parse::<GroupId>().map(|id| (id, topology.groups.iter().find(|group| group.id == id))) {
        Ok((_, Some(group))) => Ok(group.nodes.clone()),
        Ok((id, None)) => Err(format!("there is no group {id} in {}", topology.origin)),
        Err(_) => {
            Err(format!("`{part}` is not a target; a node (n1), a group (g1), a list (n1,n2) or `all` is allowed"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(target: &str) -> Result<Vec<u16>, String> {
        nodes(target, &Settings::sample()).map(|nodes| nodes.iter().map(|node| node.0).collect())
    }

    #[test]
    fn nodes_groups_lists_and_all_are_targets() {
        assert_eq!(ids("n3"), Ok(vec![3]));
        assert_eq!(ids("g2"), Ok(vec![4, 5, 6]));
        assert_eq!(ids("n9, g1,n2"), Ok(vec![1, 2, 3, 9]));
        assert_eq!(ids("all").map(|all| all.len()), Ok(9));
    }

    #[test]
    fn a_target_that_is_not_there_is_named() {
        assert!(ids("n10").unwrap_err().contains("no node n10 in the built-in sample"));
        assert!(ids("g4").unwrap_err().contains("no group g4"));
        for wrong in ["", "n1,", "x", "n01", "N1", "1"] {
            assert!(ids(wrong).unwrap_err().contains("is not a target"), "{wrong}");
        }
    }

    #[test]
    fn replicas_of_a_group_are_of_no_other_group() {
        let text = "[[node]]\nid = \"n1\"\n[[node]]\nid = \"n2\"\n[[group]]\nid = \"g1\"\nnodes = [\"n1\", \"n2\"]\n\
            [[group]]\nid = \"g2\"\nnodes = [\"n2\"]\n[placement]\nmode = \"hash\"\n";
        let settings = Settings::parse(text, "a").unwrap();
        let of = |target| -> Vec<(u16, u16)> {
            replicas(target, &Topology::from(&settings))
                .unwrap()
                .iter()
                .map(|(group, node)| (group.0, node.0))
                .collect()
        };
        assert_eq!(of("g1"), [(1, 1), (1, 2)]);
        assert_eq!(of("n2"), [(1, 2), (2, 2)]);
        assert_eq!(of("g2,n1"), [(1, 1), (2, 2)]);
        assert_eq!(of("all"), [(1, 1), (1, 2), (2, 2)]);
    }
}
