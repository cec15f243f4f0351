//! Hunts for planted bugs: `planted [--seeds N] [--from SEED] [NAME...]`, in a build with the feature `planted`.

use std::process::ExitCode;

use drachma_protocol::planted::Bug;
use drachma_sim::planted::{HEAD, Seeds, hunt};
use drachma_sim::roles::REAL;

fn main() -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut seeds = Seeds { from: 0, count: 2000, threads };
    let mut bugs = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let number = match argument.as_str() {
            "--seeds" => &mut seeds.count,
            "--from" => &mut seeds.from,
            name => {
                let Some(bug) = Bug::from_name(name) else {
                    eprintln!("`{name}` is no planted bug");
                    return ExitCode::from(2);
                };
                bugs.push(bug);
                continue;
            }
        };
        let Some(value) = arguments.next().and_then(|text| text.parse().ok()) else {
            eprintln!("{argument} needs a number");
            return ExitCode::from(2);
        };
        *number = value;
    }
    let bugs = if bugs.is_empty() { Bug::ALL.to_vec() } else { bugs };
    println!("{HEAD}");
    let mut missed = 0;
    for bug in bugs {
        let finding = hunt(&REAL, bug, seeds);
        missed += usize::from(finding.found.is_none());
        println!("{finding}");
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
