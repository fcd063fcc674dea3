//! What a client wants of all its fetches (KIP-227): a request names only what changes of it, and an answer what is new.

use kafka_protocol::protocol::StrBytes;

use super::{Forgotten, Named, Partition, Topic};

/// Bytes of a name that count as much as a partition.
const NAME_BYTES: usize = 64;

/// What a client wants, in one request or in all of a session.
#[derive(Debug)]
pub(super) struct Session {
    /// 0: nobody goes on with it.
    pub(super) id: i32,
    /// Of the next request.
    pub(super) epoch: i32,
    /// Whether its topics are named by their ids.
    pub(super) by_id: bool,
    /// If it is kept: in the order of their names, each once, and the same with their partitions.
    pub(super) topics: Vec<Topic>,
    /// Where an answer begins: with another topic and partition each time, since its end may find no room.
    pub(super) turn: usize,
    /// Whether an answer has only what is new.
    pub(super) only_news: bool,
}

impl Session {
    /// That of one request.
    pub(super) fn alone(topics: Vec<Topic>) -> Self {
        Self { id: 0, epoch: 0, by_id: false, topics, turn: 0, only_news: false }
    }

    /// One that others may go on with.
    pub(super) fn kept(by_id: bool, topics: Vec<Topic>) -> Self {
        let mut session = Self { epoch: 1, by_id, ..Self::alone(Vec::new()) };
        session.update(topics, &[]);
        session
    }

    /// What it takes in memory, about in partitions.
    pub(super) fn places(&self) -> usize {
        self.topics.iter().map(Topic::places).sum()
    }

    /// Wants this, too, or anew, and does not want what is forgotten.
    pub(super) fn update(&mut self, wanted: Vec<Topic>, forgotten: &[Forgotten]) {
        let mut unknown = Vec::new();
        for topic in wanted {
            match self.topics.binary_search_by(|known| known.name.cmp(&topic.name)) {
                Ok(at) => self.topics[at].update(topic.partitions),
                Err(_) => unknown.push(Topic { name: topic.name.apart(), ..topic }),
            }
        }
        if !unknown.is_empty() {
            self.topics.append(&mut unknown);
            self.put_in_order();
        }
        if !forgotten.is_empty() {
            self.forget(forgotten);
        }
    }

    fn put_in_order(&mut self) {
        self.topics.sort_by(|one, other| one.name.cmp(&other.name));
        self.topics.dedup_by(|again, first| {
            let same = again.name == first.name;
            if same {
                first.partitions.append(&mut again.partitions);
            }
            same
        });
        self.topics.iter_mut().for_each(Topic::put_in_order);
    }

    fn forget(&mut self, forgotten: &[Forgotten]) {
        for Forgotten { name, partitions } in forgotten {
            let Ok(at) = self.topics.binary_search_by(|known| known.name.cmp(name)) else { continue };
            let known = &mut self.topics[at].partitions;
            for index in partitions {
                if let Ok(at) = known.binary_search_by_key(index, |partition| partition.index) {
                    known[at].is_forgotten = true;
                }
            }
        }
        self.topics.retain_mut(|topic| {
            topic.partitions.retain(|partition| !partition.is_forgotten);
            !topic.partitions.is_empty()
        });
    }
}

impl Topic {
    fn places(&self) -> usize {
        let name = match &self.name {
            Named::Name(name) => name.len() / NAME_BYTES,
            Named::Id(_) => 0,
        };
        1 + name + self.partitions.len()
    }

    fn update(&mut self, wanted: Vec<Partition>) {
        let known = self.partitions.len();
        for partition in wanted {
            match self.partitions[..known].binary_search_by_key(&partition.index, |partition| partition.index) {
                Ok(at) => self.partitions[at] = Partition { told: self.partitions[at].told, ..partition },
                Err(_) => self.partitions.push(partition),
            }
        }
        if self.partitions.len() > known {
            self.put_in_order();
        }
    }

    /// What was said last of a partition counts.
    fn put_in_order(&mut self) {
        self.partitions.sort_by_key(|partition| partition.index);
        self.partitions.dedup_by(|again, first| {
            let same = again.index == first.index;
            if same {
                *first = *again;
            }
            same
        });
    }
}

impl Named {
    /// The same name without the request that it is a slice of.
    fn apart(self) -> Self {
        match self {
            Named::Name(name) => Named::Name(StrBytes::from_string(name.to_string())),
            id @ Named::Id(_) => id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &'static str, partitions: &[(i32, i64)]) -> Topic {
        let partition = |&(index, offset): &(i32, i64)| Partition::new(index, offset, 100);
        let name = Named::Name(StrBytes::from_static_str(name));
        Topic { name, partitions: partitions.iter().map(partition).collect() }
    }

    fn forgotten(name: &'static str, partitions: &[i32]) -> Forgotten {
        Forgotten { name: Named::Name(StrBytes::from_static_str(name)), partitions: partitions.to_vec() }
    }

    /// Names with numbers and offsets.
    fn shown(session: &Session) -> Vec<(String, Vec<(i32, i64)>)> {
        let partitions = |topic: &Topic| topic.partitions.iter().map(|p| (p.index, p.offset)).collect();
        let name = |topic: &Topic| match &topic.name {
            Named::Name(name) => name.to_string(),
            Named::Id(id) => id.to_string(),
        };
        session.topics.iter().map(|topic| (name(topic), partitions(topic))).collect()
    }

    fn expected(topics: &[(&str, &[(i32, i64)])]) -> Vec<(String, Vec<(i32, i64)>)> {
        topics.iter().map(|(name, partitions)| ((*name).to_owned(), partitions.to_vec())).collect()
    }

    #[test]
    fn what_is_named_again_is_there_once_as_it_was_said_last() {
        let topics = vec![topic("b", &[(2, 7), (0, 1), (2, 8)]), topic("a", &[(0, 0)]), topic("b", &[(1, 5), (0, 9)])];
        let session = Session::kept(false, topics);
        assert_eq!(shown(&session), expected(&[("a", &[(0, 0)]), ("b", &[(0, 9), (1, 5), (2, 8)])]));
        assert_eq!(session.places(), 6);
    }

    #[test]
    fn a_session_goes_on_with_what_is_changed_added_and_forgotten() {
        let mut session = Session::kept(false, vec![topic("a", &[(0, 0), (1, 0)]), topic("c", &[(0, 0)])]);
        session.topics[0].partitions[1].told = (5, 0);
        session.update(vec![topic("a", &[(1, 5), (3, 0)]), topic("b", &[(4, 4)])], &[forgotten("c", &[0, 9])]);
        assert_eq!(shown(&session), expected(&[("a", &[(0, 0), (1, 5), (3, 0)]), ("b", &[(4, 4)])]));
        assert_eq!(session.topics[0].partitions[1].told, (5, 0), "what its client knows stays known");
        session.update(Vec::new(), &[forgotten("a", &[0, 1, 3]), forgotten("nowhere", &[0]), forgotten("b", &[4])]);
        assert!(session.topics.is_empty());
    }

    #[test]
    fn x1_a_name_does_not_keep_the_request_that_it_came_in() {
        let request = bytes::Bytes::from(vec![b'x'; 1 << 20]);
        let name = StrBytes::from_utf8(request.slice(..3)).unwrap();
        let session = Session::kept(false, vec![Topic { name: Named::Name(name), partitions: Vec::new() }]);
        assert!(request.is_unique(), "{session:?}");
    }
}
