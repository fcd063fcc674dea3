//! Turns a group into the slices of one vectored write.

use std::io::IoSlice;
use std::ops::Range;

use super::format::{FRAME_HEADER_BYTES, FrameHeader, GROUP_END, GROUP_HEADER_BYTES, GroupHeader, frame_bytes};
use super::queue::Group;

/// Payloads below this are copied beside their headers: that costs less than a slice of their own.
const COPY_BELOW_BYTES: usize = 2048;

enum Part {
    /// Headers, padding and small payloads.
    Scratch(Range<usize>),
    /// The payload of the frame with this number, where it lies.
    Payload(usize),
}

/// Encodes group after group; keeps its buffers.
#[derive(Default)]
pub(super) struct Encoder {
    scratch: Vec<u8>,
    parts: Vec<Part>,
}

impl Encoder {
    /// Encodes the group behind its header; returns the checksum that the next frame chains to.
    pub(super) fn encode(&mut self, header: &GroupHeader, group: &Group) -> u32 {
        self.scratch.clear();
        self.parts.clear();
        let mut from = 0;
        let mut written = GROUP_HEADER_BYTES as u64;
        let mut chain = header.chain;
        header.encode(self.grow(GROUP_HEADER_BYTES));
        for (number, summed) in group.frames.iter().enumerate() {
            let payload = &summed.frame.payload;
            chain = FrameHeader::encode(&summed.frame, summed.payload_crc, chain, self.grow(FRAME_HEADER_BYTES));
            if payload.len() < COPY_BELOW_BYTES {
                self.scratch.extend_from_slice(payload);
            } else {
                self.parts.push(Part::Scratch(from..self.scratch.len()));
                self.parts.push(Part::Payload(number));
                from = self.scratch.len();
            }
            let padded = frame_bytes(payload.len());
            self.grow(padded as usize - FRAME_HEADER_BYTES - payload.len());
            written += padded;
        }
        let padding = u64::from(header.len) - written - GROUP_END.len() as u64;
        self.grow(padding as usize);
        self.scratch.extend_from_slice(&GROUP_END);
        self.parts.push(Part::Scratch(from..self.scratch.len()));
        chain
    }

    /// The encoded group, as slices to write one after the other.
    pub(super) fn slices<'a>(&'a self, group: &'a Group) -> Vec<IoSlice<'a>> {
        let slice = |part: &Part| match part {
            Part::Scratch(range) => IoSlice::new(&self.scratch[range.clone()]),
            Part::Payload(number) => IoSlice::new(&group.frames[*number].frame.payload),
        };
        self.parts.iter().map(slice).collect()
    }

    /// Adds `bytes` zeroes to the scratch buffer, to be written over.
    fn grow(&mut self, bytes: usize) -> &mut [u8] {
        let from = self.scratch.len();
        self.scratch.resize(from + bytes, 0);
        &mut self.scratch[from..]
    }
}
