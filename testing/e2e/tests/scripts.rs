//! What the scripts leave behind when they are killed. They run on files of the test's own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, fs};

use anyhow::Result;
use kit::TestResult;
use uuid::Uuid;

/// Debian asks `policy-rc.d` before it starts a service: 101 forbids it.
const FORBIDDEN: Option<i32> = Some(101);

#[test]
fn an_installation_that_is_killed_forbids_nothing_afterwards() -> TestResult {
    let place = Place::make()?;
    let killed = place.run(
        "forbid_service_starts; COUNTERSIGN_INSTALLS=yes \"$POLICY\"; echo its own: $?; \"$POLICY\"; echo others: $?; kill -KILL $$",
    )?;
    assert_eq!(killed.status.code(), None, "{killed:?}");
    assert_eq!(String::from_utf8(killed.stdout)?, "its own: 101\nothers: 0\n");
    assert!(place.policy().exists() && place.cluster_conf().exists(), "it was not killed before it could clean up");
    assert_ne!(Command::new(place.policy()).status()?.code(), FORBIDDEN);
    Ok(())
}

#[test]
fn the_next_dev_deletes_what_a_killed_installation_has_left() -> TestResult {
    let place = Place::make()?;
    place.run("forbid_service_starts; kill -KILL $$")?;
    let kept =
        place.run("delete_leftovers_of_an_installation; rm \"$POLICY\" \"$CLUSTER_CONF\" 2>/dev/null && echo kept")?;
    assert_eq!(kept.stdout, b"", "{kept:?}");
    assert!(!place.policy().exists() && !place.cluster_conf().exists());

    fs::write(place.policy(), "#!/bin/sh\n# Made by Countersign's ./dev for one installation.\nexit 101\n")?;
    place.run("delete_leftovers_of_an_installation")?;
    assert!(!place.policy().exists(), "what earlier versions left stays");

    fs::write(place.policy(), "#!/bin/sh\nexit 101\n")?;
    place.run("delete_leftovers_of_an_installation")?;
    assert!(place.policy().exists(), "what others have made is gone");

    fs::remove_file(place.policy())?;
    let alive = place.run("forbid_service_starts; delete_leftovers_of_an_installation; [[ -e $POLICY ]] && echo there; allow_service_starts")?;
    assert_eq!(alive.stdout, b"there\n", "an installation that goes on lost its files: {alive:?}");
    assert!(!place.policy().exists());
    Ok(())
}

#[test]
fn secrets_are_made_once_and_fit_each_other() -> TestResult {
    let place = Place::make()?;
    let make = || Command::new(project().join("deploy/make-secrets")).arg(&place.0).output();
    assert!(make()?.status.success());
    let names = [
        "postgres_password",
        "worker_password",
        "rabbitmq_ingest_password",
        "rabbitmq_worker_password",
        "rabbitmq_users.json",
    ];
    let read = || names.iter().map(|name| Ok(fs::read_to_string(place.0.join(name))?)).collect::<Result<Vec<_>>>();
    let first = read()?;
    assert!(
        first
            .iter()
            .take(4)
            .all(|password| password.len() >= 32 && password.chars().all(|c| c.is_ascii_alphanumeric()))
    );
    assert!(make()?.status.success());
    assert_eq!(read()?, first, "a secret changed");
    assert!(!first[4].contains(first[2].trim()), "the users' file holds a password");
    Ok(())
}

/// A folder of the test's own; it is deleted with the value.
struct Place(PathBuf);

impl Place {
    fn make() -> Result<Self> {
        let folder = env::temp_dir().join(format!("scripts-{}", Uuid::now_v7()));
        fs::create_dir(&folder)?;
        Ok(Self(folder))
    }

    fn policy(&self) -> PathBuf {
        self.0.join("policy-rc.d")
    }

    fn cluster_conf(&self) -> PathBuf {
        self.0.join("cluster.conf")
    }

    /// Runs `line` in a shell that has scripts/dev/packages.sh, as root has it.
    fn run(&self, line: &str) -> Result<Output> {
        let prepare = "set -uo pipefail; source scripts/dev/console.sh; source scripts/dev/packages.sh; AS_ROOT=(); \
             stop_what_was_started() { :; }; sudo() { shift; \"$@\"; }; POLICY=$1/policy-rc.d CLUSTER_CONF=$1/cluster.conf";
        let script = format!("{prepare}\n{line}");
        Ok(Command::new("bash").arg("-c").arg(script).arg("bash").arg(&self.0).current_dir(project()).output()?)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
