//! Known bugs that can be planted, one at a time, to test those that hunt for bugs.
//!
//! A build with the feature `planted` has them all, asleep; `plant` wakes one, for the whole process. Every other build
//! has none: [`is_planted`] is then the constant `false`, and what it guards is not compiled into the program. A node
//! refuses to start from a build that has the feature.
//!
//! Each bug is one condition at the line that a good team could have got wrong. What the design makes invisible is not
//! here: a second entry of an older ballot behind a newer one, for instance, cannot exist in one log without holes, so
//! leaving out the check at apply harms nobody.

/// What a bug does to those who rely on the cluster.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Harm {
    /// Something happens that never may. A role's own assertion may stop it, or what contradicts it may stand still.
    Safety,
    /// Something does not happen, ever: only those who wait for it can tell.
    Liveness,
    /// The state machine contradicts itself at once: a role's own assertion finds it.
    Crash,
}

macro_rules! bugs {
    ($($variant:ident = $name:literal, $harm:ident: $rule:literal;)+) => {
        /// A bug that somebody could really have written; its line says what it does, and which rule or hazard that is.
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub enum Bug {
            $(#[doc = $rule] $variant,)+
        }

        impl Bug {
            /// Every bug.
            pub const ALL: &'static [Bug] = &[$(Bug::$variant),+];

            /// Its name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Bug::$variant => $name),+ }
            }

            /// What it does.
            pub const fn rule(self) -> &'static str {
                match self { $(Bug::$variant => $rule),+ }
            }

            /// How it must be found.
            pub const fn harm(self) -> Harm {
                match self { $(Bug::$variant => Harm::$harm),+ }
            }
        }
    };
}

bugs! {
    // Replication.
    AcceptedBeforeSync = "accepted-before-sync", Safety: "An acceptance leaves before the disk has it.";
    PromiseBeforeSync = "promise-before-sync", Safety: "A promise leaves before the disk has it.";
    PromiseNotWritten = "promise-not-written", Safety: "A promise is kept in memory only.";
    PromiseIgnored = "promise-ignored", Safety: "An acceptor accepts below its promise.";
    HeartbeatBelowPromise = "heartbeat-below-promise", Safety:
        "A replica that has promised a newer ballot still confirms an older leader.";
    AnyLogAdopted = "any-log-adopted", Safety: "A candidate adopts any log of its promises instead of the highest.";
    OwnLogAdopted = "own-log-adopted", Safety: "A candidate keeps its own log whatever it was promised.";
    LongestLogAdopted = "longest-log-adopted", Safety: "A candidate compares logs by length before ballot.";
    ServesUnapplied = "serves-unapplied", Safety: "A leader serves before its first entry is applied (hazard S22).";
    BallotContinued = "ballot-continued", Safety: "A ballot is continued after a restart (hazard S22).";
    HalfIsQuorum = "half-is-quorum", Safety: "A quorum is one replica too small.";
    AcceptedTwice = "accepted-twice", Safety: "The acceptance of one replica counts twice.";
    OwnDiskAlone = "own-disk-alone", Safety: "What the leader's own disk has counts as chosen (hazard S13).";
    AcceptedUnsynchronised = "accepted-unsynchronised", Safety:
        "A replica accepts under a ballot that has not synchronised it (hazard S19).";
    OlderAcceptanceCounted = "older-acceptance-counted", Safety:
        "What a late promise tells of older ballots counts as accepted under this one (hazard S19).";
    CommitAcrossBallots = "commit-across-ballots", Safety:
        "A chosen length counts for a log that is not the leader's yet (hazard S20).";
    ProposedBelowChosen = "proposed-below-chosen", Crash:
        "A candidate does not learn first what others know to be chosen (hazard S21).";
    SynchronisedInParts = "synchronised-in-parts", Safety: "Each part of a synchronisation takes effect by itself.";
    LearnedWithoutCut = "learned-without-cut", Safety: "Learned entries do not replace others in their place.";
    ReadUnconfirmed = "read-unconfirmed", Safety: "A read is served without a quorum round.";
    ReadJoinsRound = "read-joins-round", Safety: "A read joins a round that began before it arrived (hazard S23).";
    OlderRoundConfirms = "older-round-confirms", Safety: "The answer to an older round confirms reads (hazard S23).";
    StrangerVotes = "stranger-votes", Safety: "A directory that was formatted anew votes (hazard S25).";
    DoubtfulVotes = "doubtful-votes", Safety: "A log that may have lost its end counts like any other (hazard S28).";
    LogTimeBack = "log-time-back", Safety: "Log time is the entry's own, even if it goes back (hazard S26).";
    LeadsAlone = "leads-alone", Liveness: "A leader without a quorum does not step down (hazard L7).";
    MissedNotAsked = "missed-not-asked", Liveness: "A follower does not say that it misses something.";
    CatchUpOnce = "catch-up-once", Liveness: "What a replica fetches from another is asked for once.";
    HandOverWithoutPhaseOne = "hand-over-without-phase-one", Safety:
        "Who is told to take over leads at once, with the log that it has (hazard A7).";
    ReadWhileHandingOver = "read-while-handing-over", Safety:
        "A leader that hands over proposes nothing, and so serves reads without a quorum round.";
    HandOverWithoutEnd = "hand-over-without-end", Liveness:
        "A leader waits for its successor for ever, and proposes nothing.";
    LatePromiseChooses = "late-promise-chooses", Safety:
        "The chosen length of a late promise counts as accepted under the ballot that it promises.";
    // Storage.
    RecoveredNotSynced = "recovered-not-synced", Safety:
        "A restarted node speaks before what it recovered is synced (hazard S29).";
    DamagedRecordSkipped = "damaged-record-skipped", Safety: "Recovery reads on behind a damaged record in mid-log.";
    DoubtfulTailCut = "doubtful-tail-cut", Safety:
        "A doubtful end of the log is cut off as if it had never been written (hazard S28).";
    SnapshotNotAwaited = "snapshot-not-awaited", Safety: "The log begins at a snapshot that is not durable yet.";
    SegmentsGoEarly = "segments-go-early", Safety:
        "Segments go as soon as the busiest group does not need them (hazard S30).";
    BaseForgetsAccepted = "base-forgets-accepted", Safety:
        "The ballot under which a log was accepted goes with the segment that says so (hazard S30).";
    // Transactions.
    VotedOnReceipt = "voted-on-receipt", Safety: "A participant votes yes before its prepare is applied (hazard S9).";
    OlderVoteCounted = "older-vote-counted", Safety: "A vote for an older attempt counts (hazard S7).";
    SameAttempt = "same-attempt", Safety: "A retry has the number of the attempt before it (hazard S7).";
    OlderAbortReleases = "older-abort-releases", Safety: "The abort of an older attempt ends a newer one (hazard S7).";
    SecondDecision = "second-decision", Crash: "A second decision takes effect, too (hazard S9).";
    AnsweredOnProposal = "answered-on-proposal", Safety: "A client is answered before the decision is applied (hazard S9).";
    UndecidedPresumed = "undecided-presumed", Safety: "What is undecided is answered `abort`, and that is not logged.";
    DeposedPresumes = "deposed-presumes", Safety: "A deposed leader says `abort` of what it cannot know (row I1).";
    DecisionsForgotten = "decisions-forgotten", Safety: "A new leader does not take over what was decided (row T4).";
    UndecidedForgotten = "undecided-forgotten", Liveness: "A new leader does not take over what is undecided (row T2).";
    ForgottenOnDecision = "forgotten-on-decision", Safety: "A record goes when it is decided.";
    ForgottenOnSending = "forgotten-on-sending", Safety: "A decision is told once and forgotten.";
    ResolvedOnReceipt = "resolved-on-receipt", Safety: "A decision is acknowledged before it is applied (hazard S11).";
    PreparedExpires = "prepared-expires", Safety: "What is prepared is let go after a while (hazard S10).";
    HoldsLostAtFailover = "holds-lost-at-failover", Safety: "What is prepared ends with its group's leader.";
    ResolvedTwice = "resolved-twice", Safety: "A repeated decision is applied again (hazard S8).";
    OutcomeForgotten = "outcome-forgotten", Safety: "A participant forgets what it has resolved (hazard S8).";
    CreditUnchecked = "credit-unchecked", Crash: "An id is recognised on the debit side only (hazard S8).";
    NeverResolved = "never-resolved", Liveness: "A participant drops decisions.";
    NeverAsks = "never-asks", Liveness: "A participant never asks what became of what it holds.";
    AbortIsFinal = "abort-is-final", Safety: "The end of an attempt is answered as the end of its id (hazard S15).";
    // The ledger.
    WaitingUnknown = "waiting-unknown", Crash: "What waits is not recognised when it comes again (hazard S16).";
    AnsweredWhileWaiting = "answered-while-waiting", Safety: "A batch is answered while some of it waits (hazard A4).";
    RejectionNotRecorded = "rejection-not-recorded", Safety: "A rejection is answered and not recorded (hazard S15).";
    FenceNotRecorded = "fence-not-recorded", Safety: "A fence is answered and not recorded (hazard S15).";
    FencedUnderWay = "fenced-under-way", Crash: "A fence does not see what is under way.";
    RejectedAtLow = "rejected-at-low", Safety: "A debit is rejected while a credit is in doubt (hazard S3).";
    CreditInDoubtSpent = "credit-in-doubt-spent", Safety: "A credit in doubt can be spent (hazard S3).";
    DebitInDoubtFree = "debit-in-doubt-free", Safety: "A debit in doubt takes nothing off (hazard S3).";
    ReadInDoubt = "read-in-doubt", Safety: "A read is served while something is in doubt (hazard S1a).";
    ReadAddsOutcomes = "read-adds-outcomes", Safety: "A read adds later outcomes to an earlier value (hazard S1b).";
    ReadOmitsPrepares = "read-omits-prepares", Safety: "A read leaves out what was prepared later (hazard S1c).";
    ReceivedNotCounted = "received-not-counted", Crash: "What comes from other groups is not counted (hazard A1).";
    // Keys and transactions.
    ConditionUnlocked = "condition-unlocked", Safety: "What a condition is about is not locked (hazard S2).";
    SharedLockFree = "shared-lock-free", Safety: "A shared lock excludes nobody (hazard S2).";
    ScanUnlocked = "scan-unlocked", Safety: "A scan does not lock its range (hazard S6).";
    SwapValuesIgnored = "swap-values-ignored", Safety:
        "A swap writes what its own group knows of the other one, not what was decided (hazard S5).";
    QueryInDoubt = "query-in-doubt", Safety: "A query is answered while something is in doubt (hazard S1a).";
    VersionsStay = "versions-stay", Safety: "Writing a key does not change its version (hazard S2).";
    RepliesForgotten = "replies-forgotten", Safety: "What a transaction has yielded is not kept (hazard A10).";
    LocksNotHeld = "locks-not-held", Safety: "Keys are let go when their group has voted.";
    WrittenAtPrepare = "written-at-prepare", Safety: "Keys are written when they are prepared.";
    SnapshotForgetsSessions = "snapshot-forgets-sessions", Safety: "A snapshot has no sessions (hazard A14).";
    SnapshotForgetsDoubt = "snapshot-forgets-doubt", Safety: "A snapshot has nothing that is in doubt (hazard A14).";
    // Levels.
    SessionBelowToken = "session-below-token", Safety:
        "A replica reads for a session before it has applied what the session knows (hazard S18).";
    AgeFromAnswer = "age-from-answer", Safety:
        "The age of a state counts from the leader's answer, not from the question (hazard A3).";
    AgeUnconfirmed = "age-unconfirmed", Safety:
        "A leader tells how far the group is without a quorum round (hazard A3).";
    AllOnMajority = "all-on-majority", Safety: "What is to be on every replica is answered when a majority has it.";
    // Two-phase transfers.
    PostedAfterExpiry = "posted-after-expiry", Safety: "A pending transfer is posted or voided after its time.";
    RestHeld = "rest-held", Crash: "What a posting in part leaves over stays reserved.";
    VoidedTwice = "voided-twice", Crash: "What was voided can be ended once more.";
    PendingUnlocked = "pending-unlocked", Crash: "Whoever ends a pending transfer does not lock it.";
    ChainInPart = "chain-in-part", Safety: "Of a chain only the first transfer is posted.";
    ClosedForDebitsOnly = "closed-for-debits-only", Safety: "A closed account takes credits.";
    ExpiryNotTold = "expiry-not-told", Liveness:
        "The coordinator is not told that the time of a pending transfer is over.";
    ExpiredOnOneSide = "expired-on-one-side", Safety:
        "The debit account's group ends a pending transfer whose time is over by itself.";
    SessionRevived = "session-revived", Safety: "An unknown session is registered again, silently (hazard S17).";
}

impl Bug {
    /// The bug of this name.
    pub fn from_name(name: &str) -> Option<Bug> {
        Bug::ALL.iter().copied().find(|bug| bug.name() == name)
    }
}

#[cfg(feature = "planted")]
mod switch {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::Bug;

    // The number of the planted bug, from 1.
    static PLANTED: AtomicUsize = AtomicUsize::new(0);

    /// Plants this bug, and no other, in the whole process.
    pub fn plant(bug: Option<Bug>) {
        PLANTED.store(bug.map_or(0, |bug| bug as usize + 1), Ordering::Relaxed);
    }

    /// Whether this bug is planted.
    pub fn is_planted(bug: Bug) -> bool {
        PLANTED.load(Ordering::Relaxed) == bug as usize + 1
    }
}

#[cfg(feature = "planted")]
pub use switch::{is_planted, plant};

/// Whether this bug is planted.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is_planted(_: Bug) -> bool {
    false
}

/// Whether this build can plant bugs.
pub const AVAILABLE: bool = cfg!(feature = "planted");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_bug_has_a_name_of_its_own_in_small_letters() {
        let names: BTreeSet<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        assert_eq!(names.len(), Bug::ALL.len());
        for bug in Bug::ALL {
            assert_eq!(Bug::from_name(bug.name()), Some(*bug));
            assert!(bug.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{}", bug.name());
            assert!(bug.rule().ends_with('.'), "{}", bug.rule());
        }
        assert_eq!(Bug::from_name("no-such-bug"), None);
    }

    #[test]
    fn nothing_is_planted_at_first() {
        assert!(Bug::ALL.iter().all(|bug| !is_planted(*bug)));
    }
}
