//! What the system says of a process, and the children that this program is itself.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::until::until_within;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// How long a child may take to listen.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// The kernel counts processor time in these.
const TICKS_PER_SECOND: f64 = 100.0;

/// Resident memory in MB (millions of bytes), the most that it ever was.
///
/// # Errors
/// There is no such process.
pub fn peak_resident_mb(pid: u32) -> Result<f64> {
    memory_mb(pid, "VmHWM:")
}

/// Resident memory in MB, now.
///
/// # Errors
/// There is no such process.
pub fn resident_mb(pid: u32) -> Result<f64> {
    memory_mb(pid, "VmRSS:")
}

fn memory_mb(pid: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context("an odd /proc/PID/status")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0 / 1e6)
}

/// Processor time that this process has used, in seconds.
///
/// # Errors
/// The system does not say.
pub fn own_cpu_seconds() -> Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // The name, in parentheses, may hold anything.
    let (_, after) = stat.rsplit_once(')').context("an odd /proc/self/stat")?;
    let mut fields = after.split_whitespace().skip(11);
    let mut ticks = || -> Result<f64> { Ok(fields.next().context("too few fields")?.parse()?) };
    Ok((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

/// This program in another role. It ends with the value. URLs with passwords go through the environment, for other users
/// can read a command line.
///
/// # Errors
/// It cannot be started.
pub fn spawn(role: &str, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Child> {
    let this = std::env::current_exe()?;
    let mut command = Command::new(this);
    command.arg(role).args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true).spawn().with_context(|| role.to_owned())
}

/// A server in another role, once it listens.
///
/// # Errors
/// It does not start.
pub async fn serve(role: &str, address: SocketAddr, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Child> {
    let mut child = spawn(role, &[&["--listen", &address.to_string()], arguments].concat(), environment)?;
    until_within(START_PATIENCE, &format!("{role} listens"), async || {
        ensure!(child.try_wait()?.is_none(), "it has ended");
        Ok(TcpStream::connect(address).await?)
    })
    .await?;
    Ok(child)
}
