//! The part of EDN (the Extensible Data Notation of Clojure) that histories are written in, with the line of each value.

use std::fmt;

/// Values may be nested so deep.
const DEPTH: u32 = 64;

/// A value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Edn {
    /// `nil`.
    Nil,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A text.
    Text(String),
    /// `:name`, without the colon.
    Keyword(String),
    /// Anything else that is one word: a symbol, a fraction, a character.
    Word(String),
    /// `[...]`, `(...)` or `#{...}`.
    List(Vec<Edn>),
    /// `{...}`, in the order of the text.
    Map(Vec<(Edn, Edn)>),
}

impl Edn {
    /// The value of a keyword in a map.
    pub fn get(&self, name: &str) -> Option<&Edn> {
        let Edn::Map(pairs) = self else { return None };
        pairs.iter().find(|(key, _)| matches!(key, Edn::Keyword(keyword) if keyword == name)).map(|(_, value)| value)
    }
}

impl fmt::Display for Edn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |f: &mut fmt::Formatter<'_>, values: &[Edn]| {
            values.iter().enumerate().try_for_each(|(at, value)| write!(f, "{}{value}", if at > 0 { " " } else { "" }))
        };
        match self {
            Edn::Nil => write!(f, "nil"),
            Edn::Bool(value) => write!(f, "{value}"),
            Edn::Int(value) => write!(f, "{value}"),
            Edn::Text(text) => write!(f, "{text:?}"),
            Edn::Keyword(name) => write!(f, ":{name}"),
            Edn::Word(word) => write!(f, "{word}"),
            Edn::List(values) => {
                write!(f, "[")?;
                list(f, values)?;
                write!(f, "]")
            }
            Edn::Map(pairs) => {
                write!(f, "{{")?;
                for (at, (key, value)) in pairs.iter().enumerate() {
                    write!(f, "{}{key} {value}", if at > 0 { ", " } else { "" })?;
                }
                write!(f, "}}")
            }
        }
    }
}

/// Text that is no EDN, or another part of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BadEdn {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub what: String,
}

/// Reads all values of a text, or those in the one vector that it is, each with the line on which it begins, from 1.
///
/// # Errors
/// At the first place where the text is no EDN.
pub fn read(text: &str) -> Result<Vec<(usize, Edn)>, BadEdn> {
    let mut parser = Parser { rest: text, line: 1 };
    let mut values = Vec::new();
    let is_vector = parser.skip(0)? && parser.rest.starts_with('[');
    if is_vector {
        parser.next();
    }
    while parser.skip(0)? {
        if is_vector && parser.rest.starts_with(']') {
            parser.next();
            return if parser.skip(0)? { parser.bad("something follows the vector") } else { Ok(values) };
        }
        let line = parser.line;
        values.push((line, parser.value(0)?));
    }
    if is_vector { parser.bad("the vector is not closed") } else { Ok(values) }
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Parser<'a> {
    fn bad<T>(&self, what: impl Into<String>) -> Result<T, BadEdn> {
        Err(BadEdn { line: self.line, what: what.into() })
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        self.line += usize::from(c == '\n');
        Some(c)
    }

    /// Goes to the next value: over blanks, commas, comments, and what `#_` takes out. False if there is none.
    fn skip(&mut self, depth: u32) -> Result<bool, BadEdn> {
        loop {
            match self.rest.chars().next() {
                None => return Ok(false),
                Some(c) if c.is_whitespace() || c == ',' => drop(self.next()),
                Some(';') => while self.next().is_some_and(|c| c != '\n') {},
                Some('#') if self.rest.starts_with("#_") => {
                    self.rest = &self.rest[2..];
                    if depth > DEPTH {
                        return self.bad(format!("values are nested deeper than {DEPTH}"));
                    }
                    if !self.skip(depth + 1)? {
                        return self.bad("nothing follows `#_`");
                    }
                    self.value(depth + 1)?;
                }
                Some(_) => return Ok(true),
            }
        }
    }

    /// The value that begins here.
    fn value(&mut self, depth: u32) -> Result<Edn, BadEdn> {
        if depth > DEPTH {
            return self.bad(format!("values are nested deeper than {DEPTH}"));
        }
        match self.rest.chars().next() {
            Some('[') => self.list(']', depth).map(Edn::List),
            Some('(') => self.list(')', depth).map(Edn::List),
            Some('{') => self.map(depth),
            Some('"') => self.text(),
            Some('#') if self.rest.starts_with("#{") => {
                self.next();
                self.list('}', depth).map(Edn::List)
            }
            Some('#') => self.tagged(depth),
            Some(c) if "])}".contains(c) => self.bad(format!("`{c}` closes nothing")),
            _ => Ok(word(self.word())),
        }
    }

    fn list(&mut self, close: char, depth: u32) -> Result<Vec<Edn>, BadEdn> {
        let opened = self.line;
        self.next();
        let mut values = Vec::new();
        loop {
            if !self.skip(depth)? {
                return Err(BadEdn { line: opened, what: format!("what begins here is not closed by `{close}`") });
            }
            if self.rest.starts_with(close) {
                self.next();
                return Ok(values);
            }
            values.push(self.value(depth + 1)?);
        }
    }

    fn map(&mut self, depth: u32) -> Result<Edn, BadEdn> {
        let values = self.list('}', depth)?;
        if values.len() % 2 == 1 {
            return self.bad("a map has a key without a value");
        }
        let mut pairs = Vec::with_capacity(values.len() / 2);
        let mut values = values.into_iter();
        while let (Some(key), Some(value)) = (values.next(), values.next()) {
            pairs.push((key, value));
        }
        Ok(Edn::Map(pairs))
    }

    /// What a tag says of its value does not matter here.
    fn tagged(&mut self, depth: u32) -> Result<Edn, BadEdn> {
        let tag = self.word();
        if tag == "#" || !self.skip(depth)? {
            return self.bad("a tag without a value");
        }
        self.value(depth + 1)
    }

    fn text(&mut self) -> Result<Edn, BadEdn> {
        let opened = self.line;
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                None => return Err(BadEdn { line: opened, what: "a text is not closed".to_owned() }),
                Some('"') => return Ok(Edn::Text(text)),
                Some('\\') => match self.next() {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some('r') => text.push('\r'),
                    Some(c @ ('"' | '\\')) => text.push(c),
                    _ => return self.bad("no such escape in a text"),
                },
                Some(c) => text.push(c),
            }
        }
    }

    fn word(&mut self) -> &'a str {
        let is_end = |(at, c): &(usize, char)| *at > 0 && (c.is_whitespace() || ",;\"[](){}".contains(*c));
        let end = self.rest.char_indices().find(is_end).map_or(self.rest.len(), |(at, _)| at);
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }
}

fn word(word: &str) -> Edn {
    match word {
        "nil" => Edn::Nil,
        "true" => Edn::Bool(true),
        "false" => Edn::Bool(false),
        _ => match (word.strip_prefix(':'), word.trim_end_matches('N').parse()) {
            (Some(name), _) => Edn::Keyword(name.to_owned()),
            (None, Ok(number)) => Edn::Int(number),
            (None, Err(_)) => Edn::Word(word.to_owned()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> String {
        read(text).map_or_else(
            |bad| format!("line {}: {}", bad.line, bad.what),
            |values| values.iter().map(|(line, value)| format!("{line}: {value}")).collect::<Vec<_>>().join(" | "),
        )
    }

    #[test]
    fn values_are_read_with_their_lines() {
        assert_eq!(
            one("{:type :invoke, :value [1 nil]}\n; a comment\n#_ (skipped \"}\")\n{:f :read} -7 4N \"a\\\"\nb\" x/y"),
            r#"1: {:type :invoke, :value [1 nil]} | 4: {:f :read} | 4: -7 | 4: 4 | 4: "a\"\nb" | 5: x/y"#
        );
        assert_eq!(one("#jepsen.independent.MapEntry[3 4] #{1 2} ()"), "1: [3 4] | 1: [1 2] | 1: []");
        assert_eq!(one("[1\n[2 3]] ; the end"), "1: 1 | 2: [2 3]");
        assert_eq!(one(""), "");
    }

    #[test]
    fn what_is_no_edn_is_refused_with_its_line() {
        assert_eq!(one("{:a 1}\n{:b"), "line 2: what begins here is not closed by `}`");
        assert_eq!(one("[1\n"), "line 2: the vector is not closed");
        assert_eq!(one("[1]\n2"), "line 2: something follows the vector");
        assert_eq!(one("{:a}"), "line 1: a map has a key without a value");
        assert_eq!(one("\n]"), "line 2: `]` closes nothing");
        assert_eq!(one("\n\"abc\n"), "line 2: a text is not closed");
        assert_eq!(one("\"\\q\""), "line 1: no such escape in a text");
        assert_eq!(one("#_"), "line 1: nothing follows `#_`");
        assert_eq!(one("#tag"), "line 1: a tag without a value");
        assert!(one(&"([".repeat(10_000)).contains("nested deeper"));
        assert!(one(&"#a ".repeat(10_000)).contains("nested deeper"));
        assert!(one(&"#_ ".repeat(10_000)).contains("nested deeper"));
    }
}
