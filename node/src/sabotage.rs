//! A bug that is planted when the process starts, in builds that say so: the harness has to notice it. No release has this.

use stratalog_storage::sabotage::{Bug, plant};

use crate::failure::Failure;

/// Names the bug. It has not the prefix of settings, of which it is none.
const VARIABLE: &str = "PLANTED_BUG";

/// Plants the bug that the environment names, and says so.
///
/// # Errors
/// If there is no such bug; all that there are.
pub(crate) fn plant_what_is_asked_for() -> Result<(), Failure> {
    let Some(name) = std::env::var_os(VARIABLE) else { return Ok(()) };
    let name = name.to_string_lossy();
    let Some(bug) = Bug::named(&name) else {
        let all: Vec<&str> = Bug::ALL.iter().map(|(name, _)| *name).collect();
        return Err(Failure::Refused(format!("there is no bug `{name}` to plant; there are {}", all.join(", "))));
    };
    eprintln!(
        "SABOTAGE: this process has the bug {bug:?} on purpose. It loses data. Never give it data that you need."
    );
    plant(Some(bug));
    Ok(())
}
