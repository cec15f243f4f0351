//! `drachma check`: explores a model of a protocol exhaustively, up to its bounds.

use std::io::IsTerminal;
use std::net::TcpListener;

use clap::Args;
use drachma_protocol::planted;
use drachma_sim::model::{self, Claim, Line, Name, Options, Progress, Report, Search, Verdict};

use crate::exit::{Exit, Failure, Outcome};
use crate::output;

/// `drachma check`. What is not given has the model's own default.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    /// Which model: `paxos` or `commit`
    pub model: String,
    /// Look at paths of at most so many steps [default: all]
    #[arg(long, value_name = "N")]
    pub depth: Option<usize>,
    /// Stop after about so many states [default: all; a simulation: 1000000]
    #[arg(long, value_name = "N")]
    pub states: Option<usize>,
    /// So many elections after the first; for `commit`, failures of leaders
    #[arg(long, value_name = "N")]
    pub elections: Option<u8>,
    /// So many hand-overs of leadership (only `paxos`)
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub moves: Option<u8>,
    /// So many crashes
    #[arg(long, value_name = "N")]
    pub crashes: Option<u8>,
    /// Of the crashes, after so many the last record of the node's log is found damaged (only `paxos`) [default: 1]
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub doubt: Option<u8>,
    /// Let timers fire, so often
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub timers: Option<u8>,
    /// Lose so many messages
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub lossy: Option<u8>,
    /// Deliver so many messages once more
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "1")]
    pub duplicating: Option<u8>,
    /// So many commands of clients, at most 4
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=4))]
    pub commands: Option<u8>,
    /// Check this invariant, too: for `paxos` log-matching, for `commit` votes-are-applied
    #[arg(long, value_name = "NAME")]
    pub invariant: Vec<String>,
    /// Search with so many threads [default: 2; with `--depth` 1, since only then nothing just below it is left out]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Visit states by their distance from the beginning: a counterexample is a shortest one (the default)
    #[arg(long, group = "order")]
    pub bfs: bool,
    /// Visit states depth first: less memory
    #[arg(long, group = "order")]
    pub dfs: bool,
    /// Walk at random instead
    #[arg(long, group = "order")]
    pub simulate: bool,
    /// Determines the walks of `--simulate`
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
    /// Show progress, and a shortest path to everything that happens sometimes
    #[arg(long)]
    pub verbose: bool,
    /// Serve the explorer to a browser at this address instead, until interrupted
    #[arg(long, value_name = "ADDRESS")]
    pub serve: Option<std::net::SocketAddr>,
    /// Plant this bug first (only in builds with the feature `planted`)
    #[arg(long, value_name = "NAME")]
    pub plant: Option<String>,
}

/// A random walk has no end of its own.
const SIMULATED_STATES: usize = 1_000_000;

/// Checks a model.
///
/// # Errors
/// If there is no such model, invariant or bug, if the address is taken, or if standard output fails.
pub fn check(args: &CheckArgs) -> Outcome {
    let name = Name::from_name(&args.model).ok_or_else(|| {
        Failure::usage(format!("no model `{}`: there are {}", args.model, Name::ALL.map(Name::as_str).join(" and ")))
    })?;
    let options = options(name, args)?;
    if let Some(bug) = &args.plant {
        plant(bug)?;
    }
    output::line(bounds(name, &options))?;
    if let Some(address) = args.serve {
        // The library ends the process if it cannot listen; so try first.
        TcpListener::bind(address).map_err(|error| Failure::usage(format!("{address}: {error}")))?;
        output::line(format!("explore it at http://{address}"))?;
        model::serve(name, &options, address);
        return Ok(Exit::Done);
    }
    let live = args.verbose && std::io::stderr().is_terminal();
    let report = model::check(name, &options, &|progress| {
        if live {
            eprint!("\r{}", describe(progress));
        }
    });
    if live {
        eprintln!();
    }
    show(&report, &options, args.verbose)?;
    Ok(if report.failed() { Exit::Failed } else { Exit::Done })
}

fn options(name: Name, args: &CheckArgs) -> Result<Options, Failure> {
    let usual = Options::of(name);
    if let Some(unknown) = args.invariant.iter().find(|wanted| !name.invariants().contains(&wanted.as_str())) {
        let known = name.invariants().join(", ");
        return Err(Failure::usage(format!("no invariant `{unknown}` of {}: there is {known}", name.as_str())));
    }
    if name == Name::Commit && args.doubt.is_some() {
        return Err(Failure::usage("`--doubt` is about disks, which only the model `paxos` has".to_owned()));
    }
    if name == Name::Commit && args.moves.is_some() {
        return Err(Failure::usage("`--moves` is of the model `paxos` only".to_owned()));
    }
    let search = match (args.dfs, args.simulate) {
        (_, true) => Search::Simulation { seed: args.seed },
        (true, _) => Search::Depth,
        _ => Search::Breadth,
    };
    Ok(Options {
        elections: args.elections.unwrap_or(usual.elections),
        moves: args.moves.unwrap_or(usual.moves),
        crashes: args.crashes.unwrap_or(usual.crashes),
        doubts: args.doubt.unwrap_or(usual.doubts),
        duplicates: args.duplicating.unwrap_or(usual.duplicates),
        drops: args.lossy.unwrap_or(usual.drops),
        timers: args.timers.unwrap_or(usual.timers),
        commands: args.commands.unwrap_or(usual.commands),
        invariants: args.invariant.clone(),
        depth: args.depth,
        states: args.states.or(args.simulate.then_some(SIMULATED_STATES)),
        // With one thread a bound of depth leaves nothing out.
        threads: args.threads.map_or(if args.depth.is_some() { 1 } else { usual.threads }, usize::from),
        examples: args.verbose,
        search,
    })
}

#[cfg(feature = "planted")]
fn plant(name: &str) -> Result<(), Failure> {
    let bug = planted::Bug::from_name(name).ok_or_else(|| Failure::usage(format!("no bug `{name}`")))?;
    planted::plant(Some(bug));
    Ok(())
}

#[cfg(not(feature = "planted"))]
fn plant(name: &str) -> Result<(), Failure> {
    const { assert!(!planted::AVAILABLE) };
    Err(Failure::usage(format!("`{name}` cannot be planted: build with `--features planted`")))
}

fn bounds(name: Name, options: &Options) -> String {
    let Options { elections, moves, crashes, doubts, timers, drops, duplicates, commands, .. } = options;
    let depth = options.depth.map_or("any depth".to_owned(), |depth| format!("at most {depth} steps"));
    format!(
        "{}: {commands} commands, {elections} elections, {moves} hand-overs, {crashes} crashes, {doubts} of them with a damaged log, {timers} timers, \
         {drops} losses, {duplicates} duplicates, {depth}, {} threads",
        name.as_str(),
        options.threads
    )
}

fn describe(progress: Progress) -> String {
    let Progress { generated, unique, depth, elapsed } = progress;
    format!("{generated} states, {unique} unique, {depth} steps deep, {:.1} s", elapsed.as_secs_f64())
}

fn show(report: &Report, options: &Options, verbose: bool) -> Result<(), Failure> {
    output::line(describe(report.progress))?;
    output::line(match (report.is_broken(), report.exhausted) {
        (true, _) => "a property is broken: the search ended there".to_owned(),
        (false, true) => "every state within these bounds was visited".to_owned(),
        (false, false) => format!("there are more states within these bounds: {}", limit(options)),
    })?;
    for verdict in &report.verdicts {
        output::line(format!("  {}", judge(verdict, verbose)))?;
        if let Some(path) = verdict.path.as_ref().filter(|_| verdict.is_broken() || verbose) {
            show_path(path)?;
        }
    }
    if report.is_idle() {
        output::line("something that should happen never does: the roles, or the model, do too little")?;
    }
    Ok(())
}

/// What ended a search before everything was visited.
fn limit(options: &Options) -> String {
    match (options.search, options.depth, options.states) {
        (Search::Simulation { seed }, _, states) => {
            format!("{} of them were walked at random from seed {seed}", states.unwrap_or(SIMULATED_STATES))
        }
        (_, Some(depth), None) => format!("the search ended at {depth} steps"),
        (_, None, Some(states)) => format!("the search ended after about {states}"),
        _ => "the search ended at its limit of steps or of states".to_owned(),
    }
}

fn judge(verdict: &Verdict, verbose: bool) -> String {
    let name = verdict.name;
    match (verdict.claim, &verdict.path, verdict.needs) {
        (Claim::Always, None, _) => format!("always     {name}: holds"),
        (Claim::Always, Some(path), _) => format!("always     {name}: BROKEN in {} steps", path.len()),
        (Claim::Sometimes, None, Some(needs)) => format!("sometimes  {name}: ruled out by the bounds, needs {needs}"),
        (Claim::Sometimes, None, None) => format!("sometimes  {name}: NOT SEEN"),
        (Claim::Sometimes, Some(path), _) if verbose => format!("sometimes  {name}: seen in {} steps", path.len()),
        (Claim::Sometimes, Some(_), _) => format!("sometimes  {name}: seen"),
    }
}

fn show_path(path: &[Line]) -> Result<(), Failure> {
    for (number, line) in path.iter().enumerate() {
        output::line(format!("    {:>3}. {}", number + 1, line.action))?;
        for change in &line.changes {
            output::line(format!("           {change}"))?;
        }
    }
    Ok(())
}
