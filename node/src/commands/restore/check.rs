//! `stratalog restore --check`: whether a backup could be restored, without restoring it.

use std::time::Instant;

use serde_json::{Value, json};
use stratalog_backup::{Checked, Fault, Finding, Stored, check};

use crate::cli::OutputFormat;
use crate::failure::Failure;
use crate::output::{Fields, Listing, human_bytes, human_count, human_duration, print_object, say};
use crate::progress::{Unit, bar};

pub(super) async fn run(format: OutputFormat, stored: &Stored) -> Result<(), Failure> {
    let (began, bar) = (Instant::now(), bar(Some(stored.manifest().bytes()), Unit::Bytes));
    let checked = check(stored, &|bytes| bar.inc(bytes)).await;
    bar.finish_and_clear();
    let checked = checked?;
    match format {
        OutputFormat::Table => print_for_people(stored, &checked, began)?,
        _ => print_object(format, &fields(stored, &checked, began))?,
    }
    let (id, place) = (&stored.manifest().id, stored.target().place());
    match checked.findings.len() as u64 + checked.unlisted {
        0 => Ok(()),
        1 => Err(Failure::Refused(format!("backup {id} in {place} cannot be restored: one object is not there whole"))),
        many => {
            let many = human_count(many);
            Err(Failure::Refused(format!(
                "backup {id} in {place} cannot be restored: {many} objects are not there whole"
            )))
        }
    }
}

fn print_for_people(stored: &Stored, checked: &Checked, began: Instant) -> Result<(), Failure> {
    say!("backup:    {} in {}", stored.manifest().id, stored.target().place())?;
    say!("names:     {} objects, {}", human_count(checked.objects), human_bytes(checked.bytes))?;
    say!("took:      {}", human_duration(began.elapsed()))?;
    if checked.is_clean() {
        return say!("nothing is damaged or missing");
    }
    let mut listing = Listing::new(&["severity", "object", "what"]);
    for finding in &checked.findings {
        listing.push(vec![name(finding.fault).into(), finding.object.clone().into(), finding.what.clone().into()]);
    }
    listing.print(OutputFormat::Table)?;
    if checked.unlisted > 0 {
        say!("and {} more", human_count(checked.unlisted))?;
    }
    Ok(())
}

fn fields(stored: &Stored, checked: &Checked, began: Instant) -> Fields {
    vec![
        ("clean", checked.is_clean().into()),
        ("backup", stored.manifest().id.clone().into()),
        ("place", stored.target().place().into()),
        ("objects", checked.objects.into()),
        ("bytes", checked.bytes.into()),
        ("findings", checked.findings.iter().map(object).collect::<Vec<_>>().into()),
        ("unlisted_findings", checked.unlisted.into()),
        ("elapsed_us", (began.elapsed().as_micros() as u64).into()),
    ]
}

fn object(finding: &Finding) -> Value {
    json!({ "severity": name(finding.fault), "object": finding.object, "what": finding.what })
}

fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Missing => "missing",
        Fault::Damaged => "damage",
        Fault::Unreadable => "unreadable",
    }
}
