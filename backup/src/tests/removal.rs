//! Older backups go, and nothing that a remaining one names does: wherever a process dies, or stands still for long.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use stratalog_proto::{Code, Error};
use tokio::task::{LocalSet, spawn_local};

use super::Fake;
use super::store::{Process, Request, World};
use crate::lease::DEAD_AFTER;
use crate::{Removed, Stored, Target, check, keep_newest, stored_backups};

const DAY: Duration = Duration::from_secs(24 * 3600);
const LONG: Duration = DEAD_AFTER.saturating_add(Duration::from_secs(60));

async fn keep(target: &Target, keep: u32, made: &str) -> Result<Removed, Error> {
    keep_newest(target, NonZeroU32::new(keep).unwrap(), made).await
}

/// All backups that are there, each of which has everything.
pub(super) async fn all_whole(world: &Arc<World>) -> Vec<String> {
    let target = world.target();
    let ids = target.ids().await.unwrap();
    for id in &ids {
        let stored = Stored::open(target.clone(), Some(id)).await.unwrap();
        let found = check(&stored, &|_| ()).await.unwrap();
        assert!(found.is_clean(), "backup {id} of {ids:?}: {found:?}");
    }
    ids
}

/// A cluster of which three backups were made. The next one needs again what only the oldest has.
async fn three_backups(world: &Arc<World>) -> (Fake, Vec<String>) {
    let fake = Fake::of(&[&["only the oldest", "the first two"], &["all"]]);
    let mut ids = Vec::new();
    let next: [&[&[&'static str]]; 3] = [
        &[&["the first two"], &["all", "the last two"]],
        &[&["the last two"], &["all", "only the newest"]],
        &[&[], &[]],
    ];
    for next in next {
        ids.push(fake.backup(&world.target()).await.unwrap().manifest.id);
        fake.becomes(next);
        // Names are of milliseconds; where one is taken, further requests are made for the next.
        std::thread::sleep(Duration::from_millis(2));
    }
    fake.becomes(&[&["only the oldest", "new"], &["all"]]);
    (fake, ids)
}

fn segment(text: &str) -> String {
    crate::names::segment(blake3::hash(text.as_bytes()).into()).to_string()
}

/// What two states and logs, and a manifest take.
const FILES: usize = 7;

#[tokio::test(start_paused = true)]
async fn the_newest_stay_and_what_only_the_others_need_goes() {
    let world = World::new();
    let (fake, ids) = three_backups(&world).await;
    for foreign in ["notes.txt", "segments/ab/notes", "backups/notes", "backups/x/notes", "running/notes"] {
        world.put(foreign, "not ours").await;
    }
    world.age(100 * DAY);
    assert_eq!(keep(&world.target(), 3, "").await.unwrap(), Removed::default());
    let removed = keep(&world.target(), 1, "").await.unwrap();
    assert_eq!((removed.backups.as_slice(), &removed.incomplete), (&ids[..2], &Vec::new()));
    assert_eq!(removed.objects as usize, 2 * FILES + 2);
    assert_eq!(all_whole(&world).await, ids[2..]);
    let left = world.objects().await;
    let segments = ["all", "only the newest", "the last two"];
    assert!(segments.iter().all(|text| left.contains(&segment(text))), "{left:?}");
    assert_eq!(left.len(), 1 + 5 + FILES + segments.len(), "cluster.json, what is foreign, one backup: {left:?}");
    let next = fake.backup(&world.target()).await.unwrap();
    assert_eq!(next.sent_segments, 2, "what is gone is sent again");
    assert_eq!(all_whole(&world).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_was_made_stays_though_a_clock_was_wrong() {
    let world = World::new();
    let (_, ids) = three_backups(&world).await;
    let removed = keep(&world.target(), 1, &ids[0]).await.unwrap();
    assert_eq!(removed.backups, ids[1..2]);
    assert_eq!(all_whole(&world).await, [ids[0].clone(), ids[2].clone()]);
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_lacks_something_does_not_count() {
    for lacks in [segment("only the newest"), "0001.state".to_owned(), "0000.log".to_owned()] {
        let world = World::new();
        let (_, ids) = three_backups(&world).await;
        let of_newest = |name: &String| name.ends_with(&lacks) && (name.contains(&ids[2]) || name.starts_with("seg"));
        let name = world.objects().await.into_iter().find(of_newest).unwrap();
        world.delete(&name).await;
        let removed = keep(&world.target(), 1, "").await.unwrap();
        assert_eq!((removed.backups.as_slice(), removed.incomplete.as_slice()), (&ids[..1], &ids[2..]), "{name}");
        let second = Stored::open(world.target(), Some(&ids[1])).await.unwrap();
        assert!(check(&second, &|_| ()).await.unwrap().is_clean());
    }
}

#[tokio::test(start_paused = true)]
async fn l5_nothing_is_removed_while_it_is_not_known_what_a_backup_needs() {
    let world = World::new();
    let (_, ids) = three_backups(&world).await;
    let manifest = |id: &String| crate::names::manifest(id).to_string();
    world.flip(&manifest(&ids[1])).await;
    let before = world.objects().await;
    let refused = keep(&world.target(), 2, "").await.unwrap_err();
    assert_eq!(refused.code, Code::CorruptData);
    assert!(refused.message.contains(&ids[1]) && refused.message.contains("nothing is removed"), "{refused}");
    assert_eq!(world.objects().await, before);
    assert_eq!(keep(&world.target(), 1, "").await.unwrap().backups, ids[..2], "a damaged one goes like others");

    let world = World::new();
    let (_, ids) = three_backups(&world).await;
    world.put(&manifest(&ids[0]), "SLG-BACKUP 2 00\n{}").await;
    let refused = keep(&world.target(), 1, "").await.unwrap_err();
    assert_eq!(refused.code, Code::NewerVersion, "what a later version made is not removed");
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_short_goes_once_it_is_old() {
    let world = World::new();
    let (fake, _) = three_backups(&world).await;
    let whole = world.objects().await;
    let process = world.process().dies_at(12);
    fake.backup(&process.target()).await.unwrap_err();
    let cut_short = world.objects().await;
    assert!(cut_short.len() > whole.len());
    let refused = keep(&world.target(), 3, "").await.unwrap_err();
    assert!(refused.code == Code::Conflict && refused.message.contains("running/backup-"), "{refused}");
    world.age(LONG);
    keep(&world.target(), 3, "").await.unwrap();
    // Its mark is gone, and a tombstone has come.
    assert_eq!(world.objects().await.len(), cut_short.len());
    world.age(DAY);
    keep(&world.target(), 3, "").await.unwrap();
    assert_eq!(world.objects().await.len(), whole.len() + 1, "the tombstone is left");
    world.age(30 * DAY);
    keep(&world.target(), 3, "").await.unwrap();
    assert_eq!(world.objects().await, whole);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_dies_at_any_request_leaves_whole_backups_and_the_next_one_goes_on() {
    let mut died = 0;
    for request in 0.. {
        let world = World::new();
        let (_, ids) = three_backups(&world).await;
        let process = world.process().dies_at(request);
        let ended = keep(&process.target(), 1, "").await;
        assert!(all_whole(&world).await.contains(&ids[2]), "at {request}");
        world.age(LONG + DAY);
        keep(&world.target(), 1, "").await.unwrap();
        assert_eq!(all_whole(&world).await, ids[2..]);
        assert_eq!(world.objects().await.len(), 1 + FILES + 3, "at {request}: nothing is left behind");
        match ended {
            Ok(_) if process.requests() <= request => break,
            _ => died += 1,
        }
    }
    assert!(died > 2 * FILES, "each manifest and each object is a request: {died}");
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_dies_at_any_request_loses_nothing_to_a_removal() {
    for request in 0.. {
        let world = World::new();
        let (fake, ids) = three_backups(&world).await;
        let process = world.process().dies_at(request);
        let ended = fake.backup(&process.target()).await;
        for age in [Duration::ZERO, LONG, DAY] {
            world.age(age);
            let removed = keep(&world.target(), 2, "").await;
            assert!(removed.is_ok() || age.is_zero(), "at {request}: {removed:?}");
            let left = all_whole(&world).await;
            assert!(left.contains(&ids[2]) && left.len() >= 2, "at {request}: {left:?}");
        }
        fake.backup(&world.target()).await.unwrap();
        all_whole(&world).await;
        if ended.is_ok() && process.requests() <= request {
            break;
        }
    }
}

/// Has a backup stand still at each of its requests, and goes on in between: at which it succeeded, and at which not.
async fn frozen_backup(meanwhile: impl AsyncFn(&Arc<World>, &[String])) -> (Vec<usize>, Vec<usize>) {
    LocalSet::new().run_until(frozen_backups(meanwhile)).await
}

async fn frozen_backups(meanwhile: impl AsyncFn(&Arc<World>, &[String])) -> (Vec<usize>, Vec<usize>) {
    let (mut succeeded, mut failed) = (Vec::new(), Vec::new());
    for request in 0.. {
        let world = World::new();
        let (fake, ids) = three_backups(&world).await;
        let process = world.process().freezes_at(request);
        let target = process.target();
        let mut backup = spawn_local(async move { fake.backup(&target).await });
        let is_frozen = tokio::select! {
            _ = process.frozen() => true,
            _ = &mut backup => false,
        };
        if !is_frozen {
            break;
        }
        meanwhile(&world, &ids).await;
        process.thaw();
        match backup.await.unwrap() {
            Ok(made) => {
                assert!(all_whole(&world).await.contains(&made.manifest.id), "at {request}");
                succeeded.push(request);
            }
            Err(error) => {
                assert!(matches!(error.code, Code::Conflict | Code::Unavailable), "at {request}: {error}");
                assert!(all_whole(&world).await.contains(&ids[2]), "at {request}");
                failed.push(request);
            }
        }
    }
    (succeeded, failed)
}

#[tokio::test(start_paused = true)]
async fn a_removal_takes_nothing_from_a_backup_that_is_being_made() {
    let (succeeded, failed) = frozen_backup(async |world, _| {
        if let Err(refused) = keep(&world.target(), 1, "").await {
            assert_eq!(refused.code, Code::Conflict, "{refused}");
        }
    })
    .await;
    assert!(succeeded.len() == 16 && failed.is_empty(), "{succeeded:?} succeeded, {failed:?} failed");
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_was_taken_for_dead_does_not_finish_without_what_was_removed() {
    // Its own clock has stood still, too: only the tombstone and the segments that are gone tell it.
    let (succeeded, failed) = frozen_backup(async |world, ids| {
        world.age(LONG);
        let removed = keep(&world.target(), 1, "").await.unwrap();
        assert!(removed.backups.len() >= 2, "{removed:?} of {ids:?}");
    })
    .await;
    // It succeeds where it had not said yet that it begins, and where it had finished.
    assert!(succeeded == [0, 1, 2, 3, 15] && failed.len() == 11, "{succeeded:?} succeeded, {failed:?} failed");
}

#[tokio::test(start_paused = true)]
async fn a_backup_that_was_held_up_sees_it_by_its_clock() {
    let (_, failed) = frozen_backup(async |world, _| {
        tokio::time::advance(LONG).await;
        let removed = keep(&world.target(), 1, "").await;
        assert!(removed.is_ok(), "{removed:?}");
    })
    .await;
    assert!(failed.len() > 10, "{failed:?}");
}

/// Has a removal stand still at each of its requests while a backup is made.
async fn frozen_removal(still_for: Duration, may_freeze: fn(&Request) -> bool) -> Vec<usize> {
    LocalSet::new().run_until(frozen_removals(still_for, may_freeze)).await
}

async fn frozen_removals(still_for: Duration, may_freeze: fn(&Request) -> bool) -> Vec<usize> {
    let mut refused = Vec::new();
    for request in 0.. {
        let world = World::new();
        let (fake, ids) = three_backups(&world).await;
        let process = world.process().freezes_at(request);
        let target = process.target();
        let mut removal = spawn_local(async move { keep(&target, 1, "").await });
        let frozen = tokio::select! {
            at = process.frozen() => Some(at),
            _ = &mut removal => None,
        };
        let Some(at) = frozen else { break };
        if !may_freeze(&at) {
            continue;
        }
        let others = world.target();
        let backup = spawn_local(async move { fake.backup(&others).await });
        tokio::time::sleep(still_for).await;
        process.thaw();
        let made = backup.await.unwrap().unwrap().manifest.id;
        if removal.await.unwrap().is_err() {
            refused.push(request);
        }
        let left = all_whole(&world).await;
        assert!(left.contains(&made), "at {request}, {at:?}: {left:?} of {ids:?}");
    }
    refused
}

#[tokio::test(start_paused = true)]
async fn a_backup_waits_for_a_removal_that_is_under_way() {
    frozen_removal(Duration::from_secs(5), |_| true).await;
}

/// One request to remove something that takes longer than anyone is given cannot be called back.
#[tokio::test(start_paused = true)]
async fn a_removal_that_was_held_up_for_long_goes_no_further() {
    let refused = frozen_removal(LONG, |at| match at {
        Request::Remove(path) => path.as_ref().starts_with("running/"),
        _ => true,
    })
    .await;
    assert_eq!(refused, (1..=9).collect::<Vec<_>>(), "wherever it had said that it begins and has not ended");
}

#[tokio::test(start_paused = true)]
async fn of_two_removals_at_once_none_takes_what_the_other_keeps() {
    LocalSet::new().run_until(two_removals()).await;
}

async fn two_removals() {
    for request in 0.. {
        let world = World::new();
        let (_, ids) = three_backups(&world).await;
        let process: Process = world.process().freezes_at(request);
        let target = process.target();
        let mut first = spawn_local(async move { keep(&target, 2, "").await });
        let is_frozen = tokio::select! {
            _ = process.frozen() => true,
            _ = &mut first => false,
        };
        if !is_frozen {
            break;
        }
        let second = keep(&world.target(), 1, "").await;
        process.thaw();
        let first = first.await.unwrap();
        assert!(first.is_ok() || second.is_ok() || request < 10, "at {request}: {first:?} {second:?}");
        assert!(all_whole(&world).await.contains(&ids[2]), "at {request}");
    }
}

#[tokio::test]
async fn a_directory_is_left_as_if_the_older_ones_had_never_been() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::open(dir.path().to_str().unwrap()).unwrap();
    let fake = Fake::of(&[&["old"]]);
    let old = fake.backup(&target).await.unwrap().manifest.id;
    fake.becomes(&[&["new"]]);
    tokio::time::sleep(Duration::from_millis(2)).await;
    let new = fake.backup(&target).await.unwrap().manifest.id;
    let removed = keep(&target, 1, &new).await.unwrap();
    assert_eq!((removed.backups, stored_backups(&target).await.unwrap()), (vec![old.clone()], vec![new]));
    assert!(!dir.path().join("backups").join(old).exists() && !dir.path().join(segment("old")).exists());
    assert!(dir.path().join(segment("new")).exists() && !dir.path().join("running").exists());
}
