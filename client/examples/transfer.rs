//! Moves 10 from account 1 to account 2 and prints both balances before and after.
//!
//! `DRACHMA_ENDPOINTS=127.0.0.1:7101,127.0.0.1:7102 cargo run -p drachma-client --example transfer`

use std::time::Duration;

use drachma_client::{Client, Options, Status};
use drachma_protocol::ids::{AccountId, TransferId};
use drachma_protocol::ledger::model::Transfer;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let endpoints = std::env::var("DRACHMA_ENDPOINTS").unwrap_or_else(|_| "127.0.0.1:7101".to_owned());
    let endpoints = endpoints.split(',').map(|endpoint| endpoint.trim().to_owned()).collect();

    // One client for the whole process. Clones share its connections: hand them out freely.
    let deadline = Some(Duration::from_secs(5));
    let client = Client::connect(Options { endpoints, cluster: None, deadline }).await?;

    let (debit, credit) = (AccountId(1), AccountId(2));
    println!("before: {} and {}", balance(&client, debit).await?, balance(&client, credit).await?);

    // The id is yours to choose, and it is what makes the transfer happen once: keep it, and you may send the transfer
    // as often as you like. Ids that grow with time are the cheapest for the cluster.
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let id = TransferId(since_1970.as_nanos());
    let transfer = Transfer { id, debit, credit, amount: 10, ledger: 1, code: 1, ..Transfer::default() };

    let answer = client.transfer(transfer, None).await;
    match answer.status {
        Status::Committed => println!("committed: {id}"),
        Status::Rejected(reason) => println!("rejected: {id}: {reason}"),
        // Not final: it may have taken effect or may still do so. Settle it: either it did, or it never will.
        Status::Accepted | Status::Unavailable | Status::Unknown => {
            println!("not final: {id}: {:?}", answer.status);
            println!("settled: {:?}", client.fence((&transfer).into(), None).await.status);
        }
    }

    println!("after: {} and {}", balance(&client, debit).await?, balance(&client, credit).await?);
    Ok(())
}

/// The balance of an account, as a text.
async fn balance(client: &Client, account: AccountId) -> Result<String, String> {
    match client.read(account, None).await.account {
        Ok(Some(found)) => Ok(found.balance().to_string()),
        Ok(None) => Ok("no such account".to_owned()),
        Err(status) => Err(format!("account {account} cannot be read now: {status:?}")),
    }
}
