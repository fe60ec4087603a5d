//! The guard that a test holds while a fault lasts, and the error of a wait that was too short.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Fault;
use super::fault::FaultId;
use super::server::Shared;

/// An injected fault; dropping it ends the fault.
#[derive(Debug)]
#[must_use = "the fault ends when its guard is dropped"]
pub struct FaultGuard {
    shared: Arc<Shared>,
    id: FaultId,
    kept: bool,
}

impl FaultGuard {
    pub(super) fn new(shared: Arc<Shared>, fault: Fault) -> Self {
        let id = shared.change(|state| state.faults.inject(fault));
        Self { shared, id, kept: false }
    }

    /// The number of requests that the fault has hit.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.shared.look(|state| state.faults.hits(self.id))
    }

    /// Blocks until the fault has hit this many requests, or `timeout` passes.
    ///
    /// # Errors
    /// [`Timeout`] with the number of hits until then.
    pub fn wait_for_hits(&self, count: u64, timeout: Duration) -> Result<(), Timeout> {
        if self.shared.wait_for(timeout, |state| state.faults.hits(self.id) >= count) {
            return Ok(());
        }
        Err(Timeout::new("hits", count, self.hits(), timeout))
    }

    /// Leaves the fault in place for as long as the cluster lives.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        if !self.kept {
            self.shared.change(|state| state.faults.remove(self.id));
        }
    }
}

/// The error of a wait whose time is up before the messages or requests came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeout {
    /// The number that was waited for.
    pub wanted: u64,
    /// The number that had come when the time was up.
    pub found: u64,
    /// The time of the wait.
    pub after: Duration,
    what: &'static str,
}

impl Timeout {
    pub(super) fn new(what: &'static str, wanted: u64, found: u64, after: Duration) -> Self {
        Self { wanted, found, after, what }
    }
}

impl fmt::Display for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} {} after {:?}", self.found, self.wanted, self.what, self.after)
    }
}

impl std::error::Error for Timeout {}
