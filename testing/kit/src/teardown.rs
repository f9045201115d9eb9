//! Cleaning up on `Drop`, which cannot await: on a thread and a runtime of its own, also while a test panics.

use std::future::Future;
use std::thread;

use anyhow::{Result, anyhow};
use uuid::Uuid;

/// A test's database or virtual host of this age is abandoned: it is older than any test run.
const ABANDONED_AFTER_SECONDS: u64 = 60 * 60;

/// Runs `work` to its end. A failure is printed and fails nothing: the test has its result already.
pub fn finish<W: Future<Output = Result<()>> + Send + 'static>(what: &str, work: W) {
    let result = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(work)
    })
    .join()
    .unwrap_or_else(|_| Err(anyhow!("panicked")));
    if let Err(error) = result {
        eprintln!("{what} could not be cleaned up: {error:#}");
    }
}

/// A new name for a test's own database or virtual host.
pub fn fresh_name() -> String {
    format!("t_{}", Uuid::now_v7().simple())
}

/// Whether `name` was made by [`fresh_name`] in a run that has long ended without cleaning up (it was killed).
pub fn is_abandoned(name: &str) -> bool {
    let made = name.strip_prefix("t_").and_then(|id| Uuid::try_parse(id).ok()).and_then(|id| id.get_timestamp());
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    made.is_some_and(|made| made.to_unix().0 + ABANDONED_AFTER_SECONDS < now)
}
