//! `drachma status`.

use clap::Args;
use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::message::operator::{
    LeaderPhase, LeaderStatus, Nothing, OperatorAnswer, OperatorCall, ReplicaStatus,
};

use super::Context;
use crate::exit::{Exit, Outcome};
use crate::output::{self, Cell};

/// `drachma status`.
#[derive(Args, Clone, Copy, Debug)]
pub struct StatusArgs {
    /// Show every role actor with the depth of its queue instead
    #[arg(long)]
    pub actors: bool,
}

const REPLICAS: [&str; 9] = ["group", "node", "state", "ballot", "length", "chosen", "applied", "waiting", "remark"];
const ACTORS: [&str; 5] = ["node", "group", "role", "depth", "handled"];

/// Shows every replica, or every role actor. Nodes that do not answer are `down`.
///
/// # Errors
/// If standard output fails.
pub async fn status(context: &Context, actors: bool) -> Outcome {
    let (headers, rows): (&[&str], _) =
        if actors { (&ACTORS, actor_rows(context).await) } else { (&REPLICAS, replica_rows(context).await) };
    output::print(context.format, headers, &rows)?;
    Ok(Exit::Done)
}

async fn replica_rows(context: &Context) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for group in &context.topology.groups {
        for node in &group.nodes {
            let replica = context.ask(*node, group.id, OperatorCall::ReplicaStatus(Nothing {})).await;
            let Ok(OperatorAnswer::ReplicaStatus(replica)) = replica else {
                rows.push(down(group.id, *node));
                continue;
            };
            let leader = context.leader_status(*node, group.id).await;
            rows.push(replica_row(group.id, *node, &replica, leader.as_ref()));
        }
    }
    rows
}

fn down(group: GroupId, node: NodeId) -> Vec<Cell> {
    let mut row = vec![Cell::text(group), Cell::text(node), Cell::text("down")];
    row.resize(REPLICAS.len(), Cell::None);
    row
}

fn replica_row(group: GroupId, node: NodeId, replica: &ReplicaStatus, leader: Option<&LeaderStatus>) -> Vec<Cell> {
    let remark = match (replica.foreign, replica.doubtful, leader.is_some_and(|leader| leader.no_quorum)) {
        (true, _, _) => Cell::text("another directory than was admitted: abstains"),
        (_, true, _) => Cell::text("its log may have lost its end: abstains"),
        (_, _, true) => Cell::text("finds no quorum"),
        _ => Cell::None,
    };
    vec![
        Cell::text(group),
        Cell::text(node),
        Cell::text(leader.map_or("unknown", |leader| phase(leader.phase))),
        Cell::text(leader.map_or(replica.promise, |leader| leader.ballot)),
        Cell::number(replica.length),
        Cell::number(replica.chosen),
        Cell::number(replica.applied),
        leader.map_or(Cell::None, |leader| Cell::number(leader.waiting)),
        remark,
    ]
}

/// A phase in one word.
pub(super) fn phase(phase: LeaderPhase) -> &'static str {
    match phase {
        LeaderPhase::Following => "follower",
        LeaderPhase::PreCheck => "pre-check",
        LeaderPhase::Candidate => "candidate",
        LeaderPhase::Leading => "leading",
        LeaderPhase::Serving => "leader",
    }
}

async fn actor_rows(context: &Context) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for node in &context.topology.nodes {
        let status = context.ask(node.id, GroupId(0), OperatorCall::NodeStatus(Nothing {})).await;
        let Ok(OperatorAnswer::NodeStatus(status)) = status else {
            rows.push(vec![Cell::text(node.id), Cell::None, Cell::text("down"), Cell::None, Cell::None]);
            continue;
        };
        rows.extend(status.actors.into_iter().map(|actor| {
            vec![
                Cell::text(node.id),
                if actor.group == GroupId(0) { Cell::None } else { Cell::text(actor.group) },
                Cell::Text(actor.role),
                Cell::number(actor.depth),
                Cell::number(actor.handled),
            ]
        }));
    }
    rows
}
