//! `drachma leader`.

use super::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell};

/// Shows the leader of every group.
///
/// # Errors
/// If standard output fails. The exit status is 3 if a group has no leader.
pub async fn leader(context: &Context) -> Outcome {
    let (mut rows, mut exit) = (Vec::new(), Exit::Done);
    for group in &context.topology.groups {
        let row = match context.leader(group.id).await {
            Some((node, status)) => vec![
                Cell::text(group.id),
                Cell::text(node),
                Cell::text(status.ballot),
                Cell::number(status.waiting),
                Cell::number(status.in_flight),
            ],
            None => {
                exit = Exit::Unavailable;
                vec![Cell::text(group.id), Cell::None, Cell::None, Cell::None, Cell::None]
            }
        };
        rows.push(row);
    }
    output::print(context.format, &["group", "leader", "ballot", "waiting", "in_flight"], &rows)?;
    Ok(exit)
}
