//! The command that runs once in the background when half of the callbacks have been sent, for example to kill a worker. Its
//! outcome is part of the report, because a run that was meant to be disturbed and was not proves less.

use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::Command;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// A command that hangs must not hang the run.
const PATIENCE: Duration = Duration::from_mins(2);
/// An error is usually at the end of the output.
const OUTPUT_LINES: usize = 5;

/// What came of the command.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit status 0.
    pub succeeded: bool,
    /// For the report: how it ended, after how long, and the end of its output when it failed.
    pub text: String,
}

/// Waits for half of the run, then runs `command` in a shell. `None` when the half was never reached.
pub async fn run(command: String, half: oneshot::Receiver<()>) -> Option<Outcome> {
    half.await.ok()?;
    let begun = Instant::now();
    let running = Command::new("sh").arg("-c").arg(&command).stdin(Stdio::null()).kill_on_drop(true).output();
    let (succeeded, how, output) = match timeout(PATIENCE, running).await {
        Err(_) => (false, "did not finish in time".to_owned(), String::new()),
        Ok(Err(error)) => (false, format!("could not be started: {error}"), String::new()),
        Ok(Ok(done)) => {
            let output = [done.stdout, done.stderr].concat();
            (done.status.success(), done.status.to_string(), String::from_utf8_lossy(&output).into_owned())
        }
    };
    let mut text = format!("`{command}`: {how}, after {} ms", begun.elapsed().as_millis());
    if !succeeded {
        let lines: Vec<&str> = output.lines().collect();
        let last = lines.get(lines.len().saturating_sub(OUTPUT_LINES)..).unwrap_or_default();
        text = last.iter().fold(text, |text, line| format!("{text}\n    {line}"));
    }
    Some(Outcome { succeeded, text })
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn outcome_of(command: &str) -> Option<Outcome> {
        let (sender, half) = oneshot::channel();
        sender.send(()).unwrap();
        run(command.to_owned(), half).await
    }

    #[tokio::test]
    async fn the_outcome_is_reported_and_a_failure_shows_why() {
        let done = outcome_of("exit 0").await.unwrap();
        assert!(done.succeeded, "{}", done.text);
        let failed = outcome_of("echo the reason >&2; exit 3").await.unwrap();
        assert!(!failed.succeeded && failed.text.contains("the reason"), "{}", failed.text);
    }

    #[tokio::test]
    async fn nothing_is_run_when_the_half_is_never_reached() {
        let (sender, half) = oneshot::channel();
        drop(sender);
        assert!(run("exit 0".to_owned(), half).await.is_none());
    }
}
