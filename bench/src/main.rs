//! `drachma-bench`: loads a running cluster with transfers, in a closed loop, and prints rate and latencies.
//!
//! Every logical client has one request in flight, of `--batch` transfers; all of them share one connection per node.
//! Ids are drawn from the seed and the time of the start, so that runs do not repeat each other's transfers.

use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use drachma_client::{Client, Options, Status};
use drachma_protocol::ledger::model::{BATCH_LIMIT, Transfer};
use drachma_workload::transfer::{Settings, Transfers};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

/// Loads a running cluster with transfers of 1, in a closed loop.
#[derive(Clone, Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Some nodes of the cluster, `host:port`, separated by commas.
    #[arg(long, env = "DRACHMA_ENDPOINTS", value_delimiter = ',', default_value = "127.0.0.1:7101")]
    endpoints: Vec<String>,
    /// Accounts 1 to this number are used; they must exist.
    #[arg(long, default_value_t = 9000, value_parser = clap::value_parser!(u64).range(2..))]
    accounts: u64,
    /// Logical clients.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    clients: u64,
    /// Transfers in one request.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=BATCH_LIMIT as u64))]
    batch: u64,
    /// How many of 100 transfers go to another group; left to the draw of the accounts if absent.
    #[arg(long, value_parser = clap::value_parser!(u64).range(0..=100))]
    across: Option<u64>,
    /// Transfers in all.
    #[arg(long, default_value_t = 100_000)]
    count: u64,
    /// Seconds that a request may take.
    #[arg(long, default_value_t = 10)]
    deadline: u64,
    /// Determines the transfers.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What one client, or all of them, saw.
struct Tally {
    latencies: Histogram<u64>,
    committed: u64,
    rejected: u64,
    open: u64,
}

impl Tally {
    fn new() -> Tally {
        let latencies = Histogram::new_with_bounds(1, 600_000_000, 3).expect("the bounds are constant and valid");
        Tally { latencies, committed: 0, rejected: 0, open: 0 }
    }

    fn add(&mut self, other: &Tally) {
        self.latencies += &other.latencies;
        self.committed += other.committed;
        self.rejected += other.rejected;
        self.open += other.open;
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("drachma-bench: {error}");
            return ExitCode::from(2);
        }
    };
    match runtime.block_on(load(&arguments)) {
        Ok(tally) if tally.open == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(3),
        Err(error) => {
            eprintln!("drachma-bench: {error}; is a cluster up (`drachma up --detach`)?");
            ExitCode::from(3)
        }
    }
}

async fn load(arguments: &Arguments) -> Result<Tally, Box<dyn Error>> {
    let deadline = Duration::from_secs(arguments.deadline);
    let endpoints = arguments.endpoints.clone();
    let client = Client::connect(Options { endpoints, cluster: None, deadline: Some(deadline) }).await?;
    let salt = u128::from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos() as u64) << 64;
    println!("seed {}, {} clients, batches of {}", arguments.seed, arguments.clients, arguments.batch);
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..arguments.clients {
        let share = arguments.count / arguments.clients + u64::from(number < arguments.count % arguments.clients);
        let settings = Settings {
            accounts: arguments.accounts,
            largest_amount: 1,
            across_percent: arguments.across,
            ..Settings::default()
        };
        let transfers = Transfers::new(settings, client.map().map, arguments.seed.wrapping_add(number << 32));
        tasks.spawn(one_client(client.clone(), transfers, share, arguments.batch, salt));
    }
    let mut all = Tally::new();
    while let Some(tally) = tasks.join_next().await {
        all.add(&tally?);
    }
    report(&all, begun.elapsed());
    Ok(all)
}

async fn one_client(client: Client, mut transfers: Transfers, share: u64, batch: u64, salt: u128) -> Tally {
    let mut tally = Tally::new();
    let mut left = share;
    while left > 0 {
        let size = left.min(batch);
        left -= size;
        let requests: Vec<Transfer> = (0..size).map(|_| salted(transfers.draw(), salt)).collect();
        let sent = Instant::now();
        let answers = client.transfers(&requests, None).await;
        let latency = u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX);
        tally.latencies.saturating_record(latency.max(1));
        for answer in answers {
            match answer.status {
                Status::Committed => tally.committed += 1,
                Status::Rejected(_) => tally.rejected += 1,
                Status::Accepted | Status::Unavailable | Status::Unknown => tally.open += 1,
            }
        }
    }
    tally
}

fn salted(mut transfer: Transfer, salt: u128) -> Transfer {
    transfer.id.0 ^= salt;
    transfer
}

fn report(tally: &Tally, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    let quantile = |q| tally.latencies.value_at_quantile(q);
    println!("{} committed, {} rejected, {} without an outcome", tally.committed, tally.rejected, tally.open);
    println!("{seconds:.3} s, {:.1} committed/s", tally.committed as f64 / seconds);
    println!(
        "a request: p1 {} us, p50 {} us, p90 {} us, p99 {} us, p99.9 {} us, max {} us",
        quantile(0.01),
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        quantile(0.999),
        tally.latencies.max()
    );
}
