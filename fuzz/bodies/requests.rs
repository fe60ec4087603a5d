//! The in-process cluster, asked by anybody: it must answer in frames that are some, or close, and never panic.

use std::sync::LazyLock;
use std::time::Duration;

use bytes::Bytes;
use ottla::Timestamp;
use ottla::testing::requests::{Reply, Then};
use ottla::testing::state::ClusterState;
use ottla::testing::{Cluster, Logins};

use super::input::Input;

/// How the cluster is, then requests without their sizes, each behind its length.
pub fn request_decode(data: &[u8]) {
    let mut input = Input::new(data);
    let brokers = 1 + input.below(3) as i32;
    let mut builder = Cluster::builder().brokers(brokers).topic("t", 2).auto_create(input.flag());
    let choice = input.byte();
    if choice & 1 == 1 {
        builder = builder.compacted_topic("c", 1).log_append_time_topic("l", 1).max_message_bytes(200);
    }
    if choice & 0x30 == 0x30 {
        builder = builder.sasl(LOGINS.clone());
    }
    let mut cluster = ClusterState::new(builder, &[9000, 9001, 9002]).expect("the description is good");
    let mut now = 1_700_000_000_000;
    while !input.is_empty() {
        now += i64::from(input.byte());
        let node = 1 + input.below(brokers as usize) as i32;
        let length = usize::from(input.i16() as u16);
        receive(&mut cluster, node, input.take(length), Timestamp::from_millis(now));
    }
    let stored = cluster.messages("t").len() as u64;
    assert!(stored <= cluster.count("t"), "{stored} messages, the next offsets say {}", cluster.count("t"));
}

/// Made once, because the salted passwords take a while.
static LOGINS: LazyLock<Logins> = LazyLock::new(|| {
    let logins = Logins::new().plain("ann", "secret").scram_sha_256("ann", "secret").scram_sha_512("ann", "secret");
    logins.oauthbearer(|token| token == "secret").session_lifetime(Duration::from_millis(999))
});

/// Lets a broker answer one request, which is without its size; gives the bytes of the answer.
pub fn receive(cluster: &mut ClusterState, node: i32, request: &[u8], now: Timestamp) -> Vec<u8> {
    let mut reply = cluster.receive(node, &Bytes::copy_from_slice(request), now);
    for _ in 0..3 {
        match reply {
            Reply::Send { bytes, then, .. } => {
                check(request, &bytes, then);
                return bytes;
            }
            Reply::Park(parked) => {
                let deadline = parked.deadline().expect("no fault makes it wait");
                assert!(cluster.is_ready(&parked, deadline), "its time is up");
                reply = cluster.resume(*parked, deadline);
            }
        }
    }
    panic!("it waits beyond its deadline");
}

fn check(request: &[u8], answer: &[u8], then: Then) {
    let Some((size, frame)) = answer.split_first_chunk::<4>() else {
        assert!(answer.is_empty(), "a part of a size");
        let acks_0 = request.starts_with(&[0, 0]);
        assert!(then == Then::Close || acks_0, "no answer, and none will come");
        return;
    };
    // The last word to a login that is refused.
    let is_login = request.starts_with(&[0, 17]) || request.starts_with(&[0, 36]);
    assert!(then == Then::Continue || is_login && then == Then::Close);
    assert_eq!(u32::from_be_bytes(*size) as usize, frame.len());
    assert_eq!(frame[..4], request[4..8], "it has the number of its request");
}
