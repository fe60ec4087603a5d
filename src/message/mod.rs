//! What a user hands in: [`Message`], its [`Payload`]s, its [`Topic`] and its [`Timestamp`].
//!
//! Plain data without behaviour of its own. Nothing here copies bytes: a message borrows or owns what it was
//! given, and the producer copies it once, into the queue.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use crate::error::InvalidTopic;

/// The longest topic name that Kafka accepts, in bytes.
pub(crate) const MAX_TOPIC_NAME: usize = 249;

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
#[derive(Clone, Debug, PartialEq)]
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

/// A header of a message: a name, and a value that may be null.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Header<'a> {
    pub(crate) name: Cow<'a, str>,
    pub(crate) value: Option<Payload<'a>>,
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
        // A new message, and no assignment: the compiler would copy the changed one where it goes to.
        let Self { topic, value, key: before, headers, partition, partition_key, create_time, tag } = self;
        // Where there was no key, which the compiler sees here, nothing is left of a drop.
        if let Some(before) = before {
            drop(before);
        }
        Self { topic, value, key: Some(key.into()), headers, partition, partition_key, create_time, tag }
    }

    /// Adds a header behind those already there. The order is kept, and so are names that repeat.
    ///
    /// The value is anything that is a [`Payload`], or `None` for a null value.
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

    /// Sets the time of the message, in milliseconds since the Unix epoch or as a `SystemTime`; without it the
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

    /// Whether nothing is to be done when it is dropped.
    #[inline(always)]
    pub(crate) fn only_borrows(&self) -> bool {
        let borrows = |payload: &Option<Payload<'_>>| matches!(payload, None | Some(Payload(Bits::Borrowed(_))));
        let borrows_topic = matches!(self.topic.0, Ref::Borrowed(_) | Ref::Name(Cow::Borrowed(_)));
        let borrows_bytes = borrows(&self.value) && borrows(&self.key) && borrows(&self.partition_key);
        borrows_topic && borrows_bytes && self.headers.capacity() == 0
    }

    /// The same message, owning its bytes: what was borrowed is copied.
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

impl Header<'_> {
    pub(crate) fn parts(&self) -> (&str, Option<&[u8]>) {
        (&self.name, self.value.as_deref())
    }

    fn into_owned(self) -> Header<'static> {
        Header { name: Cow::Owned(self.name.into_owned()), value: self.value.map(Payload::into_owned) }
    }
}

/// Bytes of a key, a value or a header, borrowed, owned or shared; making one copies nothing.
///
/// It is made from `&str`, `String`, `&String`, `&[u8]`, `&[u8; N]`, `Vec<u8>`, `&Vec<u8>`, `Arc<[u8]>` and
/// `bytes::Bytes`. Of these only `Bytes` takes a small allocation; `&bytes[..]` takes none.
///
/// ```
/// use ottla::Payload;
///
/// let payload = Payload::from(vec![1, 2, 3]);
/// assert_eq!(&payload[..], [1, 2, 3]);
/// assert_eq!(payload, Payload::from(&[1, 2, 3]));
/// ```
#[derive(Clone)]
pub struct Payload<'a>(Bits<'a>);

#[derive(Clone)]
enum Bits<'a> {
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
    /// In a box, because a `Bytes` has something in it that can change behind a shared reference: the compiler would
    /// trust nothing that it knows of a message once `produce` has seen it, and copy and look at all of it again.
    Bytes(Box<Bytes>),
}

impl Payload<'_> {
    /// The same bytes, owned: borrowed ones are copied.
    #[must_use]
    pub fn into_owned(self) -> Payload<'static> {
        Payload(match self.0 {
            Bits::Borrowed(bytes) => Bits::Owned(bytes.to_vec()),
            Bits::Owned(bytes) => Bits::Owned(bytes),
            Bits::Shared(bytes) => Bits::Shared(bytes),
            Bits::Bytes(bytes) => Bits::Bytes(bytes),
        })
    }
}

impl Payload<'_> {
    #[inline(never)]
    fn not_borrowed(&self) -> &[u8] {
        match &self.0 {
            Bits::Borrowed(bytes) => bytes,
            Bits::Owned(bytes) => bytes,
            Bits::Shared(bytes) => bytes,
            Bits::Bytes(bytes) => bytes,
        }
    }
}

impl std::ops::Deref for Payload<'_> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        if let Bits::Borrowed(bytes) = self.0 { bytes } else { self.not_borrowed() }
    }
}

impl PartialEq for Payload<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl fmt::Debug for Payload<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl<'a> From<&'a [u8]> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Payload(Bits::Borrowed(bytes))
    }
}

impl<'a, const N: usize> From<&'a [u8; N]> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a [u8; N]) -> Self {
        Payload(Bits::Borrowed(bytes))
    }
}

impl<'a> From<&'a str> for Payload<'a> {
    #[inline]
    fn from(text: &'a str) -> Self {
        Payload(Bits::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a String> for Payload<'a> {
    #[inline]
    fn from(text: &'a String) -> Self {
        Payload(Bits::Borrowed(text.as_bytes()))
    }
}

impl<'a> From<&'a Vec<u8>> for Payload<'a> {
    #[inline]
    fn from(bytes: &'a Vec<u8>) -> Self {
        Payload(Bits::Borrowed(bytes))
    }
}

impl From<Vec<u8>> for Payload<'_> {
    #[inline]
    fn from(bytes: Vec<u8>) -> Self {
        Payload(Bits::Owned(bytes))
    }
}

impl From<String> for Payload<'_> {
    #[inline]
    fn from(text: String) -> Self {
        Payload(Bits::Owned(text.into_bytes()))
    }
}

impl From<Arc<[u8]>> for Payload<'_> {
    #[inline]
    fn from(bytes: Arc<[u8]>) -> Self {
        Payload(Bits::Shared(bytes))
    }
}

impl From<Bytes> for Payload<'_> {
    #[inline]
    fn from(bytes: Bytes) -> Self {
        Payload(Bits::Bytes(Box::new(bytes)))
    }
}

/// The value of a header: bytes, or null (`None`).
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderValue<'a>(Option<Payload<'a>>);

impl<'a, P: Into<Payload<'a>>> From<P> for HeaderValue<'a> {
    #[inline]
    fn from(payload: P) -> Self {
        Self(Some(payload.into()))
    }
}

impl<'a> From<Option<Payload<'a>>> for HeaderValue<'a> {
    #[inline]
    fn from(payload: Option<Payload<'a>>) -> Self {
        Self(payload)
    }
}

/// A topic name that was checked once, so that producing to it is cheap.
///
/// Cloning shares the name. Make one per topic and produce to it many times.
///
/// ```
/// use ottla::{Message, Topic};
///
/// let orders = Topic::new("orders")?;
/// let message = Message::new(&orders, "a parcel");
/// assert_eq!(message.topic(), "orders");
/// assert!(Topic::new("no spaces").is_err());
/// # Ok::<(), ottla::InvalidTopic>(())
/// ```
#[derive(Clone)]
pub struct Topic(Arc<TopicInner>);

struct TopicInner {
    name: Box<str>,
    /// Differs from one call of `new` to the next, so that a queue can tell a topic it has seen without its name.
    number: u64,
}

impl Topic {
    /// Checks a topic name.
    ///
    /// # Errors
    /// [`InvalidTopic`] if the name is empty, `.`, `..`, longer than 249 bytes, or has a character other than
    /// ASCII letters, digits, `.`, `_` and `-`.
    pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidTopic> {
        let name = name.as_ref();
        check_topic_name(name)?;
        Ok(Self::trusted(name))
    }

    /// A topic whose name is known to be good.
    pub(crate) fn trusted(name: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(Arc::new(TopicInner { name: name.into(), number: NEXT.fetch_add(1, Ordering::Relaxed) }))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A number that this topic shares with its clones and with nothing else in the process; never 0.
    #[inline]
    pub(crate) fn number(&self) -> u64 {
        self.0.number
    }
}

// KIP-190 and org.apache.kafka.common.internals.Topic: the characters and the length.
fn check_topic_name(name: &str) -> Result<(), InvalidTopic> {
    let why = if name.is_empty() {
        "it is empty; name one of the cluster's topics"
    } else if name == "." || name == ".." {
        "`.` and `..` are reserved"
    } else if name.len() > MAX_TOPIC_NAME {
        "it is longer than 249 bytes"
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
        "only ASCII letters, digits, `.`, `_` and `-` are allowed"
    } else {
        return Ok(());
    };
    Err(InvalidTopic::new(name, why))
}

impl PartialEq for Topic {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Topic {}

impl std::hash::Hash for Topic {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl std::borrow::Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        self.name()
    }
}

impl AsRef<str> for Topic {
    fn as_ref(&self) -> &str {
        self.name()
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.name(), f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where a message goes: a topic name, which is checked at `produce`, or a [`Topic`], which was checked before.
#[derive(Clone)]
pub struct TopicRef<'a>(Ref<'a>);

#[derive(Clone)]
enum Ref<'a> {
    Name(Cow<'a, str>),
    Borrowed(&'a Topic),
    Owned(Topic),
}

impl TopicRef<'_> {
    pub(crate) fn name(&self) -> &str {
        match &self.0 {
            Ref::Name(name) => name,
            Ref::Borrowed(topic) => topic.name(),
            Ref::Owned(topic) => topic.name(),
        }
    }

    /// The checked topic, if it is one already.
    #[inline]
    pub(crate) fn checked(&self) -> Option<&Topic> {
        match &self.0 {
            Ref::Name(_) => None,
            Ref::Borrowed(topic) => Some(topic),
            Ref::Owned(topic) => Some(topic),
        }
    }

    fn into_owned(self) -> TopicRef<'static> {
        TopicRef(match self.0 {
            Ref::Name(name) => Ref::Name(Cow::Owned(name.into_owned())),
            Ref::Borrowed(topic) => Ref::Owned(topic.clone()),
            Ref::Owned(topic) => Ref::Owned(topic),
        })
    }
}

impl PartialEq for TopicRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl fmt::Debug for TopicRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.name(), f)
    }
}

impl<'a> From<&'a str> for TopicRef<'a> {
    #[inline]
    fn from(name: &'a str) -> Self {
        TopicRef(Ref::Name(Cow::Borrowed(name)))
    }
}

impl<'a> From<&'a String> for TopicRef<'a> {
    #[inline]
    fn from(name: &'a String) -> Self {
        TopicRef(Ref::Name(Cow::Borrowed(name)))
    }
}

impl From<String> for TopicRef<'_> {
    #[inline]
    fn from(name: String) -> Self {
        TopicRef(Ref::Name(Cow::Owned(name)))
    }
}

impl<'a> From<&'a Topic> for TopicRef<'a> {
    #[inline]
    fn from(topic: &'a Topic) -> Self {
        TopicRef(Ref::Borrowed(topic))
    }
}

impl From<Topic> for TopicRef<'_> {
    #[inline]
    fn from(topic: Topic) -> Self {
        TopicRef(Ref::Owned(topic))
    }
}

/// A time in milliseconds since the Unix epoch, as Kafka stores it; earlier times are negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// A time from milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The same moment as a `SystemTime`, or `None` where the system cannot hold it.
    #[must_use]
    pub fn to_system_time(self) -> Option<SystemTime> {
        let distance = Duration::from_millis(self.0.unsigned_abs());
        if self.0 >= 0 { UNIX_EPOCH.checked_add(distance) } else { UNIX_EPOCH.checked_sub(distance) }
    }
}

impl From<SystemTime> for Timestamp {
    /// The time cut to milliseconds; one that does not fit is the nearest that does.
    #[inline]
    fn from(time: SystemTime) -> Self {
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Self(i64::try_from(after.as_millis()).unwrap_or(i64::MAX)),
            Err(before) => Self(i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)),
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn every_kind_of_bytes_is_a_payload() {
        let (text, bytes) = (String::from("abc"), b"abc".to_vec());
        let shared: Arc<[u8]> = Arc::from(&b"abc"[..]);
        for payload in [
            Payload::from("abc"),
            Payload::from(&text),
            Payload::from(text.clone()),
            Payload::from(b"abc"),
            Payload::from(&b"abc"[..]),
            Payload::from(&bytes),
            Payload::from(bytes.clone()),
            Payload::from(shared),
            Payload::from(Bytes::from_static(b"abc")),
        ] {
            assert_eq!(&*payload, b"abc");
            assert_eq!(payload.clone().into_owned(), payload);
            assert_eq!(format!("{payload:?}"), "b\"abc\"");
        }
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

    #[test]
    fn topic_names_are_checked_as_kafka_does() {
        let longest = "a".repeat(249);
        for name in ["a", "A.b_c-9", "...", "__consumer_offsets", &longest] {
            assert_eq!(Topic::new(name).unwrap().name(), name);
        }
        let too_long = "a".repeat(250);
        for (name, why) in [
            ("", "it is empty"),
            (".", "reserved"),
            ("..", "reserved"),
            (&too_long, "longer than 249 bytes"),
            ("a b", "only ASCII"),
            ("a/b", "only ASCII"),
            ("\u{fc}", "only ASCII"),
            ("a\0", "only ASCII"),
        ] {
            let error = Topic::new(name).unwrap_err();
            assert_eq!(error.name(), name);
            assert!(error.to_string().contains(why), "{error}");
            crate::error::tests::assert_reads_well(&error.to_string());
        }
    }

    #[test]
    fn a_checked_topic_is_known_as_checked_and_a_name_is_not() {
        let topic = Topic::new("orders").unwrap();
        assert_eq!(TopicRef::from(&topic).checked(), Some(&topic));
        assert_eq!(TopicRef::from(topic.clone()).checked(), Some(&topic));
        assert_eq!(TopicRef::from("orders").checked(), None);
        assert_eq!(TopicRef::from(String::from("orders")), TopicRef::from(&topic));
        let owned = Message::new(&topic, "v").into_owned();
        assert_eq!(owned.topic.checked(), Some(&topic));
    }

    #[test]
    fn topics_are_equal_by_name() {
        let topics = std::collections::HashSet::from([Topic::new("orders").unwrap()]);
        assert!(topics.contains("orders"));
        assert!(topics.contains(&Topic::new("orders").unwrap()));
        assert!(!topics.contains("parcels"));
        let topic = Topic::new("orders").unwrap();
        let clone = topic.clone();
        assert_eq!(clone.number(), topic.number());
        assert_ne!(clone.number(), Topic::new("orders").unwrap().number());
        assert_eq!(format!("{topic} {topic:?}"), "orders \"orders\"");
    }

    #[test]
    fn a_timestamp_is_a_system_time_cut_to_milliseconds() {
        let time = UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        let stamp = Timestamp::from(time);
        assert_eq!(stamp.as_millis(), 1_700_000_000_123);
        let cut = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        assert_eq!(stamp.to_system_time(), Some(cut));
        let before = UNIX_EPOCH - Duration::from_millis(5);
        assert_eq!(Timestamp::from(before).as_millis(), -5);
        assert_eq!(Timestamp::from_millis(-5).to_system_time(), Some(before));
    }

    #[test]
    fn the_most_distant_times_do_not_panic() {
        for millis in [i64::MIN, i64::MIN + 1, i64::MAX] {
            if let Some(time) = Timestamp::from_millis(millis).to_system_time() {
                assert_eq!(Timestamp::from(time).as_millis(), millis);
            }
        }
    }

    #[test]
    fn messages_cross_threads() {
        fn crosses_threads<T: Send + Sync>() {}
        crosses_threads::<Message<'static>>();
        crosses_threads::<Topic>();
    }
}
