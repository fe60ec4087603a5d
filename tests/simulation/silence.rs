//! Brokers that ask for silence, because a quota is used up (KIP-219).

use std::time::Duration;

use ottla::Message;
use ottla::testing::{Api, Fault};

use crate::bench::Bench;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn the_silence_that_the_first_answer_of_a_seed_asks_for_is_kept() {
    let mut bench = Bench::new(2, |cluster| cluster.topic("a", 2));
    bench.cluster.inject(Fault::on(Api::Metadata).times(1).throttle(secs(5)));
    for partition in [0, 1] {
        bench.append(&Message::new("a", "v").with_partition(partition));
    }
    bench.pass(Duration::from_millis(4900));
    assert!(bench.failed.is_empty(), "{:?}", bench.failed);
    assert_eq!(bench.delivered.len(), 1, "the other broker gets its message");
    bench.pass(Duration::from_millis(200));
    assert_eq!(bench.delivered.len(), 2);
}
