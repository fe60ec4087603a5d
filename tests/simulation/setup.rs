//! What a seed is about: the cluster, the options and the callers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use ottla::Sasl;
use ottla::config::{ClientConfig, ProducerConfig, QueueConfig, RequiredAcks};
use ottla::testing::state::ClusterState;
use ottla::testing::{Api, Cluster, ClusterBuilder, Logins};

use crate::world::{FIRST_PORT, NAMES, Story, TOPICS};

pub struct Setup {
    pub cluster: ClusterState,
    pub client: Arc<ClientConfig>,
    pub producer: Arc<ProducerConfig>,
    pub queue: QueueConfig,
    pub brokers: i32,
    pub partitions: i32,
    pub auto_create: bool,
    pub callbacks: bool,
    pub callers: usize,
    /// Whether the second topic refuses messages without a key, until it is made anew.
    pub compacted: bool,
    /// Whether the seeds are names that lead to the brokers wherever they are; only then brokers change their address.
    pub names: bool,
    /// Whether connections are encrypted.
    pub encrypted: bool,
    /// Whether topics are named in requests, and not told by their ids.
    pub by_name: bool,
    /// Whether no message fails for want of time, no connection is lost, and no topic loses partitions.
    pub calm: bool,
}

impl Setup {
    pub fn draw(random: &mut Rng, story: Story) -> Self {
        let mut below = |most: u64| random.u64(0..most);
        let brokers = 1 + below(3) as i32;
        let partitions = 1 + below(3) as i32;
        let ports: Vec<u16> = (0..brokers as u16).map(|at| FIRST_PORT + at).collect();
        // A topic that is made anew has perhaps another number of partitions.
        let mut builder = Cluster::builder().brokers(brokers).default_partitions(1 + below(3) as i32);
        if below(4) > 0 {
            builder = builder.topic(TOPICS[0], partitions);
        }
        let compacted = below(8) == 0;
        if compacted {
            builder = builder.compacted_topic(TOPICS[1], partitions);
        }
        if below(8) == 0 {
            builder = builder.max_message_bytes(300);
        }
        let auto_create = below(6) > 0;
        // What takes a moment with Kafka: a topic that a client asks for, and the first ids of a broker.
        let creation_delay = Duration::from_millis([0, 0, 100, 2000][below(4) as usize]);
        let loading_time = Duration::from_millis([0, 0, 30, 3000][below(4) as usize]);
        builder = builder.auto_create(auto_create).creation_delay(creation_delay).loading_time(loading_time);
        let versions = if story == Story::Anew { below(3) } else { 0 };
        if !story.is_any() {
            builder = two_topics(Cluster::builder().brokers(brokers), partitions, versions);
        }
        let logins = (story == Story::Logins).then(|| (below(32), below(4)));
        if let Some((_, lifetime)) = logins {
            let logins = Logins::new().plain("ann", "secret").scram_sha_256("ann", "secret");
            builder =
                builder.sasl(logins.session_lifetime(Duration::from_millis([0, 1100, 4000, 9000][lifetime as usize])));
        }
        let cluster = ClusterState::new(builder, &ports).expect("the topics are good");
        let names = below(3) == 0;
        let first = if names { NAMES } else { FIRST_PORT };
        let seed = |at| format!("127.0.0.1:{}", first + at).parse().expect("an address");
        let mut client = ClientConfig::new((0..brokers as u16).map(seed).collect());
        if let Some((mechanism, _)) = logins {
            let mechanism = if mechanism == 0 { Sasl::scram_sha_256 } else { Sasl::plain };
            let nonces = Mutex::new(Rng::with_seed(below(u64::MAX)));
            client.sasl = Some(mechanism("ann", "secret").nonces(move || {
                let mut nonce = [0; 24];
                nonces.lock().expect("nobody panics with it").fill(&mut nonce);
                nonce
            }));
            client.sasl_over_ssl = false;
        }
        client.socket_timeout = Duration::from_secs([1, 6, 30][below(3) as usize]);
        let mut producer = ProducerConfig { idempotent: below(6) > 0, ..ProducerConfig::default() };
        if !producer.idempotent {
            producer.required_acks = [RequiredAcks::All, RequiredAcks::Leader, RequiredAcks::None][below(3) as usize];
        }
        producer.max_in_flight = 1 + below(5) as usize;
        producer.max_batch_bytes = [200, 400, 2000, 100_000][below(4) as usize];
        producer.max_message_bytes = producer.max_batch_bytes;
        producer.max_buffer_bytesize = [300, 3000, 1 << 20][below(3) as usize];
        producer.delivery_timeout = Duration::from_secs([1, 5, 20, 120][below(4) as usize]);
        producer.unknown_topic_grace = Duration::from_secs([1, 30][below(2) as usize]);
        if below(8) == 0 {
            producer.max_retries = Some(below(4) as u32);
        }
        let calm = story == Story::Anew && below(2) == 0;
        if calm {
            // Answers are late, but in time.
            client.socket_timeout = Duration::from_secs(30);
            producer.delivery_timeout = Duration::from_secs(120);
            (producer.unknown_topic_grace, producer.max_retries) = (Duration::from_secs(30), None);
        }
        if story == Story::Stopped {
            // Answers come soon, so that none is outstanding when time is up, unless the process was stopped.
            producer.delivery_timeout = Duration::from_secs([5, 10][below(2) as usize]);
            (producer.unknown_topic_grace, producer.max_retries) = (Duration::from_secs(30), None);
            producer.max_batch_bytes = producer.max_batch_bytes.max(2000);
            producer.max_buffer_bytesize = producer.max_buffer_bytesize.max(3000);
        }
        let mut queue = QueueConfig {
            max_queue_size: [1, 4, 20, 1000, 1000][below(5) as usize],
            max_queue_bytesize: [400, 3000, 1 << 20, 1 << 20][below(4) as usize],
            delivery_threshold: [0, 0, 1, 1, 5][below(5) as usize],
            delivery_interval: Duration::from_millis([0, 0, 5, 1000, 20_000][below(5) as usize]),
            ..QueueConfig::default()
        };
        if story == Story::Stopped && queue.delivery_interval.is_zero() {
            // Messages leave, so that they are under way when the process is stopped.
            queue.delivery_threshold = queue.delivery_threshold.max(1);
        }
        let (callbacks, callers) = (below(2) == 0, 1 + below(4) as usize);
        let encrypted = story.is_any() && below(3) == 0;
        let (client, producer) = (Arc::new(client), Arc::new(producer));
        Self {
            cluster,
            client,
            producer,
            queue,
            brokers,
            partitions,
            auto_create,
            callbacks,
            callers,
            compacted: compacted && story.is_any(),
            names,
            encrypted,
            by_name: versions > 0,
            calm,
        }
    }
}

/// Both topics, which nobody makes by asking for them; told by their ids, by name though they have ids, or without any.
fn two_topics(mut builder: ClusterBuilder, partitions: i32, versions: u64) -> ClusterBuilder {
    if versions > 0 {
        builder = builder.api_version(Api::Produce, 0, 12);
    }
    if versions > 1 {
        builder = builder.api_version(Api::Metadata, 0, 9);
    }
    builder.topic(TOPICS[0], partitions).topic(TOPICS[1], partitions).auto_create(false)
}
