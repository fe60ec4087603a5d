//! The two producers and their options: the public API of producing.

mod async_producer;
mod config;
mod delivery;
mod options;
mod report;
#[cfg(all(test, shuttle))]
mod shuttle;
mod sync_producer;
mod undelivered;

pub use async_producer::AsyncProducer;
pub(crate) use config::DeliveryCallback;
pub use config::{AsyncProducerBuilder, ProducerBuilder};
pub use delivery::{DeliveryHandle, WaitTimeout};
pub use report::{DeliveryFailed, FlushError, FlushReport, MetadataError, PurgeError, ShutdownError, ShutdownReport};
pub use sync_producer::Producer;
pub use undelivered::Undelivered;

use crate::error::ProduceError;
use crate::message::Message;

/// The calls that all producers have, so that a program can be given any of them, a test double included.
pub trait Produce {
    /// Takes a message, to be delivered with the others.
    ///
    /// # Errors
    /// The message comes back in the error, with the reason why it was refused.
    fn produce(&mut self, message: Message<'_>) -> Result<(), ProduceError>;

    /// Makes all messages leave. A [`Producer`] blocks until they are delivered; an [`AsyncProducer`] returns at once,
    /// and reports failures elsewhere.
    ///
    /// # Errors
    /// Messages were not delivered.
    fn deliver_messages(&mut self) -> Result<(), DeliveryFailed>;
}

impl Produce for Producer {
    fn produce(&mut self, message: Message<'_>) -> Result<(), ProduceError> {
        Self::produce(self, message)
    }

    fn deliver_messages(&mut self) -> Result<(), DeliveryFailed> {
        Self::deliver_messages(self)
    }
}

impl Produce for AsyncProducer {
    fn produce(&mut self, message: Message<'_>) -> Result<(), ProduceError> {
        Self::produce(self, message)
    }

    fn deliver_messages(&mut self) -> Result<(), DeliveryFailed> {
        Self::deliver_messages(self);
        Ok(())
    }
}

impl Produce for &AsyncProducer {
    fn produce(&mut self, message: Message<'_>) -> Result<(), ProduceError> {
        AsyncProducer::produce(self, message)
    }

    fn deliver_messages(&mut self) -> Result<(), DeliveryFailed> {
        AsyncProducer::deliver_messages(self);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_can_be_given_any_producer() {
        fn deliver(producer: &mut dyn Produce) -> bool {
            producer.deliver_messages().is_ok()
        }
        let _: fn(&mut dyn Produce) -> bool = deliver;
    }
}
