//! `drachma performance`.

use drachma_protocol::ids::GroupId;
use drachma_protocol::message::operator::{Nothing, OperatorAnswer, OperatorCall};

use super::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell};

const HEADERS: [&str; 8] = ["node", "kind", "count", "per_s", "refused", "p50_us", "p99_us", "max_us"];

/// Shows each node's rates and latencies since the last such call; nodes that do not answer are left out with a word.
///
/// # Errors
/// If standard output fails. The exit status is 3 if a node does not answer.
pub async fn performance(context: &Context) -> Outcome {
    let (mut rows, mut exit) = (Vec::new(), Exit::Done);
    for node in &context.topology.nodes {
        let answer = context.ask(node.id, GroupId(0), OperatorCall::Performance(Nothing {})).await;
        let Ok(OperatorAnswer::Performance(performance)) = answer else {
            eprintln!("{} does not answer", node.id);
            exit = Exit::Unavailable;
            continue;
        };
        let window = u128::from(performance.window.max(1));
        rows.extend(performance.kinds.into_iter().map(|kind| {
            vec![
                Cell::text(node.id),
                Cell::Text(kind.kind),
                Cell::number(kind.count),
                Cell::number(u128::from(kind.count) * 1_000_000 / window),
                Cell::number(kind.refused),
                Cell::number(kind.p50),
                Cell::number(kind.p99),
                Cell::number(kind.max),
            ]
        }));
    }
    output::print(context.format, &HEADERS, &rows)?;
    Ok(exit)
}
