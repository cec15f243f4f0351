//! A line as words, as a shell would read it: blanks part them, quotes and backslashes keep what they are, and `#` at
//! the beginning of a word begins a comment.

/// A word of a line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Word {
    /// Where it begins, in bytes.
    pub(super) start: usize,
    /// What it says, without quotes.
    pub(super) text: String,
}

/// Why a line has no end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Open {
    /// A quote.
    Quote(char),
    /// A backslash.
    Escape,
}

/// The words of a line, and what is open at its end; then the last word goes as far as it was written.
pub(super) fn read(line: &str) -> (Vec<Word>, Option<Open>) {
    let mut words: Vec<Word> = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let mut characters = line.char_indices();
    while let Some((start, character)) = characters.next() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '#') if word.is_none() => return (words, None),
            (None, '"' | '\'') => {
                quote = Some(character);
                word.get_or_insert_with(|| Word { start, text: String::new() });
            }
            (None | Some('"'), '\\') => {
                let word = word.get_or_insert_with(|| Word { start, text: String::new() });
                match characters.next() {
                    // Between quotes it keeps what has a meaning there, and is itself before all else.
                    Some((_, next)) if quote.is_some() && !matches!(next, '"' | '\\') => word.text.extend(['\\', next]),
                    Some((_, next)) => word.text.push(next),
                    None => {
                        words.push(word.clone());
                        return (words, Some(Open::Escape));
                    }
                }
            }
            (_, c) => word.get_or_insert_with(|| Word { start, text: String::new() }).text.push(c),
        }
    }
    words.extend(word);
    (words, quote.map(Open::Quote))
}

/// The words of a whole line.
///
/// # Errors
/// What is not closed.
pub(crate) fn split(line: &str) -> Result<Vec<String>, String> {
    match read(line) {
        (words, None) => Ok(words.into_iter().map(|word| word.text).collect()),
        (_, Some(Open::Quote(quote))) => Err(format!("a quote {quote} is not closed")),
        (_, Some(Open::Escape)) => Err("there is nothing behind the last backslash".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::text::quoted;

    fn words(line: &str) -> Vec<String> {
        split(line).unwrap()
    }

    #[test]
    fn blanks_part_words_and_quotes_keep_them() {
        assert_eq!(words("  put a/b\t1 "), ["put", "a/b", "1"]);
        assert_eq!(words("put 'a b' \"c 'd'\" e\\ f g'h'\"i\""), ["put", "a b", "c 'd'", "e f", "ghi"]);
        assert_eq!(words("put a ''"), ["put", "a", ""]);
        assert_eq!(words(r#"put "a\"b\\c\d" 'e\'"#), ["put", r#"a"b\c\d"#, r"e\"]);
    }

    #[test]
    fn a_comment_begins_where_a_word_would() {
        assert_eq!(words("# nothing"), Vec::<String>::new());
        assert_eq!(words("put a#b c # d 'e"), ["put", "a#b", "c"]);
        assert_eq!(words("put '#' \\#"), ["put", "#", "#"]);
    }

    #[test]
    fn what_is_open_at_the_end_is_an_error() {
        assert!(split("put 'a").unwrap_err().contains("quote '"));
        assert!(split("put \"a\\\"").unwrap_err().contains("quote \""));
        assert!(split("put a\\").unwrap_err().contains("backslash"));
    }

    #[test]
    fn what_is_quoted_for_a_shell_is_read_as_it_was() {
        for word in ["a", "", "a b", "it's", "-x", "\"", "\\", "#", "ä'\\''"] {
            assert_eq!(words(&quoted(word)), [word]);
        }
    }

    #[test]
    fn words_know_where_they_begin() {
        let starts: Vec<usize> = read("ä 'b c' d").0.iter().map(|word| word.start).collect();
        assert_eq!(starts, [0, 3, 9]);
    }
}
