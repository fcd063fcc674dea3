//! How fast texts are indexed, matched and found: `cargo bench -p stratalog-index [-- FILE]`.
//!
//! Takes the lines of a log file, or makes some up. Prints megabytes of text per second and thread, the size of the
//! index against the text, and the time of single searches.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use stratalog_index::{Leaf, LeafMatcher, TextIndex, TextIndexWriter};

fn main() {
    let text = match std::env::args().skip(1).find(|arg| !arg.starts_with("--")) {
        Some(file) => std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}")),
        None => made_up(400_000),
    };
    let lines: Vec<&str> = text.lines().collect();
    println!("{} lines, {:.1} MB", lines.len(), megabytes(&text));
    matching(&text, &lines);
    let blob = indexing(&text, &lines);
    searching(blob);
}

fn matching(text: &str, lines: &[&str]) {
    let leaves = [
        Leaf::Term("error".into()),
        Leaf::Term("10.0.0.17".into()),
        Leaf::Phrase("was not found".into()),
        Leaf::Prefix("zz".into()),
        Leaf::Term("größe".into()),
    ];
    for leaf in leaves {
        let matcher = LeafMatcher::new(&leaf);
        let (found, took) = timed(|| lines.iter().filter(|line| matcher.matches(line)).count());
        println!("match {:<20} {:>8.0} MB/s, {found} lines", leaf.to_string(), megabytes(text) / took.as_secs_f64());
    }
}

fn indexing(text: &str, lines: &[&str]) -> Vec<u8> {
    let (blob, took) = timed(|| {
        let mut writer = TextIndexWriter::new(&["message".to_owned()], 1 << 30).expect("an index is made");
        for line in lines {
            writer.add_row(&mut [(0, *line)].into_iter()).expect("a row is indexed");
        }
        writer.finish().expect("an index is finished")
    });
    let share = 100.0 * blob.len() as f64 / text.len() as f64;
    println!("index {:>29.0} MB/s, {share:.1} % of the text", megabytes(text) / took.as_secs_f64());
    blob
}

fn searching(blob: Vec<u8>) {
    let source = Arc::new(Bytes::from(blob));
    let (index, took) = timed(|| TextIndex::open(source.clone()).expect("an index opens"));
    println!("open {took:>32.0?}");
    for leaf in [Leaf::Term("info".into()), Leaf::Term("10.0.0.17".into()), Leaf::Prefix("4".into())] {
        for turn in ["first", "again"] {
            let (hits, took) = timed(|| index.leaf(None, &leaf).expect("a search is answered"));
            let name = leaf.to_string();
            println!("find {name:<12} {turn} {took:>13.0?}, sure {}, maybe {}", hits.sure.len(), hits.maybe.len());
        }
    }
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = black_box(work());
    (result, start.elapsed())
}

fn megabytes(text: &str) -> f64 {
    text.len() as f64 / 1e6
}

/// Lines with a few common words, some ids, and numbers that hardly repeat.
fn made_up(lines: u64) -> String {
    let mut text = String::new();
    let mut seed = 42u64;
    for line in 0..lines {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (level, ip, id) =
            (["INFO", "INFO", "INFO", "WARN", "error"][(seed >> 60) as usize % 5], seed >> 40 & 63, seed >> 16);
        text.push_str(&format!(
            "2026-11-21T06:{:02}:{:02}.{:03}Z {level} http.server peer=10.0.0.{ip} GET /api/v1/users/{} took {} ms, trace {id:016x}\n",
            line / 60 % 60, line % 60, line % 1000, seed >> 50, seed >> 55,
        ));
    }
    text
}
