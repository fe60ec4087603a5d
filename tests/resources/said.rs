//! What is said: one line for each thing that operators must know, and never what messages hold.

use std::sync::{Arc, Mutex, mpsc};

use log::{Level, LevelFilter, Log, Metadata, Record};
use ottla::testing::{Api, Cluster, Fault};
use ottla::{AsyncProducer, ErrorCode, Message, ShutdownReport, Undelivered};

use crate::common::*;

#[test]
fn a_producer_that_is_dropped_with_messages_says_how_many_and_tells_each() {
    alone("said::a_producer_that_is_dropped_with_messages_says_how_many_and_tells_each", || {
        listen();
        let (send, told) = mpsc::channel();
        let address = nobody();
        let builder = producer(&address).drop_timeout(ms(100));
        let producer = builder.on_delivery(move |fate| send.send(fate.unwrap_err().message().tag()).unwrap());
        let producer = producer.build().unwrap();
        for tag in 0..7 {
            producer.produce(Message::new("orders", "v").with_tag(tag)).unwrap();
        }
        let handle = producer.produce_with_handle(Message::new("orders", "v").with_tag(7)).unwrap();
        drop(producer);
        assert_eq!(told.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(handle.wait().unwrap_err().message().tag(), 7);
        let lines = LINES.lines(|level, line| level == Level::Warn && line.contains("dropped without shutdown"));
        let [line] = &lines[..] else { panic!("{lines:?}") };
        for part in ["8 messages were not delivered", "drop_timeout (100ms)", &address] {
            assert!(line.contains(part), "{line}");
        }
    });
}

#[test]
fn a_producer_that_delivered_all_is_dropped_without_a_word() {
    alone("said::a_producer_that_delivered_all_is_dropped_without_a_word", || {
        listen();
        let cluster = cluster(1);
        let producer = producer(&cluster.bootstrap()).build().unwrap();
        (0..100).for_each(|_| producer.produce(Message::new("orders", "v")).unwrap());
        drop(producer);
        assert_eq!(cluster.messages("orders").len(), 100);
        let lines = LINES.lines(|level, _| level <= Level::Warn);
        assert!(lines.is_empty(), "{lines:?}");
    });
}

#[test]
fn a_cluster_that_has_just_started_is_waited_for_without_a_word() {
    alone("said::a_cluster_that_has_just_started_is_waited_for_without_a_word", || {
        listen();
        let cluster = cluster(1);
        // COORDINATOR_LOAD_IN_PROGRESS: it has no producer ids to give as yet.
        let starting =
            cluster.inject(Fault::on(Api::InitProducerId).times(2).error(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        let producer = producer(&cluster.bootstrap()).build().unwrap();
        producer.produce(Message::new("orders", "v")).unwrap();
        assert_eq!((producer.shutdown().unwrap().delivered, starting.hits()), (1, 2));
        let lines = LINES.lines(|level, _| level <= Level::Warn);
        assert!(lines.is_empty(), "{lines:?}");
    });
}

#[test]
fn a_batch_that_is_cut_has_no_line_and_a_topic_that_is_waited_for_has_one() {
    alone("said::a_batch_that_is_cut_has_no_line_and_a_topic_that_is_waited_for_has_one", || {
        listen();
        let cluster = Cluster::builder().topic("orders", 1).max_message_bytes(2000).auto_create(false);
        let cluster = cluster.start().unwrap();
        let producer = producer(&cluster.bootstrap()).streaming().build().unwrap();
        for _ in 0..3000 {
            producer.produce(Message::new("orders", "x".repeat(700))).unwrap();
        }
        assert_eq!(producer.flush(LONG).unwrap().delivered, 3000);
        assert!(!LINES.lines(|_, line| line.contains("is cut")).is_empty(), "some were");
        let lines = LINES.lines(|level, _| level <= Level::Warn);
        assert!(lines.is_empty(), "{lines:?}");
        producer.produce(Message::new("ordres", "v")).unwrap();
        // The other topic goes on beside it.
        for _ in 0..40 {
            producer.produce(Message::new("orders", "v")).unwrap();
            std::thread::sleep(ms(100));
        }
        let lines = LINES.lines(|level, _| level <= Level::Warn);
        let [line] = &lines[..] else { panic!("{lines:?}") };
        assert!(line.contains("topic ordres does not exist"), "{line}");
        assert_eq!(producer.shutdown_within(ms(10)).unwrap().delivered, 3040);
    });
}

/// `Debug` of a `Message` is the exception: it is the caller's own, and shows what it holds.
#[test]
fn neither_logs_nor_errors_show_what_messages_hold() {
    alone("said::neither_logs_nor_errors_show_what_messages_hold", || {
        listen();
        let mut shown = String::new();
        let secret = |tag| {
            Message::new("orders", SECRET)
                .with_key(SECRET)
                .with_header("h", SECRET)
                .with_partition_key(SECRET)
                .with_tag(tag)
        };
        // Delivered, refused by the broker, to no partition, too large, and after the end.
        let cluster = cluster(2);
        let (send, told) = mpsc::channel();
        let builder = producer(&cluster.bootstrap()).max_message_bytes(2000).max_queue_size(100);
        let builder = builder.on_delivery(move |fate| {
            send.send(format!("{fate:?}")).unwrap();
            assert!(fate.is_ok(), "a callback of the test panics");
        });
        shown += &format!("{builder:?}");
        let producer = builder.build().unwrap();
        produce(&producer, [secret(1), secret(2).with_partition(7)]);
        let _ = producer.flush(LONG).unwrap();
        let refused = cluster.inject(Fault::on(Api::Produce).error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
        produce(&producer, [secret(3)]);
        let handle = producer.produce_with_handle(secret(4)).unwrap();
        shown += &format!("{handle:?}");
        let error = handle.wait().unwrap_err();
        shown += &format!("{error:?} {error} {:?}", error.kind());
        drop(refused);
        let error = producer.produce(secret(5).with_header("h", vec![b'x'; 2000])).unwrap_err();
        shown += &format!("{error:?} {error} {:?}", error.kind());
        shown += &format!("{producer:?}");
        shown += &every_word(producer.shutdown().unwrap());
        let error = producer.produce(secret(6)).unwrap_err();
        shown += &format!("{error:?} {error}");
        shown += &told.iter().collect::<String>();
        // Given up, and left in the buffer.
        let producer = crate::common::producer(&nobody()).build().unwrap();
        produce(&producer, [secret(7), secret(8)]);
        shown += &every_word(producer.shutdown_within(ms(50)).unwrap());
        let mut producer = client(&nobody()).producer().delivery_timeout(ms(50)).build().unwrap();
        producer.produce(secret(9)).unwrap();
        let failed = producer.deliver_messages().unwrap_err();
        shown += &format!("{failed:?} {failed} {producer:?}");
        shown += &each(failed.failed);
        producer.produce(secret(10)).unwrap();
        shown += &each(producer.shutdown());

        for tag in [2, 3, 4, 7, 8, 9, 10] {
            assert!(shown.contains(&format!("tag: {tag}")), "the failure of message {tag} was shown: {shown}");
        }
        assert!(!LINES.lines(|level, _| level == Level::Debug).is_empty(), "everything is logged");
        let lines = LINES.lines(|_, _| true);
        for text in lines.iter().chain([&shown]) {
            let bytes = format!("{:?}", SECRET.as_bytes());
            assert!(!text.contains(SECRET) && !text.contains(bytes.trim_matches(['[', ']'])), "{text}");
        }
    });
}

/// All that a report says: its own `Debug` counts the messages, and theirs comes one by one.
fn every_word(report: ShutdownReport) -> String {
    format!("{report:?}") + &each(report.undelivered) + &each(report.failures)
}

fn each(undelivered: Undelivered) -> String {
    undelivered.map(|error| format!("{error:?} {error} {:?}", error.kind())).collect()
}

const SECRET: &str = "the launch code";

fn produce<const N: usize>(producer: &AsyncProducer, messages: [Message<'_>; N]) {
    messages.into_iter().for_each(|message| producer.produce(message).unwrap());
}

/// Every line that ottla logged.
pub struct Lines(Mutex<Vec<(Level, Arc<str>)>>);

pub static LINES: Lines = Lines(Mutex::new(Vec::new()));

pub fn listen() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Trace);
}

impl Lines {
    pub fn lines(&self, which: impl Fn(Level, &str) -> bool) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        lines.iter().filter(|(level, line)| which(*level, line)).map(|(_, line)| line.to_string()).collect()
    }
}

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target().starts_with("ottla") && !record.target().starts_with("ottla::testing") {
            self.0.lock().unwrap().push((record.level(), record.args().to_string().into()));
        }
    }

    fn flush(&self) {}
}
