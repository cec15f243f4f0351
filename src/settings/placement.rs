//! Which shard belongs to which group when a cluster is formatted.

use std::ops::Range;

use drachma_protocol::ids::{AccountId, Epoch, GroupId};
use drachma_protocol::message::operator::Nothing;
use drachma_protocol::placement::map::{AccountRange, Mode, SHARDS_LIMIT, ShardMap};

use super::check::{self, Source};
use super::{Group, SettingsError, raw};

/// A range of accounts, its group, and where both were written.
struct Owned {
    range: AccountRange,
    group: GroupId,
}

/// The map at epoch 1.
pub(super) fn map(
    source: &Source<'_>,
    raw: &raw::Placement,
    groups: &[Group],
    accounts: u64,
) -> Result<ShardMap, SettingsError> {
    let mode = raw.mode.as_ref().map(|mode| (mode.get_ref().as_str(), mode.span()));
    let (mode, at) = mode.unwrap_or(("range", 0..0));
    match mode {
        "range" => by_range(source, raw, groups, accounts),
        "hash" => by_hash(source, raw, groups),
        other => Err(source.error(at, format!("mode is `{other}`; `range` and `hash` are allowed"))),
    }
}

fn by_hash(source: &Source<'_>, raw: &raw::Placement, groups: &[Group]) -> Result<ShardMap, SettingsError> {
    if let Some(ranges) = &raw.ranges {
        return Err(source.error(ranges.span(), "mode `hash` takes no ranges; leave them out, or use mode `range`"));
    }
    if let Some(file) = &raw.shards_file {
        return Err(source.error(file.span(), "mode `hash` takes no shards_file; leave it out, or use mode `range`"));
    }
    let count = shards(source, raw, groups)?;
    Ok(ShardMap { epoch: Epoch(1), mode: Mode::Hash(Nothing {}), owners: spread(count, groups) })
}

fn by_range(
    source: &Source<'_>,
    raw: &raw::Placement,
    groups: &[Group],
    accounts: u64,
) -> Result<ShardMap, SettingsError> {
    let owned = match (&raw.ranges, &raw.shards_file) {
        (Some(_), Some(file)) => {
            return Err(source.error(file.span(), "ranges and shards_file are both there; one of them is allowed"));
        }
        (Some(ranges), None) => written(source, ranges, groups)?,
        (None, Some(file)) => from_file(source, file, groups)?,
        (None, None) => {
            let count = shards(source, raw, groups)?;
            even(source, raw, count, groups, accounts)?
        }
    };
    if let Some(shards) = &raw.shards
        && shards.get_ref().0 != owned.len() as u128
    {
        let message = format!("shards is {}, and there are {} ranges: leave it out", shards.get_ref().0, owned.len());
        return Err(source.error(shards.span(), message));
    }
    let missing = first_gap(&owned);
    if missing <= u128::from(accounts) {
        let message = format!("the data set has accounts 1 to {accounts}, and no range has account {missing}");
        return Err(source.whole(message));
    }
    let (ranges, owners) = owned.into_iter().map(|owned| (owned.range, owned.group)).unzip();
    Ok(ShardMap { epoch: Epoch(1), mode: Mode::Range(ranges), owners })
}

fn shards(source: &Source<'_>, raw: &raw::Placement, groups: &[Group]) -> Result<usize, SettingsError> {
    let count = source.number("shards", &raw.shards, groups.len() as u128, 1..=SHARDS_LIMIT as u128)?;
    Ok(count as usize)
}

/// The first shards to the first group, and so on, as evenly as it goes.
fn spread(count: usize, groups: &[Group]) -> Vec<GroupId> {
    (0..count).map(|shard| groups[shard * groups.len() / count].id).collect()
}

fn even(
    source: &Source<'_>,
    raw: &raw::Placement,
    count: usize,
    groups: &[Group],
    accounts: u64,
) -> Result<Vec<Owned>, SettingsError> {
    if accounts < count as u64 {
        let at = raw.shards.as_ref().map(toml::Spanned::span);
        let message = format!("{accounts} accounts cannot be divided over {count} shards; give ranges, or mode `hash`");
        return Err(at.map_or_else(|| source.whole(message.clone()), |at| source.error(at, message.clone())));
    }
    let bound = |shard: usize| u128::from(accounts) * shard as u128 / count as u128;
    let owned = spread(count, groups).into_iter().enumerate().map(|(shard, group)| Owned {
        range: AccountRange { first: AccountId(bound(shard) + 1), last: AccountId(bound(shard + 1)) },
        group,
    });
    Ok(owned.collect())
}

fn written(
    source: &Source<'_>,
    ranges: &toml::Spanned<Vec<toml::Spanned<raw::Range>>>,
    groups: &[Group],
) -> Result<Vec<Owned>, SettingsError> {
    let count = ranges.get_ref().len();
    if count == 0 || count > SHARDS_LIMIT {
        return Err(source.error(ranges.span(), format!("there are {count} ranges; 1 to {SHARDS_LIMIT} are allowed")));
    }
    let mut owned = Vec::new();
    for range in ranges.get_ref() {
        let group: GroupId = source.id(&range.get_ref().group)?;
        let bounds = (range.get_ref().first.get_ref().0, range.get_ref().last.get_ref().0);
        let error = |message: String| source.error(range.span(), message);
        push(&mut owned, bounds, group, groups).map_err(error)?;
    }
    Ok(owned)
}

/// The first account, from 1, that is in none of the ranges.
fn first_gap(owned: &[Owned]) -> u128 {
    let mut ranges: Vec<AccountRange> = owned.iter().map(|owned| owned.range).collect();
    ranges.sort_by_key(|range| range.first);
    ranges.iter().fold(1, |next, range| if range.first.0 == next { range.last.0 + 1 } else { next })
}

/// Adds a range if it is one, its group exists, and no other range has any of it.
fn push(owned: &mut Vec<Owned>, (first, last): (u128, u128), group: GroupId, groups: &[Group]) -> Result<(), String> {
    // The ids at the top are the shards' reserved accounts.
    let most = u128::MAX - SHARDS_LIMIT as u128;
    if first == 0 || first > last || last > most {
        return Err(format!("{first} to {last} is not a range of accounts; 1 <= first <= last <= {most} is allowed"));
    }
    if !groups.iter().any(|known| known.id == group) {
        return Err(format!("{group} owns {first} to {last}, and there is no [[group]] with that id"));
    }
    if let Some(other) = owned.iter().find(|other| first <= other.range.last.0 && other.range.first.0 <= last) {
        let range = &other.range;
        return Err(format!("{first} to {last} overlaps {} to {}", range.first, range.last));
    }
    owned.push(Owned { range: AccountRange { first: AccountId(first), last: AccountId(last) }, group });
    Ok(())
}

fn from_file(source: &Source<'_>, file: &toml::Spanned<String>, groups: &[Group]) -> Result<Vec<Owned>, SettingsError> {
    let path = check::base(source.origin).join(file.get_ref());
    let text = std::fs::read_to_string(&path)
        .map_err(|error| source.error(file.span(), format!("shards_file {}: {error}", path.display())))?;
    shards_file(&text, &path.display().to_string(), groups)
}

/// Reads lines of `Shard, Cluster, Range`, such as `D1,C1,1-3000`, with or without a header.
fn shards_file(text: &str, origin: &str, groups: &[Group]) -> Result<Vec<Owned>, SettingsError> {
    let mut owned = Vec::new();
    let mut offset = 0;
    let source = Source { text, origin };
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let at: Range<usize> = offset..offset + line.len();
        offset = at.end;
        let line = line.trim_start_matches('\u{feff}').trim();
        if line.is_empty() || (index == 0 && line.to_ascii_lowercase().starts_with("shard")) {
            continue;
        }
        let row = shards_row(line).ok_or_else(|| {
            source.error(
                at.clone(),
                "expected `Shard,Cluster,Range`, such as `D1,C1,1-3000` (group g1 may be `C1` or `1`)",
            )
        })?;
        push(&mut owned, row.0, row.1, groups).map_err(|message| source.error(at, message))?;
    }
    match owned.len() {
        1..=SHARDS_LIMIT => Ok(owned),
        count => Err(source.whole(format!("there are {count} shards; 1 to {SHARDS_LIMIT} are allowed"))),
    }
}

fn shards_row(line: &str) -> Option<((u128, u128), GroupId)> {
    let mut cells = line.splitn(3, ',').map(str::trim);
    let (_, group, range) = (cells.next()?, cells.next()?, cells.next()?);
    let group = group.trim_matches('"').trim_start_matches(['g', 'G', 'c', 'C']).parse().ok().map(GroupId)?;
    let inner = range.trim_matches(['"', '[', ']', '(', ')', ' ']);
    let (first, last) = ["..", "-", ":", ","].into_iter().find_map(|separator| inner.split_once(separator))?;
    Some(((first.trim().parse().ok()?, last.trim().parse().ok()?), group))
}

#[cfg(test)]
mod tests {
    use super::*;
    use drachma_protocol::ids::NodeId;

    fn groups() -> Vec<Group> {
        (1..=2).map(|id| Group { id: GroupId(id), nodes: vec![NodeId(id)] }).collect()
    }

    #[test]
    fn a_shards_file_is_read_in_all_its_forms() {
        for text in [
            "Shard,Cluster,Range\r\nD1,C1,1-10\r\nD2,C2,11-20\r\n",
            "\u{feff}D1, g1, \"[1, 10]\"\nD2, g2, \"[11, 20]\"",
            "D1,1,1..10\n\nD2,2,11:20\n",
        ] {
            let owned = shards_file(text, "shards.csv", &groups()).unwrap();
            let found: Vec<(u128, u128, u16)> =
                owned.iter().map(|o| (o.range.first.0, o.range.last.0, o.group.0)).collect();
            assert_eq!(found, [(1, 10, 1), (11, 20, 2)], "{text}");
        }
    }

    #[test]
    fn a_bad_shards_file_is_refused_with_its_line() {
        for (text, line, part) in [
            ("D1,C1,1-10\nD2,C2\n", 2, "expected `Shard,Cluster,Range`"),
            ("D1,C1,1-10\nD2,C2,10-20\n", 2, "overlaps 1 to 10"),
            ("D1,C3,1-10\n", 1, "g3 owns"),
            ("Shard,Cluster,Range\nD1,C1,9-3\n", 2, "not a range"),
        ] {
            let error = shards_file(text, "shards.csv", &groups()).map(|_| ()).unwrap_err();
            assert_eq!(error.at, Some((line, 1)), "{text}");
            assert!(error.message.contains(part), "{error}");
        }
        assert!(shards_file("", "shards.csv", &groups()).is_err());
    }
}
