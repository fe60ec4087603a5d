//! A message as a user hands it in: [`Message`], its [`Payload`]s, its [`Topic`] and its [`Timestamp`].
//!
//! Plain data without behaviour of its own. Nothing here copies bytes: a message borrows or owns its bytes, and the
//! producer copies it once, into the queue.

mod header;
mod payload;
mod timestamp;
mod topic;

use std::borrow::Cow;

pub(crate) use header::Header;
pub use header::HeaderValue;
pub use payload::Payload;
pub use timestamp::Timestamp;
pub use topic::{Topic, TopicRef};

use crate::error::InvalidTopic;

/// One message to send: a value with a topic, and optionally a key, headers, a partition and a time.
///
/// ```
/// use ottla::Message;
///
/// let message = Message::new("orders", "a parcel")
///     .with_key("customer 7")
///     .with_header("trace", "00-4bf9")
///     .with_tag(42);
/// assert_eq!(message.value(), Some(&b"a parcel"[..]));
/// ```
///
/// Producers also take any type that converts into a message:
///
/// ```
/// use ottla::{Client, Message};
///
/// struct Order {
///     customer: u32,
///     text: String,
/// }
///
/// impl<'a> From<&'a Order> for Message<'a> {
///     fn from(order: &'a Order) -> Self {
///         Message::new("orders", &order.text).with_key(order.customer.to_string())
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut producer = Client::builder(["kafka-1:9092"]).build()?.producer().build()?;
/// producer.produce(&Order { customer: 7, text: "a parcel".into() })?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a message does nothing until it is produced"]
pub struct Message<'a> {
    pub(crate) topic: TopicRef<'a>,
    pub(crate) value: Option<Payload<'a>>,
    pub(crate) key: Option<Payload<'a>>,
    pub(crate) headers: Vec<Header<'a>>,
    pub(crate) partition: Option<i32>,
    pub(crate) partition_key: Option<Payload<'a>>,
    pub(crate) create_time: Option<Timestamp>,
    pub(crate) tag: u64,
}

impl<'a> Message<'a> {
    /// A message with a value and no key.
    ///
    /// The topic is a name, which is checked when the message is produced, or a [`Topic`].
    #[inline]
    pub fn new(topic: impl Into<TopicRef<'a>>, value: impl Into<Payload<'a>>) -> Self {
        Self::bare(topic.into(), Some(value.into()), None)
    }

    /// A message with a key and a null value, which deletes the key from a compacted topic.
    pub fn tombstone(topic: impl Into<TopicRef<'a>>, key: impl Into<Payload<'a>>) -> Self {
        Self::bare(topic.into(), None, Some(key.into()))
    }

    #[inline]
    pub(crate) fn bare(topic: TopicRef<'a>, value: Option<Payload<'a>>, key: Option<Payload<'a>>) -> Self {
        Self { topic, value, key, headers: Vec::new(), partition: None, partition_key: None, create_time: None, tag: 0 }
    }

    /// Sets the key, which also chooses the partition unless [`with_partition`](Self::with_partition) or
    /// [`with_partition_key`](Self::with_partition_key) does.
    #[inline]
    pub fn with_key(self, key: impl Into<Payload<'a>>) -> Self {
        // A new message, not an assignment: the compiler would copy the changed one to its destination.
        let Self { topic, value, key: before, headers, partition, partition_key, create_time, tag } = self;
        // If there was no key, which the compiler sees here, nothing is left of a drop.
        if let Some(before) = before {
            drop(before);
        }
        Self { topic, value, key: Some(key.into()), headers, partition, partition_key, create_time, tag }
    }

    /// Adds a header behind those already there. The order is kept, and so are names that repeat.
    ///
    /// The value is anything that a [`Payload`] is made from, or `None` for a null value. A value that may be either
    /// becomes a payload first, as the headers of another message here:
    ///
    /// ```
    /// use ottla::{Message, Payload};
    ///
    /// let first = Message::new("orders", "a parcel").with_header("trace", "00-4bf9").with_header("urgent", None);
    /// let mut second = Message::new("parcels", "a parcel");
    /// for (name, value) in first.headers() {
    ///     second = second.with_header(name, value.map(Payload::from));
    /// }
    /// assert!(second.headers().eq(first.headers()));
    /// ```
    pub fn with_header(mut self, name: impl Into<Cow<'a, str>>, value: impl Into<HeaderValue<'a>>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into().0 });
        self
    }

    /// Sends the message to this partition, whatever its key. Partitions are numbered from 0; a message to one
    /// that the topic does not have fails alone.
    #[inline]
    pub fn with_partition(self, partition: i32) -> Self {
        Self { partition: Some(partition), ..self }
    }

    /// Chooses the partition by these bytes instead of the key. They are not sent, and with
    /// [`with_partition`](Self::with_partition) they have no effect.
    #[inline]
    pub fn with_partition_key(self, key: impl Into<Payload<'a>>) -> Self {
        Self { partition_key: Some(key.into()), ..self }
    }

    /// Sets the time of the message: a [`Timestamp`], or a `SystemTime`, which is cut to milliseconds. Without it the
    /// message has the time at which it was produced, on Linux as the last tick of its clock left it: 4 ms behind at
    /// most, as a rule.
    ///
    /// Brokers refuse a time too far ahead (one hour by default, `message.timestamp.after.max.ms`), and write
    /// their own where the topic says so (`message.timestamp.type`).
    #[inline]
    pub fn with_create_time(self, time: impl Into<Timestamp>) -> Self {
        Self { create_time: Some(time.into()), ..self }
    }

    /// Sets a number that every fate of this message carries, so that a callback knows which message it was.
    /// It is not sent. Without it the tag is 0.
    #[inline]
    pub fn with_tag(self, tag: u64) -> Self {
        Self { tag, ..self }
    }

    /// The name of the topic.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.topic.name()
    }

    /// The value, or `None` for a tombstone.
    #[must_use]
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// The key, if the message has one.
    #[must_use]
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The headers in their order: name, and value or `None` for a null value.
    #[inline]
    pub fn headers(&self) -> impl ExactSizeIterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(Header::parts)
    }

    /// The partition that was asked for, or that was chosen before the delivery failed.
    #[must_use]
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }

    /// The bytes that choose the partition in place of the key.
    #[must_use]
    #[inline]
    pub fn partition_key(&self) -> Option<&[u8]> {
        self.partition_key.as_deref()
    }

    /// The time of the message, once it was set or produced.
    #[must_use]
    pub fn create_time(&self) -> Option<Timestamp> {
        self.create_time
    }

    /// The number given with [`with_tag`](Self::with_tag), or 0.
    #[must_use]
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// The topic; a name is checked, and made one.
    #[inline]
    pub(crate) fn check_topic(&mut self) -> Result<Topic, InvalidTopic> {
        if let Some(topic) = self.topic.checked() {
            return Ok(topic.clone());
        }
        let topic = Topic::new(self.topic())?;
        self.topic = topic.clone().into();
        Ok(topic)
    }

    /// `true` if the message has no headers, no partition and no partition key.
    #[inline]
    pub(crate) fn has_only_key_and_value(&self) -> bool {
        self.headers.is_empty() && self.partition.is_none() && self.partition_key.is_none()
    }

    /// `true` if a drop of the message has nothing to do.
    #[inline]
    pub(crate) fn only_borrows(&self) -> bool {
        let borrows = |payload: &Option<Payload<'_>>| payload.as_ref().is_none_or(Payload::is_borrowed);
        let borrows_bytes = borrows(&self.value) && borrows(&self.key) && borrows(&self.partition_key);
        self.topic.is_borrowed() && borrows_bytes && self.headers.capacity() == 0
    }

    /// The same message, owning its bytes: borrowed bytes are copied.
    pub fn into_owned(self) -> Message<'static> {
        Message {
            topic: self.topic.into_owned(),
            value: self.value.map(Payload::into_owned),
            key: self.key.map(Payload::into_owned),
            headers: self.headers.into_iter().map(Header::into_owned).collect(),
            partition: self.partition,
            partition_key: self.partition_key.map(Payload::into_owned),
            create_time: self.create_time,
            tag: self.tag,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn headers<'m>(message: &'m Message<'_>) -> Vec<(&'m str, Option<&'m [u8]>)> {
        message.headers().collect()
    }

    #[test]
    fn a_message_says_what_it_was_given() {
        let time = Timestamp::from_millis(5);
        let message = Message::new("orders", "value")
            .with_key("key")
            .with_header("a", "1")
            .with_partition(3)
            .with_partition_key("customer")
            .with_create_time(time)
            .with_tag(9);
        assert_eq!(message.topic(), "orders");
        assert_eq!(message.value(), Some(&b"value"[..]));
        assert_eq!(message.key(), Some(&b"key"[..]));
        assert_eq!(headers(&message), [("a", Some(&b"1"[..]))]);
        assert_eq!(message.partition(), Some(3));
        assert_eq!(message.partition_key(), Some(&b"customer"[..]));
        assert_eq!(message.create_time(), Some(time));
        assert_eq!(message.tag(), 9);
    }

    #[test]
    fn a_bare_message_has_no_more_than_topic_and_value() {
        let message = Message::new("orders", "");
        assert_eq!(message.value(), Some(&b""[..]), "empty is not null");
        assert_eq!(message.key(), None);
        assert_eq!(message.headers().len(), 0);
        assert_eq!(message.partition(), None);
        assert_eq!(message.partition_key(), None);
        assert_eq!(message.create_time(), None);
        assert_eq!(message.tag(), 0);
    }

    #[test]
    fn a_tombstone_has_a_key_and_a_null_value() {
        let message = Message::tombstone("orders", "key");
        assert_eq!(message.value(), None);
        assert_eq!(message.key(), Some(&b"key"[..]));
    }

    #[test]
    fn headers_keep_their_order_their_repeats_and_their_nulls() {
        let message = Message::new("orders", "v")
            .with_header("b", "1")
            .with_header("a", vec![2])
            .with_header("b", None)
            .with_header(String::from("b"), Some(Payload::from("")));
        let expected: [(&str, Option<&[u8]>); 4] =
            [("b", Some(b"1")), ("a", Some(&[2])), ("b", None), ("b", Some(b""))];
        assert_eq!(headers(&message), expected);
        assert_eq!(headers(&message.clone().into_owned()), expected);
    }

    #[test]
    fn an_owned_message_equals_the_borrowed_one_and_outlives_it() {
        let owned = {
            let (topic, text) = (String::from("orders"), String::from("text"));
            let message = Message::new(&topic, &text)
                .with_key(text.as_bytes())
                .with_header(text.as_str(), &text)
                .with_partition_key(&text)
                .with_partition(1)
                .with_create_time(Timestamp::from_millis(2))
                .with_tag(3);
            let owned = message.clone().into_owned();
            assert_eq!(owned, message);
            owned
        };
        assert_eq!(owned.topic(), "orders");
        assert_eq!(owned.partition_key(), Some(&b"text"[..]));
        assert_eq!(owned.tag(), 3);
    }

    #[test]
    fn owned_payloads_are_not_copied() {
        let bytes = vec![7; 100];
        let address = bytes.as_ptr();
        let message = Message::new("orders", bytes).into_owned();
        assert_eq!(message.value().unwrap().as_ptr(), address);
        let shared: Arc<[u8]> = Arc::from(vec![7; 100]);
        let message = Message::new("orders", Arc::clone(&shared)).into_owned();
        assert_eq!(message.value().unwrap().as_ptr(), shared.as_ptr());
    }
}
