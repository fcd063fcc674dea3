use std::path::Path;

use stratalog_proto::{PartitionId, Term, TopicId};
use stratalog_storage::simulation::SimDisk;
use stratalog_storage::{ErasedOffsets, rec_file_name};

use super::*;
use crate::replay::build;
use crate::replay::testing::{Log, store, store_on};

/// A segment that is built and not known to any store, and what to make it of.
fn built(store: &RecStore) -> (Arc<RecMeta>, PendingRec) {
    let (a, b) = (TopicId::new(), TopicId::new());
    let mut log = Log::default();
    (0..10).for_each(|_| log.append(1, &[(a, 0, 100), (b, 0, 100)]));
    let [meta] = build::build(store, &log, log.range(), log.placed.clone()).unwrap().try_into().unwrap();
    let meta = Arc::new(meta);
    (Arc::clone(&meta), PendingRec { meta, batches: log.placed, replaces: None, erased: Arc::default() })
}

fn listed(disk: &SimDisk) -> Vec<String> {
    disk.list(Path::new("/segments")).unwrap()
}

#[test]
fn a_segment_can_be_read_from_its_making_until_its_last_reader_is_done() {
    let (disk, store) = store();
    let (meta, pending) = built(&store);
    let error = store.get(&meta).unwrap_err();
    assert_eq!(error.code, Code::Unavailable);
    assert!(error.message.contains("offsets 0..10 of topic"), "{error}");
    store.adopt(Arc::clone(&meta));
    store.expect(vec![pending]);
    assert!(!store.is_waiting(), "it was built here");
    let reader = store.reader(&meta).unwrap();
    store.retire([Arc::clone(&meta)]);
    assert!(store.has(meta.id), "apply does not wait for the disk");
    assert_eq!(store.unlink_retired(), 1);
    assert_eq!(store.get(&meta).unwrap_err().code, Code::Unavailable);
    assert_eq!(listed(&disk).len(), 1);
    drop(reader);
    assert_eq!(listed(&disk), [""; 0]);
}

#[test]
fn l4_a_segment_that_was_rolled_elsewhere_is_waited_for_until_it_is_here() {
    let (_, store) = store();
    let (meta, pending) = built(&store);
    store.expect(vec![pending]);
    assert!(store.is_waiting());
    assert_eq!(store.next_expected().unwrap().meta, meta);
    store.adopt(Arc::clone(&meta));
    assert!(!store.is_waiting() && store.next_expected().is_none());
}

#[test]
fn a_segment_is_lacked_only_if_this_replica_cannot_make_it() {
    let (disk, store) = store();
    let (old, rolled) = built(&store);
    let leader = store_on(&disk);
    leader.adopt(Arc::clone(&old));
    let keep = [(old.topics[0].topic, PartitionId(0))];
    let new = build::repack(&leader, &old, SegmentId::new(), &keep, &ErasedOffsets::default()).unwrap().unwrap();
    let new = Arc::new(new);
    let replaced = PendingRec {
        meta: Arc::clone(&new),
        batches: Vec::new(),
        replaces: Some(Arc::clone(&old)),
        erased: Arc::default(),
    };
    let lacking = || store.lacking([&old, &new]).iter().map(|meta| meta.id).collect::<Vec<_>>();
    assert_eq!(lacking(), [old.id, new.id], "nothing is known of them");
    store.expect(vec![rolled, replaced]);
    assert_eq!(lacking(), [], "the log has one, and the other is made of that");
    assert_eq!(store.missing([&old, &new]).len(), 2);
    store.restored(&[Arc::clone(&old), Arc::clone(&new)]);
    assert_eq!(lacking(), [old.id, new.id], "the log has jumped, and may not have it any more");
    store.adopt(Arc::clone(&old));
    assert_eq!(lacking(), []);
    store.note_unmade(new.id);
    assert_eq!(lacking(), [new.id], "what it was to be made of did not do");
}

#[test]
fn what_left_the_manifest_before_it_was_made_is_not_made_any_more() {
    let (_, store) = store();
    let (meta, pending) = built(&store);
    store.expect(vec![pending]);
    store.retire([meta]);
    store.unlink_retired();
    assert!(!store.is_waiting());
}

#[test]
fn a_segment_that_is_replaced_stays_until_its_successor_is_made_of_it() {
    let (disk, store) = store();
    let (old, _) = built(&store);
    store.adopt(Arc::clone(&old));
    let keep = [(old.topics[0].topic, PartitionId(0))];
    let new = build::repack(&store, &old, SegmentId::new(), &keep, &ErasedOffsets::default()).unwrap().unwrap();
    let new = Arc::new(new);
    let replaced = PendingRec {
        meta: Arc::clone(&new),
        batches: Vec::new(),
        replaces: Some(Arc::clone(&old)),
        erased: Arc::default(),
    };
    store.expect(vec![replaced.clone()]);
    store.unlink_retired();
    assert!(store.has(old.id) && store.is_waiting());

    let restarted = store_on(&disk);
    restarted.expect(vec![replaced]);
    let found = restarted.reconcile(std::slice::from_ref(&new), None).unwrap();
    assert_eq!(found, Reconciled { garbage: 1, missing: 0 }, "once it is made, what it was made of is garbage");
    assert_eq!(listed(&disk), [rec_file_name(new.id)]);
}

#[test]
fn a_segment_that_was_rewritten_twice_is_not_made_again_for_its_last_form() {
    let (disk, store) = store();
    let (first, rolled) = built(&store);
    store.adopt(Arc::clone(&first));
    let [a, b] = [0, 1].map(|topic| (first.topics[topic].topic, PartitionId(0)));
    let second =
        Arc::new(build::repack(&store, &first, SegmentId::new(), &[a, b], &ErasedOffsets::default()).unwrap().unwrap());
    store.adopt(Arc::clone(&second));
    let third =
        Arc::new(build::repack(&store, &second, SegmentId::new(), &[b], &ErasedOffsets::default()).unwrap().unwrap());
    store.discard(&first);
    store.discard(&second);
    let of = |meta: &Arc<RecMeta>, from: &Arc<RecMeta>| PendingRec {
        meta: Arc::clone(meta),
        batches: Vec::new(),
        replaces: Some(Arc::clone(from)),
        erased: Arc::default(),
    };

    for rolled in [Some(rolled), None] {
        let restarted = store_on(&disk);
        restarted.expect(rolled.into_iter().chain([of(&second, &first), of(&third, &second)]).collect());
        let found = restarted.reconcile(std::slice::from_ref(&third), None).unwrap();
        assert_eq!(found, Reconciled { garbage: 0, missing: 0 });
        assert!(!restarted.is_waiting(), "{:?}", restarted.next_expected());
    }
}

/// A segment of the log, and a rewritten form of it; both have files. What apply says of the two, in the order of the
/// commands, and the log.
fn rewritten(store: &RecStore) -> ([Arc<RecMeta>; 2], [PendingRec; 2], Log) {
    let [a, b] = [(); 2].map(|()| TopicId::new());
    let mut log = Log::default();
    (0..10).for_each(|_| log.append(1, &[(a, 0, 100), (b, 0, 100)]));
    let [old] = build::build(store, &log, log.range(), log.placed.clone()).unwrap().try_into().unwrap();
    let old = Arc::new(old);
    store.adopt(Arc::clone(&old));
    let keep = [(a, PartitionId(0))];
    let new = build::repack(store, &old, SegmentId::new(), &keep, &ErasedOffsets::default()).unwrap().unwrap();
    let new = Arc::new(new);
    let pending = |meta: &Arc<RecMeta>, batches, replaces| PendingRec {
        meta: Arc::clone(meta),
        batches,
        replaces,
        erased: Arc::default(),
    };
    let both = [pending(&old, log.placed.clone(), None), pending(&new, Vec::new(), Some(Arc::clone(&old)))];
    ([old, new], both, log)
}

#[test]
fn l4_a_source_that_is_waited_for_itself_is_here_after_a_start_if_it_is_whole_and_else_made_again() {
    for damaged in [false, true] {
        let (disk, store) = store();
        let ([old, new], pending, log) = rewritten(&store);
        store.discard(&new);
        let path = Path::new("/segments").join(rec_file_name(old.id));
        if damaged {
            disk.edit(&path, |bytes| bytes[100] ^= 1);
        }
        let restarted = store_on(&disk);
        restarted.expect(pending.to_vec());
        assert_eq!(restarted.reconcile(std::slice::from_ref(&new), None).unwrap().missing, 1);
        let mut made = Vec::new();
        while let Some(next) = restarted.next_expected() {
            let arrival = restarted.begin(&next.meta).expect("what is waited for is not here");
            made.push(next.meta.id);
            build::make(&restarted, &log, next).unwrap();
            drop(arrival);
        }
        assert_eq!(made, if damaged { vec![old.id, new.id] } else { vec![new.id] });
        assert_eq!((restarted.is_waiting(), restarted.unlink_retired()), (false, 1));
        assert_eq!(listed(&disk), [rec_file_name(new.id)]);
    }
}

#[test]
fn l4_a_segment_that_the_log_can_still_make_counts_only_if_all_of_it_is_whole() {
    let (disk, store) = store();
    let topic = TopicId::new();
    let mut log = Log::default();
    (0..10).for_each(|_| log.append(1, &[(topic, 0, 20_000)]));
    let [meta] = build::build(&store, &log, log.range(), log.placed.clone()).unwrap().try_into().unwrap();
    let meta = Arc::new(meta);
    let path = Path::new("/segments").join(rec_file_name(meta.id));
    let whole = disk.edit(&path, |bytes| bytes.clone());
    for at in (0..whole.len()).step_by(10_000) {
        disk.edit(&path, |bytes| bytes[at] ^= 1);
        let restarted = store_on(&disk);
        let pending =
            PendingRec { meta: Arc::clone(&meta), batches: log.placed.clone(), replaces: None, erased: Arc::default() };
        restarted.expect(vec![pending.clone()]);
        assert_eq!(restarted.reconcile(std::slice::from_ref(&meta), None).unwrap().missing, 1, "a flipped bit at {at}");
        assert!(restarted.is_waiting() && !restarted.has(meta.id), "{at}");
        build::make(&restarted, &log, pending).unwrap();
        assert!(!restarted.is_waiting());
        assert_eq!(disk.edit(&path, |bytes| bytes.clone()), whole, "{at}");
    }
    let restarted = store_on(&disk);
    restarted.expect(vec![PendingRec {
        meta: Arc::clone(&meta),
        batches: log.placed.clone(),
        replaces: None,
        erased: Arc::default(),
    }]);
    assert_eq!(restarted.reconcile(std::slice::from_ref(&meta), None).unwrap().missing, 0);
    assert!(!restarted.is_waiting());
}

#[test]
fn what_a_given_up_segment_was_to_be_made_of_stays_until_it_comes_from_elsewhere() {
    let (disk, store) = store();
    let (old, _) = built(&store);
    store.adopt(Arc::clone(&old));
    let keep = [(old.topics[0].topic, PartitionId(0))];
    let new =
        Arc::new(build::repack(&store, &old, SegmentId::new(), &keep, &ErasedOffsets::default()).unwrap().unwrap());
    let path = Path::new("/segments").join(rec_file_name(new.id));
    let bytes = disk.edit(&path, |bytes| bytes.clone());
    store.discard(&new);
    store.expect(vec![PendingRec {
        meta: Arc::clone(&new),
        batches: Vec::new(),
        replaces: Some(Arc::clone(&old)),
        erased: Arc::default(),
    }]);
    store.give_up(new.id);
    assert!(!store.is_waiting());
    assert_eq!((store.missing([&new]), store.first_owed([&new])), (vec![Arc::clone(&new)], Some(new.id)));
    store.restored(std::slice::from_ref(&new));
    assert_eq!(store.unlink_retired(), 0, "most of it may be whole");

    let restarted = store_on(&disk);
    let found = restarted.reconcile(std::slice::from_ref(&new), None).unwrap();
    assert_eq!(found, Reconciled { garbage: 0, missing: 1 });
    assert_eq!(listed(&disk), [rec_file_name(old.id)]);

    stratalog_storage::write_durably(&disk, &path, &[&bytes]).unwrap();
    store.adopt(Arc::clone(&new));
    assert_eq!(store.unlink_retired(), 1);
    assert_eq!(listed(&disk), [rec_file_name(new.id)]);
}

#[test]
fn l4_a_missing_segment_is_owed_until_it_is_here_or_nothing_can_bring_it_back() {
    let (_, store) = store();
    let [(a, _), (b, _)] = [(); 2].map(|()| built(&store));
    let live = [Arc::clone(&a), Arc::clone(&b)];
    store.restored(&live);
    assert_eq!(store.first_owed(&live), Some(a.id));
    let before = store.changes();
    store.adopt(Arc::clone(&a));
    assert_eq!(store.first_owed(&live), Some(b.id));
    store.lose(b.id);
    assert_eq!((store.first_owed(&live), store.missing(&live)), (None, vec![Arc::clone(&b)]));
    assert_ne!(store.changes(), before);
}

#[test]
fn l4_a_segment_that_was_found_damaged_is_owed_until_a_whole_copy_is_here_or_the_log_has_none_of_it() {
    let (disk, store) = store();
    let (meta, _) = built(&store);
    store.adopt(Arc::clone(&meta));
    assert_eq!(store.first_owed([&meta]), None);
    let path = Path::new("/segments").join(rec_file_name(meta.id));
    disk.edit(&path, |bytes| bytes[100] ^= 1);
    store.get(&meta).unwrap().verify().unwrap_err();
    assert_eq!(store.look_into_suspects().len(), 1);
    assert_eq!(store.first_owed([&meta]), Some(meta.id), "the log may be the last that has it");
    store.lose(meta.id);
    assert_eq!(store.first_owed([&meta]), None);
    disk.edit(&path, |bytes| bytes[100] ^= 1);
    store.adopt(Arc::clone(&meta));
    assert_eq!((store.first_owed([&meta]), store.missing([&meta]).len()), (None, 0));
}

#[test]
fn a_start_finds_what_is_there_and_removes_what_no_manifest_names() {
    let (disk, store) = store();
    let [(live, _), (garbage, _), (gone, _)] = [(); 3].map(|()| built(&store));
    store.discard(&gone);
    disk.open(Path::new("/segments/half.rec.tmp"), stratalog_storage::OpenMode::CreateNew).unwrap();
    disk.open(Path::new("/segments/rows.col"), stratalog_storage::OpenMode::CreateNew).unwrap();

    let restarted = store_on(&disk);
    let found = restarted.reconcile(&[Arc::clone(&live), Arc::clone(&gone)], None).unwrap();
    assert_eq!(found, Reconciled { garbage: 2, missing: 1 });
    assert_eq!(listed(&disk), [rec_file_name(live.id), "rows.col".to_owned()]);
    assert!(restarted.reader(&live).is_ok());
    assert_eq!(restarted.missing([&live, &gone]), [Arc::clone(&gone)]);
    assert!(!restarted.has(garbage.id));
}

#[test]
fn l1_a_rewritten_segment_that_the_saved_state_does_not_know_stays_until_the_log_names_it() {
    let (disk, store) = store();
    let ([old, new], [_, pending], _) = rewritten(&store);
    store.discard(&old);
    let restarted = store_on(&disk);
    let found = restarted.reconcile(std::slice::from_ref(&old), Some(Term(3))).unwrap();
    assert_eq!(found, Reconciled { garbage: 0, missing: 1 });
    assert!(restarted.has_found() && !restarted.recognise(std::slice::from_ref(&old)), "nobody has named it");
    restarted.expect(vec![pending]);
    assert!(restarted.recognise(std::slice::from_ref(&new)));
    assert!(restarted.has(new.id) && !restarted.is_waiting() && !restarted.has_found());
    assert_eq!(restarted.unlink_found(std::slice::from_ref(&new), Term(4)).unwrap(), 0);
    assert_eq!(listed(&disk), [rec_file_name(new.id)]);
}

#[test]
fn s2_what_a_start_found_goes_once_no_command_can_name_it_any_more() {
    let (disk, store) = store();
    let [(named, rolled), (garbage, _)] = [(); 2].map(|()| built(&store));
    let restarted = store_on(&disk);
    assert_eq!(restarted.reconcile(&[], Some(Term(3))).unwrap(), Reconciled::default());
    restarted.expect(vec![rolled]);
    let live = [named];
    assert_eq!(restarted.unlink_found(&live, Term(3)).unwrap(), 0, "a leader of this term may have it in mind");
    assert_eq!(restarted.unlink_found(&live, Term(4)).unwrap(), 1);
    assert!(!disk.exists(&Path::new("/segments").join(rec_file_name(garbage.id))).unwrap());
    assert!(restarted.recognise(&live) && restarted.has(live[0].id) && !restarted.is_waiting());
    restarted.retire(live);
    assert_eq!(restarted.unlink_retired(), 1);
    assert_eq!(listed(&disk), [""; 0]);
}

#[test]
fn l4_what_a_start_found_damaged_is_made_again() {
    let (disk, store) = store();
    let (meta, rolled) = built(&store);
    disk.edit(&Path::new("/segments").join(rec_file_name(meta.id)), |bytes| bytes[100] ^= 1);
    let restarted = store_on(&disk);
    restarted.reconcile(&[], Some(Term(3))).unwrap();
    restarted.expect(vec![rolled]);
    assert!(restarted.recognise(&[meta]));
    assert!(restarted.is_waiting() && !restarted.has_found() && restarted.next_expected().is_some());
}

#[test]
fn l5_a_damaged_segment_is_reported_and_left_where_it_is() {
    let (disk, store) = store();
    let (meta, _) = built(&store);
    let path = Path::new("/segments").join(rec_file_name(meta.id));
    disk.edit(&path, |bytes| bytes.pop());
    let restarted = store_on(&disk);
    assert_eq!(restarted.reconcile(std::slice::from_ref(&meta), None).unwrap().missing, 1);
    assert_eq!(restarted.get(&meta).unwrap_err().code, Code::CorruptData);
    assert_eq!(listed(&disk).len(), 1);
    assert_eq!(restarted.missing([&meta]), [Arc::clone(&meta)], "another replica may have it");
}

#[test]
fn a_segment_that_comes_when_nobody_needs_it_any_more_goes_at_once() {
    let (disk, store) = store();
    let (meta, pending) = built(&store);
    store.expect(vec![pending]);
    let arrival = store.begin(&meta).unwrap();
    assert!(store.begin(&meta).is_none() && store.next_expected().is_none(), "one at a time");
    store.retire([Arc::clone(&meta)]);
    store.unlink_retired();
    store.adopt(Arc::clone(&meta));
    drop(arrival);
    assert_eq!(store.unlink_retired(), 1);
    assert_eq!(listed(&disk), [""; 0]);
}

#[test]
fn l4_what_could_not_be_made_is_wanted_of_others_and_still_waited_for() {
    let (_, store) = store();
    let [(first, rolled), (second, also_rolled)] = [(); 2].map(|()| built(&store));
    let live = [Arc::clone(&first), Arc::clone(&second)];
    store.expect(vec![rolled, also_rolled]);
    assert_eq!(store.wanted(&live), [], "the log has them");
    let before = store.changes();
    store.ask_others(first.id);
    assert_ne!(store.changes(), before);
    assert_eq!(store.wanted(&live), [Arc::clone(&first)]);
    assert_eq!(store.next_expected().unwrap().meta, second, "it does not hold up the others");
    store.adopt(second);
    assert_eq!(store.next_expected().unwrap().meta, first, "it is tried again");
    assert!(store.is_waiting());
    store.adopt(first);
    assert!(!store.is_waiting() && store.wanted(&live).is_empty());
}

#[test]
fn l4_a_segment_is_wanted_if_what_it_is_made_of_could_not_be_made() {
    let (disk, store) = store();
    let ([old, new], [rolled, replaced], _) = rewritten(&store);
    let store = store_on(&disk);
    store.expect(vec![rolled]);
    store.ask_others(old.id);
    assert_eq!(store.wanted([&old]), [Arc::clone(&old)]);
    store.expect(vec![replaced]);
    assert_eq!(store.wanted([&new]), [Arc::clone(&new)], "what it is made of is in no manifest any more");
    store.adopt(Arc::clone(&new));
    assert!(!store.is_waiting() && store.wanted([&new]).is_empty() && store.has_retired());
}

#[test]
fn a_source_that_comes_when_its_successor_is_here_goes_at_once() {
    let (disk, store) = store();
    let ([old, new], [_, replaced], _) = rewritten(&store);
    let store = store_on(&disk);
    let arrival = store.begin(&old).unwrap();
    store.expect(vec![replaced]);
    store.adopt(Arc::clone(&new));
    store.unlink_retired();
    store.adopt(old);
    drop(arrival);
    assert_eq!(store.unlink_retired(), 1);
    assert_eq!(listed(&disk), [rec_file_name(new.id)]);
}
