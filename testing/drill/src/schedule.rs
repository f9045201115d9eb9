//! Which faults, and when: drawn from a seed. Pure, so the same seed gives the same schedule on any machine.
//!
//! The faults follow one another with time to recover between them; about one in three has a companion that is injected a few
//! seconds later in a different area. So that no fault depends on luck, each occurs in at least one of any ten consecutive
//! seeds: the faults are dealt to ten hands of nearly the same total duration, and the rest of the schedule leaves room for
//! the seed's hand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::fault::Fault;

/// The load first runs undisturbed for this long, as the baseline of the first fault.
const WARM_UP_SECONDS: u64 = 12;
/// Between the end of a fault and the next one.
const RECOVERY_SECONDS: u64 = 8;
/// After the last one.
const TAIL_SECONDS: u64 = 12;
/// In this many consecutive seeds, each fault is certain once.
const SEEDS_FOR_ALL: u64 = 10;
/// One in this many faults has a companion.
const ONE_IN_COMPANY: u32 = 3;

/// One fault of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduledFault {
    /// Seconds after the load began.
    pub at_seconds: u64,
    /// What happens.
    pub fault: Fault,
    /// Which one of several equals is hit: to be taken modulo their number.
    pub pick: usize,
    /// It strikes while the one before it lasts.
    pub overlapping: bool,
}

/// The schedule of `seed` for a load of `seconds`. Without `only`, all faults that this number of `brokers` allows are drawn
/// from, none twice; with it, these alone, again and again.
#[must_use]
pub fn draw(seed: u64, seconds: u64, only: &[Fault], brokers: usize) -> Vec<ScheduledFault> {
    let mut rng = StdRng::seed_from_u64(seed);
    let possible = |fault: &Fault| fault.brokers() <= brokers;
    let mut certain = if only.is_empty() { hand(seed) } else { BTreeSet::new() };
    certain.retain(possible);
    let mut deck = if only.is_empty() {
        full_deck(&certain, &mut rng).into_iter().filter(possible).collect()
    } else {
        shuffled(only.iter().copied().filter(possible).collect(), &mut rng)
    };
    let (mut schedule, mut cursor) = (Vec::new(), WARM_UP_SECONDS);
    let last_second = seconds.saturating_sub(TAIL_SECONDS);
    loop {
        let Some(fault) = take(&mut deck, &mut certain, cursor, last_second, |_| true) else { return schedule };
        let mut end = cursor.saturating_add(fault.seconds());
        schedule.push(ScheduledFault { at_seconds: cursor, fault, pick: pick(&mut rng), overlapping: false });
        if rng.random_ratio(1, ONE_IN_COMPANY) {
            let at_seconds = cursor.saturating_add(rng.random_range(1..=3));
            // What is in company may end later than the fault that it accompanies, and must leave as much room.
            let goes_along = |it: &Fault| it.goes_with(fault);
            if let Some(companion) = take(&mut deck, &mut certain, at_seconds, last_second, goes_along) {
                end = end.max(at_seconds.saturating_add(companion.seconds()));
                schedule.push(ScheduledFault { at_seconds, fault: companion, pick: pick(&mut rng), overlapping: true });
            }
        }
        cursor = end.saturating_add(RECOVERY_SECONDS);
        if deck.is_empty() && !only.is_empty() {
            deck = shuffled(only.iter().copied().filter(possible).collect(), &mut rng);
        }
    }
}

/// What this seed is certain of: the longest faults are dealt first, each to the hand that is the shortest so far.
fn hand(seed: u64) -> BTreeSet<Fault> {
    let mut faults = Fault::value_variants().to_vec();
    faults.sort_by_key(|fault| Reverse(fault.seconds()));
    let mut hands: BTreeMap<u64, (u64, BTreeSet<Fault>)> =
        (0..SEEDS_FOR_ALL).map(|number| (number, (0, BTreeSet::new()))).collect();
    for fault in faults {
        if let Some((length, hand)) = hands.values_mut().min_by_key(|(length, _)| *length) {
            *length = length.saturating_add(room(fault));
            hand.insert(fault);
        }
    }
    hands.remove(&(seed % SEEDS_FOR_ALL)).map(|(_, hand)| hand).unwrap_or_default()
}

/// The time that a fault takes with the recovery before it.
fn room(fault: Fault) -> u64 {
    fault.seconds().saturating_add(RECOVERY_SECONDS)
}

/// All faults: first those that this seed is certain of, then the others.
fn full_deck(certain: &BTreeSet<Fault>, rng: &mut StdRng) -> Vec<Fault> {
    let others = Fault::value_variants().iter().copied().filter(|fault| !certain.contains(fault)).collect();
    let mut deck = shuffled(certain.iter().copied().collect(), rng);
    deck.extend(shuffled(others, rng));
    deck
}

fn shuffled(mut faults: Vec<Fault>, rng: &mut StdRng) -> Vec<Fault> {
    faults.shuffle(rng);
    faults
}

/// The first fault of the deck that fits between `at_seconds` and `last_second`, with room left after it for what is
/// certain and could still come.
fn take(
    deck: &mut Vec<Fault>,
    certain: &mut BTreeSet<Fault>,
    at_seconds: u64,
    last_second: u64,
    is_meant: impl Fn(&Fault) -> bool,
) -> Option<Fault> {
    let left = last_second.saturating_sub(at_seconds);
    let reserved: u64 = certain.iter().filter(|fault| fault.seconds() <= left).map(|fault| room(*fault)).sum();
    let fits = |fault: &Fault| {
        let reserved = if certain.contains(fault) { 0 } else { reserved };
        is_meant(fault) && fault.seconds().saturating_add(reserved) <= left
    };
    let place = deck.iter().position(fits)?;
    let fault = deck.remove(place);
    certain.remove(&fault);
    Some(fault)
}

fn pick(rng: &mut StdRng) -> usize {
    usize::from(rng.random::<u16>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: u64 = 180;

    #[test]
    fn the_same_seed_draws_the_same_schedule_again() {
        assert_eq!(draw(7, SECONDS, &[], 3), draw(7, SECONDS, &[], 3));
        assert_ne!(draw(7, SECONDS, &[], 3), draw(8, SECONDS, &[], 3));
    }

    #[test]
    fn ten_seeds_cover_every_fault_with_at_least_six_each() {
        let mut covered = BTreeSet::new();
        for seed in 1..=10 {
            let schedule = draw(seed, SECONDS, &[], 3);
            assert!(schedule.len() >= 6, "seed {seed}: {schedule:?}");
            covered.extend(schedule.iter().map(|scheduled| scheduled.fault));
        }
        let missing: Vec<_> = Fault::value_variants().iter().filter(|fault| !covered.contains(fault)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!((1..=10).any(|seed| draw(seed, SECONDS, &[], 3).iter().any(|scheduled| scheduled.overlapping)));
    }

    #[test]
    fn what_is_certain_comes_whatever_else_is_drawn() {
        let dealt: Vec<Fault> = (0..SEEDS_FOR_ALL).flat_map(hand).collect();
        assert_eq!(dealt.len(), Fault::value_variants().len());
        assert_eq!(dealt.iter().collect::<BTreeSet<_>>().len(), dealt.len());
        for seed in 0..500 {
            let drawn: BTreeSet<Fault> = draw(seed, SECONDS, &[], 3).iter().map(|scheduled| scheduled.fault).collect();
            assert!(hand(seed).is_subset(&drawn), "seed {seed}: {:?} is not in {drawn:?}", hand(seed));
        }
    }

    #[test]
    fn faults_follow_each_other_and_end_before_the_load_does() {
        for seed in 0..100 {
            let schedule = draw(seed, SECONDS, &[], 3);
            for pair in schedule.windows(2) {
                let end = pair[0].at_seconds + pair[0].fault.seconds();
                if pair[1].overlapping {
                    assert!(pair[0].fault.goes_with(pair[1].fault), "seed {seed}");
                } else {
                    assert!(pair[1].at_seconds >= end + RECOVERY_SECONDS, "seed {seed}");
                }
            }
            let end = schedule.iter().map(|scheduled| scheduled.at_seconds + scheduled.fault.seconds()).max().unwrap();
            assert!(end + TAIL_SECONDS <= SECONDS, "seed {seed}");
            let distinct: BTreeSet<_> = schedule.iter().map(|scheduled| scheduled.fault).collect();
            assert_eq!(distinct.len(), schedule.len(), "seed {seed}: a fault came twice");
        }
    }

    #[test]
    fn named_faults_come_again_and_again_and_no_others() {
        let schedule = draw(1, SECONDS, &[Fault::IngestKill, Fault::WorkerKill], 3);
        assert!(schedule.len() > 6);
        assert!(schedule.iter().all(|scheduled| [Fault::IngestKill, Fault::WorkerKill].contains(&scheduled.fault)));
    }

    #[test]
    fn one_broker_is_not_asked_to_lose_a_follower() {
        for seed in 0..20 {
            assert!(draw(seed, SECONDS, &[], 1).iter().all(|scheduled| scheduled.fault.brokers() == 1), "seed {seed}");
        }
        assert!(draw(1, SECONDS, &[Fault::MajorityKill], 1).is_empty());
    }
}
