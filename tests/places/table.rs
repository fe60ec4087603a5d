//! Each call in each place.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ottla::testing::Cluster;

use crate::calls::{Answer, CALLS, Call, Own};
use crate::places::{Act, On, PLACES, Place, client};
use crate::spy;

#[test]
fn every_call_from_every_place_works_or_is_refused_in_time() {
    let _turn = spy::turn();
    let cluster = Arc::new(Cluster::builder().topic("orders", 1).topic("parcels", 2).start().unwrap());
    let mut wrong = Vec::new();
    for place in &PLACES {
        for call in &CALLS {
            match attempt(&cluster, place, call) {
                Ok(answer) if expected(place.on, call.name).contains(&answer) => {}
                Ok(answer) => wrong.push(format!("{} in {}: {answer:?}", call.name, place.name)),
                Err(what) => wrong.push(format!("{} in {}: {what}", call.name, place.name)),
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), PLACES.len() * CALLS.len(), wrong.join("\n"));
}

/// What the call may answer there.
fn expected(on: On, call: &str) -> &'static [Answer] {
    use Answer::{Closed, Refused, TimedOut, Worked};
    match (on, call) {
        (On::Worker, "flush" | "purge" | "shutdown" | "shutdown_within" | "wait" | "wait_all") => &[Refused],
        (On::Worker, "partitions_for" | "partitions_for a new topic") => &[Refused],
        // At once: the handle comes back.
        (On::Worker, "wait_timeout") => &[TimedOut],
        (On::Delivery | On::DeliveryAtTheEnd, "flush" | "shutdown" | "shutdown_within") => &[Refused],
        (On::DeliveryAtTheEnd, "produce" | "produce_timeout" | "try_produce" | "produce_with_handle") => &[Closed],
        (On::DeliveryAtTheEnd, "wait" | "wait_timeout" | "wait_all" | "try_get") => &[Closed],
        (On::DeliveryAtTheEnd, "partitions_for" | "partitions_for a new topic") => &[Closed],
        // Only its own end lets anything be delivered, or told.
        (On::LookUp, "wait" | "wait_timeout" | "wait_all") => &[TimedOut],
        (On::LookUp, "partitions_for" | "partitions_for a new topic") => &[TimedOut],
        _ => &[Worked],
    }
}

/// What the call answered; or what hung.
fn attempt(cluster: &Arc<Cluster>, place: &Place, call: &'static Call) -> Result<Answer, String> {
    let own = Own::default();
    let (send, answered) = mpsc::channel();
    let (inside, outside) = (Arc::clone(&own), client(cluster));
    let act: Act = Arc::new(Mutex::new(Some(Box::new(move || {
        let _ = send.send((call.make)(&inside, &outside));
    }))));
    let enter = place.enter;
    let (cluster, entering) = (Arc::clone(cluster), Arc::clone(&own));
    let entered = thread::Builder::new().name("place".into()).spawn(move || enter(&cluster, &entering, act)).unwrap();
    let answer = answered.recv_timeout(LIMIT).map_err(|error| match error {
        RecvTimeoutError::Timeout => format!("it did not return within {LIMIT:?}"),
        RecvTimeoutError::Disconnected => "it panicked, or was never made".to_owned(),
    })?;
    within("the place", move || entered.join().unwrap())?;
    if let Some(producer) = own.lock().unwrap().take() {
        let report = within("shutdown_within behind it", move || producer.shutdown_within(Duration::from_secs(5)))?;
        let report = report.map_err(|error| format!("shutdown_within behind it: {error}"))?;
        if report.given_up > 0 {
            return Err(format!("given up behind it: {report:?}"));
        }
    }
    Ok(answer)
}

fn within<T: Send + 'static>(what: &str, run: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    let (send, done) = mpsc::channel();
    thread::spawn(move || send.send(run()));
    done.recv_timeout(LIMIT).map_err(|error| format!("{what}: {error} after {LIMIT:?}"))
}

/// Longer than any call takes that ends, on the slowest machine.
const LIMIT: Duration = Duration::from_secs(10);
