//! Durations as they are written: `100ms`, `2s`.

use std::time::Duration;

use drachma_protocol::time::Span;

const UNITS: [(&str, u64); 5] = [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000)];

/// Reads a duration: a whole number and its unit (us, ms, s, m, h).
///
/// # Errors
/// What is allowed.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("`{text}`; a whole number with a unit is allowed, such as `500us`, `100ms`, `2s`, `5m`, `1h`");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (digits, unit) = text.split_at(split);
    let factor = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).map(Duration::from_micros).ok_or_else(wrong)
}

/// Writes a duration in the largest unit that is exact.
pub fn show(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let fits = |factor: u64| micros.is_multiple_of(factor) && micros >= factor;
    let (name, factor) = UNITS.iter().rev().find(|(_, factor)| fits(*factor)).unwrap_or(&UNITS[0]);
    format!("{}{name}", micros / factor)
}

pub(super) fn show_span(span: Span) -> String {
    show(Duration::from_micros(span.0))
}

pub(super) fn span(duration: Duration) -> Span {
    Span(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, micros) in [("0s", 0), ("1us", 1), ("100ms", 100_000), ("2s", 2_000_000), ("1h", 3_600_000_000)] {
            assert_eq!(parse(text), Ok(Duration::from_micros(micros)), "{text}");
        }
        for text in ["2s", "100ms", "1500us", "90s", "5m", "1h"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
        assert_eq!(show(Duration::ZERO), "0us");
        for wrong in ["", "2", "s", "-1s", "1.5s", "2 s", "1d", "99999999999999999999s", "18446744073709551615h"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
