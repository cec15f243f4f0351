//! Number 4: a read sees everything that was applied anywhere before it was sent. What clients can tell from the accounts
//! is less: most reads of an old leader look right, because what they missed went to other accounts (hazard S23).

use std::collections::BTreeMap;

use drachma_protocol::ids::{GroupId, Slot};
use drachma_protocol::message::client::{Call, Request, Response};

use super::{Checker, Chosen, Reply, Verdict};

/// See the module.
#[derive(Default)]
pub struct Freshness {
    // How much of each group was applied anywhere.
    applied: BTreeMap<GroupId, Slot>,
    // The same when a copy of a read was sent, by client and number.
    sent: BTreeMap<(u64, u64), Slot>,
}

impl Checker for Freshness {
    fn name(&self) -> &'static str {
        "freshness"
    }

    fn on_entry(&mut self, chosen: &Chosen<'_>) -> Verdict {
        self.applied.insert(chosen.group, chosen.slot.next());
        Ok(())
    }

    fn on_copy(&mut self, client: u32, correlation: u64, request: &Request) -> Verdict {
        if let Call::Read(_) = request.call {
            let applied = self.applied.get(&request.group).copied().unwrap_or_default();
            self.sent.entry((client.into(), correlation)).or_insert(applied);
        }
        Ok(())
    }

    fn on_reply(&mut self, reply: &Reply<'_>) -> Verdict {
        let Response::Read(read) = reply.response else { return Ok(()) };
        let served = reply.applied.min(read.slot);
        let Some(least) = self.sent.get(&(reply.to.connection, reply.to.correlation)) else { return Ok(()) };
        if served < *least {
            let (node, group) = (reply.from.node, reply.from.group);
            return Err(format!(
                "{group} on {node} serves a read at {served}, and {least} entries were applied before it was sent: {:?}",
                reply.to
            ));
        }
        Ok(())
    }
}
