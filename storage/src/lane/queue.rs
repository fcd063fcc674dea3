//! Which frame goes where: a pure value, without threads or files.

use std::collections::VecDeque;
use std::time::Instant;

use super::format::{FIRST_GROUP, GROUP_HEADER_BYTES, Place, frame_bytes, frames_end, group_bytes};
use super::{Done, Frame, LanePos};

/// A frame with its payload's checksum, which is computed before any lock is taken.
pub(super) struct Summed {
    pub(super) frame: Frame,
    pub(super) payload_crc: u32,
}

impl From<Frame> for Summed {
    fn from(frame: Frame) -> Self {
        Self { payload_crc: crc32fast::hash(&frame.payload), frame }
    }
}

/// Frames that are written and synced together.
pub(super) struct Group {
    pub(super) place: Place,
    /// When the first frame of it was appended.
    pub(super) since: Instant,
    pub(super) frames: Vec<Summed>,
    frames_bytes: u64,
    /// Called when the group is durable. Each belongs to the append whose last frame is in this group.
    pub(super) dones: Vec<Done>,
}

impl Group {
    fn new(place: Place, since: Instant) -> Self {
        Self { place, since, frames: Vec::new(), frames_bytes: 0, dones: Vec::new() }
    }

    /// Bytes of the group on disk.
    pub(super) fn bytes(&self) -> u64 {
        group_bytes(self.frames_bytes)
    }

    fn end(&self) -> Place {
        Place { offset: self.place.offset + self.bytes(), ..self.place }
    }

    fn add(&mut self, frame: Summed) -> LanePos {
        let offset = self.place.offset + GROUP_HEADER_BYTES as u64 + self.frames_bytes;
        let pos = LanePos { file: self.place.file, offset, len: frame.frame.payload.len() as u32 };
        self.frames_bytes += frame_bytes(frame.frame.payload.len());
        self.frames.push(frame);
        pos
    }
}

/// The groups that wait for the flush thread, and the place where the log goes on. Only the last group still takes frames.
pub(super) struct Queue {
    groups: VecDeque<Group>,
    end: Place,
    /// The size of the file that `end` is in.
    file_bytes: u64,
    /// The size of the files after it.
    new_file_bytes: u64,
    /// A group is closed once it has this many bytes.
    group_bytes: u64,
}

impl Queue {
    /// An empty queue of a log that ends at `end`, in a file of `file_bytes`.
    pub(super) fn new(end: Place, file_bytes: u64, new_file_bytes: u64, group_bytes: u64) -> Self {
        Self { groups: VecDeque::new(), end, file_bytes, new_file_bytes, group_bytes }
    }

    /// Queues the frames of one append. Every frame has to fit a file of the new size.
    pub(super) fn push(&mut self, frames: Vec<Summed>, done: Done, now: Instant) -> Vec<LanePos> {
        let positions = frames.into_iter().map(|frame| self.place(frame, now)).collect();
        if self.groups.is_empty() {
            // No frames, and nothing waits: an empty group orders `done` behind the group in flight.
            self.open(0, now);
        }
        self.groups.back_mut().expect("one was opened").dones.push(done);
        positions
    }

    /// Queues a group without frames at the start of a file, the next one if this one has groups already: everything that
    /// comes after it is in that file or a later one. Gives its number.
    pub(super) fn rotate(&mut self, done: Done, now: Instant) -> u64 {
        if self.end.offset > FIRST_GROUP {
            self.go_to_next_file();
        }
        self.open(0, now);
        self.groups.back_mut().expect("one was opened").dones.push(done);
        self.end.file
    }

    /// Queues a group without frames, whose header records that all before it is durable. The last sector of a file is
    /// kept for it.
    pub(super) fn push_mark(&mut self, now: Instant) {
        let offset = self.end.offset;
        if self.groups.is_empty() && offset + group_bytes(0) <= self.file_bytes {
            self.groups.push_back(Group::new(self.end, now));
            self.end.offset += group_bytes(0);
        }
    }

    /// The first group that waits; it takes no more frames.
    pub(super) fn pop(&mut self) -> Option<Group> {
        self.groups.pop_front()
    }

    /// The file where the log goes on, and the bytes left for frames in it.
    pub(super) fn room(&self) -> (u64, u64) {
        (self.end.file, frames_end(self.file_bytes).saturating_sub(self.end.offset))
    }

    fn place(&mut self, frame: Summed, now: Instant) -> LanePos {
        let bytes = frame_bytes(frame.frame.payload.len());
        if !self.last_takes(bytes) {
            self.open(bytes, now);
        }
        let group = self.groups.back_mut().expect("one was opened");
        let pos = group.add(frame);
        self.end = group.end();
        pos
    }

    fn go_to_next_file(&mut self) {
        self.end = Place { file: self.end.file + 1, offset: FIRST_GROUP };
        self.file_bytes = self.new_file_bytes;
    }

    fn last_takes(&self, bytes: u64) -> bool {
        self.groups.back().is_some_and(|group| {
            let grown = group_bytes(group.frames_bytes + bytes);
            grown <= self.group_bytes && group.place.offset + grown <= frames_end(self.file_bytes)
        })
    }

    /// Opens a group that will take `bytes` of frames, in the next file if this one has no room.
    fn open(&mut self, bytes: u64, now: Instant) {
        if self.end.offset + group_bytes(bytes) > frames_end(self.file_bytes) {
            self.go_to_next_file();
            assert!(
                FIRST_GROUP + group_bytes(bytes) <= frames_end(self.file_bytes),
                "frames were checked to fit a file"
            );
        }
        let group = Group::new(self.end, now);
        self.end = group.end();
        self.groups.push_back(group);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use stratalog_proto::{RaftIndex, ReplicaId, ShardId, Term};

    use super::*;
    use crate::lane::FrameKind;
    use crate::lane::format::{SECTOR, max_payload_bytes};

    const FILE: u64 = 4096;

    fn frame(bytes: usize) -> Summed {
        Summed::from(Frame {
            shard: ShardId(0),
            term: Term(1),
            replica: ReplicaId(1),
            index: RaftIndex(1),
            kind: FrameKind::Normal,
            payload: Bytes::from(vec![1; bytes]),
        })
    }

    fn push(queue: &mut Queue, sizes: &[usize]) -> Vec<LanePos> {
        queue.push(sizes.iter().map(|n| frame(*n)).collect(), Box::new(|_| {}), Instant::now())
    }

    #[test]
    fn appends_that_wait_share_a_group() {
        let mut queue = Queue::new(Place::ORIGIN, FILE, FILE, FILE);
        assert_eq!(push(&mut queue, &[10])[0], LanePos { file: 1, offset: 512 + 72, len: 10 });
        assert_eq!(push(&mut queue, &[20])[0], LanePos { file: 1, offset: 512 + 72 + 64, len: 20 });
        let group = queue.pop().unwrap();
        assert_eq!((group.frames.len(), group.dones.len(), group.bytes()), (2, 2, 512));
        assert_eq!(push(&mut queue, &[30])[0].offset, 1024 + 72);
    }

    #[test]
    fn a_group_that_was_taken_takes_no_more() {
        let mut queue = Queue::new(Place::ORIGIN, FILE, FILE, FILE);
        push(&mut queue, &[1]);
        queue.pop().unwrap();
        push(&mut queue, &[2]);
        assert_eq!(queue.pop().unwrap().place, Place { file: 1, offset: 1024 });
        assert!(queue.pop().is_none());
    }

    #[test]
    fn the_mark_always_finds_a_sector_behind_frames() {
        let mut queue = Queue::new(Place::ORIGIN, FILE, FILE, FILE);
        push(&mut queue, &[max_payload_bytes(FILE)]);
        assert_eq!(queue.room(), (1, 0));
        queue.pop().unwrap();
        queue.push_mark(Instant::now());
        assert_eq!(queue.pop().unwrap().place, Place { file: 1, offset: FILE - SECTOR });
        assert_eq!(push(&mut queue, &[1])[0].file, 2);
    }

    #[test]
    fn an_append_without_frames_waits_its_turn() {
        let mut queue = Queue::new(Place::ORIGIN, FILE, FILE, FILE);
        assert_eq!(push(&mut queue, &[]), []);
        let group = queue.pop().unwrap();
        assert_eq!((group.frames.len(), group.dones.len()), (0, 1));
    }

    proptest! {
        #[test]
        fn groups_never_overlap_nor_leave_their_file(
            appends in proptest::collection::vec(
                (proptest::collection::vec(0usize..max_payload_bytes(FILE) + 1, 0..6), any::<bool>()),
                1..30,
            ),
        ) {
            let mut queue = Queue::new(Place::ORIGIN, FILE, FILE, 2048);
            let mut end = Place::ORIGIN;
            let mut expected = Vec::new();
            let mut seen = Vec::new();
            for (sizes, drain) in &appends {
                expected.extend(push(&mut queue, sizes));
                while let Some(group) = drain.then(|| queue.pop()).flatten() {
                    prop_assert!(group.place >= end, "groups follow each other");
                    let here = if group.place.file == end.file { end.offset } else { FIRST_GROUP };
                    prop_assert_eq!(group.place.offset, here, "without gaps inside a file");
                    prop_assert!(group.end().offset <= frames_end(FILE));
                    let mut offset = group.place.offset + 72;
                    for summed in &group.frames {
                        let len = summed.frame.payload.len();
                        seen.push(LanePos { file: group.place.file, offset, len: len as u32 });
                        offset += frame_bytes(len);
                    }
                    end = group.end();
                }
            }
            prop_assert_eq!(&expected[..seen.len()], &seen[..]);
        }
    }
}
