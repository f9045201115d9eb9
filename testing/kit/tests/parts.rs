//! The parts of the kit that need no servers.

use std::time::{Duration, Instant};

use kit::latencies::Latencies;
use kit::pace::Pace;

#[test]
fn a_rate_is_kept_when_answers_lag_and_pauses_are_not_made_up_for() {
    let start = Instant::now();
    let mut pace = Pace::new(Some(Duration::from_millis(10)), start);
    let late = start + Duration::from_secs(1);
    for n in 0..3 {
        // Even a repeat that became ready a moment ago takes the slot that is free, and moves none.
        let slot = pace.slot(late, late);
        assert_eq!(slot, start + Duration::from_millis(10) * n);
        pace.take(slot, 1);
    }
    pace.take(start, 4);
    assert_eq!(pace.slot(start, late), start + Duration::from_millis(40));
    pace.rest();
    assert_eq!(pace.slot(late, late), late);
}

#[test]
fn without_a_rate_a_request_is_due_when_it_is_sent() {
    let start = Instant::now();
    let now = start + Duration::from_secs(1);
    assert_eq!(Pace::new(None, start).slot(start, now), now);
}

#[test]
fn a_quantile_is_one_of_the_latencies() {
    let mut latencies = Latencies::default();
    assert_eq!(latencies.within(500), Duration::ZERO);
    for _ in 0..99 {
        latencies.record(Duration::from_millis(5));
    }
    latencies.record(Duration::from_secs(70));
    assert_eq!(latencies.within(500), Duration::from_millis(5));
    assert_eq!(latencies.within(990), Duration::from_millis(5));
    assert_eq!(latencies.within(991), Duration::from_secs(70));
    assert!((latencies.ms(1000) - 70_000.0).abs() < 0.001, "{}", latencies.ms(1000));
}

#[test]
fn the_latencies_of_two_connections_are_added() {
    let (mut one, mut other) = (Latencies::default(), Latencies::default());
    one.record(Duration::from_millis(1));
    other.record(Duration::from_millis(2));
    one.append(other);
    assert_eq!((one.count(), one.within(1000)), (2, Duration::from_millis(2)));
}
