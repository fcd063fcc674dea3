//! The seeds that are run.

use super::simulate;

/// Seeds of the short form.
const SEEDS: u64 = 40;

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|error| panic!("{variable} is a number, not {value}: {error}")))
}

#[test]
fn s1_s2_hold_in_every_seed() {
    if let Some(seed) = number("ROWS_SIMULATION_SEED") {
        let steps = simulate(seed).unwrap_or_else(|why| panic!("{why}"));
        println!("{}", steps.join("\n"));
        return;
    }
    let seeds = number("ROWS_SIMULATION_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        simulate(seed).unwrap_or_else(|why| panic!("{why}"));
    }
}
