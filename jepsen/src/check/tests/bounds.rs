//! How much of a fault may be felt: elections, and how long sends take.

use std::collections::BTreeMap;

use super::story::Story;
use crate::check::Kind;
use crate::history::{Fault, Line, Outcome, Promise, SendOp, Terms, When};

const SECOND: u64 = 1_000_000;

fn fault(kind: &str, from_s: u64, to_s: u64) -> Line {
    Line::Fault(Fault {
        kind: kind.to_owned(),
        nodes: vec![1],
        at: When(from_s * SECOND, to_s * SECOND),
        partitions: vec![0],
        cuts: Vec::new(),
        alone: Vec::new(),
        detail: String::new(),
    })
}

fn terms(at_s: u64, terms: &[(u32, u64)]) -> Line {
    Line::Terms(Terms { at: When(at_s * SECOND, at_s * SECOND + 1), terms: BTreeMap::from_iter(terms.iter().copied()) })
}

fn bad_network(looks: Vec<Line>) -> Story {
    let mut story = Story::new(1);
    story.promise(Promise::Elections { fault: "storm".to_owned(), a_minute: 1 });
    story.lines.push(fault("storm", 10, 70));
    story.lines.extend(looks);
    story
}

#[test]
fn one_election_a_minute_is_allowed_and_not_two_of_all_shards() {
    let before = || terms(9, &[(0, 3), (1, 7)]);
    bad_network(vec![before(), terms(71, &[(0, 3), (1, 8)])]).passes();
    let why = bad_network(vec![before(), terms(71, &[(0, 4), (1, 8)])]).fails(&[Kind::Restless]);
    assert!(
        why.contains("2 leaders were elected in 60 s of storm (1 of shard 0, 1 of shard 1); 1 are allowed"),
        "{why}"
    );
    bad_network(vec![before(), terms(71, &[(1, 9)])]).fails(&[Kind::Restless]);
}

#[test]
fn elections_before_and_after_a_fault_are_not_its_doing() {
    let mut looks = vec![terms(1, &[(1, 1)]), terms(9, &[(1, 7)]), terms(71, &[(1, 7)]), terms(80, &[(1, 12)])];
    bad_network(looks.clone()).passes();
    // A node that lags tells of fewer.
    looks.insert(2, terms(40, &[(1, 9)]));
    bad_network(looks).fails(&[Kind::Restless]);
}

#[test]
fn terms_that_nobody_looked_at_prove_nothing() {
    assert!(bad_network(vec![terms(9, &[(1, 7)])]).proves_nothing().contains("nobody looked at the terms"));
    assert!(bad_network(vec![terms(71, &[(1, 7)])]).proves_nothing().contains("nobody looked at the terms"));
}

/// A send each ten milliseconds, of which each takes so many milliseconds as `took` says of the second in which it begins.
fn sends(story: &mut Story, seconds: u64, took: impl Fn(u64) -> u64) {
    for number in 0..seconds * 100 {
        let begun = number * SECOND / 100;
        let at = When(begun, begun + 1_000 * took(begun / SECOND));
        let outcome = Outcome::Info("not of interest".to_owned());
        story.lines.push(Line::Send(SendOp { process: 1, at, partition: 0, value: number, outcome, placeless: false }));
    }
}

fn slowed(took: impl Fn(u64) -> u64) -> Story {
    let mut story = Story::new(1);
    story.promise(Promise::Slowed { fault: "queries".to_owned(), times: 2 });
    sends(&mut story, 30, took);
    story.lines.push(fault("queries", 10, 20));
    story
}

#[test]
fn sends_may_take_twice_as_long_while_a_fault_lasts_and_not_longer() {
    // The first seconds of a cluster are no measure, and what comes later is not this fault's doing.
    let plain = |during: u64| {
        move |second: u64| {
            if (10..20).contains(&second) {
                during
            } else if second < 3 {
                500
            } else {
                50
            }
        }
    };
    slowed(plain(100)).passes();
    let why = slowed(plain(101)).fails(&[Kind::Slow]);
    assert!(why.contains("during queries, 99 % of sends took up to 101 ms, and 50 ms before"), "{why}");
    slowed(|second| if second < 20 { 50 } else { 5_000 }).passes();
}

#[test]
fn one_send_of_a_hundred_may_take_as_long_as_it_likes() {
    let mut story = Story::new(1);
    story.promise(Promise::Slowed { fault: "queries".to_owned(), times: 2 });
    sends(&mut story, 30, |_| 50);
    story.lines.push(fault("queries", 10, 20));
    let begin_late = |line: &mut Line, number: usize| {
        if let Line::Send(send) = line
            && number % 100 == 7
        {
            send.at.1 += 9 * SECOND;
        }
    };
    story.lines.iter_mut().enumerate().for_each(|(number, line)| begin_late(line, number));
    story.passes();
}

#[test]
fn how_long_sends_take_is_what_it_was_half_a_minute_after_a_fault() {
    let recovered = |slow_until: u64| {
        let mut story = Story::new(1);
        story.promise(Promise::Recovered { fault: "flood".to_owned(), within_ms: 30_000, times: 2 });
        sends(&mut story, 70, |second| if (10..slow_until).contains(&second) { 3_000 } else { 40 });
        story.lines.push(fault("flood", 10, 20));
        story
    };
    recovered(50).passes();
    let why = recovered(55).fails(&[Kind::Slow]);
    assert!(why.contains("30 s after the end of flood, 99 % of sends took up to 3000 ms"), "{why}");
}

#[test]
fn too_few_sends_prove_nothing() {
    let mut story = Story::new(1);
    story.promise(Promise::Slowed { fault: "queries".to_owned(), times: 2 });
    story.lines.push(fault("queries", 10, 20));
    assert!(story.proves_nothing().contains("too few sends tell how long they take during queries"));
}
