//! The addresses of a cluster, and the options of connections to it: [`Client`], from which producers are made.
//!
//! Configuration only: it opens no connection and starts no thread.

use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "_tls")]
use crate::config::Tls;
use crate::config::{BrokerAddress, ClientConfig, Security};
use crate::error::{CheckError, ClusterInfo, ConfigError, ConfigProblem};
use crate::producer::{AsyncProducerBuilder, ProducerBuilder};

/// A cluster's addresses and the options of connections to it: the start of every producer.
///
/// It is configuration only and opens nothing: each producer has connections of its own. Cloning it is
/// cheap, and a producer does not need it to be kept.
///
/// ```
/// use std::time::Duration;
///
/// use ottla::Client;
///
/// let client = Client::builder(["kafka-1:9092", "kafka-2:9092"])
///     .client_id("billing")
///     .connect_timeout(Duration::from_secs(3))
///     .build()?;
/// let producer = client.async_producer().streaming().build()?;
/// # drop(producer);
/// # Ok::<(), ottla::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    /// Starts with the seeds: the brokers that are asked first for all others; two or three are enough.
    ///
    /// An item is an address, or several with commas between: `kafka-1`, `kafka-1:9092`, `[::1]:9092`,
    /// `kafka://kafka-1:9092`, `a:9092,b:9092`. The default port is 9092. Behind `ssl://` it needs TLS to be set up.
    /// Spaces around an address, empty parts and repeats are ignored. [`ClientBuilder::build`] reports each part that is
    /// not an address.
    #[doc(alias = "seed_brokers")]
    #[doc(alias = "bootstrap_servers")]
    #[doc(alias = "bootstrap.servers")]
    #[doc(alias = "metadata.broker.list")]
    pub fn builder<I>(seeds: I) -> ClientBuilder
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        let mut addresses: Vec<BrokerAddress> = Vec::new();
        let mut asked_for = Vec::new();
        let mut problems = Vec::new();
        for item in seeds {
            let parts = item.as_ref().split(',').map(str::trim);
            for part in parts.filter(|part| !part.is_empty()) {
                match BrokerAddress::with_security(part) {
                    Ok((address, security)) => {
                        asked_for.extend(security.map(|security| (part.to_owned(), security)));
                        if !addresses.contains(&address) {
                            addresses.push(address);
                        }
                    }
                    Err(error) => problems.push(ConfigProblem::new(&["seeds"], error.to_string())),
                }
            }
        }
        if addresses.is_empty() && problems.is_empty() {
            let text = "seeds has no address: name at least one broker as host:port";
            problems.push(ConfigProblem::new(&["seeds"], text));
        }
        ClientBuilder {
            config: ClientConfig::new(addresses),
            asked_for,
            seed_problems: problems,
            #[cfg(feature = "_tls")]
            tls: None,
        }
    }

    /// Starts to configure a producer that works on the caller's own thread.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(Arc::clone(&self.config))
    }

    /// Starts to configure a producer that works on a thread of its own, so that `produce` does not wait.
    pub fn async_producer(&self) -> AsyncProducerBuilder {
        AsyncProducerBuilder::new(Arc::clone(&self.config))
    }

    /// Checks that the cluster can be used: connects, agrees on versions, asks for metadata, and tries each broker at
    /// its advertised address. With it a program can fail when it starts rather than with its first messages.
    ///
    /// Blocks for at most `timeout`: first until one of the client's own addresses has answered, then until each broker
    /// has answered or failed; all brokers are tried at the same time. The check ends at once if every own address is
    /// something other than a broker that can be used. An own address that does not answer yet is tried again; a
    /// broker's address is tried once. If some brokers answer and others do not, [`ClusterInfo::unreachable`] has the
    /// others, each with its failure. The connections are closed afterwards.
    ///
    /// # Errors
    /// - [`CheckError::Unreachable`]: no broker answered in time, neither at the client's own addresses nor at the
    ///   advertised ones; the error has the failure of each address.
    /// - [`CheckError::Io`]: the system has no descriptors left.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = ottla::Client::builder(["kafka-1:9092"]).build()?;
    /// let cluster = client.check(std::time::Duration::from_secs(10))?;
    /// println!("{} brokers", cluster.brokers.len());
    /// for error in &cluster.unreachable {
    ///     // broker 2 at inside:9092: cannot connect (...); broker kafka-1:9092 says that it is there: check ...
    ///     eprintln!("{error}");
    /// }
    /// # Ok(()) }
    /// ```
    pub fn check(&self, timeout: Duration) -> Result<ClusterInfo, CheckError> {
        crate::threads::check::run(&self.config, timeout)
    }
}

/// Options of a [`Client`]; each has a default that suits most clusters.
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build`"]
pub struct ClientBuilder {
    config: ClientConfig,
    /// The seeds whose scheme asks for TLS, or for none.
    asked_for: Vec<(String, Security)>,
    seed_problems: Vec<ConfigProblem>,
    #[cfg(feature = "_tls")]
    tls: Option<Tls>,
}

impl ClientBuilder {
    /// Names this program to the brokers, for their logs, metrics and quotas.
    ///
    /// Default `ottla`; at most 249 bytes, no control characters.
    #[doc(alias = "client.id")]
    pub fn client_id(mut self, client_id: impl AsRef<str>) -> Self {
        self.config.client_id = client_id.as_ref().into();
        self
    }

    /// The longest time until a connection is ready: name look-up, connecting and handshake together.
    ///
    /// Default 10 s; above zero, at most one year. After it the attempt has failed, and another follows after
    /// [`reconnect_backoff`](Self::reconnect_backoff).
    #[doc(alias = "socket.connection.setup.timeout.ms")]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// The longest time that a broker may take to answer, or to accept a byte, before its connection is given up.
    ///
    /// Default 30 s; at most one year. It must be above a producer's [`ack_timeout`](ProducerBuilder::ack_timeout),
    /// which bounds the broker's own wait for its followers. Requests that were under way are tried again on a new
    /// connection.
    #[doc(alias = "request.timeout.ms")]
    #[doc(alias = "socket.timeout.ms")]
    pub fn socket_timeout(mut self, timeout: Duration) -> Self {
        self.config.socket_timeout = timeout;
        self
    }

    /// The longest time that a connection without a request stays open; the next request opens it again.
    ///
    /// Default 9 minutes, below the 10 after which brokers close it (`connections.max.idle.ms`); above
    /// zero, at most one year.
    #[doc(alias = "connections.max.idle.ms")]
    pub fn connections_max_idle(mut self, idle: Duration) -> Self {
        self.config.connections_max_idle = idle;
        self
    }

    /// The pause after a first failed connection to a broker. It doubles with each further failure up to
    /// [`reconnect_backoff_max`](Self::reconnect_backoff_max), with 20 % jitter.
    ///
    /// A connection that ends after its handshake is no failure: the next one is begun at once, but not before this
    /// pause has passed since the last one was begun, and at most five in a second.
    ///
    /// Default 100 ms; above zero, not above the longest pause.
    #[doc(alias = "reconnect.backoff.ms")]
    pub fn reconnect_backoff(mut self, pause: Duration) -> Self {
        self.config.reconnect_backoff = pause;
        self
    }

    /// The longest pause after failed connections to a broker, give or take 20 %.
    ///
    /// Default 10 s; at most one year.
    #[doc(alias = "reconnect.backoff.max.ms")]
    pub fn reconnect_backoff_max(mut self, pause: Duration) -> Self {
        self.config.reconnect_backoff_max = pause;
        self
    }

    /// The age at which metadata of brokers and topics is asked for again, even without an error.
    ///
    /// Default 5 minutes; above zero, at most one year. New partitions are found at this pace.
    #[doc(alias = "metadata.max.age.ms")]
    #[doc(alias = "topic.metadata.refresh.interval.ms")]
    pub fn metadata_max_age(mut self, age: Duration) -> Self {
        self.config.metadata_max_age = age;
        self
    }

    /// The least time between two requests for metadata, however many errors call for one.
    ///
    /// Default 250 ms; above zero, not above [`metadata_max_age`](Self::metadata_max_age). A lower value
    /// finds a new leader sooner and costs the brokers more.
    #[doc(alias = "topic.metadata.refresh.fast.interval.ms")]
    pub fn metadata_min_age(mut self, age: Duration) -> Self {
        self.config.metadata_min_age = age;
        self
    }

    /// Tries every address of a host name in turn (`true`), or only the first (`false`).
    ///
    /// Default `true` (KIP-602).
    #[doc(alias = "resolve_seed_brokers")]
    #[doc(alias = "client.dns.lookup")]
    pub fn resolve_all_addresses(mut self, all: bool) -> Self {
        self.config.resolve_all_addresses = all;
        self
    }

    /// The largest response, in bytes, that is accepted from a broker; a larger one closes the connection.
    ///
    /// Default 16 MiB; from 16 KiB to 2 GiB less one byte. Metadata of very many topics may need more. It
    /// protects the program's memory from a broker, or something else, that announces nonsense.
    #[doc(alias = "receive.message.max.bytes")]
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.config.max_response_bytes = bytes;
        self
    }

    /// Encrypts the connections to all brokers, with these options.
    ///
    /// Default: none, so everything is sent in the clear. A seed that begins with `ssl://` or `kafka+ssl://` needs it,
    /// and one that begins with `plaintext://` contradicts it.
    #[cfg(feature = "_tls")]
    #[doc(alias = "security.protocol")]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Logs in to every broker, before anything else is asked there.
    ///
    /// Default: no login. A login that is refused is tried again after a pause, 16 times as long as after other
    /// failures: the error names the mechanism and has the broker's words. [`Client::check`] learns it at once,
    /// messages wait for it up to their `delivery_timeout`. If sessions end (`connections.max.reauth.ms`), it logs in
    /// again on the same connection, once what is in flight has its answer (KIP-368).
    #[cfg(feature = "sasl")]
    #[doc(alias = "sasl.mechanism")]
    #[doc(alias = "sasl.jaas.config")]
    pub fn sasl(mut self, sasl: crate::config::sasl::Sasl) -> Self {
        self.config.sasl = Some(sasl);
        self
    }

    /// Logs in over TLS only (`true`), or over connections without encryption, too (`false`).
    ///
    /// Default `true`: without TLS others on the network can read PLAIN's password and OAUTHBEARER's token, and all
    /// messages.
    #[cfg(feature = "sasl")]
    pub fn sasl_over_ssl(mut self, only: bool) -> Self {
        self.config.sasl_over_ssl = only;
        self
    }

    /// Has something else than the system look up host names, for ottla's own tests. No promises.
    #[cfg(feature = "_internal")]
    #[doc(hidden)]
    pub fn resolver(
        mut self,
        look_up: impl Fn(&str) -> std::io::Result<Vec<std::net::SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        self.config.resolver = crate::config::Resolver(Some(Arc::new(look_up)));
        self
    }

    /// Checks the options. Opens no connection, so a cluster that cannot be reached is not found here.
    ///
    /// # Errors
    /// [`ConfigError`] lists everything that is wrong: seeds that are not addresses or are missing, and
    /// options outside their limits or that contradict each other.
    pub fn build(mut self) -> Result<Client, ConfigError> {
        let mut problems = std::mem::take(&mut self.seed_problems);
        self.config.check(&mut problems);
        #[cfg(feature = "sasl")]
        self.config.check_login(self.is_encrypted(), &mut problems);
        self.check_schemes(&mut problems);
        #[cfg(feature = "_tls")]
        if let Some(tls) = &self.tls {
            self.config.encryption = tls.encryption(&mut problems);
        }
        ConfigError::unless_empty(problems)?;
        Ok(Client { config: Arc::new(self.config) })
    }

    #[cfg(feature = "_tls")]
    fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Nothing in this build encrypts.
    #[cfg(not(feature = "_tls"))]
    fn is_encrypted(&self) -> bool {
        false
    }

    /// A seed that asks for TLS is never connected to without, nor the other way round.
    fn check_schemes(&self, problems: &mut Vec<ConfigProblem>) {
        let is_on = self.is_encrypted();
        let cure = if cfg!(feature = "_tls") { "set tls up" } else { "turn on ottla's feature tls, and set it up" };
        for (seed, security) in &self.asked_for {
            let text = match security {
                Security::Tls if !is_on => {
                    format!("the seed {seed:?} asks for TLS: {cure}, or use a plaintext listener as kafka://host:port")
                }
                Security::Plaintext if is_on => {
                    format!("the seed {seed:?} asks for plaintext, and tls is set up: leave one of them out")
                }
                _ => continue,
            };
            problems.push(ConfigProblem::new(&["seeds", "tls"], text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

    fn options(error: &ConfigError) -> Vec<&[&str]> {
        error.problems().iter().map(ConfigProblem::options).collect()
    }

    fn seeds(builder: ClientBuilder) -> Vec<String> {
        let client = builder.build().unwrap();
        client.config.seeds.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_item_may_name_several_seeds() {
        let several = seeds(Client::builder(["a:1, b:2,", "c", "kafka://a:1", ""]));
        assert_eq!(several, ["a:1", "b:2", "c:9092"]);
        assert_eq!(seeds(Client::builder(vec![String::from("a")])), ["a:9092"]);
        assert_eq!(seeds(Client::builder(&["a"])), ["a:9092"]);
        assert_eq!(seeds(Client::builder(Some("[::1]:7\n"))), ["[::1]:7"]);
    }

    #[test]
    fn no_seed_is_a_problem() {
        for none in [vec![], vec![""], vec![" , ", ","]] {
            let error = Client::builder(none).build().unwrap_err();
            assert_eq!(options(&error), [["seeds"]]);
            assert_eq!(error.to_string(), "seeds has no address: name at least one broker as host:port");
        }
    }

    #[test]
    fn every_bad_seed_is_named() {
        let error = Client::builder(["a:0,b", "http://c"]).build().unwrap_err();
        assert_eq!(options(&error), [["seeds"], ["seeds"]]);
        let text = error.to_string();
        assert!(text.contains("\"a:0\"") && text.contains("\"http://c\""), "{text}");
    }

    #[test]
    fn a_seed_that_asks_for_tls_needs_it() {
        for seed in ["ssl://a:9093", "kafka+ssl://a", "SSL://[::1]:9093"] {
            let error = Client::builder([seed, "b"]).build().unwrap_err();
            assert_eq!(options(&error), [["seeds", "tls"]]);
            let text = error.to_string();
            assert!(text.starts_with(&format!("the seed {seed:?} asks for TLS: ")), "{text}");
        }
        assert!(Client::builder(["plaintext://a"]).build().is_ok());
    }

    #[test]
    #[cfg(feature = "_tls")]
    fn tls_is_for_seeds_that_do_not_ask_for_plaintext() {
        let tls = || Tls::new().dangerous_accept_any_certificate();
        let error = Client::builder(["plaintext://a:9093", "b"]).tls(tls()).build().unwrap_err();
        assert_eq!(options(&error), [["seeds", "tls"]]);
        assert_eq!(
            error.to_string(),
            "the seed \"plaintext://a:9093\" asks for plaintext, and tls is set up: leave one of them out"
        );
        for seed in ["a", "kafka://a", "ssl://a", "kafka+ssl://a:9093/"] {
            let client = Client::builder([seed]).tls(tls()).build().unwrap();
            assert!(client.config.encryption.is_some(), "{seed}");
        }
        assert!(Client::builder(["a"]).build().unwrap().config.encryption.is_none());
    }

    #[test]
    fn the_defaults_are_these() {
        let client = Client::builder(["a"]).build().unwrap();
        let config = &client.config;
        assert_eq!(&*config.client_id, "ottla");
        assert_eq!(config.connect_timeout, Duration::from_secs(10));
        assert_eq!(config.socket_timeout, Duration::from_secs(30));
        assert_eq!(config.connections_max_idle, Duration::from_secs(540));
        assert_eq!(config.reconnect_backoff, Duration::from_millis(100));
        assert_eq!(config.reconnect_backoff_max, Duration::from_secs(10));
        assert_eq!(config.metadata_max_age, Duration::from_secs(300));
        assert_eq!(config.metadata_min_age, Duration::from_millis(250));
        assert!(config.resolve_all_addresses);
        assert_eq!(config.max_response_bytes, 16_777_216);
    }

    #[test]
    fn every_setter_sets_its_own_option() {
        let client = Client::builder(["a"])
            .client_id("b")
            .connect_timeout(Duration::from_secs(1))
            .socket_timeout(Duration::from_secs(2))
            .connections_max_idle(Duration::from_secs(3))
            .reconnect_backoff(Duration::from_secs(4))
            .reconnect_backoff_max(Duration::from_secs(5))
            .metadata_min_age(Duration::from_secs(6))
            .metadata_max_age(Duration::from_secs(7))
            .resolve_all_addresses(false)
            .max_response_bytes(80_000)
            .build()
            .unwrap();
        let config = &client.config;
        assert_eq!(&*config.client_id, "b");
        let times = [
            config.connect_timeout,
            config.socket_timeout,
            config.connections_max_idle,
            config.reconnect_backoff,
            config.reconnect_backoff_max,
            config.metadata_min_age,
            config.metadata_max_age,
        ];
        assert_eq!(times.map(|time| time.as_secs()), [1, 2, 3, 4, 5, 6, 7]);
        assert!(!config.resolve_all_addresses);
        assert_eq!(config.max_response_bytes, 80_000);
    }

    #[test]
    fn all_problems_are_listed_at_once() {
        let error = Client::builder(["a:0"])
            .client_id("x".repeat(250))
            .connect_timeout(Duration::ZERO)
            .socket_timeout(Duration::MAX)
            .connections_max_idle(Duration::ZERO)
            .reconnect_backoff(Duration::from_secs(20))
            .metadata_max_age(Duration::from_millis(1))
            .max_response_bytes(0)
            .build()
            .unwrap_err();
        let expected: [&[&str]; 8] = [
            &["seeds"],
            &["client_id"],
            &["connect_timeout"],
            &["socket_timeout"],
            &["connections_max_idle"],
            &["reconnect_backoff", "reconnect_backoff_max"],
            &["metadata_min_age", "metadata_max_age"],
            &["max_response_bytes"],
        ];
        assert_eq!(options(&error), expected);
        crate::error::tests::assert_reads_well(&error.to_string());
        for problem in error.problems() {
            for option in problem.options().iter().filter(|option| **option != "seeds") {
                assert!(problem.to_string().contains(option), "{problem}");
            }
        }
    }

    #[test]
    fn every_single_limit_is_kept() {
        let zero = Duration::ZERO;
        let above = YEAR + Duration::from_nanos(1);
        let builder = || Client::builder(["a"]);
        for (wrong, option) in [
            (builder().client_id("a\nb"), "client_id"),
            (builder().connect_timeout(above), "connect_timeout"),
            (builder().socket_timeout(zero), "socket_timeout"),
            (builder().connections_max_idle(above), "connections_max_idle"),
            (builder().reconnect_backoff(zero), "reconnect_backoff"),
            (builder().reconnect_backoff_max(above), "reconnect_backoff_max"),
            (builder().metadata_min_age(zero), "metadata_min_age"),
            (builder().metadata_max_age(above), "metadata_max_age"),
            (builder().max_response_bytes(16_383), "max_response_bytes"),
            (builder().max_response_bytes(usize::MAX), "max_response_bytes"),
        ] {
            let error = wrong.build().expect_err(option);
            assert_eq!(options(&error), [[option]], "{error}");
        }
    }

    #[test]
    fn the_limits_themselves_are_legal() {
        let shortest = Duration::from_nanos(1);
        for time in [shortest, YEAR] {
            let built = Client::builder(["a"])
                .client_id("")
                .connect_timeout(time)
                .socket_timeout(time)
                .connections_max_idle(time)
                .reconnect_backoff(time)
                .reconnect_backoff_max(time)
                .metadata_min_age(time)
                .metadata_max_age(time)
                .max_response_bytes(i32::MAX as usize)
                .build();
            assert!(built.is_ok(), "{built:?}");
        }
        let built = Client::builder(["a"]).client_id("x".repeat(249)).max_response_bytes(16_384).build();
        assert!(built.is_ok(), "{built:?}");
    }

    #[test]
    fn a_client_is_shared_and_builders_cross_threads() {
        fn shared<T: Clone + Send + Sync + 'static>() {}
        fn sent<T: Send + 'static>() {}
        shared::<Client>();
        shared::<ClientBuilder>();
        shared::<ProducerBuilder>();
        sent::<AsyncProducerBuilder>();
        let client = Client::builder(["a"]).build().unwrap();
        assert!(Arc::ptr_eq(&client.config, &client.clone().config));
    }
}
