//! A run that is not quite its seed's: parts of what the seed draws are left out or made smaller.
//!
//! Everything has a stream of its own (the shape, each client, each node, each fault), so what is left happens as it
//! would have, as far as it can. `drachma sim --seed 7 --with clients=1,faults=2` says it on the command line.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use drachma_protocol::rng::Rng;

use crate::faults::{FaultKind, Swarm};

/// What determines a run.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// What draws everything.
    pub seed: u64,
    /// What is otherwise than drawn.
    pub with: Overrides,
}

impl Plan {
    /// A seed as it is.
    pub fn of(seed: u64) -> Plan {
        Plan { seed, with: Overrides::default() }
    }

    /// What the run is, and the stream that everything in it forks from.
    pub fn draw(&self) -> (Swarm, Rng) {
        let mut rng = Rng::new(self.seed);
        let mut swarm = Swarm::draw(&mut rng);
        self.with.apply(&mut swarm);
        if let Some(variation) = self.with.number("vary").filter(|variation| *variation > 0) {
            rng = Rng::new(rng.next_u64() ^ variation.wrapping_mul(0xd134_2543_de82_ef95));
        }
        (swarm, rng)
    }
}

/// The command that runs it again.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drachma sim --seed {}", self.seed)?;
        if self.with.is_empty() { Ok(()) } else { write!(f, " --with {}", self.with) }
    }
}

/// A number of a run that can be set.
struct Knob {
    name: &'static str,
    least: u64,
    most: u64,
    // What the run has.
    get: fn(&Swarm) -> u64,
    set: fn(&mut Swarm, u64),
}

fn replicas(swarm: &Swarm) -> u64 {
    swarm.shape.groups.iter().map(|(_, nodes)| nodes.len()).max().unwrap_or(1) as u64
}

const fn knob(name: &'static str, most: u64, get: fn(&Swarm) -> u64, set: fn(&mut Swarm, u64)) -> Knob {
    Knob { name, least: 0, most, get, set }
}

impl Knob {
    const fn at_least(mut self, least: u64) -> Knob {
        self.least = least;
        self
    }
}

/// Every number that can be set, in the order in which they are said and applied.
const KNOBS: &[Knob] = &[
    knob("clients", 1000, |s| s.client_count.into(), |s, n| s.client_count = n as u32).at_least(1),
    knob("operations", 1_000_000, |s| s.clients.operations, |s, n| s.clients.operations = n),
    knob("in-flight", 1000, |s| s.clients.in_flight, |s, n| s.clients.in_flight = n).at_least(1),
    knob("batch", 100, |s| s.clients.largest_batch, |s, n| s.clients.largest_batch = n).at_least(1),
    // These two can only take away: what a seed has not drawn is not there.
    knob("groups", 1000, |s| s.shape.groups.len() as u64, |s, n| s.shape.restrict(n as usize, usize::MAX)).at_least(1),
    knob("replicas", 1000, replicas, |s, n| s.shape.restrict(usize::MAX, n as usize)).at_least(1),
    knob("faults", 1_000_000, |s| s.withheld.from.unwrap_or(u64::MAX), |s, n| s.withheld.from = Some(n)),
    knob("loss", 1000, |s| s.network.loss, |s, n| s.network.loss = n),
    knob("duplicate", 1000, |s| s.network.duplicate, |s, n| s.network.duplicate = n),
    knob("straggler", 1000, |s| s.network.straggler, |s, n| s.network.straggler = n),
    knob("slow", 1000, |s| s.disk.slow, |s, n| s.disk.slow = n),
    knob("torn", 1000, |s| s.disk.torn, |s, n| s.disk.torn = n),
    knob("moves", 3_600_000_000, |s| s.moves.unwrap_or(0), |s, n| s.moves = (n > 0).then_some(n)),
    knob("vary", u64::MAX, |_| 0, |_, _| {}),
];

/// The longest safety phase, in microseconds.
const LONGEST: u64 = 3_600_000_000;

/// What is otherwise than the seed draws it. Its text is a list such as `clients=1,kinds=kill+pause,safety=1.2s`; see
/// [`Overrides::HELP`].
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Overrides {
    numbers: BTreeMap<&'static str, u64>,
    kinds: Option<BTreeSet<FaultKind>>,
    skip: BTreeSet<u64>,
    safety: Option<u64>,
    liveness: Option<u64>,
}

impl Overrides {
    /// What can be said.
    pub const HELP: &'static str = "\
clients=N operations=N (of each) in-flight=N batch=N; groups=N replicas=N (at most what the seed draws); \
kinds=KIND+KIND (or none) faults=N (only the first N) skip=N+N (not these, counted from 0); safety=DURATION (of faults and load) liveness=DURATION (to come \
to rest: too short, and a sound run fails); \
loss=N duplicate=N straggler=N (of 1000 messages) slow=N (of 1000 syncs) torn=N (of 1000 power losses); \
moves=N (microseconds between two hand-overs of leadership; 0 for none) \
vary=N (other draws within the same run)";

    /// Whether everything is as drawn.
    pub fn is_empty(&self) -> bool {
        *self == Overrides::default()
    }

    /// A number that was set.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.numbers.get(name).copied()
    }

    /// What a run has of this; nothing if there is no such number.
    pub fn found(swarm: &Swarm, name: &str) -> Option<u64> {
        KNOBS.iter().find(|knob| knob.name == name).map(|knob| (knob.get)(swarm))
    }

    /// With this number set.
    ///
    /// # Errors
    /// What is allowed.
    pub fn set(mut self, name: &str, value: u64) -> Result<Overrides, String> {
        let Some(knob) = KNOBS.iter().find(|knob| knob.name == name) else {
            return Err(format!("there is no `{name}`; there are: {}", Overrides::HELP));
        };
        if !(knob.least..=knob.most).contains(&value) {
            return Err(format!("{name} is {value}, not from {} to {}", knob.least, knob.most));
        }
        self.numbers.insert(knob.name, value);
        Ok(self)
    }

    /// With only these kinds of faults.
    pub fn only(mut self, kinds: BTreeSet<FaultKind>) -> Overrides {
        self.kinds = Some(kinds);
        self
    }

    /// Without this fault, counted from 0.
    pub fn without(mut self, fault: u64) -> Overrides {
        self.skip.insert(fault);
        self
    }

    /// With a safety phase of so many microseconds.
    pub fn safety(mut self, length: u64) -> Overrides {
        self.safety = Some(length);
        self
    }

    /// With so many microseconds to come to rest; nothing for what is drawn.
    pub fn liveness(mut self, length: Option<u64>) -> Overrides {
        self.liveness = length;
        self
    }

    /// Whether the time to come to rest is otherwise than drawn.
    pub fn has_liveness(&self) -> bool {
        self.liveness.is_some()
    }

    /// Changes what was drawn.
    pub fn apply(&self, swarm: &mut Swarm) {
        for knob in KNOBS {
            if let Some(value) = self.numbers.get(knob.name) {
                (knob.set)(swarm, *value);
            }
        }
        if let Some(kinds) = &self.kinds {
            swarm.withheld.kinds = FaultKind::ALL.into_iter().filter(|kind| !kinds.contains(kind)).collect();
        }
        swarm.withheld.numbers.extend(&self.skip);
        swarm.safety = self.safety.unwrap_or(swarm.safety);
        swarm.liveness = self.liveness.or(swarm.liveness);
    }
}

/// A kind's name in a list: that of the type, in small letters with hyphens.
pub fn kind_name(kind: FaultKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn join(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<String>>().join("+")
}

impl fmt::Display for Overrides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = KNOBS.iter().filter_map(|knob| Some(format!("{}={}", knob.name, self.numbers.get(knob.name)?)));
        let mut parts: Vec<String> = numbers.collect();
        match &self.kinds {
            Some(kinds) if kinds.is_empty() => parts.push("kinds=none".to_owned()),
            Some(kinds) => parts.push(format!("kinds={}", join(kinds.iter().map(|kind| kind_name(*kind))))),
            None => {}
        }
        if !self.skip.is_empty() {
            parts.push(format!("skip={}", join(self.skip.iter().map(u64::to_string))));
        }
        for (name, length) in [("safety", self.safety), ("liveness", self.liveness)] {
            parts.extend(length.map(|length| {
                let text = format!("{}.{:06}", length / 1_000_000, length % 1_000_000);
                format!("{name}={}s", text.trim_end_matches('0').trim_end_matches('.'))
            }));
        }
        f.write_str(&parts.join(","))
    }
}

impl FromStr for Overrides {
    type Err = String;

    fn from_str(text: &str) -> Result<Overrides, String> {
        let mut with = Overrides::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((name, value)) = part.split_once('=') else {
                return Err(format!("`{part}` is not NAME=VALUE; there are: {}", Overrides::HELP));
            };
            with = match name {
                "kinds" => with.only(parse_kinds(value)?),
                "skip" => value.split('+').try_fold(with, |with, one| Ok::<_, String>(with.without(number(one)?)))?,
                "safety" => with.safety(duration(value)?),
                "liveness" => with.liveness(Some(duration(value)?)),
                _ => match KNOBS.iter().any(|knob| knob.name == name) {
                    true => with.set(name, number(value)?)?,
                    false => with.set(name, 0)?,
                },
            };
        }
        Ok(with)
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("`{text}` is not a number"))
}

fn parse_kinds(text: &str) -> Result<BTreeSet<FaultKind>, String> {
    if text == "none" {
        return Ok(BTreeSet::new());
    }
    let known = |name: &str| FaultKind::ALL.into_iter().find(|kind| kind_name(*kind) == name);
    text.split('+')
        .map(|name| {
            let all = || join(FaultKind::ALL.into_iter().map(kind_name));
            known(name).ok_or_else(|| format!("there is no kind of fault `{name}`; there are: {}", all()))
        })
        .collect()
}

/// Microseconds from a text such as `1.2s`, `300ms` or `15us`.
fn duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a duration such as 1.2s, 300ms or 15us, of at most an hour");
    let units = [("us", 0), ("ms", 3), ("s", 6)];
    let (digits, places) =
        units.into_iter().find_map(|(unit, places)| Some((text.strip_suffix(unit)?, places))).ok_or_else(wrong)?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if fraction.len() > places || whole.len() > 10 || whole.is_empty() || !is_digits(whole) || !is_digits(fraction) {
        return Err(wrong());
    }
    let all: u64 = format!("{whole}{fraction:0<places$}").parse().map_err(|_| wrong())?;
    if all > LONGEST { Err(wrong()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for text in [
            "",
            "clients=1,operations=5,faults=2,kinds=kill+pause,safety=1.2s",
            "in-flight=1,batch=1,groups=1,replicas=3,loss=0,duplicate=0,straggler=0,slow=0,torn=0,vary=17",
            "kinds=none",
            "kinds=one-way+client-cut+power-loss,skip=0+3+12,safety=0.000015s,liveness=100s",
        ] {
            let with: Overrides = text.parse().expect("it is allowed");
            let said = with.to_string();
            assert_eq!(said.parse::<Overrides>(), Ok(with), "{said}");
            let sorted = |text: &str| text.split(',').map(str::to_owned).collect::<BTreeSet<String>>();
            assert!(sorted(text).len() == sorted(&said).len(), "{text} became {said}");
        }
        assert_eq!("safety=300ms".parse::<Overrides>().map(|with| with.to_string()), Ok("safety=0.3s".to_owned()));
    }

    #[test]
    fn what_is_not_allowed_is_named_with_what_is() {
        for (text, part) in [
            ("clients", "`clients` is not NAME=VALUE; there are: clients=N"),
            ("clients=x", "`x` is not a number"),
            ("clients=0", "clients is 0, not from 1 to 1000"),
            ("loss=1001", "loss is 1001, not from 0 to 1000"),
            ("colour=3", "there is no `colour`; there are: clients=N"),
            ("colour=red", "there is no `colour`; there are: clients=N"),
            ("kinds=kill+fire", "there is no kind of fault `fire`; there are: partition+one-way"),
            ("skip=1-2", "`1-2` is not a number"),
            ("safety=5", "`5` is not a duration"),
            ("safety=1.2us", "not a duration"),
            ("safety=3601s", "at most an hour"),
        ] {
            let said = text.parse::<Overrides>().expect_err("it is not allowed");
            assert!(said.contains(part), "{text}: {said}");
        }
    }

    #[test]
    fn every_number_reaches_the_run() {
        for knob in KNOBS.iter().filter(|knob| knob.name != "vary") {
            let value = knob.least.max(1);
            let with = Overrides::default().set(knob.name, value).expect("it is allowed");
            let (swarm, _) = Plan { seed: 3, with }.draw();
            assert_eq!(Overrides::found(&swarm, knob.name), Some(value), "{}", knob.name);
        }
        let with: Overrides = "kinds=kill,skip=4,safety=2s".parse().expect("it is allowed");
        let (swarm, _) = Plan { seed: 3, with }.draw();
        assert!(swarm.withheld.kinds.contains(&FaultKind::Pause) && !swarm.withheld.kinds.contains(&FaultKind::Kill));
        assert_eq!((swarm.withheld.numbers, swarm.safety), (BTreeSet::from([4]), 2_000_000));
    }

    #[test]
    fn a_variation_has_the_same_run_and_other_draws() {
        let draw = |vary| Plan { seed: 3, with: Overrides::default().set("vary", vary).expect("it is allowed") }.draw();
        let ((plain, mut a), (varied, mut b)) = (draw(0), draw(1));
        assert_eq!(format!("{plain:?}"), format!("{varied:?}"));
        assert_ne!(a.next_u64(), b.next_u64());
        assert_eq!(draw(0).1.next_u64(), Plan::of(3).draw().1.next_u64());
    }
}
