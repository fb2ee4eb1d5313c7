//! The lock that rooms use: the standard library's, or shuttle's, which tries schedules.

#[cfg(all(test, feature = "schedules"))]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(not(all(test, feature = "schedules")))]
pub(super) use std::sync::{Mutex, MutexGuard};
