//! Prints what the model check finds in every scenario. For a deeper look, raise a scenario's `faults`.

use std::time::Instant;

use model::explore::explore;
use model::mutation::Mutation;
use model::protocol::Protocol;
use model::scenario::SCENARIOS;

fn main() {
    println!("{:<42} {:>6} {:>9} {:>10} {:>8} {:>8}", "scenario", "faults", "states", "steps", "at rest", "seconds");
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
