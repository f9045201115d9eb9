//! Explores every scenario and prints the results. For a deeper search, raise a scenario's `faults`.

use std::time::Instant;

use model::explore::explore;
use model::mutation::Mutation;
use model::protocol::Protocol;
use model::scenario::SCENARIOS;

fn main() {
    println!("{:<42} {:>6} {:>9} {:>10} {:>8} {:>8}", "scenario", "faults", "states", "steps", "final", "seconds");
    for scenario in SCENARIOS {
        let started = Instant::now();
        let explored = explore(&Protocol { scenario, mutation: Mutation::None });
        println!(
            "{:<42} {:>6} {:>9} {:>10} {:>8} {:>8.1}",
            scenario.name,
            scenario.faults,
            explored.states,
            explored.steps,
            explored.quiescent,
            started.elapsed().as_secs_f64()
        );
        print!("{}", explored.problems());
    }
}
