//! Which descriptors are kept, and for how long.

use ottla::Client;

use crate::apart::*;

#[test]
fn what_was_shut_down_keeps_no_descriptor_whoever_still_holds_it() {
    let apart = apart("descriptors::what_was_shut_down_keeps_no_descriptor_whoever_still_holds_it", |brokers| {
        let before = descriptors();
        let producer = builder(brokers).streaming().on_delivery(|fate| assert!(fate.is_ok())).build().unwrap();
        let handle = producer.produce_with_handle(message("async")).unwrap();
        let clone = producer.clone();
        assert_eq!(producer.shutdown().unwrap().delivered, 1);
        assert_eq!(descriptors(), before, "a producer with a clone and a handle that are left");
        drop((clone, handle));

        let client = Client::builder([brokers]).build().unwrap();
        let mut producer = client.producer().build().unwrap();
        producer.produce(message("sync")).unwrap();
        producer.deliver_messages().unwrap();
        assert!(producer.shutdown().is_empty());
        assert_eq!(descriptors(), before, "a sync producer");
        client.check(LONG).unwrap();
        assert_eq!(descriptors(), before, "a check");
    });
    let Some(cluster) = apart else { return };
    assert_eq!(values(&cluster.messages("orders")), ["async", "sync"]);
}
