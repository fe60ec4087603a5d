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

#[test]
fn brokers_of_before_kip_219_were_silent_themselves() {
    // Up to these versions the broker holds the answer back for the time that it tells.
    for (api, last) in [(Api::Produce, 5), (Api::Metadata, 5), (Api::ApiVersions, 1), (Api::InitProducerId, 0)] {
        for (max, silent) in [(last, false), (last + 1, true)] {
            let mut bench = Bench::new(1, |cluster| cluster.topic("a", 1).api_version(api, 0, max));
            let fault = Fault::on(api).throttle(secs(5));
            // A client that asks in a version which is too new is told so, and asks again.
            bench.cluster.inject(if api == Api::ApiVersions { fault } else { fault.times(1) });
            for n in ["0", "1"] {
                bench.append(&Message::new("a", n));
                bench.pass(secs(1));
            }
            let delivered = bench.delivered.len();
            assert_eq!(delivered < 2, silent, "{delivered} after {api} in version {max}");
            // The next answer on the same connection ends it, if there was one.
            let said = bench.engine.last_error().map(ToString::to_string).unwrap_or_default();
            assert!(said.is_empty() || said.contains("quota"), "it is no failure: {said}");
            let wakes = bench.pass(secs(5));
            assert!(wakes <= 10, "{wakes} wake-ups in the silence after {api} in version {max}");
            assert_eq!((bench.delivered.len(), bench.failed.len()), (2, 0), "{api} in version {max}");
        }
    }
}
