//! `drachma sim`: hunts for bugs in simulated clusters.

mod report;
mod watch;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use drachma_sim::checkers::Class;
use drachma_sim::failover;
use drachma_sim::plan::Plan;
use drachma_sim::roles::REAL;
use drachma_sim::run::{Hunt, LINES, Progress};
use drachma_sim::shrink::Limits;
use drachma_sim::trace::Keep;
use drachma_sim::world::Outcome as Run;

use crate::cli::duration;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use report::Totals;
use watch::Watch;

/// `drachma sim`.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Exit status: 0 nothing found; 1 a promise of safety was broken; 4 a cluster did not come to rest; \
                        5 a role's own assertion failed; of several the first of 1, 5, 4; 2 wrong usage; 130 interrupted."
)]
pub struct SimArgs {
    /// Run this seed, and tell what happened if it fails
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Run so many seeds [default: 100]
    #[arg(long, value_name = "COUNT", conflicts_with = "seed")]
    pub seeds: Option<u64>,
    /// The first of the seeds
    #[arg(long, value_name = "SEED", default_value_t = 0, conflicts_with = "seed")]
    pub from: u64,
    /// How many threads hunt [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Write the whole trace of the seed to this file
    #[arg(long, value_name = "FILE", requires = "seed")]
    pub trace: Option<PathBuf>,
    /// How large the file may be, such as `500KiB` or `1GiB`; of a longer trace the last part is kept
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = size)]
    pub trace_limit: usize,
    /// How many lines of its trace a failure is told with [default: 60]; with `--seed`, a success, too
    #[arg(long, value_name = "N")]
    pub lines: Option<usize>,
    /// Run the seeds otherwise than they draw, such as `clients=1,operations=5,kinds=kill+pause,faults=2,safety=1.2s`
    #[arg(long, value_name = "SPEC", default_value = "", hide_default_value = true, long_help = with_help())]
    pub with: drachma_sim::plan::Overrides,
    /// Do not look for a smaller run that fails the same (a seed that is run with `--with` is left as it is anyway)
    #[arg(long)]
    pub no_shrink: bool,
    /// How long to look for a smaller run
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub shrink_for: Duration,
    /// Measure instead how long a group is silent that loses its leader: so many times
    #[arg(long, value_name = "COUNT", conflicts_with_all = ["seed", "seeds", "with", "trace"])]
    pub failovers: Option<u64>,
    /// Plant known bugs, these or all, one at a time, and see that each is found (in a build that has them)
    #[arg(long, value_name = "NAME", num_args = 0.., conflicts_with = "seed")]
    pub planted: Option<Vec<String>>,
}

fn with_help() -> String {
    format!("Run the seeds otherwise than they draw. A list of: {}", drachma_sim::plan::Overrides::HELP)
}

/// Reads a size such as `64MiB` or `1000`.
///
/// # Errors
/// What is allowed.
fn size(text: &str) -> Result<usize, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)];
    let parsed = units.iter().find_map(|(unit, factor)| {
        let number: usize = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*factor)
    });
    parsed.ok_or_else(|| "it is not a size such as 1000, 500KiB, 64MiB or 1GiB".to_owned())
}

/// Seeds of a hunt that does not say how many.
const SEEDS: u64 = 100;

/// Runs one seed or many, or measures failovers.
///
/// # Errors
/// If standard output or the trace's file fails.
pub fn sim(args: &SimArgs, format: Format) -> Outcome {
    if let Some(names) = &args.planted {
        return super::planted::planted(names, args);
    }
    let stop = watch::interruption()?;
    match (args.seed, args.failovers) {
        (Some(seed), _) => one(args, &Plan { seed, with: args.with.clone() }, format, &stop),
        (None, Some(count)) => failovers(args, count, format, &stop),
        (None, None) => hunt(args, format, &stop),
    }
}

fn threads(args: &SimArgs) -> usize {
    args.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from)
}

fn limits(args: &SimArgs) -> Option<Limits> {
    (!args.no_shrink).then(|| Limits { time: args.shrink_for, ..Limits::default() })
}

fn exit_of(worst: Option<Class>, stop: &AtomicBool) -> Exit {
    match worst {
        Some(Class::Safety) => Exit::Failed,
        Some(Class::Crash) => Exit::Crashed,
        Some(Class::Liveness) => Exit::Stuck,
        None if stop.load(Ordering::Relaxed) => Exit::Interrupted,
        None => Exit::Done,
    }
}

fn hunt(args: &SimArgs, format: Format, stop: &AtomicBool) -> Outcome {
    let (count, threads) = (args.seeds.unwrap_or(SEEDS), threads(args));
    let progress = Progress::default();
    let (began, watch) = (Instant::now(), Watch::new(count));
    let hunt = Hunt {
        from: args.from,
        count,
        with: args.with.clone(),
        threads,
        lines: args.lines.unwrap_or(LINES),
        shrink: limits(args),
        stop,
        progress: &progress,
    };
    let summary = watch.during(&progress, || {
        REAL.hunt_for(&hunt, &|failure| {
            // A reader that has gone away wants no more; what else there is is said by the exit status.
            let _ = watch.aside(|| output::line(report::failure(failure, format)));
        })
    });
    let totals = Totals { count, seconds: began.elapsed().as_secs_f64(), threads, from: args.from };
    output::line(report::summary(&summary, &totals, format))?;
    Ok(if stop.load(Ordering::Relaxed) { Exit::Interrupted } else { exit_of(summary.worst(), stop) })
}

fn one(args: &SimArgs, plan: &Plan, format: Format, stop: &AtomicBool) -> Outcome {
    // Before the run, so that a wrong path is told at once.
    let file = args.trace.as_deref().map(|path| create(path).map(|file| (path, file))).transpose()?;
    let lines = args.lines.unwrap_or(LINES);
    let keep = if file.is_some() { Keep::bytes(args.trace_limit) } else { Keep::lines(args.lines.unwrap_or(0)) };
    let run = REAL.run_plan(plan, keep, u64::MAX);
    if let Some((path, file)) = file {
        write_trace(file, plan, &run, args.trace_limit).map_err(|error| cannot_write(path, &error))?;
        if run.left_out > 0 {
            eprintln!("{}: {}", path.display(), report::left_out(&run, args.trace_limit));
        }
    }
    let Some(violation) = &run.violation else {
        let shown = args.lines.unwrap_or(0).min(run.lines.len());
        output::line(report::run(plan, &run, &run.lines[run.lines.len() - shown..], format))?;
        return Ok(exit_of(None, stop));
    };
    // What was shrunk already, or made by hand, is what is to be seen.
    let shrinking = limits(args).filter(|_| args.with.is_empty()).map(|limits| (limits, stop));
    let failure = REAL.explain(plan, &run, violation, lines, shrinking);
    output::line(report::failure(&failure, format))?;
    Ok(exit_of(Some(failure.violation.class), stop))
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{}: {error}", path.display()))
}

fn create(path: &Path) -> Result<File, Failure> {
    File::create(path).map_err(|error| cannot_write(path, &error))
}

fn write_trace(file: File, plan: &Plan, run: &Run, limit: usize) -> std::io::Result<()> {
    let mut out = BufWriter::new(file);
    if run.left_out > 0 {
        writeln!(out, "# {}", report::left_out(run, limit))?;
    }
    writeln!(out, "# {plan}: {} events, trace {:016x}", run.events, run.hash)?;
    run.lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    match &run.violation {
        Some(violation) => writeln!(out, "# {} ({}): {}", violation.checker, violation.class, violation.text)?,
        None => writeln!(out, "# nothing found")?,
    }
    out.flush()
}

fn failovers(args: &SimArgs, count: u64, format: Format, stop: &AtomicBool) -> Outcome {
    let found = failover::measure(&REAL, args.from, count, threads(args), stop);
    output::line(report::failovers(&found, format))?;
    Ok(match found.unanswered {
        _ if stop.load(Ordering::Relaxed) => Exit::Interrupted,
        0 => Exit::Done,
        _ => Exit::Stuck,
    })
}
