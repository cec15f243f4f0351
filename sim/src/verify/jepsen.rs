//! Histories in the form of Jepsen: one EDN map for each event, `{:process 3, :type :invoke, :f :cas, :value [1 2]}`.
//!
//! A register has `read`, `write` and `cas`; a key-value store `get`, `put` and `append`, with a `:key`. Where every
//! value is `[key value]` there is a register for each key, as `jepsen.independent` has it. What is `:fail` has not
//! happened; of what is `:info`, or never returns, nobody knows. Other processes than numbers, such as `:nemesis`, are
//! not judged.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::edn::{self, BadEdn, Edn};
use super::linear::{Operation, State, Step};

/// A history that can be judged key by key.
#[derive(Debug)]
pub struct Registers {
    /// The operations on each key; one register alone has the key "".
    pub keys: BTreeMap<String, Vec<Operation>>,
    /// By the operations' names: what was asked and told, and where.
    pub told: Vec<Told>,
    /// What a key has in the beginning.
    pub initial: State,
}

/// An operation as it stands in the file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told {
    /// The line on which it is called.
    pub call: usize,
    /// The line on which it returns, if it does.
    pub returned: Option<usize>,
    /// Who.
    pub process: i64,
    /// What, as far as it is known.
    pub what: String,
}

struct Event<'a> {
    line: usize,
    process: i64,
    kind: &'a str,
    function: &'a str,
    key: Option<&'a Edn>,
    value: &'a Edn,
}

/// Reads a history.
///
/// # Errors
/// At the first line that is none: no EDN, an unknown operation, a return without a call, or a second call of a process
/// before the first has returned.
pub fn read(text: &str) -> Result<Registers, BadEdn> {
    let values = edn::read(text)?;
    let mut events = Vec::with_capacity(values.len());
    for (line, value) in &values {
        events.extend(event(*line, value).map_err(|what| BadEdn { line: *line, what })?);
    }
    let mut reader = Reader { is_keyed: is_keyed(&events), ..Reader::default() };
    for (at, event) in (0..).zip(&events) {
        reader.take(at, event).map_err(|what| BadEdn { line: event.line, what })?;
    }
    for (called, at) in std::mem::take(&mut reader.open).into_values() {
        let line = called.line;
        reader.end((called, at), None).map_err(|what| BadEdn { line, what })?;
    }
    let initial = State::known(if reader.is_store { "" } else { "nil" });
    Ok(Registers { keys: reader.keys, told: reader.told, initial })
}

/// The event; nothing if it is none of a numbered process.
fn event(line: usize, value: &Edn) -> Result<Option<Event<'_>>, String> {
    let Edn::Map(_) = value else { return Err(format!("`{value}` is no event: a map is")) };
    let field = |name: &str| value.get(name).ok_or_else(|| format!("the event has no :{name}"));
    let Edn::Int(process) = field("process")? else { return Ok(None) };
    let word = |name: &str| match field(name)? {
        Edn::Keyword(word) => Ok(word.as_str()),
        other => Err(format!(":{name} is `{other}`: a keyword is allowed")),
    };
    let (kind, function) = (word("type")?, word("f")?);
    let key = value.get("key");
    Ok(Some(Event { line, process: *process, kind, function, key, value: value.get("value").unwrap_or(&Edn::Nil) }))
}

/// Whether every value is a pair of a key and a value.
fn is_keyed(events: &[Event<'_>]) -> bool {
    let is_pair = |event: &Event<'_>| match (event.function, event.value) {
        ("cas", Edn::List(pair)) => matches!(&pair[..], [_, Edn::List(_)]),
        (_, Edn::List(pair)) => pair.len() == 2,
        _ => false,
    };
    !events.is_empty() && events.iter().all(|event| event.key.is_none() && is_pair(event))
}

#[derive(Default)]
struct Reader<'a> {
    is_keyed: bool,
    is_store: bool,
    keys: BTreeMap<String, Vec<Operation>>,
    told: Vec<Told>,
    // What each process has called, and when.
    open: BTreeMap<i64, (&'a Event<'a>, u64)>,
}

impl<'a> Reader<'a> {
    fn take(&mut self, at: u64, event: &'a Event<'a>) -> Result<(), String> {
        if event.kind == "invoke" {
            return match self.open.insert(event.process, (event, at)) {
                None => Ok(()),
                Some((before, _)) => Err(format!(
                    "process {} calls again, and what it called on line {} has not returned",
                    event.process, before.line
                )),
            };
        }
        let Some(called) = self.open.remove(&event.process) else {
            return Err(format!("process {} returns from what it has not called", event.process));
        };
        if called.0.function != event.function {
            let (function, line) = (called.0.function, called.0.line);
            return Err(format!(
                "process {} returns from :{}, and has called :{function} on line {line}",
                event.process, event.function
            ));
        }
        match event.kind {
            "ok" => self.end(called, Some((event, at))),
            "info" => self.end(called, None),
            "fail" => Ok(()),
            other => Err(format!(":type is :{other}: :invoke, :ok, :fail and :info are allowed")),
        }
    }

    /// Takes in what was called and may have taken effect.
    fn end(&mut self, (called, call): (&Event<'_>, u64), returned: Option<(&Event<'_>, u64)>) -> Result<(), String> {
        // What was read stands where it returns.
        let (key, value) = self.pair(returned.map_or(called, |(event, _)| event), called)?;
        let step = self.step(called.function, value, returned.is_some())?;
        let name = self.told.len();
        let what =
            format!(":{} {}{value}", called.function, if key.is_empty() { String::new() } else { format!("{key} ") });
        let (process, line) = (called.process, returned.map(|(event, _)| event.line));
        self.told.push(Told { call: called.line, returned: line, process, what });
        if let Some(step) = step {
            let returned = returned.map(|(_, at)| at);
            self.keys.entry(key).or_default().push(Operation { name, call, returned, step });
        }
        Ok(())
    }

    fn pair<'e>(&self, event: &Event<'e>, called: &Event<'_>) -> Result<(String, &'e Edn), String> {
        if let Some(key) = event.key.map(ToString::to_string).or(called.key.map(ToString::to_string)) {
            return Ok((key, event.value));
        }
        match event.value {
            Edn::List(pair) if self.is_keyed && pair.len() == 2 => Ok((pair[0].to_string(), &pair[1])),
            value => Ok((String::new(), value)),
        }
    }

    /// What it does; nothing if it only reads and nobody knows what.
    fn step(&mut self, function: &str, value: &Edn, is_known: bool) -> Result<Option<Step>, String> {
        let text = |value: &Edn| -> Rc<str> { value.to_string().into() };
        let content = |value: &Edn| -> Result<Rc<str>, String> {
            match value {
                Edn::Text(text) => Ok(text.as_str().into()),
                Edn::Nil => Ok("".into()),
                other => Err(format!("`{other}` is no text")),
            }
        };
        self.is_store |= matches!(function, "get" | "put" | "append");
        Ok(match function {
            "read" | "get" if !is_known => None,
            "read" => Some(Step::Read(text(value))),
            "write" => Some(Step::Write(text(value))),
            "cas" => match value {
                Edn::List(pair) if pair.len() == 2 => Some(Step::Cas(text(&pair[0]), text(&pair[1]))),
                other => return Err(format!("`{other}` is no pair of an old and a new value")),
            },
            "get" => Some(Step::Read(content(value)?)),
            "put" => Some(Step::Write(content(value)?)),
            "append" => Some(Step::Append(content(value)?)),
            other => return Err(format!(":{other} is no operation: :read, :write, :cas, :get, :put and :append are")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<(String, usize)> {
        let registers = read(text).expect("a history");
        registers.keys.iter().map(|(key, operations)| (key.clone(), operations.len())).collect()
    }

    fn bad(text: &str) -> String {
        let bad = read(text).expect_err("no history");
        format!("{}: {}", bad.line, bad.what)
    }

    #[test]
    fn a_register_and_its_unknown_operations_are_read() {
        let registers = read(
            "{:process 0, :type :invoke, :f :write, :value 3}\n\
             {:process 1, :type :invoke, :f :read, :value nil}\n\
             {:process :nemesis, :type :info, :f :kill, :value nil}\n\
             {:process 1, :type :ok, :f :read, :value 3}\n\
             {:process 1, :type :invoke, :f :cas, :value [3 4]}\n\
             {:process 1, :type :fail, :f :cas, :value [3 4]}\n\
             {:process 0, :type :info, :f :write, :value 3}\n\
             {:process 2, :type :invoke, :f :cas, :value [3 5]}",
        )
        .expect("a history");
        let operations = &registers.keys[""];
        let steps: Vec<_> = operations.iter().map(|it| (&it.step, it.call, it.returned)).collect();
        assert_eq!(
            steps,
            [
                (&Step::Read("3".into()), 1, Some(2)),
                (&Step::Write("3".into()), 0, None),
                (&Step::Cas("3".into(), "5".into()), 6, None)
            ]
        );
        let read = Told { call: 2, returned: Some(4), process: 1, what: ":read 3".into() };
        assert_eq!(registers.told[operations[0].name], read);
    }

    #[test]
    fn keys_are_told_apart_in_each_of_the_forms() {
        let store = "{:process 0, :type :invoke, :f :put, :key \"a\", :value \"x\"}\n\
                     {:process 0, :type :ok, :f :put, :key \"a\", :value \"x\"}\n\
                     {:process 0, :type :invoke, :f :get, :key \"b\", :value nil}\n\
                     {:process 0, :type :ok, :f :get, :key \"b\", :value \"\"}";
        assert_eq!(keys(store), [("\"a\"".into(), 1), ("\"b\"".into(), 1)]);
        let independent = "[{:process 0, :type :invoke, :f :write, :value [7 1]}\n\
                           {:process 0, :type :ok, :f :write, :value [7 1]}\n\
                           {:process 0, :type :invoke, :f :cas, :value [8 [nil 2]]}\n\
                           {:process 0, :type :ok, :f :cas, :value [8 [nil 2]]}]";
        assert_eq!(keys(independent), [("7".into(), 1), ("8".into(), 1)]);
    }

    #[test]
    fn what_is_no_history_is_refused_with_its_line() {
        let call = "{:process 0, :type :invoke, :f :read, :value nil}\n";
        assert_eq!(bad(&call.repeat(2)), "2: process 0 calls again, and what it called on line 1 has not returned");
        assert_eq!(
            bad("{:process 0, :type :ok, :f :read, :value nil}"),
            "1: process 0 returns from what it has not called"
        );
        assert_eq!(
            bad(&format!("{call}{{:process 0, :type :ok, :f :write, :value 1}}")),
            "2: process 0 returns from :write, and has called :read on line 1"
        );
        assert_eq!(
            bad(&format!("{call}{{:process 0, :type :done, :f :read}}")),
            "2: :type is :done: :invoke, :ok, :fail and :info are allowed"
        );
        assert_eq!(bad("7"), "1: `7` is no event: a map is");
        assert_eq!(bad("{:process 0, :f :read}"), "1: the event has no :type");
        assert_eq!(
            bad("{:process 0, :type :invoke, :f :pop}"),
            "1: :pop is no operation: :read, :write, :cas, :get, :put and :append are"
        );
    }
}
