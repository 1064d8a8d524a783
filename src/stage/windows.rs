//! Each window of the record → tables, by `unskew fix` in a process of its own.
//!
//! A segment that has ended waits here, the newest first. `fix` writes a folder below `work`, which is synced and renamed to
//! `DIR/windows/window=NAME` when it is whole; then the segment's dumps go, and its models are learnt. So a request is in the tables of exactly one window,
//! whenever either process ends. What fails twice is put aside in `DIR/failed`.

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
use super::log::{self, Folders};
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
    waiting: Vec<String>,
}

/// How often a process is looked at, and the channel while nothing waits.
const LOOK: Duration = Duration::from_millis(50);

impl Worker {
    fn run(mut self, ended: &Receiver<String>) {
        let mut is_open = true;
        while (is_open || !self.waiting.is_empty()) && !self.stop.is_now() {
            loop {
                match ended.try_recv() {
                    Ok(name) => self.waiting.push(name),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        is_open = false;
                        break;
                    }
                }
            }
            self.metrics.windows_waiting(self.waiting.len());
            match self.waiting.pop() {
                Some(name) => self.settle(name),
                None => std::thread::sleep(LOOK),
            }
        }
    }

    fn settle(&mut self, name: String) {
        for last in [false, true] {
            // A clock that is not in this window cannot be its reference.
            let reference = self.recording.reference.as_deref().filter(|_| !last);
            match self.window(&name, reference) {
                Ok(true) => {
                    self.metrics.window_done(true);
                    tracing::info!(window = name, waiting = self.waiting.len(), "a window is written");
                    if let Err(error) = self.prune(SystemTime::now()) {
                        tracing::error!("old windows cannot be removed: {error}");
                    }
                    return;
                }
                // Stopped: the next start does it.
                Ok(false) => return,
                Err(error) if last => {
                    tracing::error!(
                        window = name,
                        "{error:#}; its requests are put aside in {}/failed",
                        self.recording.out.display()
                    );
                    self.metrics.window_done(false);
                    if let Err(error) = self.folders.put_aside(&name, &self.recording.out.join("failed")) {
                        tracing::error!(window = name, "{error}");
                    }
                }
                Err(error) => tracing::warn!(window = name, "{error:#}; once more, without a reference"),
            }
        }
    }

    /// Writes a window's tables and removes its dumps; whether it is done, and was not stopped.
    fn window(&self, name: &str, reference: Option<&str>) -> Result<bool> {
        let (work, done) = (
            self.recording.out.join("work").join(name),
            self.recording.out.join("windows").join(format!("window={name}")),
        );
        // An earlier run may have ended between the two.
        if !done.exists() {
            let dumps = self.folders.dumps_of(name);
            if dumps.is_empty() {
                return Ok(true);
            }
            if work.exists() {
                fs::remove_dir_all(&work)?;
            }
            if !self.fix(&work, &dumps, reference)? {
                return Ok(false);
            }
            sync(&work)?;
            fs::rename(&work, &done)?;
            sync_folder(&self.recording.out.join("windows"))?;
        }
        self.folders.remove(name)?;
        if let Err(error) = self.learner.learn(name, &done) {
            tracing::error!(window = name, "{error:#}; nothing is learnt from it");
        }
        Ok(true)
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

    fn fix(&self, work: &Path, dumps: &[PathBuf], reference: Option<&str>) -> Result<bool> {
        let known = self.learner.known()?;
        let run = |mut command: Command| {
            command.args(["fix", "--while-stdin", "--out"]).arg(work).args(dumps);
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
