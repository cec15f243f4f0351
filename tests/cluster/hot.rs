//! Out of one account to many: nobody waits for anybody.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use drachma_client::Status;
use drachma_protocol::ids::GroupId;
use drachma_protocol::ledger::model::Transfer;
use drachma_protocol::message::operator::{Nothing, OperatorAnswer, OperatorCall};
use tokio::task::JoinSet;

use crate::common::{World, setting, transfer};

const CLIENTS: u64 = 64;

#[test]
fn many_clients_pay_out_of_one_account_and_none_waits() {
    let mut world = World::start("many_clients_pay_out_of_one_account_and_none_waits");
    let each = setting("DRACHMA_PAYMENTS", 20);
    // Ten from each of as many accounts of all groups as it takes.
    let funding: Vec<Transfer> =
        (0..u128::from(CLIENTS * each / 10 + 1)).map(|n| transfer(world.rng.next_u128(), 101 + n * 5, 1, 10)).collect();
    let answers = world.wait(world.client.transfers(&funding, None));
    assert!(answers.iter().all(|answer| answer.status == Status::Committed), "{answers:?}");
    let mut sent: Vec<_> = funding.iter().map(|transfer| (*transfer, Status::Committed)).collect();

    let (leader, client) = (world.leader(GroupId(1), None), world.client.clone());
    let done = Arc::new(AtomicBool::new(false));
    let watching = world.runtime.spawn({
        let done = Arc::clone(&done);
        async move {
            let mut most = (0, 0);
            while !done.load(Ordering::SeqCst) {
                let call = OperatorCall::Pending(Nothing {});
                let page = client.operator(leader, GroupId(1), call, crate::common::PATIENCE).await;
                let Ok(OperatorAnswer::Pending(page)) = page else { panic!("{page:?}") };
                most = (most.0.max(page.waiting), most.1.max(page.total));
            }
            most
        }
    });
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (client, mut rng) = (world.client.clone(), world.rng.fork());
        // In the two other groups.
        let credit = 3001 + number % 2 * 3000 + number;
        let paying = async move {
            let mut sent = Vec::new();
            for _ in 0..each {
                let paying = transfer(rng.next_u128(), 1, credit.into(), 1);
                sent.push((paying, client.transfer(paying, None).await.status));
            }
            sent
        };
        clients.spawn_on(paying, world.runtime.handle());
    }
    let paid = world.wait(clients.join_all()).concat();
    done.store(true, Ordering::SeqCst);
    let (waiting, in_doubt) = world.wait(watching).unwrap();
    println!("{} payments, at most {in_doubt} in doubt at once, {waiting} waiting", paid.len());
    assert!(paid.iter().all(|(_, status)| *status == Status::Committed), "{paid:?}");
    assert_eq!(waiting, 0, "what the account can pay is never queued");
    sent.extend(paid);
    world.verify(&sent);
}
