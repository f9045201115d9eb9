//! The schedule of an open loop: request n is due n intervals after the start, whether or not earlier ones were answered.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

/// The schedule. Only the time in which there was nothing to send is left out of it. Without an interval, a request may
/// be sent at any moment.
#[derive(Debug)]
pub struct Pace {
    interval: Option<Duration>,
    next: Instant,
    rests: bool,
}

impl Pace {
    #[must_use]
    pub fn new(interval: Option<Duration>, start: Instant) -> Self {
        Self { interval, next: start, rests: false }
    }

    /// The moment from which a request that has been ready since `ready_at` may be sent.
    pub fn slot(&mut self, ready_at: Instant, now: Instant) -> Instant {
        if self.interval.is_none() {
            return now;
        }
        if self.rests {
            self.next = self.next.max(ready_at);
            self.rests = false;
        }
        self.next
    }

    /// Uses the slot for this many requests at once.
    pub fn take(&mut self, slot: Instant, requests: usize) {
        if let Some(interval) = self.interval {
            self.next = slot + interval.saturating_mul(u32::try_from(requests).unwrap_or(u32::MAX));
        }
    }

    /// There is nothing to send for now: the next request that is ready restarts the schedule.
    pub fn rest(&mut self) {
        self.rests = true;
    }
}

/// The numbers of the requests, each sent when it is due, with the moment at which it was due.
pub type DueRequests = mpsc::UnboundedReceiver<(usize, Instant)>;

/// Emits `count` numbers on a schedule. It uses a thread of its own because the runtime's timers have a resolution of
/// whole milliseconds.
#[must_use]
pub fn emit_when_due(started: Instant, interval: Duration, count: usize) -> DueRequests {
    let (sender, receiver) = mpsc::unbounded_channel();
    thread::spawn(move || {
        let mut pace = Pace::new(Some(interval), started);
        for number in 0..count {
            let due = pace.slot(started, Instant::now());
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if sender.send((number, due)).is_err() {
                return;
            }
            pace.take(due, 1);
        }
    });
    receiver
}
