//! Who is at work at a target, so that a removal does not take what a backup is about to name.
//!
//! Whoever begins says so first and looks who else is there afterwards, so that of two that begin at once at least one sees
//! the other. A removal gives way to everybody; a backup waits for removals, and reads which segments are there only then.
//!
//! An object in `running/` says it and is written again and again: by the clock of the store, the age of that of another is
//! the time since it was last heard of. What was not heard of for [`DEAD_AFTER`] is taken for dead. A backup that comes back
//! from that finds a tombstone where its manifest would be; a removal that comes back sees by its own clocks that it must
//! not go on.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt;
use object_store::path::Path;
use stratalog_proto::{Code, Error};
use tokio::time::Instant;

use crate::names::{self, Work};
use crate::target::{TOMBSTONE, Target};

/// How often it is said again.
const SAID_EVERY: Duration = Duration::from_secs(30);
/// Nothing that others could mind is begun later than this after it was last said.
const HELD_FOR: Duration = Duration::from_secs(3 * 60);
/// Who was not heard of for so long is dead. What is begun within [`HELD_FOR`] has ended by then: see [`STEP`].
pub(crate) const DEAD_AFTER: Duration = Duration::from_secs(10 * 60);
/// The longest that one removal of some objects may take.
pub(crate) const STEP: Duration = Duration::from_secs(4 * 60);
const _: () = assert!(HELD_FOR.as_secs() + STEP.as_secs() < DEAD_AFTER.as_secs());
/// How often those that have to wait look again.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The most names that are tried for one that nobody has.
const MAX_NAMES: i64 = 1_000;

/// Says that somebody is at work, until it is [ended](Lease::end).
pub(crate) struct Lease<'a> {
    target: &'a Target,
    id: String,
    path: Path,
    /// When what was said last was sent.
    said: Mutex<Moment>,
}

/// By a clock that may stand still while the machine sleeps, and by one that may be set.
#[derive(Clone, Copy)]
struct Moment(Instant, SystemTime);

/// Another one.
pub(crate) struct Other {
    pub(crate) work: Work,
    id: String,
    path: Path,
    silent_for: Duration,
}

impl<'a> Lease<'a> {
    /// Says that this begins, under an id that no other one has.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn begin(target: &'a Target, work: Work) -> Result<Self, Error> {
        let now = Utc::now();
        for n in 0..MAX_NAMES {
            let id = names::new_id(now + TimeDelta::milliseconds(n));
            let path = names::running(work, &id);
            let said = Moment::now();
            // Somebody else's is another text.
            let text = format!("process {}, {}\n", std::process::id(), uuid::Uuid::now_v7());
            let is_new = target.create(&path, text.into()).await?;
            let is_taken = work == Work::Backup && is_new && target.size(&names::manifest(&id)).await?.is_some();
            if is_new && !is_taken {
                return Ok(Self { target, id, path, said: Mutex::new(said) });
            }
            if is_new {
                target.remove(vec![path]).await?;
            }
        }
        let message = format!("all names of this moment are taken in {}; try it again", target.place());
        Err(Error::new(Code::Conflict, message))
    }

    /// What it is called.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Does the work while others are told that it goes on.
    ///
    /// # Errors
    /// Those of the work; [`Code::Unavailable`] if the others could not be told for too long.
    pub(crate) async fn hold<T>(&self, work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::select! {
            biased;
            done = work => done,
            failure = self.say_again_and_again() => Err(failure),
        }
    }

    async fn say_again_and_again(&self) -> Error {
        loop {
            tokio::time::sleep(SAID_EVERY).await;
            if let Err(error) = self.say().await
                && self.check_held().is_err()
            {
                return error;
            }
        }
    }

    async fn say(&self) -> Result<(), Error> {
        // Too late is too late: others may have begun meanwhile.
        self.check_held()?;
        let now = Moment::now();
        let text = format!("process {}\n", std::process::id());
        self.target.write(&self.path, text.into()).await?;
        *self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = now;
        Ok(())
    }

    /// Whether others still know of this; to be asked before what they could mind.
    ///
    /// # Errors
    /// [`Code::Unavailable`].
    pub(crate) fn check_held(&self) -> Result<(), Error> {
        let silent_for = self.said.lock().unwrap_or_else(std::sync::PoisonError::into_inner).elapsed();
        if silent_for < HELD_FOR {
            return Ok(());
        }
        let message = format!(
            "{} was held up for {} s and cannot go on: others may take it for dead; run it again",
            self.path,
            silent_for.as_secs()
        );
        Err(Error::new(Code::Unavailable, message))
    }

    /// The others, whether dead or not.
    ///
    /// # Errors
    /// [`Code::Conflict`] if this one is not there any more; those of the store.
    pub(crate) async fn others(&self) -> Result<Vec<Other>, Error> {
        self.look().await.map(|(_, others)| others)
    }

    /// By the clock of the store: when this was said last.
    async fn look(&self) -> Result<(DateTime<Utc>, Vec<Other>), Error> {
        let all: Vec<_> = self.target.list(names::RUNNING).try_collect().await?;
        let own = all.iter().find(|meta| meta.location == self.path).map(|meta| meta.last_modified);
        let now = own.ok_or_else(|| {
            let message = format!("{} was taken away by somebody else; run it again", self.path);
            Error::new(Code::Conflict, message)
        })?;
        let others = all.into_iter().filter(|meta| meta.location != self.path).filter_map(|meta| {
            let (work, id) = names::running_work(&meta.location)?;
            let silent_for = (now - meta.last_modified).to_std().unwrap_or_default();
            Some(Other { work, id, path: meta.location, silent_for })
        });
        Ok((now, others.collect()))
    }

    /// The time by the clock of the store.
    ///
    /// # Errors
    /// As [`Lease::others`].
    pub(crate) async fn now(&self) -> Result<DateTime<Utc>, Error> {
        self.say().await?;
        self.look().await.map(|(now, _)| now)
    }

    /// Returns once nobody removes anything. `notice` is told if that takes time.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn wait_for_removals(&self, notice: &(dyn Fn(&str) + Send + Sync)) -> Result<(), Error> {
        let mut is_told = false;
        loop {
            let others = self.others().await?;
            let removal = others.into_iter().find(|other| other.work == Work::Removal && !other.is_dead());
            let Some(removal) = removal else { return Ok(()) };
            if !is_told {
                notice(&format!("waiting: older backups are being removed from {} ({removal})", self.target.place()));
                is_told = true;
            }
            tokio::time::sleep(LOOK_EVERY).await;
            self.say().await?;
        }
    }

    /// Says that the work has ended, however it did.
    pub(crate) async fn end(self) {
        if let Err(error) = self.target.remove(vec![self.path.clone()]).await {
            tracing::debug!(path = %self.path, %error, "others will think for a while that this goes on");
        }
    }
}

impl Other {
    pub(crate) fn is_dead(&self) -> bool {
        self.silent_for >= DEAD_AFTER
    }

    /// Has it never finish, if it is not dead after all.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn bury(self, target: &Target) -> Result<(), Error> {
        if self.work == Work::Backup {
            // If its manifest is there, it has finished.
            target.create(&names::manifest(&self.id), TOMBSTONE.into()).await?;
        }
        target.remove(vec![self.path]).await
    }
}

impl std::fmt::Display for Other {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, last heard of {} s ago", self.path, self.silent_for.as_secs())
    }
}

impl Moment {
    fn now() -> Self {
        Self(Instant::now(), SystemTime::now())
    }

    fn elapsed(self) -> Duration {
        self.0.elapsed().max(self.1.elapsed().unwrap_or_default())
    }
}
