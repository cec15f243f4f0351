//! Reads after answers: never old, whoever is asked.

use drachma_client::{Client, Status};
use drachma_protocol::ids::AccountId;
use drachma_protocol::rng::Rng;
use tokio::task::JoinSet;

use crate::common::{World, setting, transfer};

const PAIRS: u64 = 64;

#[test]
fn a_transfer_that_was_answered_is_seen_through_every_other_node() {
    let mut world = World::start("a_transfer_that_was_answered_is_seen_through_every_other_node");
    let reads = setting("DRACHMA_READS", 2000);
    let writer = world.connect(0, None);
    // A connection of its own for each node that is asked first.
    let readers: Vec<Client> = (0..world.nodes().len()).map(|first| world.connect(first, None)).collect();
    let mut pairs = JoinSet::new();
    for pair in 0..PAIRS {
        let steps = reads / PAIRS + u64::from(pair < reads % PAIRS);
        // Two different groups, each in turn.
        let debit = pair % 3 * 3000 + pair + 1;
        let credit = (pair + 1 + pair / 3 % 2) % 3 * 3000 + pair + 1001;
        let bounce = bounce(writer.clone(), readers.clone(), (debit, credit), steps, world.rng.fork());
        pairs.spawn_on(bounce, world.runtime.handle());
    }
    let sent = world.wait(pairs.join_all()).concat();
    assert_eq!(sent.len() as u64, reads);
    println!("{reads} reads after transfers across groups, none old");
    world.verify(&sent);
}

/// One goes from an account to the other and comes back; nobody else touches them, so each read has one right answer.
async fn bounce(
    writer: Client,
    readers: Vec<Client>,
    (left, right): (u64, u64),
    steps: u64,
    mut rng: Rng,
) -> Vec<(drachma_protocol::ledger::model::Transfer, Status)> {
    let mut sent = Vec::new();
    for step in 0..steps {
        let (debit, credit) = if step % 2 == 0 { (left, right) } else { (right, left) };
        let moving = transfer(rng.next_u128(), debit.into(), credit.into(), 1);
        let status = writer.transfer(moving, None).await.status;
        assert_eq!(status, Status::Committed, "{moving:?}");
        sent.push((moving, status));
        let reader = &readers[((left + step) % readers.len() as u64) as usize];
        let read = reader.read(AccountId(credit.into()), None).await;
        let account = read.account.unwrap().unwrap();
        let (credits, debits) =
            if step % 2 == 0 { (step / 2 + 1, step / 2) } else { (step.div_ceil(2), step.div_ceil(2)) };
        let expected = (u128::from(debits), u128::from(10 + credits));
        assert_eq!((account.debits_posted, account.credits_posted), expected, "step {step} of {left} and {right}");
    }
    sent
}
