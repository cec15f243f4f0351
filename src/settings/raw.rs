//! `cluster.toml` as it is written, before it is checked. Every value keeps its place in the text, for errors.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use toml::Spanned;

/// A value that may be left out, with its place.
pub(super) type Value<T> = Option<Spanned<T>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    #[serde(default)]
    pub(super) cluster: Cluster,
    #[serde(default)]
    pub(super) node: Vec<Node>,
    #[serde(default)]
    pub(super) group: Vec<Group>,
    #[serde(default)]
    pub(super) placement: Placement,
    #[serde(default)]
    pub(super) timers: Timers,
    #[serde(default)]
    pub(super) storage: Storage,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) data_set: DataSet,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) metrics: Metrics,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) name: Value<String>,
    pub(super) base_port: Value<Number>,
    pub(super) data_dir: Value<String>,
    pub(super) listen: Value<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) id: Spanned<String>,
    pub(super) address: Value<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Group {
    pub(super) id: Spanned<String>,
    pub(super) nodes: Spanned<Vec<Spanned<String>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Placement {
    pub(super) mode: Value<String>,
    pub(super) shards: Value<Number>,
    pub(super) ranges: Option<Spanned<Vec<Spanned<Range>>>>,
    pub(super) shards_file: Value<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Range {
    pub(super) first: Spanned<Number>,
    pub(super) last: Spanned<Number>,
    pub(super) group: Spanned<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Timers {
    pub(super) heartbeat: Value<String>,
    pub(super) leader_timeout: Value<String>,
    pub(super) deadline: Value<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Storage {
    pub(super) fsync: Value<String>,
    pub(super) segment_bytes: Value<Number>,
    pub(super) snapshot_every_bytes: Value<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) waiting: Value<Number>,
    pub(super) sessions: Value<Number>,
    pub(super) session_lifetime: Value<String>,
    pub(super) in_doubt_per_group: Value<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DataSet {
    pub(super) accounts: Value<Number>,
    pub(super) initial_balance: Value<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) level: Value<String>,
    pub(super) format: Value<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    pub(super) address: Value<String>,
}

/// A number that is not negative. What does not fit the 63 bits of a TOML integer is written as a text of digits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(pub(super) u128);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Number, D::Error> {
        struct NumberVisitor;
        impl Visitor<'_> for NumberVisitor {
            type Value = Number;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number that is not negative")
            }
            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                u128::try_from(number).map(Number).map_err(|_| E::custom("expected a number that is not negative"))
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
                Ok(Number(u128::from(number)))
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Number, E> {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                match text.parse() {
                    Ok(number) if digits => Ok(Number(number)),
                    _ => Err(E::custom("expected a number from 0 to 2^128-1, such as 10 or \"10\"")),
                }
            }
        }
        deserializer.deserialize_any(NumberVisitor)
    }
}
