//! A configuration that cannot work ends the program with 64 and one line that names the variable.

use std::net::TcpListener;

use kit::TestResult;
use kit::merchants::{MERCHANT, MerchantsFile};
use kit::program::Launch;

#[tokio::test]
async fn every_bad_variable_is_named_on_one_line() -> TestResult {
    let merchants = MerchantsFile::write()?;
    let broken = MerchantsFile::write()?;
    broken.replace("[[merchant]]\nmch_id = \"1\"\nv2_keys = [\"hunter2\", 7]\n")?;
    let broken = broken.path().to_string_lossy().into_owned();
    for (variable, value) in [
        ("AMQP_URLS", ""),
        ("AMQP_URLS", "http://user:hunter2@host"),
        ("AMQP_URLS", "amqp://user:hunter2@host:port/%2f"),
        ("AMQP_URLS", "amqp://localhost,hunter2"),
        ("AMQP_URLS", "amqp://user:hunter2@broker.example.com/%2f"),
        ("MERCHANTS_FILE", "/does/not/exist"),
        ("MERCHANTS_FILE", &broken),
        ("INGEST_ADDR", "8080"),
        ("INGEST_ADMIN_ADDR", "everywhere"),
        ("PUBLISH_LANES", "0"),
        ("PUBLISH_LANES", "9"),
        ("PUBLISH_LANES", "four"),
        ("IN_FLIGHT_MAX", "0"),
        ("IN_FLIGHT_MAX", "-1"),
        ("READING_MIB_MAX", "0"),
        ("READING_MIB_MAX", "4097"),
        ("READINESS_GRACE_SECONDS", "61"),
        ("LOG_FORMAT", "xml"),
    ] {
        let launch = Launch::ingest("amqp://127.0.0.1:1/%2f", merchants.path())?;
        let finished = launch.env(variable, value).finish().await?;
        let said = &finished.stderr;
        assert_eq!(finished.code, Some(64), "{variable}={value}: {said}");
        assert!(said.starts_with(&format!("{variable}: ")), "{variable}={value}: {said}");
        assert_eq!(said.lines().count(), 1, "{variable}={value}: {said}");
        assert!(!said.contains("hunter2"), "{variable}={value}: {said}");
    }
    let launch = Launch::ingest("amqp://127.0.0.1:1/%2f", merchants.path())?.without_env("MERCHANTS_FILE");
    let finished = launch.finish().await?;
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(64), "MERCHANTS_FILE: is required\n"));
    Ok(())
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() -> TestResult {
    let merchants = MerchantsFile::write()?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let addr = taken.local_addr()?.to_string();
    let launch = Launch::ingest("amqp://127.0.0.1:1/%2f", merchants.path())?.env("INGEST_ADDR", &addr);
    let finished = launch.finish().await?;
    assert_eq!(finished.code, Some(64), "{finished:?}");
    assert!(finished.stderr.starts_with(&format!("INGEST_ADDR: {addr}: ")), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.stderr);
    Ok(())
}

#[tokio::test]
async fn check_config_prints_fingerprints_and_no_keys() -> TestResult {
    let merchants = MerchantsFile::write()?;
    let launch = Launch::ingest("amqps://user:hunter2@broker/%2f", merchants.path())?.argument("check-config");
    let finished = launch.clone().finish().await?;
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stdout.contains(MERCHANT) && finished.stdout.contains("broker:5671"), "{finished:?}");
    assert!(!finished.stdout.contains("hunter2") && !finished.stdout.contains("key-of-the"), "{finished:?}");

    merchants.replace("")?;
    let finished = launch.finish().await?;
    assert_eq!(finished.code, Some(64), "{finished:?}");
    assert!(finished.stderr.starts_with("MERCHANTS_FILE: "), "{finished:?}");
    Ok(())
}

#[tokio::test]
async fn healthcheck_tells_a_live_process_from_none() -> TestResult {
    let merchants = MerchantsFile::write()?;
    let launch = Launch::ingest("amqp://127.0.0.1:1/%2f", merchants.path())?;
    let healthcheck = launch.clone().argument("healthcheck");
    assert_eq!(healthcheck.clone().finish().await?.code, Some(1));
    let ingest = launch.spawn()?;
    kit::until("the process is alive", async || {
        let finished = healthcheck.clone().finish().await?;
        anyhow::ensure!(finished.code == Some(0), "{finished:?}");
        Ok(())
    })
    .await?;
    drop(ingest);
    Ok(())
}

#[tokio::test]
async fn help_lists_every_variable_and_shows_no_secret() -> TestResult {
    let merchants = MerchantsFile::write()?;
    let launch = Launch::ingest("amqps://user:hunter2@broker/%2f", merchants.path())?.argument("--help");
    let finished = launch.finish().await?;
    assert_eq!(finished.code, Some(0));
    for variable in [
        "AMQP_URLS",
        "MERCHANTS_FILE",
        "INGEST_ADDR",
        "INGEST_ADMIN_ADDR",
        "PUBLISH_LANES",
        "IN_FLIGHT_MAX",
        "READING_MIB_MAX",
        "READINESS_GRACE_SECONDS",
        "LOG_FORMAT",
        "RUST_LOG",
    ] {
        assert!(finished.stdout.contains(variable), "{variable} is not in\n{}", finished.stdout);
    }
    assert!(!finished.stdout.contains("hunter2"));
    Ok(())
}
