//! `drachma committed`: the transfers that replicas have applied.

use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::ledger::model::{Posted, Sides};
use drachma_protocol::message::operator::{OperatorAnswer, OperatorCall, PageCall};

use super::{Context, context::unexpected};
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell};
use crate::target;

const HEADERS: [&str; 8] = ["node", "group", "id", "debit", "credit", "amount", "sides", "posted_at_us"];
/// Transfers asked for at once.
const PAGE: u32 = 1000;

/// Shows the transfers that each replica of a target has applied, in their order.
///
/// # Errors
/// With exit status 2 if there is no such target. The exit status is 3 if a node does not answer.
pub async fn committed(context: &Context, target: &str) -> Outcome {
    let replicas = target::replicas(target, &context.topology).map_err(Failure::usage)?;
    let (mut rows, mut exit) = (Vec::new(), Exit::Done);
    for (group, node) in replicas {
        let mut from = 0;
        loop {
            let call = OperatorCall::Posted(PageCall { from, limit: PAGE });
            let page = match context.ask(node, group, call).await {
                Ok(OperatorAnswer::Posted(page)) => page,
                Ok(other) => return Err(unexpected(&other)),
                Err(_) => {
                    eprintln!("{node} does not answer");
                    exit = Exit::Unavailable;
                    break;
                }
            };
            from += page.rows.len() as u64;
            rows.extend(page.rows.iter().map(|posted| row(node, group, posted)));
            if page.rows.is_empty() || from >= page.total {
                break;
            }
        }
    }
    output::print(context.format, &HEADERS, &rows)?;
    Ok(exit)
}

fn row(node: NodeId, group: GroupId, posted: &Posted) -> Vec<Cell> {
    let sides = match posted.sides {
        Sides::Debit => "debit",
        Sides::Credit => "credit",
        Sides::Both => "both",
    };
    vec![
        Cell::text(node),
        Cell::text(group),
        Cell::text(posted.transfer.id),
        Cell::number(posted.transfer.debit),
        Cell::number(posted.transfer.credit),
        Cell::number(posted.transfer.amount),
        Cell::text(sides),
        Cell::number(posted.posted_at.0),
    ]
}
