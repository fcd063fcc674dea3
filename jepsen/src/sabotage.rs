//! Binaries with a bug that was planted on purpose: for each there is a scenario that has to notice it. What no scenario notices
//! would be no proof either if it were there by mistake.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::check::{Report, Verdict};
use crate::failure::Failure;
use crate::run::{Asked, run};

/// Names the bug to the binary.
pub(crate) const VARIABLE: &str = "PLANTED_BUG";
/// Bug, and the scenario that notices it.
const BUGS: &[(&str, &str)] = &[
    ("ack-before-fsync", "power-cut-all"),
    ("truncate-on-bad-checksum", "damaged-logs"),
    ("vote-not-persisted", "kill-all"),
    ("no-dedup", "kill-leader"),
    ("leader-restore", "power-cut-one"),
    ("purge-before-roll", "kill-in-work"),
    ("vote-in-doubt", "forgotten-end"),
    ("stale-read", "pause-leader"),
    ("seal-without-compare", "calm"),
    ("merge-without-compare", "calm"),
];
/// A bug has to be noticed within this.
const NOTICED_WITHIN: Duration = Duration::from_secs(600);

/// How it went with a bug.
struct Row {
    bug: &'static str,
    scenario: &'static str,
    /// After how long, and by what it was noticed; or that it was not.
    noticed: Result<(Duration, String), String>,
}

/// Runs the scenario of each bug, or of one, until the bug is noticed, and prints a table. `asked` says what to run for a scenario and
/// a seed; `seed` is the first one.
///
/// # Errors
/// If there is no such bug, or the binary is none that has them.
pub(crate) async fn run_all(
    asked: impl Fn(&str, u64) -> (Asked, PathBuf),
    only: Option<&str>,
    seed: u64,
) -> Result<Verdict, Failure> {
    let bugs: Vec<_> = BUGS.iter().filter(|(bug, _)| only.is_none_or(|only| only == *bug)).collect();
    if bugs.is_empty() {
        let names: Vec<&str> = BUGS.iter().map(|(bug, _)| *bug).collect();
        return Err(Failure(format!("there is no bug `{}`; there are {}", only.unwrap_or_default(), names.join(", "))));
    }
    check_binary(&asked("calm", seed).0.binary)?;
    let mut rows = Vec::new();
    for (bug, scenario) in bugs {
        let noticed = notice(bug, scenario, seed, &asked).await;
        println!();
        rows.push(Row { bug, scenario, noticed });
    }
    Ok(conclude(&rows))
}

async fn notice(
    bug: &str,
    scenario: &str,
    seed: u64,
    asked: &impl Fn(&str, u64) -> (Asked, PathBuf),
) -> Result<(Duration, String), String> {
    let began = Instant::now();
    let mut seed = seed;
    loop {
        let (asked, dir) = asked(scenario, seed);
        // How fast a cluster is back is no sign of a bug.
        let asked = Asked { sabotage: Some(bug.to_owned()), times: false, ..asked };
        let ran = run(&asked, &dir.join(format!("{bug}-{seed}"))).await.map_err(|failure| failure.to_string())?;
        let after = began.elapsed();
        if ran.report.verdict == Verdict::Fail && after <= NOTICED_WITHIN {
            return Ok((after, format!("{} (seed {seed})", anomalies(&ran.report))));
        }
        if after >= NOTICED_WITHIN {
            return Err(format!("after {} s, the last run ended with {}", after.as_secs(), ran.report.verdict));
        }
        seed += 1;
    }
}

fn anomalies(report: &Report) -> String {
    let found: Vec<String> = report.findings.iter().map(|(kind, (count, _))| format!("{kind} {count}")).collect();
    found.join(", ")
}

/// A binary without planted bugs would pass, and that would be taken for a bug that nobody noticed.
fn check_binary(binary: &Path) -> Result<(), Failure> {
    let asked = Command::new(binary).arg("--version").env(VARIABLE, "no such bug").output();
    let told = asked.map_err(|error| Failure(format!("cannot run {}: {error}", binary.display())))?;
    if !told.status.success() {
        return Ok(());
    }
    let hint = "build one with `cargo build -p stratalog --features sabotage`, and name it with --binary";
    Err(Failure(format!("{} has no planted bugs: {hint}", binary.display())))
}

fn conclude(rows: &[Row]) -> Verdict {
    for Row { bug, scenario, noticed } in rows {
        let told = match noticed {
            Ok((after, what)) => format!("noticed after {} s: {what}", after.as_secs()),
            Err(why) => format!("not noticed: {why}"),
        };
        println!("{bug:<26}{scenario:<20}{told}");
    }
    let verdict = if rows.iter().all(|row| row.noticed.is_ok()) { Verdict::Pass } else { Verdict::Fail };
    println!("sabotage: {verdict}");
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::named;

    #[test]
    fn every_bug_has_a_scenario_that_can_be_run() {
        assert!(BUGS.iter().all(|(_, scenario)| named(scenario).is_ok()));
    }

    #[test]
    fn a_bug_that_is_not_noticed_is_no_pass() {
        let row = |noticed| Row { bug: "b", scenario: "s", noticed };
        assert_eq!(conclude(&[row(Ok((Duration::ZERO, String::new())))]), Verdict::Pass);
        assert_eq!(conclude(&[row(Err(String::new())), row(Ok((Duration::ZERO, String::new())))]), Verdict::Fail);
    }
}
