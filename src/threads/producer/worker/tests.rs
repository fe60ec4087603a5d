//! The worker without a network: the cost of a fault inside it, and of another one on the way out of the first.

use super::*;
use crate::config::{BrokerAddress, ClientConfig, ProducerConfig, QueueConfig};

use crate::engine::producer::Amount;
use crate::message::{Message, Timestamp};
use crate::sync::channel::{Receiver, unbounded};
use crate::threads::driver::tests::Nowhere;
use crate::threads::producer::delivery::Item;

fn worker() -> (Worker<Nowhere>, Receiver<Item>) {
    let producer = Arc::new(ProducerConfig::default());
    let gate = Gate::new(&QueueConfig::default(), &producer);
    gate.open(None, true);
    let client = Arc::new(ClientConfig::new(vec![BrokerAddress { host: "b".into(), port: 9092 }]));
    let mut feed = Feed::new(Arc::clone(&client), producer, true, 7);
    let driver = Driver::over(Nowhere, client, feed.new_engine());
    let (send, items) = unbounded();
    let worker = Worker::new(Arc::new(gate), driver, feed, Outlet::new(Some(send), 100, 100_000), false);
    (worker, items)
}

/// The worker is to give the engine so many messages.
fn produce(worker: &mut Worker<Nowhere>, count: usize) {
    for _ in 0..count {
        let message = Message::new("orders", "v");
        let offered = worker.gate.offer(&message, Timestamp::from_millis(0), None, Duration::ZERO, &|| Ok(()));
        offered.expect("accepted");
    }
    worker.gate.deliver();
    assert_eq!(worker.listen(), Next::Look);
}

/// These messages fail, and wait for their callbacks; returns the amount that they hold.
fn fail(worker: &mut Worker<Nowhere>, count: usize) -> Amount {
    let before = worker.outlet.held();
    worker.outlet.abandon_to(Abandon::ToCallback);
    produce(worker, count);
    worker.obey();
    worker.driver.engine.abandon(worker.driver.now());
    worker.collect();
    let mut held = worker.outlet.held();
    held.subtract(before);
    assert_eq!(held.messages, count);
    held
}

#[test]
fn callbacks_of_a_broken_engine_hold_their_places_in_the_next_one_until_they_return_and_no_others() {
    let (mut worker, items) = worker();
    let first = fail(&mut worker, 3);
    assert!(worker.survive("a test".to_owned()));
    assert_eq!(worker.driver.engine.held(), first, "they have not returned");
    let second = fail(&mut worker, 1);
    // In the order in which the worker sends them.
    worker.hand_on();
    let mut returned = items.try_iter().map(|item| item.held());
    worker.orders.asked.called.held = returned.next().expect("the first");
    worker.obey();
    assert_eq!(worker.driver.engine.held(), second);
    // A fault before the worker has taken in that callbacks returned.
    worker.orders.asked.called.held = returned.next().expect("the second");
    assert!(worker.survive("a test".to_owned()));
    assert_eq!((worker.driver.engine.held(), returned.next().is_none()), (Amount::default(), true));
}

#[test]
fn a_worker_that_breaks_on_every_message_gives_each_its_fate() {
    let (mut worker, items) = worker();
    produce(&mut worker, 21);
    (0..20).for_each(|index| _ = worker.orders.chunks[0].break_at(index));
    let mut faults = 0;
    while contain(|| worker.obey()).is_err() {
        faults += 1;
        if !worker.survive("a test".to_owned()) {
            break;
        }
    }
    assert_eq!(faults, FAULTS_IN_A_ROW);
    worker.end();
    let totals = worker.gate.with(|state| state.totals);
    // One for each fault, the last of which comes while the others are given up.
    assert_eq!((totals.failed, totals.given_up), (9, 12));
    assert_eq!(items.try_iter().map(|item| item.held().messages).sum::<usize>(), 21);
}
