//! Which faults, and when: drawn from a seed. Pure, so the same seed gives the same schedule on any machine.
//!
//! One fault follows another with time to recover between them; about every third has a companion that strikes a few
//! seconds later in another area. So that no fault depends on luck, each is certain in one of any ten seeds that follow
//! each other; the rest of the time is drawn.

use std::collections::BTreeSet;

use clap::ValueEnum;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::fault::Fault;

/// The load runs undisturbed so long first: what "before" means to the first fault.
const WARM_UP_SECONDS: u64 = 12;
/// Between the end of a fault and the next one.
const RECOVERY_SECONDS: u64 = 8;
/// After the last one.
const TAIL_SECONDS: u64 = 12;
/// In so many seeds one after another, each fault is certain once.
const SEEDS_FOR_ALL: u64 = 10;
/// One of so many faults has a companion.
const ONE_IN_COMPANY: u32 = 3;

/// One fault of a schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Act {
    /// Seconds after the load began.
    pub at_seconds: u64,
    /// What happens.
    pub fault: Fault,
    /// Which one of several equals is hit: to be taken modulo their number.
    pub pick: usize,
    /// It strikes while the one before it lasts.
    pub in_company: bool,
}

/// The schedule of `seed` for a load of `seconds`. Without `only`, all faults that so many `brokers` allow are drawn
/// from, none twice; with it, these alone, again and again.
#[must_use]
pub fn draw(seed: u64, seconds: u64, only: &[Fault], brokers: usize) -> Vec<Act> {
    let mut rng = StdRng::seed_from_u64(seed);
    let possible = |fault: &Fault| fault.brokers() <= brokers;
    let mut deck = if only.is_empty() {
        full_deck(seed, &mut rng).into_iter().filter(possible).collect()
    } else {
        shuffled(only.iter().copied().filter(possible).collect(), &mut rng)
    };
    let (mut acts, mut cursor) = (Vec::new(), WARM_UP_SECONDS);
    loop {
        let left = seconds.saturating_sub(cursor.saturating_add(TAIL_SECONDS));
        let Some(fault) = take(&mut deck, |fault| fault.seconds() <= left) else { return acts };
        let mut end = cursor.saturating_add(fault.seconds());
        acts.push(Act { at_seconds: cursor, fault, pick: pick(&mut rng), in_company: false });
        if rng.random_ratio(1, ONE_IN_COMPANY) {
            let at_seconds = cursor.saturating_add(rng.random_range(1..=3));
            let left = seconds.saturating_sub(at_seconds.saturating_add(TAIL_SECONDS));
            if let Some(companion) = take(&mut deck, |it| it.goes_with(fault) && it.seconds() <= left) {
                end = end.max(at_seconds.saturating_add(companion.seconds()));
                acts.push(Act { at_seconds, fault: companion, pick: pick(&mut rng), in_company: true });
            }
        }
        cursor = end.saturating_add(RECOVERY_SECONDS);
        if deck.is_empty() && !only.is_empty() {
            deck = shuffled(only.iter().copied().filter(possible).collect(), &mut rng);
        }
    }
}

/// All faults: first those that this seed is certain of, then the others.
fn full_deck(seed: u64, rng: &mut StdRng) -> Vec<Fault> {
    let certain: BTreeSet<Fault> = (0_u64..)
        .zip(Fault::value_variants())
        .filter(|(place, _)| place % SEEDS_FOR_ALL == seed % SEEDS_FOR_ALL)
        .map(|(_, fault)| *fault)
        .collect();
    let others = Fault::value_variants().iter().copied().filter(|fault| !certain.contains(fault)).collect();
    let mut deck = shuffled(certain.into_iter().collect(), rng);
    deck.extend(shuffled(others, rng));
    deck
}

fn shuffled(mut faults: Vec<Fault>, rng: &mut StdRng) -> Vec<Fault> {
    faults.shuffle(rng);
    faults
}

/// The first fault of the deck that fits.
fn take(deck: &mut Vec<Fault>, fits: impl Fn(&Fault) -> bool) -> Option<Fault> {
    let place = deck.iter().position(fits)?;
    Some(deck.remove(place))
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
            let acts = draw(seed, SECONDS, &[], 3);
            assert!(acts.len() >= 6, "seed {seed}: {acts:?}");
            covered.extend(acts.iter().map(|act| act.fault));
        }
        let missing: Vec<_> = Fault::value_variants().iter().filter(|fault| !covered.contains(fault)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!((1..=10).any(|seed| draw(seed, SECONDS, &[], 3).iter().any(|act| act.in_company)));
    }

    #[test]
    fn faults_follow_each_other_and_end_before_the_load_does() {
        for seed in 0..100 {
            let acts = draw(seed, SECONDS, &[], 3);
            for pair in acts.windows(2) {
                let end = pair[0].at_seconds + pair[0].fault.seconds();
                if pair[1].in_company {
                    assert!(pair[0].fault.goes_with(pair[1].fault), "seed {seed}");
                } else {
                    assert!(pair[1].at_seconds >= end + RECOVERY_SECONDS, "seed {seed}");
                }
            }
            let end = acts.iter().map(|act| act.at_seconds + act.fault.seconds()).max().unwrap();
            assert!(end + TAIL_SECONDS <= SECONDS, "seed {seed}");
            let distinct: BTreeSet<_> = acts.iter().map(|act| act.fault).collect();
            assert_eq!(distinct.len(), acts.len(), "seed {seed}: a fault came twice");
        }
    }

    #[test]
    fn named_faults_come_again_and_again_and_no_others() {
        let acts = draw(1, SECONDS, &[Fault::IngestKill, Fault::WorkerKill], 3);
        assert!(acts.len() > 6);
        assert!(acts.iter().all(|act| [Fault::IngestKill, Fault::WorkerKill].contains(&act.fault)));
    }

    #[test]
    fn one_broker_is_not_asked_to_lose_a_follower() {
        for seed in 0..20 {
            assert!(draw(seed, SECONDS, &[], 1).iter().all(|act| act.fault.brokers() == 1), "seed {seed}");
        }
        assert!(draw(1, SECONDS, &[Fault::MajorityKill], 1).is_empty());
    }
}
