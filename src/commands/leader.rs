//! `drachma leader`.

use std::time::Duration;

use clap::{Args, Subcommand};
use drachma_protocol::ids::{GroupId, NodeId};
use drachma_protocol::message::operator::{
    HandOverCall, HandOverDone, HandOverEnd, LeaderPhase, OperatorAnswer, OperatorCall,
};
use tokio::time::{Instant, sleep};

use super::Context;
use super::context::unexpected;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Cell};

/// `drachma leader`.
#[derive(Args, Clone, Copy, Debug)]
pub struct LeaderArgs {
    /// Nothing shows the leaders
    #[command(subcommand)]
    pub command: Option<LeaderCommand>,
}

/// `drachma leader move`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum LeaderCommand {
    /// Have a node lead a group: planned, without an election timeout; no request is lost
    Move {
        /// The group
        group: GroupId,
        /// The node that is to lead, one of the group's
        node: NodeId,
    },
}

/// Between two questions to a group that has no leader at the moment.
const PAUSE: Duration = Duration::from_millis(10);

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

/// Has `node` lead `group`, and waits until it serves.
///
/// # Errors
/// With exit status 2 if there is no such group, or the node has no replica of it; with 3 if it does not come to lead.
pub async fn move_to(context: &Context, group: GroupId, node: NodeId) -> Outcome {
    check(context, group, node)?;
    let begun = Instant::now();
    let (from, done) = hand_over(context, group, node, begun + context.timeout).await?;
    if done.leader != node || !matches!(done.end, HandOverEnd::Moved | HandOverEnd::Already) {
        return Err(refusal(group, node, &done));
    }
    if done.end == HandOverEnd::Already {
        eprintln!("{node} leads {group} already");
    }
    while context.leader_status(node, group).await.is_none_or(|status| status.phase != LeaderPhase::Serving) {
        if begun.elapsed() >= context.timeout {
            return Err(Failure::unavailable(format!("{node} was elected in {group}, and does not serve yet")));
        }
        sleep(Duration::from_millis(1)).await;
    }
    let row = vec![
        Cell::text(group),
        Cell::text(from),
        Cell::text(node),
        Cell::text(done.ballot),
        Cell::number(begun.elapsed().as_millis()),
    ];
    output::print(context.format, &["group", "from", "leader", "ballot", "ms"], &[row])?;
    Ok(Exit::Done)
}

fn check(context: &Context, group: GroupId, node: NodeId) -> Result<(), Failure> {
    let topology = &context.topology;
    let Some(known) = topology.groups.iter().find(|known| known.id == group) else {
        return Err(Failure::usage(format!("there is no group {group} in {}", topology.origin)));
    };
    if known.nodes.contains(&node) {
        return Ok(());
    }
    if !topology.nodes.iter().any(|known| known.id == node) {
        return Err(Failure::usage(format!("there is no node {node} in {}", topology.origin)));
    }
    let members: Vec<String> = known.nodes.iter().map(ToString::to_string).collect();
    Err(Failure::usage(format!("{node} has no replica of {group}; its nodes are {}", members.join(", "))))
}

/// Asks whoever leads, until somebody says what became of it.
async fn hand_over(
    context: &Context,
    group: GroupId,
    node: NodeId,
    end: Instant,
) -> Result<(NodeId, HandOverDone), Failure> {
    let mut last = format!("{group} has no leader; `drachma status` shows its replicas");
    while Instant::now() < end {
        if let Some((leader, _)) = context.leader(group).await {
            let call = OperatorCall::HandOver(HandOverCall { target: Some(node) });
            match context.ask(leader, group, call).await {
                Ok(OperatorAnswer::HandOver(done)) => return Ok((leader, done)),
                Ok(other) => return Err(unexpected(&other)),
                Err(error) => last = format!("{error}; `drachma leader` shows who leads"),
            }
        }
        sleep(PAUSE).await;
    }
    Err(Failure::unavailable(last))
}

/// Why the node does not lead, and what to do.
fn refusal(group: GroupId, node: NodeId, done: &HandOverDone) -> Failure {
    let leads = format!("{} leads {group}", done.leader);
    Failure::unavailable(match done.end {
        HandOverEnd::Moved | HandOverEnd::Already => format!("{leads}: it was elected meanwhile"),
        HandOverEnd::NotMember => return Failure::usage(format!("{node} has no replica of {group}")),
        HandOverEnd::Down => {
            format!("{node} cannot be reached, or does not vote; {leads} on. `drachma status` shows what it does")
        }
        HandOverEnd::Lagging => {
            format!("{node} lacks too much of the log; {leads} on. Try again when `drachma status` shows it close")
        }
        HandOverEnd::NotTaken => format!("{node} did not come to lead in time; {leads} on. Try again"),
        HandOverEnd::Busy => format!("a hand-over of {group} to another node is under way; {leads}. Try again"),
    })
}
