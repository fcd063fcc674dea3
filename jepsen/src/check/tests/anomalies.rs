//! One story for each anomaly, beside one that is nearly the same and good.

use super::story::{PINNED, Story, digest, seen};
use crate::check::Kind;
use crate::history::{
    ClientKind, CopyPart, Line, Outcome, Position, Process, Promise, Role, Run, Seen, SendOp, Source,
};

/// Three values at offsets 0 to 2 of the only partition, read by everybody.
fn good() -> Story {
    let mut story = Story::new(1);
    story.ack(1, 0, 10, 0).ack(1, 0, 11, 1).ack(2, 0, 12, 2);
    story.assign(7, Position::Earliest).poll(7, 0, 0, &[10, 11]).poll(7, 0, 2, &[12]);
    story
}

fn unknown() -> Outcome<u64> {
    Outcome::Info("no answer".to_owned())
}

#[test]
fn a_good_story_passes() {
    let mut story = good();
    story.send(2, 0, 13, Outcome::Fail("refused".to_owned())).send(2, 0, 14, unknown()).send(2, 0, 15, unknown());
    story.poll(7, 0, 3, &[15]).finally(0, &[10, 11, 12, 15]).require_all();
    story.passes();
}

#[test]
fn l1_a_lost_write_is_found_below_what_was_read() {
    let mut story = good();
    story.ack(2, 0, 13, 3).finally(0, &[10, 11, 12, 14]).send(2, 0, 14, unknown());
    let what = story.fails(&[Kind::LostWrite, Kind::InconsistentOffset, Kind::SqlDisagrees, Kind::SearchDisagrees]);
    assert!(what.contains("value 13 was acknowledged at offset 3 of partition 0"), "{what}");
}

#[test]
fn l1_a_lost_write_leaves_a_hole_in_what_was_read() {
    let mut story = Story::new(1);
    story.ack(1, 0, 10, 0).ack(1, 0, 11, 1).ack(1, 0, 12, 2).assign(7, Position::Latest).poll(7, 0, 0, &[10]).poll(
        7,
        0,
        2,
        &[12],
    );
    story.fails(&[Kind::LostWrite, Kind::PollSkip]);
}

#[test]
fn l1_an_acknowledged_value_that_the_end_does_not_show_is_unseen() {
    let mut story = good();
    story.ack(2, 0, 13, 3);
    story.part(Source::Replica, 1, 0, 0, &[10, 11, 12]).part_end(Source::Replica, 1, 0, Outcome::Ok(3));
    let what = story.fails(&[Kind::Unseen, Kind::ReplicaDiffers]);
    assert!(what.contains("value 13"), "{what}");
}

#[test]
fn l2_two_values_at_one_offset() {
    let mut story = good();
    story.send(2, 0, 13, unknown()).assign(8, Position::Offset(2)).poll(8, 0, 2, &[13]);
    let what = story.fails(&[Kind::InconsistentOffset]);
    assert_eq!(what, "offset 2 of partition 0 holds value 12 for one, and 13 for another");
}

#[test]
fn l2_one_value_at_two_offsets() {
    let mut story = good();
    story.poll(7, 0, 3, &[12]);
    story.fails(&[Kind::Duplicate]);
    // Of which no outcome is known, it may be there once.
    let mut story = good();
    story.send(2, 0, 13, unknown()).poll(7, 0, 3, &[13]).passes();
    story.poll(7, 0, 4, &[13]).fails(&[Kind::Duplicate]);
}

#[test]
fn l1_an_acknowledged_offset_is_where_the_value_is_read() {
    let mut story = Story::new(1);
    story.ack(1, 0, 10, 1).send(1, 0, 11, unknown()).assign(7, Position::Earliest).poll(7, 0, 0, &[10, 11]);
    story.fails(&[Kind::InconsistentOffset, Kind::OffsetMismatch]);
}

#[test]
fn what_failed_is_not_read_whichever_comes_first() {
    let failed = || Outcome::Fail("refused".to_owned());
    let mut story = good();
    story.send(2, 0, 13, failed()).poll(7, 0, 3, &[13]).fails(&[Kind::AbortedRead]);
    let mut story = good();
    story.poll(7, 0, 3, &[13]).send(2, 0, 13, failed()).fails(&[Kind::AbortedRead]);
}

#[test]
fn what_nobody_sent_there_is_not_read() {
    let mut story = good();
    story.poll(7, 0, 3, &[99]).fails(&[Kind::Phantom]);
    let mut story = Story::new(2);
    story
        .ack(1, 0, 10, 0)
        .assign(7, Position::Earliest)
        .poll(7, 0, 0, &[10])
        .poll(7, 1, 0, &[11])
        .ack(1, 1, 12, 1)
        .poll(7, 1, 1, &[12])
        .send(1, 0, 11, unknown());
    story.fails(&[Kind::Phantom]);
}

#[test]
fn l2_an_altered_record_is_found_in_polls_and_copies() {
    let mut story = good();
    let altered = vec![(3, "the key is [1]".to_owned())];
    let run = Run { partition: 0, first: 3, values: vec![13], altered: altered.clone() };
    let at = story.when();
    story.ack(1, 0, 13, 3);
    story.lines.push(Line::Poll(crate::history::PollOp { process: 7, at, outcome: Outcome::Ok(vec![run]) }));
    let what = story.fails(&[Kind::Corrupt]);
    assert!(what.contains("consumer 7 read at 0/3 what nobody sent: the key is [1]"), "{what}");
    let mut story = good();
    story.part(Source::Replica, 2, 0, 0, &[10]);
    let Some(Line::Copy(part)) = story.lines.last_mut() else { panic!("it is a copy") };
    part.altered = vec![(0, "the value is cut".to_owned())];
    story.fails(&[Kind::Corrupt]);
}

#[test]
fn l2_replicas_with_other_bytes_differ() {
    let mut story = good();
    story.finally(0, &[10, 11, 12]).passes();
    let replica =
        |line: &&mut Line| matches!(line, Line::Copy(part) if part.source == Source::Replica && part.node == 3);
    let Some(Line::Copy(part)) = story.lines.iter_mut().find(replica) else { panic!("there is one") };
    part.digests[1] ^= 1;
    let what = story.fails(&[Kind::ReplicaDiffers]);
    assert!(what.contains("the record at 0/1 has other bytes on node 3"), "{what}");
}

#[test]
fn l2_a_replica_that_lacks_the_last_offset_differs() {
    let mut story = good();
    story.part(Source::Replica, 1, 0, 0, &[10, 11, 12]).part_end(Source::Replica, 1, 0, Outcome::Ok(3));
    story.part(Source::Replica, 2, 0, 0, &[10, 11]).part_end(Source::Replica, 2, 0, Outcome::Ok(2));
    let what = story.fails(&[Kind::ReplicaDiffers]);
    assert!(what.contains("the replica of node 2 lacks value 12 at offset 2"), "{what}");
}

#[test]
fn l2_offsets_that_nobody_saw_are_a_gap_and_no_skip() {
    let mut story = good();
    story.ack(1, 0, 13, 5).poll(7, 0, 5, &[13]);
    let what = story.fails(&[Kind::Gap]);
    assert!(what.contains("offsets 3 to 4 of partition 0"), "{what}");
}

#[test]
fn a_log_that_begins_late_is_found_unless_it_may() {
    let begins_late = |mut story: Story| {
        story.ack(1, 0, 10, 0).ack(1, 0, 11, 1);
        story.part(Source::Replica, 1, 0, 1, &[11]).part_end(Source::Replica, 1, 0, Outcome::Ok(2));
        let Some(Line::CopyEnd(end)) = story.lines.last_mut() else { panic!("it is one") };
        end.from = 1;
        story
    };
    begins_late(Story::new(1)).fails(&[Kind::LostWrite, Kind::ReplicaDiffers, Kind::LogStartMoved]);
    begins_late(Story::new(1).starts_move()).passes();
}

#[test]
fn a_consumer_neither_skips_nor_goes_back_but_where_it_is_told() {
    let mut story = good();
    story.ack(1, 0, 13, 3).ack(1, 0, 14, 4).poll(7, 0, 4, &[14]).assign(8, Position::Offset(3)).poll(8, 0, 3, &[13]);
    let what = story.fails(&[Kind::PollSkip]);
    assert!(what.contains("consumer 7 was to get offset 3"), "{what}");
    let mut story = good();
    story.poll(7, 0, 1, &[11]).fails(&[Kind::NonmonotonicPoll]);
    let mut story = good();
    story.assign(7, Position::Offset(1)).poll(7, 0, 1, &[11, 12]).passes();
    let mut story = good();
    story.assign(7, Position::Offset(1)).poll(7, 0, 2, &[12]).fails(&[Kind::PollSkip]);
    let mut story = good();
    story.assign(7, Position::Latest).poll(7, 0, 2, &[12]).passes();
}

#[test]
fn a_producers_records_are_in_its_order() {
    let mut story = Story::new(1);
    story.ack(1, 0, 11, 0).ack(1, 0, 10, 1).assign(7, Position::Earliest).poll(7, 0, 0, &[11, 10]);
    story.fails(&[Kind::NonmonotonicSend]);
    let mut story = Story::new(1);
    story.ack(1, 0, 11, 0).ack(2, 0, 10, 1).assign(7, Position::Earliest).poll(7, 0, 0, &[11, 10]).passes();
}

#[test]
fn l3_a_high_watermark_goes_back_for_nobody() {
    let mut story = good();
    story.watermarks(3, &[2], &[3]).watermarks(4, &[2], &[2]).passes();
    story.watermarks(3, &[2], &[2]);
    let what = story.fails(&[Kind::WatermarkBack]);
    assert!(what.contains("from 3 to 2"), "{what}");
}

#[test]
fn q1_what_was_acknowledged_is_seen() {
    let mut story = good();
    story.watermarks(3, &[3], &[2]).fails(&[Kind::StaleRead]);
    let mut story = good();
    story.query(&[3], &[seen(0, 3)]).passes();
    story.query(&[3], &[seen(0, 2)]);
    let what = story.fails(&[Kind::StaleRead]);
    assert!(what.contains("did not see offset 2 of partition 0"), "{what}");
    let mut story = good();
    story.query(&[3], &[]).fails(&[Kind::StaleRead]);
    let mut story = good();
    story.search(11, (0, 1), &[(0, 1)]).passes();
    story.search(11, (0, 1), &[]).fails(&[Kind::StaleRead]);
}

#[test]
fn q1_a_query_sees_each_offset_of_a_prefix_once() {
    let wrong = [
        Seen { rows: 2, ..seen(0, 3) },
        Seen { rows: 4, ..seen(0, 3) },
        Seen { first: 1, rows: 2, sum: 3, ..seen(0, 3) },
        // One offset is missing, and another there twice.
        Seen { sum: 2, ..seen(0, 3) },
    ];
    for rows in wrong {
        let mut story = good();
        story.query(&[0], &[rows]);
        story.fails(&[Kind::NotAPrefix]);
    }
}

#[test]
fn s1_rows_are_the_records_of_the_log_each_once() {
    let with = |change: &dyn Fn(&mut CopyPart)| {
        let mut story = good();
        story.finally(0, &[10, 11, 12]);
        let sql = |line: &&mut Line| matches!(line, Line::Copy(part) if part.source == Source::Sql && part.node == 2);
        let Some(Line::Copy(part)) = story.lines.iter_mut().find(sql) else { panic!("there is one") };
        change(part);
        story.fails(&[Kind::SqlDisagrees])
    };
    let missing = with(&|part| part.values.truncate(2));
    assert!(missing.contains("SQL of node 2 lacks value 12 at offset 2"), "{missing}");
    let other = with(&|part| part.values[1] = 12);
    assert!(other.contains("has value 12 at 0/1, where the log has 11"), "{other}");
    let more = with(&|part| part.values.push(13));
    assert!(more.contains("has value 13 at 0/3, where the log has nothing"), "{more}");
    let mut story = good();
    story.finally(0, &[10, 11, 12]).part(Source::Sql, 2, 0, 1, &[11]);
    assert!(story.fails(&[Kind::SqlDisagrees]).contains("has offset 1 of partition 0 twice"));
}

#[test]
fn s1_a_query_does_not_see_what_is_lost_later() {
    let mut story = good();
    story.query(&[3], &[seen(0, 4)]).finally(0, &[10, 11, 12]);
    story.fails(&[Kind::SqlDisagrees]);
}

#[test]
fn a_search_finds_each_record_by_its_word_and_no_other() {
    let mut story = good();
    story.finally(0, &[10, 11, 12]);
    let search = |line: &Line| matches!(line, Line::Copy(part) if part.source == Source::Search);
    let at = story.lines.iter().position(search).unwrap();
    let mut without = story.clone();
    without.lines.remove(at);
    without.fails(&[Kind::SearchDisagrees]);
    let Line::Copy(part) = &mut story.lines[at] else { panic!("it is a copy") };
    part.word = Some(3);
    let what = story.fails(&[Kind::SearchDisagrees]);
    assert!(what.contains("finds word3 in value 10"), "{what}");
    let mut story = good();
    story.search(11, (0, 1), &[(0, 1), (0, 2)]).fails(&[Kind::SearchDisagrees]);
}

#[test]
fn l1_a_node_that_is_cut_off_acknowledges_nothing() {
    let cut_off = |outcome| {
        let mut story = good();
        story.fault("halves", 5_000, &[]);
        let Some(Line::Fault(fault)) = story.lines.last_mut() else { panic!("it is a fault") };
        fault.alone = vec![1];
        story.send(PINNED, 0, 13, outcome);
        story
    };
    cut_off(unknown()).passes();
    let what = cut_off(Outcome::Ok(3)).fails(&[Kind::Unseen, Kind::MinorityAck]);
    assert!(what.contains("value 13"), "{what}");
}

#[test]
fn whoever_is_back_too_late_is_told() {
    let away_for = |ms: u64, promise: Promise| {
        let mut story = Story::new(1);
        story.ack(1, 0, 10, 0);
        story.fault("kill", 500, &[0]);
        story.sleep(ms);
        story.ack(1, 0, 11, 1).ack(1, 0, 12, 2).assign(7, Position::Earliest).poll(7, 0, 0, &[10, 11, 12]);
        story.promise(promise);
        story
    };
    let gap = || Promise::Gap { fault: "kill".to_owned(), within_ms: 2_000 };
    away_for(1_900, gap()).passes();
    let what = away_for(2_100, gap()).fails(&[Kind::Late]);
    assert!(what.contains("no record was acknowledged for 2101 ms"), "{what}");
    let back = || Promise::Back { fault: "kill".to_owned(), within_ms: 2_000 };
    away_for(2_400, back()).passes();
    away_for(2_600, back()).fails(&[Kind::Late]);
    // Nobody is acknowledged ever again, though somebody goes on sending.
    let mut story = good();
    story.fault("kill", 500, &[0]);
    story.sleep(10_000);
    story.send(1, 0, 13, unknown()).promise(gap()).promise(back());
    assert_eq!(story.judged().findings[&Kind::Late].0, 2);
}

#[test]
fn a_gap_is_the_doing_of_the_last_fault_before_it() {
    let mut story = good();
    story.fault("kill", 500, &[0]);
    story.sleep(600);
    story.ack(1, 0, 13, 3).fault("pause", 500, &[0]);
    story.sleep(3_000);
    story.ack(1, 0, 14, 4).poll(7, 0, 3, &[13, 14]);
    let report = story.judged();
    let gaps: Vec<_> = report.gaps.iter().map(|(kind, gaps)| (kind.as_str(), gaps.max_ms)).collect();
    assert_eq!(gaps, [("kill", 604), ("pause", 3_001)]);
}

/// Clients of other nodes tell whether somebody leads again. The one that stands still is node 1.
#[test]
fn a_leader_that_is_replaced_too_late_is_told() {
    let replaced_after = |ms: u64| {
        let mut story = good();
        story.header.processes.push(Process {
            process: 91,
            role: Role::Watcher,
            node: Some(2),
            client: ClientKind::Sdk,
        });
        story.header.processes.push(Process {
            process: 92,
            role: Role::Watcher,
            node: Some(1),
            client: ClientKind::Sdk,
        });
        story.fault("pause", 4_000, &[0]);
        story.watermarks(92, &[3], &[3]);
        story.sleep(ms);
        story.watermarks(91, &[3], &[3]).promise(Promise::Replaced { fault: "pause".to_owned(), within_ms: 2_000 });
        story
    };
    replaced_after(1_900).passes();
    let what = replaced_after(2_100).fails(&[Kind::Late]);
    assert!(what.contains("pause of [1]") && what.contains("after 2102 ms"), "{what}");
}

#[test]
fn digests_of_the_stories_differ() {
    assert_ne!(digest(1), digest(2));
}

#[test]
fn what_was_acknowledged_without_an_offset_has_to_be_somewhere() {
    let with = |value: u64| {
        let mut story = good();
        let at = story.when();
        let outcome = Outcome::Info("acknowledged without its offset".to_owned());
        story.lines.push(Line::Send(SendOp { process: 2, at, partition: 0, value, outcome, placeless: true }));
        story.send(2, 0, 14, unknown());
        story
    };
    with(13).finally(0, &[10, 11, 12, 13]).passes();
    let what = with(13).finally(0, &[10, 11, 12, 14]).fails(&[Kind::LostWrite]);
    assert!(
        what.contains("value 13 was acknowledged without its offset in partition 0; nobody ever read it"),
        "{what}"
    );
}

/// Value 12 of librdkafka is at offsets 2 and 3, written in these epochs, and was acknowledged at one of them; it is searched for as
/// well.
fn twice(epochs: [i16; 4], acked: u64) -> Story {
    let mut story = Story::new(1);
    story.ack(1, 0, 10, 0).ack(1, 0, 11, 1).ack(2, 0, 12, acked);
    story.assign(7, Position::Earliest).poll(7, 0, 0, &[10, 11]).poll(7, 0, 2, &[12]);
    story.header.processes.push(Process {
        process: 2,
        role: Role::Producer,
        node: None,
        client: ClientKind::Librdkafka,
    });
    story.search(12, (0, acked), &[(0, 2), (0, 3)]).poll(7, 0, 3, &[12]).finally(0, &[10, 11, 12, 12]).require_all();
    for line in &mut story.lines {
        if let Line::Copy(part @ CopyPart { source: Source::Replica, .. }) = line {
            part.epochs = epochs.to_vec();
        }
    }
    story
}

#[test]
fn l2_what_librdkafka_sends_again_in_a_later_epoch_is_counted_and_nobody_else_may() {
    let story = twice([0, 0, 0, 1], 3);
    story.passes();
    let report = story.judged();
    assert_eq!(report.figures.written_anew, 1);
    assert!(report.summary().contains("1 records are there again"), "{}", report.summary());
    // In one epoch a node writes a sequence once, and none once that epoch is over; and without an epoch nothing is known.
    for epochs in [[0, 0, 1, 1], [0, 0, 1, 0], [-1; 4]] {
        let found = twice(epochs, 3).judged().findings;
        assert!(found.contains_key(&Kind::SearchDisagrees) && found.len() == 2, "{epochs:?}: {found:?}");
    }
    // Nor does a client send again what was acknowledged.
    twice([0, 0, 0, 1], 2).fails(&[Kind::Duplicate, Kind::SearchDisagrees]);
    let mut three_times = twice([0, 0, 0, 1], 3);
    three_times.poll(7, 0, 4, &[12]);
    for node in 1..=3 {
        three_times.part(Source::Replica, node, 0, 4, &[12]);
        let Some(Line::Copy(part)) = three_times.lines.last_mut() else { unreachable!("it was just added") };
        part.epochs = vec![1];
    }
    let found = three_times.judged().findings;
    assert!(found.contains_key(&Kind::Duplicate), "two of them are of one epoch: {found:?}");
    let mut of_the_sdk = twice([0, 0, 0, 1], 3);
    of_the_sdk.header.processes.pop();
    of_the_sdk.fails(&[Kind::OffsetMismatch, Kind::SearchDisagrees]);
}
