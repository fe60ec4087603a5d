//! The delivery thread: calls the user's callback, so that a slow one delays neither sockets nor deadlines. Runs only
//! if a callback was registered. A panic in the callback is caught and logged, and the next message is told.

use std::sync::Arc;

use super::Role;
use super::gate::Gate;
use super::role::serve;
use crate::engine::producer::{Amount, BatchFate, DeliveredBatch};
use crate::error::DeliveryError;
use crate::fate::Delivered;
use crate::sync::channel::Receiver;
use crate::threads::spawn::contain;

/// The callback that a user registers to learn the fate of each message.
pub type Callback = Box<dyn FnMut(Result<&Delivered, DeliveryError>) + Send>;

/// An item from the worker. The channel has no bound of its own: messages keep their buffer place until it went back
/// to the worker.
#[derive(Debug)]
pub enum Item {
    Delivered(DeliveredBatch),
    Failed(BatchFate),
    /// The fates of all messages with tickets below this came before.
    Finished(u64),
}

impl Item {
    /// The amount that it holds in the buffer.
    pub(super) fn held(&self) -> Amount {
        match self {
            Self::Delivered(batch) => batch.held(),
            Self::Failed(fate) => fate.held(),
            Self::Finished(_) => Amount::default(),
        }
    }
}

/// The thread's whole life. Ends when the worker has, after the last callback.
pub(super) fn run(gate: &Arc<Gate>, items: &Receiver<Item>, mut callback: Callback) {
    let _end = EndOfDelivery(gate);
    serve(gate.id(), Role::Delivery);
    for item in items {
        tell(gate, item, &mut callback);
    }
    // Dropped before the end is told: the values that it captured may wait as long as they like, and no caller with a
    // time limit joins this thread.
    let _ = contain(|| drop(callback));
}

/// Calls the callback for all that the item holds, and then gives its places back.
pub fn tell(gate: &Gate, item: Item, callback: &mut Callback) {
    let held = item.held();
    let mut buffer = None;
    match item {
        Item::Delivered(batch) => {
            batch.for_each(|delivered| call(callback, Ok(delivered)));
            buffer = batch.into_buffer();
        }
        Item::Failed(fate) => {
            let mut errors = fate.into_errors();
            while errors.len() > 0 {
                // A message that cannot be read costs no other.
                match contain(|| errors.next().into_iter().for_each(|error| call(callback, Err(error)))) {
                    Ok(()) => {}
                    Err(fault) => _ = contain(|| log::error!("a message was lost to a fault inside ottla: {fault}")),
                }
            }
        }
        Item::Finished(upto) => gate.finished(upto),
    }
    if held.messages > 0 {
        gate.called(held, buffer);
    }
}

fn call(callback: &mut Callback, fate: Result<&Delivered, DeliveryError>) {
    if let Err(panic) = contain(|| callback(fate)) {
        let _ = contain(|| log::error!("the delivery callback panicked: {panic}"));
    }
}

/// Tells the gate that no callback follows, even if this thread ends by a fault.
struct EndOfDelivery<'a>(&'a Gate);

impl Drop for EndOfDelivery<'_> {
    fn drop(&mut self) {
        self.0.delivery_ended();
    }
}
