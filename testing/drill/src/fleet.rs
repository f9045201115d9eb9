//! Two ingests and three workers under a supervisor, which restarts a program a second after it has ended. An end that no
//! fault caused is a finding.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use kit::program::{Launch, Program, Signal, sum_of_metric};
use kit::until::until_within;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::config::Place;
use crate::links::{INGESTS, Links, WORKERS};

/// From a program's end to its next start.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// How often the supervisor looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a program may take to stop when asked.
const STOP_PATIENCE: Duration = Duration::from_mins(1);

/// All programs of the pipeline.
pub struct Fleet {
    members: Vec<Arc<Member>>,
    supervisors: Vec<JoinHandle<()>>,
}

/// One of them, through all of its lives.
pub struct Member {
    /// `ingest-1`, `worker-3`.
    pub name: String,
    launch: Launch,
    program: Mutex<Program>,
    asked_to_end: AtomicBool,
    lives: AtomicUsize,
    findings: Mutex<Vec<String>>,
}

impl Fleet {
    /// Starts all and waits until they are ready.
    pub async fn start(place: &Place, links: &Links, merchants: &Path) -> Result<Self> {
        let logs = place.drill_dir.join("log");
        let mut members = Vec::new();
        for number in 0..INGESTS {
            let launch = Launch::ingest(&links.ingest_to_broker(number)?.urls(number), merchants)?;
            members.push((format!("ingest-{}", number.saturating_add(1)), launch));
        }
        for number in 0..WORKERS {
            let broker = links.worker_to_broker(number)?.urls(number);
            let database = links.worker_to_database(number)?.urls(0);
            let launch = Launch::worker(&broker, &database, merchants)?;
            members.push((format!("worker-{}", number.saturating_add(1)), launch));
        }
        let mut fleet = Self { members: Vec::new(), supervisors: Vec::new() };
        for (name, launch) in members {
            let launch = launch.log_to(logs.join(format!("{name}.log")));
            let mut program = launch.clone().spawn()?;
            program.until_ready().await.with_context(|| format!("see {}/{name}.log", logs.display()))?;
            let member = Arc::new(Member {
                name,
                launch,
                program: Mutex::new(program),
                asked_to_end: AtomicBool::new(false),
                lives: AtomicUsize::new(1),
                findings: Mutex::default(),
            });
            fleet.supervisors.push(tokio::spawn(supervise(Arc::clone(&member))));
            fleet.members.push(member);
        }
        Ok(fleet)
    }

    /// All members, ingests first.
    #[must_use]
    pub fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    #[must_use]
    pub fn ingests(&self) -> &[Arc<Member>] {
        self.members.get(..INGESTS).unwrap_or_default()
    }

    #[must_use]
    pub fn workers(&self) -> &[Arc<Member>] {
        self.members.get(INGESTS..).unwrap_or_default()
    }

    /// Stops all in good order, and says what ended otherwise during the whole drill.
    pub async fn stop(self) -> Result<Vec<String>> {
        self.supervisors.iter().for_each(JoinHandle::abort);
        let mut findings = Vec::new();
        for member in &self.members {
            member.send(Signal::Stop)?;
        }
        for member in &self.members {
            let ended = until_within(STOP_PATIENCE, &format!("{} has stopped", member.name), async || {
                member.program().ended()?.context("it is running")
            })
            .await;
            match ended {
                Ok(status) if status.success() => {}
                Ok(status) => findings.push(format!("{} did not stop cleanly: {status}", member.name)),
                Err(error) => findings.push(format!("{error:#}")),
            }
            findings.append(&mut lock(&member.findings));
            if member.program().log()?.contains("panicked") {
                findings.push(format!("{} panicked: see its log", member.name));
            }
        }
        Ok(findings)
    }
}

impl Member {
    /// A crash.
    pub fn kill(&self) -> Result<()> {
        self.end(Signal::Kill)
    }

    /// The polite end, as in a rolling restart.
    pub fn stop(&self) -> Result<()> {
        self.end(Signal::Stop)
    }

    fn end(&self, signal: Signal) -> Result<()> {
        // Before it is sent, so that the supervisor is not faster.
        self.asked_to_end.store(true, Ordering::SeqCst);
        self.send(signal)
    }

    /// Any other signal.
    pub fn send(&self, signal: Signal) -> Result<()> {
        self.program().send(signal)
    }

    /// How many lives it has had: grows when it was started again.
    #[must_use]
    pub fn lives(&self) -> usize {
        self.lives.load(Ordering::SeqCst)
    }

    /// Where `/readyz` and `/metrics` are, in every life.
    #[must_use]
    pub fn admin(&self) -> Option<SocketAddr> {
        self.launch.admin()
    }

    /// Where an ingest takes callbacks.
    #[must_use]
    pub fn public(&self) -> Option<SocketAddr> {
        self.launch.public()
    }

    /// Whether it says that it can do its job.
    pub async fn is_ready(&self) -> bool {
        let Some(admin) = self.admin() else { return false };
        kit::http::get(admin, "/readyz").await.is_ok_and(|response| response.status.is_success())
    }

    /// The sum of a metric since the start of this life.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<u64> {
        let page = kit::http::get(self.admin().context("no admin port")?, "/metrics").await?;
        Ok(sum_of_metric(std::str::from_utf8(&page.body)?, name, labels))
    }

    fn program(&self) -> MutexGuard<'_, Program> {
        lock(&self.program)
    }

    fn note(&self, finding: String) {
        lock(&self.findings).push(finding);
    }

    /// Whether it has ended. If no fault caused that, or it ended badly, it is a finding.
    fn has_ended(&self) -> Result<bool> {
        let Some(status) = self.program().ended()? else { return Ok(false) };
        let was_asked = self.asked_to_end.swap(false, Ordering::SeqCst);
        let is_in_order = status.success() || status.code().is_none();
        if !was_asked || !is_in_order {
            self.note(format!("{} exited unasked: {status}", self.name));
        }
        Ok(true)
    }

    fn start_again(&self) -> Result<()> {
        let program = self.launch.clone().spawn()?;
        *self.program() = program;
        self.lives.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

async fn supervise(member: Arc<Member>) {
    loop {
        sleep(LOOK_EVERY).await;
        match member.has_ended() {
            Ok(false) => continue,
            Ok(true) => {}
            Err(error) => member.note(format!("{error:#}")),
        }
        sleep(RESTART_AFTER).await;
        if let Err(error) = member.start_again() {
            member.note(format!("{} could not be restarted: {error:#}", member.name));
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
