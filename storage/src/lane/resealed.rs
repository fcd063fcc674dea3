//! A lane file under checksums that are right for its bytes, so that a fuzzer gets behind them.

use super::format::{
    FILE_HEADER_BYTES, FIRST_GROUP, FRAME_HEADER_BYTES, GROUP_END, GROUP_HEADER_BYTES, GroupHeader, SECTOR, frame_bytes,
};

/// More groups, or frames in one, than a small file has.
const MAX_STEPS: usize = 64;

/// Writes the checksum of the file's header, and those of the groups and frames as far as one leads to the next. Frames are
/// chained as they lie.
pub(crate) fn reseal(file: &mut [u8]) {
    if let Some(header) = file.get_mut(..FILE_HEADER_BYTES) {
        let crc = crc32fast::hash(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
    }
    let (mut at, mut chain) = (FIRST_GROUP as usize, None);
    for _ in 0..MAX_STEPS {
        let Some(group) = file.get_mut(at..) else { return };
        let Some(len) = reseal_group(group, &mut chain) else { return };
        at += len;
    }
}

/// The length of the group, if it leads to a next one. `chain`: the checksum of the last frame before, once there was one.
fn reseal_group(group: &mut [u8], chain: &mut Option<u32>) -> Option<usize> {
    let mut resealed: [u8; GROUP_HEADER_BYTES] = *group.first_chunk()?;
    if let Some(chain) = chain {
        resealed[64..68].copy_from_slice(&chain.to_le_bytes());
    }
    let crc = crc32fast::hash(&resealed[8..]);
    resealed[4..8].copy_from_slice(&crc.to_le_bytes());
    // Not where the log has ended.
    let header = GroupHeader::decode(&resealed)?;
    group[..GROUP_HEADER_BYTES].copy_from_slice(&resealed);
    let len = header.len as usize;
    let frames = group.get_mut(GROUP_HEADER_BYTES..len.checked_sub(GROUP_END.len())?)?;
    let (mut at, mut last) = (0, header.chain);
    for _ in 0..MAX_STEPS.min(header.frames as usize) {
        let Some(frame) = frames.get_mut(at..) else { break };
        let Some((len, crc)) = reseal_frame(frame, last) else { break };
        (at, last) = (at + len, crc);
    }
    *chain = Some(last);
    (len > 0 && len.is_multiple_of(SECTOR as usize)).then_some(len)
}

/// The length of the frame, and its checksum.
fn reseal_frame(frame: &mut [u8], chain: u32) -> Option<(usize, u32)> {
    let (header, behind) = frame.split_at_mut_checked(FRAME_HEADER_BYTES)?;
    let len = super::format::claimed_payload_bytes(header);
    let payload_crc = crc32fast::hash(behind.get(..len)?);
    header[8..12].copy_from_slice(&payload_crc.to_le_bytes());
    header[12..16].copy_from_slice(&chain.to_le_bytes());
    let crc = super::format::header_crc(header);
    header[4..8].copy_from_slice(&crc.to_le_bytes());
    Some((frame_bytes(len) as usize, crc))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_whole_file_stays_what_it_is() {
        for fixture in [
            &include_bytes!("../../tests/fixtures/lane-v1.log")[..],
            include_bytes!("../../tests/fixtures/lane-v2.log"),
        ] {
            let mut file = fixture.to_vec();
            super::reseal(&mut file);
            assert!(file == fixture);
        }
    }

    #[test]
    fn a_changed_frame_is_whole_again() {
        let fixture = include_bytes!("../../tests/fixtures/lane-v2.log");
        let mut file = fixture.to_vec();
        file[1_200] ^= 1;
        super::reseal(&mut file);
        let differing = file.iter().zip(fixture).filter(|(a, b)| a != b).count();
        assert!((2..40).contains(&differing), "the byte and some checksums: {differing}");
    }
}
