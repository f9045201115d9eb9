//! Bad configuration ends a program before it opens a socket, with one line that names the variable.

use std::{env, fs};

use anyhow::Result;
use kit::TestResult;
use kit::merchants::{KEY, MerchantsFile};
use kit::program::{Finished, Launch};

/// `INGEST_ADDR`, as in what an operator sets, and values that it cannot have.
type Bad = (&'static str, &'static [&'static str]);

/// What is no broker, and what would send a password through a network unencrypted.
const BROKERS: &[&str] = &[
    "",
    "localhost",
    "http://localhost",
    "amqp://",
    "amqps://h,,amqps://i",
    "amqps://u:hunter2@h:port",
    "amqp://u:hunter2@mq.invalid/%2f",
    "amqp://127.0.0.1,amqp://u:hunter2@10.0.0.1?heartbeat=5",
    "amqps://u:hunter2@mq.invalid?plain=yes",
];
/// What is no database, and what would send a password through a network unencrypted.
const DATABASES: &[&str] = &[
    "",
    "hunter2",
    "mysql://u:hunter2@h/d",
    "postgres://u:hunter2@h:port/d?sslmode=disable",
    "postgres://u:hunter2@db.invalid/d",
    "postgres://u:hunter2@127.0.0.1/d?hostaddr=10.0.0.1",
    "postgres://u:hunter2@127.0.0.1/d?sslmode=prefer",
    "postgres://u:hunter2@127.0.0.1/d?sslmode=allow",
    "postgres://u:hunter2@127.0.0.1/d?sslmode=hunter2",
    "postgres://u:hunter2@127.0.0.1/d?sslmode=verify-full&sslrootcert=/nowhere/at/all",
];

const INGEST: [Bad; 8] = [
    ("AMQP_URLS", BROKERS),
    ("MERCHANTS_FILE", &["/nowhere/at/all"]),
    ("INGEST_ADDR", &["", "8080", "localhost:http", "127.0.0.1:99999"]),
    ("INGEST_ADMIN_ADDR", &["", "8081", "127.0.0.1"]),
    ("PUBLISH_LANES", &["", "0", "9", "four", "-1"]),
    ("IN_FLIGHT_MAX", &["", "0", "65537", "many"]),
    ("READINESS_GRACE_SECONDS", &["", "61", "-1", "soon"]),
    ("LOG_FORMAT", &["", "xml"]),
];

const WORKER: [Bad; 9] = [
    ("AMQP_URLS", BROKERS),
    ("DATABASE_URL", DATABASES),
    ("MERCHANTS_FILE", &["/nowhere/at/all"]),
    ("WORKER_ADMIN_ADDR", &["", "8082", "127.0.0.1"]),
    ("WORKER_LANES", &["", "0", "65", "two"]),
    ("WORKER_BATCH_MAX", &["", "0", "4097", "many"]),
    ("WAIT_LIMIT_SECONDS", &["", "0", "604801", "long"]),
    ("WORKER_QUEUES", &["", "a,,b", " "]),
    ("LOG_FORMAT", &["", "xml"]),
];

#[tokio::test]
async fn a_bad_variable_of_ingest_is_named() -> TestResult {
    let merchants = MerchantsFile::write()?;
    for (variable, values) in INGEST {
        for value in values {
            let launch = Launch::ingest("amqp://127.0.0.1:1", merchants.path())?.env(variable, value);
            assert_refused(&launch.finish().await?, variable, value);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_bad_variable_of_the_worker_is_named() -> TestResult {
    let merchants = MerchantsFile::write()?;
    for (variable, values) in WORKER {
        for value in values {
            assert_refused(&worker(&merchants)?.env(variable, value).finish().await?, variable, value);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_variable_that_is_required_is_missed_by_name() -> TestResult {
    let merchants = MerchantsFile::write()?;
    let ingest = Launch::ingest("amqp://127.0.0.1:1", merchants.path())?;
    assert_refused(&ingest.without_env("MERCHANTS_FILE").finish().await?, "MERCHANTS_FILE", "");
    for variable in ["MERCHANTS_FILE", "DATABASE_URL"] {
        assert_refused(&worker(&merchants)?.without_env(variable).finish().await?, variable, "");
    }
    let migrate = Launch::new("worker").argument("migrate");
    assert_refused(&migrate.finish().await?, "DATABASE_URL", "");
    Ok(())
}

#[tokio::test]
async fn a_bad_merchants_file_is_named_with_the_place_and_without_the_key() -> TestResult {
    let merchants = MerchantsFile::write()?;
    for text in [
        String::new(),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [{KEY}]"),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = \"{KEY}\""),
        format!("[[merchant]]\nmch_id = \"m\"\nv2_keys = [\"{KEY}\"]\nv3 = 1"),
    ] {
        merchants.replace(&text)?;
        let ingest = Launch::ingest("amqp://127.0.0.1:1", merchants.path())?;
        assert_refused(&ingest.finish().await?, "MERCHANTS_FILE", KEY);
        assert_refused(&worker(&merchants)?.finish().await?, "MERCHANTS_FILE", KEY);
    }
    Ok(())
}

#[tokio::test]
async fn help_lists_every_variable() -> TestResult {
    for (program, variables) in [("ingest", INGEST.as_slice()), ("worker", WORKER.as_slice())] {
        let help = Launch::new(program).argument("--help").finish().await?;
        assert_eq!(help.code, Some(0));
        for (variable, _) in variables {
            assert!(help.stdout.contains(variable), "{program} --help does not say {variable}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_check_of_the_configuration_opens_no_socket_and_shows_no_key() -> TestResult {
    let merchants = MerchantsFile::write()?;
    let ingest = Launch::ingest("amqp://127.0.0.1:1", merchants.path())?.argument("check-config");
    let worker = Launch::new("worker")
        .argument("check-config")
        .env("DATABASE_URL", "postgres://u:hunter2@127.0.0.1:1/d")
        .env("MERCHANTS_FILE", merchants.path().to_str().unwrap());
    for launch in [ingest, worker] {
        let checked = launch.finish().await?;
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert!(checked.stdout.contains(kit::merchants::MERCHANT), "{checked:?}");
        assert!(!checked.stdout.contains(KEY) && !checked.stdout.contains("hunter2"), "{checked:?}");
    }
    Ok(())
}

/// Allowed, because the URL says so; but the log has it, without the password.
#[tokio::test]
async fn a_connection_that_is_not_encrypted_is_logged_at_the_start() -> TestResult {
    let merchants = MerchantsFile::write()?;
    let (broker, database) =
        ("amqp://u:hunter2@mq.invalid/%2f?plain=yes", "postgres://u:hunter2@db.invalid/d?sslmode=disable");
    let folder = env::temp_dir();
    for (program, launch) in [
        ("ingest", Launch::ingest(broker, merchants.path())?),
        ("worker", Launch::worker(broker, database, merchants.path())?),
    ] {
        let log = folder.join(format!("{program}-{}.log", std::process::id()));
        let running = launch.log_to(log.clone()).spawn()?;
        kit::until("it has started", async || {
            anyhow::ensure!(running.admin_page("/healthz").await.is_ok(), "no answer yet");
            Ok(())
        })
        .await?;
        drop(running);
        let said = fs::read_to_string(&log)?;
        fs::remove_file(&log)?;
        let warned = |host: &str| {
            said.lines().any(|line| line.contains("WARN") && line.contains(host) && line.contains("not encrypted"))
        };
        assert!(warned("mq.invalid"), "{program}: {said}");
        assert_eq!(warned("db.invalid"), program == "worker", "{program}: {said}");
        assert!(!said.contains("hunter2"), "{program}: {said}");
    }
    Ok(())
}

fn worker(merchants: &MerchantsFile) -> Result<Launch> {
    Launch::worker("amqp://127.0.0.1:1", "postgres://u:p@127.0.0.1:1/d", merchants.path())
}

#[track_caller]
fn assert_refused(finished: &Finished, variable: &str, value: &str) {
    let said = format!("{variable}={value:?}: {finished:?}");
    assert_eq!(finished.code, Some(64), "{said}");
    assert_eq!(finished.stderr.lines().count(), 1, "{said}");
    assert!(finished.stderr.starts_with(variable) || finished.stderr.contains(&format!(" {variable}")), "{said}");
    assert_eq!(finished.stdout, "", "{said}");
    for secret in ["hunter2", KEY] {
        assert!(!finished.stderr.contains(secret), "a secret is shown: {said}");
    }
}
