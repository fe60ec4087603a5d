//! The in-process cluster, used by Kafka's own clients: it speaks the protocol, and not only ottla's part of it.

use std::time::Duration;

use ottla::testing::Cluster;
use ottla::{Client, Message};

use crate::tools;

#[test]
fn kafkas_console_producer_writes_to_the_in_process_cluster() {
    let cluster = Cluster::builder().topic("from-kafka", 3).start().expect("loopback");
    let lines: String = (0..1_000).map(|number| format!("key {}\tvalue {number}\n", number % 10)).collect();
    tools::console_produce(&cluster.bootstrap(), "from-kafka", true, &lines);
    let stored = cluster.messages("from-kafka");
    assert_eq!(stored.len(), 1_000);
    for number in 0..1_000 {
        let (key, value) = (format!("key {}", number % 10), format!("value {number}"));
        let found = stored.iter().filter(|message| message.value_str() == Some(&value)).collect::<Vec<_>>();
        assert_eq!(found.len(), 1, "{value}");
        assert_eq!(found[0].key_str(), Some(&*key));
    }
    assert!(stored.iter().all(|message| message.producer_id >= 0), "Kafka's producer is idempotent");
}

#[test]
fn kafkas_console_consumer_reads_from_the_in_process_cluster() {
    let cluster = Cluster::builder().topic("to-kafka", 2).start().expect("loopback");
    let client = Client::builder([cluster.bootstrap()]).build().unwrap();
    let producer = client.async_producer().streaming().build().unwrap();
    for number in 0..1_000 {
        let message = Message::new("to-kafka", format!("value {number}"))
            .with_key("key")
            .with_partition(1)
            .with_header("h", &b"one"[..])
            .with_header("h", &b"two"[..]);
        producer.produce_timeout(message, Duration::from_secs(10)).expect("there is room in time");
    }
    producer.produce(Message::tombstone("to-kafka", "gone").with_partition(1)).expect("accepted");
    assert_eq!(producer.shutdown().expect("shut down").delivered, 1_001);

    let records = tools::consume(&cluster.bootstrap(), "to-kafka", Some(1), 1_001);
    for (number, record) in records.iter().take(1_000).enumerate() {
        assert_eq!(record.text(), format!("value {number}"));
        assert_eq!(record.key.as_deref(), Some(&b"key"[..]));
        assert_eq!(record.headers, [("h".to_owned(), Some(b"one".to_vec())), ("h".to_owned(), Some(b"two".to_vec()))]);
    }
    assert_eq!((records[1_000].key.as_deref(), records[1_000].value.as_deref()), (Some(&b"gone"[..]), None));
}
