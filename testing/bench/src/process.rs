//! What the system says of a process, and the children that this program is itself.

use std::collections::BTreeMap;
use std::fs::{self, DirEntry};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kit::until::until_within;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long a child may take until it listens.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// The kernel counts processor time in these.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory in MB (millions of bytes), the most that it ever was.
pub fn peak_resident_mb(pid: u32) -> Result<f64> {
    memory_mb(pid, "VmHWM:")
}

/// Resident memory in MB, now.
pub fn resident_mb(pid: u32) -> Result<f64> {
    memory_mb(pid, "VmRSS:")
}

fn memory_mb(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("an odd /proc/PID/status")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Who uses the processor, by the name of the process.
const PARTIES: [(&str, &str); 5] = [
    ("beam.smp", "broker"),
    ("postgres", "database"),
    ("worker", "worker"),
    ("ingest", "ingest"),
    ("bench", "generator"),
];

/// Processor time that each process of a party on this machine has used so far: its party and seconds, by its directory.
#[derive(Debug)]
pub struct ProcessorTime(BTreeMap<PathBuf, (&'static str, f64)>);

impl ProcessorTime {
    /// Of all processes that live now: to be looked at before a program is stopped.
    pub fn now() -> Result<Self> {
        // One may end while it is looked at.
        let read = |process: PathBuf| Some((used(&fs::read_to_string(process.join("stat")).ok()?)?, process));
        Ok(Self(processes()?.filter_map(read).map(|(used, process)| (process, used)).collect()))
    }

    /// Microseconds that each party has used since `earlier` for each of `count` callbacks.
    #[must_use]
    pub fn since(&self, earlier: &Self, count: usize) -> BTreeMap<&'static str, f64> {
        let mut microseconds = BTreeMap::new();
        for (process, (party, seconds)) in &self.0 {
            let before = earlier.0.get(process).map_or(0.0, |(_, seconds)| *seconds);
            *microseconds.entry(*party).or_default() += (seconds - before) * 1e6 / count.max(1) as f64;
        }
        microseconds
    }
}

/// Their directories: those whose names are numbers. `/proc/self` would be this process once more.
fn processes() -> Result<impl Iterator<Item = PathBuf>> {
    let is_number = |entry: &DirEntry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit);
    Ok(fs::read_dir("/proc")?.flatten().filter(is_number).map(|entry| entry.path()))
}

/// The party of a process and the seconds that it has used, from its `/proc/PID/stat`.
fn used(stat: &str) -> Option<(&'static str, f64)> {
    // The name, in parentheses, may hold anything.
    let (before, after) = stat.rsplit_once(')')?;
    let (_, name) = before.split_once('(')?;
    let (_, party) = PARTIES.into_iter().find(|(known, _)| *known == name)?;
    let mut ticks = after.split_whitespace().skip(11).map_while(|field| field.parse::<f64>().ok());
    Some((party, (ticks.next()? + ticks.next()?) / TICKS_PER_SECOND))
}

/// This program in another role. It ends with the value. URLs with passwords go through the environment, for other users
/// can read a command line.
pub fn spawn(role: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Child> {
    let this = std::env::current_exe()?;
    let mut command = Command::new(this);
    command.arg(role).args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().with_context(|| role.to_owned())
}

/// A server in another role, once it listens.
pub async fn serve(role: &str, address: SocketAddr, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Child> {
    let mut child = spawn(role, &[&["--listen", &address.to_string()], arguments].concat(), environment)?;
    until_within(START_PATIENCE, &format!("{role} listens"), async || {
        ensure!(child.try_wait()?.is_none(), "it has ended");
        Ok(TcpStream::connect(address).await?)
    })
    .await?;
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_process_counts_once() {
        let this = std::process::id().to_string();
        let is_this = |process: &PathBuf| fs::canonicalize(process).is_ok_and(|path| path.ends_with(&this));
        assert_eq!(processes().unwrap().filter(is_this).count(), 1);
    }

    #[test]
    fn a_name_may_hold_anything() {
        let times = "S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20";
        assert_eq!(used(&format!("7 (beam.smp) {times}")), Some(("broker", 2.0)));
        assert_eq!(used(&format!("7 (a) b) {times}")), None);
        assert_eq!(used(""), None);
    }
}
