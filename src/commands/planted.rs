//! `drachma sim --planted`: looks for bugs that are known to be there.

use super::sim::SimArgs;
use crate::exit::Outcome;

/// How many seeds a bug has to be found within.
#[cfg(feature = "planted")]
const SEEDS: u64 = 2000;

/// Hunts for the named bugs, or for all of them, one after the other, and prints a table.
///
/// # Errors
/// If a name is none of theirs, or standard output fails.
#[cfg(feature = "planted")]
pub fn planted(names: &[String], args: &SimArgs) -> Outcome {
    use drachma_protocol::planted::Bug;
    use drachma_sim::planted::{HEAD, Seeds, hunt};
    use drachma_sim::roles::REAL;

    use crate::exit::{Exit, Failure};

    let named = names.iter().map(|name| {
        Bug::from_name(name).ok_or_else(|| {
            let known: Vec<&str> = Bug::ALL.iter().map(|bug| bug.name()).collect();
            Failure::usage(format!("`{name}` is no planted bug; there are: {}", known.join(", ")))
        })
    });
    let mut bugs = named.collect::<Result<Vec<Bug>, Failure>>()?;
    if bugs.is_empty() {
        bugs = Bug::ALL.to_vec();
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds = Seeds { from: args.from, count: args.seeds.unwrap_or(SEEDS), threads };
    crate::output::line(HEAD)?;
    let mut missed = 0;
    for bug in &bugs {
        let finding = hunt(&REAL, *bug, seeds);
        missed += usize::from(finding.found.is_none());
        crate::output::line(finding)?;
    }
    crate::output::line(format!("{} of {} found, from seed {}", bugs.len() - missed, bugs.len(), seeds.from))?;
    Ok(if missed == 0 { Exit::Done } else { Exit::Failed })
}

/// Says that this build has no bugs to find.
///
/// # Errors
/// Always: it is the wrong program.
#[cfg(not(feature = "planted"))]
pub fn planted(_names: &[String], _args: &SimArgs) -> Outcome {
    let how = "cargo run --release --features planted -- sim --planted";
    Err(crate::exit::Failure::usage(format!("this build has no planted bugs; one that has them: `{how}`")))
}
