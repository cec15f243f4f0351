//! Runs seeds of the simulator: `replay --seed N [--lines L]` one with its trace, `replay --seeds COUNT --from N` many.
//!
//! In a release build a role that panics ends the process at once; the development build tells the trace.

use std::process::ExitCode;

use drachma_sim::roles::REAL;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut numbers = [("--seed", None), ("--seeds", None), ("--from", Some(0)), ("--lines", Some(200))];
    for pair in arguments.chunks(2) {
        let known = numbers.iter_mut().find(|(name, _)| *name == pair[0]);
        match (known, pair.get(1).and_then(|text| text.parse::<u64>().ok())) {
            (Some((_, value)), Some(number)) => *value = Some(number),
            _ => {
                eprintln!("`{}`: expected --seed N [--lines L], or --seeds COUNT [--from N]", pair.join(" "));
                return ExitCode::from(2);
            }
        }
    }
    let [(_, seed), (_, seeds), (_, from), (_, lines)] = numbers;
    match (seed, seeds) {
        (Some(seed), None) => replay(seed, lines.unwrap_or_default()),
        (None, Some(count)) => hunt(from.unwrap_or_default(), count),
        _ => {
            eprintln!("expected --seed N [--lines L], or --seeds COUNT [--from N]");
            ExitCode::from(2)
        }
    }
}

fn replay(seed: u64, lines: u64) -> ExitCode {
    let outcome = REAL.run(seed, usize::try_from(lines).unwrap_or(usize::MAX));
    outcome.lines.iter().for_each(|line| println!("{line}"));
    print!("{}", outcome.coverage);
    println!("seed {seed}: {} events, {} simulated us, trace {:016x}", outcome.events, outcome.length, outcome.hash);
    match outcome.violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            println!("{} ({:?}): {}", violation.checker, violation.class, violation.text);
            ExitCode::FAILURE
        }
    }
}

fn hunt(from: u64, count: u64) -> ExitCode {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let summary = REAL.hunt(from, count, threads, &|failure| println!("{failure}\n"));
    println!("{summary}");
    for (seed, violation) in &summary.failed {
        println!("seed {seed}: {} ({:?})", violation.checker, violation.class);
    }
    if summary.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
