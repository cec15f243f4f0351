//! The recovery table: what a serving coordinator says about an attempt, and what it does with each record it inherits.
//!
//! Everything here is a function of applied state and of what this leader itself has proposed.
//! The labels are cited by the tests and by the traces.
//!
//! **Inquiries.** A leader serves only after its first entry, which names its ballot, is applied. So:
//!
//! | row | the attempt's ballot | what is known of it | answer |
//! |---|---|---|---|
//! | I1 | newer than the serving one | nothing (a don't-care, asserted) | silence: this node is deposed |
//! | I2 | own or older | under way: proposed, or begun and undecided | silence: the decision will be sent |
//! | I3 | own or older | decided | the decision |
//! | I4 | older | nothing | abort: its Begin was void, or can only become so (hazards S7, S35) |
//! | I5 | own | nothing | abort: a leader keeps each of its attempts until its Begin is known to be void |
//! | I6 | own or older | nothing, but of another attempt | abort: a retry begins only after the last one's end |
//!
//! A commit is forgotten only when every participant has applied it, and a participant never takes back what it has
//! applied; so the "abort" of rows I4 to I6 is told only to those who have nothing to lose by it. This is presumed
//! abort.
//!
//! **Takeover.** What the last leader was doing when it was lost, as its successor's records show it:
//!
//! | row | lost | the record | action |
//! |---|---|---|---|
//! | T1 | before Begin was chosen | none | none: participants will ask, and rows I4 to I6 answer |
//! | T2 | after Begin | undecided, time remains | ask the others again under the same attempt |
//! | T3 | after Begin | undecided, its deadline has passed | decide abort |
//! | T4 | after Decide | decided, others take part | send the decision until all have acknowledged |
//! | T4 | before the last acknowledgement | the same: none is logged | the same: they acknowledge again |
//! | T5 | before Forget | decided, nobody else takes part | forget |

use std::cmp::Ordering;

use crate::ids::Ballot;
use crate::message::command::Verdict;
use crate::planted::{Bug, is_planted};
use crate::time::Span;

/// Every row in which something is said or done, as the traces `inquiry` and `taken_over` name them. Nothing is done in
/// row T1.
pub const ROWS: &[&str] = &["I1", "I2", "I3", "I4", "I5", "I6", "T2", "T3", "T4", "T5"];

/// What a serving coordinator knows of an attempt.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Known {
    /// Nothing, nor of another attempt of the same transaction.
    Nothing,
    /// Its Begin is proposed or applied, and it is not decided.
    UnderWay,
    /// The decision is applied.
    Decided(Verdict),
    /// Nothing; but another attempt of the same transaction is under way or decided.
    Replaced,
}

/// What an inquiry is answered with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Answer {
    /// Nothing; the participant asks again.
    Silence,
    /// The decision.
    Resolve(Verdict),
}

/// Rows I1 to I6.
///
/// # Panics
/// If something is known of an attempt that a newer leader began.
pub(super) fn answer(serving: Ballot, asked: Ballot, known: Known) -> (&'static str, Answer) {
    match (asked.cmp(&serving), known) {
        (Ordering::Greater, _) if is_planted(Bug::DeposedPresumes) => ("I1", Answer::Resolve(Verdict::Abort)),
        (_, Known::UnderWay) if is_planted(Bug::UndecidedPresumed) => ("I2", Answer::Resolve(Verdict::Abort)),
        (Ordering::Greater, known) => {
            let nothing = matches!(known, Known::Nothing | Known::Replaced);
            assert!(nothing, "records of a newer ballot are not applied before that leader's first entry");
            ("I1", Answer::Silence)
        }
        (_, Known::UnderWay) => ("I2", Answer::Silence),
        (_, Known::Decided(verdict)) => ("I3", Answer::Resolve(verdict)),
        (Ordering::Less, Known::Nothing) => ("I4", Answer::Resolve(Verdict::Abort)),
        (Ordering::Equal, Known::Nothing) => ("I5", Answer::Resolve(Verdict::Abort)),
        (_, Known::Replaced) => ("I6", Answer::Resolve(Verdict::Abort)),
    }
}

/// What a new leader does with a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Takeover {
    /// Ask the participants again; preparing may last so long.
    AskAgain(Span),
    /// Its time is over.
    Abort,
    /// Tell the others until all have acknowledged.
    Tell(Verdict),
    /// Nobody waits for it.
    Forget,
}

/// Rows T2 to T5. `remaining` is the time until the record's deadline, `others` how many other groups take part.
pub(super) fn takeover(verdict: Option<Verdict>, remaining: Span, others: usize) -> (&'static str, Takeover) {
    match (verdict, remaining, others) {
        (None, Span(0), _) => ("T3", Takeover::Abort),
        (None, remaining, _) => ("T2", Takeover::AskAgain(remaining)),
        (Some(_), _, 0) => ("T5", Takeover::Forget),
        (Some(verdict), _, _) => ("T4", Takeover::Tell(verdict)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ReplicaId;
    use crate::ledger::model::Reason;

    const REJECT: Verdict = Verdict::Reject(Reason::Closed);
    const ABORT: Answer = Answer::Resolve(Verdict::Abort);

    fn ballot(round: u64) -> Ballot {
        Ballot { round, replica: ReplicaId(1) }
    }

    fn older(known: Known) -> (&'static str, Answer) {
        answer(ballot(5), ballot(4), known)
    }

    fn own(known: Known) -> (&'static str, Answer) {
        answer(ballot(5), ballot(5), known)
    }

    #[test]
    fn i1_of_a_newer_ballot_nothing_is_said() {
        assert_eq!(answer(ballot(5), ballot(6), Known::Nothing), ("I1", Answer::Silence));
        assert_eq!(answer(ballot(5), ballot(6), Known::Replaced), ("I1", Answer::Silence));
    }

    #[test]
    #[should_panic(expected = "newer ballot")]
    fn i1_nothing_can_be_known_of_a_newer_ballot() {
        answer(ballot(5), ballot(6), Known::Decided(Verdict::Commit));
    }

    #[test]
    fn i1_replicas_order_ballots_of_one_round() {
        let other = Ballot { replica: ReplicaId(2), ..ballot(5) };
        assert_eq!(answer(ballot(5), other, Known::Nothing).0, "I1");
        assert_eq!(answer(other, ballot(5), Known::Nothing).0, "I4");
    }

    #[test]
    fn i2_what_is_under_way_is_waited_for() {
        assert_eq!(older(Known::UnderWay), ("I2", Answer::Silence));
        assert_eq!(own(Known::UnderWay), ("I2", Answer::Silence));
    }

    #[test]
    fn i3_what_is_decided_is_told() {
        for verdict in [Verdict::Commit, Verdict::Abort, REJECT] {
            assert_eq!(older(Known::Decided(verdict)), ("I3", Answer::Resolve(verdict)));
            assert_eq!(own(Known::Decided(verdict)), ("I3", Answer::Resolve(verdict)));
        }
    }

    #[test]
    fn i4_an_unknown_attempt_of_an_older_ballot_is_dead() {
        assert_eq!(older(Known::Nothing), ("I4", ABORT));
    }

    #[test]
    fn i5_an_unknown_attempt_of_the_own_ballot_is_dead() {
        assert_eq!(own(Known::Nothing), ("I5", ABORT));
    }

    #[test]
    fn i6_a_replaced_attempt_is_dead() {
        assert_eq!(older(Known::Replaced), ("I6", ABORT));
        assert_eq!(own(Known::Replaced), ("I6", ABORT));
    }

    #[test]
    fn t2_an_undecided_record_is_asked_for_again() {
        assert_eq!(takeover(None, Span(7), 1), ("T2", Takeover::AskAgain(Span(7))));
        assert_eq!(takeover(None, Span(7), 0), ("T2", Takeover::AskAgain(Span(7))));
    }

    #[test]
    fn t3_an_undecided_record_past_its_deadline_is_aborted() {
        assert_eq!(takeover(None, Span(0), 1), ("T3", Takeover::Abort));
        assert_eq!(takeover(None, Span(0), 0), ("T3", Takeover::Abort));
    }

    #[test]
    fn t4_a_decided_record_is_told_again_however_late() {
        for verdict in [Verdict::Commit, Verdict::Abort, REJECT] {
            assert_eq!(takeover(Some(verdict), Span(0), 2), ("T4", Takeover::Tell(verdict)));
            assert_eq!(takeover(Some(verdict), Span(7), 1), ("T4", Takeover::Tell(verdict)));
        }
    }

    #[test]
    fn t5_a_decided_record_of_one_group_is_forgotten() {
        assert_eq!(takeover(Some(REJECT), Span(0), 0), ("T5", Takeover::Forget));
    }
}
