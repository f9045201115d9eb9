//! The arrows between crates and layers, and the length of files: what no compiler checks, and what erodes first.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// The longest source file, in lines. A longer file does more than one thing.
const LINES_MAX: usize = 400;

/// The layers of `shared`, each with those that it may use: only earlier ones.
const SHARED: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("protocol", &["domain"]),
    ("process", &[]),
    ("merchants_file", &["domain", "protocol", "process"]),
    ("messaging", &["domain", "protocol", "process"]),
];

/// The modules of `ingest`, each with those that it may use: only earlier ones.
const INGEST: &[(&str, &[&str])] = &[
    ("addresses", &[]),
    ("rate_limit", &[]),
    ("reading", &[]),
    ("request", &[]),
    ("outcome", &[]),
    ("capacity", &[]),
    ("connection", &[]),
    ("config", &[]),
    ("meters", &["outcome"]),
    ("refusal", &["addresses", "outcome", "request"]),
    ("body", &["outcome", "reading", "request"]),
    ("authenticate", &["outcome", "rate_limit", "refusal", "request"]),
    ("state", &["config", "meters", "rate_limit", "reading", "refusal"]),
    ("callbacks", &["authenticate", "body", "outcome", "refusal", "request", "state"]),
    ("server", &["addresses", "callbacks", "capacity", "config", "connection", "refusal", "state"]),
];

/// The modules of `worker`. Their arrows are held by name further down, because the store names types of the batch.
const WORKER: &[&str] = &["batch", "config", "operator", "run", "store", "tasks", "terminal"];

#[test]
fn layers_use_only_the_layers_below_them() {
    for (package, layers) in [("shared", SHARED), ("ingest", INGEST)] {
        for (at, (layer, uses)) in layers.iter().enumerate() {
            let below: Vec<&str> = layers[..at].iter().map(|(name, _)| *name).collect();
            assert!(
                uses.iter().all(|name| below.contains(name)),
                "{package}: {layer} uses a layer that is not below it"
            );
            for path in sources(&files_of(package, layer)) {
                for used in used_modules(&fs::read_to_string(&path).unwrap()) {
                    let is_allowed = used == *layer || uses.contains(&used.as_str());
                    assert!(is_allowed, "{} uses crate::{used}, and {layer} may not", path.display());
                }
            }
        }
    }
}

#[test]
fn every_source_file_of_the_product_belongs_to_a_known_layer() {
    let names = |layers: &[(&'static str, &[&str])]| layers.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    for (package, layers) in [("shared", names(SHARED)), ("ingest", names(INGEST)), ("worker", WORKER.to_vec())] {
        let folder = project().join(package).join("src");
        for path in sources(&[&format!("{package}/src")]) {
            let relative = path.strip_prefix(&folder).unwrap();
            let layer = relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs");
            let is_known = layers.contains(&layer) || ["lib", "main"].contains(&layer);
            assert!(is_known, "{} belongs to no layer that this test knows: add it", path.display());
        }
        for layer in layers {
            assert!(!files_of(package, layer).is_empty(), "{package} has no layer {layer} any more");
        }
    }
}

#[test]
fn crates_depend_only_on_the_crates_below_them() {
    for member in members().iter().map(String::as_str).chain(["testing/fuzz"]) {
        let name = member.rsplit('/').next().unwrap();
        let is_product = !member.starts_with("testing/");
        let below: &[&str] = match name {
            "shared" | "signer" => &[],
            "ingest" | "worker" => &["shared"],
            "kit" => &["shared", "signer"],
            _ => &["shared", "ingest", "worker", "signer", "kit"],
        };
        // What ships may use the kit in its tests, and only there.
        let in_tests: &[&str] = if is_product { &["signer", "kit"] } else { &[] };
        let manifest: toml::Table =
            fs::read_to_string(project().join(member).join("Cargo.toml")).unwrap().parse().unwrap();
        let tables = [("dependencies", &[][..]), ("build-dependencies", &[]), ("dev-dependencies", in_tests)];
        for (table, also) in tables {
            let dependencies = manifest.get(table).and_then(toml::Value::as_table);
            for dependency in dependencies.into_iter().flat_map(toml::Table::keys).map(String::as_str) {
                let is_ours = members().iter().any(|other| other.rsplit('/').next() == Some(dependency));
                let is_allowed = !is_ours || below.contains(&dependency) || also.contains(&dependency);
                assert!(is_allowed, "{name} has {dependency} in its {table}, and may not");
            }
        }
    }
}

#[test]
fn the_domain_and_the_protocol_are_pure() {
    let domain = ["shared/src/domain", "shared/src/domain.rs"];
    for name in ["tracing", "metrics", "async fn", "Utc::now"] {
        assert_absent(&domain, &[], name);
    }
    for place in ["domain", "protocol"] {
        for name in ["std::fs", "std::env", "std::net", "tokio", "actix_web", "lapin", "diesel"] {
            assert_absent(&files_of("shared", place), &[], name);
        }
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

/// A module's own file and its folder, those of the two that exist.
fn files_of(package: &str, module: &str) -> Vec<String> {
    let both = [format!("{package}/src/{module}.rs"), format!("{package}/src/{module}")];
    both.into_iter().filter(|path| project().join(path).exists()).collect()
}

/// The top-level modules of its own crate that `text` names, comments aside: `crate::name` and `crate::{name, ...}`.
fn used_modules(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
    let mut used = Vec::new();
    for rest in code.join("\n").split("crate::").skip(1) {
        let list = rest.strip_prefix('{').map_or(rest, |list| list.split('}').next().unwrap());
        let names = if rest.starts_with('{') { list.split(',').collect() } else { vec![list] };
        let is_part = |character: char| character.is_alphanumeric() || character == '_';
        used.extend(names.into_iter().map(|name| name.trim().chars().take_while(|part| is_part(*part)).collect()));
    }
    used.retain(|name: &String| name.starts_with(char::is_lowercase));
    used
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
    sources(&folders)
}

/// No code (comments aside) under `places`, except under `homes`, names `word`.
#[track_caller]
fn assert_absent(places: &[impl AsRef<str> + std::fmt::Debug], homes: &[&str], word: &str) {
    let homes: Vec<PathBuf> = homes.iter().map(|home| project().join(home)).collect();
    for path in sources(places).iter().filter(|path| !homes.iter().any(|home| path.starts_with(home))) {
        let text = fs::read_to_string(path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap();
            assert!(!names(code, word), "{}:{} names {word}: {line}", path.display(), number + 1);
        }
    }
}

/// Whether `word` occurs in `code`, and not as a part of a longer word.
fn names(code: &str, word: &str) -> bool {
    let continues = |character: char| character.is_alphanumeric() || character == '_';
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        !before.ends_with(continues) && (word.ends_with(':') || !after.starts_with(continues))
    })
}

/// Every `.rs` file under `places`, which may be files themselves; build folders aside.
fn sources(places: &[impl AsRef<str> + std::fmt::Debug]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = places.iter().map(|place| project().join(place.as_ref())).collect();
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
