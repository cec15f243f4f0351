//! Strict serializability of transfers and reads over all groups.
//!
//! The operations must have an order that agrees with real time and in which each read sees exactly the transfers
//! before it. What a read saw is known (see [`super::versions`]), so the order must put the transfers that it saw
//! before it and the other ones of that account after it; transfers commute among each other. Such an order exists if
//! the graph of these demands and of real time has no cycle. Totals alone do not show what this shows (hazard S1).

use std::collections::BTreeMap;

use drachma_protocol::ids::TxnId;

use super::versions::versions;
use super::{Checker, End, Verdict};

/// See the module.
pub struct Serializable;

impl Checker for Serializable {
    fn name(&self) -> &'static str {
        "serializable"
    }

    fn at_end(&mut self, end: &End<'_>) -> Verdict {
        let graph = build(end);
        match graph.cycle() {
            None => Ok(()),
            Some(cycle) => Err(format!("no serial order exists: each before the next: {}", cycle.join(" < "))),
        }
    }
}

/// Before and after, with real time as a chain of moments: an operation comes before the moment of its end, and after
/// the last moment before its beginning.
#[derive(Default)]
struct Graph {
    // Nothing for a moment.
    names: Vec<Option<String>>,
    after: Vec<Vec<usize>>,
}

impl Graph {
    fn add(&mut self, name: Option<String>) -> usize {
        self.names.push(name);
        self.after.push(Vec::new());
        self.names.len() - 1
    }

    fn order(&mut self, before: usize, after: usize) {
        self.after[before].push(after);
    }

    fn real_time(&mut self, spans: &[(usize, u64, Option<u64>)]) {
        let mut ends: Vec<u64> = spans.iter().filter_map(|(_, _, end)| *end).collect();
        ends.sort_unstable();
        ends.dedup();
        let first = self.names.len();
        for index in 0..ends.len() {
            let moment = self.add(None);
            if index > 0 {
                self.order(moment - 1, moment);
            }
        }
        for (operation, begin, end) in spans {
            if let Some(end) = end {
                self.order(*operation, first + ends.partition_point(|at| at < end));
            }
            let over = ends.partition_point(|at| at < begin);
            if over > 0 {
                self.order(first + over - 1, *operation);
            }
        }
    }

    /// Takes away what has nothing before it until nothing is left, or a cycle.
    fn cycle(&self) -> Option<Vec<String>> {
        let mut before = vec![0usize; self.names.len()];
        self.after.iter().flatten().for_each(|next| before[*next] += 1);
        let mut free: Vec<usize> = (0..before.len()).filter(|node| before[*node] == 0).collect();
        let mut left = before.len();
        while let Some(node) = free.pop() {
            left -= 1;
            for next in &self.after[node] {
                before[*next] -= 1;
                if before[*next] == 0 {
                    free.push(*next);
                }
            }
        }
        if left == 0 { None } else { Some(self.walk(&before)) }
    }

    /// Every node that is left has another one before it that is left: walking back comes round.
    fn walk(&self, before: &[usize]) -> Vec<String> {
        let mut predecessor = vec![usize::MAX; before.len()];
        for (node, nexts) in self.after.iter().enumerate().filter(|(node, _)| before[*node] > 0) {
            nexts.iter().for_each(|next| predecessor[*next] = node);
        }
        let mut node = before.iter().position(|count| *count > 0).unwrap_or(0);
        for _ in 0..before.len() {
            node = predecessor[node];
        }
        let (start, mut names) = (node, Vec::new());
        loop {
            names.extend(self.names[node].clone());
            node = predecessor[node];
            if node == start {
                names.reverse();
                return names;
            }
        }
    }
}

fn build(end: &End<'_>) -> Graph {
    let mut graph = Graph::default();
    let mut spans = Vec::new();
    let mut nodes: BTreeMap<TxnId, usize> = BTreeMap::new();
    let all = versions(end);
    for txn in all.values().flat_map(|versions| &versions.transfers) {
        let Some(record) = end.history.transfers.get(txn) else { continue };
        nodes.entry(*txn).or_insert_with(|| {
            let (transfer, ended) = (&record.transfer, record.committed_at());
            let name = format!(
                "{} -> {} {} [{}, {ended:?}]",
                transfer.debit, transfer.credit, transfer.amount, record.invoked
            );
            let node = graph.add(Some(name));
            spans.push((node, record.invoked, ended));
            node
        });
    }
    for read in &end.history.reads {
        let Some(versions) = all.get(&read.account) else { continue };
        let Some(seen) = read.found.as_ref().and_then(|account| versions.of(account)) else { continue };
        let node = graph.add(Some(format!("read {} [{}, {}]", read.account, read.invoked, read.completed)));
        spans.push((node, read.invoked, Some(read.completed)));
        for (index, txn) in versions.transfers.iter().enumerate() {
            match nodes.get(txn) {
                Some(transfer) if index < seen => graph.order(*transfer, node),
                Some(transfer) => graph.order(node, *transfer),
                None => {}
            }
        }
    }
    graph.real_time(&spans);
    graph
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_without_a_cycle_has_none() {
        let mut graph = Graph::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| graph.add(Some(name.to_owned())));
        graph.order(a, b);
        graph.order(b, c);
        graph.order(a, c);
        graph.real_time(&[(a, 0, Some(5)), (b, 3, Some(8)), (c, 9, None)]);
        assert_eq!(graph.cycle(), None);
    }

    #[test]
    fn real_time_closes_a_cycle() {
        let mut graph = Graph::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| graph.add(Some(name.to_owned())));
        graph.order(b, a);
        graph.real_time(&[(a, 0, Some(5)), (b, 6, Some(8)), (c, 0, Some(9))]);
        let mut cycle = graph.cycle().unwrap();
        cycle.sort();
        assert_eq!(cycle, ["a", "b"]);
    }

    #[test]
    fn operations_that_overlap_are_not_ordered() {
        let mut graph = Graph::default();
        let [a, b] = ["a", "b"].map(|name| graph.add(Some(name.to_owned())));
        graph.order(b, a);
        graph.real_time(&[(a, 0, Some(5)), (b, 5, Some(8))]);
        assert_eq!(graph.cycle(), None);
    }
}
