//! One node as a process: started here, or found by its state file.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use drachma_protocol::ids::NodeId;
use rustix::process::{Pid, Signal};
use tokio::sync::watch;

use super::LocalError;

/// How far a started process is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    Starting,
    Ready,
    /// It has closed its standard output without saying that it serves.
    Ended,
}

/// A node's process.
#[derive(Debug)]
pub(super) struct Process {
    node: NodeId,
    data: PathBuf,
    pid: u32,
    // Only the parent of a process is told of its end.
    child: Option<Child>,
    pub(super) progress: watch::Receiver<Progress>,
}

/// How to start one.
#[derive(Debug)]
pub(super) struct Start<'a> {
    pub(super) executable: &'a Path,
    pub(super) node: NodeId,
    pub(super) config: &'a Path,
    pub(super) data: &'a Path,
    pub(super) owned: bool,
}

/// The file with what a node says on standard error.
pub(super) fn log_file(data: &Path, node: NodeId) -> PathBuf {
    data.join(format!("{node}.log"))
}

impl Process {
    /// Starts a node.
    pub(super) fn start(start: &Start<'_>) -> Result<Process, LocalError> {
        let path = log_file(start.data, start.node);
        let log = OpenOptions::new().create(true).append(true).open(&path);
        let log = log.map_err(|error| LocalError::io(format!("cannot write {}", path.display()), error))?;
        let mut command = Command::new(start.executable);
        command.args(arguments(start.node, start.data)).arg("--config").arg(start.config);
        if start.owned {
            command.arg("--die-with-parent").arg(std::process::id().to_string());
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        // A Ctrl-C in the terminal is for the command, which stops the nodes in order.
        command.process_group(0);
        let mut child = command.spawn().map_err(|error| {
            LocalError::io(format!("cannot start {} as {}", start.node, start.executable.display()), error)
        })?;
        let (sender, progress) = watch::channel(Progress::Starting);
        if let Some(output) = child.stdout.take() {
            std::thread::spawn(move || watch_output(output, start_word, &sender));
        }
        let pid = child.id();
        Ok(Process { node: start.node, data: start.data.to_owned(), pid, child: Some(child), progress })
    }

    /// The process that a state file names, if it still is that node.
    pub(super) fn find(node: NodeId, data: &Path, pid: u32) -> Option<Process> {
        let (_, progress) = watch::channel(Progress::Ready);
        let process = Process { node, data: data.to_owned(), pid, child: None, progress };
        process.is_the_node().then_some(process)
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Process ids are used again, and an ended process may not have been waited for: only the arguments tell.
    fn is_the_node(&self) -> bool {
        let Ok(line) = std::fs::read(format!("/proc/{}/cmdline", self.pid)) else { return false };
        let found: Vec<&[u8]> = line.split(|byte| *byte == 0).skip(1).collect();
        let wanted = arguments(self.node, &self.data);
        found.len() > wanted.len() && found.iter().zip(&wanted).all(|(found, wanted)| *found == wanted.as_bytes())
    }

    /// Whether it runs.
    pub(super) fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => matches!(child.try_wait(), Ok(None)),
            None => self.is_the_node(),
        }
    }

    /// Sends a signal; a process that has ended is no error.
    pub(super) fn signal(&mut self, signal: Signal) -> Result<(), LocalError> {
        if !self.is_running() {
            return Ok(());
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        match rustix::process::kill_process(pid, signal) {
            Err(error) if error != rustix::io::Errno::SRCH => {
                Err(LocalError::io(format!("cannot signal {} (process {})", self.node, self.pid), error.into()))
            }
            _ => Ok(()),
        }
    }

    /// Waits for its end; false if the time is up.
    pub(super) fn wait(&mut self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        while self.is_running() {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Ends it at once (SIGKILL) and waits for that.
    pub(super) fn kill(&mut self) -> Result<(), LocalError> {
        const PATIENCE: Duration = Duration::from_secs(30);
        self.signal(Signal::KILL)?;
        if self.wait(PATIENCE) {
            return Ok(());
        }
        Err(LocalError::State(format!("{} (process {}) does not end, although it was killed", self.node, self.pid)))
    }
}

/// The first arguments of a node's process; they identify it.
fn arguments(node: NodeId, data: &Path) -> Vec<String> {
    ["node", "--id", &node.to_string(), "--data", &data.display().to_string()].map(str::to_owned).into()
}

fn start_word(line: &str) -> bool {
    line.starts_with("ready ")
}

fn watch_output(output: ChildStdout, is_ready: fn(&str) -> bool, sender: &watch::Sender<Progress>) {
    let ready = BufReader::new(output).lines().map_while(Result::ok).any(|line| is_ready(&line));
    // Nobody may be listening any more.
    let _ = sender.send(if ready { Progress::Ready } else { Progress::Ended });
}

/// The end of what a node said since `from`, for an error message.
pub(super) fn last_words(data: &Path, node: NodeId, from: u64) -> String {
    const LINES: usize = 5;
    let path = log_file(data, node);
    let bytes = std::fs::read(&path).unwrap_or_default();
    let text =
        String::from_utf8_lossy(bytes.get(usize::try_from(from).unwrap_or(0)..).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return format!("it said nothing; see {}", path.display());
    }
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
