//! The shipped binaries as child processes: a clean environment, ports of their own, signals, exit codes and logs.
//!
//! A child never outlives its value. Its log is printed when the test fails and deleted when it passes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use uuid::Uuid;

use crate::ports::free_address;
pub use crate::signal::Signal;
use crate::{http, until};

/// A program before it is started.
#[derive(Debug, Clone)]
pub struct Launch {
    program: &'static str,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    open_files: Option<u32>,
    log: Option<PathBuf>,
    public: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// A child process.
pub struct Program {
    name: &'static str,
    child: Child,
    log: PathBuf,
    keeps_log: bool,
    public: Option<SocketAddr>,
    admin: Option<SocketAddr>,
}

/// What a program that ended by itself left behind.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// All of its standard output.
    pub stdout: String,
    /// All of its standard error.
    pub stderr: String,
}

impl Launch {
    /// `program` with no arguments, no ports, and nothing in its environment but a log level.
    #[must_use]
    pub fn new(program: &'static str) -> Self {
        let environment = [("RUST_LOG", "info"), ("LOG_FORMAT", "text")];
        Self {
            program,
            arguments: Vec::new(),
            environment: environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            open_files: None,
            log: None,
            public: None,
            admin: None,
        }
    }

    /// An ingest on ports of its own.
    pub fn ingest(amqp: &str, merchants: &Path) -> Result<Self> {
        let mut launch = Self::new("ingest").env("AMQP_URLS", amqp).env("MERCHANTS_FILE", path(merchants)?);
        let (public, admin) = (free_address()?, free_address()?);
        launch.public = Some(public);
        launch.admin = Some(admin);
        Ok(launch
            .env("INGEST_ADDR", &public.to_string())
            .env("INGEST_ADMIN_ADDR", &admin.to_string())
            // No load balancer has to notice anything.
            .env("READINESS_GRACE_SECONDS", "0"))
    }

    /// A worker on an admin port of its own.
    pub fn worker(amqp: &str, database: &str, merchants: &Path) -> Result<Self> {
        let admin = free_address()?;
        let mut launch = Self::new("worker")
            .argument("run")
            .env("AMQP_URLS", amqp)
            .env("DATABASE_URL", database)
            .env("MERCHANTS_FILE", path(merchants)?)
            .env("WORKER_ADMIN_ADDR", &admin.to_string());
        launch.admin = Some(admin);
        Ok(launch)
    }

    /// With one more argument.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// With these arguments more.
    #[must_use]
    pub fn arguments(self, arguments: &[&str]) -> Self {
        arguments.iter().fold(self, |launch, argument| launch.argument(argument))
    }

    /// With this variable set.
    #[must_use]
    pub fn env(mut self, variable: &str, value: &str) -> Self {
        self.environment.insert(variable.to_owned(), value.to_owned());
        self
    }

    #[must_use]
    pub fn without_env(mut self, variable: &str) -> Self {
        self.environment.remove(variable);
        self
    }

    /// Limits the open file descriptors.
    #[must_use]
    pub fn open_files(mut self, descriptors: u32) -> Self {
        self.open_files = Some(descriptors);
        self
    }

    /// With its log at the end of this file, which is kept.
    #[must_use]
    pub fn log_to(mut self, file: PathBuf) -> Self {
        self.log = Some(file);
        self
    }

    /// Where `/readyz` and `/metrics` will be.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Where callbacks will be taken.
    #[must_use]
    pub fn public(&self) -> Option<SocketAddr> {
        self.public
    }

    /// Starts it, and waits until it says that it can do its job.
    pub async fn start(self) -> Result<Program> {
        let mut program = self.spawn()?;
        program.until_ready().await?;
        Ok(program)
    }

    /// Starts it and waits for nothing.
    pub fn spawn(self) -> Result<Program> {
        let mut command = self.command()?;
        let keeps_log = self.log.is_some();
        let log = match self.log {
            Some(log) => log,
            None => log_folder()?.join(format!("{}-{}.log", self.program, Uuid::now_v7())),
        };
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        Ok(Program { name: self.program, child, log, keeps_log, public: self.public, admin: self.admin })
    }

    /// Runs it to its end.
    pub async fn finish(self) -> Result<Finished> {
        let mut command = self.command()?;
        let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output()).await??;
        Ok(Finished {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    fn command(&self) -> Result<Command> {
        let binary = build_folder()?.join(self.program);
        ensure!(binary.exists(), "{} is not built: run the tests through ./dev test", binary.display());
        let mut command = match self.open_files {
            None => Command::new(binary),
            Some(descriptors) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"")]).arg(binary);
                shell
            }
        };
        command.args(&self.arguments).env_clear().envs(&self.environment);
        Ok(command)
    }
}

impl Program {
    /// Where ingest takes callbacks.
    ///
    /// # Panics
    /// This program has no public port.
    #[must_use]
    pub fn public(&self) -> SocketAddr {
        self.public.unwrap_or_else(|| panic!("{} has no public port", self.name))
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `/readyz` says yes.
    pub async fn until_ready(&mut self) -> Result<()> {
        let admin = self.admin()?;
        let (name, child) = (self.name, &mut self.child);
        let ended = until(&format!("{name} is ready"), async || {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            let response = http::get(admin, "/readyz").await?;
            ensure!(response.status.is_success(), "/readyz: {} {:?}", response.status, response.body);
            Ok(None)
        })
        .await?;
        ended.map_or(Ok(()), |status| bail!("{name} ended at its start: {status}"))
    }

    /// Waits until `/readyz` says no.
    pub async fn until_not_ready(&self) -> Result<()> {
        let admin = self.admin()?;
        until(&format!("{} is not ready", self.name), async || {
            let response = http::get(admin, "/readyz").await?;
            ensure!(!response.status.is_success(), "/readyz: {}", response.status);
            Ok(())
        })
        .await
    }

    /// The page at `path` of the admin port.
    pub async fn admin_page(&self, path: &str) -> Result<String> {
        let response = http::get(self.admin()?, path).await?;
        ensure!(response.status.is_success(), "{path}: {}", response.status);
        Ok(String::from_utf8(response.body.to_vec())?)
    }

    /// The sum of a metric over all of its label sets that contain each of `labels` (as in `outcome="applied"`);
    /// 0 while it has none.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<u64> {
        Ok(sum_of_metric(&self.admin_page("/metrics").await?, name, labels))
    }

    pub fn send(&self, signal: Signal) -> Result<()> {
        // The shell's own `kill`: a safe way to the system call that needs nothing installed.
        let line = format!("kill -s {} {}", signal.name(), self.child.id());
        let status = Command::new("/bin/sh").args(["-c", &line]).status()?;
        ensure!(status.success(), "{} could not be sent a signal", self.name);
        Ok(())
    }

    /// SIGTERM, and its exit code.
    pub async fn stop(&mut self) -> Result<Option<i32>> {
        self.send(Signal::Stop)?;
        Ok(self.exit().await?.code())
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill(&mut self) -> Result<()> {
        self.send(Signal::Kill)?;
        let status = self.exit().await?;
        ensure!(status.code().is_none(), "{} ended before it was killed: {status}", self.name);
        Ok(())
    }

    /// Waits for its end.
    pub async fn exit(&mut self) -> Result<ExitStatus> {
        let (name, child) = (self.name, &mut self.child);
        until(&format!("{name} has ended"), async || child.try_wait()?.context("it is running")).await
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.ended()?.is_none())
    }

    /// How it ended; `None` while it has not.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// What it has logged.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    fn admin(&self) -> Result<SocketAddr> {
        self.admin.with_context(|| format!("{} has no admin port", self.name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log().unwrap_or_default();
            eprintln!("--- log of {} (pid {}) ---\n{log}--- end ---", self.name, self.child.id());
        } else if !self.keeps_log {
            let _ = fs::remove_file(&self.log);
        }
    }
}

/// The sum of a metric on a page of `/metrics`, over all of its label sets that contain each of `labels`.
#[must_use]
pub fn sum_of_metric(page: &str, name: &str, labels: &[&str]) -> u64 {
    let is_meant = |line: &&str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
            && labels.iter().all(|label| line.contains(label))
    };
    let value = |line: &str| line.rsplit_once(' ')?.1.parse::<u64>().ok();
    page.lines().filter(is_meant).filter_map(value).sum()
}

/// Where cargo puts the binaries: next to this one, or above it when this is a test, in `target/release/deps`.
fn build_folder() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let folder = this.parent().context("a binary outside of target/")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(folder.to_path_buf())
}

fn log_folder() -> Result<PathBuf> {
    let folder = build_folder()?.join("e2e-logs");
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not UTF-8")
}
