//! What a program needs around its work, whatever that work is.
//!
//! Reading order: [`config`] (the environment), [`telemetry`] (logs and metrics), [`admin`] (health, readiness, metrics over
//! HTTP), [`listener`] and [`loopback`] (sockets and addresses), [`shutdown`], [`backoff`]. This file has what a program asks
//! of the operating system for the process as a whole.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub mod admin;
pub mod backoff;
pub mod config;
pub mod listener;
pub mod loopback;
pub mod shutdown;
pub mod telemetry;

/// Keeps the process's memory, which holds keys and callbacks, out of core dumps and out of reach of the same user's other
/// processes.
///
/// A core limit of 0 is not enough: the kernel still pipes the dump to a program named in `core_pattern`.
pub fn no_core_dumps() {
    let without = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let without = without.and(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable));
    if let Err(error) = without {
        eprintln!("cannot disable core dumps: {error}");
    }
}

/// How many file descriptors the process may have open: `RLIMIT_NOFILE`, as `ulimit -n` shows it.
#[must_use]
pub fn open_files_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_leaves_no_core_dump() {
        no_core_dumps();
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        #[cfg(target_os = "linux")]
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
    }
}
