//! The request to stop.

use tokio::signal::unix::{SignalKind, signal};

/// A future that resolves on SIGTERM or SIGINT. Call it before any slow start-up work: from this call on neither signal
/// kills the program.
///
/// # Errors
/// The signal handlers cannot be installed.
pub fn shutdown_signal() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
