//! Prepares the next segment ahead, on a thread of its own.

use std::fs::File;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::StorageError;
use super::files::{self, Layout};

type Made = Result<(File, u32), StorageError>;

/// Makes segments of zeros while the log is written.
pub(super) struct Preparer {
    /// Number and size of what to make; closed to end the thread.
    ask: Option<Sender<(u32, u32)>>,
    made: Receiver<Made>,
    /// One is being made.
    busy: bool,
    /// What was made.
    spare: Option<(File, u32)>,
    thread: Option<JoinHandle<()>>,
}

impl Preparer {
    /// Starts the thread.
    pub(super) fn start(layout: Layout) -> std::io::Result<Preparer> {
        let (ask, asked) = bounded::<(u32, u32)>(1);
        let (tell, made) = bounded::<Made>(1);
        let thread = std::thread::Builder::new().name("log-prepare".into()).spawn(move || {
            for (number, size) in asked {
                let result = files::make_segment(&layout, number, size).map(|file| (file, size));
                if tell.send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(Preparer { ask: Some(ask), made, busy: false, spare: None, thread: Some(thread) })
    }

    /// Has segment `number` made, if it is not there or being made already.
    pub(super) fn prepare(&mut self, number: u32, size: u32) {
        if self.spare.is_none() && !self.busy {
            self.send(number, size);
        }
    }

    /// Segment `number`, of at least `least` bytes; waits for it if need be.
    pub(super) fn take(&mut self, number: u32, size: u32, least: u32) -> Made {
        loop {
            if let Some((file, size)) = self.spare.take_if(|(_, size)| *size >= least) {
                return Ok((file, size));
            }
            // Not there, or too small for the record: a larger one takes its name.
            self.spare = None;
            if !self.busy {
                self.send(number, size.max(least));
            }
            self.busy = false;
            self.spare = Some(self.made.recv().expect("the thread makes what it is asked for")?);
        }
    }

    fn send(&mut self, number: u32, size: u32) {
        let ask = self.ask.as_ref().expect("open until it is dropped");
        ask.send((number, size)).expect("the thread lives until the channel is closed");
        self.busy = true;
    }
}

impl Drop for Preparer {
    /// Waits for the thread: nothing may change in the directory once its lock is given back.
    fn drop(&mut self) {
        self.ask = None;
        if let Some(thread) = self.thread.take() {
            // If it has panicked, that was reported there.
            let _ = thread.join();
        }
    }
}
