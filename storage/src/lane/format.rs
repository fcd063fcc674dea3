//! The bytes of a lane file; `docs/FORMATS.md`, "Lane", says the same in tables. All integers are little-endian.

use stratalog_proto::{RaftIndex, ReplicaId, ShardId, Term};

use super::{Frame, FrameKind, LanePos, RecoveredFrame};

/// The unit in which the medium writes or loses bytes. Groups start at its multiples, so that a lost write never shares a
/// sector with a group that was acknowledged.
pub(super) const SECTOR: u64 = 512;
/// Frames start at multiples of this within a group, so that a length never straddles two sectors.
pub(super) const FRAME_ALIGN: u64 = 8;
/// The first group of a file starts here: the file header has a sector of its own.
pub(super) const FIRST_GROUP: u64 = SECTOR;
pub(super) const FILE_HEADER_BYTES: usize = 64;
pub(super) const GROUP_HEADER_BYTES: usize = 72;
pub(super) const FRAME_HEADER_BYTES: usize = 48;
/// The last bytes of every group. None of them is zero, so that a write that ended early cannot end like this.
pub(super) const GROUP_END: [u8; 8] = *b"SLG-END\n";

const FILE_MAGIC: [u8; 8] = *b"SLG-LANE";
const GROUP_MAGIC: u32 = u32::from_le_bytes(*b"SLGR");
/// The version of files that are made now. Files of version 1 say nothing about a floor: theirs is 1.
const VERSION: u32 = 2;

const _: () = assert!((GROUP_HEADER_BYTES as u64).is_multiple_of(FRAME_ALIGN));
const _: () = assert!((FRAME_HEADER_BYTES as u64).is_multiple_of(FRAME_ALIGN));
const _: () = assert!(GROUP_HEADER_BYTES as u64 <= SECTOR && FILE_HEADER_BYTES as u64 <= FIRST_GROUP);

/// A place in the lane: a file's number and an offset in it. Ordered as the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) file: u64,
    pub(super) offset: u64,
}

impl Place {
    /// Where the first group of the lane starts.
    pub(super) const ORIGIN: Place = Place { file: 1, offset: FIRST_GROUP };
}

/// The name of a lane file.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:020}.log")
}

/// The number in the name of a lane file; `None` for other names.
pub(super) fn file_number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(".log")?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// Bytes that a frame takes in a group: header, payload, padding.
pub(super) fn frame_bytes(payload_bytes: usize) -> u64 {
    (FRAME_HEADER_BYTES + payload_bytes).next_multiple_of(FRAME_ALIGN as usize) as u64
}

/// Bytes of a whole group whose frames take `frames_bytes`.
pub(super) fn group_bytes(frames_bytes: u64) -> u64 {
    (GROUP_HEADER_BYTES as u64 + frames_bytes + GROUP_END.len() as u64).next_multiple_of(SECTOR)
}

/// Where groups of frames end at the latest in a file of `file_bytes`. The last sector is kept for the group without
/// frames that says that all before it is durable.
pub(super) fn frames_end(file_bytes: u64) -> u64 {
    file_bytes - SECTOR
}

/// The largest payload that a file of `file_bytes` holds in one frame.
pub(super) fn max_payload_bytes(file_bytes: u64) -> usize {
    let group = frames_end(file_bytes) - FIRST_GROUP;
    group as usize - GROUP_HEADER_BYTES - FRAME_HEADER_BYTES - GROUP_END.len()
}

/// Writes fixed-size little-endian fields one after the other.
struct Fields<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn new(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    fn put(mut self, bytes: &[u8]) -> Self {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn u32(self, value: u32) -> Self {
        self.put(&value.to_le_bytes())
    }

    fn u64(self, value: u64) -> Self {
        self.put(&value.to_le_bytes())
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// The start of a file. It is durable before the file has its name; later only its floor changes, see
/// [`super::files::LogWriter::raise_floor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// Drawn at random when the lane is made: bytes of another lane, or ones that a client sent, cannot pass for ours.
    pub(super) lane: u64,
    pub(super) number: u64,
    pub(super) file_bytes: u64,
    /// The lowest file that was needed when this was written: files below it may be gone. Never above `number`.
    pub(super) floor: u64,
}

/// Why bytes are not a file header.
pub(super) enum BadFileHeader {
    Damaged(&'static str),
    NewerVersion(u32),
}

impl FileHeader {
    pub(super) fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut out = [0; FILE_HEADER_BYTES];
        Fields::new(&mut out)
            .put(&FILE_MAGIC)
            .u32(VERSION)
            .u32(0)
            .u64(self.lane)
            .u64(self.number)
            .u64(self.file_bytes)
            .u64(self.floor);
        let crc = crc32fast::hash(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, BadFileHeader> {
        if bytes[..8] != FILE_MAGIC {
            return Err(BadFileHeader::Damaged("a lane file starts with SLG-LANE"));
        }
        if u32_at(bytes, 60) != crc32fast::hash(&bytes[..60]) {
            return Err(BadFileHeader::Damaged("the file header fails its checksum"));
        }
        let floor = match u32_at(bytes, 8) {
            1 => 1,
            VERSION => u64_at(bytes, 40),
            newer => return Err(BadFileHeader::NewerVersion(newer)),
        };
        let number = u64_at(bytes, 24);
        if !(1..=number).contains(&floor) {
            return Err(BadFileHeader::Damaged("no file needs others than those from the first to itself"));
        }
        Ok(Self { lane: u64_at(bytes, 16), number, file_bytes: u64_at(bytes, 32), floor })
    }
}

/// The start of a flush group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) lane: u64,
    /// 1 for the first group of the lane, then one more each.
    pub(super) sequence: u64,
    /// Where this header lies.
    pub(super) place: Place,
    /// Everything before this was synced before this group was written.
    pub(super) durable: Place,
    /// From the start of this header to the end of the group: a multiple of [`SECTOR`].
    pub(super) len: u32,
    pub(super) frames: u32,
    /// The checksum of the header of the last frame before this group; 0 before the first.
    pub(super) chain: u32,
}

impl GroupHeader {
    pub(super) fn encode(&self, out: &mut [u8]) {
        let out = &mut out[..GROUP_HEADER_BYTES];
        Fields::new(out)
            .u32(GROUP_MAGIC)
            .u32(0)
            .u64(self.lane)
            .u64(self.sequence)
            .u64(self.place.file)
            .u64(self.place.offset)
            .u64(self.durable.file)
            .u64(self.durable.offset)
            .u32(self.len)
            .u32(self.frames)
            .u32(self.chain)
            .u32(0);
        let crc = crc32fast::hash(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// `None` unless `bytes` start with a group header whose checksum matches. What it says is not judged here.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..GROUP_HEADER_BYTES)?;
        if u32_at(bytes, 0) != GROUP_MAGIC || u32_at(bytes, 4) != crc32fast::hash(&bytes[8..]) {
            return None;
        }
        Some(Self {
            lane: u64_at(bytes, 8),
            sequence: u64_at(bytes, 16),
            place: Place { file: u64_at(bytes, 24), offset: u64_at(bytes, 32) },
            durable: Place { file: u64_at(bytes, 40), offset: u64_at(bytes, 48) },
            len: u32_at(bytes, 56),
            frames: u32_at(bytes, 60),
            chain: u32_at(bytes, 64),
        })
    }
}

impl FrameKind {
    fn from_number(number: u8) -> Option<Self> {
        [FrameKind::Blank, FrameKind::Normal, FrameKind::Membership, FrameKind::Truncate, FrameKind::Purge]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// The start of a frame. Its checksum covers the payload's, and is what the next frame chains to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    pub(super) len: u32,
    pub(super) crc: u32,
    pub(super) payload_crc: u32,
    pub(super) chain: u32,
    pub(super) term: Term,
    pub(super) replica: ReplicaId,
    pub(super) index: RaftIndex,
    pub(super) shard: ShardId,
    pub(super) kind: FrameKind,
}

impl FrameHeader {
    /// Encodes the header of a frame; returns its checksum, to chain the next one to.
    pub(super) fn encode(frame: &Frame, payload_crc: u32, chain: u32, out: &mut [u8]) -> u32 {
        let out = &mut out[..FRAME_HEADER_BYTES];
        Fields::new(out)
            .u32(frame.payload.len() as u32)
            .u32(0)
            .u32(payload_crc)
            .u32(chain)
            .u64(frame.term.0)
            .u64(frame.replica.0)
            .u64(frame.index.0)
            .u32(frame.shard.0)
            .put(&[frame.kind as u8, 0, 0, 0]);
        let crc = header_crc(out);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads a header and checks its checksum; the payload's is the caller's to check.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES).ok_or("the frame header is cut short")?;
        if u32_at(bytes, 4) != header_crc(bytes) {
            return Err("the frame header fails its checksum");
        }
        Ok(Self {
            len: u32_at(bytes, 0),
            crc: u32_at(bytes, 4),
            payload_crc: u32_at(bytes, 8),
            chain: u32_at(bytes, 12),
            term: Term(u64_at(bytes, 16)),
            replica: ReplicaId(u64_at(bytes, 24)),
            index: RaftIndex(u64_at(bytes, 32)),
            shard: ShardId(u32_at(bytes, 40)),
            kind: FrameKind::from_number(bytes[44]).ok_or("the frame is of a kind that this version does not know")?,
        })
    }

    /// The header as recovery and reads return it.
    pub(super) fn at(&self, place: Place) -> RecoveredFrame {
        RecoveredFrame {
            shard: self.shard,
            term: self.term,
            replica: self.replica,
            index: self.index,
            kind: self.kind,
            pos: LanePos { file: place.file, offset: place.offset, len: self.len },
        }
    }
}

/// The checksum of a frame header: all of it but the checksum's own bytes.
pub(super) fn header_crc(bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..4]);
    crc.update(&bytes[8..]);
    crc.finalize()
}

/// The payload length that a frame claims, readable even where the rest of its header is lost.
pub(super) fn claimed_payload_bytes(frame: &[u8]) -> usize {
    frame.get(..4).map_or(0, |len| u32_at(len, 0) as usize)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn headers_round_trip() {
        let file = FileHeader { lane: 7, number: 3, file_bytes: 1 << 20, floor: 2 };
        assert!(matches!(FileHeader::decode(&file.encode()), Ok(back) if back == file));

        let place = Place { file: 3, offset: 1024 };
        let group = GroupHeader { lane: 7, sequence: 9, place, durable: place, len: 512, frames: 1, chain: 5 };
        let mut bytes = [0; GROUP_HEADER_BYTES];
        group.encode(&mut bytes);
        assert_eq!(GroupHeader::decode(&bytes), Some(group));

        let frame = Frame {
            shard: ShardId(1),
            term: Term(2),
            replica: ReplicaId(3),
            index: RaftIndex(4),
            kind: FrameKind::Purge,
            payload: Bytes::from_static(b"abc"),
        };
        let mut bytes = [0; FRAME_HEADER_BYTES];
        let crc = FrameHeader::encode(&frame, 11, 12, &mut bytes);
        let back = FrameHeader::decode(&bytes).unwrap();
        assert_eq!((back.len, back.crc, back.payload_crc, back.chain), (3, crc, 11, 12));
        let at = back.at(place);
        assert_eq!((at.shard, at.term, at.replica, at.index), (frame.shard, frame.term, frame.replica, frame.index));
        assert_eq!((at.kind, at.pos), (FrameKind::Purge, LanePos { file: 3, offset: 1024, len: 3 }));
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let place = Place { file: 3, offset: 1024 };
        let mut group = [0; GROUP_HEADER_BYTES];
        GroupHeader { lane: 7, sequence: 9, place, durable: place, len: 512, frames: 1, chain: 5 }.encode(&mut group);
        for bit in 0..group.len() * 8 {
            group[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(GroupHeader::decode(&group), None, "bit {bit}");
            group[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_header_without_a_possible_floor_is_damaged() {
        for floor in [0, 4, u64::MAX] {
            let bytes = FileHeader { lane: 7, number: 3, file_bytes: 4096, floor }.encode();
            assert!(matches!(FileHeader::decode(&bytes), Err(BadFileHeader::Damaged(_))), "floor {floor}");
        }
    }

    #[test]
    fn file_names_sort_as_their_numbers() {
        assert_eq!(file_name(7), "00000000000000000007.log");
        assert_eq!(file_number("00000000000000000007.log"), Some(7));
        for name in ["7.log", "00000000000000000007.log.tmp", "+0000000000000000007.log", "votes"] {
            assert_eq!(file_number(name), None, "{name}");
        }
    }

    #[test]
    fn the_largest_frame_just_fits_its_file() {
        for file_bytes in [4096, 5120, 1 << 20] {
            let payload = max_payload_bytes(file_bytes);
            assert!(FIRST_GROUP + group_bytes(frame_bytes(payload)) <= frames_end(file_bytes));
            assert!(FIRST_GROUP + group_bytes(frame_bytes(payload + 1)) > frames_end(file_bytes));
        }
    }
}
