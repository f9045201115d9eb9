//! The explorer: visits every state that a machine can reach, breadth first, and keeps the shortest way to each kind of
//! violation.
//!
//! It is exhaustive within the machine's own bounds, deterministic, and knows nothing of payments. Besides what the
//! machine calls broken it looks for traps: states from which the machine cannot come to rest by itself. It is at rest where
//! nothing more can happen but by chance.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Display;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::mem::{Discriminant, discriminant};

/// More states than this are a scenario that is too big, not a result. A quarter of it takes some seconds.
const STATES_MAX: usize = 8_000_000;

/// Something with states and steps between them.
pub trait Machine {
    /// Everything that decides what can happen next.
    type State: Copy + Eq + Hash;
    /// What happens between two states; its text is a sentence.
    type Step: Copy + Display;
    /// A kind of violation; its text is a sentence.
    type Violation: Copy + Eq + Display;

    /// The same for states that differ in nothing that matters: of those only the first met is followed.
    fn key(&self, state: &Self::State) -> Self::State;
    /// Where everything begins.
    fn start(&self) -> Self::State;
    /// Adds every step that can happen in `state`, with the state after it.
    fn steps(&self, state: &Self::State, next: &mut Vec<(Self::Step, Self::State)>);
    /// Whether the step is a fault, or up to someone outside: it may happen, or never happen.
    fn is_chance(&self, step: Self::Step) -> bool;
    /// What must never be, and is so in `state`.
    fn violations(&self, state: &Self::State) -> Vec<Self::Violation>;
    /// What must not be where nothing more happens but by chance, and is so in `state`.
    fn violations_when_quiescent(&self, state: &Self::State) -> Vec<Self::Violation>;
}

/// What an exploration found.
#[derive(Debug)]
pub struct Explored<S, B> {
    /// How many different states there are.
    pub states: usize,
    /// How many steps lead from one to another.
    pub steps: usize,
    /// In how many of them nothing more can happen but by chance.
    pub quiescent: usize,
    /// From how many of them no state at rest can be reached without chance.
    pub trapped: usize,
    /// Every kind of step that happened, by the first of its kind.
    pub happened: Vec<S>,
    /// One counterexample for each kind of violation.
    pub counterexamples: Vec<Counterexample<B>>,
}

/// A violation and a shortest way to it.
#[derive(Debug)]
pub struct Counterexample<B> {
    pub violation: B,
    /// The steps that lead there, as sentences.
    pub trace: Vec<String>,
}

impl<S, B: Display> Explored<S, B> {
    /// What is wrong, with the steps that lead to it; empty when nothing is.
    #[must_use]
    pub fn problems(&self) -> String {
        let described = |it: &Counterexample<B>| format!("{}:\n  {}\n", it.violation, it.trace.join("\n  "));
        let trapped =
            (self.trapped > 0).then(|| format!("{} states cannot come to rest by themselves\n", self.trapped));
        self.counterexamples.iter().map(described).chain(trapped).collect()
    }
}

/// Visits every state of `machine`. The search continues from states that violate an invariant.
///
/// # Panics
/// When there are more than `STATES_MAX` states.
#[must_use]
pub fn explore<M: Machine>(machine: &M) -> Explored<M::Step, M::Violation> {
    let mut search = Search {
        machine,
        known: HashMap::default(),
        ways: Vec::new(),
        open: VecDeque::new(),
        edges: Vec::new(),
        quiescent: Vec::new(),
        steps: 0,
        kinds: HashSet::default(),
        happened: Vec::new(),
        counterexamples: Vec::new(),
    };
    search.visit(machine.start(), None);
    let mut next = Vec::new();
    while let Some((number, state)) = search.open.pop_front() {
        search.note(machine.violations(&state), number);
        next.clear();
        machine.steps(&state, &mut next);
        if next.iter().all(|(step, _)| machine.is_chance(*step)) {
            search.quiescent.push(number);
            search.note(machine.violations_when_quiescent(&state), number);
        }
        for (step, after) in next.drain(..) {
            let to = search.visit(after, Some((number, step)));
            search.steps += 1;
            if search.kinds.insert(discriminant(&step)) {
                search.happened.push(step);
            }
            if !machine.is_chance(step) {
                search.edges.push((number, to));
            }
        }
    }
    Explored {
        states: search.ways.len(),
        steps: search.steps,
        quiescent: search.quiescent.len(),
        trapped: search.trapped(),
        happened: search.happened,
        counterexamples: search.counterexamples,
    }
}

struct Search<'a, M: Machine> {
    machine: &'a M,
    /// The numbers of the states met, by their keys.
    known: HashMap<M::State, usize, BuildHasherDefault<Mix>>,
    /// How each state was first reached: from which one, by which step.
    ways: Vec<Option<(usize, M::Step)>>,
    open: VecDeque<(usize, M::State)>,
    /// The steps that are not left to chance.
    edges: Vec<(usize, usize)>,
    quiescent: Vec<usize>,
    steps: usize,
    kinds: HashSet<Discriminant<M::Step>, BuildHasherDefault<Mix>>,
    happened: Vec<M::Step>,
    counterexamples: Vec<Counterexample<M::Violation>>,
}

impl<M: Machine> Search<'_, M> {
    /// The number of `state`, which is opened when it is new.
    fn visit(&mut self, state: M::State, way: Option<(usize, M::Step)>) -> usize {
        let number = self.ways.len();
        let known = *self.known.entry(self.machine.key(&state)).or_insert(number);
        if known == number {
            assert!(number < STATES_MAX, "the scenario has more than {STATES_MAX} states");
            self.ways.push(way);
            self.open.push_back((number, state));
        }
        known
    }

    fn note(&mut self, violations: Vec<M::Violation>, number: usize) {
        for violation in violations {
            if self.counterexamples.iter().all(|known| known.violation != violation) {
                let trace = self.trace(number);
                self.counterexamples.push(Counterexample { violation, trace });
            }
        }
    }

    fn trace(&self, number: usize) -> Vec<String> {
        let mut trace = Vec::new();
        let mut way = self.ways[number];
        while let Some((before, step)) = way {
            trace.push(step.to_string());
            way = self.ways[before];
        }
        trace.reverse();
        trace
    }

    /// Goes back from the states at rest along all steps that are not left to chance. Those not met are trapped.
    fn trapped(&self) -> usize {
        let mut can_rest = vec![false; self.ways.len()];
        for number in &self.quiescent {
            can_rest[*number] = true;
        }
        let mut grows = true;
        while grows {
            grows = false;
            // Breadth first, most steps lead to a higher number: backwards, a few rounds are enough.
            for (from, to) in self.edges.iter().rev() {
                if can_rest[*to] && !can_rest[*from] {
                    can_rest[*from] = true;
                    grows = true;
                }
            }
        }
        can_rest.iter().filter(|can_rest| !**can_rest).count()
    }
}

/// Mixes many small values into a hash, faster than the standard library's hasher, which withstands enemies.
#[derive(Default)]
pub struct Mix(u64);

impl Mix {
    fn mix(&mut self, word: u64) {
        // The multiplier is 2^64 divided by the golden ratio.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value.cast_unsigned().try_into().unwrap_or(u64::MAX));
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value.try_into().unwrap_or(u64::MAX));
    }

    fn finish(&self) -> u64 {
        // The table takes the low bits, and a product has its best ones on top.
        self.0 ^ (self.0 >> 32)
    }
}
