//! What a program asks of the system for itself as a whole.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// From here on no copy of the memory, which holds keys and callbacks, is written when the program crashes, and no other
/// process of the same user may read it.
///
/// A limit of 0 alone would not do: the kernel hands the memory to a program in `core_pattern` all the same.
pub fn no_core_dumps() {
    let without = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let without = without.and(rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable));
    if let Err(error) = without {
        eprintln!("core dumps could not be switched off: {error}");
    }
}

/// How many descriptors the process may have open: `RLIMIT_NOFILE`, as `ulimit -n` shows it.
#[must_use]
pub fn open_files_max() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_crash() {
        no_core_dumps();
        assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
        #[cfg(target_os = "linux")]
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
    }
}
