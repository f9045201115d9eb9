//! The arrows between the layers, and the length of files: what no compiler checks, and erodes first.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// The longest source file, in lines. What is longer does more than one thing.
const LINES_MAX: usize = 400;

#[test]
fn the_domain_knows_no_other_layer() {
    let others = ["protocol", "merchants_file", "messaging", "process"];
    for name in others {
        assert_absent(&["shared/src/domain", "shared/src/domain.rs"], &[], &format!("crate::{name}"));
        assert_absent(&["shared/src/domain", "shared/src/domain.rs"], &[], &format!("super::super::{name}"));
    }
    for library in ["tokio", "actix_web", "lapin", "diesel", "tracing", "metrics", "async fn"] {
        assert_absent(&["shared/src/domain", "shared/src/domain.rs"], &[], library);
    }
}

#[test]
fn the_protocol_knows_no_layer_above_it_and_does_no_io() {
    let protocol = ["shared/src/protocol", "shared/src/protocol.rs"];
    for layer in ["crate::merchants_file", "crate::messaging", "crate::process"] {
        assert_absent(&protocol, &[], layer);
    }
    for name in ["std::fs", "std::env", "std::net", "tokio", "actix_web", "lapin"] {
        assert_absent(&protocol, &[], name);
    }
}

#[test]
fn lapin_has_one_home_in_the_programs() {
    assert_absent(
        &["shared/src", "ingest/src", "worker/src"],
        &["shared/src/messaging", "shared/src/messaging.rs"],
        "lapin::",
    );
}

#[test]
fn sql_has_one_home() {
    let programs = ["shared/src", "ingest/src", "worker/src"];
    // The rest of the worker may carry a connection and an error of diesel's, and open a transaction.
    for name in ["diesel::sql_query", "diesel::sql_types", "RunQueryDsl", "QueryFragment", "QueryableByName"] {
        assert_absent(&programs, &["worker/src/store", "worker/src/store.rs"], name);
    }
}

#[test]
fn the_worker_decides_without_io() {
    let pure = ["message.rs", "outcome.rs", "plan.rs", "plan"].map(|file| format!("worker/src/batch/{file}"));
    let pure = pure.each_ref().map(String::as_str);
    for name in ["crate::store", "crate::tasks", "super::transaction", "diesel", "diesel_async", "tokio", "async fn"] {
        assert_absent(&pure, &[], name);
    }
}

#[test]
fn the_arrows_of_the_worker_point_from_tasks_through_batch_to_store() {
    let store = ["worker/src/store", "worker/src/store.rs"];
    // Of a batch it knows the pure types that it writes.
    for name in ["fresh", "transaction", "isolate", "self_check"] {
        assert_absent(&store, &[], &format!("batch::{name}"));
    }
    for name in ["crate::tasks", "crate::operator", "crate::run", "crate::config"] {
        assert_absent(&store, &[], name);
        assert_absent(&["worker/src/batch", "worker/src/batch.rs"], &[], name);
    }
    for name in ["crate::operator", "crate::run", "crate::config"] {
        assert_absent(&["worker/src/tasks", "worker/src/tasks.rs"], &[], name);
    }
}

#[test]
fn no_task_of_the_worker_leans_on_another() {
    for (task, others) in
        [("lane", ["sweeper", "relay"]), ("sweeper", ["lane", "relay"]), ("relay", ["lane", "sweeper"])]
    {
        let files = [format!("worker/src/tasks/{task}.rs"), format!("worker/src/tasks/{task}")];
        let files: Vec<&str> = files.iter().map(String::as_str).filter(|file| project().join(file).exists()).collect();
        for other in others {
            assert_absent(&files, &[], &format!("super::{other}"));
            assert_absent(&files, &[], &format!("tasks::{other}"));
        }
    }
}

#[test]
fn ingest_has_no_database_and_knows_no_other_program() {
    for name in ["diesel", "tokio_postgres", "worker::", "simulator::"] {
        assert_absent(&["ingest/src", "shared/src"], &[], name);
    }
}

#[test]
fn modules_are_never_called_mod_rs() {
    let found: Vec<PathBuf> = sources(&["."]).into_iter().filter(|path| path.ends_with("mod.rs")).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn no_source_file_is_too_long() {
    for path in sources_of_members() {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines, more than {LINES_MAX}", path.display());
    }
}

#[test]
fn every_source_file_opens_with_its_job() {
    for path in sources_of_members() {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{} does not open with `//!`", path.display());
    }
}

#[test]
fn the_image_is_built_from_the_whole_workspace() {
    let dockerfile = fs::read_to_string(project().join("deploy/Dockerfile")).unwrap();
    for member in members() {
        let folder = member.split('/').next().unwrap();
        assert!(dockerfile.contains(&format!("\nCOPY {folder} {folder}\n")), "cargo would miss {member} in the image");
    }
}

/// The folders of the workspace's packages.
fn members() -> Vec<String> {
    let manifest = fs::read_to_string(project().join("Cargo.toml")).unwrap();
    let (_, list) = manifest.split_once("\nmembers = [").unwrap();
    let (list, _) = list.split_once(']').unwrap();
    list.split('"').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

fn sources_of_members() -> Vec<PathBuf> {
    let folders: Vec<String> = members().iter().map(|member| format!("{member}/src")).collect();
    sources(&folders.iter().map(String::as_str).collect::<Vec<_>>())
}

/// No code (comments aside) under `places`, except under `homes`, names `word`.
#[track_caller]
fn assert_absent(places: &[&str], homes: &[&str], word: &str) {
    let homes: Vec<PathBuf> = homes.iter().map(|home| project().join(home)).collect();
    for path in sources(places).iter().filter(|path| !homes.iter().any(|home| path.starts_with(home))) {
        let text = fs::read_to_string(path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            assert!(!names(code, word), "{}:{} names {word}: {line}", path.display(), number + 1);
        }
    }
}

/// Whether `word` stands in `code`, and not as a part of a longer word.
fn names(code: &str, word: &str) -> bool {
    let continues = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !before.ends_with(continues) && (word.ends_with(':') || !after.starts_with(continues))
    })
}

/// Every `.rs` file under `places`, which may be files themselves; build folders aside.
fn sources(places: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = places.iter().map(|place| project().join(place)).collect();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let is_ours = |path: &PathBuf| {
                !path.ends_with("target") && !path.file_name().unwrap().to_string_lossy().starts_with('.')
            };
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()).filter(is_ours));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    assert!(!found.is_empty(), "no source under {places:?}: the test tests nothing");
    found
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
