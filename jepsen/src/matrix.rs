//! Scenario after scenario.

use std::path::{Path, PathBuf};

use crate::check::Verdict;
use crate::failure::Failure;
use crate::run::{Asked, Ran, capabilities, run};
use crate::scenario::{ELSEWHERE, NOT_BUILT, SCENARIOS, Scenario, named};

/// Prints what there is to run, what is not built, and what this machine can inject.
pub(crate) fn list(python: &Path) {
    for Scenario { row, name, what, needs, .. } in SCENARIOS {
        let row = row.map_or_else(|| "–".to_owned(), |row| row.to_string());
        let needs: Vec<&str> = needs.iter().map(|capability| capability.name()).collect();
        let needs = if needs.is_empty() { String::new() } else { format!(" [needs {}]", needs.join(", ")) };
        println!("{row:>3}  {name:<24}{what}{needs}");
    }
    for (row, name, waits_for) in NOT_BUILT {
        println!("{row:>3}  {name:<24}not built: it waits for {waits_for}");
    }
    for (row, name, what) in ELSEWHERE {
        println!("{row:>3}  {name:<24}{what}");
    }
    println!("this machine:");
    for (capability, probed) in capabilities(&std::env::temp_dir(), python) {
        let told = probed.map_or_else(|why| format!("no: {why}"), |()| "yes".to_owned());
        println!("  {:<19}{told}", capability.name());
    }
}

/// How a scenario ended.
struct Row {
    name: &'static str,
    verdict: Option<Verdict>,
    told: String,
}

/// What of the matrix is run, and what is made of rows that prove nothing.
pub(crate) struct Choice {
    /// Names of scenarios; empty: all rows of the matrix.
    pub(crate) only: Vec<String>,
    /// What this machine cannot do may be left out.
    pub(crate) skip_missing: bool,
    /// How often a row is run again, with another seed, that ended with unknown.
    pub(crate) again: u32,
}

/// Runs scenarios, and prints a table. `asked` says what to run for a name, and where its directory goes.
///
/// # Errors
/// If there is no place for runs, or no scenario of a name.
pub(crate) async fn run_all(asked: impl Fn(&str) -> (Asked, PathBuf), choice: &Choice) -> Result<Verdict, Failure> {
    let scenarios = chosen(&choice.only)?;
    let mut rows = Vec::new();
    let (of_all, dir) = asked("");
    std::fs::create_dir_all(&dir)?;
    let missing: Vec<_> = capabilities(&dir, &of_all.kafka_python)
        .into_iter()
        .filter_map(|(capability, probed)| Some((capability, probed.err()?)))
        .collect();
    for scenario in scenarios {
        let (asked, dir) = asked(scenario.name);
        let lacks = missing.iter().find(|(capability, _)| scenario.needs.contains(capability));
        let no_other = scenario.name == "upgrade" && asked.other_binary.is_none();
        let row = match lacks {
            Some((capability, why)) => skipped(scenario, format!("needs {}: {why}", capability.name())),
            None if no_other => skipped(scenario, "needs --other-binary".to_owned()),
            None => run_row(scenario, asked, &dir, choice.again).await,
        };
        println!();
        rows.push(row);
    }
    Ok(conclude(&rows, choice.skip_missing))
}

/// Without names, those of the matrix: one that is in no row of it is run by its name.
fn chosen(only: &[String]) -> Result<Vec<&'static Scenario>, Failure> {
    if only.is_empty() {
        return Ok(SCENARIOS.iter().filter(|scenario| scenario.row.is_some()).collect());
    }
    only.iter().map(|name| named(name).map_err(Failure)).collect()
}

/// Runs a row, and again while it proves nothing: each time with the next seed.
async fn run_row(scenario: &Scenario, mut asked: Asked, dir: &Path, again: u32) -> Row {
    for _ in 0..again {
        let row = ran(scenario, run_in(scenario, &asked, dir).await);
        if row.verdict != Some(Verdict::Unknown) {
            return row;
        }
        println!("{}, seed {}: {}, and it is run again\n", scenario.name, asked.seed, Verdict::Unknown);
        asked.seed += 1;
    }
    ran(scenario, run_in(scenario, &asked, dir).await)
}

async fn run_in(scenario: &Scenario, asked: &Asked, dir: &Path) -> Result<Ran, Failure> {
    run(asked, &dir.join(format!("{}-{}", scenario.name, asked.seed))).await
}

fn skipped(scenario: &Scenario, told: String) -> Row {
    Row { name: scenario.name, verdict: None, told }
}

fn ran(scenario: &Scenario, ran: Result<Ran, Failure>) -> Row {
    let (verdict, told) = match ran {
        Ok(ran) => {
            tell_how_to_go_on(&ran);
            (ran.report.verdict, format!("seed {}, {} operations", ran.seed, ran.report.figures.total()))
        }
        Err(failure) => {
            println!("{} did not come to its end: {failure}", scenario.name);
            (Verdict::Unknown, failure.to_string())
        }
    };
    Row { name: scenario.name, verdict: Some(verdict), told }
}

/// The table, and the worst verdict in it. What was not run is unknown, unless it may be left out.
fn conclude(rows: &[Row], skip_missing: bool) -> Verdict {
    for Row { name, verdict, told } in rows {
        let verdict = verdict.map_or_else(|| "not run".to_owned(), |verdict| verdict.to_string());
        println!("{name:<24}{verdict:<9}{told}");
    }
    let unrun = if skip_missing { Verdict::Pass } else { Verdict::Unknown };
    let ran = rows.iter().any(|row| row.verdict.is_some());
    let worst = rows.iter().map(|row| row.verdict.unwrap_or(unrun)).max().unwrap_or(Verdict::Unknown);
    let verdict = if ran { worst } else { Verdict::Unknown };
    println!("matrix: {verdict}");
    verdict
}

/// Where a run that did not pass can be looked at, and how it is done again.
pub(crate) fn tell_how_to_go_on(ran: &Ran) {
    if ran.report.verdict == Verdict::Pass {
        return;
    }
    let dir = ran.dir.display();
    println!("history, logs and data of the nodes are in {dir}");
    println!("  judge it again:  stratalog-jepsen check {dir}/history.jsonl");
    println!("  do it again:     stratalog-jepsen replay {dir}");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_of(verdicts: &[Option<Verdict>], skip_missing: bool) -> Verdict {
        let row = |verdict: &Option<Verdict>| Row { name: "x", verdict: *verdict, told: String::new() };
        conclude(&verdicts.iter().map(row).collect::<Vec<_>>(), skip_missing)
    }

    #[test]
    fn scenarios_are_chosen_by_their_names_and_without_names_by_their_rows() {
        let names = |only: &[&str]| -> Result<Vec<&str>, Failure> {
            let only: Vec<String> = only.iter().map(|name| (*name).to_owned()).collect();
            Ok(chosen(&only)?.iter().map(|scenario| scenario.name).collect())
        };
        assert_eq!(names(&["soak", "calm"]).unwrap(), ["soak", "calm"]);
        assert!(names(&[]).unwrap().contains(&"calm") && !names(&[]).unwrap().contains(&"soak"));
        assert!(names(&["calm", "kill"]).is_err());
    }

    #[test]
    fn the_worst_row_counts_and_what_was_not_run_is_no_pass() {
        let pass = Some(Verdict::Pass);
        assert_eq!(verdict_of(&[pass, pass], false), Verdict::Pass);
        assert_eq!(verdict_of(&[pass, Some(Verdict::Unknown)], true), Verdict::Unknown);
        assert_eq!(verdict_of(&[Some(Verdict::Fail), Some(Verdict::Unknown)], false), Verdict::Fail);
        assert_eq!(verdict_of(&[pass, None], false), Verdict::Unknown);
        assert_eq!(verdict_of(&[pass, None], true), Verdict::Pass);
        assert_eq!(verdict_of(&[None, None], true), Verdict::Unknown);
        assert_eq!(verdict_of(&[], true), Verdict::Unknown);
    }
}
