//! A cluster behind a meddler, for tests of single bad answers: each tells one lie, to a producer of its own, and looks
//! whether its messages are delivered in spite of it.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use kafka_protocol::messages::ApiKey;
use ottla::testing::{Cluster, ClusterBuilder};
use ottla::{AsyncProducer, AsyncProducerBuilder, ClientBuilder, DeliveryError, Message};

use crate::common::*;
use crate::door::{Door, broker};
use crate::links::Link;
use crate::meddler::{Answer, Asked, Meddler, honest};

/// The cluster, with topic `orders` of two partitions, and what is done to its answers.
pub struct Liar {
    pub cluster: Cluster,
    pub meddler: Meddler,
    link: Link,
    /// Where clients come to the meddler, if that needs another port.
    front: Option<Door>,
    lies: Arc<Mutex<Lies>>,
    delivered: usize,
}

type Lie = Box<dyn FnMut(Asked, Vec<u8>) -> Answer + Send>;

#[derive(Default)]
struct Lies {
    /// The client that is lied to; those before it may still be closing connections.
    client: usize,
    about: Option<(ApiKey, Lie)>,
    told: usize,
    /// Where this client asked something.
    connections: HashSet<usize>,
}

impl Liar {
    pub fn new() -> Self {
        Self::of(Cluster::builder())
    }

    pub fn of(builder: ClusterBuilder) -> Self {
        Self::on(Link::plain(), builder)
    }

    /// On this link lies are told within TLS, and before the login.
    pub fn on(link: Link, builder: ClusterBuilder) -> Self {
        let cluster = link.brokers_in_the_clear(builder.topic("orders", 2)).start().expect("loopback");
        let lies: Arc<Mutex<Lies>> = Arc::default();
        let shared = Arc::clone(&lies);
        let meddler = Meddler::before(broker(&cluster), move |asked, response| {
            let mut lies = shared.lock().expect("no panic");
            if asked.client != format!("client {}", lies.client) {
                return honest(&response);
            }
            lies.connections.insert(asked.connection);
            match &mut lies.about {
                Some((api, lie)) if *api == asked.api => {
                    let answer = lie(asked, response);
                    lies.told += 1;
                    answer
                }
                _ => honest(&response),
            }
        });
        let front = link.before(meddler.address());
        let liar = Self { cluster, meddler, link, front, lies, delivered: 0 };
        liar.cluster.advertise(1, liar.address().ip().to_string(), liar.address().port());
        liar
    }

    /// Where clients find it.
    pub fn address(&self) -> SocketAddr {
        self.front.as_ref().map_or(self.meddler.address(), |front| front.address)
    }

    /// The next client, who alone is lied to from now on.
    pub fn producer(&self) -> AsyncProducerBuilder {
        self.producer_of(|client| client)
    }

    pub fn producer_of(&self, options: impl FnOnce(ClientBuilder) -> ClientBuilder) -> AsyncProducerBuilder {
        let mut lies = self.lies.lock().expect("no panic");
        lies.client += 1;
        (lies.told, lies.connections) = (0, HashSet::new());
        let client = self.link.client(quick(&self.address().to_string())).client_id(format!("client {}", lies.client));
        let client = options(client.reconnect_backoff(ms(1)).metadata_min_age(ms(1)));
        let client = client.build().expect("good options");
        client.async_producer().retry_backoff(ms(1)).retry_backoff_max(ms(20))
    }

    /// Answers every request of this kind with a lie, from now on.
    pub fn lie(&self, api: ApiKey, lie: impl FnMut(Asked, Vec<u8>) -> Answer + Send + 'static) {
        self.lies.lock().expect("no panic").about = Some((api, Box::new(lie)));
    }

    /// Answers the next request of this kind with `lie`, and the others with the truth. Panics unless messages are
    /// delivered at their offsets, before and after it is found out. Returns how many connections that took.
    pub fn once(&mut self, api: ApiKey, lie: impl FnOnce(Asked, Vec<u8>) -> Answer + Send + 'static) -> usize {
        let mut lie = Some(lie);
        self.lie(api, move |asked, response| match lie.take() {
            Some(lie) => lie(asked, response),
            None => honest(&response),
        });
        let producer = self.producer().build().expect("good options");
        self.deliver(&producer);
        self.deliver(&producer);
        assert_eq!(producer.shutdown().expect("not in a callback").delivered, 12);
        let lies = self.lies.lock().expect("no panic");
        assert!(lies.told > 0, "the lie was told");
        lies.connections.len()
    }

    /// Panics unless three messages for each partition are delivered behind those that are there.
    pub fn deliver(&mut self, producer: &AsyncProducer) {
        let mut handles = Vec::new();
        for n in self.delivered..self.delivered + 3 {
            for partition in 0..2 {
                let message = Message::new("orders", n.to_string()).with_partition(partition);
                handles.push((n, producer.produce_with_handle(message).expect("room")));
            }
        }
        for (n, handle) in handles {
            let fate = handle.wait().unwrap_or_else(|error| panic!("message {n}: {error}"));
            assert_eq!(fate.offset, Some(n as i64), "partition {}", fate.partition);
        }
        self.delivered += 3;
        self.assert_log();
    }

    /// Panics unless six messages for each partition are delivered, each in its own request, without waiting for the
    /// acknowledgement of the one before.
    pub fn deliver_one_by_one(&mut self, producer: &AsyncProducer) {
        let mut handles = Vec::new();
        let mut count = 2 * self.delivered;
        for partition in 0..2 {
            for n in self.delivered..self.delivered + 6 {
                let message = Message::new("orders", n.to_string()).with_partition(partition);
                let handle = producer.produce_with_handle(message).expect("room");
                producer.deliver_messages();
                count += 1;
                self.cluster.wait_for("orders", count, LONG).expect("it arrives");
                if n == self.delivered {
                    // Nothing is sent to a partition beside its first batch.
                    assert!(handle.wait().is_ok());
                } else {
                    handles.push((n, handle));
                }
            }
        }
        for (n, handle) in handles {
            assert_eq!(handle.wait().expect("delivered").offset, Some(n as i64));
        }
        self.delivered += 6;
        self.assert_log();
    }

    /// Panics unless the log has what was delivered, once and in order.
    fn assert_log(&self) {
        let stored = self.cluster.messages("orders");
        for partition in 0..2 {
            let own: Vec<_> = stored.iter().filter(|message| message.partition == partition).cloned().collect();
            assert_in_order(&own, self.delivered);
        }
    }

    /// Answers every request of this kind with a lie, and gives the fate of a message that has some time.
    pub fn always(&self, api: ApiKey, lie: impl FnMut(Asked, Vec<u8>) -> Answer + Send + 'static) -> DeliveryError {
        self.lie(api, lie);
        let producer = self.producer().delivery_timeout(ms(400)).build().expect("good options");
        let message = Message::new("orders", "lost").with_partition(0);
        let error = producer.produce_with_handle(message).expect("room").wait().expect_err("there is no truth");
        // A user sees where it happened.
        assert!(error.to_string().contains(&self.address().to_string()), "{error}");
        error
    }
}
