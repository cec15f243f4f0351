//! The actor around a [`Shell`]: turns, and the one timer.
//!
//! **Turns.** The first message after a turn queues [`EndOfTurn`] to the actor itself, behind everything that has
//! arrived: that is what makes batches without timers. A role that wants another turn ([`Effect::Again`]) gets it
//! after the sockets have been looked at, because an actor that feeds itself is never interrupted: accepts,
//! acknowledgements and heartbeats overtake a large batch between its slices.
//!
//! **The timer.** One per actor, set anew only when the role's deadline comes earlier than it, or when it fires. Actix
//! looks at every pending future of an actor each time it wakes, so there is never one per request.
//!
//! [`Effect::Again`]: drachma_protocol::role::Effect::Again

use std::marker::PhantomData;
use std::sync::Arc;

use actix::{Actor, ActorContext, Addr, AsyncContext, Context, Handler, SpawnHandle};
use drachma_protocol::role::RoleKind;
use drachma_protocol::time::{Span, Time};

use crate::clock::duration;
use crate::mailbox::{EndOfTurn, Gauge, Halt, Inbound};
use crate::shell::Shell;

/// The shortest time that the timer is set to: the resolution of the runtime's timers.
const RESOLUTION: Span = Span::from_millis(1);

/// Says which role an actor type is for.
pub(crate) trait Kind: 'static {
    /// The role.
    const ROLE: RoleKind;
}

/// The actor of one role of one group.
pub(crate) struct RoleActor<K: Kind> {
    shell: Shell,
    gauge: Arc<Gauge>,
    // Its own address; kept, because a clone is two allocations.
    own: Addr<RoleActor<K>>,
    // An `EndOfTurn` is on its way.
    turning: bool,
    timer: Option<(SpawnHandle, Time)>,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> RoleActor<K> {
    /// An actor that sleeps until its first message.
    pub(crate) fn new(shell: Shell, gauge: Arc<Gauge>, own: Addr<RoleActor<K>>) -> RoleActor<K> {
        assert_eq!(shell.me().role, K::ROLE, "each role has its own type of actor");
        RoleActor { shell, gauge, own, turning: false, timer: None, kind: PhantomData }
    }

    fn end_turn_behind_mailbox(&mut self) {
        if !self.turning {
            self.turning = true;
            self.own.do_send(EndOfTurn);
        }
    }

    fn finish(&mut self, ctx: &mut Context<Self>) {
        if self.shell.finish() && !self.turning {
            self.turning = true;
            let own = self.own.clone();
            // One such task at most: `turning` says that it is under way.
            actix_rt::spawn(async move {
                tokio::task::yield_now().await;
                own.do_send(EndOfTurn);
            });
        }
        self.arm(ctx);
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let Some(deadline) = self.shell.deadline() else { return };
        if let Some((handle, at)) = self.timer {
            if at <= deadline {
                return; // It fires early enough; what is left then is set anew.
            }
            ctx.cancel_future(handle);
        }
        let wait = deadline.since(self.shell.now()).max(RESOLUTION);
        let handle = ctx.run_later(duration(wait), |actor, ctx| {
            actor.timer = None;
            if actor.shell.timer() {
                // What the timer made of the role may have to be proposed.
                actor.end_turn_behind_mailbox();
            }
            actor.finish(ctx);
        });
        self.timer = Some((handle, deadline));
    }
}

impl<K: Kind> Actor for RoleActor<K> {
    type Context = Context<Self>;
}

impl<K: Kind> Handler<Inbound> for RoleActor<K> {
    type Result = ();

    fn handle(&mut self, Inbound { inputs, bytes }: Inbound, ctx: &mut Context<Self>) {
        self.gauge.handled(bytes);
        self.end_turn_behind_mailbox();
        self.shell.take(inputs);
        self.finish(ctx);
    }
}

impl<K: Kind> Handler<EndOfTurn> for RoleActor<K> {
    type Result = ();

    fn handle(&mut self, _: EndOfTurn, ctx: &mut Context<Self>) {
        self.turning = false;
        self.shell.turn();
        self.finish(ctx);
    }
}

impl<K: Kind> Handler<Halt> for RoleActor<K> {
    type Result = ();

    fn handle(&mut self, _: Halt, ctx: &mut Context<Self>) {
        // Nothing is made durable here: a stop is no different from a crash, only quicker to recover from.
        ctx.stop();
    }
}

#[cfg(test)]
mod tests;
