//! Measures what one account can pay: 64 clients move 1 each between uniform accounts, then the same out of one
//! account to 64 accounts of other groups, on an embedded cluster of nine nodes. Prints both rates and their ratio.
//!
//! `cargo build --release && cargo run --release --example hot_account [TRANSFERS]`

use std::error::Error;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use drachma::local::{LocalCluster, LocalOptions};
use drachma::settings::Settings;
use drachma_client::{Client, Options, Status};
use drachma_protocol::ids::{AccountId, TransferId};
use drachma_protocol::ledger::model::Transfer;
use drachma_protocol::rng::Rng;
use drachma_workload::transfer::{self, Transfers};
use tokio::task::{JoinSet, LocalSet};

const CLIENTS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);
const HOT: AccountId = AccountId(1);

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let count = std::env::args().nth(1).map_or(Ok(20_000), |text| text.parse())?;
    let data = std::env::temp_dir().join(format!("drachma-hot-account-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = LocalSet::new().block_on(&runtime, measure(data.clone(), count));
    std::fs::remove_dir_all(&data)?;
    measured
}

async fn measure(data: PathBuf, count: usize) -> Result<(), Failure> {
    // target/PROFILE/examples/hot_account
    let own = std::env::current_exe()?;
    let executable = own.ancestors().nth(2).map(|directory| directory.join("drachma"));
    let options = LocalOptions { executable, ..LocalOptions::embedded() };
    let mut cluster = LocalCluster::create(Settings::sample(), data, options)?;
    cluster.format_all()?;
    cluster.start_all()?;
    let settings = cluster.settings().clone();
    for node in settings.nodes() {
        cluster.wait_ready(node.id, PATIENCE).await?;
    }
    let options =
        Options { endpoints: settings.endpoints(), cluster: Some(settings.cluster_id()), deadline: Some(PATIENCE) };
    let client = Client::connect(options).await?;
    let mut uniform = Transfers::new(
        transfer::Settings { accounts: settings.accounts(), ..transfer::Settings::default() },
        settings.shard_map(),
        1,
    );
    // Once before it counts, so that sessions, connections and leaders are there.
    rate(&client, (0..1000).map(|_| uniform.draw()).collect()).await;
    let uniform = rate(&client, (0..count).map(|_| uniform.draw()).collect()).await;
    let mut rng = Rng::new(2);
    fund(&client, count, &mut rng).await?;
    let paying =
        |number: usize| pay(&mut rng, HOT, AccountId((3001 + number % 2 * 3000 + number % CLIENTS) as u128), 1);
    let hot = rate(&client, (0..count).map(paying).collect()).await;
    println!("{count} transfers, {CLIENTS} clients");
    println!("uniform accounts: {:.0} committed/s, {} rejected", uniform.0, uniform.1);
    println!("out of one account: {:.0} committed/s, {} rejected", hot.0, hot.1);
    println!("ratio: {:.2}", hot.0 / uniform.0);
    Ok(())
}

/// Committed transfers a second, and how many were not committed.
async fn rate(client: &Client, transfers: Vec<Transfer>) -> (f64, usize) {
    let (transfers, began) = (Rc::new(transfers), Instant::now());
    let mut clients = JoinSet::new();
    for first in 0..CLIENTS {
        let (client, transfers) = (client.clone(), Rc::clone(&transfers));
        clients.spawn_local(async move {
            let mut committed = 0;
            for transfer in transfers.iter().skip(first).step_by(CLIENTS) {
                committed += usize::from(client.transfer(*transfer, None).await.status == Status::Committed);
            }
            committed
        });
    }
    let committed: usize = clients.join_all().await.into_iter().sum();
    (committed as f64 / began.elapsed().as_secs_f64(), transfers.len() - committed)
}

/// Gives the hot account what it is to pay: all that other accounts have, one after the other.
async fn fund(client: &Client, count: usize, rng: &mut Rng) -> Result<(), Failure> {
    let mut missing = count as u128;
    for account in 2..=9000 {
        if missing == 0 {
            return Ok(());
        }
        let held = client.read(AccountId(account), None).await.account.map_err(|status| format!("{status:?}"))?;
        let amount = held.map_or(0, |held| held.balance().magnitude).min(missing);
        if amount == 0 {
            continue;
        }
        let answer = client.transfer(pay(rng, AccountId(account), HOT, amount), None).await;
        if answer.status != Status::Committed {
            return Err(format!("account {account} does not pay: {answer:?}").into());
        }
        missing -= amount;
    }
    Err("the accounts do not hold so much; fewer transfers, please".into())
}

fn pay(rng: &mut Rng, debit: AccountId, credit: AccountId, amount: u128) -> Transfer {
    let id = TransferId(rng.next_u128());
    Transfer { id, debit, credit, amount, ledger: 1, code: 1, ..Transfer::default() }
}
