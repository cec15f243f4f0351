//! The simulated disk: the log's real code over bytes in memory.
//!
//! Only the [`device`] is simulated. A [`Disk`] opens it with the [`Store`] of `drachma_protocol`, which is what runs on
//! a node's files: every record is encoded, every restart recovers from bytes. A commit is run at once and takes its
//! time afterwards: the device keeps the row of its operations, and a crash before the end cuts it.
//!
//! The disk also keeps the books, [`image`]: what the records add up to. What is read must be that, and what a node
//! recovers must have all that was acknowledged, or say that it may lack its end.

pub mod device;
mod image;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use drachma_protocol::ids::{ClusterId, DirectoryId, GroupId, NodeId, Slot};
use drachma_protocol::ledger::{Genesis, Ledger, image as ledger};
use drachma_protocol::log::record::{Record, Recovered};
use drachma_protocol::log::segment::Owner;
use drachma_protocol::log::snapshot::{self, LoadError, Name};
use drachma_protocol::log::store::{self, Store, StoreError};
use drachma_protocol::rng::Rng;

use device::{Device, DeviceError};
use image::Image;

/// The size of a segment in bytes: small, so that the log goes over many.
pub const SEGMENT: u32 = 64 << 10;

/// How a node goes down.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Crash {
    /// The process is killed: what it wrote stays in the page cache and is found again.
    Kill,
    /// The machine goes down: what was not synced is lost from some write on; in `torn` of 1,000 cases any sectors of
    /// it are there and any others lost.
    PowerLoss {
        /// Per 1,000.
        torn: u64,
    },
}

/// What a device has in store for whoever asks it next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trouble {
    /// There is no room for another segment, until it is relieved.
    Full,
    /// After so many good syncs one fails.
    FailedSync(u32),
    /// What is read next has a bit flipped, here in it; on the disk it is right.
    Misread(u64),
}

/// Why a node does not go on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The directory was never formatted, or is empty.
    NotFormatted,
    /// The device refused, or handed back something else than was written.
    Failed(String),
    /// What is on the disk cannot be used any more.
    Unusable(String),
    /// The store has broken its promise: it found less than it had acknowledged, or something else.
    Broken(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotFormatted => write!(f, "not formatted"),
            Refusal::Failed(text) | Refusal::Unusable(text) | Refusal::Broken(text) => write!(f, "{text}"),
        }
    }
}

/// The device, in the hands of a running node or in nobody's.
#[derive(Debug)]
enum State {
    Down(Device),
    Up(Box<Store<Device>>),
}

/// The log of one node.
#[derive(Debug)]
pub struct Disk {
    owner: Owner,
    groups: Vec<GroupId>,
    state: State,
    formatted: bool,
    /// What was appended since the last commit began.
    queued: Vec<(GroupId, Record)>,
    images: BTreeMap<GroupId, Image>,
    /// What every group may rely on.
    acknowledged: BTreeMap<GroupId, Recovered>,
    doubtful: bool,
    /// How large each group's last snapshot is, as far as is known since it started.
    sizes: BTreeMap<GroupId, u64>,
}

impl Disk {
    /// The formatted disk of a node.
    pub fn new(node: NodeId, directory: DirectoryId, groups: Vec<GroupId>) -> Disk {
        let owner = Owner { cluster: ClusterId(1), node, directory };
        let mut disk = Disk {
            owner,
            groups,
            state: State::Down(Device::default()),
            formatted: false,
            queued: Vec::new(),
            images: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            doubtful: false,
            sizes: BTreeMap::new(),
        };
        disk.format(directory);
        disk
    }

    /// A copy of the disk of a node that is down.
    ///
    /// # Panics
    /// If it runs.
    pub fn copy(&self) -> Disk {
        let State::Down(device) = &self.state else { panic!("the node runs") };
        Disk {
            state: State::Down(device.clone()),
            groups: self.groups.clone(),
            queued: Vec::new(),
            images: self.images.clone(),
            acknowledged: self.acknowledged.clone(),
            sizes: BTreeMap::new(),
            ..*self
        }
    }

    /// A snapshot is about to take the place of the first entries: the books keep them, as they are `chosen`.
    ///
    /// # Errors
    /// If the snapshot has more than was ever chosen: a broken replica.
    pub fn fill(&mut self, group: GroupId, slot: Slot, chosen: &[Bytes]) -> Result<(), String> {
        self.images.entry(group).or_default().fill(slot, chosen)
    }

    /// Writes records of a group; they are not yet durable.
    ///
    /// # Errors
    /// If the records do not follow from those before: a broken replica.
    pub fn append(&mut self, group: GroupId, records: &[Record]) -> Result<(), String> {
        let image = self.images.entry(group).or_default();
        for record in records {
            image.apply(record)?;
            self.queued.push((group, record.clone()));
        }
        Ok(())
    }

    /// Whether anything waits for a commit.
    pub fn is_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// A commit begins: it covers what was appended so far.
    ///
    /// Returns the group that should take a snapshot, if one should: a group has `snapshot_every` bytes of log between
    /// two, or as much as its last one.
    ///
    /// # Errors
    /// If the device refuses: the node stops at once.
    pub fn start_sync(&mut self, snapshot_every: u64) -> Result<Option<GroupId>, Refusal> {
        let State::Up(store) = &mut self.state else { return Ok(None) };
        let segment = store.position().segment;
        let queued = std::mem::take(&mut self.queued);
        let mut commit = || {
            queued.iter().try_for_each(|(group, record)| store.push(*group, record))?;
            store.write()?;
            store.sync()?;
            store.keep_promises(true)?;
            store.prepare();
            Ok(())
        };
        commit().map_err(|error: DeviceError| Refusal::Failed(error.to_string()))?;
        let share = 2 * self.groups.len() as u64;
        let size = |group| self.sizes.get(&group).copied().unwrap_or(0);
        let enough = |group| size(group).max(snapshot_every).saturating_mul(share);
        Ok(store.overdue(enough).filter(|_| store.position().segment > segment))
    }

    /// The commit that was begun is done.
    pub fn finish_sync(&mut self) {
        if let State::Up(store) = &mut self.state {
            store.device_mut().settle();
            self.acknowledged = states(store);
        }
    }

    /// The snapshot of an image is being written: not durable before [`finish_snapshot`](Self::finish_snapshot). Returns
    /// its size in bytes.
    ///
    /// # Errors
    /// If the device refuses: the node stops at once.
    pub fn start_snapshot(&mut self, group: GroupId, image: ledger::Image) -> Result<u64, Refusal> {
        let cluster = self.owner.cluster;
        let written = snapshot::write(self.device_mut(), cluster, group, image);
        let bytes = written.map_err(|error| Refusal::Failed(error.to_string()))?;
        self.sizes.insert(group, bytes);
        Ok(bytes)
    }

    /// The snapshot that was begun is durable.
    pub fn finish_snapshot(&mut self, group: GroupId) {
        self.device_mut().settle_snapshot(group);
    }

    /// A piece of a whole snapshot.
    ///
    /// # Errors
    /// If the device refuses.
    pub fn read_snapshot(&mut self, group: GroupId, slot: Slot, offset: u64) -> Result<Option<Bytes>, Refusal> {
        let read = snapshot::read(self.device_mut(), group, slot, offset);
        read.map_err(|error| Refusal::Failed(error.to_string()))
    }

    /// The state at which a group's log begins.
    ///
    /// # Errors
    /// If the snapshot cannot be used.
    pub fn load(&mut self, slot: Slot, seed: u64, genesis: &Genesis, parts: usize) -> Result<Ledger, Refusal> {
        let name = Name { cluster: self.owner.cluster, group: genesis.group, slot };
        let loaded = snapshot::load(self.device_mut(), name, (seed, genesis, parts));
        loaded.map_err(|error| match error {
            LoadError::Device(error) => Refusal::Failed(error.to_string()),
            LoadError::Snapshot(error) => Refusal::Unusable(error.to_string()),
        })
    }

    /// The node goes down.
    pub fn crash(&mut self, crash: Crash, rng: &mut Rng) {
        self.queued.clear();
        self.sizes.clear();
        let device = self.take();
        self.state = State::Down(device);
        self.device_mut().crash(crash, rng);
    }

    fn take(&mut self) -> Device {
        match std::mem::replace(&mut self.state, State::Down(Device::default())) {
            State::Down(device) => device,
            State::Up(store) => store.into_device(),
        }
    }

    /// The node starts: what it finds of each group, durable by now (hazard S29).
    ///
    /// # Errors
    /// If it must not start.
    pub fn start(&mut self) -> Result<BTreeMap<GroupId, Recovered>, Refusal> {
        if !self.formatted {
            return Err(Refusal::NotFormatted);
        }
        let device = self.device().clone();
        let (store, _) = match Store::open(device, self.owner, &self.groups, SEGMENT) {
            Ok(opened) => opened,
            Err(StoreError::Device(error)) => return Err(Refusal::Failed(error.to_string())),
            Err(error) => return Err(Refusal::Unusable(error.to_string())),
        };
        let found = states(&store);
        self.state = State::Up(Box::new(store));
        self.device_mut().settle();
        for (group, recovered) in &found {
            let acknowledged = self.acknowledged.remove(group).unwrap_or_default();
            let resumed = self.images.entry(*group).or_default().resume(&acknowledged, recovered);
            resumed.map_err(|text| Refusal::Broken(format!("{group} {text}")))?;
        }
        self.doubtful = found.values().any(|recovered| recovered.doubtful);
        self.acknowledged.clone_from(&found);
        Ok(found)
    }

    /// The node starts and goes down again before it has recovered.
    pub fn start_in_vain(&mut self, crash: Crash, rng: &mut Rng) {
        let device = self.device().clone();
        if let Ok((store, _)) = Store::open(device, self.owner, &self.groups, SEGMENT) {
            self.state = State::Up(Box::new(store));
            self.crash(crash, rng);
        }
    }

    /// Entries in `[from, until)`, as many as fit `bytes` but at least one, as far as there are any. All that was appended
    /// must have been committed.
    ///
    /// # Errors
    /// If the device hands back something else than was written.
    pub fn read(&mut self, group: GroupId, from: Slot, until: Slot, bytes: usize) -> Result<Vec<Bytes>, Refusal> {
        let State::Up(store) = &mut self.state else { return Ok(Vec::new()) };
        let read = store.entries(group, (from, until), bytes);
        let entries = read.map_err(|error| Refusal::Failed(error.to_string()))?;
        let image = self.images.get(&group);
        let expected = image.map_or(&[][..], |image| image.entries(from, until));
        // What a snapshot has taken the place of may be gone, or not yet.
        let gone = image.is_some_and(|image| from < image.start);
        if !expected.starts_with(&entries) || (entries.is_empty() && !expected.is_empty() && !gone) {
            return Err(Refusal::Broken(format!(
                "{group} reads {} entries from {from} that it never wrote",
                entries.len()
            )));
        }
        Ok(entries)
    }

    /// The entries in `[from, until)` as they were appended, committed or not: for the checkers.
    pub fn appended(&self, group: GroupId, from: Slot, until: Slot) -> &[Bytes] {
        self.images.get(&group).map_or(&[], |image| image.entries(from, until))
    }

    /// Whether the log of a group has at least the group's first entry, acknowledged.
    pub fn has_begun(&self, group: GroupId) -> bool {
        self.acknowledged.get(&group).is_some_and(|state| state.chosen > Slot(0) || !state.tail.is_empty())
    }

    /// Whether some group's log may lack its end.
    pub fn is_doubtful(&self) -> bool {
        match &self.state {
            State::Down(_) => self.doubtful,
            State::Up(store) => states(store).values().any(|recovered| recovered.doubtful),
        }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        match &self.state {
            State::Down(device) => device,
            State::Up(store) => store.device(),
        }
    }

    /// The device, to harm it.
    pub fn device_mut(&mut self) -> &mut Device {
        match &mut self.state {
            State::Down(device) => device,
            State::Up(store) => store.device_mut(),
        }
    }

    /// Everything on the disk of a node that is down goes away.
    pub fn wipe(&mut self) {
        self.device_mut().wipe();
        self.images.clear();
        self.acknowledged.clear();
        (self.formatted, self.doubtful) = (false, false);
    }

    /// Formats the empty disk of a node that is down, as another directory.
    ///
    /// # Panics
    /// If it is not empty.
    pub fn format(&mut self, directory: DirectoryId) {
        assert!(!self.formatted, "a directory is formatted once");
        self.owner.directory = directory;
        let (owner, groups) = (self.owner, self.groups.clone());
        let device = self.device_mut();
        store::format(device, owner, &groups, SEGMENT).expect("a new device refuses nothing");
        device.settle();
        self.formatted = true;
    }
}

fn states(store: &Store<Device>) -> BTreeMap<GroupId, Recovered> {
    store.groups().iter().map(|(group, state)| (*group, state.recovered())).collect()
}
