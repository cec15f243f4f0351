//! `drachma ping`.

use std::time::Instant;

use drachma_protocol::ids::GroupId;
use drachma_protocol::message::operator::{Nothing, OperatorAnswer, OperatorCall};

use super::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell};

const HEADERS: [&str; 6] = ["node", "address", "state", "round_trip_us", "process", "uptime_s"];

/// Asks every node for a sign of life.
///
/// # Errors
/// If standard output fails. The exit status is 3 if a node does not answer.
pub async fn ping(context: &Context) -> Outcome {
    let (mut rows, mut exit) = (Vec::new(), Exit::Done);
    for node in &context.topology.nodes {
        let asked = Instant::now();
        let answer = context.ask(node.id, GroupId(0), OperatorCall::NodeStatus(Nothing {})).await;
        let took = asked.elapsed().as_micros();
        let mut row = vec![Cell::text(node.id), Cell::text(&node.address)];
        match answer {
            Ok(OperatorAnswer::NodeStatus(status)) => row.extend([
                Cell::text("up"),
                Cell::number(took),
                Cell::number(status.process),
                Cell::number(status.uptime / 1_000_000),
            ]),
            _ => {
                exit = Exit::Unavailable;
                row.extend([Cell::text("down"), Cell::None, Cell::None, Cell::None]);
            }
        }
        rows.push(row);
    }
    output::print(context.format, &HEADERS, &rows)?;
    Ok(exit)
}
