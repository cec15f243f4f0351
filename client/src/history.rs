//! Histories: what clients asked and were told, and when, one JSON object a line. `docs/histories.md` has the format.
//!
//! Checkers judge such a file, whoever wrote it. A line is written when an operation begins, and one when it ends; an
//! operation whose end is missing may have taken effect or not.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use drachma_protocol::ids::TxnId;
use drachma_protocol::ledger::model::{Account, Outcome, Transfer};
use drachma_protocol::ledger::operations::{Operation, Reply, Transaction};
use drachma_protocol::message::level::Level;
use drachma_protocol::wire::codec::{Encode, to_vec};

use crate::{Answer, Client, Status, Transacted};

/// Writes a history; clones write the same one.
#[derive(Clone)]
pub struct Recorder(Arc<Shared>);

struct Shared {
    began: Instant,
    clients: AtomicU64,
    numbers: AtomicU64,
    out: Mutex<Out>,
}

struct Out {
    to: Box<dyn Write + Send>,
    // The first failure: what follows it would have a gap before it.
    failed: Option<io::Error>,
}

impl Recorder {
    /// Writes to a new file.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn create(path: &Path) -> io::Result<Recorder> {
        Ok(Recorder::new(BufWriter::new(File::create(path)?)))
    }

    /// Writes to `to`. Times count from now.
    pub fn new(to: impl Write + Send + 'static) -> Recorder {
        let out = Mutex::new(Out { to: Box::new(to), failed: None });
        let (clients, numbers) = (AtomicU64::new(0), AtomicU64::new(0));
        Recorder(Arc::new(Shared { began: Instant::now(), clients, numbers, out }))
    }

    /// Hands everything written so far to the system.
    ///
    /// # Errors
    /// If that, or something before, could not be written.
    pub fn flush(&self) -> io::Result<()> {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        match out.failed.take() {
            Some(error) => Err(error),
            None => out.to.flush(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn line(&self, line: &str) {
        let mut out = self.0.out.lock().unwrap_or_else(PoisonError::into_inner);
        if out.failed.is_none() {
            out.failed = writeln!(out.to, "{line}").err();
        }
    }
}

/// Who is recorded: one logical client.
#[derive(Clone)]
pub(crate) struct Recording {
    recorder: Recorder,
    client: u64,
}

impl Client {
    /// A handle on the same connections whose requests are recorded, as those of one client of the history.
    pub fn recorded(&self, recorder: &Recorder) -> Client {
        let client = recorder.0.clients.fetch_add(1, Ordering::Relaxed);
        let recording = Recording { recorder: recorder.clone(), client };
        Client { inner: Arc::clone(&self.inner), recording: Some(recording) }
    }

    /// Records that an operation begins, if this handle is recorded.
    pub(crate) fn begin(&self, asked: Asked<'_>, level: Level) -> Option<Begun> {
        let Recording { recorder, client } = self.recording.clone()?;
        let number = recorder.0.numbers.fetch_add(1, Ordering::Relaxed);
        let operation = asked.shown();
        // Read last before the operation: it has not begun earlier than it says.
        let start = recorder.now();
        recorder.line(&format!(
            "{{\"client\":{client},\"number\":{number},\"kind\":\"invoke\",\"operation\":{{{operation},\"level\":\"{level}\"}},\"start\":{start}}}"
        ));
        Some(Begun { recorder, client, number, start })
    }
}

/// What is asked.
pub(crate) enum Asked<'a> {
    Transfer(&'a Transfer),
    Transact(&'a Transaction),
    Query(&'a [Operation]),
    Fence(TxnId),
}

impl Asked<'_> {
    fn shown(&self) -> String {
        match self {
            Asked::Transfer(transfer) => {
                format!("\"f\":\"transfer\",\"id\":\"{}\",\"content\":\"{}\"", transfer.id, hex(transfer))
            }
            Asked::Transact(transaction) => {
                format!("\"f\":\"transact\",\"id\":\"{}\",\"content\":\"{}\"", transaction.id, hex(transaction))
            }
            Asked::Query(operations) => format!("\"f\":\"query\",\"content\":\"{}\"", hex(&operations.to_vec())),
            Asked::Fence(txn) => format!("\"f\":\"fence\",\"id\":\"{}\",\"content\":\"{}\"", txn.id, hex(txn)),
        }
    }
}

fn hex(value: &impl Encode) -> String {
    let bytes = to_vec(value);
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // Writing to a string cannot fail.
    }
    text
}

/// An operation under way.
pub(crate) struct Begun {
    recorder: Recorder,
    client: u64,
    number: u64,
    start: u64,
}

impl Begun {
    fn end(self, kind: &str, answer: &str) {
        let Begun { recorder, client, number, start } = self;
        let end = recorder.now();
        recorder.line(&format!(
            "{{\"client\":{client},\"number\":{number},\"kind\":\"{kind}\",\"answer\":{{{answer}}},\"start\":{start},\"end\":{end}}}"
        ));
    }

    /// A write ended.
    pub(crate) fn wrote(self, status: Status, replayed: bool, replies: Option<&Vec<Reply>>) {
        let (kind, outcome, reason) = words(status);
        let reason = reason.map_or_else(String::new, |reason| format!(",\"reason\":\"{reason}\""));
        let replies = replies.map_or_else(String::new, |replies| format!(",\"replies\":\"{}\"", hex(replies)));
        self.end(kind, &format!("\"outcome\":\"{outcome}\",\"replayed\":{replayed}{reason}{replies}"));
    }

    /// A read ended.
    pub(crate) fn read(self, read: Result<&Vec<Reply>, Status>) {
        match read {
            Ok(replies) => self.end("ok", &format!("\"outcome\":\"ok\",\"replies\":\"{}\"", hex(replies))),
            Err(status) => self.end("info", &format!("\"outcome\":\"{}\"", words(status).1)),
        }
    }
}

/// The kind of an end, and the outcome in the words that are the same everywhere.
fn words(status: Status) -> (&'static str, &'static str, Option<String>) {
    match status {
        Status::Committed => ("ok", "committed", None),
        Status::Rejected(reason) => ("fail", "rejected", Some(reason.to_string())),
        Status::Accepted => ("info", "accepted", None),
        Status::Unavailable => ("info", "unavailable", None),
        Status::Unknown => ("info", "unknown", None),
    }
}

/// Ends what was begun, if it was recorded.
pub(crate) trait Ended {
    /// A transfer.
    fn transferred(self, answer: &Answer);
    /// A transaction.
    fn transacted(self, done: &Transacted);
    /// A read of an account.
    fn found(self, account: Result<Option<Account>, Status>);
    /// A fence.
    fn settled(self, outcome: Result<Outcome, Status>);
}

impl Ended for Option<Begun> {
    fn transferred(self, answer: &Answer) {
        if let Some(begun) = self {
            begun.wrote(answer.status, answer.replayed, None);
        }
    }

    fn transacted(self, done: &Transacted) {
        if let Some(begun) = self {
            begun.wrote(done.status, done.replayed, done.replies.as_ref());
        }
    }

    fn found(self, account: Result<Option<Account>, Status>) {
        if let Some(begun) = self {
            let reply = |account: Option<Account>| {
                account.map_or(Reply::Done(drachma_protocol::message::operator::Nothing {}), Reply::Account)
            };
            begun.read(account.map(|account| vec![reply(account)]).as_ref().map_err(|status| *status));
        }
    }

    fn settled(self, outcome: Result<Outcome, Status>) {
        if let Some(begun) = self {
            begun.wrote(outcome.map_or_else(|status| status, Status::from), false, None);
        }
    }
}
