//! Whose turn it is to try dead letters again.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;
use stratalog_proto::{Code, Error, TopicId};
use stratalog_query::TopicInfo;

/// Topics that are retried at one time. Each retry holds the rows of a step and the segment that it rewrites.
const MAX_RETRIES: usize = 4;

/// The topics that are being retried.
#[derive(Clone, Debug, Default)]
pub(in crate::rows) struct Turns(Arc<Mutex<HashSet<TopicId>>>);

/// The right to retry a topic, for as long as this is held: also by work that goes on when who asked for it is gone.
#[derive(Debug)]
pub(super) struct Turn {
    topic: TopicId,
    turns: Turns,
}

impl Turns {
    /// Takes the turn of a topic.
    ///
    /// # Errors
    /// [`Code::Conflict`] while the topic is being retried; [`Code::Overloaded`] while enough others are.
    pub(super) fn take(&self, topic: &TopicInfo) -> Result<Arc<Turn>, Error> {
        let mut taken = self.0.lock();
        if taken.contains(&topic.id) {
            let message = format!("topic `{}` is being retried already; try again when that is through", topic.name);
            return Err(Error::new(Code::Conflict, message));
        }
        if taken.len() >= MAX_RETRIES {
            let message = format!(
                "cannot retry topic `{}` now: {MAX_RETRIES} others are being retried; try again later",
                topic.name
            );
            return Err(Error::new(Code::Overloaded, message));
        }
        taken.insert(topic.id);
        Ok(Arc::new(Turn { topic: topic.id, turns: self.clone() }))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().remove(&self.topic);
    }
}
