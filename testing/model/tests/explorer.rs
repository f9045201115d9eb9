//! The explorer itself, on a machine small enough to count by hand.

use std::fmt;

use model::explore::{Machine, explore};

/// A walk on the numbers 0 to 9: one up at a time; from 5 a fault leads down a hole that only a fault leads out of.
struct Walk;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    Number(u8),
    Hole,
}

#[derive(Debug, Clone, Copy)]
enum Move {
    Up(u8),
    Stay,
    Fall,
    Climb,
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up(to) => write!(f, "up to {to}"),
            Self::Stay => write!(f, "stays"),
            Self::Fall => write!(f, "falls"),
            Self::Climb => write!(f, "climbs out"),
        }
    }
}

impl Machine for Walk {
    type State = At;
    type Step = Move;
    type Violation = &'static str;

    fn key(&self, state: &At) -> At {
        *state
    }

    fn start(&self) -> At {
        At::Number(0)
    }

    fn steps(&self, state: &At, next: &mut Vec<(Move, At)>) {
        match *state {
            At::Number(9) => {}
            At::Number(number) => {
                next.push((Move::Up(number + 1), At::Number(number + 1)));
                if number == 5 {
                    next.push((Move::Fall, At::Hole));
                }
            }
            At::Hole => next.extend([(Move::Stay, At::Hole), (Move::Climb, At::Number(6))]),
        }
    }

    fn is_chance(&self, step: Move) -> bool {
        matches!(step, Move::Fall | Move::Climb)
    }

    fn violations(&self, state: &At) -> Vec<&'static str> {
        if *state == At::Number(3) { vec!["three"] } else { Vec::new() }
    }

    fn violations_when_quiescent(&self, state: &At) -> Vec<&'static str> {
        if *state == At::Number(9) { vec!["nine"] } else { Vec::new() }
    }
}

#[test]
fn every_state_is_visited_once_and_every_step_taken() {
    let explored = explore(&Walk);
    assert_eq!((explored.states, explored.steps, explored.quiescent), (11, 12, 1));
}

#[test]
fn a_violation_comes_with_a_shortest_way_to_it() {
    let explored = explore(&Walk);
    let found: Vec<_> = explored.counterexamples.iter().map(|it| it.violation).collect();
    assert_eq!(found, ["three", "nine"]);
    assert_eq!(explored.counterexamples[0].trace, ["up to 1", "up to 2", "up to 3"]);
    assert_eq!(explored.counterexamples[1].trace.len(), 9);
}

#[test]
fn a_state_that_only_a_fault_leads_out_of_is_a_trap() {
    assert_eq!(explore(&Walk).trapped, 1);
}
