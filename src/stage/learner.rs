//! The models of each window → what spans are corrected by from then on.
//!
//! A set is on disk, in `DIR/models`, before any span is corrected by it, so that a stage that starts again goes on from it and
//! corrects what is sent once more as it did. A window that is older than what is known changes nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};

use super::log;
use super::metrics::Metrics;
use super::relay::{Relay, now};
use crate::clock::ReferenceTime;
use crate::live::{self, Published};
use crate::models::{self, Models};
use crate::{io, learn};

/// Takes what windows found.
pub struct Learner {
    sets: Sets,
    relay: Arc<Relay>,
    metrics: Arc<Metrics>,
}

/// So much later than all that was sent a set begins, ns: time to write it. Where that was too little, twice as much.
const AHEAD_NS: i64 = 1_000_000_000;

impl Learner {
    pub fn of(sets: Sets, relay: Arc<Relay>, metrics: Arc<Metrics>) -> Self {
        Self { sets, relay, metrics }
    }

    /// What spans are corrected by now, in a file for `fix --after`; `None` where nothing is known.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub fn known(&self) -> Result<Option<PathBuf>> {
        let published = self.relay.published();
        let Some(era) = published.eras.last() else { return Ok(None) };
        let path = self.sets.folder.join("after.binpb");
        io::atomic_write(&path, &models::encode(&era.models))?;
        Ok(Some(path))
    }

    /// Corrects by what a window found, from now on.
    ///
    /// # Errors
    /// Where the models cannot be read, or not be written; then all stays as it was.
    pub fn learn(&self, window: &str, folder: &Path) -> Result<()> {
        let bytes = io::read(&folder.join(models::FILE))?;
        let found = models::decode(&bytes)?;
        if found.clocks.iter().all(|(_, model)| model.segments.is_empty()) {
            return Ok(());
        }
        let mut ahead_ns = AHEAD_NS;
        loop {
            let published = self.relay.published();
            let nothing = Arc::new(Models::default());
            let known = published.eras.last().map_or(&nothing, |era| &era.models);
            let newest = known.learned.as_ref().map_or(0, |learned| log::number(&learned.window));
            // Known already where an earlier run ended before its dumps went.
            if newest >= log::number(window) {
                if newest > log::number(window) {
                    tracing::info!(window, "a later window is known already: its models are in its tables alone");
                }
                return Ok(());
            }
            let limits = published.limits();
            let next = learn::after(known, found.clone(), limits.max_age_ns);
            let from = published.reached_by(Arc::new(next.clone()), now()).plus(ahead_ns);
            let (mut next, resets) = live::ramped(known, next, from);
            if let Some(learned) = &mut next.learned {
                (learned.from, learned.window) = (from, window.to_owned());
                // Models that were given since begin to count anew.
                learned.number = learned.number.max(self.sets.numbers()?.last().map_or(1, |last| last + 1));
            }
            let moved = next.clocks.iter().filter(|(_, model)| model.segments.iter().any(|it| it.is_moved())).count();
            let (clocks, next) = (next.clocks.len(), Arc::new(next));
            self.sets.keep(&next)?;
            if self.relay.publish_if(|current| after(current, &published, from, &next)) {
                self.metrics.models_reset(&resets);
                tracing::info!(window, clocks, moved, "corrected by its models from now on");
                return self.sets.forget(&next);
            }
            ahead_ns = ahead_ns.saturating_mul(2);
        }
    }
}

/// `None` where others were published meanwhile, or a clock has got further than that.
fn after(current: &Published, seen: &Published, from: ReferenceTime, next: &Arc<Models>) -> Option<Published> {
    let same = |one: &Published| one.eras.last().map(|era| Arc::as_ptr(&era.models));
    if same(current) != same(seen) {
        return None;
    }
    current.followed_from(from, Arc::clone(next), now())
}

/// The sets that were published, a file each.
#[derive(Clone, Debug)]
pub struct Sets {
    folder: PathBuf,
}

impl Sets {
    pub fn below(out: &Path) -> Self {
        Self { folder: out.join("models") }
    }

    /// The last two, the older first: what was sent before the newest began may be sent again.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn last(&self) -> Result<Vec<Arc<Models>>> {
        let mut numbers = self.numbers()?;
        numbers.drain(..numbers.len().saturating_sub(2));
        let read = |number: &u64| {
            let path = self.path(*number);
            let models = models::decode(&io::read(&path)?).with_context(|| path.display().to_string())?;
            Ok(Arc::new(models))
        };
        numbers.iter().map(read).collect()
    }

    fn numbers(&self) -> Result<Vec<u64>> {
        fs::create_dir_all(&self.folder).with_context(|| self.folder.display().to_string())?;
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let number: Option<u64> = name.to_str().and_then(|name| name.strip_suffix(".binpb")?.parse().ok());
            numbers.extend(number);
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u64) -> PathBuf {
        self.folder.join(format!("{number:08}.binpb"))
    }

    /// Writes a set, and returns when it is on disk.
    fn keep(&self, models: &Models) -> Result<()> {
        let number = models.learned.as_ref().map_or(0, |learned| learned.number);
        io::atomic_write(&self.path(number), &models::encode(models))?;
        fs::File::open(&self.folder)?.sync_all()?;
        Ok(())
    }

    /// Removes all that are older than the one before this.
    fn forget(&self, newest: &Models) -> Result<()> {
        let newest = newest.learned.as_ref().map_or(0, |learned| learned.number);
        for number in self.numbers()?.into_iter().filter(|number| number + 1 < newest) {
            fs::remove_file(self.path(number))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Learned;

    fn set(number: u64) -> Models {
        Models {
            learned: Some(Learned { number, window: format!("w-{number}"), ..Learned::default() }),
            ..Models::default()
        }
    }

    #[test]
    fn the_last_two_sets_are_kept_and_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let sets = Sets::below(folder.path());
        assert_eq!(sets.last().unwrap(), []);
        for number in [1, 2, 3, 11] {
            sets.keep(&set(number)).unwrap();
            sets.forget(&set(number)).unwrap();
        }
        // What is for `fix --after` is none of them.
        fs::write(sets.folder.join("after.binpb"), "").unwrap();
        let numbers =
            |sets: &[Arc<Models>]| sets.iter().map(|it| it.learned.as_ref().unwrap().number).collect::<Vec<_>>();
        assert_eq!(numbers(&sets.last().unwrap()), [11]);
        sets.keep(&set(12)).unwrap();
        sets.forget(&set(12)).unwrap();
        assert_eq!(numbers(&sets.last().unwrap()), [11, 12]);
        fs::write(sets.path(12), "torn").unwrap();
        assert!(sets.last().unwrap_err().to_string().contains("00000012.binpb"));
    }
}
