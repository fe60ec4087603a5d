//! The failures between this program and a broker.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{ErrorCode, OneLine, TlsAlert, TlsFault, advice, is_out_of_descriptors};
use crate::message::Topic;

/// A connection to a broker that could not be made or was lost: the address, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionError {
    /// The broker's address as `host:port`.
    pub address: Arc<str>,
    /// The broker at that address, and the broker that gave the address; `None` if the user gave it.
    pub advertised: Option<Advertised>,
    /// The kind of failure.
    pub kind: ConnectionErrorKind,
}

/// The origin of an address that a broker gave.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Advertised {
    /// The node id of the broker at that address.
    pub node: i32,
    /// The address of the broker that gave it.
    pub by: Arc<str>,
}

/// The reason why a connection could not be made or was lost.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectionErrorKind {
    /// The host name has no address.
    Resolve(Arc<io::Error>),
    /// No address of the host accepted the connection; this is the error of the last address tried.
    Connect(Arc<io::Error>),
    /// `connect_timeout` passed before the connection was ready.
    ConnectTimeout(Duration),
    /// The connection was not ready when the time of [`Client::check`](crate::Client::check) was up.
    CheckTimeout(Duration),
    /// The broker did not answer within `socket_timeout`, or accepted no bytes for that long.
    SocketTimeout {
        /// The API whose answer was awaited; `None` if none was, because `required_acks` is `None`.
        api: Option<&'static str>,
        /// `socket_timeout`.
        after: Duration,
    },
    /// The broker closed the connection.
    Closed,
    /// The broker closed the connection instead of answering the first request after the handshake. A listener that
    /// wants a login (SASL) does so.
    ClosedUnanswered {
        /// The API that was called.
        api: &'static str,
    },
    /// ottla gave the connection up for this reason.
    GivenUp(&'static str),
    /// The connection broke.
    Io(Arc<io::Error>),
    /// No encrypted connection came about: the broker's certificate was refused, or the handshake did not end.
    Tls(TlsFault),
    /// The broker ended TLS with an alert before it answered anything: often it refuses the client's certificate, which
    /// with TLS 1.3 is told only after the handshake.
    TlsRefused {
        /// The alert.
        alert: TlsAlert,
    },
    /// Something other than Kafka answers there.
    NotKafka(Speaks),
    /// A KRaft controller listens there: it speaks Kafka's protocol, and is no broker.
    Controller,
    /// The broker announced a response of an impossible size, or of one above the limit.
    BadSize {
        /// The API that was called, if an answer was awaited.
        api: Option<&'static str>,
        /// The size it announced, in bytes.
        size: i64,
        /// The limit in force, in bytes.
        limit: usize,
    },
    /// The broker's response cannot be understood.
    BadResponse {
        /// The API that was called.
        api: &'static str,
        /// The fault in the response.
        what: String,
    },
    /// The broker sent a response that nobody had asked for.
    Unasked,
    /// The broker and ottla have no version of this API in common.
    UnsupportedApi {
        /// The API.
        api: &'static str,
        /// The versions ottla speaks.
        ours: ApiRange,
        /// The versions the broker speaks, if it has the API at all.
        theirs: Option<ApiRange>,
    },
    /// The listener has no login by this mechanism (SASL).
    UnsupportedMechanism {
        /// The mechanism.
        mechanism: &'static str,
        /// Those that the listener has.
        offered: Box<str>,
    },
    /// The listener takes no login (SASL).
    NoLogin,
    /// The broker refused the login (SASL).
    AuthenticationFailed {
        /// The mechanism.
        mechanism: &'static str,
        /// The error code; none if the mechanism itself said it.
        code: ErrorCode,
        /// The broker's own words: one line, escaped and cut, fit for a log.
        message: Option<Arc<str>>,
    },
    /// The broker did not prove who it is (SASL): it, or something between, is not what it seems.
    UntrustedBroker {
        /// The mechanism.
        mechanism: &'static str,
        /// What it did.
        what: &'static str,
    },
    /// There was nothing to log in with (SASL): the token provider gave no token, or none that can be sent, or the
    /// system gave no random numbers.
    NoCredentials {
        /// The mechanism.
        mechanism: &'static str,
        /// Why: one line, escaped and cut, fit for a log.
        what: Arc<str>,
    },
    /// The broker answered with an error code.
    Refused {
        /// The API that was called.
        api: &'static str,
        /// The error code.
        code: ErrorCode,
    },
}

/// The kind of server, other than Kafka, that seems to answer at an address.
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
    /// `true` if a new attempt cannot help unless somebody changes the listener there.
    pub(crate) fn is_permanent(&self) -> bool {
        match self {
            Self::Tls(fault) => !matches!(fault, TlsFault::ClosedInHandshake | TlsFault::ClosedAtOnce),
            Self::NotKafka(_) | Self::Controller | Self::UnsupportedApi { .. } | Self::Refused { .. } => true,
            Self::NoCredentials { .. } => false,
            other => other.is_about_login(),
        }
    }

    /// `true` if the login failed, and does again if it is tried soon.
    pub(crate) fn is_about_login(&self) -> bool {
        matches!(
            self,
            Self::UnsupportedMechanism { .. }
                | Self::NoLogin
                | Self::TlsRefused { .. }
                | Self::AuthenticationFailed { .. }
                | Self::UntrustedBroker { .. }
                | Self::NoCredentials { .. }
        )
    }

    /// `true` if no connection was made, so that the address may be wrong.
    fn is_unreachable(&self) -> bool {
        match self {
            Self::Resolve(error) | Self::Connect(error) => !is_out_of_descriptors(error),
            Self::ConnectTimeout(_) | Self::CheckTimeout(_) => true,
            _ => false,
        }
    }

    fn what(&self) -> What<'_> {
        What(self)
    }
}

impl ApiRange {
    /// The versions from `min` to `max`, both included.
    #[must_use]
    pub const fn new(min: i16, max: i16) -> Self {
        Self { min, max }
    }

    /// `true` if `version` is in the range.
    #[must_use]
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// An error code from a broker, with the broker, the API and the partition.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BrokerError {
    /// The broker's node id, unless it answered at an address that the user gave, before it said who it is.
    pub node: Option<i32>,
    /// Its address as `host:port`.
    pub address: Arc<str>,
    /// The API that was called, such as `Produce`.
    pub api: &'static str,
    /// The topic that the code is about, if it is about one.
    pub topic: Option<Topic>,
    /// The partition of that topic, if the code is about one.
    pub partition: Option<i32>,
    /// The error code.
    pub code: ErrorCode,
    /// The broker's own message, if it sent one: one line, escaped and cut, fit for a log.
    pub message: Option<Arc<str>>,
    /// The cure, in words; empty where the error that has this one as its cause says it.
    pub advice: &'static str,
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.advertised {
            Some(Advertised { node, by }) if self.kind.is_unreachable() => write!(
                f,
                "broker {node} at {}: {}; broker {by} says that it is there: check its advertised.listeners, and the \
                 network between",
                self.address,
                self.kind.what()
            ),
            Some(Advertised { node, .. }) => write!(f, "broker {node} at {}: {}", self.address, self.kind),
            None => write!(f, "broker {}: {}", self.address, self.kind),
        }
    }
}

/// The failure alone, without the advice.
struct What<'a>(&'a ConnectionErrorKind);

impl fmt::Display for What<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ConnectionErrorKind::Resolve(error) if is_out_of_descriptors(error) => {
                write!(f, "the host name cannot be looked up ({error})")
            }
            ConnectionErrorKind::Resolve(error) => {
                // It may be that of a user's resolver.
                write!(f, "the host name has no address ({})", OneLine(error))
            }
            ConnectionErrorKind::Connect(error) => write!(f, "cannot connect ({error})"),
            ConnectionErrorKind::ConnectTimeout(after) => write!(f, "no connection within connect_timeout ({after:?})"),
            ConnectionErrorKind::CheckTimeout(after) => write!(f, "no connection within the {after:?} of the check"),
            other => fmt::Display::fmt(other, f),
        }
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
            Self::Resolve(error) => {
                write!(f, "{}; {}", self.what(), advice(error, "check its spelling and the DNS"))
            }
            Self::Connect(error) => {
                write!(f, "{}; {}", self.what(), advice(error, "check that a broker listens there"))
            }
            Self::ConnectTimeout(_) => {
                write!(f, "{}; check the address and the firewalls between, or raise it", self.what())
            }
            Self::CheckTimeout(_) => {
                write!(f, "{}; check the address and the firewalls between, or allow more time", self.what())
            }
            Self::SocketTimeout { api, after } => {
                match api {
                    Some(api) => write!(f, "no answer to {api}")?,
                    None => f.write_str("no bytes were accepted")?,
                }
                write!(
                    f,
                    " within socket_timeout ({after:?}); check the load of the broker and the network, or raise it"
                )
            }
            Self::Closed => f.write_str(
                "the broker closed the connection; if that repeats, check that its listener is of the kind that is \
                 set up here, plaintext or TLS, and read the broker's log",
            ),
            Self::ClosedUnanswered { api } if api.starts_with("Sasl") => write!(
                f,
                "the broker closed the connection instead of answering {api}; if that repeats, check the user and the \
                 secret, and read the broker's log"
            ),
            Self::ClosedUnanswered { api } => write!(
                f,
                "the broker closed the connection instead of answering {api}, the first request after the handshake; \
                 if that repeats, the listener wants a login (SASL): give one with ClientBuilder::sasl (feature \
                 `sasl`), or use the port of a plaintext listener"
            ),
            Self::GivenUp(why) => write!(f, "the connection was given up: {why}"),
            Self::Io(error) if is_out_of_descriptors(error) => {
                write!(f, "it cannot be used ({error}); {}", advice(error, ""))
            }
            Self::Io(error) => write!(
                f,
                "the connection broke ({error}); if that repeats, check the network and the \
                 broker's log"
            ),
            Self::Tls(fault) => fmt::Display::fmt(fault, f),
            Self::TlsRefused { alert } => {
                write!(f, "the broker refused TLS with the alert {alert}; {}", alert.advice())
            }
            Self::NotKafka(speaks) => fmt::Display::fmt(speaks, f),
            Self::Controller => f.write_str(
                "a KRaft controller listens there, which takes no messages; use the address of a broker, as its \
                 advertised.listeners has it",
            ),
            Self::BadSize { api, size, limit } => {
                match api {
                    Some(api) => write!(f, "a response to {api} of {size} bytes was announced")?,
                    None => write!(f, "a response of {size} bytes was announced, which nobody asked for")?,
                }
                write!(f, ", the limit is {limit}; check that a broker listens there, or raise max_response_bytes")
            }
            Self::BadResponse { api, what } => {
                let what = OneLine(what);
                write!(
                    f,
                    "the {api} response cannot be read ({what}); check what stands between here \
                     and the broker, or report it"
                )
            }
            Self::Unasked => f.write_str(
                "a response came that nobody asked for; check what stands between here and the broker, or report it",
            ),
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
            Self::UnsupportedMechanism { mechanism, offered } => write!(
                f,
                "the listener has no login by {mechanism}, it has: {offered}; use one of these, or enable it there \
                 (sasl.enabled.mechanisms)"
            ),
            Self::NoLogin => f.write_str(
                "the listener takes no login (SASL); use the port of a SASL listener, or leave ClientBuilder::sasl out",
            ),
            Self::AuthenticationFailed { mechanism, code, message } => {
                write!(f, "the broker refused the login by {mechanism}")?;
                if *code != ErrorCode::NONE {
                    write!(f, ": {code}")?;
                }
                if let Some(message) = message {
                    write!(f, ", \"{message}\"")?;
                }
                f.write_str("; check the user and the secret, and that the broker knows them")
            }
            Self::UntrustedBroker { mechanism, what } => write!(
                f,
                "the broker cannot be trusted, {what} (login by {mechanism}); check the address, and what stands \
                 between here and the broker"
            ),
            Self::NoCredentials { mechanism, what } => {
                write!(f, "there is nothing to log in with by {mechanism}: {what}; it is asked for again")
            }
            Self::Refused { api, code } => write!(f, "refused {api}: {code}"),
        }
    }
}

impl fmt::Display for Speaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "an HTTP server answers there, not Kafka; check the port",
            Self::Tls => {
                "a TLS listener answers there; set tls up (ottla's feature tls), or use the port of a plaintext listener"
            }
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
        match self.node {
            Some(node) => write!(f, "broker {node} at {} refused {}", self.address, self.api)?,
            None => write!(f, "broker {} refused {}", self.address, self.api)?,
        }
        match (&self.topic, self.partition) {
            (Some(topic), Some(partition)) => write!(f, " for {topic}-{partition}")?,
            (Some(topic), None) => write!(f, " for topic {topic}")?,
            (None, _) => {}
        }
        write!(f, ": {}", self.code)?;
        if let Some(message) = &self.message {
            write!(f, ", \"{message}\"")?;
        }
        if self.advice.is_empty() { Ok(()) } else { write!(f, "; {}", self.advice) }
    }
}

impl Error for BrokerError {}

#[cfg(test)]
mod tests {
    use super::super::NotStarted;
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
            (
                Kind::Resolve(io("no such\nname")),
                "the host name has no address (no such name); check its spelling and the DNS",
            ),
            (Kind::Connect(io("refused")), "cannot connect (refused); check that a broker listens there"),
            (
                Kind::ConnectTimeout(second),
                "no connection within connect_timeout (1s); check the address and the firewalls \
                 between, or raise it",
            ),
            (
                Kind::CheckTimeout(second),
                "no connection within the 1s of the check; check the address and the firewalls between, or allow more \
                 time",
            ),
            (
                Kind::SocketTimeout { api: Some("Produce"), after: second },
                "no answer to Produce within socket_timeout (1s); check the load of the broker and the \
                 network, or raise it",
            ),
            (
                Kind::SocketTimeout { api: None, after: second },
                "no bytes were accepted within socket_timeout (1s); check the load of the broker and the \
                 network, or raise it",
            ),
            (
                Kind::Closed,
                "the broker closed the connection; if that repeats, check that its listener is of the kind that is \
                 set up here, plaintext or TLS, and read the broker's log",
            ),
            (
                Kind::Io(io("reset")),
                "the connection broke (reset); if that repeats, check the network and the \
                 broker's log",
            ),
            (Kind::NotKafka(Speaks::Http), "an HTTP server answers there, not Kafka; check the port"),
            (
                Kind::NotKafka(Speaks::Tls),
                "a TLS listener answers there; set tls up (ottla's feature tls), or use the port of a plaintext listener",
            ),
            (Kind::NotKafka(Speaks::Ssh), "an SSH server answers there, not Kafka; check the port"),
            (Kind::NotKafka(Speaks::Unknown), "what answers there is not Kafka; check the address and the port"),
            (
                Kind::ClosedUnanswered { api: "Metadata" },
                "the broker closed the connection instead of answering Metadata, the first request after the \
                 handshake; if that repeats, the listener wants a login (SASL): give one with ClientBuilder::sasl \
                 (feature `sasl`), or use the port of a plaintext listener",
            ),
            (
                Kind::ClosedUnanswered { api: "SaslAuthenticate" },
                "the broker closed the connection instead of answering SaslAuthenticate; if that repeats, check the \
                 user and the secret, and read the broker's log",
            ),
            (
                Kind::UnsupportedMechanism { mechanism: "PLAIN", offered: "SCRAM-SHA-256, OAUTHBEARER".into() },
                "the listener has no login by PLAIN, it has: SCRAM-SHA-256, OAUTHBEARER; use one of these, or enable \
                 it there (sasl.enabled.mechanisms)",
            ),
            (
                Kind::NoLogin,
                "the listener takes no login (SASL); use the port of a SASL listener, or leave ClientBuilder::sasl out",
            ),
            (
                Kind::AuthenticationFailed {
                    mechanism: "PLAIN",
                    code: ErrorCode::SASL_AUTHENTICATION_FAILED,
                    message: Some("Authentication failed".into()),
                },
                "the broker refused the login by PLAIN: SASL_AUTHENTICATION_FAILED (58), \"Authentication failed\"; \
                 check the user and the secret, and that the broker knows them",
            ),
            (
                Kind::AuthenticationFailed { mechanism: "SCRAM-SHA-256", code: ErrorCode::NONE, message: None },
                "the broker refused the login by SCRAM-SHA-256; check the user and the secret, and that the broker \
                 knows them",
            ),
            (
                Kind::UntrustedBroker { mechanism: "SCRAM-SHA-256", what: "its salt is not base64" },
                "the broker cannot be trusted, its salt is not base64 (login by SCRAM-SHA-256); check the address, \
                 and what stands between here and the broker",
            ),
            (
                Kind::NoCredentials { mechanism: "OAUTHBEARER", what: "the token provider failed (down)".into() },
                "there is nothing to log in with by OAUTHBEARER: the token provider failed (down); it is asked for \
                 again",
            ),
            (Kind::GivenUp("it moved"), "the connection was given up: it moved"),
            (
                Kind::Controller,
                "a KRaft controller listens there, which takes no messages; use the address of a broker, as its \
                 advertised.listeners has it",
            ),
            (
                Kind::BadSize { api: Some("Metadata"), size: -1, limit: 5 },
                "a response to Metadata of -1 bytes was announced, the limit is 5; check that a broker \
                 listens there, or raise max_response_bytes",
            ),
            (
                Kind::BadSize { api: None, size: 9, limit: 5 },
                "a response of 9 bytes was announced, which nobody asked for, the limit is 5; check that a broker \
                 listens there, or raise max_response_bytes",
            ),
            (
                Kind::Unasked,
                "a response came that nobody asked for; check what stands between here and the broker, or report it",
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
                Kind::Refused { api: "Metadata", code: ErrorCode::CLUSTER_AUTHORIZATION_FAILED },
                "refused Metadata: CLUSTER_AUTHORIZATION_FAILED (31)",
            ),
        ] {
            assert_text(kind, text);
        }
    }

    #[test]
    fn a_connection_error_names_the_broker_and_leads_to_its_cause() {
        let kind = ConnectionErrorKind::Connect(io("refused"));
        let error = ConnectionError { address: "kafka-1:9092".into(), advertised: None, kind };
        assert_text(&error, "broker kafka-1:9092: cannot connect (refused); check that a broker listens there");
        assert_eq!(error.source().unwrap().to_string(), "refused");
        let kind = ConnectionErrorKind::Closed;
        let error = ConnectionError { address: "kafka-1:9092".into(), advertised: None, kind };
        assert!(error.source().is_none());
    }

    #[test]
    fn an_address_that_the_cluster_told_of_is_told_with_who_said_so() {
        let advertised = Some(Advertised { node: 3, by: "kafka-1:9092".into() });
        let mut error = ConnectionError {
            address: "inside:9092".into(),
            advertised,
            kind: ConnectionErrorKind::Connect(io("refused")),
        };
        let rest = "broker kafka-1:9092 says that it is there: check its advertised.listeners, and the network between";
        for (kind, what) in [
            (ConnectionErrorKind::Connect(io("refused")), "cannot connect (refused)"),
            (ConnectionErrorKind::Resolve(io("unknown name")), "the host name has no address (unknown name)"),
            (
                ConnectionErrorKind::ConnectTimeout(Duration::from_secs(10)),
                "no connection within connect_timeout (10s)",
            ),
        ] {
            error.kind = kind;
            assert_text(&error, &format!("broker 3 at inside:9092: {what}; {rest}"));
        }
        error.kind = ConnectionErrorKind::GivenUp("it moved");
        assert_text(&error, "broker 3 at inside:9092: the connection was given up: it moved");
    }

    #[test]
    #[cfg(unix)]
    fn without_descriptors_the_address_is_not_to_blame() {
        let rest = "no descriptors are left: raise their limit (ulimit -n), or close what is open";
        for (code, text) in
            [(23, "Too many open files in system (os error 23)"), (24, "Too many open files (os error 24)")]
        {
            let error = || Arc::new(io::Error::from_raw_os_error(code));
            for (kind, what) in [
                (ConnectionErrorKind::Resolve(error()), "the host name cannot be looked up"),
                (ConnectionErrorKind::Connect(error()), "cannot connect"),
                (ConnectionErrorKind::Io(error()), "it cannot be used"),
            ] {
                assert_text(&kind, &format!("{what} ({text}); {rest}"));
                let advertised = Some(Advertised { node: 3, by: "kafka-1:9092".into() });
                let error = ConnectionError { address: "inside:9092".into(), advertised, kind };
                assert_text(&error, &format!("broker 3 at inside:9092: {what} ({text}); {rest}"));
            }
            assert_text(NotStarted(&error()), &format!("the producer's threads did not start ({text}); {rest}"));
        }
    }

    #[test]
    fn a_broker_error_names_broker_api_partition_and_code() {
        let mut error = BrokerError {
            node: Some(3),
            address: "kafka-3:9092".into(),
            api: "Produce",
            topic: Some(Topic::new("orders").unwrap()),
            partition: Some(7),
            code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
            message: Some("moved away".into()),
            advice: "wait for it",
        };
        assert_text(
            &error,
            "broker 3 at kafka-3:9092 refused Produce for orders-7: NOT_LEADER_OR_FOLLOWER (6), \"moved away\"; \
             wait for it",
        );
        (error.partition, error.message, error.advice) = (None, None, "");
        assert_text(&error, "broker 3 at kafka-3:9092 refused Produce for topic orders: NOT_LEADER_OR_FOLLOWER (6)");
        error.topic = None;
        assert_text(&error, "broker 3 at kafka-3:9092 refused Produce: NOT_LEADER_OR_FOLLOWER (6)");
        error.node = None;
        assert_text(&error, "broker kafka-3:9092 refused Produce: NOT_LEADER_OR_FOLLOWER (6)");
    }
}
