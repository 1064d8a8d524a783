//! Each window of the record → tables, by `unskew fix` in a process of its own.
//!
//! A segment that has ended waits here until what came just after it is there, too, the newest first. `fix` writes a folder below
//! `work`, which is synced and renamed to `DIR/windows/window=NAME` when it is whole; then its models are learnt, and the
//! segment's dumps go when the windows beside it are written. So a request is in the tables of exactly one window, whenever either
//! process ends. What fails twice is put aside in `DIR/failed`.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use super::config::Recording;
use super::learner::Learner;
use super::log::{self, Dumps, Folders};
use super::metrics::Metrics;

/// The thread that has `fix` run over what was recorded.
pub struct Windows {
    thread: JoinHandle<()>,
    /// Stops the process that runs.
    stop: Arc<Stop>,
}

/// When to stop, as milliseconds since `began`.
struct Stop {
    began: Instant,
    at_ms: AtomicU64,
}

impl Stop {
    fn is_now(&self) -> bool {
        self.began.elapsed().as_millis() >= u128::from(self.at_ms.load(Ordering::Relaxed))
    }
}

impl Windows {
    /// Works until `ended`, on which segments come that have ended, is closed and none waits.
    ///
    /// # Errors
    /// Where a folder cannot be made, or no thread begins.
    pub fn start(
        recording: &Recording,
        ended: Receiver<String>,
        learner: Learner,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let out = &recording.out;
        fs::create_dir_all(out.join("work")).with_context(|| format!("cannot write in {}", out.display()))?;
        let stop = Arc::new(Stop { began: Instant::now(), at_ms: AtomicU64::new(u64::MAX) });
        let worker = Worker {
            folders: Folders::below(out)?,
            recording: recording.clone(),
            program: std::env::current_exe()?,
            learner,
            metrics,
            stop: Arc::clone(&stop),
            waiting: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("windows".to_owned()).spawn(move || worker.run(&ended))?;
        Ok(Self { thread, stop })
    }

    /// Waits until all that waits is written, but no longer than this. What is left is done at the next start.
    pub fn finish(self, within: Duration) {
        let at = self.stop.began.elapsed().saturating_add(within);
        self.stop.at_ms.store(u64::try_from(at.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        let _ = self.thread.join();
    }
}

struct Worker {
    folders: Folders,
    recording: Recording,
    program: PathBuf,
    learner: Learner,
    metrics: Arc<Metrics>,
    stop: Arc<Stop>,
    /// Segments, and when each ended.
    waiting: Vec<(String, Instant)>,
}

/// What became of a window.
enum Done {
    Written,
    /// By an earlier run, or as there was nothing to write.
    Before,
    /// The stage ends.
    Stopped,
}

/// How often a process is looked at, and the channel while nothing waits.
const LOOK: Duration = Duration::from_millis(50);

impl Worker {
    fn run(mut self, ended: &Receiver<String>) {
        let mut is_open = true;
        while (is_open || !self.waiting.is_empty()) && !self.stop.is_now() {
            loop {
                match ended.try_recv() {
                    Ok(name) => self.waiting.push((name, Instant::now())),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        is_open = false;
                        break;
                    }
                }
            }
            self.metrics.windows_waiting(self.waiting.len());
            // The newest first; when nothing more comes, all are ready.
            let is_ready = |(_, ended): &(String, Instant)| !is_open || ended.elapsed() >= self.recording.grace;
            match self.waiting.iter().rposition(is_ready) {
                Some(at) => {
                    let (name, _) = self.waiting.remove(at);
                    self.settle(&name);
                    let is_last = !is_open && self.waiting.is_empty();
                    if let Err(error) = self.tidy(is_last).and_then(|()| self.prune(SystemTime::now())) {
                        tracing::error!("what is no longer needed cannot be removed: {error}");
                    }
                }
                None => std::thread::sleep(LOOK),
            }
        }
    }

    fn settle(&mut self, name: &str) {
        for last in [false, true] {
            // A clock that is not in this window cannot be its reference.
            let reference = self.recording.reference.as_deref().filter(|_| !last);
            match self.window(name, reference) {
                Ok(Done::Written) => {
                    self.metrics.window_done(true);
                    tracing::info!(window = name, waiting = self.waiting.len(), "a window is written");
                    return;
                }
                // It was before, or the next start does it.
                Ok(Done::Before | Done::Stopped) => return,
                Err(error) if last => {
                    tracing::error!(
                        window = name,
                        "{error:#}; its requests are put aside in {}/failed",
                        self.recording.out.display()
                    );
                    self.metrics.window_done(false);
                    if let Err(error) = self.folders.put_aside(name, &self.recording.out.join("failed")) {
                        tracing::error!(window = name, "{error}");
                    }
                }
                Err(error) => tracing::warn!(window = name, "{error:#}; once more, without a reference"),
            }
        }
    }

    /// The folder of a window's tables.
    fn tables(&self, name: &str) -> PathBuf {
        self.recording.out.join("windows").join(format!("window={name}"))
    }

    /// Writes a window's tables, and learns from them.
    fn window(&self, name: &str, reference: Option<&str>) -> Result<Done> {
        let (work, tables) = (self.recording.out.join("work"), self.tables(name));
        let dumps = self.folders.dumps_of(name);
        // An earlier run may have ended before it learnt.
        let was_done = tables.exists();
        if !was_done {
            if dumps.is_empty() {
                return Ok(Done::Before);
            }
            for left in fs::read_dir(&work)? {
                remove(&left?.path())?;
            }
            let context = self.context(name, &work)?;
            let made = work.join(name);
            if !self.fix(&made, (&dumps, &context), reference)? {
                return Ok(Done::Stopped);
            }
            sync(&made)?;
            fs::rename(&made, &tables)?;
            sync_folder(&self.recording.out.join("windows"))?;
            context.iter().try_for_each(fs::remove_file)?;
        }
        if let Err(error) = self.learner.learn(name, &tables) {
            tracing::error!(window = name, "{error:#}; nothing is learnt from it");
        }
        Ok(if was_done { Done::Before } else { Done::Written })
    }

    /// Dumps of the requests that came just before and just after a window's: calls across its ends are evidence of both.
    fn context(&self, name: &str, work: &Path) -> io::Result<Vec<PathBuf>> {
        let Some((first, last)) = self.folders.arrivals(name)? else { return Ok(Vec::new()) };
        let segments = self.folders.segments()?;
        let at = segments.iter().position(|other| other == name).unwrap_or(segments.len());
        let grace_ns = i64::try_from(self.recording.grace.as_nanos()).unwrap_or(i64::MAX);
        let within = first.saturating_sub(grace_ns)..last.saturating_add(grace_ns);
        let mut copied = Dumps::at(&work.join(format!("{name}-context")));
        let others = segments[..at].iter().rev().chain(segments.iter().skip(at + 1));
        for other in others.filter(|other| !self.folders.dumps_of(other).is_empty()) {
            self.folders.copy(other, &within, &mut copied)?;
        }
        copied.finish()
    }

    /// Removes the dumps of windows that are written, once no window beside them is still to be: they are its context.
    fn tidy(&self, is_last: bool) -> io::Result<()> {
        let segments = self.folders.segments()?;
        let is_written = |name: &String| self.tables(name).exists();
        // One that failed has no dumps.
        let waits = |name: &String| !is_written(name) && !self.folders.dumps_of(name).is_empty();
        for (at, name) in segments.iter().enumerate().filter(|(_, name)| is_written(name)) {
            let before = at.checked_sub(1).map(|before| &segments[before]);
            let next = segments.get(at + 1);
            let is_needed = before.is_some_and(waits) || next.is_none_or(waits);
            if is_last || !is_needed {
                self.folders.remove(name)?;
            }
        }
        Ok(())
    }

    /// Removes the tables of windows that are too old, and of the oldest ones while there are too many: never the newest.
    fn prune(&self, now: SystemTime) -> io::Result<()> {
        let mut windows = Vec::new();
        for entry in fs::read_dir(self.recording.out.join("windows"))? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.strip_prefix("window=")) {
                let age = now.duration_since(entry.metadata()?.modified()?).unwrap_or_default();
                windows.push((log::number(name), age, length(&entry.path())?, entry.path()));
            }
        }
        windows.sort();
        windows.pop();
        let mut total = self.folders.length()? + windows.iter().map(|(_, _, length, _)| length).sum::<u64>();
        for (_, age, length, path) in windows {
            if age > self.recording.keep || total > self.recording.keep_bytes {
                fs::remove_dir_all(&path)?;
                tracing::info!(window = %path.display(), "removed: older than what is kept");
                total -= length;
            }
        }
        Ok(())
    }

    /// Has `fix` write tables; whether it did, and was not stopped.
    fn fix(&self, out: &Path, (dumps, context): (&[PathBuf], &[PathBuf]), reference: Option<&str>) -> Result<bool> {
        let known = self.learner.known()?;
        let run = |mut command: Command| {
            command.args(["fix", "--while-stdin", "--out"]).arg(out).args(dumps);
            command.args(context.iter().flat_map(|context| [OsStr::new("--context"), context.as_os_str()]));
            command.args(known.iter().flat_map(|known| [OsStr::new("--after"), known.as_os_str()]));
            command.args(reference.map(|reference| ["--reference", reference]).into_iter().flatten());
            // It ends with us: then its standard input does.
            command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
        };
        // What passes comes first.
        let mut nice = Command::new("nice");
        nice.args(["-n", "19"]).arg(&self.program);
        let mut child = run(nice)
            .or_else(|_| run(Command::new(&self.program)))
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        let said = child.stderr.take().map(|stderr| std::thread::spawn(move || io::read_to_string(stderr)));
        let Some(status) = self.wait(&mut child)? else { return Ok(false) };
        if !status.success() {
            let said = said.and_then(|said| said.join().ok()?.ok()).unwrap_or_default();
            bail!("`fix` ended with {status}: {}", said.trim().lines().last().unwrap_or_default());
        }
        Ok(true)
    }

    /// `None` where it was stopped.
    fn wait(&self, child: &mut Child) -> io::Result<Option<std::process::ExitStatus>> {
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if self.stop.is_now() {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// Removes a file, or a folder with all that is below it.
fn remove(path: &Path) -> io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Bytes of all files below a folder.
fn length(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sum += if entry.file_type()?.is_dir() { length(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(sum)
}

/// Syncs a folder with all that is below it.
fn sync(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync(&entry.path())?;
        } else {
            fs::File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(folder)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    fs::File::open(folder)?.sync_all()
}
