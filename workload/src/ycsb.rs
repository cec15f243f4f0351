//! YCSB, workloads A to F: records of ten fields of 100 bytes.
//!
//! A record is ten keys, one for each field, which are read by a scan and written one by one, as YCSB reads all fields
//! and writes one. Records lie in a few parts, so that a scan of the next records finds them in order; the parts are
//! spread over the groups. "Zipfian" is YCSB's scrambled one: the hottest record has 3.78 % of the draws, however many
//! there are. D draws by plain zipfian from the latest: name it so with every figure.

use drachma_protocol::ledger::operations::{Key, Operation, Reply, Rows, Scan, Value};
use drachma_protocol::rng::Rng;

use crate::draw::{Zipfian, scrambled_zipfian};
use crate::jobs::{Ended, Job, Jobs, key, put, transaction, weighted};

/// Fields of a record.
pub const FIELDS: u64 = 10;
/// Bytes of a field.
pub const FIELD_BYTES: usize = 100;
/// The most records of a scan.
pub const SCAN: u64 = 100;

/// Which workload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mix {
    /// Half reads, half updates.
    A,
    /// 95 % reads, 5 % updates.
    B,
    /// Reads only.
    C,
    /// 95 % reads of the latest records, 5 % inserts.
    D,
    /// 95 % scans of 1 to 100 records, 5 % inserts.
    E,
    /// Half reads, half updates of what was read first.
    F,
}

/// What a client does next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
}

impl Mix {
    /// The kinds and their shares of 100.
    const fn shares(self) -> ([Kind; 2], [u64; 2]) {
        match self {
            Mix::A => ([Kind::Read, Kind::Update], [50, 50]),
            Mix::B => ([Kind::Read, Kind::Update], [95, 5]),
            Mix::C => ([Kind::Read, Kind::Update], [100, 0]),
            Mix::D => ([Kind::Read, Kind::Insert], [95, 5]),
            Mix::E => ([Kind::Scan, Kind::Insert], [95, 5]),
            Mix::F => ([Kind::Read, Kind::ReadModifyWrite], [50, 50]),
        }
    }
}

/// A table. All clients of one table have the same, but for their number.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which workload.
    pub mix: Mix,
    /// How many records there are at first. At least one.
    pub records: u64,
    /// Over how many parts they are spread: the more, the shorter a scan.
    pub parts: u64,
    /// How many clients insert.
    pub clients: u64,
    /// Which of them this is, from 0: what it inserts, no other does.
    pub client: u64,
    /// What the names of the keys begin with.
    pub prefix: String,
}

impl Settings {
    /// The name of a field.
    pub fn key(&self, record: u64, field: u64) -> Key {
        let (part, place) = (record % self.parts, record / self.parts);
        key(format!("{}{part}/{place:016x}.{field}", self.prefix))
    }

    /// A record, as it is inserted.
    pub fn insert(&self, record: u64, rng: &mut Rng) -> Vec<Operation> {
        (0..FIELDS).map(|field| put(self.key(record, field), self.value(record, field, rng))).collect()
    }

    /// A value says whose it is, so that a mix-up shows.
    fn value(&self, record: u64, field: u64, rng: &mut Rng) -> Value {
        let mut text = format!("{record}.{field} ");
        while text.len() < FIELD_BYTES {
            text.push(char::from(b'a' + rng.below(26) as u8));
        }
        Value::new(text).expect("a hundred bytes")
    }

    fn read(&self, record: u64, records: u64) -> Operation {
        let from = self.key(record, 0);
        Operation::Scan(Scan { from, to: None, limit: (records * FIELDS) as u32 })
    }
}

/// The stream of one client.
#[derive(Clone, Debug)]
pub struct Ycsb {
    settings: Settings,
    rng: Rng,
    latest: Option<Zipfian>,
    inserted: u64,
    /// What was read is to be written next.
    modifies: Option<u64>,
    busy: bool,
}

impl Ycsb {
    /// The stream that `seed` determines.
    ///
    /// # Panics
    /// If there is no record, no part, or no client of this number.
    pub fn new(settings: Settings, seed: u64) -> Ycsb {
        assert!(settings.records > 0 && settings.parts > 0 && settings.client < settings.clients, "{settings:?}");
        let latest = (settings.mix == Mix::D).then(|| Zipfian::new(settings.records));
        Ycsb { settings, rng: Rng::new(seed), latest, inserted: 0, modifies: None, busy: false }
    }

    /// The record that this client inserted as its `number`th.
    fn own(&self, number: u64) -> u64 {
        self.settings.records + number * self.settings.clients + self.settings.client
    }

    /// One that exists. Of what others have inserted this client does not know.
    fn record(&mut self) -> u64 {
        let all = self.settings.records + self.inserted;
        let index = match &self.latest {
            Some(latest) => all - 1 - latest.draw(&mut self.rng),
            None => scrambled_zipfian(&mut self.rng, all),
        };
        if index < self.settings.records { index } else { self.own(index - self.settings.records) }
    }

    fn update(&mut self, record: u64) -> Job {
        let field = self.rng.below(FIELDS);
        let value = self.settings.value(record, field, &mut self.rng);
        let write = put(self.settings.key(record, field), value);
        transaction(&mut self.rng, Vec::new(), vec![write])
    }
}

impl Jobs for Ycsb {
    fn next(&mut self) -> Option<Job> {
        if std::mem::replace(&mut self.busy, true) {
            return None;
        }
        if let Some(record) = self.modifies.take() {
            return Some(self.update(record));
        }
        let (kinds, shares) = self.settings.mix.shares();
        Some(match kinds[weighted(&mut self.rng, &shares)] {
            Kind::Read => {
                let record = self.record();
                Job::Query(vec![self.settings.read(record, 1)])
            }
            Kind::Update => {
                let record = self.record();
                self.update(record)
            }
            Kind::Scan => {
                let (record, records) = (self.record(), 1 + self.rng.below(SCAN));
                Job::Query(vec![self.settings.read(record, records)])
            }
            Kind::ReadModifyWrite => {
                let record = self.record();
                self.modifies = Some(record);
                Job::Query(vec![self.settings.read(record, 1)])
            }
            Kind::Insert => {
                let record = self.own(self.inserted);
                self.inserted += 1;
                let operations = self.settings.insert(record, &mut self.rng);
                transaction(&mut self.rng, Vec::new(), operations)
            }
        })
    }

    fn ended(&mut self, ended: &Ended) {
        self.busy = false;
        if !matches!(ended, Ended::Replies(_)) {
            self.modifies = None; // What could not be read is not written.
        }
    }
}

/// What must hold of the reply to a read of records that exist: whole records, each field with a value of its own.
///
/// # Errors
/// What is wrong.
pub fn check(settings: &Settings, reply: &Reply) -> Result<(), String> {
    let Reply::Rows(Rows { rows, .. }) = reply else { return Err(format!("{reply:?} is no answer to a scan")) };
    if rows.is_empty() || !rows.len().is_multiple_of(FIELDS as usize) {
        return Err(format!("{} rows are no whole records", rows.len()));
    }
    for (index, (key, value)) in rows.iter().enumerate() {
        let text = std::str::from_utf8(value.as_bytes()).unwrap_or_default();
        let says = text.split_once(' ').and_then(|(name, _)| name.split_once('.'));
        let record = says.and_then(|(record, _)| record.parse::<u64>().ok());
        let field = index as u64 % FIELDS;
        let right = record.is_some_and(|record| settings.key(record, field) == *key) && text.len() == FIELD_BYTES;
        if !right || says.map(|(_, field)| field) != Some(field.to_string().as_str()) {
            return Err(format!("{key:?} holds {value:?}"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::jobs::tests::chi_square;

    fn settings(mix: Mix) -> Settings {
        Settings { mix, records: 1000, parts: 8, clients: 3, client: 1, prefix: "y".to_owned() }
    }

    /// Carries a job out; the number of rows read, or nothing if it was a write.
    fn carry_out(settings: &Settings, store: &mut BTreeMap<Key, Value>, job: &Job) -> (Ended, Option<usize>) {
        match job {
            Job::Query(reads) => {
                let [Operation::Scan(scan)] = &reads[..] else { panic!("{reads:?}") };
                let rows = store.range(&scan.from..).filter(|(key, _)| scan.covers(key)).take(scan.limit as usize);
                let rows: Vec<_> = rows.map(|(key, value)| (key.clone(), value.clone())).collect();
                let (count, reply) = (rows.len(), Reply::Rows(Rows { rows, next: None }));
                assert_eq!(check(settings, &reply), Ok(()));
                (Ended::Replies(vec![reply]), Some(count))
            }
            Job::Transact(transaction) => {
                for operation in &transaction.operations {
                    let Operation::Put(put) = operation else { panic!("{operation:?}") };
                    store.insert(put.key.clone(), put.value.clone());
                }
                (Ended::Replies(Vec::new()), None)
            }
        }
    }

    fn run(mix: Mix) -> [u64; 2] {
        let settings = settings(mix);
        let (mut store, mut rng) = (BTreeMap::new(), Rng::new(1));
        for record in 0..settings.records {
            carry_out(
                &settings,
                &mut store,
                &transaction(&mut Rng::new(record), Vec::new(), settings.insert(record, &mut rng)),
            );
        }
        let mut client = Ycsb::new(settings.clone(), 5);
        let mut counts = [0; 2];
        while counts[0] + counts[1] < 10_000 {
            let job = client.next().expect("the last one has ended");
            let modifies = client.modifies.is_some();
            let (ended, read) = carry_out(&settings, &mut store, &job);
            assert_eq!(client.next(), None, "one after the other");
            client.ended(&ended);
            counts[usize::from(read.is_none() || modifies)] += 1;
            if modifies {
                let write = client.next().expect("what was read is written");
                client.ended(&carry_out(&settings, &mut store, &write).0);
                assert!(matches!(write, Job::Transact(transaction) if transaction.operations.len() == 1));
            }
        }
        counts
    }

    #[test]
    fn every_mix_has_its_shares_and_reads_whole_records() {
        for mix in [Mix::A, Mix::B, Mix::D, Mix::E, Mix::F] {
            let counts = run(mix);
            // One degree of freedom: 10.83 is passed once in a thousand.
            let chi = chi_square(&counts, &mix.shares().1);
            assert!(chi < 10.83, "{mix:?}: {counts:?}, chi-square {chi}");
        }
        assert_eq!(run(Mix::C), [10_000, 0]);
    }

    #[test]
    fn the_hottest_records_have_the_shares_of_their_distributions() {
        let shares = |mix: Mix| {
            let mut client = Ycsb::new(settings(mix), 9);
            let mut counts = vec![0u64; 1000];
            (0..200_000).for_each(|_| counts[client.record() as usize] += 1);
            counts.into_iter().map(|count| count as f64 / 2_000.0).collect::<Vec<f64>>()
        };
        let scrambled = shares(Mix::A);
        let hottest = scrambled.iter().copied().fold(0.0, f64::max);
        // 1 / zeta, and what else falls on the same of 1,000 records.
        assert!((3.7..4.1).contains(&hottest), "{hottest} %");
        // Plain: 1 / k^0.99 over the sum for 1,000 records, 7.7289.
        let latest = shares(Mix::D);
        for (rank, share) in [(1, 12.94), (2, 6.51), (10, 1.32)] {
            let found = latest[1000 - rank];
            assert!((share * 0.9..share * 1.1).contains(&found), "rank {rank}: {found} %, not {share} %");
        }
    }

    #[test]
    fn a_torn_record_and_a_value_under_another_key_are_found() {
        let settings = settings(Mix::A);
        let operations = settings.insert(17, &mut Rng::new(1));
        let mut rows: Vec<_> = operations
            .iter()
            .map(|operation| match operation {
                Operation::Put(put) => (put.key.clone(), put.value.clone()),
                other => panic!("{other:?}"),
            })
            .collect();
        let reply = |rows: &[(Key, Value)]| Reply::Rows(Rows { rows: rows.to_vec(), next: None });
        assert_eq!(check(&settings, &reply(&rows)), Ok(()));
        assert!(check(&settings, &reply(&rows[..9])).unwrap_err().contains("whole records"));
        assert!(check(&settings, &reply(&[])).is_err());
        let other = rows[1].1.clone();
        rows[3].1 = other;
        assert!(check(&settings, &reply(&rows)).unwrap_err().contains("holds"));
    }
}
