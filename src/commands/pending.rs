//! `drachma pending`: what is in doubt.

use drachma_protocol::ids::GroupId;
use drachma_protocol::message::operator::{Nothing, OperatorAnswer, OperatorCall, PendingPage};

use super::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell};

const HEADERS: [&str; 6] = ["group", "id", "account", "state", "since_ms", "decided_by"];

/// Shows what is in doubt at each group's leader, since when, and which group decides it.
///
/// # Errors
/// If standard output fails. The exit status is 3 if a group has no leader.
pub async fn pending(context: &Context) -> Outcome {
    let (mut rows, mut exit) = (Vec::new(), Exit::Done);
    for group in &context.topology.groups {
        let Some(page) = page(context, group.id).await else {
            eprintln!("{} has no leader: what is in doubt there is not known", group.id);
            exit = Exit::Unavailable;
            continue;
        };
        rows.extend(page.rows.iter().map(|row| {
            vec![
                Cell::text(group.id),
                Cell::text(row.txn.id),
                Cell::text(row.txn.first),
                Cell::text(if row.waiting { "waits for its vote" } else { "has voted yes" }),
                Cell::number(page.time.0.saturating_sub(row.since.0) / 1000),
                Cell::text(row.coordinator),
            ]
        }));
        let shown = page.rows.len() as u64;
        if page.total > shown || page.waiting > 0 {
            let (more, waiting) = (page.total.saturating_sub(shown), page.waiting);
            eprintln!("{}: {more} more in doubt, {waiting} operations wait", group.id);
        }
    }
    output::print(context.format, &HEADERS, &rows)?;
    Ok(exit)
}

async fn page(context: &Context, group: GroupId) -> Option<PendingPage> {
    let (node, _) = context.leader(group).await?;
    match context.ask(node, group, OperatorCall::Pending(Nothing {})).await {
        Ok(OperatorAnswer::Pending(page)) => Some(page),
        _ => None,
    }
}
