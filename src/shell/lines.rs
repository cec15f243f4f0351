//! Where lines come from: a person at a terminal, with editing and history, or a file or program.

use std::io::{self, BufRead, IsTerminal, Read};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::config::{Behavior, BellStyle, ColorMode, CompletionType};
use rustyline::error::ReadlineError;
use rustyline::history::MemHistory;
use rustyline::{Config, Editor};
use tokio::sync::mpsc;

use super::complete::{Completion, Names};
use super::history::{self, History};

/// The most bytes of a line: a value of the largest size in hexadecimal digits fits in twice.
pub(crate) const LINE_LIMIT: usize = 1 << 20;

/// What was read.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Line {
    /// A line.
    Text(String),
    /// One with more than [`LINE_LIMIT`] bytes; all of it was passed over.
    TooLong,
    /// One that is no UTF-8.
    NotText,
    /// Ctrl-C: the line is dropped.
    Interrupted,
    /// Ctrl-D, or the end of the file.
    End,
}

/// Reads lines, each when it is asked for.
pub(crate) struct Lines {
    // Both have room for one: there is never more than one question.
    prompts: mpsc::Sender<String>,
    lines: mpsc::Receiver<io::Result<Line>>,
    interactive: bool,
    usual: Option<Termios>,
}

impl Lines {
    /// Lines of standard input. A thread of its own reads: a read from a terminal cannot be called off.
    pub(crate) fn open(grammar: clap::Command, names: Names) -> Lines {
        let (prompts, mut asked) = mpsc::channel::<String>(1);
        let (sender, lines) = mpsc::channel(1);
        let interactive = io::stdin().is_terminal();
        let usual = if interactive { tcgetattr(io::stdin()).ok() } else { None };
        std::thread::spawn(move || {
            let mut source = if interactive { Source::terminal(grammar, names) } else { Source::Stream };
            while let Some(prompt) = asked.blocking_recv() {
                let line = source.read(&prompt);
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Lines { prompts, lines, interactive, usual }
    }

    /// Whether a person types them.
    pub(crate) fn interactive(&self) -> bool {
        self.interactive
    }

    /// The next one.
    ///
    /// # Errors
    /// If standard input fails.
    pub(crate) async fn next(&mut self, prompt: &str) -> io::Result<Line> {
        if self.prompts.send(prompt.to_owned()).await.is_err() {
            return Ok(Line::End);
        }
        self.lines.recv().await.unwrap_or(Ok(Line::End))
    }
}

impl Drop for Lines {
    /// Whoever ends while a line is edited leaves the terminal as it was.
    fn drop(&mut self) {
        if let Some(usual) = &self.usual {
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, usual);
        }
    }
}

enum Source {
    Terminal(Box<Terminal>),
    Stream,
}

struct Terminal {
    editor: Editor<Completion, MemHistory>,
    // None if it cannot be kept.
    history: Option<History>,
}

impl Source {
    /// Lines with editing; plain ones if this terminal has none.
    fn terminal(grammar: clap::Command, names: Names) -> Source {
        match Terminal::open(grammar, names) {
            Ok(terminal) => Source::Terminal(Box::new(terminal)),
            Err(error) => {
                eprintln!("lines cannot be edited: {error}");
                Source::Stream
            }
        }
    }

    fn read(&mut self, prompt: &str) -> io::Result<Line> {
        match self {
            Source::Terminal(terminal) => terminal.read(prompt),
            Source::Stream => bounded(&mut io::stdin().lock()),
        }
    }
}

impl Terminal {
    fn open(grammar: clap::Command, names: Names) -> rustyline::Result<Terminal> {
        let config = Config::builder()
            .max_history_size(history::LINES_LIMIT)?
            .history_ignore_space(true)
            .completion_type(CompletionType::List)
            .bell_style(BellStyle::None)
            .color_mode(ColorMode::Disabled)
            // Standard output is for what commands print.
            .behavior(Behavior::PreferTerm)
            .build();
        let memory = MemHistory::with_config(&config);
        let mut editor = Editor::with_history(config, memory)?;
        editor.set_helper(Some(Completion::new(grammar, names)));
        let opened = history::place().map(|path| (History::open(&path), path));
        let history = match opened {
            Some((Ok((history, lines)), _)) => {
                for line in lines {
                    editor.add_history_entry(line)?;
                }
                Some(history)
            }
            Some((Err(error), path)) => {
                eprintln!("warning: no history is kept: {}: {error}", path.display());
                None
            }
            None => None,
        };
        Ok(Terminal { editor, history })
    }

    fn read(&mut self, prompt: &str) -> io::Result<Line> {
        let line = match self.editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Eof) => return Ok(Line::End),
            Err(ReadlineError::Interrupted) => return Ok(Line::Interrupted),
            Err(ReadlineError::Io(error)) => return Err(error),
            Err(other) => return Err(io::Error::other(other)),
        };
        if line.len() > LINE_LIMIT {
            return Ok(Line::TooLong);
        }
        if history::is_kept(&line) {
            // Without an error line the session goes on: history is a convenience.
            let _ = self.editor.add_history_entry(line.as_str());
            if let Some(Err(error)) = self.history.as_mut().map(|history| history.add(&line)) {
                eprintln!("warning: the history is not kept any more: {error}");
                self.history = None;
            }
        }
        Ok(Line::Text(line))
    }
}

/// A line of a stream, however long that is, in bounded memory.
fn bounded(stream: &mut impl BufRead) -> io::Result<Line> {
    let mut bytes = Vec::new();
    // One byte more for the end of the line.
    stream.by_ref().take(LINE_LIMIT as u64 + 1).read_until(b'\n', &mut bytes)?;
    if bytes.is_empty() {
        return Ok(Line::End);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    } else if bytes.len() > LINE_LIMIT {
        stream.skip_until(b'\n')?;
        return Ok(Line::TooLong);
    }
    Ok(String::from_utf8(bytes).map_or(Line::NotText, Line::Text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut bytes: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        loop {
            match bounded(&mut bytes).unwrap() {
                Line::End => return lines,
                line => lines.push(line),
            }
        }
    }

    #[test]
    fn a_line_at_the_limit_is_read_and_one_byte_more_is_passed_over() {
        let text = |text: &str| Line::Text(text.to_owned());
        let most = "x".repeat(LINE_LIMIT);
        assert_eq!(all(format!("{most}\nget a\n").as_bytes()), [text(&most), text("get a")]);
        assert_eq!(all(format!("{most}x\nget a\n").as_bytes()), [Line::TooLong, text("get a")]);
        assert_eq!(all(format!("{most}{most}{most}").as_bytes()), [Line::TooLong]);
        assert_eq!(all(most.as_bytes()), [text(&most)]);
    }

    #[test]
    fn a_line_ends_with_its_file_and_bytes_that_are_no_text_are_told() {
        let text = |text: &str| Line::Text(text.to_owned());
        assert_eq!(all(b"a\r\n\nb"), [text("a"), text(""), text("b")]);
        assert_eq!(all(b"\xff\na"), [Line::NotText, text("a")]);
    }
}
