//! The destination of a message: [`Topic`], a name that was checked once, and [`TopicRef`], a name or a topic as a
//! caller gives it.

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::InvalidTopic;

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
    serial: u64,
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
        Self(Arc::new(TopicInner { name: name.into(), serial: NEXT.fetch_add(1, Ordering::Relaxed) }))
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A number that this topic shares with its clones and with nothing else in the process; never 0.
    #[inline]
    pub(crate) fn serial(&self) -> u64 {
        self.0.serial
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

impl Hash for Topic {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl Borrow<str> for Topic {
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

/// The topic of a message: a name, which is checked at `produce`, or a [`Topic`], which was checked before.
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

    #[inline]
    pub(super) fn is_borrowed(&self) -> bool {
        matches!(self.0, Ref::Borrowed(_) | Ref::Name(Cow::Borrowed(_)))
    }

    pub(super) fn into_owned(self) -> TopicRef<'static> {
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

impl Eq for TopicRef<'_> {}

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

/// The longest topic name that Kafka accepts, in bytes.
const MAX_TOPIC_NAME: usize = 249;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::Message;
    use super::*;

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
        let topics = HashSet::from([Topic::new("orders").unwrap()]);
        assert!(topics.contains("orders"));
        assert!(topics.contains(&Topic::new("orders").unwrap()));
        assert!(!topics.contains("parcels"));
        let topic = Topic::new("orders").unwrap();
        let clone = topic.clone();
        assert_eq!(clone.serial(), topic.serial());
        assert_ne!(clone.serial(), Topic::new("orders").unwrap().serial());
        assert_eq!(format!("{topic} {topic:?}"), "orders \"orders\"");
    }
}
