//! The walk before kafka-protocol decodes: checks that a message has all the bytes that its counts and lengths claim.
//!
//! kafka-protocol reserves memory for as many elements as a count says, however few bytes follow, and reads the tagged
//! fields that it knows without a look at their size; a few bad bytes would end the process. So it decodes nothing that
//! was not walked here before, field by field, as the message's [`Shape`] says: requests for the in-process cluster,
//! and the responses that come seldom. Responses that come often, or have rules of their own, are decoded by hand.
#![cfg_attr(
    not(any(test, feature = "testing", feature = "_internal")),
    expect(dead_code, reason = "most shapes are those of requests, which only the in-process cluster reads")
)]

use bytes::Bytes;
use kafka_protocol::protocol::Decodable;

use super::reader::Reader;
use super::{Api, WireError, WireErrorKind};

/// The fields of a structure, in the order of Kafka's message schema. The tagged fields that kafka-protocol knows are
/// among them; others are passed over.
pub type Shape = &'static [Field];

/// A field, and in which versions it is there.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    name: &'static str,
    kind: Kind,
    first: i16,
    last: i16,
    tag: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// So many bytes.
    Fixed(usize),
    Text,
    Bytes,
    /// An array of elements of this number of bytes.
    Numbers(usize),
    Structure(Shape),
    /// An array of structures.
    Structures(Shape),
}

/// A number or boolean of one byte.
pub const fn int8(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(1))
}

/// A number of two bytes.
pub const fn int16(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(2))
}

/// A number of four bytes.
pub const fn int32(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(4))
}

/// A number of eight bytes.
pub const fn int64(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(8))
}

/// A UUID.
pub const fn uuid(name: &'static str) -> Field {
    Field::new(name, Kind::Fixed(16))
}

/// A text, or null: whether null may be is for kafka-protocol to say, here and below.
pub const fn text(name: &'static str) -> Field {
    Field::new(name, Kind::Text)
}

/// Bytes or records, or null.
pub const fn bytes(name: &'static str) -> Field {
    Field::new(name, Kind::Bytes)
}

/// A structure, which may not be null.
pub const fn structure(name: &'static str, fields: Shape) -> Field {
    Field::new(name, Kind::Structure(fields))
}

/// An array of numbers of four bytes, or null.
pub const fn array_of_int32(name: &'static str) -> Field {
    Field::new(name, Kind::Numbers(4))
}

/// An array of structures, or null.
pub const fn array(name: &'static str, element: Shape) -> Field {
    Field::new(name, Kind::Structures(element))
}

impl Field {
    const fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, first: 0, last: i16::MAX, tag: None }
    }

    /// Is there from this version on.
    pub const fn since(mut self, version: i16) -> Self {
        self.first = version;
        self
    }

    /// Is there up to this version.
    pub const fn until(mut self, version: i16) -> Self {
        self.last = version;
        self
    }

    /// Is a tagged field with this number (KIP-482).
    pub const fn tagged(mut self, tag: u32) -> Self {
        self.tag = Some(tag);
        self
    }

    const fn is_in(&self, version: i16) -> bool {
        self.first <= version && version <= self.last
    }

    fn walk(&self, version: i16, rest: &mut Reader<'_>) -> Result<(), WireError> {
        match self.kind {
            Kind::Fixed(size) => rest.bytes(self.name, size).map(drop),
            Kind::Text => rest.nullable_string(self.name).map(drop),
            Kind::Bytes => rest.nullable_bytes(self.name).map(drop),
            Kind::Numbers(size) => {
                let count = rest.nullable_count(self.name, size)?.unwrap_or(0);
                rest.bytes(self.name, count * size).map(drop)
            }
            Kind::Structure(fields) => walk(fields, self.name, version, rest),
            Kind::Structures(element) => {
                // Every element has at least one byte, so this ends with the bytes at the latest.
                let count = rest.nullable_count(self.name, 1)?.unwrap_or(0);
                (0..count).try_for_each(|_| walk(element, self.name, version, rest))
            }
        }
    }
}

/// Decodes a message with kafka-protocol, once it is known to have all the bytes that it claims. `name` stands in an
/// error that is about the message as a whole. Bytes behind the message are ignored.
pub fn decode<M: Decodable>(
    api: Api,
    version: i16,
    name: &'static str,
    shape: Shape,
    bytes: Bytes,
) -> Result<M, WireError> {
    walk(shape, name, version, &mut Reader::new(&bytes, api.is_flexible(version)))?;
    decode_walked(api, version, name, bytes)
}

/// Decodes the response in a frame, which is without its size, in the same way.
pub fn response<M: Decodable>(api: Api, version: i16, shape: Shape, frame: &[u8]) -> Result<M, WireError> {
    let body = Reader::body(api, version, frame)?;
    walk(shape, "response", version, &mut body.clone())?;
    decode_walked(api, version, "response", Bytes::copy_from_slice(body.rest()))
}

fn decode_walked<M: Decodable>(api: Api, version: i16, name: &'static str, mut bytes: Bytes) -> Result<M, WireError> {
    let decoded = M::decode(&mut bytes, api.version_in_kafka_protocol(version));
    decoded.map_err(|_| WireError { field: name, kind: WireErrorKind::AgainstSchema })
}

/// The number of these bytes that a message of this shape takes.
#[cfg(test)]
pub fn length(api: Api, version: i16, shape: Shape, bytes: &[u8]) -> Result<usize, WireError> {
    let mut rest = Reader::new(bytes, api.is_flexible(version));
    walk(shape, "message", version, &mut rest).map(|()| bytes.len() - rest.rest().len())
}

/// Passes over a structure and the tagged fields that end it.
fn walk(shape: Shape, name: &'static str, version: i16, rest: &mut Reader<'_>) -> Result<(), WireError> {
    for field in shape.iter().filter(|field| field.tag.is_none() && field.is_in(version)) {
        field.walk(version, rest)?;
    }
    rest.tags(name, |tag, rest| {
        let known = shape.iter().find(|field| field.tag == Some(tag) && field.is_in(version));
        let Some(field) = known else { return Ok(()) };
        field.walk(version, rest)?;
        match rest.rest().len() {
            0 => Ok(()),
            excess => Err(WireError { field: field.name, kind: WireErrorKind::Excess(excess) }),
        }
    })
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::ApiVersionsRequest;

    use super::*;

    const SHAPE: Shape = &[
        int8("a").until(1),
        array("b", &[text("c"), array_of_int32("d").since(9), uuid("e").tagged(3).since(10)]),
        bytes("f"),
        int16("g").tagged(0),
    ];

    /// Walks in this version, which is flexible from 9 on; gives how many bytes are left.
    fn walked(version: i16, bytes: &[u8]) -> Result<usize, WireError> {
        length(Api::Metadata, version, SHAPE, bytes).map(|length| bytes.len() - length)
    }

    fn refused(field: &'static str, kind: WireErrorKind) -> Result<usize, WireError> {
        Err(WireError { field, kind })
    }

    #[test]
    fn fields_are_walked_in_their_versions_and_in_both_forms() {
        // a = 7; b of one element with c = "hi"; f of one byte.
        assert_eq!(walked(1, &[7, 0, 0, 0, 1, 0, 2, b'h', b'i', 0, 0, 0, 1, 5]), Ok(0));
        assert_eq!(walked(2, &[0, 0, 0, 1, 0, 2, b'h', b'i', 0, 0, 0, 1, 5, 99]), Ok(1));
        // b of one element with c = "hi", d = [1] and no tags; f of one byte; no tags.
        assert_eq!(walked(9, &[2, 3, b'h', b'i', 2, 0, 0, 0, 1, 0, 2, 5, 0]), Ok(0));
    }

    #[test]
    fn null_is_nothing() {
        assert_eq!(walked(2, &[0xff; 8]), Ok(0));
        assert_eq!(walked(2, &[&[0, 0, 0, 1][..], &[0xff; 6]].concat()), Ok(0));
        assert_eq!(walked(9, &[0, 0, 0]), Ok(0));
        assert_eq!(walked(9, &[2, 0, 0, 0, 0, 0]), Ok(0));
    }

    #[test]
    fn every_cut_is_refused() {
        for (version, bytes) in [
            (1, &[7, 0, 0, 0, 1, 0, 2, b'h', b'i', 0, 0, 0, 1, 5][..]),
            (10, &[2, 3, b'h', b'i', 2, 0, 0, 0, 1, 1, 7, 1, 0, 2, 5, 1, 0, 2, 9, 9]),
        ] {
            assert_eq!(walked(version, bytes), Ok(0));
            for end in 0..bytes.len() {
                assert!(walked(version, &bytes[..end]).is_err(), "version {version}, {end} bytes");
            }
        }
    }

    #[test]
    fn hostile_length() {
        let many = |remaining| WireErrorKind::CountTooLarge { count: 5000, remaining };
        assert_eq!(walked(2, &[0, 0, 0x13, 0x88, 0]), refused("b", many(1)));
        assert_eq!(walked(9, &[0x89, 0x27, 0]), refused("b", many(1)));
        assert_eq!(walked(9, &[2, 0, 0x89, 0x27, 0, 0, 0, 0]), refused("d", many(4)));
        let cut = WireErrorKind::Truncated { needed: 5000, remaining: 1 };
        assert_eq!(walked(9, &[1, 0x89, 0x27, 0]), refused("f", cut.clone()));
        assert_eq!(walked(9, &[1, 0, 1, 9, 0x88, 0x27, 0]), refused("message", cut));
        assert_eq!(walked(2, &[0x80, 0, 0, 0]), refused("b", WireErrorKind::NegativeLength(i32::MIN)));
        // As many elements as bytes: they end before the count does.
        let few = [&[0xe8, 0x07][..], &[0xff; 999]].concat();
        assert!(walked(9, &few).is_err());
    }

    #[test]
    fn a_tagged_field_that_kafka_protocol_knows_has_its_size() {
        let tagged = |size: u8| [&[1, 0, 1, 0, size][..], &vec![0; size.into()]].concat();
        assert_eq!(walked(9, &tagged(2)), Ok(0));
        assert_eq!(walked(9, &tagged(3)), refused("g", WireErrorKind::Excess(1)));
        let cut = WireErrorKind::Truncated { needed: 2, remaining: 1 };
        assert_eq!(walked(9, &tagged(1)), refused("g", cut));
        // In the structures of an array, too, and not before its version, where it is passed over.
        let inside = |size: u8| [&[2, 0, 0, 1, 3, size][..], &vec![0; size.into()], &[0, 0]].concat();
        assert_eq!((walked(10, &inside(16)), walked(9, &inside(5))), (Ok(0), Ok(0)));
        let cut = WireErrorKind::Truncated { needed: 16, remaining: 5 };
        assert_eq!(walked(10, &inside(5)), refused("e", cut));
    }

    #[test]
    fn what_kafka_protocol_refuses_behind_the_walk_is_an_error() {
        // A client without a name, which is no text that may be null.
        const NAMES: Shape = &[text("client_software_name"), text("client_software_version")];
        let decoded =
            |name: u8| decode::<ApiVersionsRequest>(Api::ApiVersions, 3, "request", NAMES, vec![name, 1, 0].into());
        assert_eq!(&*decoded(1).unwrap().client_software_name, "");
        let error = decoded(0).unwrap_err();
        assert_eq!(error.to_string(), "request is not what the schema of its version allows");
    }
}
