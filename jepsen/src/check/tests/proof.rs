//! A history in which too little happened proves nothing, however clean it is.

use super::story::{NODES, Story, seen};
use crate::check::{Kind, Verdict};
use crate::history::{End, Line, Outcome, Position, Probe, Source};

fn proven() -> Story {
    let mut story = Story::new(1);
    story.ack(1, 0, 10, 0).assign(7, Position::Earliest).poll(7, 0, 0, &[10]).finally(0, &[10]).require_all();
    story
}

#[test]
fn everything_that_is_required_makes_a_pass() {
    proven().passes();
}

#[test]
fn nothing_at_all_is_no_pass() {
    let mut story = Story::new(1);
    story.require_all();
    let why = story.proves_nothing();
    assert!(why.contains("0 operations `send` succeeded"), "{why}");
    assert!(why.contains("nothing was acknowledged or read in partition 0"), "{why}");
}

#[test]
fn a_history_without_its_end_is_no_pass() {
    let report = proven().judged_so_far();
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(report.unproven[0].contains("no end"), "{:?}", report.unproven);
    let mut story = proven();
    story.lines.push(Line::End(End { lines: 3, broken_off: None }));
    assert!(story.proves_nothing().contains("tells of 3 lines"));
    let mut story = proven();
    let lines = story.lines.len() as u64 + 1;
    story.lines.push(Line::End(End { lines, broken_off: Some("no node answers".to_owned()) }));
    let report = story.judged_so_far();
    assert_eq!(report.unproven, ["the run was broken off: no node answers"]);
}

#[test]
fn what_nobody_came_to_read_is_not_lost() {
    let mut story = Story::new(1);
    story.ack(1, 0, 10, 0).ack(1, 0, 11, 1).ack(1, 0, 12, 2).ack(1, 0, 13, 3);
    story.assign(7, Position::Offset(2)).poll(7, 0, 2, &[12]);
    story.fails(&[Kind::LostWrite, Kind::Unseen]);
    let lines = story.lines.len() as u64 + 1;
    story.lines.push(Line::End(End { lines, broken_off: Some("no node answers".to_owned()) }));
    assert_eq!(story.judged_so_far().verdict, Verdict::Unknown);
}

#[test]
fn what_is_found_in_two_places_is_wrong_in_a_run_that_was_broken_off_too() {
    let mut story = proven();
    story.search(12, (0, 2), &[(0, 2), (0, 3)]);
    let lines = story.lines.len() as u64 + 1;
    story.lines.push(Line::End(End { lines, broken_off: Some("no node answers".to_owned()) }));
    let report = story.judged_so_far();
    assert!(report.findings.contains_key(&Kind::SearchDisagrees), "{:?}", report.findings);
}

#[test]
fn a_query_may_have_seen_what_nobody_came_to_read() {
    let mut story = proven();
    story.query(&[1], &[seen(0, 4)]).fails(&[Kind::SqlDisagrees]);
    let lines = story.lines.len() as u64 + 1;
    story.lines.push(Line::End(End { lines, broken_off: Some("no node answers".to_owned()) }));
    assert_eq!(story.judged_so_far().verdict, Verdict::Unknown);
}

#[test]
fn a_fault_that_never_fired_or_hit_nobody_is_no_pass() {
    let mut story = proven();
    story.header.requires.faults.insert("kill-leader".to_owned(), 1);
    assert!(story.proves_nothing().contains("fault kill-leader fired 0 times"));
    story.sleep(60_000);
    story.fault("kill-leader", 100, &[0]);
    assert!(story.proves_nothing().contains("fired 1 times, 0 of them while records were acknowledged"));
    let mut refused = story.clone();
    refused.send(1, 0, 11, Outcome::Info("no answer".to_owned()));
    assert!(refused.proves_nothing().contains("0 of them"));
    story.lines.retain(|line| !matches!(line, Line::CopyEnd(_) | Line::Copy(_)));
    story.ack(1, 0, 11, 1).poll(7, 0, 1, &[11]).finally(0, &[10, 11]).passes();
}

#[test]
fn a_copy_that_was_not_read_or_broke_off_is_no_pass() {
    for source in [Source::Replica, Source::Sql, Source::Search] {
        let is_of = |line: &Line| match line {
            Line::Copy(part) => part.source == source && part.node == NODES,
            Line::CopyEnd(end) => end.source == source && end.node == NODES,
            _ => false,
        };
        let mut story = proven();
        story.lines.retain(|line| !is_of(line));
        assert!(story.proves_nothing().contains("2 nodes; 3 are needed"));
        story.part_end(source, NODES, 0, Outcome::Info("it does not answer".to_owned()));
        assert!(story.proves_nothing().contains("it does not answer"));
    }
}

#[test]
fn a_partition_without_a_record_is_no_pass() {
    let mut story = proven();
    story.header.partitions = 2;
    assert!(story.proves_nothing().contains("nothing was acknowledged or read in partition 1"));
}

#[test]
fn a_probe_that_was_not_made_is_no_pass() {
    let mut story = proven();
    story.header.requires.probes.insert("a wiped node is refused".to_owned(), 1);
    assert!(story.proves_nothing().contains("a wiped node is refused"));
    let at = story.when();
    let what = "a wiped node is refused".to_owned();
    story.lines.push(Line::Probe(Probe { what, at, held: true, detail: String::new() }));
    story.passes();
    let Some(Line::Probe(probe)) = story.lines.last_mut() else { panic!("it is one") };
    probe.held = false;
    story.fails(&[crate::check::Kind::BrokenPromise]);
}

#[test]
fn sends_to_the_minority_have_to_be_tried() {
    let mut story = proven();
    story.header.requires.sends_while_cut_off = 1;
    assert!(story.proves_nothing().contains("0 sends were tried at nodes that were cut off"));
}

#[test]
fn x1_numbers_that_are_too_high_take_no_memory_and_prove_nothing() {
    let mut story = proven();
    story.ack(1, 0, 11, u64::MAX - 1).ack(1, 7, 12, 0).ack(1, 0, u64::MAX, 1);
    story.poll(7, 0, u64::MAX - 1, &[13, 14]);
    assert!(story.proves_nothing().contains("too high to be judged"));
    for (partition, first) in [(u32::MAX, 0), (0, u64::MAX)] {
        story.part(Source::Replica, 1, partition, first, &[13]);
        let Some(Line::Copy(part)) = story.lines.last_mut() else { unreachable!("it was just added") };
        part.epochs = vec![0];
    }
    story.judged();
}

#[test]
fn what_is_undecided_is_no_pass() {
    let mut story = proven();
    for value in 0..=1_024 {
        story.meta(1, crate::history::MetaChange::Create(value), crate::history::MetaSeen::Exists);
    }
    assert!(story.proves_nothing().contains("takes too long"));
}
