//! The rules of the house: maps that are true, and rooms that import only whom they may (ARCHITECTURE.md).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::repository;

/// Who may import whom, dependencies of tests included.
const ROOMS: [(&str, &[&str]); 15] = [
    ("proto", &["mutation"]),
    ("storage", &["proto", "mutation"]),
    ("index", &["proto", "mutation"]),
    ("transport", &["proto", "mutation"]),
    ("query", &["proto", "storage", "index", "mutation"]),
    ("broker", &["proto", "storage", "index", "query", "transport", "mutation"]),
    ("backup", &["proto", "mutation"]),
    ("client", &["proto", "mutation"]),
    ("gateway", &["proto", "query", "broker", "mutation"]),
    ("node", &["proto", "storage", "index", "query", "transport", "broker", "backup", "client", "gateway", "mutation"]),
    ("bench/log", &["proto", "broker", "client", "gateway"]),
    ("bench/rows", &["proto", "client", "bench-log"]),
    ("bench/cluster", &["proto", "client", "bench-log"]),
    ("jepsen", &["proto", "client"]),
    ("tests/mutation", &[]),
];

#[test]
fn rooms_import_only_whom_they_may() {
    for (room, allowed) in ROOMS {
        let text = fs::read_to_string(repository().join(room).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = toml::from_str(&text).unwrap();
        let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
        let named = sections.iter().filter_map(|section| manifest.get(*section)?.as_table());
        for name in named.flat_map(toml::Table::keys) {
            if let Some(other) = name.strip_prefix("stratalog-") {
                assert!(allowed.contains(&other), "{room} must not import {other}");
            }
        }
    }
}

#[test]
fn every_member_of_the_workspace_has_a_rule() {
    let text = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = toml::from_str(&text).unwrap();
    let members = manifest["workspace"]["members"].as_array().unwrap().iter().map(|m| m.as_str().unwrap());
    let ruled: BTreeSet<&str> = ROOMS.iter().map(|(room, _)| *room).collect();
    assert_eq!(members.collect::<BTreeSet<_>>(), ruled);
}

/// Cargo reads the manifests of all members, whichever it builds.
#[test]
fn the_image_is_built_of_all_members() {
    let text = fs::read_to_string(repository().join("deploy/Dockerfile.dockerignore")).unwrap();
    let sent: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix('!')).collect();
    for (room, _) in ROOMS {
        let outermost = room.split('/').next().unwrap();
        assert!(sent.contains(room) || sent.contains(outermost), "deploy/Dockerfile.dockerignore leaves out {room}");
    }
}

/// Planted bugs, the simulated disk and fuzz targets are for tests: nothing that a release is built from asks for them.
#[test]
fn no_release_has_planted_bugs() {
    let of_tests = ["sabotage", "simulation", "fuzzing"];
    for (room, _) in ROOMS {
        let text = fs::read_to_string(repository().join(room).join("Cargo.toml")).unwrap();
        let mut manifest: toml::Table = toml::from_str(&text).unwrap();
        let features = manifest.remove("features");
        let defaults = features.as_ref().and_then(|features| features.get("default")).map(toml::Value::to_string);
        manifest.remove("dev-dependencies");
        manifest.remove("test");
        let asked = manifest.to_string() + &defaults.unwrap_or_default();
        let named = of_tests.iter().find(|feature| asked.contains(&format!("\"{feature}\"")));
        assert_eq!(named, None, "{room} asks for it outside of its tests");
    }
}

#[test]
fn only_the_raft_folder_names_openraft() {
    for source in files(&repository(), "rs") {
        let named = source.strip_prefix(repository()).unwrap();
        if named.starts_with("broker/src/raft") || named.starts_with("tests") {
            continue;
        }
        let text = fs::read_to_string(&source).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        assert!(!code.into_iter().any(|line| line.contains("openraft")), "{} names openraft", named.display());
    }
}

/// Documents write paths of the repository as code, such as `storage/src/lib.rs` or `docs/adr/`.
#[test]
fn every_path_that_the_documents_name_exists() {
    let root = repository();
    let documents: Vec<PathBuf> = files(&root, "md");
    assert!(documents.len() >= 5, "the documents were not found");
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for path in named_paths(&text) {
            assert!(root.join(path).exists(), "{} names {path}, which does not exist", document.display());
        }
        for link in relative_links(&text) {
            let target = document.parent().unwrap().join(link);
            assert!(target.exists(), "{} links to {link}, which does not exist", document.display());
        }
    }
}

/// Code spans that begin with a folder at the root of the repository and a slash.
fn named_paths(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    let spans = prose.flat_map(|prose| prose.split('`').skip(1).step_by(2));
    spans.filter(|span| {
        let first = span.split('/').next().unwrap_or_default();
        let rooms = ["tests", "bench", "deploy", "docs", "console", "fuzz", "jepsen", ".ci"];
        let known = rooms.contains(&first) || ROOMS.iter().any(|(room, _)| *room == first);
        known && span.contains('/') && !span.contains([' ', '<', '*', '{', '…'])
    })
}

/// Targets of Markdown links that stay in the repository.
fn relative_links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    files.filter(|file| !file.is_empty() && !file.contains("://") && !file.contains(' '))
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found
}
