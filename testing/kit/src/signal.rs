//! What a child process can be sent.

/// A signal by what it is sent for.
#[derive(Debug, Clone, Copy)]
pub enum Signal {
    /// SIGTERM: stop in good order.
    Stop,
    /// SIGKILL: a crash.
    Kill,
    /// SIGSTOP: the machine stands still.
    Freeze,
    /// SIGCONT: it goes on.
    Thaw,
    /// SIGHUP: read the merchants file again.
    Reload,
}

impl Signal {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stop => "TERM",
            Self::Kill => "KILL",
            Self::Freeze => "STOP",
            Self::Thaw => "CONT",
            Self::Reload => "HUP",
        }
    }
}
