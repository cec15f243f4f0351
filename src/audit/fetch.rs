//! Asking replicas, page by page.

use std::time::Duration;

use drachma_client::Client;
use drachma_protocol::ids::{GroupId, NodeId, TxnId};
use drachma_protocol::ledger::model::{Account, Outcome, Posted};
use drachma_protocol::message::client::GroupNodes;
use drachma_protocol::message::operator::{
    AccountsCall, Nothing, OperatorAnswer, OperatorCall, OutcomesCall, PageCall, PostedDigest, Totals,
};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::totals::{GroupView, ReplicaView};

/// Rows of a page: a batch of them fits a frame.
const PAGE: u32 = 8190;
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_millis(100);

/// Asks replicas; cheap to clone.
#[derive(Clone)]
pub(crate) struct Fetch {
    client: Client,
    timeout: Duration,
}

/// A replica that did not answer, or not what was asked.
#[derive(Debug)]
pub(crate) struct Silent {
    pub(crate) node: NodeId,
    pub(crate) group: GroupId,
    pub(crate) why: String,
}

impl Fetch {
    /// `timeout` is for one answer.
    pub(crate) fn new(client: Client, timeout: Duration) -> Fetch {
        Fetch { client, timeout }
    }

    /// The totals of every replica, asked at the same time.
    pub(super) async fn totals(&self, groups: &[GroupNodes]) -> Vec<GroupView> {
        let mut asked = JoinSet::new();
        for (place, group) in groups.iter().enumerate() {
            for (index, node) in group.nodes.iter().copied().enumerate() {
                let (fetch, group) = (self.clone(), group.group);
                asked.spawn(async move { (place, index, fetch.totals_of(node, group).await) });
            }
        }
        let view = |group: &GroupNodes| GroupView {
            group: group.group,
            replicas: group.nodes.iter().map(|node| ReplicaView { node: *node, totals: None }).collect(),
        };
        let mut views: Vec<GroupView> = groups.iter().map(view).collect();
        while let Some(Ok((place, index, totals))) = asked.join_next().await {
            views[place].replicas[index].totals = totals;
        }
        views
    }

    async fn totals_of(&self, node: NodeId, group: GroupId) -> Option<Totals> {
        match self.client.operator(node, group, OperatorCall::Totals(Nothing {}), self.timeout).await {
            Ok(OperatorAnswer::Totals(totals)) => Some(totals),
            _ => None,
        }
    }

    /// Whether the replicas that answer have applied the same, in every group.
    pub(crate) async fn is_level(&self, groups: &[GroupNodes]) -> bool {
        let level = |view: &GroupView| {
            let mut applied = view.seen().map(|(_, totals)| totals.applied);
            applied.next().is_none_or(|first| applied.all(|other| other == first))
        };
        self.totals(groups).await.iter().all(level)
    }

    /// Every account whose totals differ from the opening ones.
    pub(crate) async fn changed(&self, node: NodeId, group: GroupId) -> Result<Vec<Account>, Silent> {
        let mut accounts = Vec::new();
        let mut from = 0;
        loop {
            let call = AccountsCall { from, limit: PAGE, changed: true, reserved: false };
            let answer = self.ask(node, group, OperatorCall::Accounts(call)).await?;
            let OperatorAnswer::Accounts(page) = answer else { return Err(stray(node, group)) };
            accounts.extend(page.accounts);
            match page.next {
                Some(next) if next > from => from = next,
                _ => return Ok(accounts),
            }
        }
    }

    /// The postings from a position on, as many as fit a page; empty at the end.
    pub(super) async fn posted(&self, node: NodeId, group: GroupId, from: u64) -> Result<Vec<Posted>, Silent> {
        let call = OperatorCall::Posted(PageCall { from, limit: PAGE });
        match self.ask(node, group, call).await? {
            OperatorAnswer::Posted(page) => Ok(page.rows),
            _ => Err(stray(node, group)),
        }
    }

    /// A digest of the postings from a position on, of at most `limit`.
    pub(super) async fn digest(
        &self,
        node: NodeId,
        group: GroupId,
        from: u64,
        limit: u32,
    ) -> Result<PostedDigest, Silent> {
        match self.ask(node, group, OperatorCall::PostedDigest(PageCall { from, limit })).await? {
            OperatorAnswer::PostedDigest(digest) => Ok(digest),
            _ => Err(stray(node, group)),
        }
    }

    /// The outcomes of at most 8,190 ids.
    pub(super) async fn outcomes(
        &self,
        node: NodeId,
        group: GroupId,
        ids: Vec<TxnId>,
    ) -> Result<Vec<Option<Outcome>>, Silent> {
        let count = ids.len();
        match self.ask(node, group, OperatorCall::Outcomes(OutcomesCall { ids })).await? {
            OperatorAnswer::Outcomes(page) if page.outcomes.len() == count => Ok(page.outcomes),
            _ => Err(stray(node, group)),
        }
    }

    async fn ask(&self, node: NodeId, group: GroupId, call: OperatorCall) -> Result<OperatorAnswer, Silent> {
        let mut tries = 1;
        loop {
            match self.client.operator(node, group, call.clone(), self.timeout).await {
                Ok(answer) => return Ok(answer),
                Err(error) if tries == TRIES => return Err(Silent { node, group, why: error.to_string() }),
                Err(_) => tries += 1,
            }
            sleep(PAUSE).await;
        }
    }
}

fn stray(node: NodeId, group: GroupId) -> Silent {
    Silent { node, group, why: "it answered something else than was asked".to_owned() }
}
