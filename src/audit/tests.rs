use drachma_protocol::ids::{AccountId, Epoch, GroupId, NodeId, Slot, TransferId};
use drachma_protocol::ledger::model::{Account, Outcome, Posted, Reason, Sides, Transfer};
use drachma_protocol::message::operator::{LedgerTotals, Totals};
use drachma_protocol::time::LogTime;

use super::judgement::Judgement;
use super::postings::{Comparison, Difference, Matching, Opening, Recomputed};
use super::report::{AuditReport, FINDINGS_LIMIT, Verdict};
use super::totals::{GroupView, ReplicaView, is_quiet, judge, sums_differ};

fn totals(sent: u128, received: u128) -> Totals {
    // What was sent left as debits, what was received came as credits.
    let (debits, credits) = (500 + sent, 500 + received);
    let ledger = LedgerTotals { ledger: 1, debits, credits, sent, received, ..LedgerTotals::default() };
    Totals {
        applied: Slot(40),
        digest: 0xd1,
        accounts: 10,
        posted: 6,
        keys: 0,
        key_bytes: 0,
        ids: 7,
        in_doubt: 0,
        coordinated: 0,
        waiting: 0,
        ledgers: vec![ledger],
        epoch: Epoch(1),
    }
}

/// Two groups of three: five units went from g1 to g2.
fn cluster() -> Vec<GroupView> {
    let group = |number: u16, totals: Totals| GroupView {
        group: GroupId(number),
        replicas: (0..3)
            .map(|index| ReplicaView { node: NodeId(3 * (number - 1) + 1 + index), totals: Some(totals.clone()) })
            .collect(),
    };
    vec![group(1, totals(5, 0)), group(2, totals(0, 5))]
}

fn change(groups: &mut [GroupView], group: usize, replica: usize, change: impl Fn(&mut Totals)) {
    change(groups[group].replicas[replica].totals.as_mut().expect("it answered"));
}

fn judged(groups: &[GroupView]) -> AuditReport {
    let mut report = AuditReport::default();
    judge(groups, true, &mut report);
    report
}

fn posted(id: u128, debit: u128, credit: u128, amount: u128, sides: Sides) -> Posted {
    let (debit, credit) = (AccountId(debit), AccountId(credit));
    let transfer = Transfer { id: TransferId(id), debit, credit, amount, ledger: 1, code: 1, ..Transfer::default() };
    Posted { transfer, sides, posted_at: LogTime(id as u64) }
}

fn rows() -> Vec<Posted> {
    (1..=9).map(|id| posted(id, id, id + 1, 2, Sides::Both)).collect()
}

fn compared(reference: &[Posted], other: &[Posted]) -> Vec<Difference> {
    let mut comparison = Comparison::default();
    reference.iter().for_each(|row| comparison.reference(*row));
    other.iter().for_each(|row| comparison.other(*row));
    comparison.differences()
}

fn named(differences: Vec<Difference>) -> AuditReport {
    let mut judgement = Judgement::default();
    judgement.differences(GroupId(1), (NodeId(1), NodeId(2)), differences);
    judgement.finish()
}

#[test]
fn an_undamaged_cluster_is_clean() {
    let report = judged(&cluster());
    assert_eq!(report, AuditReport { replicas: 6, ..AuditReport::default() });
    assert!(is_quiet(&cluster()) && !sums_differ(&cluster()));
}

#[test]
fn a_wrong_digest_at_the_same_position_names_the_replica_that_stands_alone() {
    for replica in 0..3 {
        let mut groups = cluster();
        change(&mut groups, 1, replica, |totals| totals.digest = 0xbad);
        let report = judged(&groups);
        assert_eq!((report.verdict, report.findings.len()), (Verdict::Violated, 1));
        assert!(report.findings[0].starts_with(&format!("g2: n{} differs from n", 4 + replica)), "{report:?}");
    }
}

#[test]
fn another_position_is_no_difference_but_not_everything_is_seen() {
    let mut groups = cluster();
    change(&mut groups, 0, 2, |totals| (totals.applied, totals.digest) = (Slot(39), 0xa9));
    assert!(!is_quiet(&groups));
    let report = judged(&groups);
    assert_eq!(report.verdict, Verdict::Incomplete);
    assert_eq!(report.findings, ["g1: the replicas are not at one position: n3 at 39; n1, n2 at 40"]);
}

#[test]
fn a_replica_that_does_not_answer_makes_the_audit_incomplete() {
    let mut groups = cluster();
    groups[1].replicas[0].totals = None;
    assert!(!is_quiet(&groups));
    let report = judged(&groups);
    assert_eq!((report.verdict, report.replicas, report.conserved), (Verdict::Incomplete, 5, true));
    assert_eq!(report.findings, ["g2: n4 does not answer"]);
}

#[test]
fn without_a_group_the_sums_say_nothing() {
    let mut groups = cluster();
    groups[1].replicas.iter_mut().for_each(|replica| replica.totals = None);
    let report = judged(&groups);
    assert_eq!((report.verdict, report.conserved, report.findings.len()), (Verdict::Incomplete, true, 3));
    assert!(!sums_differ(&groups));
}

#[test]
fn money_from_nowhere_in_a_group_is_a_violation() {
    let mut groups = cluster();
    change(&mut groups, 0, 1, |totals| totals.ledgers[0].credits += 1);
    let report = judged(&groups);
    assert_eq!((report.verdict, report.conserved), (Verdict::Violated, false));
    assert!(report.findings[0].starts_with("g1: n2 does not conserve ledger 1"), "{report:?}");
}

#[test]
fn conservation_is_modulo_2_to_the_128() {
    let mut groups = cluster();
    for replica in 0..3 {
        // More received than sent, and debits that have wrapped round.
        let (sent, received) = (u128::MAX - 1, u128::MAX - 5);
        let none = LedgerTotals::default();
        let ledger = LedgerTotals { ledger: 2, debits: 3, credits: u128::MAX, sent, received, ..none };
        change(&mut groups, 0, replica, |totals| totals.ledgers.push(ledger));
        let mirror = LedgerTotals { sent: ledger.received, received: ledger.sent, debits: 0, credits: 4, ..ledger };
        change(&mut groups, 1, replica, |totals| totals.ledgers.push(mirror));
    }
    assert_eq!(judged(&groups).verdict, Verdict::Clean);
}

#[test]
fn what_was_sent_must_have_been_received_once_nothing_is_under_way() {
    let mut groups = cluster();
    for replica in 0..3 {
        let ledger = totals(0, 4).ledgers;
        change(&mut groups, 1, replica, |totals| totals.ledgers.clone_from(&ledger));
    }
    assert!(sums_differ(&groups));
    let report = judged(&groups);
    assert_eq!((report.verdict, report.conserved), (Verdict::Violated, false));
    assert_eq!(report.findings, ["ledger 1: 5 were sent between groups, but 4 were received"]);
    let mut moving = AuditReport::default();
    judge(&groups, false, &mut moving);
    assert_eq!(moving.verdict, Verdict::Clean, "sums of different moments say nothing");
    for replica in 0..3 {
        change(&mut groups, 1, replica, |totals| totals.in_doubt = 1);
    }
    let report = judged(&groups);
    assert_eq!((report.verdict, report.conserved), (Verdict::Incomplete, true));
}

#[test]
fn what_is_pending_as_debits_must_be_pending_as_credits() {
    let mut groups = cluster();
    for replica in 0..3 {
        change(&mut groups, 0, replica, |totals| totals.ledgers[0].debits_pending = 7);
        change(&mut groups, 1, replica, |totals| totals.ledgers[0].credits_pending = 7);
    }
    assert_eq!(judged(&groups).verdict, Verdict::Clean);
    for replica in 0..3 {
        change(&mut groups, 1, replica, |totals| totals.ledgers[0].credits_pending = 3);
    }
    let report = judged(&groups);
    assert_eq!((report.verdict, report.conserved), (Verdict::Violated, false));
    assert_eq!(report.findings, ["ledger 1: 7 are pending as debits, but 3 as credits"]);
}

#[test]
fn something_in_doubt_is_counted_once_a_group_and_keeps_the_audit_incomplete() {
    let mut groups = cluster();
    for replica in 0..3 {
        change(&mut groups, 1, replica, |totals| totals.in_doubt = 2);
    }
    assert!(!is_quiet(&groups));
    let report = judged(&groups);
    assert_eq!((report.verdict, report.in_doubt), (Verdict::Incomplete, 2));
}

#[test]
fn a_transaction_may_post_more_than_one_transfer_under_its_id() {
    let mut groups = cluster();
    (0..3).for_each(|replica| change(&mut groups, 0, replica, |totals| totals.posted = totals.ids + 5));
    assert_eq!(judged(&groups).verdict, Verdict::Clean);
}

#[test]
fn equal_postings_in_any_order_have_no_difference() {
    let mut other = rows();
    other.reverse();
    assert_eq!(compared(&rows(), &other), []);
}

#[test]
fn a_planted_loss_is_named_with_its_node() {
    let mut other = rows();
    let lost = other.remove(3);
    assert_eq!(compared(&rows(), &other), [Difference::Missing(lost)]);
    let report = named(compared(&rows(), &other));
    assert_eq!((report.verdict, report.missing, report.doubled), (Verdict::Violated, 1, 0));
    let id = "00000000000000000000000000000004";
    assert_eq!(report.findings, [format!("g1: n2 has lost transfer {id} of 2 from 4 to 5: n1 has posted it")]);
}

#[test]
fn a_planted_double_is_named_with_its_node() {
    let mut other = rows();
    other.insert(6, other[1]);
    assert_eq!(compared(&rows(), &other), [Difference::Extra(rows()[1])]);
    let report = named(compared(&rows(), &other));
    assert_eq!((report.verdict, report.missing, report.doubled), (Verdict::Violated, 0, 1));
    let id = "00000000000000000000000000000002";
    assert_eq!(report.findings, [format!("g1: n2 has posted transfer {id} of 2 from 2 to 3 once more than n1")]);
}

#[test]
fn a_planted_change_of_an_amount_is_named_with_both_contents() {
    let mut other = rows();
    other[4].transfer.amount = 3;
    let report = named(compared(&rows(), &other));
    assert_eq!((report.verdict, report.missing, report.doubled), (Verdict::Violated, 0, 0));
    assert!(report.findings[0].contains("of 3 from 5 to 6, but n1"), "{report:?}");
}

#[test]
fn accounts_follow_from_the_opening_balances_and_the_postings() {
    let opening = Opening { accounts: 100, balance: 10 };
    let account = |id: u128, debits: u128, credits: u128| Account {
        id: AccountId(id),
        debits_posted: debits,
        credits_posted: credits,
        ..Account::default()
    };
    let recomputed = || {
        let mut recomputed = Recomputed::default();
        recomputed.posted(&posted(1, 1, 2, 4, Sides::Both));
        recomputed.posted(&posted(2, 2, 777, 1, Sides::Debit));
        recomputed.posted(&posted(3, 888, 200, 6, Sides::Credit));
        recomputed
    };
    let right = [account(1, 4, 10), account(2, 1, 14), account(200, 0, 6)];
    assert_eq!(recomputed().contradictions(opening, &right), Vec::<String>::new());
    let wrong = [account(1, 4, 10), account(2, 1, 15), account(3, 0, 11)];
    let found = recomputed().contradictions(opening, &wrong);
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("account 2: debits 1 and credits 15, but by its postings 1 and 14"));
    assert!(found[1].starts_with("account 3: "));
    assert!(found[2].starts_with("account 200: unchanged, but"));
}

fn matched(rows: &[(u16, Posted)]) -> AuditReport {
    let mut matching = Matching::default();
    rows.iter().for_each(|(group, row)| matching.posted(GroupId(*group), *row));
    let mut judgement = Judgement::default();
    matching.judge(&mut judgement);
    judgement.finish()
}

#[test]
fn every_debit_side_has_its_credit_side_in_another_group() {
    let (debit, credit) = (posted(1, 1, 5, 2, Sides::Debit), posted(1, 1, 5, 2, Sides::Credit));
    let inside = posted(2, 1, 2, 1, Sides::Both);
    assert_eq!(matched(&[(1, debit), (1, inside), (2, credit)]), AuditReport::default());
    let half = matched(&[(1, debit), (1, inside)]);
    assert_eq!((half.verdict, half.missing), (Verdict::Violated, 1));
    assert!(half.findings[0].starts_with("g1 has posted the debit side of transfer 0"), "{half:?}");
    let other_amount = posted(1, 1, 5, 3, Sides::Credit);
    assert_eq!(matched(&[(1, debit), (2, other_amount)]).verdict, Verdict::Violated);
    assert_eq!(matched(&[(1, debit), (2, debit)]).verdict, Verdict::Violated);
}

#[test]
fn a_double_that_all_replicas_share_is_found_by_matching() {
    let (debit, credit) = (posted(1, 1, 5, 2, Sides::Debit), posted(1, 1, 5, 2, Sides::Credit));
    let report = matched(&[(1, debit), (2, credit), (2, credit)]);
    assert_eq!((report.verdict, report.doubled, report.missing), (Verdict::Violated, 1, 0));
    // The same id under another debit account is another transfer.
    let other = posted(1, 2, 3, 2, Sides::Both);
    assert_eq!(matched(&[(1, debit), (1, other), (2, credit)]).verdict, Verdict::Clean);
}

#[test]
fn an_acknowledged_transfer_must_be_committed_everywhere_and_counts_once() {
    let batch: Vec<Transfer> = rows().iter().map(|row| row.transfer).collect();
    let mut judgement = Judgement::default();
    let committed = |place| (place, Some(Outcome::Committed));
    judgement.outcomes(GroupId(1), NodeId(1), &batch, [committed(0), committed(1)].into_iter());
    assert_eq!(judgement.report.verdict, Verdict::Clean);
    for node in [2, 3] {
        let found = [(0, None), committed(1), (2, Some(Outcome::Rejected(Reason::Fenced)))];
        judgement.outcomes(GroupId(1), NodeId(node), &batch, found.into_iter());
    }
    let report = judgement.finish();
    assert_eq!((report.verdict, report.missing, report.findings.len()), (Verdict::Violated, 2, 4));
    assert!(report.findings[0].starts_with("g1: n2 does not know transfer 0"), "{report:?}");
    assert!(report.findings[1].starts_with("g1: n2 says `fenced` of transfer 0"), "{report:?}");
}

#[test]
fn audits_are_summed_and_the_worst_verdict_stays() {
    let mut sum = AuditReport { acknowledged: 3, replicas: 9, ..AuditReport::default() };
    let mut violated = AuditReport { missing: 1, conserved: false, ..AuditReport::default() };
    violated.violated("x".to_owned());
    sum.merge(violated);
    sum.merge(AuditReport { acknowledged: 4, replicas: 9, verdict: Verdict::Incomplete, ..AuditReport::default() });
    let expected = AuditReport {
        verdict: Verdict::Violated,
        conserved: false,
        acknowledged: 7,
        missing: 1,
        replicas: 18,
        findings: vec!["x".to_owned()],
        ..AuditReport::default()
    };
    assert_eq!(sum, expected);
}

#[test]
fn findings_are_bounded() {
    let mut report = AuditReport::default();
    (0..3 * FINDINGS_LIMIT).for_each(|number| report.violated(number.to_string()));
    assert_eq!(report.findings.len(), FINDINGS_LIMIT + 1);
}

#[test]
fn the_report_has_the_fields_of_the_summary() {
    let text = serde_json::to_string(&AuditReport::default()).expect("JSON");
    let fields = r#"{"verdict":"clean","conserved":true,"acknowledged":0,"missing":0,"doubled":0,"in_doubt":0,"#;
    assert_eq!(text, format!("{fields}\"replicas\":0,\"findings\":[]}}"));
}
