//! Bytes as text, on the command line and on the screen.

use drachma_protocol::ledger::operations::{KEY_LIMIT, Key, VALUE_LIMIT, Value};

/// What a table shows for a key that does not exist.
pub const ABSENT: &str = "(none)";
/// The most bytes of a value that a line for people shows.
const BRIEF: usize = 64;

/// Text as it is; bytes that are none, and control characters, escaped.
pub fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
        _ => bytes.escape_ascii().to_string(),
    }
}

/// As [`shown`], cut if it is long.
pub fn brief(bytes: &[u8]) -> String {
    let text = shown(bytes);
    match text.char_indices().nth(BRIEF) {
        Some((end, _)) => format!("{}... ({} bytes)", &text[..end], bytes.len()),
        None => text,
    }
}

/// Hexadecimal digits, two for each byte.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads hexadecimal digits, two for each byte.
///
/// # Errors
/// What is allowed.
pub fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some((digit(*high)? << 4 | digit(*low)?) as u8),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
    bytes.ok_or_else(|| "expected an even number of hexadecimal digits, such as 00ff".to_owned())
}

/// A key of these bytes.
///
/// # Errors
/// What is allowed.
pub fn key_of(bytes: impl Into<Vec<u8>>) -> Result<Key, String> {
    let bytes = bytes.into();
    let length = bytes.len();
    Key::new(bytes).ok_or_else(|| format!("a key has 1 to {KEY_LIMIT} bytes, and this one has {length}"))
}

/// A value of these bytes.
///
/// # Errors
/// What is allowed.
pub fn value_of(bytes: impl Into<Vec<u8>>) -> Result<Value, String> {
    let bytes = bytes.into();
    let length = bytes.len();
    Value::new(bytes).ok_or_else(|| format!("a value has at most {VALUE_LIMIT} bytes, and this one has {length}"))
}

/// Reads a key of the command line.
///
/// # Errors
/// What is allowed.
pub fn key(text: &str) -> Result<Key, String> {
    key_of(text)
}

/// A word as a shell reads it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._:-".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_shown_as_it_is_and_other_bytes_are_escaped() {
        assert_eq!(shown("a \"b\" ä".as_bytes()), "a \"b\" ä");
        assert_eq!(shown(b"a\nb\xff"), "a\\nb\\xff");
        assert_eq!(brief(&[b'a'; 64]), "a".repeat(64));
        assert_eq!(brief(&[b'a'; 65]), format!("{}... (65 bytes)", "a".repeat(64)));
    }

    #[test]
    fn hexadecimal_digits_go_both_ways() {
        assert_eq!(from_hex(&to_hex(&[0, 10, 255])), Ok(vec![0, 10, 255]));
        assert_eq!(from_hex("FFa0"), Ok(vec![255, 160]));
        assert_eq!(from_hex(""), Ok(vec![]));
        for wrong in ["0", "0x", "ää", "+1"] {
            assert!(from_hex(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shell_reads_a_quoted_word_as_it_was() {
        assert_eq!(quoted("stock/apple"), "stock/apple");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!((quoted(""), quoted("-x"), quoted("a b")), ("''".into(), "'-x'".into(), "'a b'".into()));
    }

    #[test]
    fn keys_and_values_have_their_limits() {
        assert!(key_of(vec![b'k'; KEY_LIMIT]).is_ok() && value_of(vec![0; VALUE_LIMIT]).is_ok());
        assert!(key_of(vec![b'k'; KEY_LIMIT + 1]).unwrap_err().contains("and this one has 1025"));
        assert!(key("").unwrap_err().contains("1 to 1024 bytes"));
        assert!(value_of(vec![0; VALUE_LIMIT + 1]).unwrap_err().contains("at most 262144 bytes"));
    }
}
