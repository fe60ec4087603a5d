//! Checks once that the cluster can be reached: drives the engine of `engine::check` on the caller's thread.

use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::driver::{Driver, new_seed};
use crate::config::ClientConfig;
use crate::deadline::Deadline;
use crate::engine::check::CheckEngine;
use crate::error::{CheckError, ClusterInfo};

/// Blocks until every broker was called, for at most `timeout`.
pub(crate) fn run(client: &Arc<ClientConfig>, timeout: Duration) -> Result<ClusterInfo, CheckError> {
    let engine = CheckEngine::new(client, new_seed());
    let mut driver = Driver::new(Arc::clone(client), engine).map_err(CheckError::Io)?;
    driver.begin(Deadline::after(clock::now(), timeout));
    loop {
        driver.go();
        if driver.engine.is_done() || driver.is_overdue() {
            return driver.into_engine().into_outcome(timeout);
        }
        driver.poll(driver.until(), false).map_err(CheckError::Io)?;
    }
}
