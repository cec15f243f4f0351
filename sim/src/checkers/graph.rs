//! Operations and what must come before what, with the smallest cycle if there is one.
//!
//! Real time is a chain of moments: an operation comes before the moment of its end, and after the last moment before
//! its beginning. Such helpers keep the number of edges linear in the number of operations; a cycle is told without
//! them, each edge with its reason.

use std::collections::VecDeque;
use std::fmt;

/// Why an operation must come before the next one in a cycle.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// It had ended before the next one began.
    RealTime,
    /// The next one saw it.
    Seen,
    /// It did not see the next one.
    NotSeen,
    /// The next one wrote over what it had written.
    Overwritten,
    /// With the next one before it, it could not have been rejected.
    RejectedBefore,
    /// Without it, the next one could not have been rejected.
    RejectedAfter,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::RealTime => "ended before the beginning of",
            Why::Seen => "was seen by",
            Why::NotSeen => "did not see",
            Why::Overwritten => "was written over by",
            Why::RejectedBefore => "was rejected, so it did not see",
            Why::RejectedAfter => "is why this was rejected:",
        })
    }
}

/// An operation of the graph, or a helper.
pub type Node = usize;

/// When an operation began, and when its end was known.
pub type Span = (u64, Option<u64>);

/// See the module.
#[derive(Default)]
pub struct Graph {
    // Nothing for a helper.
    names: Vec<Option<String>>,
    after: Vec<Vec<(Node, Why)>>,
}

/// A cycle: each operation with the reason why it must come before the next, the last one before the first.
#[derive(Debug, Eq, PartialEq)]
pub struct Cycle(pub Vec<(String, Why)>);

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, why) in &self.0 {
            write!(f, "{name} {why} ")?;
        }
        f.write_str(self.0.first().map_or("", |(name, _)| name))
    }
}

/// How many edges the search for the smallest cycle may look at: then the smallest so far is told.
const SEARCH: usize = 50_000_000;

impl Graph {
    /// Adds an operation.
    pub fn operation(&mut self, name: String) -> Node {
        self.add(Some(name))
    }

    /// Adds a helper.
    pub fn helper(&mut self) -> Node {
        self.add(None)
    }

    fn add(&mut self, name: Option<String>) -> Node {
        self.names.push(name);
        self.after.push(Vec::new());
        self.names.len() - 1
    }

    /// `before` comes before `after`. Where helpers lie between two operations, the reason is that of the first edge.
    pub fn order(&mut self, before: Node, after: Node, why: Why) {
        self.after[before].push((after, why));
    }

    /// Adds the edges of real time.
    pub fn real_time(&mut self, spans: &[(Node, Span)]) {
        let mut ends: Vec<u64> = spans.iter().filter_map(|(_, (_, end))| *end).collect();
        ends.sort_unstable();
        ends.dedup();
        let first = self.names.len();
        for index in 0..ends.len() {
            let moment = self.helper();
            if index > 0 {
                self.order(moment - 1, moment, Why::RealTime);
            }
        }
        for (operation, (begin, end)) in spans {
            if let Some(end) = end {
                self.order(*operation, first + ends.partition_point(|at| at < end), Why::RealTime);
            }
            let over = ends.partition_point(|at| at < begin);
            if over > 0 {
                self.order(first + over - 1, *operation, Why::RealTime);
            }
        }
    }

    /// The smallest cycle, counted in operations; nothing if a serial order exists.
    pub fn cycle(&self) -> Option<Cycle> {
        let components = self.components();
        let mut sizes = vec![0usize; self.names.len()];
        components.iter().for_each(|component| sizes[*component] += 1);
        let mut best: Option<Vec<Node>> = None;
        let mut budget = SEARCH;
        for start in (0..self.names.len()).filter(|node| self.names[*node].is_some()) {
            if sizes[components[start]] > 1 && budget > 0 {
                let longest = best.as_ref().map_or(usize::MAX, |best| self.length(best));
                best = self.shortest(start, &components, longest, &mut budget).or(best);
            }
        }
        best.map(|path| self.tell(&path))
    }

    fn length(&self, path: &[Node]) -> usize {
        path.iter().filter(|node| self.names[**node].is_some()).count()
    }

    /// The strongly connected component of each node, after Tarjan, without recursion.
    fn components(&self) -> Vec<usize> {
        const NEW: usize = usize::MAX;
        let count = self.names.len();
        let (mut order, mut low, mut component) = (vec![NEW; count], vec![0; count], vec![NEW; count]);
        let (mut open, mut next, mut found) = (Vec::new(), 0, 0);
        for root in 0..count {
            if order[root] != NEW {
                continue;
            }
            let mut path: Vec<(Node, usize)> = vec![(root, 0)];
            while let Some((node, edge)) = path.last_mut() {
                let node = *node;
                if *edge == 0 {
                    (order[node], low[node]) = (next, next);
                    next += 1;
                    open.push(node);
                }
                if let Some((target, _)) = self.after[node].get(*edge) {
                    *edge += 1;
                    if order[*target] == NEW {
                        path.push((*target, 0));
                    } else if component[*target] == NEW {
                        low[node] = low[node].min(order[*target]);
                    }
                    continue;
                }
                path.pop();
                if let Some((parent, _)) = path.last() {
                    low[*parent] = low[*parent].min(low[node]);
                }
                if low[node] == order[node] {
                    while let Some(member) = open.pop() {
                        component[member] = found;
                        if member == node {
                            break;
                        }
                    }
                    found += 1;
                }
            }
        }
        component
    }

    /// The shortest way from `start` back to it within its component with fewer than `longest` operations.
    fn shortest(&self, start: Node, components: &[usize], longest: usize, budget: &mut usize) -> Option<Vec<Node>> {
        let mut distance = std::collections::BTreeMap::from([(start, (1usize, start))]);
        let mut queue = VecDeque::from([(start, 1usize)]);
        while let Some((node, steps)) = queue.pop_front() {
            if distance[&node].0 < steps {
                continue; // It was reached on a shorter way meanwhile.
            }
            for (target, _) in &self.after[node] {
                *budget = budget.saturating_sub(1);
                if *target == start {
                    return Some(way(&distance, start, node));
                }
                let is_operation = self.names[*target].is_some();
                let length = steps + usize::from(is_operation);
                let known = distance.get(target).map_or(usize::MAX, |(known, _)| *known);
                if components[*target] != components[start] || length >= longest.min(known) || *budget == 0 {
                    continue;
                }
                distance.insert(*target, (length, node));
                if is_operation {
                    queue.push_back((*target, length));
                } else {
                    queue.push_front((*target, length));
                }
            }
        }
        None
    }

    fn tell(&self, path: &[Node]) -> Cycle {
        let mut cycle = Vec::new();
        for (index, node) in path.iter().enumerate() {
            let Some(name) = &self.names[*node] else { continue };
            let next = path[(index + 1) % path.len()];
            let why = self.after[*node].iter().find(|(target, _)| *target == next);
            cycle.push((name.clone(), why.map_or(Why::RealTime, |(_, why)| *why)));
        }
        Cycle(cycle)
    }
}

/// The nodes from `start` to `last` in their order.
fn way(distance: &std::collections::BTreeMap<Node, (usize, Node)>, start: Node, last: Node) -> Vec<Node> {
    let mut path = vec![last];
    let mut node = last;
    while node != start {
        node = distance[&node].1;
        path.push(node);
    }
    path.reverse();
    path
}
