//! Requests about one account: reads, fences, lookups.

use std::collections::BTreeSet;
use std::time::Duration;

use drachma_protocol::ids::{AccountId, Epoch, GroupId};
use drachma_protocol::message::client::{Call, Response, Why};
use drachma_protocol::time::Span;
use tokio::time::{Instant, sleep};

use crate::backoff::Backoff;
use crate::request::{Heard, Pursuit, deadline_in, within};
use crate::{Inner, Status};

/// What came of a request about one account.
pub(crate) struct Asked<T> {
    /// Nothing: no group owns the account.
    pub(crate) result: Option<Result<T, Status>>,
    /// How often it was sent.
    pub(crate) attempts: u32,
}

/// Asks the group that owns `account` until `accept` takes an answer.
pub(crate) async fn ask<T>(
    inner: &Inner,
    account: AccountId,
    deadline: Option<Duration>,
    call: impl Fn(Span, Epoch) -> Call + Sync,
    accept: impl Fn(Response) -> Option<T>,
) -> Asked<T> {
    let deadline = deadline_in(deadline.or(inner.deadline));
    let mut moving = Backoff::of_requests();
    let mut attempts = 0;
    loop {
        let (map, seen) = inner.router.map();
        let Some(group) = map.map.owner_of(account) else { return Asked { result: None, attempts } };
        let epoch = map.map.epoch;
        let mut pursuit = Pursuit::new(&inner.router, group, BTreeSet::from([group]), deadline);
        let moved = loop {
            match pursuit.answer(&|remaining| call(remaining, epoch)).await {
                Heard::Answer(response) => match accept(response) {
                    Some(value) => {
                        return Asked { result: Some(Ok(value)), attempts: attempts + pursuit.attempts() };
                    }
                    None => wrong_answer(&mut pursuit, group),
                },
                Heard::Refused(Why::Moved) => break pursuit.last(),
                Heard::Refused(Why::Malformed) => {
                    tracing::error!(%group, "a node finds a request malformed");
                    return Asked { result: Some(Err(Status::Unknown)), attempts: attempts + pursuit.attempts() };
                }
                Heard::Refused(_) => pursuit.again(false),
                Heard::Over => {
                    return Asked { result: Some(Err(pursuit.status())), attempts: attempts + pursuit.attempts() };
                }
            }
        };
        attempts += pursuit.attempts();
        within(deadline, inner.router.refresh(seen, moved)).await;
        pause(&mut moving, deadline).await;
    }
}

/// A node answered something else than was asked: as good as no answer.
pub(crate) fn wrong_answer(pursuit: &mut Pursuit<'_>, group: GroupId) {
    tracing::error!(%group, node = ?pursuit.last(), "another answer than was asked for");
    pursuit.again(false);
}

/// Waits before the next try, but not beyond the deadline.
pub(crate) async fn pause(backoff: &mut Backoff, deadline: Option<Instant>) {
    within(deadline, sleep(backoff.pause())).await;
}
