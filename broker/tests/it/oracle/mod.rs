//! Q2: the same questions over rows in the tail, sealed, half sealed, merged, behind a log start and after an erasure get
//! the same answers as from a plain reading of the records in memory, which shares no code with the engine; in every
//! other world after a restart.
//!
//! The records have every kind of column, time and defect; statements and searches are generated. A failure names its
//! seed: `Q2_SEED=7` runs that one, `Q2_SEEDS=100` more of them, `Q2_QUESTIONS` and `Q2_RECORDS` make each longer.

mod answer;
mod condition;
mod fields;
mod generate;
mod json;
mod question;
mod records;
mod search;
mod state;
mod value;
mod words;

use stratalog_storage::simulation::Dice;

use answer::Asked;
use question::Question;
use records::World;
use state::State;

/// Worlds of the short form, and what is asked of each.
const SEEDS: u64 = 2;
const QUESTIONS: u64 = 60;
const RECORDS: u64 = 1_200;

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|error| panic!("{variable} is a number, not {value}: {error}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn q2_every_state_answers_as_the_records_say() {
    let seeds = match number("Q2_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("Q2_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        one_world(seed).await;
    }
}

async fn one_world(seed: u64) {
    let mut dice = Dice::new(seed);
    let records = number("Q2_RECORDS").unwrap_or(RECORDS);
    let count = records / 4 + dice.below(records);
    let world = World::generate(&mut dice, count as usize);
    let dir = tempfile::tempdir().unwrap();
    let (broker, states) = state::build(&dir, &world, &mut dice, seed % 2 == 1).await;
    for number in 0..number("Q2_QUESTIONS").unwrap_or(QUESTIONS) {
        let question = Question::generate(&world, &mut dice);
        let mut failures = Vec::new();
        for state in &states {
            if let Err(wrong) = ask(&broker, &world, state, &question).await {
                failures.push(smallest(&broker, &world, state, &question, wrong).await);
            }
        }
        assert!(failures.is_empty(), "Q2: seed {seed}, question {number}: {}", failures.join("\n"));
    }
    broker.stop().await;
}

/// # Errors
/// What differs, in words.
async fn ask(broker: &Asked, world: &World, state: &State, question: &Question) -> Result<(), String> {
    let live: Vec<_> = world.records.iter().filter(|record| state.has(record)).collect();
    let expected = question.answer(world, &live);
    let found = broker.ask(&state.topic, question).await?;
    match answer::difference(&expected, &found) {
        None => Ok(()),
        Some(difference) => Err(difference),
    }
}

/// The smallest part of a question that still gets a wrong answer, and what is wrong with it.
async fn smallest(broker: &Asked, world: &World, state: &State, question: &Question, wrong: String) -> String {
    let (mut question, mut wrong) = (question.clone(), wrong);
    'smaller: loop {
        for part in question.smaller() {
            if let Err(still) = ask(broker, world, state, &part).await {
                (question, wrong) = (part, still);
                continue 'smaller;
            }
        }
        return format!("{}: {}\n  {wrong}", state.topic, question.written(&state.topic));
    }
}
