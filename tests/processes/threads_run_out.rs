//! The system starts no thread: here because it has no room for its stack, which binds root as well.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use ottla::{FlushReport, MetadataError, ProduceErrorKind};
use rlimit::{Resource, getrlimit, setrlimit};

use crate::apart::*;

#[test]
fn a_first_message_that_cannot_start_threads_comes_back_and_the_next_one_starts_them() {
    let apart = apart(
        "threads_run_out::a_first_message_that_cannot_start_threads_comes_back_and_the_next_one_starts_them",
        |brokers| {
            let producer = builder(brokers).streaming().on_delivery(|fate| assert!(fate.is_ok())).build().unwrap();
            // A thread asks for this much address space and a little more. Room for none, and then for one; the second
            // call may get two, because the system keeps the stack of the first.
            let stack = 64 << 20;
            for room in [stack / 2, stack + stack / 2] {
                let before = (threads(), descriptors());
                let (_, hard) = getrlimit(Resource::AS).unwrap();
                setrlimit(Resource::AS, address_space() + room, hard).unwrap();
                let refused = producer.produce(message("refused"));
                let partitions = producer.partitions_for("orders", LONG);
                setrlimit(Resource::AS, hard, hard).unwrap();
                let error = refused.expect_err(&format!("room for {room}"));
                let ProduceErrorKind::Start(cause) = error.kind() else { panic!("room for {room}: {error}") };
                assert_eq!(cause.kind(), std::io::ErrorKind::WouldBlock, "{cause}");
                assert_eq!(error.into_message().value(), Some(&b"refused"[..]));
                assert!(matches!(partitions, Err(MetadataError::Start(_))), "{partitions:?}");
                assert!(producer.queue_size() == 0 && producer.last_error().is_none());
                assert_eq!(producer.flush(LONG).unwrap(), FlushReport::default());
                let began = Instant::now();
                while (threads(), descriptors()) != before {
                    assert!(began.elapsed() < LONG, "{before:?} became {:?}", (threads(), descriptors()));
                    thread::sleep(Duration::from_millis(1));
                }
            }
            producer.produce(message("accepted")).unwrap();
            assert_eq!(producer.shutdown().unwrap().delivered, 1);
        },
    );
    let Some(cluster) = apart else { return };
    assert_eq!(values(&cluster.messages("orders")), ["accepted"]);
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").unwrap().count()
}

fn address_space() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}
