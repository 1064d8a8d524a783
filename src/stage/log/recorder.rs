//! The thread that writes the log, and what requests tell it.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use bytes::Bytes;
use tokio::sync::oneshot;

use super::segment::{Folders, Received, Recovered, Segment, recover};
use crate::stage::config::Recording;
use crate::stage::request::Encoding;

/// Why a request is not on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotRecorded(pub String);

/// Takes requests to be recorded. The thread ends when it is dropped, and all that was handed in is on disk then.
pub struct Recorder {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    known: Arc<Known>,
    /// The last that was tried was not recorded.
    fails: Arc<AtomicBool>,
    /// Held against a second stage.
    _lock: File,
}

enum Job {
    Record(Waiting),
    /// The open segment ends, and nothing is recorded any more.
    Close(oneshot::Sender<()>),
}

struct Waiting {
    received: Received,
    done: oneshot::Sender<Result<(), NotRecorded>>,
}

/// Requests that are on disk: hashes of this segment's and the last one's.
#[derive(Default)]
struct Known(RwLock<[HashSet<u128>; 2]>);

impl Known {
    fn holds(&self, hash: u128) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).iter().any(|hashes| hashes.contains(&hash))
    }

    fn add(&self, hashes: impl Iterator<Item = u128>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner)[0].extend(hashes);
    }

    fn turn(&self) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        known.swap(0, 1);
        known[0].clear();
    }
}

/// So much is written and synced at once.
const GROUP_BYTES: usize = 16 << 20;

impl Recorder {
    /// Opens a log, and reads again what an earlier run left. Names of segments that have ended go to `ended`.
    ///
    /// # Errors
    /// Where the folder cannot be written, or another stage has it.
    pub fn open(recording: &Recording, ended: Sender<String>) -> Result<Self> {
        let out = recording.out.display();
        let folders = Folders::below(&recording.out).with_context(|| format!("cannot record in {out}"))?;
        let lock = File::create(recording.out.join("lock"))?;
        lock.try_lock().map_err(|error| anyhow!("{out} is another stage's: {error}"))?;
        let segments = folders.segments()?;
        let known = Arc::new(Known::default());
        // Only the last can be torn: others were whole when it began.
        for name in segments.iter().rev().take(2).rev() {
            let Recovered { entries, cut_bytes } =
                recover(&folders, name).with_context(|| format!("cannot read {out}/index/{name}.index again"))?;
            if cut_bytes > 0 {
                tracing::warn!(segment = name, cut_bytes, "the log ended within a request, which was not acknowledged");
            }
            known.turn();
            known.add(entries.iter().map(|entry| entry.hash));
        }
        // What comes is another segment's.
        known.turn();
        for name in segments.iter().filter(|name| !folders.dumps_of(name).is_empty()) {
            // Nobody may want to know.
            let _ = ended.send(name.clone());
        }
        let (jobs, taken) = channel();
        let fails = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            length: folders.length()?,
            recording: recording.clone(),
            last: folders.last_number()?,
            folders,
            open: None,
            known: Arc::clone(&known),
            fails: Arc::clone(&fails),
            ended,
        };
        let thread = std::thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&taken))?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread), known, fails, _lock: lock })
    }

    /// Whether a request of these bytes is on disk: a sender whose acknowledgement was lost sends it again.
    pub fn holds(&self, hash: u128) -> bool {
        self.known.holds(hash)
    }

    /// Whether the last request was not recorded.
    pub fn fails(&self) -> bool {
        self.fails.load(Ordering::Relaxed)
    }

    /// Records a request, and returns when it is on disk.
    ///
    /// # Errors
    /// Where it is not.
    pub async fn record(
        &self,
        (encoding, bytes, hash): (Encoding, Bytes, u128),
        spans: usize,
        arrival_ns: i64,
    ) -> Result<(), NotRecorded> {
        let ended = || NotRecorded("the log is closed".to_owned());
        let (done, written) = oneshot::channel();
        let received = Received { encoding, bytes, hash, spans: spans as u32, arrival_ns };
        let jobs = self.jobs.as_ref().ok_or_else(ended)?;
        jobs.send(Job::Record(Waiting { received, done })).map_err(|_| ended())?;
        written.await.map_err(|_| ended())?
    }

    /// Ends the open segment. Nothing is recorded any more.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job::Close(done)).is_ok()) {
            let _ = closed.await;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Writer {
    folders: Folders,
    recording: Recording,
    /// Bytes of the whole log.
    length: u64,
    /// Number of the newest segment.
    last: u64,
    open: Option<Open>,
    known: Arc<Known>,
    fails: Arc<AtomicBool>,
    ended: Sender<String>,
}

struct Open {
    segment: Segment,
    ends: SystemTime,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let left = self.open.as_ref().map_or(Duration::MAX, |open| left_until(open.ends));
            let first = match jobs.recv_timeout(left) {
                Ok(Job::Record(waiting)) => waiting,
                Ok(Job::Close(done)) => {
                    self.end();
                    let _ = done.send(());
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.end_if_over();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // While the last group was synced, others came.
            let mut bytes = first.received.bytes.len();
            let (mut group, mut close) = (vec![first], None);
            while bytes < GROUP_BYTES && close.is_none() {
                match jobs.try_recv() {
                    Ok(Job::Record(waiting)) => {
                        bytes += waiting.received.bytes.len();
                        group.push(waiting);
                    }
                    Ok(Job::Close(done)) => close = Some(done),
                    Err(_) => break,
                }
            }
            self.write(group);
            if let Some(done) = close {
                self.end();
                let _ = done.send(());
                return;
            }
        }
    }

    /// Writes a group, and tells each of its senders. Of requests that are equal one is written.
    fn write(&mut self, group: Vec<Waiting>) {
        let (mut received, mut waiting, mut hashes) = (Vec::new(), Vec::new(), HashSet::new());
        for Waiting { received: request, done } in group {
            if !self.known.holds(request.hash) && hashes.insert(request.hash) {
                received.push(request);
            }
            waiting.push(done);
        }
        let outcome = if received.is_empty() { Ok(()) } else { self.append(&received) };
        if outcome.is_ok() {
            self.known.add(hashes.into_iter());
        }
        if let Err(error) = &outcome
            && !self.fails.load(Ordering::Relaxed)
        {
            tracing::error!("{error}");
        }
        self.fails.store(outcome.is_err(), Ordering::Relaxed);
        for done in waiting {
            // Whoever asked may have gone.
            let _ = done.send(outcome.clone());
        }
    }

    fn append(&mut self, received: &[Received]) -> Result<(), NotRecorded> {
        let out = self.recording.out.display().to_string();
        if self.length >= self.recording.keep_bytes {
            // Dumps go when their window is written.
            self.length = self.folders.length().unwrap_or(self.length);
        }
        if self.length >= self.recording.keep_bytes {
            let mib = self.recording.keep_bytes >> 20;
            let text =
                format!("{out}/log has its {mib} MiB: windows wait for their tables, or give it more (keep_gib)");
            return Err(NotRecorded(text));
        }
        self.end_if_over();
        let failed = |error: io::Error| NotRecorded(format!("cannot record in {out}: {error}"));
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let now = SystemTime::now();
                let (name, ends) = named(now, self.recording.window, self.last + 1);
                let segment = Segment::new(&self.folders, name).map_err(failed)?;
                self.last += 1;
                tracing::info!(segment = segment.name, "a segment of the log begins");
                self.open.insert(Open { segment, ends })
            }
        };
        match open.segment.append(received) {
            Ok(written) => {
                self.length += written;
                Ok(())
            }
            Err(error) => {
                // What is behind its last whole record is not known: the next request begins another.
                if open.segment.discard_if_empty() {
                    self.open = None;
                } else {
                    self.end();
                }
                Err(failed(error))
            }
        }
    }

    fn end_if_over(&mut self) {
        let is_over =
            |open: &Open| open.segment.spans >= self.recording.window_spans || left_until(open.ends) == Duration::ZERO;
        if self.open.as_ref().is_some_and(is_over) {
            self.end();
        }
    }

    fn end(&mut self) {
        if let Some(Open { segment, .. }) = self.open.take() {
            tracing::info!(segment = segment.name, spans = segment.spans, "a segment of the log ends");
            self.known.turn();
            let _ = self.ended.send(segment.name);
        }
    }
}

fn left_until(ends: SystemTime) -> Duration {
    ends.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO)
}

/// A segment's name, after the window that a time lies in, and when that ends. Where less than half of it is left, what
/// comes belongs to the next as well: too little would be learnt from so few calls.
fn named(now: SystemTime, window: Duration, number: u64) -> (String, SystemTime) {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let into = Duration::from_nanos((since.as_nanos() % window.as_nanos().max(1)) as u64);
    let start = since - into;
    let length = if into > window / 2 { 2 * window } else { window };
    let at = chrono::DateTime::from_timestamp(start.as_secs() as i64, 0).unwrap_or_default();
    (format!("{}-{number}", at.format("%Y-%m-%dT%H-%M-%SZ")), SystemTime::UNIX_EPOCH + start + length)
}

#[cfg(test)]
mod tests {
    use super::super::entry::hash;
    use super::super::number;
    use super::*;

    fn recording(out: &std::path::Path) -> Recording {
        let (window, window_spans, keep_bytes) = (Duration::from_mins(10), 1_000, 1 << 20);
        Recording {
            out: out.to_owned(),
            window,
            window_spans,
            grace: Duration::ZERO,
            keep: Duration::from_hours(1),
            keep_bytes,
            reference: None,
        }
    }

    fn opened(out: &std::path::Path) -> Result<Recorder> {
        Recorder::open(&recording(out), channel().0)
    }

    async fn record(recorder: &Recorder, text: &str, spans: usize) -> Result<(), NotRecorded> {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let hash = hash(&bytes);
        recorder.record((Encoding::Protobuf, bytes, hash), spans, 0).await
    }

    #[tokio::test]
    async fn what_is_recorded_is_known_after_a_restart_and_recorded_once() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = opened(folder.path()).unwrap();
        assert!(!recorder.holds(hash(b"one")));
        record(&recorder, "one", 1).await.unwrap();
        record(&recorder, "one", 1).await.unwrap();
        assert!(recorder.holds(hash(b"one")));
        assert!(opened(folder.path()).is_err(), "a second stage");
        drop(recorder);
        let recorder = opened(folder.path()).unwrap();
        assert!(recorder.holds(hash(b"one")));
        record(&recorder, "two", 1).await.unwrap();
        let folders = Folders::below(folder.path()).unwrap();
        let segments = folders.segments().unwrap();
        assert_eq!(segments.iter().map(|name| number(name)).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(recover(&folders, &segments[0]).unwrap().entries.len(), 1);
    }

    #[tokio::test]
    async fn a_segment_ends_with_its_spans_and_the_log_with_its_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = opened(folder.path()).unwrap();
        for number in 0..5 {
            record(&recorder, &number.to_string(), 500).await.unwrap();
        }
        assert_eq!(Folders::below(folder.path()).unwrap().segments().unwrap().len(), 3);
        record(&recorder, &"x".repeat(1 << 20), 1).await.unwrap();
        let refused = record(&recorder, "more", 1).await.unwrap_err();
        assert!(refused.0.contains("has its 1 MiB") && recorder.fails(), "{refused}");
        assert!(!recorder.holds(hash(b"more")));
    }

    #[tokio::test]
    async fn what_cannot_be_written_leaves_no_empty_segments() {
        let folder = tempfile::tempdir().unwrap();
        let (told, ended) = channel();
        let recorder = Recorder::open(&recording(folder.path()), told).unwrap();
        let log = folder.path().join("log");
        std::fs::remove_dir(&log).unwrap();
        for _ in 0..3 {
            assert!(record(&recorder, "one", 1).await.is_err() && recorder.fails());
        }
        std::fs::create_dir(&log).unwrap();
        record(&recorder, "one", 1).await.unwrap();
        assert_eq!(Folders::below(folder.path()).unwrap().segments().unwrap().len(), 1);
        assert!(ended.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_window_that_is_there_is_never_another_segments() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("windows/window=2026-12-01T00-00-00Z-41")).unwrap();
        let recorder = opened(folder.path()).unwrap();
        record(&recorder, "one", 1).await.unwrap();
        let segments = Folders::below(folder.path()).unwrap().segments().unwrap();
        assert_eq!(segments.iter().map(|name| number(name)).collect::<Vec<_>>(), [42]);
    }

    #[test]
    fn a_segment_is_named_after_its_window() {
        let nine = 1_764_061_200;
        for (after, until) in [(0, 600), (300, 600), (310, 1_200)] {
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(nine + after);
            let (name, ends) = named(at, Duration::from_mins(10), 7);
            assert_eq!(name, "2025-11-25T09-00-00Z-7");
            assert_eq!(ends.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs(), nine + until, "{after}");
        }
    }
}
