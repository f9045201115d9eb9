//! What a fault leaves for the report: when it took effect, when it was lifted, its target, and whether its promises held in
//! time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::{Instant, sleep, timeout};

use crate::clock::now_ms;

/// How often a promise is checked: rarely enough that checking disturbs nothing.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A single check may take at least this long.
const LOOK_PATIENCE: Duration = Duration::from_secs(5);

/// Something that must hold soon after a fault's end, or while it lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    pub sentence: String,
    /// How soon, in seconds.
    pub within_seconds: u64,
    /// What there was instead when the time was up; `None` when it held.
    pub breach: Option<String>,
    pub took_ms: u64,
}

/// The record of one fault.
#[derive(Debug, Default)]
pub struct FaultRecord {
    injected_ms: AtomicU64,
    lifted_ms: AtomicU64,
    note: Mutex<String>,
    promises: Mutex<Vec<Promise>>,
}

impl FaultRecord {
    /// It has taken effect: now.
    pub fn injected(&self) {
        self.injected_ms.store(now_ms(), Ordering::SeqCst);
    }

    /// There is nothing left to undo: now. The checks that follow are not part of the fault.
    pub fn lifted(&self) {
        self.lifted_ms.store(now_ms(), Ordering::SeqCst);
    }

    /// When it took effect; 0 if it never did.
    #[must_use]
    pub fn injected_ms(&self) -> u64 {
        self.injected_ms.load(Ordering::SeqCst)
    }

    /// When there was nothing left to undo; `None` if the fault did not record it.
    #[must_use]
    pub fn lifted_ms(&self) -> Option<u64> {
        Some(self.lifted_ms.load(Ordering::SeqCst)).filter(|at| *at > 0)
    }

    /// What was hit, for the report.
    pub fn note(&self, note: impl Into<String>) {
        *lock(&self.note) = note.into();
    }

    #[must_use]
    pub fn noted(&self) -> String {
        lock(&self.note).clone()
    }

    /// Retries `check` until it succeeds, at least once and for at most `within_seconds`. A promise that does not hold is a
    /// finding of the drill and does not end it.
    pub async fn promise(&self, sentence: &str, within_seconds: u64, mut check: impl AsyncFnMut() -> Result<()>) {
        let patience = Duration::from_secs(within_seconds);
        let began = Instant::now();
        let held = loop {
            let looked = timeout(patience.max(LOOK_PATIENCE), check()).await;
            let looked = looked.unwrap_or_else(|_| Err(anyhow!("the check did not finish")));
            if looked.is_ok() || began.elapsed() >= patience {
                break looked;
            }
            sleep(LOOK_EVERY).await;
        };
        self.push(sentence, within_seconds, held, u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
    }

    /// Records a promise that has been checked already: it held, or what was found instead.
    pub fn observed(&self, sentence: &str, within_seconds: u64, held: Result<()>) {
        self.push(sentence, within_seconds, held, 0);
    }

    fn push(&self, sentence: &str, within_seconds: u64, held: Result<()>, took_ms: u64) {
        let breach = held.err().map(|error| format!("{:#}", error.root_cause()));
        lock(&self.promises).push(Promise { sentence: sentence.to_owned(), within_seconds, breach, took_ms });
    }

    /// Everything that was promised.
    #[must_use]
    pub fn promises(&self) -> Vec<Promise> {
        lock(&self.promises).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use anyhow::{bail, ensure};

    use super::*;

    #[tokio::test]
    async fn a_promise_that_is_kept_in_time_has_no_breach() {
        let (record, mut looks) = (FaultRecord::default(), 0);
        record
            .promise("three looks are enough", 2, async || {
                looks += 1;
                ensure!(looks >= 3, "look {looks}");
                Ok(())
            })
            .await;
        assert_eq!(record.promises()[0].breach, None);
    }

    #[tokio::test]
    async fn a_promise_that_is_late_says_what_there_was_instead() {
        let record = FaultRecord::default();
        record.promise("nothing waits", 0, async || bail!("4 wait")).await;
        assert_eq!(record.promises()[0].breach.as_deref(), Some("4 wait"));
    }

    #[test]
    fn a_strike_that_does_not_say_when_it_was_mended_has_no_such_time() {
        let record = FaultRecord::default();
        assert_eq!(record.lifted_ms(), None);
        record.lifted();
        assert!(record.lifted_ms().is_some());
    }
}
