//! How many connections the public port accepts: no more than the process has file descriptors for.

use std::num::NonZero;
use std::thread::available_parallelism;

use shared::process::config::ConfigError;

/// File descriptors that no public connection may take: the broker, the admin port and its clients, files, the runtime.
const DESCRIPTORS_RESERVED: u64 = 64;
/// The file descriptors that each serving thread needs for itself; measured as 4.
const DESCRIPTORS_PER_THREAD: u64 = 6;
/// The most connections of one thread, however many descriptors there are: at 40 KiB each they would take 1 GiB.
const CONNECTIONS_PER_THREAD_MAX: u64 = 25_000;

/// How many connections are served, and by how many threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) threads: usize,
    pub(crate) connections_per_thread: usize,
}

impl Capacity {
    /// As many connections as `descriptors` allow, with a reserve for everything else.
    ///
    /// # Errors
    /// The limit leaves no room for connections.
    pub(crate) fn within(descriptors: u64) -> Result<Self, ConfigError> {
        Self::with_threads(descriptors, available_parallelism().map_or(1, NonZero::get))
    }

    fn with_threads(descriptors: u64, threads: usize) -> Result<Self, ConfigError> {
        let count = u64::try_from(threads).unwrap_or(u64::MAX).max(1);
        let reserved = DESCRIPTORS_PER_THREAD.saturating_mul(count).saturating_add(DESCRIPTORS_RESERVED);
        let each = descriptors.saturating_sub(reserved).checked_div(count).unwrap_or_default();
        if each == 0 {
            let needed = reserved.saturating_add(count);
            let problem = format!("the limit of open files is {descriptors}, and ingest needs more than {needed}");
            return Err(ConfigError { variable: "RLIMIT_NOFILE", problem });
        }
        let each = usize::try_from(each.min(CONNECTIONS_PER_THREAD_MAX)).unwrap_or(usize::MAX);
        Ok(Self { threads, connections_per_thread: each })
    }

    pub(crate) fn connections(self) -> usize {
        self.threads.saturating_mul(self.connections_per_thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_reserve_on_every_machine() {
        for threads in [1, 2, 64, 256] {
            for descriptors in [256, 1024, 20_000, 1_048_576, u64::MAX] {
                let Ok(capacity) = Capacity::with_threads(descriptors, threads) else { continue };
                let taken = u64::try_from(capacity.connections()).unwrap();
                assert!(taken > 0 && taken + 64 <= descriptors, "{descriptors} and {threads}: {capacity:?}");
                assert!(capacity.connections_per_thread <= 25_000);
            }
        }
        let two = Capacity { threads: 2, connections_per_thread: 474 };
        assert_eq!(Capacity::with_threads(1024, 2).unwrap(), two);
        let error = Capacity::with_threads(64, 2).unwrap_err();
        assert_eq!(error.to_string(), "RLIMIT_NOFILE: the limit of open files is 64, and ingest needs more than 78");
    }
}
