//! The places where a user's code runs. Each has a producer there, and comes to the place once.

use std::panic;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ottla::testing::Cluster;
use ottla::{AsyncProducerBuilder, Client, Message, Partitioner};

use crate::calls::{Own, get};
use crate::spy;

/// What is done in the place, once.
pub type Act = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Which thread of the producer runs the place, if one does: it cannot wait for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    Worker,
    Delivery,
    /// The producer's end has begun: the queue is closed.
    DeliveryAtTheEnd,
    /// A name look-up, without which nothing can be delivered.
    LookUp,
    Another,
}

pub struct Place {
    pub name: &'static str,
    pub on: On,
    /// Puts the producer into its place and does what leads to the place.
    pub enter: fn(&Cluster, &Own, Act),
}

pub const PLACES: [Place; 13] = [
    Place { name: "a delivery callback", on: On::Delivery, enter: callback },
    Place { name: "the drop of a callback", on: On::DeliveryAtTheEnd, enter: drop_of_a_callback },
    Place { name: "a logger on the delivery thread", on: On::Delivery, enter: logger_of_delivery },
    Place { name: "a panic hook on the delivery thread", on: On::Delivery, enter: panic_hook_of_delivery },
    Place { name: "a partitioner", on: On::Worker, enter: partitioner },
    Place { name: "a logger on the worker", on: On::Worker, enter: logger_of_the_worker },
    Place { name: "a panic hook on the worker", on: On::Worker, enter: panic_hook_of_the_worker },
    Place { name: "a name look-up", on: On::LookUp, enter: look_up },
    Place { name: "a conversion into a message", on: On::Another, enter: conversion },
    Place { name: "the handles of wait_all", on: On::Another, enter: handles },
    Place { name: "the partitioner of a sync producer", on: On::Another, enter: sync_partitioner },
    Place { name: "a logger of a sync producer's drop", on: On::Another, enter: logger_of_a_drop },
    Place { name: "the drop of a partitioner", on: On::Another, enter: drop_of_a_partitioner },
];

pub fn client(cluster: &Cluster) -> Client {
    Client::builder([cluster.bootstrap()]).build().unwrap()
}

fn builder(cluster: &Cluster) -> AsyncProducerBuilder {
    client(cluster).async_producer().delivery_timeout(Duration::from_secs(1)).drop_timeout(Duration::from_secs(1))
}

fn act(act: &Act) {
    let act = act.lock().unwrap().take();
    if let Some(act) = act {
        act();
    }
}

/// Has a message delivered by the only clone, which is `own`'s.
fn begin(own: &Own, builder: AsyncProducerBuilder) {
    let mut own = own.lock().unwrap();
    let producer = own.insert(builder.build().unwrap());
    producer.produce(Message::new("orders", "v")).unwrap();
    producer.deliver_messages();
}

fn callback(cluster: &Cluster, own: &Own, inside: Act) {
    begin(own, builder(cluster).on_delivery(move |_| act(&inside)));
}

fn drop_of_a_callback(cluster: &Cluster, own: &Own, inside: Act) {
    let on_drop = OnDrop(inside);
    begin(
        own,
        builder(cluster).on_delivery(move |_| {
            let _captured = &on_drop;
        }),
    );
    let closing = get(own);
    thread::spawn(move || closing.shutdown());
}

fn logger_of_delivery(cluster: &Cluster, own: &Own, inside: Act) {
    spy::arm_logger("ottla-delivery", move || act(&inside));
    // Past the panic hook, which would say so.
    begin(own, builder(cluster).on_delivery(|_| panic::resume_unwind(Box::new("a callback of the test panics"))));
}

fn panic_hook_of_delivery(cluster: &Cluster, own: &Own, inside: Act) {
    spy::arm_panic_hook("ottla-delivery", move || act(&inside));
    let mut first = true;
    begin(
        own,
        builder(cluster).on_delivery(move |_| assert!(!std::mem::take(&mut first), "a callback of the test panics")),
    );
}

fn partitioner(cluster: &Cluster, own: &Own, inside: Act) {
    let custom = Partitioner::custom(move |_| {
        act(&inside);
        0
    });
    begin(own, builder(cluster).partitioner(custom));
}

fn logger_of_the_worker(cluster: &Cluster, own: &Own, inside: Act) {
    spy::arm_logger("ottla-worker", move || act(&inside));
    begin(own, builder(cluster));
}

fn panic_hook_of_the_worker(cluster: &Cluster, own: &Own, inside: Act) {
    spy::arm_panic_hook("ottla-worker", move || act(&inside));
    let custom = Partitioner::custom(|message| match message.key {
        Some(_) => panic!("a partitioner of the test panics"),
        None => 0,
    });
    begin(own, builder(cluster).partitioner(custom));
    let mut own = own.lock().unwrap();
    let producer = own.as_mut().unwrap();
    producer.produce(Message::new("orders", "v").with_key("panic")).unwrap();
    producer.deliver_messages();
}

fn look_up(cluster: &Cluster, own: &Own, inside: Act) {
    let address = cluster.bootstrap().parse().unwrap();
    let client = Client::builder(["kafka.test"]).resolver(move |_| {
        act(&inside);
        Ok(vec![address])
    });
    let timeout = Duration::from_secs(1);
    begin(own, client.build().unwrap().async_producer().delivery_timeout(timeout).drop_timeout(timeout));
}

fn conversion(cluster: &Cluster, own: &Own, inside: Act) {
    begin(own, builder(cluster));
    let producer = get(own);
    let _ = producer.produce(Converted(inside));
}

fn handles(cluster: &Cluster, own: &Own, inside: Act) {
    begin(own, builder(cluster));
    let producer = get(own);
    let handles = (0..2).map(|n| {
        let handle = producer.produce_with_handle(Message::new("orders", "v")).unwrap();
        if n == 1 {
            act(&inside);
        }
        handle
    });
    drop(ottla::DeliveryHandle::wait_all(handles));
}

fn sync_partitioner(cluster: &Cluster, own: &Own, inside: Act) {
    begin(own, builder(cluster));
    let custom = Partitioner::custom(move |_| {
        act(&inside);
        0
    });
    let mut producer = client(cluster).producer().partitioner(custom).build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    producer.deliver_messages().unwrap();
}

fn logger_of_a_drop(cluster: &Cluster, own: &Own, inside: Act) {
    begin(own, builder(cluster));
    let mut producer = client(cluster).producer().build().unwrap();
    producer.produce(Message::new("orders", "v")).unwrap();
    spy::arm_logger("place", move || act(&inside));
    drop(producer);
}

fn drop_of_a_partitioner(cluster: &Cluster, own: &Own, inside: Act) {
    begin(own, builder(cluster));
    let on_drop = OnDrop(inside);
    let custom = Partitioner::custom(move |_| {
        let _captured = &on_drop;
        0
    });
    let other = builder(cluster).partitioner(custom).build().unwrap();
    other.produce(Message::new("orders", "v")).unwrap();
    drop(other);
}

/// A value of the user's that acts when it is dropped.
struct OnDrop(Act);

impl Drop for OnDrop {
    fn drop(&mut self) {
        act(&self.0);
    }
}

struct Converted(Act);

impl From<Converted> for Message<'static> {
    fn from(Converted(inside): Converted) -> Self {
        act(&inside);
        Message::new("orders", "converted")
    }
}
