//! The sessions of a node: bounded, and not bound to connections.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;
use uuid::Uuid;

use super::session::Session;
use super::{Asked, Forgotten, Topic};

/// As many as Kafka's nodes keep.
pub(in crate::kafka) const MAX_SESSIONS: usize = 1_000;
/// What they may take together, about in partitions.
const MAX_PLACES: usize = 500_000;
/// One that was used since is taken away from nobody; `min.incremental.fetch.session.eviction.ms`.
const SAFE: Duration = Duration::from_secs(120);

/// Epochs of requests that name all that they want: one that begins a session, and one that does not, or ends it.
const BEGINS: i32 = 0;
const ENDS: i32 = -1;

/// A session, while one of its requests is answered.
pub(super) type Held = OwnedMutexGuard<Session>;

/// All sessions of a node.
pub(in crate::kafka) struct Sessions {
    most: usize,
    most_places: usize,
    kept: parking_lot::Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    by_id: HashMap<i32, Entry>,
    /// Of all of them.
    places: usize,
}

struct Entry {
    session: Arc<Mutex<Session>>,
    places: usize,
    begun: Instant,
    used: Instant,
}

impl Default for Sessions {
    fn default() -> Self {
        Self::new(MAX_SESSIONS, MAX_PLACES)
    }
}

impl Sessions {
    fn new(most: usize, most_places: usize) -> Self {
        Self { most, most_places, kept: parking_lot::Mutex::default() }
    }

    /// The session of a request, with what the request changes of it.
    ///
    /// # Errors
    /// The answer is nothing but this: the client names all that it wants, then.
    pub(super) async fn open(&self, asked: Asked) -> Result<Held, ResponseError> {
        let Asked { session, epoch, by_id, topics, forgotten, .. } = asked;
        match epoch {
            BEGINS => {
                self.end(session);
                Ok(self.begin(by_id, topics))
            }
            ENDS => {
                self.end(session);
                Ok(hold(Session::alone(topics)).1)
            }
            _ => {
                let kept = self.find(session).ok_or(ResponseError::FetchSessionIdNotFound)?;
                // Requests of a session wait for each other.
                let held = kept.lock_owned().await;
                self.go_on(held, epoch, by_id, topics, &forgotten)
            }
        }
    }

    /// A new one; one that is not kept, if there is no room.
    fn begin(&self, by_id: bool, topics: Vec<Topic>) -> Held {
        let (session, mut held) = hold(Session::kept(by_id, topics));
        let (places, now) = (held.places(), Instant::now());
        let mut kept = self.kept.lock();
        // One without topics wants nothing that it could go on with.
        if !held.topics.is_empty() && self.make_room(&mut kept, 1, places, now) {
            held.id = kept.new_id();
            kept.places += places;
            kept.by_id.insert(held.id, Entry { session, places, begun: now, used: now });
        }
        held
    }

    fn find(&self, id: i32) -> Option<Arc<Mutex<Session>>> {
        let mut kept = self.kept.lock();
        let entry = kept.by_id.get_mut(&id)?;
        entry.used = Instant::now();
        Some(Arc::clone(&entry.session))
    }

    fn go_on(
        &self,
        mut held: Held,
        epoch: i32,
        by_id: bool,
        topics: Vec<Topic>,
        forgotten: &[Forgotten],
    ) -> Result<Held, ResponseError> {
        if held.epoch != epoch {
            return Err(ResponseError::InvalidFetchSessionEpoch);
        }
        if held.by_id != by_id {
            return Err(ResponseError::FetchSessionTopicIdError);
        }
        held.epoch = if epoch == i32::MAX { 1 } else { epoch + 1 };
        held.only_news = true;
        held.update(topics, forgotten);
        let fits = self.resize(held.id, held.places());
        if !fits || held.topics.is_empty() {
            self.end(held.id);
            held.id = 0;
        }
        if fits { Ok(held) } else { Err(ResponseError::FetchSessionIdNotFound) }
    }

    /// Whether there is room for a session that takes so much now.
    fn resize(&self, id: i32, places: usize) -> bool {
        let mut kept = self.kept.lock();
        let Some(before) = kept.by_id.get(&id).map(|entry| entry.places) else {
            // It was taken away meanwhile.
            return false;
        };
        if places > before && !self.make_room(&mut kept, 0, places - before, Instant::now()) {
            return false;
        }
        // It may have had to go itself.
        let Some(entry) = kept.by_id.get_mut(&id) else { return false };
        entry.places = places;
        kept.places = kept.places + places - before;
        true
    }

    fn end(&self, id: i32) {
        self.kept.lock().remove(id);
    }

    /// Takes sessions away, if it has to and may, until there is room for so many more that take so much.
    fn make_room(&self, kept: &mut Kept, more: usize, places: usize, now: Instant) -> bool {
        if places > self.most_places {
            return false;
        }
        while kept.by_id.len() + more > self.most || kept.places + places > self.most_places {
            let Some(id) = kept.unsafe_one(places, now) else { return false };
            kept.remove(id);
        }
        true
    }
}

impl Kept {
    /// The session that goes next, as Kafka chooses it: the one that was not used for the longest time, if that is long; else the
    /// smallest of those that have been there for long, if it is smaller than the new one.
    fn unsafe_one(&self, places: usize, now: Instant) -> Option<i32> {
        let is_long_ago = |then: Instant| now.duration_since(then) > SAFE;
        let idle = self.by_id.iter().filter(|(_, entry)| is_long_ago(entry.used)).min_by_key(|(_, entry)| entry.used);
        let small = || {
            let old = self.by_id.iter().filter(|(_, entry)| is_long_ago(entry.begun) && entry.places < places);
            old.min_by_key(|(_, entry)| entry.places)
        };
        idle.or_else(small).map(|(id, _)| *id)
    }

    fn remove(&mut self, id: i32) {
        if let Some(gone) = self.by_id.remove(&id) {
            self.places -= gone.places;
        }
    }

    /// Above 0, and not to be guessed: whoever knows it may go on with the session.
    fn new_id(&self) -> i32 {
        loop {
            let id = Uuid::new_v4().as_u128() as i32 & i32::MAX;
            if id > 0 && !self.by_id.contains_key(&id) {
                return id;
            }
        }
    }
}

fn hold(session: Session) -> (Arc<Mutex<Session>>, Held) {
    let session = Arc::new(Mutex::new(session));
    let held = Arc::clone(&session).try_lock_owned().expect("nobody else knows it");
    (session, held)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::super::{Limits, Named, Partition};
    use super::*;

    fn asked(session: i32, epoch: i32, partitions: std::ops::Range<i32>) -> Asked {
        let partitions: Vec<_> = partitions.map(|index| Partition::new(index, 0, 100)).collect();
        let topics = vec![Topic { name: Named::Id(1), partitions }];
        let limits = Limits { max_wait: Duration::ZERO, min_bytes: 0, max_bytes: 100 };
        Asked { limits, session, epoch, by_id: true, topics, forgotten: Vec::new(), rack: StrBytes::default() }
    }

    async fn begin(sessions: &Sessions, partitions: i32) -> i32 {
        sessions.open(asked(0, BEGINS, 0..partitions)).await.unwrap().id
    }

    async fn go_on(sessions: &Sessions, id: i32, epoch: i32) -> Result<usize, ResponseError> {
        let request = Asked { topics: Vec::new(), ..asked(id, epoch, 0..0) };
        sessions.open(request).await.map(|held| held.topics[0].partitions.len())
    }

    #[tokio::test]
    async fn requests_of_a_session_count_its_epochs() {
        let sessions = Sessions::default();
        let id = begin(&sessions, 3).await;
        assert!(id > 0);
        for epoch in 1..4 {
            assert_eq!(go_on(&sessions, id, epoch).await, Ok(3));
        }
        assert_eq!(go_on(&sessions, id, 3).await, Err(ResponseError::InvalidFetchSessionEpoch));
        assert_eq!(go_on(&sessions, id, -7).await, Err(ResponseError::InvalidFetchSessionEpoch));
        let by_name = Asked { by_id: false, ..asked(id, 4, 0..1) };
        assert_eq!(sessions.open(by_name).await.unwrap_err(), ResponseError::FetchSessionTopicIdError);
        assert_eq!(go_on(&sessions, id ^ 1, 1).await, Err(ResponseError::FetchSessionIdNotFound));
        assert_eq!(go_on(&sessions, 0, 1).await, Err(ResponseError::FetchSessionIdNotFound));
    }

    #[tokio::test]
    async fn epochs_begin_again_after_the_last() {
        let sessions = Sessions::default();
        let id = begin(&sessions, 1).await;
        sessions.find(id).unwrap().lock().await.epoch = i32::MAX;
        assert_eq!(go_on(&sessions, id, i32::MAX).await, Ok(1));
        assert_eq!(go_on(&sessions, id, 1).await, Ok(1));
    }

    #[tokio::test]
    async fn a_session_ends_when_its_client_says_so_or_wants_nothing_more() {
        let sessions = Sessions::default();
        let (ended, renewed, empty) = (begin(&sessions, 1).await, begin(&sessions, 1).await, begin(&sessions, 2).await);
        assert_eq!(sessions.open(asked(ended, ENDS, 0..1)).await.unwrap().id, 0);
        assert_ne!(sessions.open(asked(renewed, BEGINS, 0..1)).await.unwrap().id, renewed);
        let forgotten = vec![Forgotten { name: Named::Id(1), partitions: vec![0, 1] }];
        let last = sessions.open(Asked { topics: Vec::new(), forgotten, ..asked(empty, 1, 0..0) }).await.unwrap();
        assert_eq!((last.id, last.topics.len()), (0, 0));
        for id in [ended, renewed, empty] {
            assert_eq!(go_on(&sessions, id, 1).await, Err(ResponseError::FetchSessionIdNotFound));
        }
        assert_eq!(sessions.kept.lock().places, 2, "the renewed one is left");
    }

    #[tokio::test(start_paused = true)]
    async fn x1_where_there_is_no_room_the_idle_and_then_the_small_go() {
        let sessions = Sessions::new(3, 1_000);
        let (first, second, third) = (begin(&sessions, 5).await, begin(&sessions, 2).await, begin(&sessions, 9).await);
        assert_eq!(begin(&sessions, 50).await, 0, "nobody goes who was there a moment ago");
        tokio::time::advance(SAFE / 2).await;
        go_on(&sessions, second, 1).await.unwrap();
        go_on(&sessions, third, 1).await.unwrap();
        tokio::time::advance(SAFE / 2 + Duration::from_secs(1)).await;
        let fourth = begin(&sessions, 1).await;
        assert!(fourth > 0);
        assert_eq!(go_on(&sessions, first, 1).await, Err(ResponseError::FetchSessionIdNotFound), "it was idle");
        assert_eq!(begin(&sessions, 2).await, 0, "no smaller one is old");
        assert!(begin(&sessions, 3).await > 0);
        assert_eq!(go_on(&sessions, second, 2).await, Err(ResponseError::FetchSessionIdNotFound), "it was small");
        assert_eq!(go_on(&sessions, third, 2).await, Ok(9));
    }

    #[tokio::test]
    async fn x1_partitions_are_bounded_in_all_and_a_session_that_grows_beyond_ends() {
        let sessions = Sessions::new(100, 100);
        assert_eq!(begin(&sessions, 100).await, 0, "more than all may have");
        let (large, small) = (begin(&sessions, 79).await, begin(&sessions, 9).await);
        assert!(large > 0 && small > 0);
        assert_eq!(begin(&sessions, 10).await, 0);
        assert_eq!(sessions.open(asked(small, 1, 0..30)).await.unwrap_err(), ResponseError::FetchSessionIdNotFound);
        assert_eq!(sessions.kept.lock().places, 80);
        assert_eq!(sessions.open(asked(large, 1, 90..100)).await.unwrap().places(), 90);
        assert_eq!(sessions.kept.lock().places, 90);
    }
}
