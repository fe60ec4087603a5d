//! Every public call, and what each answers in short.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::{AsyncProducer, Client, DeliveryHandle, Message, Produce, WaitTimeout};

/// The producer that is called. A place leaves the only clone here, so that a call can drop the last one.
pub type Own = Arc<Mutex<Option<AsyncProducer>>>;

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What it is for.
    Worked,
    /// It said that it cannot be waited for in this place.
    Refused,
    /// Its time was up.
    TimedOut,
    /// The producer was shut down before.
    Closed,
}

pub struct Call {
    pub name: &'static str,
    pub make: fn(&Own, &Client) -> Answer,
}

/// Less than `LIMIT` in the table, more than anything takes that does not wait for itself.
pub const TIME: Duration = Duration::from_secs(2);

pub const CALLS: [Call; 21] = [
    Call { name: "produce", make: |own, _| answer(get(own).produce(message())) },
    Call { name: "produce_timeout", make: |own, _| answer(get(own).produce_timeout(message(), TIME)) },
    Call { name: "try_produce", make: |own, _| answer(get(own).try_produce(&message())) },
    Call { name: "produce_with_handle", make: |own, _| answer(get(own).produce_with_handle(message())) },
    Call { name: "deliver_messages", make: |own, _| worked(Produce::deliver_messages(&mut get(own))) },
    Call { name: "queue_size", make: |own, _| worked(get(own).queue_size()) },
    Call { name: "last_error", make: |own, _| worked(get(own).last_error()) },
    Call { name: "clone", make: |own, _| worked(get(own)) },
    Call { name: "flush", make: |own, _| answer(get(own).flush(TIME)) },
    Call { name: "purge", make: |own, _| answer(get(own).purge()) },
    Call { name: "partitions_for", make: |own, _| answer(get(own).partitions_for("orders", TIME)) },
    Call { name: "partitions_for a new topic", make: |own, _| answer(get(own).partitions_for("parcels", TIME)) },
    Call { name: "shutdown", make: |own, _| answer(get(own).shutdown()) },
    Call { name: "shutdown_within", make: |own, _| answer(get(own).shutdown_within(TIME)) },
    Call { name: "wait", make: |own, _| with_handle(own, |handle| answer(handle.wait())) },
    Call { name: "wait_timeout", make: |own, _| with_handle(own, |handle| seen(handle.wait_timeout(TIME))) },
    Call {
        name: "wait_all",
        make: |own, _| with_handle(own, |handle| answer(DeliveryHandle::wait_all([handle]).remove(0))),
    },
    Call { name: "try_get", make: |own, _| with_handle(own, |handle| worked(handle.try_get().is_ok())) },
    Call { name: "check", make: |_, client| answer(client.check(TIME)) },
    Call { name: "a sync producer", make: |_, client| sync_producer(client) },
    // The last: it leaves threads that end a moment later, and may spring the trap of another call.
    Call { name: "drop of the last clone", make: |own, _| worked(own.lock().unwrap().take()) },
];

pub fn get(own: &Own) -> AsyncProducer {
    own.lock().unwrap().as_ref().unwrap().clone()
}

pub fn message() -> Message<'static> {
    Message::new("orders", "from inside")
}

fn with_handle(own: &Own, wait: impl FnOnce(DeliveryHandle) -> Answer) -> Answer {
    match get(own).produce_with_handle(message()) {
        Ok(handle) => wait(handle),
        Err(error) => answer::<(), _>(Err(error)),
    }
}

fn sync_producer(client: &Client) -> Answer {
    let mut producer = client.producer().delivery_timeout(TIME).build().unwrap();
    producer.produce(message()).unwrap();
    let delivered = answer(producer.deliver_messages());
    assert_eq!(
        producer.buffer_size() + producer.clear_buffer().len() + producer.shutdown().len() > 0,
        delivered != Answer::Worked
    );
    delivered
}

fn worked<T>(_: T) -> Answer {
    Answer::Worked
}

/// Too short a time says that there is no fate yet.
fn seen(fate: Result<ottla::Fate, WaitTimeout>) -> Answer {
    fate.map_or(Answer::TimedOut, answer)
}

/// Answers are told apart by the names of their errors, which have these in common.
pub fn answer<T, E: Debug>(result: Result<T, E>) -> Answer {
    let Err(error) = result else { return Answer::Worked };
    let error = format!("{error:?}");
    let is = |names: &[&str]| names.iter().any(|name| error.contains(name));
    if is(&["InCallback", "OnWorker"]) {
        Answer::Refused
    } else if is(&["Closed", "ShutDown"]) {
        Answer::Closed
    } else if is(&["Timeout", "Unreachable", "DeliveryFailed"]) {
        Answer::TimedOut
    } else {
        panic!("an answer of another kind: {error}")
    }
}
