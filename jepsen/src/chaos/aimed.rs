//! Kills at the moment when a node is in the middle of something. Files that are not whole yet tell of it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Chaos, fault};
use crate::failure::Failure;
use crate::history::When;

/// Such a moment lasts some milliseconds.
const LOOK_EVERY: Duration = Duration::from_micros(300);
/// Nobody waits longer for such a moment.
const CAUGHT_WITHIN: Duration = Duration::from_secs(60);

/// What a node may be in the middle of: the fault, and how the names of its files end.
const WORKS: [(&str, &str); 3] =
    [("kill-in-seal", ".col.tmp"), ("kill-in-roll", ".rec.tmp"), ("kill-in-fetch", ".col.part")];

impl Chaos<'_> {
    /// Kills whoever is in the middle of it first, and starts it again.
    pub(super) async fn aimed_kill(&mut self, round: usize) -> Result<(), Failure> {
        let (kind, ending) = WORKS[round % WORKS.len()];
        let Some((node, began)) = tokio::task::block_in_place(|| self.kill_in(ending))? else {
            eprintln!("  nobody was found in the middle of {kind}");
            return Ok(());
        };
        self.sleep_ms(1_500..3_000).await;
        let ended = self.now();
        self.cluster.launch(node)?;
        let partitions = self.all_partitions();
        self.note(fault(kind, &[node], When(began, ended), partitions, format!("while it had a file *{ending}")));
        self.wait_whole().await?;
        self.sleep_ms(200..1_000).await;
        Ok(())
    }

    /// Looks without a pause, and kills in the same breath.
    fn kill_in(&mut self, ending: &str) -> Result<Option<(u64, u64)>, Failure> {
        let data: Vec<(u64, PathBuf)> = self
            .cluster
            .numbers()
            .into_iter()
            .map(|number| self.cluster.node(number).map(|node| (number, node.data.clone())))
            .collect::<Result<_, _>>()?;
        let deadline = Instant::now() + CAUGHT_WITHIN;
        while Instant::now() < deadline {
            if let Some((node, _)) = data.iter().find(|(_, data)| has_file(data, ending)) {
                let began = self.now();
                self.cluster.kill(*node)?;
                return Ok(Some((*node, began)));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(None)
    }
}

/// Whether a segment of a node is being made.
fn has_file(data: &Path, ending: &str) -> bool {
    let entries = |directory: PathBuf| std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let shards = entries(data.join("shards"));
    let mut files = shards.flat_map(|shard| entries(shard.path().join("segments")));
    files.any(|file| file.file_name().to_string_lossy().ends_with(ending))
}
