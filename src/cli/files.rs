//! How many files this process may have open: every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Files that are no connections: listeners, standard streams, the runtime's own.
pub(crate) const OTHERS: u64 = 64;

/// Takes as many files as the system gives, and returns how many; `None`: without limit.
pub(crate) fn take_all() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}
