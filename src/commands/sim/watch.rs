//! Watching a hunt: a progress line, and Ctrl-C.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use drachma_sim::run::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;

/// How often the line is drawn on a terminal.
const DRAWN: Duration = Duration::from_millis(200);
/// How often it is written elsewhere.
const WRITTEN: Duration = Duration::from_secs(5);

/// A flag that Ctrl-C, or a request to stop, sets; the second one ends the process.
///
/// # Errors
/// If the system has no descriptors or threads left.
pub(super) fn interruption() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let flag = Arc::clone(&stop);
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if flag.swap(true, Ordering::Relaxed) {
                    std::process::exit(Exit::Interrupted.status().into());
                }
            }
        });
    })?;
    Ok(stop)
}

/// A hunt's progress line, on standard error.
pub(super) struct Watch {
    bar: ProgressBar,
    count: u64,
    began: Instant,
}

impl Watch {
    pub(super) fn new(count: u64) -> Watch {
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {msg}, {eta} left");
            ProgressBar::with_draw_target(Some(count), ProgressDrawTarget::stderr())
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        } else {
            ProgressBar::hidden()
        };
        Watch { bar, count, began: Instant::now() }
    }

    /// Says something without the line in between.
    pub(super) fn aside<T>(&self, say: impl FnOnce() -> T) -> T {
        self.bar.suspend(say)
    }

    /// Does the work while another thread draws the line.
    pub(super) fn during<T>(&self, progress: &Progress, work: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let drawer = scope.spawn(|| self.draw(progress, &over));
            let result = work();
            over.store(true, Ordering::Release);
            drawer.thread().unpark();
            result
        })
    }

    fn draw(&self, progress: &Progress, over: &AtomicBool) {
        let every = if self.bar.is_hidden() { WRITTEN } else { DRAWN };
        let mut next = Instant::now() + every;
        while !over.load(Ordering::Acquire) {
            let now = Instant::now();
            if now < next {
                std::thread::park_timeout(next - now);
                continue;
            }
            next = now + every;
            let line = self.line(progress);
            if self.bar.is_hidden() {
                eprintln!("{line}");
            } else {
                self.bar.set_position(progress.seeds.load(Ordering::Relaxed));
                self.bar.set_message(line);
            }
        }
        self.bar.finish_and_clear();
    }

    fn line(&self, progress: &Progress) -> String {
        let read = |number: &std::sync::atomic::AtomicU64| number.load(Ordering::Relaxed);
        let (seeds, seconds) = (read(&progress.seeds), self.began.elapsed().as_secs_f64());
        format!(
            "{seeds} of {} seeds, {:.1} seeds/s, {:.2} simulated hours, {:.1} M events, {} failed",
            self.count,
            seeds as f64 / seconds.max(0.001),
            read(&progress.length) as f64 / 3.6e9,
            read(&progress.events) as f64 / 1e6,
            read(&progress.failed),
        )
    }
}
