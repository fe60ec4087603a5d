//! The result of `Client::check`, and its errors.

use std::error::Error;
use std::fmt;
use std::io;
use std::time::Duration;

use super::{ConnectionError, advice};
use crate::config::BrokerAddress;

/// A cluster's description of itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClusterInfo {
    /// The id of the cluster, if the cluster gives it.
    pub cluster_id: Option<String>,
    /// The node id of the broker that answers as the controller, if there is one.
    pub controller: Option<i32>,
    /// The brokers, as clients are told to reach them.
    pub brokers: Vec<BrokerInfo>,
    /// The brokers to which no connection could be made, ascending by node id: each error has the advertised address,
    /// the broker that gave it, and the failure. Messages to partitions that these brokers lead would wait.
    pub unreachable: Vec<ConnectionError>,
}

/// A broker of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerInfo {
    /// Its node id.
    pub node: i32,
    /// The address at which clients are told to reach it (`advertised.listeners`).
    pub address: BrokerAddress,
}

/// The reason why no broker could be used.
#[derive(Debug)]
#[non_exhaustive]
pub enum CheckError {
    /// No broker gave metadata before the time was up, or none can be reached at its advertised address.
    Unreachable {
        /// The time that the check was given; it may have ended before.
        after: Duration,
        /// The last error of each address that was tried.
        errors: Vec<ConnectionError>,
    },
    /// The system has no descriptors left.
    Io(io::Error),
}

impl fmt::Display for CheckError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable { after, errors } => {
                write!(f, "no broker could be used within {after:?}")?;
                let mut separator = ": ";
                for error in errors {
                    write!(f, "{separator}{error}")?;
                    separator = "; ";
                }
                Ok(())
            }
            Self::Io(error) => {
                write!(f, "cannot look for brokers ({error}); {}", advice(error, "free resources, and check again"))
            }
        }
    }
}

impl Error for CheckError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unreachable { errors, .. } => errors.last().map(|error| error as &(dyn Error + 'static)),
            Self::Io(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ConnectionErrorKind;
    use crate::error::tests::assert_text;

    #[test]
    fn it_names_every_address_that_was_tried() {
        let error = |address: &str| ConnectionError {
            address: address.into(),
            advertised: None,
            kind: ConnectionErrorKind::Closed,
        };
        let errors = vec![error("a:9092"), error("b:9092")];
        let text = CheckError::Unreachable { after: Duration::from_secs(10), errors }.to_string();
        assert!(text.starts_with("no broker could be used within 10s: broker a:9092: "), "{text}");
        assert!(text.contains("; broker b:9092: "), "{text}");
        let none = CheckError::Unreachable { after: Duration::from_millis(5), errors: Vec::new() };
        assert_text(none, "no broker could be used within 5ms");
        let io = CheckError::Io(io::Error::other("no memory"));
        assert_text(io, "cannot look for brokers (no memory); free resources, and check again");
    }
}
