//! How much memory the bodies that are being read may take, so that slow ones stay bounded. A body that is complete and
//! authentic no longer counts: publishing has a bound of its own.

use tokio::sync::{Semaphore, SemaphorePermit};

/// The memory for all bodies: one permit for each byte.
#[derive(Debug)]
pub(crate) struct Reading(Semaphore);

/// Memory reserved for one body, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Room<'reading> {
    reading: &'reading Semaphore,
    bytes: SemaphorePermit<'reading>,
}

impl Reading {
    pub(crate) fn with_mib(mib: u32) -> Self {
        let bytes = usize::try_from(mib).unwrap_or(usize::MAX).saturating_mul(1024 * 1024);
        Self(Semaphore::new(bytes.min(Semaphore::MAX_PERMITS)))
    }

    /// Reserves room for a body; `None` when too little is left.
    pub(crate) fn reserve(&self, bytes: usize) -> Option<Room<'_>> {
        let bytes = self.0.try_acquire_many(u32::try_from(bytes).ok()?).ok()?;
        Some(Room { reading: &self.0, bytes })
    }
}

impl Room<'_> {
    /// Whether the body may grow to this many bytes in total.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes.num_permits());
        if more == 0 {
            return true;
        }
        let more = u32::try_from(more).ok().and_then(|more| self.reading.try_acquire_many(more).ok());
        more.is_some_and(|more| {
            self.bytes.merge(more);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn bodies_share_the_memory_and_give_it_back() {
        let reading = Reading::with_mib(1);
        let mut first = reading.reserve(4096).unwrap();
        let second = reading.reserve(MIB - 8192).unwrap();
        assert!(first.grow_to(8192) && first.grow_to(100));
        assert!(!first.grow_to(8193) && reading.reserve(1).is_none());
        drop(second);
        assert!(first.grow_to(MIB) && !first.grow_to(MIB + 1));
        drop(first);
        assert!(reading.reserve(MIB).is_some());
    }
}
