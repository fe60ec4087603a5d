//! Looks once whether the cluster can be reached: an engine without messages runs on the caller's thread until it has
//! metadata and has called the brokers that metadata names.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::clock;
use super::driver::{Driver, new_seed};
use crate::config::{BrokerAddress, ClientConfig};
use crate::deadline::Deadline;
use crate::engine::producer::ProducerEngine;
use crate::error::{BrokerInfo, CheckError, ClusterInfo, ConnectionError, DeliveryErrorKind};

/// Blocks until every broker was called, for at most `timeout`.
pub(crate) fn run(client: &Arc<ClientConfig>, timeout: Duration) -> Result<ClusterInfo, CheckError> {
    let engine = ProducerEngine::new(Arc::clone(client), Arc::default(), new_seed());
    let driver = Driver::new(Arc::clone(client), engine).map_err(CheckError::Io)?;
    let mut look = Look { driver, timeout };
    look.driver.begin(Deadline::after(clock::now(), timeout));
    let mut cluster = look.find(&client.seeds)?;
    let (answered, errors) = look.call(&cluster.brokers).map_err(CheckError::Io)?;
    if answered == 0 {
        return Err(CheckError::Unreachable { after: timeout, errors });
    }
    cluster.unreachable = errors;
    Ok(cluster)
}

struct Look {
    driver: Driver<ProducerEngine>,
    timeout: Duration,
}

impl Look {
    /// Asks the bootstrap addresses, again and again, until one tells of the cluster.
    fn find(&mut self, seeds: &[BrokerAddress]) -> Result<ClusterInfo, CheckError> {
        let mut errors: BTreeMap<Arc<str>, ConnectionError> = BTreeMap::new();
        self.driver.engine.ask_for_metadata();
        loop {
            self.driver.go();
            if let Some(DeliveryErrorKind::Connection(error)) = self.driver.engine.last_error().map(|error| &**error) {
                errors.insert(Arc::clone(&error.address), error.clone());
            }
            if let Some(cluster) = self.driver.engine.cluster() {
                let broker =
                    |(node, address): &(i32, BrokerAddress)| BrokerInfo { node: *node, address: address.clone() };
                return Ok(ClusterInfo {
                    cluster_id: cluster.id.as_deref().map(str::to_owned),
                    controller: Some(cluster.controller).filter(|node| *node >= 0),
                    brokers: cluster.brokers.iter().map(broker).collect(),
                    unreachable: Vec::new(),
                });
            }
            if self.driver.is_overdue() || is_hopeless(seeds, &errors) {
                for error in self.driver.engine.unready(self.timeout) {
                    errors.entry(Arc::clone(&error.address)).or_insert(error);
                }
                return Err(CheckError::Unreachable { after: self.timeout, errors: errors.into_values().collect() });
            }
            self.driver.poll(self.driver.until(), false).map_err(CheckError::Io)?;
        }
    }

    /// Calls all these brokers at the same time, each once. Returns how many can be used, and why the others cannot.
    fn call(&mut self, brokers: &[BrokerInfo]) -> io::Result<(usize, Vec<ConnectionError>)> {
        let mut open: Vec<i32> = brokers.iter().map(|broker| broker.node).collect();
        let (mut answered, mut errors) = (0, Vec::new());
        loop {
            let now = self.driver.now();
            open.retain(|node| match self.driver.engine.call_broker(*node, now) {
                None => true,
                Some(outcome) => {
                    match outcome {
                        Ok(()) => answered += 1,
                        Err(error) => errors.push(error),
                    }
                    false
                }
            });
            self.driver.go();
            if open.is_empty() || self.driver.is_overdue() {
                break;
            }
            self.driver.poll(self.driver.until(), false)?;
        }
        // A bootstrap address may be on its way as well.
        errors.extend(self.driver.engine.unready(self.timeout).filter(|error| error.advertised.is_some()));
        errors.sort_by_key(|error| error.advertised.as_ref().map(|advertised| advertised.node));
        Ok((answered, errors))
    }
}

/// Whether no address can become good by waiting: each of them is something other than a broker that can be used.
fn is_hopeless(seeds: &[BrokerAddress], errors: &BTreeMap<Arc<str>, ConnectionError>) -> bool {
    seeds.iter().all(|seed| errors.get(&*seed.to_string()).is_some_and(|error| error.kind.is_permanent()))
}
