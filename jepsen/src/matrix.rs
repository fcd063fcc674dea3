//! Scenario after scenario.

use std::path::PathBuf;

use crate::check::Verdict;
use crate::failure::Failure;
use crate::run::{Asked, Ran, capabilities, run};
use crate::scenario::{NOT_BUILT, SCENARIOS, Scenario};

/// Prints what there is to run, what is not built, and what this machine can inject.
pub(crate) fn list() {
    for Scenario { row, name, what, needs, .. } in SCENARIOS {
        let row = row.map_or_else(|| "–".to_owned(), |row| row.to_string());
        let needs: Vec<&str> = needs.iter().map(|capability| capability.name()).collect();
        let needs = if needs.is_empty() { String::new() } else { format!(" [needs {}]", needs.join(", ")) };
        println!("{row:>3}  {name:<24}{what}{needs}");
    }
    for (row, name, waits_for) in NOT_BUILT {
        println!("{row:>3}  {name:<24}not built: it waits for {waits_for}");
    }
    println!(" 31  {:<24}bugs that are planted: `stratalog-jepsen sabotage`", "sabotage");
    println!("this machine:");
    for (capability, probed) in capabilities(&std::env::temp_dir()) {
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

/// Runs all scenarios, and prints a table. `asked` says what to run for a name, and where its directory goes.
///
/// # Errors
/// If there is no place for runs.
pub(crate) async fn run_all(asked: impl Fn(&str) -> (Asked, PathBuf), skip_missing: bool) -> Result<Verdict, Failure> {
    let mut rows = Vec::new();
    let (_, dir) = asked("");
    std::fs::create_dir_all(&dir)?;
    let missing: Vec<_> =
        capabilities(&dir).into_iter().filter_map(|(capability, probed)| Some((capability, probed.err()?))).collect();
    // One that is in no row of the matrix is run by its name.
    for scenario in SCENARIOS.iter().filter(|scenario| scenario.row.is_some()) {
        let (asked, dir) = asked(scenario.name);
        let lacks = missing.iter().find(|(capability, _)| scenario.needs.contains(capability));
        let no_other = scenario.name == "upgrade" && asked.other_binary.is_none();
        let row = match lacks {
            Some((capability, why)) => skipped(scenario, format!("needs {}: {why}", capability.name())),
            None if no_other => skipped(scenario, "needs --other-binary".to_owned()),
            None => {
                let dir = dir.join(format!("{}-{}", scenario.name, asked.seed));
                ran(scenario, run(&asked, &dir).await)
            }
        };
        println!();
        rows.push(row);
    }
    Ok(conclude(&rows, skip_missing))
}

fn skipped(scenario: &Scenario, told: String) -> Row {
    Row { name: scenario.name, verdict: None, told }
}

fn ran(scenario: &Scenario, ran: Result<Ran, Failure>) -> Row {
    let (verdict, told) = match ran {
        Ok(ran) => {
            tell_how_to_go_on(&ran);
            (ran.report.verdict, format!("{} operations", ran.report.figures.total()))
        }
        Err(failure) => (Verdict::Unknown, failure.to_string()),
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
