//! Running the checker over a model, and what it found, for people.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;
use std::time::Duration;

use stateright::report::{ReportData, ReportDiscovery, Reporter};
use stateright::{Checker, CheckerBuilder, Expectation, HasDiscoveries, Model, Path, Property, UniformChooser};

use super::{Options, Search};

/// What the checker needs of a state.
pub(super) trait Snapshot: Clone + fmt::Debug + Hash + PartialEq + Send + Sync + 'static {}
impl<T: Clone + fmt::Debug + Hash + PartialEq + Send + Sync + 'static> Snapshot for T {}

/// What the checker needs of a step.
pub(super) trait Step: Clone + fmt::Debug + PartialEq + Send + Sync + 'static {}
impl<T: Clone + fmt::Debug + PartialEq + Send + Sync + 'static> Step for T {}

/// A model that tells its paths to people.
pub(super) trait Told: Model<State: Snapshot, Action: Step> + Send + Sync + Sized + 'static {
    /// What happens in a step.
    fn tell(&self, action: &Self::Action) -> String;

    /// What it changed, a line for each thing.
    fn changes(&self, before: &Self::State, after: &Self::State) -> Vec<String>;

    /// What should happen sometimes. What the bounds rule out is not searched for.
    fn sometimes(&self) -> Vec<Sometimes<Self>>;
}

/// Something that should happen.
pub(super) struct Sometimes<M: Model> {
    pub(super) name: &'static str,
    pub(super) seen: fn(&M, &M::State) -> bool,
    /// The bound that rules it out, as the option that would let it happen.
    pub(super) needs: Option<&'static str>,
}

impl<M: Model> Sometimes<M> {
    pub(super) fn new(name: &'static str, seen: fn(&M, &M::State) -> bool) -> Sometimes<M> {
        Sometimes { name, seen, needs: None }
    }

    /// It takes a fault or a command that the bounds may not give.
    pub(super) fn needs(mut self, option: &'static str, given: bool) -> Sometimes<M> {
        if !given {
            self.needs.get_or_insert(option);
        }
        self
    }
}

/// The properties of a model: what must always hold, and what should happen within the bounds.
pub(super) fn properties<M: Told>(model: &M, mut always: Vec<Property<M>>) -> Vec<Property<M>> {
    let possible = model.sometimes().into_iter().filter(|one| one.needs.is_none());
    always.extend(possible.map(|one| Property::sometimes(one.name, one.seen)));
    always
}

/// What a property claims.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Claim {
    /// It holds in every state.
    Always,
    /// There is a state in which it holds: the model does something.
    Sometimes,
}

/// One line of a path, with what it changed below.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Line {
    /// What happened.
    pub action: String,
    /// What it changed.
    pub changes: Vec<String>,
}

/// A property, and the path that shows it: a counterexample of `Always`, an example of `Sometimes`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// The property.
    pub name: &'static str,
    /// What it claims.
    pub claim: Claim,
    /// A path to it, if one was found within the bounds: of a counterexample a shortest one if the search is by distance,
    /// of an example if [`Options::examples`] asks for it.
    pub path: Option<Vec<Line>>,
    /// The bounds rule it out; this option would let it happen.
    pub needs: Option<&'static str>,
}

impl Verdict {
    /// Whether the property is broken.
    pub fn is_broken(&self) -> bool {
        self.claim == Claim::Always && self.path.is_some()
    }

    /// Whether it should happen and was not found.
    pub fn is_missing(&self) -> bool {
        self.claim == Claim::Sometimes && self.path.is_none() && self.needs.is_none()
    }
}

/// How far a search has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Progress {
    /// States generated, repeated ones included.
    pub generated: usize,
    /// Different states; for a simulation, the same as `generated`.
    pub unique: usize,
    /// Steps of the longest path looked at.
    pub depth: usize,
    /// Since the search began.
    pub elapsed: Duration,
}

/// What a search has found.
#[derive(Clone, Debug)]
pub struct Report {
    /// How far it came.
    pub progress: Progress,
    /// Every state within the bounds of the model was visited; if not, a bound of the search was hit.
    pub exhausted: bool,
    /// A verdict for every property.
    pub verdicts: Vec<Verdict>,
}

impl Report {
    /// Whether a property is broken.
    pub fn is_broken(&self) -> bool {
        self.verdicts.iter().any(Verdict::is_broken)
    }

    /// Whether everything was visited, and something that should happen is not there.
    pub fn is_idle(&self) -> bool {
        self.exhausted && self.verdicts.iter().any(Verdict::is_missing)
    }

    /// Whether the check failed.
    pub fn failed(&self) -> bool {
        self.is_broken() || self.is_idle()
    }

    fn shortest_counterexample(&self) -> Option<usize> {
        let broken = self.verdicts.iter().filter(|verdict| verdict.is_broken());
        broken.filter_map(|verdict| verdict.path.as_ref().map(Vec::len)).min()
    }
}

struct Watch<'a> {
    tell: &'a (dyn Fn(Progress) + Sync),
    last: Progress,
}

impl<M: Model> Reporter<M> for Watch<'_> {
    fn report_checking(&mut self, data: ReportData) {
        self.last = Progress {
            generated: data.total_states,
            unique: data.unique_states,
            depth: data.max_depth.saturating_sub(1),
            elapsed: data.duration,
        };
        if !data.done {
            (self.tell)(self.last);
        }
    }

    fn report_discoveries(&mut self, _: &M, _: BTreeMap<&'static str, ReportDiscovery<M>>) {}

    fn delay(&self) -> Duration {
        Duration::from_millis(200)
    }
}

/// The checker counts states of a path, from 1, and leaves out those at its bound.
fn bound(depth: usize) -> usize {
    depth + 2
}

fn builder<M: Told>(model: M, options: &Options) -> CheckerBuilder<M> {
    let mut builder = model.checker().threads(options.threads).finish_when(HasDiscoveries::AnyFailures);
    if let Some(depth) = options.depth {
        builder = builder.target_max_depth(bound(depth));
    }
    if let Some(states) = options.states {
        builder = builder.target_state_count(states);
    }
    builder
}

/// Searches a model. A counterexample is followed by searches for shorter ones, until there is none: the checker looks
/// at many states at once, and keeps the last counterexample that it meets.
pub(super) fn explore<M: Told>(make: &dyn Fn() -> M, options: &Options, tell: &(dyn Fn(Progress) + Sync)) -> Report {
    let mut report = search(make(), options, tell);
    if options.search != Search::Breadth {
        return report;
    }
    while let Some(steps) = report.shortest_counterexample().filter(|steps| *steps > 0) {
        let next = search(make(), &exactly(options, steps - 1), tell);
        if !next.is_broken() {
            return report;
        }
        report = next;
    }
    if options.examples && !report.is_broken() {
        find_examples(make, options, tell, &mut report);
    }
    report
}

/// A search of everything up to some depth: with one thread states come by their distance, so none is left out.
fn exactly(options: &Options, depth: usize) -> Options {
    Options { depth: Some(depth), threads: 1, ..options.clone() }
}

/// Replaces the paths to what happens sometimes, of which the checker keeps the last that it meets, by shortest ones.
fn find_examples<M: Told>(
    make: &dyn Fn() -> M,
    options: &Options,
    tell: &(dyn Fn(Progress) + Sync),
    report: &mut Report,
) {
    let longest = report.verdicts.iter().filter_map(|verdict| verdict.path.as_ref().map(Vec::len)).max().unwrap_or(0);
    let mut open: Vec<&mut Verdict> = report.verdicts.iter_mut().filter(|verdict| verdict.path.is_some()).collect();
    for depth in 0..longest {
        if open.is_empty() {
            return;
        }
        let found = search(make(), &exactly(options, depth), tell).verdicts;
        open.retain_mut(|verdict| {
            let shorter = found.iter().find(|other| other.name == verdict.name).and_then(|other| other.path.clone());
            let is_found = shorter.is_some();
            if is_found {
                verdict.path = shorter;
            }
            !is_found
        });
    }
}

fn search<M: Told>(model: M, options: &Options, tell: &(dyn Fn(Progress) + Sync)) -> Report {
    let mut watch = Watch { tell, last: Progress::default() };
    let builder = builder(model, options);
    match options.search {
        Search::Breadth => report(&builder.spawn_bfs().join_and_report(&mut watch), &watch.last, options),
        Search::Depth => report(&builder.spawn_dfs().join_and_report(&mut watch), &watch.last, options),
        Search::Simulation { seed } => {
            let checker = builder.spawn_simulation(seed, UniformChooser);
            report(&checker.join_and_report(&mut watch), &watch.last, options)
        }
    }
}

fn report<M: Told>(checker: &impl Checker<M>, progress: &Progress, options: &Options) -> Report {
    let model = checker.model();
    let mut paths = checker.discoveries();
    let mut verdict = |name, claim, needs| {
        let path = paths.remove(name).map(|path| lines(model, path));
        Verdict { name, claim, path, needs }
    };
    let always = model.properties().into_iter().filter(|property| property.expectation == Expectation::Always);
    let mut verdicts: Vec<Verdict> = always.map(|property| verdict(property.name, Claim::Always, None)).collect();
    verdicts.extend(model.sometimes().into_iter().map(|one| verdict(one.name, Claim::Sometimes, one.needs)));
    let broken = verdicts.iter().any(Verdict::is_broken);
    let deep = options.depth.is_some_and(|depth| progress.depth + 1 >= bound(depth));
    let many = options.states.is_some_and(|states| progress.generated >= states);
    let exhaustive = !matches!(options.search, Search::Simulation { .. });
    // States beyond the bound were generated, and not looked at.
    let depth = options.depth.map_or(progress.depth, |depth| depth.min(progress.depth));
    let progress = Progress { depth, ..*progress };
    Report { progress, exhausted: exhaustive && !broken && !deep && !many, verdicts }
}

fn lines<M: Told>(model: &M, path: Path<M::State, M::Action>) -> Vec<Line> {
    let steps = path.into_vec();
    let pairs = steps.iter().zip(steps.iter().skip(1));
    pairs
        .filter_map(|((before, action), (after, _))| {
            let action = model.tell(action.as_ref()?);
            Some(Line { action, changes: model.changes(before, after) })
        })
        .collect()
}

/// Serves the library's explorer until the process ends.
pub(super) fn serve<M: Told>(model: M, options: &Options, address: SocketAddr) {
    builder(model, options).serve(address);
}
