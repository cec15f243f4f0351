//! `drachma sim`: hunts for bugs in simulated clusters.

mod report;
mod watch;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use drachma_sim::checkers::Class;
use drachma_sim::failover;
use drachma_sim::plan::Plan;
use drachma_sim::roles::REAL;
use drachma_sim::run::{Hunt, LINES, Progress};
use drachma_sim::shrink::Limits;
use drachma_sim::trace::Keep;
use drachma_sim::world::Outcome as Run;

use crate::cli::SimArgs;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, Format};
use report::Totals;
use watch::Watch;

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
