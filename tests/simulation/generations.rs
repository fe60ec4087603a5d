//! Responses that arrive after their connection was replaced: nobody listens to them, although the numbers of the new
//! connection's requests are the same.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla::config::{ClientConfig, ProducerConfig};
use ottla::engine::producer::ProducerEngine;
use ottla::engine::{Action, Engine};
use ottla::ids::TopicIndex;
use ottla::queue::chunk::Chunk;
use ottla::testing::Cluster;
use ottla::testing::requests::Reply;
use ottla::testing::state::ClusterState;
use ottla::wire::frame::ConnId;
use ottla::{ConnectionErrorKind, Message, Timestamp, Topic};

#[test]
fn a_response_on_a_connection_that_was_replaced_acknowledges_nothing() {
    let mut late = Late::new();
    let (old, first) = late.until_produced();
    late.engine.closed(old, ConnectionErrorKind::Closed, late.now);
    late.now += Duration::from_secs(5);
    let (new, second) = late.until_produced();
    assert_ne!(old, new);
    // Both were appended once; the old answer claims another offset.
    let mut claim = first;
    let offset = claim.windows(8).position(|bytes| bytes == [0xff; 8]).expect("the log append time, -1") - 8;
    claim[offset..offset + 8].copy_from_slice(&77_i64.to_be_bytes());
    late.engine.response(old, &claim, late.now);
    late.engine.wrote(old, 1, 1, late.now);
    late.engine.closed(old, ConnectionErrorKind::Closed, late.now);
    late.engine.advance(late.now);
    assert!(late.engine.next_fate().is_none(), "nobody listens to it");
    assert!(late.engine.next_action().is_none(), "and the new connection is as good as before");
    late.engine.response(new, &second, late.now);
    let fate = late.engine.next_fate().expect("it was delivered");
    let (batch, _) = fate.into_delivered().expect("it was delivered");
    batch.for_each(|delivered| assert_eq!(delivered.offset, Some(0)));
    assert!(late.engine.next_fate().is_none());
    assert_eq!(late.cluster.messages("a").len(), 1);
}

/// An engine with one message, and a broker whose answers to Produce are held.
struct Late {
    engine: ProducerEngine,
    cluster: ClusterState,
    now: Instant,
}

impl Late {
    fn new() -> Self {
        let cluster = ClusterState::new(Cluster::builder().topic("a", 1), &[9000]).expect("a good description");
        let seeds = vec!["127.0.0.1:9000".parse().expect("an address")];
        let config = Arc::new(ProducerConfig::default());
        let mut engine = ProducerEngine::new(Arc::new(ClientConfig::new(seeds)), config, 7);
        engine.add_topic(Topic::new("a").expect("a good name"));
        #[expect(clippy::disallowed_methods, reason = "a moment to count from")]
        let now = Instant::now();
        let mut chunk = Chunk::of(0, TopicIndex(0), &Message::new("a", "v"), TIME);
        engine.append(&mut chunk, now);
        Self { engine, cluster, now }
    }

    /// Does what the engine says until a Produce request was served; its connection, and the answer.
    fn until_produced(&mut self) -> (ConnId, Vec<u8>) {
        for _ in 0..100 {
            self.engine.advance(self.now);
            let mut held = None;
            while let Some(action) = self.engine.next_action() {
                match action {
                    Action::Connect { conn, .. } => self.engine.connected(conn, self.now),
                    Action::Send { conn, frame } => {
                        let request = Bytes::from(frame.to_vec()).slice(4..);
                        self.engine.wrote(conn, 1, 1, self.now);
                        let Reply::Send { bytes, .. } = self.cluster.receive(1, &request, TIME) else { continue };
                        if request[..2] == [0, 0] {
                            held = Some((conn, bytes[4..].to_vec()));
                        } else {
                            self.engine.response(conn, &bytes[4..], self.now);
                        }
                    }
                    Action::Close { .. } | Action::Limit { .. } | Action::AskForToken => {}
                }
            }
            if let Some(held) = held {
                return held;
            }
        }
        panic!("nothing was produced");
    }
}

const TIME: Timestamp = Timestamp::from_millis(1_700_000_000_000);
