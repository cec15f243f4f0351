//! Everything that is counted, by name: what `status` shows of a node besides its roles.
//!
//! A count only grows (except those named `*_open`), is updated with relaxed atomics from any thread, and has no
//! consequence: nothing ever decides by it.

use std::sync::atomic::{AtomicU64, Ordering};

use drachma_protocol::message::operator::Counter;

/// One number.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(crate) fn bump(&self) {
        self.add(1);
    }

    /// So many more.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// One less, for what is open at the moment.
    pub(crate) fn lower(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($(#[doc = $help:literal] $name:ident),+ $(,)?) => {
        /// The counts of one node.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(#[doc = $help] pub(crate) $name: Count),+
        }

        impl Counters {
            /// Every count with its name, in a fixed order.
            pub(crate) fn all(&self) -> Vec<Counter> {
                self.told().into_iter().map(|(name, _, value)| Counter { name: name.to_owned(), value }).collect()
            }

            /// Every count with its name and what it counts, in the same order.
            pub(crate) fn told(&self) -> Vec<(&'static str, &'static str, u64)> {
                vec![$((stringify!($name), $help, self.$name.get())),+]
            }
        }
    };
}

counters! {
    /// Connections that were accepted.
    connections_accepted,
    /// Connections that are open now, before or after Hello.
    connections_open,
    /// Clients that are connected now.
    clients_open,
    /// Connections refused because there were too many.
    connections_refused,
    /// Failures of the system to accept a connection.
    accept_errors,
    /// Connections closed because Hello did not come in time.
    hello_late,
    /// Hellos that were refused: version, cluster, stranger.
    hello_refused,
    /// Frames over the limit.
    frames_too_large,
    /// Frames with a wrong checksum.
    frames_bad_checksum,
    /// Frames that are malformed, unknown, or of another state of the connection.
    frames_malformed,
    /// Connections closed because a frame was begun and not finished in time.
    frames_late,
    /// Messages from peers handed to a role.
    peer_messages,
    /// Messages from peers for a group that is not here.
    peer_messages_misrouted,
    /// Messages from peers dropped because the role's mailbox is full.
    peer_messages_dropped,
    /// Messages dropped before a replica because the log has no credit.
    no_credit_dropped,
    /// Records that had to wait for the log.
    log_full,
    /// Links that were made.
    links_made,
    /// Links that were lost.
    links_lost,
    /// Frames for a peer dropped because its link is down.
    link_down_dropped,
    /// Frames for a peer dropped because its link's buffer is full.
    link_full_dropped,
    /// Frames for a peer dropped because they are larger than a peer takes: a defect of a role.
    link_oversized_dropped,
    /// Requests of clients that were admitted.
    requests,
    /// Requests refused because the node holds too many bytes of unanswered ones.
    requests_overloaded,
    /// Requests for a group that is not here.
    requests_misrouted,
    /// Answers given to clients.
    answers,
    /// Answers for which nobody waits any more.
    answers_unwanted,
    /// Answers larger than a frame: a defect of a role.
    answers_oversized,
    /// Clients cut off because they do not read their answers.
    clients_cut_off,
}

#[cfg(test)]
mod tests {
    use super::Counters;

    #[test]
    fn counts_are_told_by_name() {
        let counters = Counters::default();
        counters.requests.add(3);
        counters.clients_open.bump();
        counters.clients_open.lower();
        let value = |name: &str| counters.all().iter().find(|counter| counter.name == name).unwrap().value;
        assert_eq!((value("requests"), value("clients_open")), (3, 0));
    }
}
