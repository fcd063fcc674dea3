//! Files of segments: all replicas of a shard have the same ones, byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::nodes::Cluster;

/// What was compared, for the record.
#[derive(Default)]
struct Compared {
    /// Extension → files that at least two nodes have.
    files: BTreeMap<String, usize>,
    bytes: usize,
}

/// Compares the segment files of all nodes (L2), and waits until each replica has every live column segment of a topic. Says
/// what was compared; panics with files that differ.
pub(super) fn check_segments(cluster: &Cluster, topic: &str) -> String {
    cluster.wait("every replica has the files of the live column segments", |cluster| have_live(cluster, topic));
    let mut by_name: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for number in cluster.numbers() {
        for path in segment_files(&cluster.member(number).data) {
            by_name.entry(file_name(&path)).or_default().push(path);
        }
    }
    let mut compared = Compared::default();
    by_name.values().for_each(|copies| compared.add(copies));
    let columns = compared.files.get("col").copied().unwrap_or_default();
    assert!(columns > 0, "no column segment is on two nodes: the test tested little; all names: {:?}", by_name.keys());
    format!("same on all nodes that have them: {:?} segment files, {} bytes", compared.files, compared.bytes)
}

impl Compared {
    /// Copies of one file. What a merge, a roll or a drop removes meanwhile is not compared.
    fn add(&mut self, copies: &[PathBuf]) {
        let read: Vec<(&PathBuf, Vec<u8>)> = copies.iter().filter_map(|path| Some((path, contents(path)?))).collect();
        let Some(((first, bytes), others)) = read.split_first() else { return };
        for (other, theirs) in others {
            assert!(bytes == theirs, "L2: {}", difference(first, bytes, other, theirs));
        }
        if !others.is_empty() {
            let extension = first.extension().unwrap_or_default().to_string_lossy().into_owned();
            *self.files.entry(extension).or_default() += 1;
            self.bytes += bytes.len();
        }
    }
}

/// Where two copies of a file differ.
fn difference(one: &Path, bytes: &[u8], other: &Path, theirs: &[u8]) -> String {
    let at = bytes.iter().zip(theirs).position(|(one, another)| one != another);
    let lengths = (bytes.len(), theirs.len());
    format!("{} and {} differ from byte {at:?} on, of {lengths:?} bytes", one.display(), other.display())
}

/// The live column segments may change between two looks: those count that are live in both.
fn have_live(cluster: &Cluster, topic: &str) -> Result<(), String> {
    let live = live_segments(cluster, topic)?;
    let here = |number| segment_files(&cluster.member(number).data).iter().map(|path| file_name(path)).collect();
    let there: BTreeMap<u64, BTreeSet<String>> =
        cluster.numbers().into_iter().map(|number| (number, here(number))).collect();
    let still = live_segments(cluster, topic)?;
    let status = cluster.status_of(cluster.numbers()[0]).ok_or("the first node does not answer")?;
    for shard in status.shards {
        let of_shard = live.iter().filter(|(name, of)| **of == shard.shard && still.contains_key(*name));
        let names: Vec<&String> = of_shard.map(|(name, _)| name).collect();
        for replica in shard.replicas {
            let files = there.get(&replica.node).ok_or_else(|| format!("node {} is not known here", replica.node))?;
            if let Some(missing) = names.iter().find(|name| !files.contains(**name)) {
                return Err(format!("node {} has no {missing} of shard {}", replica.node, shard.shard));
            }
        }
    }
    Ok(())
}

/// The file of each column segment, and its shard.
fn live_segments(cluster: &Cluster, topic: &str) -> Result<BTreeMap<String, u32>, String> {
    let listed = cluster.runtime.block_on(cluster.client().segments(topic)).map_err(|error| error.to_string())?;
    let name = |id: &[u8]| format!("{}.col", Uuid::from_slice(id).expect("ids have 16 bytes"));
    Ok(listed.iter().map(|segment| (name(&segment.id), segment.shard)).collect())
}

/// Files of a node's segments that are whole.
fn segment_files(data: &Path) -> Vec<PathBuf> {
    let is_whole = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rec" || extension == "col");
    files_of_shards(data, "segments").filter(is_whole).collect()
}

/// What is in a folder of each shard of a node now.
pub(super) fn files_of_shards(data: &Path, folder: &str) -> impl Iterator<Item = PathBuf> {
    let shards = entries(&data.join("shards"));
    let folder = folder.to_owned();
    shards.into_iter().flat_map(move |shard| entries(&shard.join(&folder)))
}

/// Nothing, for a directory that is not there.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(found) = fs::read_dir(directory) else { return Vec::new() };
    found.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn contents(path: &Path) -> Option<Vec<u8>> {
    match fs::read(path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

pub(super) fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
