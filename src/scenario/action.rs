//! The text of one transaction.

use drachma_protocol::ids::{AccountId, NodeId};

use super::csv::{Wrong, record, trim};
use super::{Action, Level};
use crate::settings::units;

type Read = Result<(Action, Level), Wrong>;

const FORMS: &str = "(from, to, amount), (account), either with a level, PEND(label, from, to, amount), \
                     POST(label, from, to), VOID(label, from, to), F(node), R(node) or LF";
const MEMBERS: &str = "(from, to, amount), PEND, POST or VOID in a chain";
const LEVELS: &str = "a level (linearizable, quorum, all, session, ryw, any or eventual)";

/// Reads one transaction of the scenario form. Places in errors count from the start of `text`.
pub(super) fn transaction(text: &str) -> Read {
    if text.eq_ignore_ascii_case("LF") {
        return Ok((Action::FailLeader, Level::default()));
    }
    if text.contains('+') {
        return members(text).map(|(_, level)| (Action::Chain, level));
    }
    single(text)
}

/// Reads the members of a chain, `(1, 2, 3) + POST(7, 2, 4)`. Its level stands in the last one.
pub(super) fn members(text: &str) -> Result<(Vec<Action>, Level), Wrong> {
    let (mut members, mut level) = (Vec::new(), Level::default());
    let (mut start, mut last) = (0, 0..0);
    // One by one: what is no chain takes no memory for its members.
    for part in text.split('+') {
        let range = trim(text, start..start + part.len());
        start += part.len() + 1;
        if level != Level::default() {
            return Err(Wrong::new(last.start, "a level in the last member of a chain only", &text[last]));
        }
        let member = single(&text[range.clone()]);
        let (action, own) = member.map_err(|wrong| Wrong { at: wrong.at + range.start, ..wrong })?;
        if !matches!(action, Action::Transfer { .. }) && !action.is_transaction() {
            return Err(Wrong::new(range.start, MEMBERS, &text[range]));
        }
        members.push(action);
        (level, last) = (own, range);
    }
    Ok((members, level))
}

fn single(text: &str) -> Read {
    let Some(open) = text.find('(') else { return Err(Wrong::new(0, FORMS, text)) };
    let Some(inner) = text[open + 1..].strip_suffix(')') else {
        return Err(Wrong::new(text.len(), "a closing parenthesis", ""));
    };
    let verb = text[..open].trim();
    let inner = Span { text, start: open + 1, end: open + 1 + inner.len() };
    match verb {
        "" => money(&inner),
        _ if verb.eq_ignore_ascii_case("PEND") => pend(&inner),
        _ if verb.eq_ignore_ascii_case("POST") => post(&inner),
        _ if verb.eq_ignore_ascii_case("VOID") => void(&inner),
        "F" | "f" => Ok((Action::Fail(inner.node()?), Level::default())),
        "R" | "r" => Ok((Action::Recover(inner.node()?), Level::default())),
        _ => Err(Wrong::new(0, FORMS, text)),
    }
}

/// Reads one line of the plain form.
pub(super) fn plain(text: &str) -> Read {
    let mut cells = Vec::with_capacity(3);
    record(text, 0, &mut cells)?;
    let cell = |index: usize| cells.get(index).map(|cell| Span { text, start: cell.start, end: cell.end });
    let missing = || Wrong::new(text.len(), "from,to,amount", "");
    let debit = cell(0).ok_or_else(missing)?.account()?;
    let credit = cell(1).ok_or_else(missing)?.account()?;
    let amount = cell(2).ok_or_else(missing)?.number("an amount")?;
    if let Some(extra) = cells.iter().skip(3).find(|cell| !cell.is_empty()) {
        return Err(Wrong::new(extra.start, "nothing after from,to,amount", &text[extra.clone()]));
    }
    Ok((Action::Transfer { debit, credit, amount }, Level::default()))
}

/// Reads a list of nodes such as `[n1, S2]`; without brackets, too.
pub(super) fn nodes(text: &str) -> Result<Vec<NodeId>, Wrong> {
    let list = match text.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').ok_or_else(|| Wrong::new(text.len(), "a closing bracket", ""))?,
        None => text,
    };
    let start = usize::from(text.starts_with('['));
    let list = Span { text, start, end: start + list.len() };
    if list.get().trim().is_empty() {
        return Ok(Vec::new());
    }
    list.split(',').iter().map(Span::node).collect()
}

fn money(inner: &Span<'_>) -> Read {
    let elements = inner.split(',');
    match elements.as_slice() {
        [account] => Ok((Action::Balance(account.account()?), Level::default())),
        [account, level] => Ok((Action::Balance(account.account()?), level.level()?)),
        [debit, credit, amount, rest @ ..] if rest.len() <= 1 => {
            let (debit, credit) = (debit.account()?, credit.account()?);
            let amount = amount.number("an amount")?;
            let level = rest.first().map_or(Ok(Level::default()), Span::level)?;
            Ok((Action::Transfer { debit, credit, amount }, level))
        }
        [_, _, _, _, fifth, ..] => Err(Wrong::new(fifth.trimmed().start, "a closing parenthesis", fifth.get())),
        _ => Err(Wrong::new(inner.start, FORMS, inner.get())),
    }
}

fn pend(inner: &Span<'_>) -> Read {
    let elements = inner.split(',');
    let [label, debit, credit, amount, rest @ ..] = elements.as_slice() else {
        return Err(Wrong::new(inner.start, "PEND(label, from, to, amount), with a duration or a level", inner.get()));
    };
    let (label, debit, credit) = (label.label()?, debit.account()?, credit.account()?);
    let amount = amount.number("an amount")?;
    let (expires, level) = match rest {
        [] => (0, Level::default()),
        [only] if only.begins_with_digit() => (only.duration()?, Level::default()),
        [only] => (0, only.level()?),
        [expires, level] => (expires.duration()?, level.level()?),
        [_, _, extra, ..] => return Err(extra.wrong("a closing parenthesis")),
    };
    Ok((Action::Pend { label, debit, credit, amount, expires }, level))
}

fn post(inner: &Span<'_>) -> Read {
    let elements = inner.split(',');
    let [label, debit, credit, rest @ ..] = elements.as_slice() else {
        return Err(Wrong::new(inner.start, "POST(label, from, to), with an amount or a level", inner.get()));
    };
    let (label, debit, credit) = (label.label()?, debit.account()?, credit.account()?);
    let (amount, level) = match rest {
        [] => (None, Level::default()),
        [only] if only.begins_with_digit() => (Some(only.number("an amount")?), Level::default()),
        [only] => (None, only.level()?),
        [amount, level] => (Some(amount.number("an amount")?), level.level()?),
        [_, _, extra, ..] => return Err(extra.wrong("a closing parenthesis")),
    };
    Ok((Action::Post { label, debit, credit, amount }, level))
}

fn void(inner: &Span<'_>) -> Read {
    let elements = inner.split(',');
    let [label, debit, credit, rest @ ..] = elements.as_slice() else {
        return Err(Wrong::new(inner.start, "VOID(label, from, to), perhaps with a level", inner.get()));
    };
    let (label, debit, credit) = (label.label()?, debit.account()?, credit.account()?);
    let level = match rest {
        [] => Level::default(),
        [level] => level.level()?,
        [_, extra, ..] => return Err(extra.wrong("a closing parenthesis")),
    };
    Ok((Action::Void { label, debit, credit }, level))
}

/// A part of a text that knows where it stands.
struct Span<'a> {
    text: &'a str,
    start: usize,
    end: usize,
}

impl<'a> Span<'a> {
    fn get(&self) -> &'a str {
        &self.text[self.start..self.end]
    }

    fn trimmed(&self) -> std::ops::Range<usize> {
        trim(self.text, self.start..self.end)
    }

    fn split(&self, separator: char) -> Vec<Span<'a>> {
        let mut start = self.start;
        let part = |piece: &str| {
            let span = Span { text: self.text, start, end: start + piece.len() };
            start = span.end + separator.len_utf8();
            span
        };
        self.get().split(separator).map(part).collect()
    }

    fn wrong(&self, expected: &str) -> Wrong {
        let trimmed = self.trimmed();
        Wrong::new(trimmed.start, expected, &self.text[trimmed])
    }

    fn number(&self, what: &str) -> Result<u128, Wrong> {
        let digits = &self.text[self.trimmed()];
        let wrong = || self.wrong(&format!("{what}, a whole number from 0 to 2^128-1"));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        digits.parse().map_err(|_| wrong())
    }

    fn account(&self) -> Result<AccountId, Wrong> {
        self.number("an account").map(AccountId)
    }

    fn label(&self) -> Result<u64, Wrong> {
        let label = self.number("a label")?;
        u64::try_from(label).map_err(|_| self.wrong("a label, a whole number from 0 to 2^64-1"))
    }

    fn begins_with_digit(&self) -> bool {
        self.get().trim_start().starts_with(|first: char| first.is_ascii_digit())
    }

    /// In microseconds.
    fn duration(&self) -> Result<u64, Wrong> {
        let duration = units::parse(&self.text[self.trimmed()]).ok();
        let micros = duration.and_then(|duration| u64::try_from(duration.as_micros()).ok());
        micros.ok_or_else(|| self.wrong("a duration such as 500ms or 30s"))
    }

    fn node(&self) -> Result<NodeId, Wrong> {
        let name = &self.text[self.trimmed()];
        let number = name.strip_prefix(['n', 'N', 'S', 's']).unwrap_or_default();
        format!("n{number}").parse().map_err(|_| self.wrong("a node such as n1 or S1"))
    }

    fn level(&self) -> Result<Level, Wrong> {
        self.text[self.trimmed()].parse().map_err(|_| self.wrong(LEVELS))
    }
}
