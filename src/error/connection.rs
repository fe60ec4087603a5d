//! What can go wrong between this program and a broker.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::OneLine;

/// A connection to a broker that could not be made or was lost: the address, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionError {
    /// The broker's address as `host:port`.
    pub address: Arc<str>,
    /// What happened.
    pub kind: ConnectionErrorKind,
}

/// Why a connection could not be made or was lost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionErrorKind {
    /// The host name has no address.
    Resolve(Arc<io::Error>),
    /// No address of the host accepted the connection; the error of the last.
    Connect(Arc<io::Error>),
    /// `connect_timeout` passed before the connection was ready.
    ConnectTimeout(Duration),
    /// The broker did not answer within `socket_timeout`, or accepted no bytes for that long.
    SocketTimeout(Duration),
    /// The broker closed the connection.
    Closed,
    /// The connection broke.
    Io(Arc<io::Error>),
    /// Something other than Kafka answers there.
    NotKafka(Speaks),
    /// The broker announced a response that is negative or above the limit.
    ResponseTooLarge {
        /// The size it announced, in bytes.
        size: i64,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// The broker's response cannot be understood.
    BadResponse {
        /// The API that was called.
        api: &'static str,
        /// What was wrong with it.
        what: String,
    },
    /// The broker and ottla have no version of this API in common.
    UnsupportedApi {
        /// The API.
        api: &'static str,
        /// The versions ottla speaks.
        ours: ApiRange,
        /// The versions the broker speaks, if it has the API at all.
        theirs: Option<ApiRange>,
    },
    /// The broker answered with an error code.
    Refused {
        /// The API that was called.
        api: &'static str,
        /// The error code.
        code: i16,
        /// Its name in Kafka.
        name: &'static str,
    },
}

/// What seems to speak at an address that is not Kafka.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Speaks {
    /// A web server.
    Http,
    /// A TLS listener, which ottla met without TLS.
    Tls,
    /// An SSH server.
    Ssh,
    /// Something else that is not Kafka.
    Unknown,
}

/// The lowest and the highest version of an API, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ApiRange {
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

impl ConnectionErrorKind {
    /// Whether trying again cannot help, as long as nobody changes what listens there.
    pub(crate) fn is_permanent(&self) -> bool {
        matches!(self, Self::NotKafka(_) | Self::UnsupportedApi { .. } | Self::Refused { .. })
    }
}

impl ApiRange {
    /// The versions from `min` to `max`, both included.
    #[must_use]
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }
}

/// An error code from a broker: which broker, which API, for which partition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerError {
    /// The broker's node id.
    pub node: i32,
    /// The API that was called, such as `Produce`.
    pub api: &'static str,
    /// The topic and partition it speaks of, if of one.
    pub partition: Option<(crate::Topic, i32)>,
    /// The error code.
    pub code: i16,
    /// Its name in Kafka, or `UNKNOWN_ERROR_CODE`.
    pub name: &'static str,
    /// What the broker said in words, if it did.
    pub message: Option<Arc<str>>,
    /// What to do about it; empty where the error that this is the cause of says it.
    pub advice: &'static str,
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {}: {}", self.address, self.kind)
    }
}

impl Error for ConnectionError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            ConnectionErrorKind::Resolve(error)
            | ConnectionErrorKind::Connect(error)
            | ConnectionErrorKind::Io(error) => Some(&**error),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectionErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(error) => write!(f, "the host name has no address ({error}); check its spelling and the DNS"),
            Self::Connect(error) => write!(f, "cannot connect ({error}); check that a broker listens there"),
            Self::ConnectTimeout(after) => {
                write!(
                    f,
                    "no connection within connect_timeout ({after:?}); check the address and the \
                     firewalls between, or raise it"
                )
            }
            Self::SocketTimeout(after) => write!(
                f,
                "no answer within socket_timeout ({after:?}); check the load of the broker and the \
                 network, or raise it"
            ),
            Self::Closed => f.write_str(
                "the broker closed the connection; if that repeats, check that the port is a \
                 plaintext listener and read the broker's log",
            ),
            Self::Io(error) => write!(
                f,
                "the connection broke ({error}); if that repeats, check the network and the \
                 broker's log"
            ),
            Self::NotKafka(speaks) => fmt::Display::fmt(speaks, f),
            Self::ResponseTooLarge { size, limit } => {
                write!(
                    f,
                    "a response of {size} bytes was announced, the limit is {limit}; check that a \
                     broker listens there, or raise max_response_bytes"
                )
            }
            Self::BadResponse { api, what } => {
                let what = OneLine(what);
                write!(
                    f,
                    "the {api} response cannot be read ({what}); check what stands between here \
                     and the broker, or report it"
                )
            }
            Self::UnsupportedApi { api, ours, theirs: Some(theirs) } => {
                write!(
                    f,
                    "no common version of {api}: ottla speaks {ours}, the broker {theirs}; upgrade \
                     the older of the two"
                )
            }
            Self::UnsupportedApi { api, ours, theirs: None } => {
                write!(
                    f,
                    "the broker does not offer {api}, which ottla needs in version {ours}; upgrade \
                     the broker"
                )
            }
            Self::Refused { api, code, name } => write!(f, "refused {api}: {name} ({code})"),
        }
    }
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "an HTTP server answers there, not Kafka; check the port",
            Self::Tls => "a TLS listener answers there; use the port of a plaintext listener",
            Self::Ssh => "an SSH server answers there, not Kafka; check the port",
            Self::Unknown => "what answers there is not Kafka; check the address and the port",
        })
    }
}

impl fmt::Display for ApiRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {} refused {}", self.node, self.api)?;
        if let Some((topic, partition)) = &self.partition {
            write!(f, " for {topic}-{partition}")?;
        }
        write!(f, ": {} ({})", self.name, self.code)?;
        if let Some(message) = &self.message {
            write!(f, ", \"{}\"", message.escape_debug())?;
        }
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

impl Error for BrokerError {}

#[cfg(test)]
mod tests {
    use super::super::tests::assert_text;
    use super::*;

    fn io(text: &str) -> Arc<io::Error> {
        Arc::new(io::Error::other(text))
    }

    #[test]
    fn every_kind_says_what_happened_and_what_to_do() {
        use ConnectionErrorKind as Kind;
        let (ours, theirs) = (ApiRange::new(3, 12), ApiRange::new(0, 2));
        let second = Duration::from_secs(1);
        for (kind, text) in [
            (
                Kind::Resolve(io("unknown name")),
                "the host name has no address (unknown name); check its spelling and the DNS",
            ),
            (Kind::Connect(io("refused")), "cannot connect (refused); check that a broker listens there"),
            (
                Kind::ConnectTimeout(second),
                "no connection within connect_timeout (1s); check the address and the firewalls \
                 between, or raise it",
            ),
            (
                Kind::SocketTimeout(second),
                "no answer within socket_timeout (1s); check the load of the broker and the \
                 network, or raise it",
            ),
            (
                Kind::Closed,
                "the broker closed the connection; if that repeats, check that the port is a \
                 plaintext listener and read the broker's log",
            ),
            (
                Kind::Io(io("reset")),
                "the connection broke (reset); if that repeats, check the network and the \
                 broker's log",
            ),
            (Kind::NotKafka(Speaks::Http), "an HTTP server answers there, not Kafka; check the port"),
            (Kind::NotKafka(Speaks::Tls), "a TLS listener answers there; use the port of a plaintext listener"),
            (Kind::NotKafka(Speaks::Ssh), "an SSH server answers there, not Kafka; check the port"),
            (Kind::NotKafka(Speaks::Unknown), "what answers there is not Kafka; check the address and the port"),
            (
                Kind::ResponseTooLarge { size: -1, limit: 5 },
                "a response of -1 bytes was announced, the limit is 5; check that a broker \
                 listens there, or raise max_response_bytes",
            ),
            (
                Kind::BadResponse { api: "Produce", what: "cut\noff\n".into() },
                "the Produce response cannot be read (cut off); check what stands between here \
                 and the broker, or report it",
            ),
            (
                Kind::UnsupportedApi { api: "Produce", ours, theirs: Some(theirs) },
                "no common version of Produce: ottla speaks 3 to 12, the broker 0 to 2; upgrade \
                 the older of the two",
            ),
            (
                Kind::UnsupportedApi { api: "Produce", ours, theirs: None },
                "the broker does not offer Produce, which ottla needs in version 3 to 12; \
                 upgrade the broker",
            ),
            (
                Kind::Refused { api: "Metadata", code: 31, name: "CLUSTER_AUTHORIZATION_FAILED" },
                "refused Metadata: CLUSTER_AUTHORIZATION_FAILED (31)",
            ),
        ] {
            assert_text(kind, text);
        }
    }

    #[test]
    fn a_connection_error_names_the_broker_and_leads_to_its_cause() {
        let kind = ConnectionErrorKind::Connect(io("refused"));
        let error = ConnectionError { address: "kafka-1:9092".into(), kind };
        assert_text(&error, "broker kafka-1:9092: cannot connect (refused); check that a broker listens there");
        assert_eq!(error.source().unwrap().to_string(), "refused");
        let kind = ConnectionErrorKind::Closed;
        let error = ConnectionError { address: "kafka-1:9092".into(), kind };
        assert!(error.source().is_none());
    }

    #[test]
    fn a_broker_error_names_broker_api_partition_and_code() {
        let mut error = BrokerError {
            node: 3,
            api: "Produce",
            partition: Some((crate::Topic::new("orders").unwrap(), 7)),
            code: 6,
            name: "NOT_LEADER_OR_FOLLOWER",
            message: Some("moved\naway".into()),
            advice: "wait for it",
        };
        assert_text(
            &error,
            "broker 3 refused Produce for orders-7: NOT_LEADER_OR_FOLLOWER (6), \"moved\\naway\"; wait for it",
        );
        (error.partition, error.message, error.advice) = (None, None, "");
        assert_text(&error, "broker 3 refused Produce: NOT_LEADER_OR_FOLLOWER (6)");
    }
}
