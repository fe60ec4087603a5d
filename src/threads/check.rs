//! Looks once whether the cluster can be reached: an engine without messages, driven on the caller's thread until it
//! has metadata.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::driver::Driver;
use crate::config::ClientConfig;
use crate::engine::deadline::Deadline;
use crate::error::{CheckError, ClusterInfo, ConnectionError, DeliveryErrorKind};

/// Blocks until a broker gave metadata, for at most `timeout`.
pub(crate) fn run(client: &Arc<ClientConfig>, timeout: Duration) -> Result<ClusterInfo, CheckError> {
    let mut driver = Driver::new(Arc::clone(client), Arc::default(), false).map_err(CheckError::Io)?;
    let until = Deadline::after(clock::now(), timeout);
    let mut errors: BTreeMap<Arc<str>, ConnectionError> = BTreeMap::new();
    driver.engine.ask_for_metadata();
    loop {
        driver.go();
        if let Some(DeliveryErrorKind::Connection(error)) = driver.engine.last_error().map(|error| &**error) {
            errors.insert(Arc::clone(&error.address), error.clone());
        }
        if let Some(cluster) = driver.engine.cluster() {
            return Ok(ClusterInfo {
                cluster_id: cluster.id.as_deref().map(str::to_owned),
                controller: Some(cluster.controller).filter(|node| *node >= 0),
                brokers: cluster.brokers.clone(),
            });
        }
        if until.passed(clock::now()) || is_hopeless(client, &errors) {
            let errors = errors.into_values().collect();
            return Err(CheckError::Unreachable { after: timeout, errors });
        }
        driver.poll(until, false).map_err(CheckError::Io)?;
    }
}

/// Whether no address can become good by waiting: each of them is something other than a broker that can be used.
fn is_hopeless(client: &ClientConfig, errors: &BTreeMap<Arc<str>, ConnectionError>) -> bool {
    client.seeds.iter().all(|seed| errors.get(&*seed.to_string()).is_some_and(|error| error.kind.is_permanent()))
}
