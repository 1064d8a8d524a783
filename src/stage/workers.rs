//! The threads that connections are served on: one for each core, each with a runtime of its own.
//!
//! A connection stays on its thread, and so does the connection to the next hop that its requests leave by. On a runtime
//! that all cores share, a request is received on one and corrected on another, and its bytes go from cache to cache.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

/// Ends when it is dropped, whatever runs on it.
pub struct Workers {
    workers: Vec<Worker>,
    _running: watch::Sender<()>,
}

struct Worker {
    runtime: Handle,
    /// Connections that it serves.
    open: Arc<AtomicUsize>,
}

impl Workers {
    /// Starts one for each core that we may use.
    ///
    /// # Errors
    /// Where the system has no more threads or files.
    pub fn start() -> io::Result<Self> {
        let (running, watched) = watch::channel(());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let start = |number: usize| {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let worker = Worker { runtime: runtime.handle().clone(), open: Arc::default() };
            let mut watched = watched.clone();
            let run = move || runtime.block_on(async move { while watched.changed().await.is_ok() {} });
            std::thread::Builder::new().name(format!("worker {number}")).spawn(run)?;
            Ok(worker)
        };
        Ok(Self { workers: (0..cores).map(start).collect::<io::Result<_>>()?, _running: running })
    }

    /// Serves a connection on the one that has the fewest.
    pub fn serve(&self, connection: impl Future<Output = ()> + Send + 'static) {
        let Some(worker) = self.workers.iter().min_by_key(|worker| worker.open.load(Ordering::Relaxed)) else { return };
        let open = Open::of(&worker.open);
        worker.runtime.spawn(async move {
            connection.await;
            drop(open);
        });
    }
}

/// Counts a connection as long as it is open.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn of(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_to_the_thread_with_the_fewest() {
        let workers = Workers::start().unwrap();
        let held: Vec<Open> = workers.workers.iter().skip(1).map(|worker| Open::of(&worker.open)).collect();
        let (told, thread) = std::sync::mpsc::channel();
        workers.serve(async move { told.send(std::thread::current().name().map(str::to_owned)).unwrap() });
        assert_eq!(thread.recv().unwrap().as_deref(), Some("worker 0"));
        drop(held);
    }
}
