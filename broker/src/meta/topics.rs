//! The topics that can be used on this node: those of the metadata, as far as it is applied here, but for topics that this
//! node is about to delete.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::RwLock;
use stratalog_proto::config::MAX_TOPIC_NAME_BYTES;
use stratalog_proto::{Code, Error, TopicId};
use stratalog_query::TopicInfo;

use crate::rows::Directory;

/// Topics by name. A version counts the changes; it is part of a query's fence.
#[derive(Default)]
pub(crate) struct Topics {
    visible: RwLock<Visible>,
}

#[derive(Default)]
struct Visible {
    version: u64,
    by_name: BTreeMap<String, Arc<TopicInfo>>,
    by_id: BTreeMap<TopicId, Arc<TopicInfo>>,
    /// Being deleted here: not shown, whatever the metadata says of them meanwhile.
    retracted: BTreeSet<TopicId>,
}

impl Visible {
    fn insert(&mut self, topic: Arc<TopicInfo>) {
        if !self.retracted.contains(&topic.id) {
            self.version += 1;
            self.by_name.insert(topic.name.clone(), Arc::clone(&topic));
            self.by_id.insert(topic.id, topic);
        }
    }

    fn remove(&mut self, id: TopicId) {
        let Some(topic) = self.by_id.remove(&id) else { return };
        self.version += 1;
        if self.by_name.get(&topic.name).is_some_and(|named| named.id == id) {
            self.by_name.remove(&topic.name);
        }
    }
}

impl Topics {
    /// Makes a topic usable, or replaces what is known of it, unless it is being deleted here.
    pub(crate) fn publish(&self, topic: Arc<TopicInfo>) {
        self.visible.write().insert(topic);
    }

    /// Takes a topic away that the metadata does not have any more.
    pub(crate) fn withdraw(&self, id: TopicId) {
        let mut visible = self.visible.write();
        visible.retracted.remove(&id);
        visible.remove(id);
    }

    /// Shows these topics in the place of all others.
    pub(crate) fn replace(&self, topics: impl Iterator<Item = Arc<TopicInfo>>) {
        let mut visible = self.visible.write();
        visible.version += 1;
        (visible.by_name, visible.by_id) = (BTreeMap::new(), BTreeMap::new());
        topics.for_each(|topic| visible.insert(topic));
    }

    /// Takes a topic away that is about to be deleted, until the metadata has deleted it, or [`restore`](Self::restore).
    pub(crate) fn retract(&self, topic: &TopicInfo) {
        let mut visible = self.visible.write();
        visible.retracted.insert(topic.id);
        visible.remove(topic.id);
    }

    /// Makes a topic usable again that was not deleted after all.
    pub(crate) fn restore(&self, topic: Arc<TopicInfo>) {
        let mut visible = self.visible.write();
        visible.retracted.remove(&topic.id);
        visible.insert(topic);
    }

    /// All topics, in the order of names.
    pub(crate) fn list(&self) -> Vec<Arc<TopicInfo>> {
        self.visible.read().by_name.values().cloned().collect()
    }

    /// A topic by its id.
    pub(crate) fn by_id(&self, id: TopicId) -> Option<Arc<TopicInfo>> {
        self.visible.read().by_id.get(&id).cloned()
    }

    /// The number of changes so far.
    pub(crate) fn version(&self) -> u64 {
        self.visible.read().version
    }

    /// A topic by its name.
    ///
    /// # Errors
    /// [`Code::UnknownTopic`], with the nearest name there is.
    pub(crate) fn get(&self, name: &str) -> Result<Arc<TopicInfo>, Error> {
        let visible = self.visible.read();
        visible.by_name.get(name).cloned().ok_or_else(|| unknown(name, visible.by_name.keys()))
    }
}

impl Directory for Topics {
    fn version(&self) -> u64 {
        Topics::version(self)
    }

    fn topics(&self) -> Vec<Arc<TopicInfo>> {
        self.list()
    }
}

fn unknown<'a>(name: &str, names: impl Iterator<Item = &'a String>) -> Error {
    let shown: String = name.chars().take(MAX_TOPIC_NAME_BYTES).flat_map(char::escape_default).collect();
    let most = |known: &String| known.len().max(3) / 3 + 1;
    // To compare two texts takes memory for the product of their lengths, and what was asked for may be a long one (X1).
    let nearest = names
        .filter(|known| known.len().abs_diff(name.len()) <= most(known))
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= most(known))
        .min();
    let hint = match nearest {
        Some((_, known)) => format!("; did you mean `{known}`?"),
        None => "; create it first".to_owned(),
    };
    Error::new(Code::UnknownTopic, format!("there is no topic `{shown}`{hint}"))
}

#[cfg(test)]
mod tests {
    use stratalog_proto::TenantId;

    use super::*;

    fn topic(name: &str) -> Arc<TopicInfo> {
        let config = Default::default();
        Arc::new(TopicInfo {
            id: TopicId::new(),
            tenant: TenantId(0),
            name: name.to_owned(),
            partitions: 0,
            config,
            shards: vec![],
        })
    }

    #[test]
    fn an_unknown_topic_suggests_the_nearest_name() {
        let topics = Topics::default();
        topics.publish(topic("orders"));
        topics.publish(topic("metrics"));
        let message = |name| topics.get(name).unwrap_err().message;
        assert!(message("order").contains("`orders`"), "{}", message("order"));
        assert!(!message("zzzzzzzz").contains("did you mean"));
        let longest = "z".repeat(249);
        assert!(message(&longest).contains(&format!("`{longest}`")), "names are shown whole");
    }

    #[test]
    fn x1_a_name_as_long_as_a_statement_is_not_compared() {
        let topics = Topics::default();
        topics.publish(topic(&"x".repeat(249)));
        let (found, held) = stratalog_mutation::peak_of(|| topics.get(&"x".repeat(1 << 20)));
        assert!(found.is_err() && held < 4 << 20, "{held} bytes were held");
    }

    #[test]
    fn taking_an_old_topic_away_keeps_the_new_one_of_its_name() {
        let topics = Topics::default();
        let (old, new) = (topic("t"), topic("t"));
        topics.publish(Arc::clone(&old));
        topics.publish(Arc::clone(&new));
        topics.withdraw(old.id);
        assert_eq!(topics.get("t").unwrap().id, new.id);
        assert_eq!(topics.version(), 3);
    }

    #[test]
    fn a_retracted_topic_stays_hidden_until_it_is_restored_or_gone() {
        let topics = Topics::default();
        let kept = topic("t");
        topics.publish(Arc::clone(&kept));
        topics.retract(&kept);
        topics.publish(Arc::clone(&kept));
        topics.replace([Arc::clone(&kept)].into_iter());
        assert_eq!(topics.get("t").unwrap_err().code, Code::UnknownTopic);
        topics.restore(Arc::clone(&kept));
        assert_eq!(topics.get("t").unwrap(), kept);
        topics.retract(&kept);
        topics.withdraw(kept.id);
        assert!(topics.by_id(kept.id).is_none() && topics.visible.read().retracted.is_empty());
    }
}
