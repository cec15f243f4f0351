//! `drachma sim`: hunts for bugs in simulated clusters.

use drachma_sim::roles::REAL;

use crate::cli::SimArgs;
use crate::exit::{Exit, Outcome};

/// Runs one seed or many.
///
/// # Errors
/// If standard output fails.
pub fn sim(args: &SimArgs) -> Outcome {
    if let Some(names) = &args.planted {
        return super::planted::planted(names, args);
    }
    let (from, count) = match args.seed {
        Some(seed) => (seed, 1),
        None => (args.from, args.seeds.unwrap_or(100)),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = REAL.hunt(from, count, threads, &|failure| println!("{failure}\n"));
    println!("{summary}");
    Ok(if summary.failed.is_empty() { Exit::Done } else { Exit::Failed })
}
