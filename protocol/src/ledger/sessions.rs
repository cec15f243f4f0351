//! The sessions of clients: who is registered, and the answers that are kept for them.
//!
//! A session is its id and the slot of its registration, so that a second registration under the same id is another
//! session (hazard S17). It expires in log time after its last use, never while an operation of it waits here; nobody
//! is evicted for a newcomer. Its sequence numbers count over all groups, so a group sees only some of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Limits;
use super::arena::{Arena, Frozen};
use super::digest::Sum;
use super::image::{Fault, Rows};
use super::model::CreateResult;
use crate::ids::Session;
use crate::table::Table;
use crate::time::{LogTime, Span};
use crate::wire::codec::{Decode, DecodeError, Encode, Reader, encode_array_len};

/// How many sequence numbers back a session's requests are recognised.
const WINDOW: u64 = 1024;

/// The most results that are kept for one session, and for all. Older ones go first. An answer that is gone is made
/// again, and says that the accounts exist instead of that they were created: nothing is done twice.
const RESULTS_PER_SESSION: usize = 16_384;
const RESULTS: usize = 4_194_304;

#[derive(Clone)]
struct State {
    session: Session,
    used: LogTime,
    waiting: u32,
    highest: u64,
    /// Behind an `Arc`, so that a session that is used after an image was taken is copied without its answers.
    answers: Arc<BTreeMap<u64, Vec<CreateResult>>>,
    results: usize,
}

impl State {
    fn digest(&self, sum: &mut Sum) {
        // The answers have a sum of their own.
        let State { session, used, waiting, highest, answers: _, results: _ } = self;
        sum.row(b's', &[session, used, waiting, highest]);
    }
}

/// Sessions that are copied together after an image was taken.
const CHUNK: usize = 64;

/// What a session's sequence number means.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Sequence {
    /// It has not been answered here.
    New,
    /// It was answered so.
    Answered(Vec<CreateResult>),
    /// It is older than the window.
    Outside,
}

/// The sessions of a group.
#[derive(Clone)]
pub(super) struct Sessions {
    limit: usize,
    lifetime: Span,
    rows: Arena<Option<State>, CHUNK>,
    /// The places of those that have expired. The first is taken next, so that the places follow from the rows.
    free: BTreeSet<u32>,
    index: Table<Session, u32>,
    /// Those of which nothing waits, by their last use.
    idle: BTreeSet<(LogTime, Session)>,
    results: usize,
    /// The order-free digest of the answers: there are many, and few change at a time.
    sum: u128,
}

impl Sessions {
    /// No sessions yet.
    pub(super) fn new(seed: u64, limits: &Limits) -> Sessions {
        Sessions {
            limit: limits.sessions,
            lifetime: limits.session_lifetime,
            rows: Arena::new(),
            free: BTreeSet::new(),
            index: Table::new(seed, 64),
            idle: BTreeSet::new(),
            results: 0,
            sum: 0,
        }
    }

    /// Registers a session; again is no change. False if there is no place.
    pub(super) fn register(&mut self, session: Session, now: LogTime) -> bool {
        if self.index.get(&session).is_some() {
            return true;
        }
        if self.index.len() >= self.limit {
            return false;
        }
        let number = self.free.pop_first().unwrap_or_else(|| self.new_place());
        self.put(number, State { session, used: now, waiting: 0, highest: 0, answers: Arc::default(), results: 0 });
        true
    }

    fn new_place(&mut self) -> u32 {
        u32::try_from(self.rows.push(None)).expect("the limit of sessions is below 2^32")
    }

    fn put(&mut self, number: u32, state: State) {
        self.index.insert(state.session, number);
        if state.waiting == 0 {
            self.idle.insert((state.used, state.session));
        }
        *self.rows.at_mut(number as usize) = Some(state);
    }

    /// Whether a session is registered.
    pub(super) fn is_known(&self, session: Session) -> bool {
        self.index.get(&session).is_some()
    }

    fn state(&mut self, session: Session) -> Option<&mut State> {
        let number = *self.index.get(&session)?;
        self.rows.at_mut(number as usize).as_mut()
    }

    /// A session, if it is known, was used. Noted with a grain of a sixteenth of the lifetime, which expiry adds.
    pub(super) fn touch(&mut self, session: Session, sequence: u64, now: LogTime) {
        let grain = self.grain();
        let Some(state) = self.state(session) else { return };
        state.highest = state.highest.max(sequence);
        let before = state.used;
        if state.waiting == 0 && now < before + grain {
            return;
        }
        state.used = now;
        if state.waiting == 0 {
            self.idle.remove(&(before, session));
            self.idle.insert((now, session));
        }
    }

    fn grain(&self) -> Span {
        Span(self.lifetime.0 / 16)
    }

    /// An operation of the session waits.
    pub(super) fn begin_waiting(&mut self, session: Session) {
        let Some(state) = self.state(session) else { return };
        state.waiting += 1;
        if state.waiting == 1 {
            let used = state.used;
            self.idle.remove(&(used, session));
        }
    }

    /// An operation of the session has ended to wait.
    pub(super) fn end_waiting(&mut self, session: Session, now: LogTime) {
        let Some(state) = self.state(session) else { return };
        assert!(state.waiting > 0, "it waited");
        state.waiting -= 1;
        if state.waiting == 0 {
            state.used = now;
            self.idle.insert((now, session));
        }
    }

    /// Ends one session whose time has come; false if there is none.
    pub(super) fn expire_one(&mut self, now: LogTime) -> bool {
        let Some((used, session)) = self.idle.first().copied() else { return false };
        if now < used + self.lifetime + self.grain() {
            return false;
        }
        self.idle.remove(&(used, session));
        let number = self.index.remove(&session).expect("an idle session is registered");
        let state = self.rows.at_mut(number as usize).take().expect("a registered session has a state");
        self.results -= state.results;
        for (sequence, results) in state.answers.iter() {
            self.sum = self.sum.wrapping_sub(hash(session, *sequence, results));
        }
        self.free.insert(number);
        true
    }

    /// What a sequence number of a known session means.
    pub(super) fn sequence(&mut self, session: Session, sequence: u64) -> Sequence {
        let Some(state) = self.state(session) else { return Sequence::New };
        if let Some(answer) = state.answers.get(&sequence) {
            return Sequence::Answered(answer.clone());
        }
        if state.highest >= WINDOW && sequence <= state.highest - WINDOW { Sequence::Outside } else { Sequence::New }
    }

    /// Keeps an answer.
    pub(super) fn answer(&mut self, session: Session, sequence: u64, results: Vec<CreateResult>) {
        let room = RESULTS.saturating_sub(self.results);
        let mut sum = self.sum;
        let Some(state) = self.state(session) else { return };
        let mut freed = 0;
        let mut drop_first = |state: &mut State| {
            if let Some((oldest, old)) = Arc::make_mut(&mut state.answers).pop_first() {
                state.results -= old.len();
                freed += old.len();
                sum = sum.wrapping_sub(hash(session, oldest, &old));
            }
        };
        let horizon = state.highest.saturating_add(1).saturating_sub(WINDOW);
        while state.answers.first_key_value().is_some_and(|(oldest, _)| *oldest < horizon) {
            drop_first(state);
        }
        while !state.answers.is_empty() && state.results + results.len() > RESULTS_PER_SESSION {
            drop_first(state);
        }
        let mut added = 0;
        if results.len() <= room {
            added = results.len();
            state.results += added;
            sum = sum.wrapping_add(hash(session, sequence, &results));
            let before = Arc::make_mut(&mut state.answers).insert(sequence, results);
            assert!(before.is_none(), "an answer is kept once");
        }
        self.results = self.results + added - freed;
        self.sum = sum;
    }

    /// Adds every session to a digest.
    pub(super) fn digest(&self, sum: &mut Sum) {
        for state in self.rows.from(0).flatten() {
            state.digest(sum);
        }
        sum.add(self.sum);
    }

    /// The order-free digest of the answers.
    pub(super) fn sum(&self) -> u128 {
        self.sum
    }

    /// How many sessions there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }
}

/// The sessions as an image has them; nothing in the place of one that has expired.
pub(super) struct SessionsImage(Frozen<Option<State>, CHUNK>);

/// A row of an image.
pub(super) struct ImageRow(Option<State>);

impl Rows for SessionsImage {
    fn len(&self, _part: usize) -> usize {
        self.0.len()
    }

    fn encode(&self, _part: usize, row: usize, out: &mut Vec<u8>) {
        let Some(State { session, used, waiting, highest, answers, results: _ }) = self.0.at(row) else {
            return None::<u8>.encode(out);
        };
        encode_array_len(out, 5);
        let head: [&dyn Encode; 4] = [session, used, waiting, highest];
        head.iter().for_each(|field| field.encode(out));
        encode_array_len(out, answers.len());
        answers.iter().for_each(|answer| answer.encode(out));
    }

    fn digest(&self, _part: usize, row: usize, sum: &mut Sum) {
        if let Some(state) = self.0.at(row) {
            state.digest(sum);
        }
    }
}

impl Decode for State {
    fn decode(reader: &mut Reader<'_>) -> Result<State, DecodeError> {
        reader.array_of(5)?;
        let (session, used) = (Session::decode(reader)?, LogTime::decode(reader)?);
        let (waiting, highest) = (u32::decode(reader)?, u64::decode(reader)?);
        let answers: Vec<(u64, Vec<CreateResult>)> = Vec::decode(reader)?;
        let results = answers.iter().map(|(_, results)| results.len()).sum();
        Ok(State { session, used, waiting, highest, answers: Arc::new(answers.into_iter().collect()), results })
    }
}

impl Decode for ImageRow {
    fn decode(reader: &mut Reader<'_>) -> Result<ImageRow, DecodeError> {
        Option::decode(reader).map(ImageRow)
    }
}

impl Sessions {
    /// The sessions as they are now.
    pub(super) fn image(&mut self) -> SessionsImage {
        // Which places are free, and who is idle, follows from the rows.
        let Sessions { limit: _, lifetime: _, rows, free: _, index: _, idle: _, results: _, sum: _ } = self;
        SessionsImage(rows.freeze())
    }

    /// Takes over the next row of an image.
    pub(super) fn load(&mut self, ImageRow(state): ImageRow) -> Result<(), Fault> {
        if self.rows.len() >= self.limit {
            return Err("more sessions than the limit");
        }
        let number = self.new_place();
        let Some(state) = state else {
            self.free.insert(number);
            return Ok(());
        };
        if self.index.get(&state.session).is_some() {
            return Err("a session twice");
        }
        self.results += state.results;
        for (sequence, results) in state.answers.iter() {
            self.sum = self.sum.wrapping_add(hash(state.session, *sequence, results));
        }
        self.put(number, state);
        Ok(())
    }
}

fn hash(session: Session, sequence: u64, results: &[CreateResult]) -> u128 {
    let mut row = vec![b'r'];
    session.encode(&mut row);
    sequence.encode(&mut row);
    encode_array_len(&mut row, results.len());
    results.iter().for_each(|result| result.encode(&mut row));
    xxhash_rust::xxh3::xxh3_128(&row)
}
