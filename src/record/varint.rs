//! Zigzag numbers of variable length, as Protocol Buffers have them: seven bits per byte, lowest first.

use super::RecordError;

const MAX_VARINT: usize = 5;
const MAX_VARLONG: usize = 10;
const MORE: u8 = 0x80;
/// Numbers below these, zigzag, take one byte, two and three.
const ONE_BYTE: u64 = 1 << 7;
const TWO_BYTES: u64 = 1 << 14;
const THREE_BYTES: u64 = 1 << 21;

/// Appends a 32-bit number: 1 to 5 bytes.
#[cfg(any(test, feature = "_internal"))]
pub fn put_varint(out: &mut Vec<u8>, value: i32) {
    // A number of 32 bits has the same bytes as a varlong.
    put_varlong(out, i64::from(value));
}

/// Appends a 64-bit number: 1 to 10 bytes.
#[inline]
pub fn put_varlong(out: &mut Vec<u8>, value: i64) {
    let bits = zigzag(value);
    if bits < ONE_BYTE {
        out.push(bits as u8);
    } else {
        put_many(out, value);
    }
}

/// The number of bytes that a 32-bit number takes.
#[inline]
#[must_use]
pub fn varint_len(value: i32) -> usize {
    varlong_len(i64::from(value))
}

/// The number of bytes that [`put_varlong`] appends.
#[inline]
#[must_use]
pub fn varlong_len(value: i64) -> usize {
    // Most have one byte or two.
    match zigzag(value) {
        0..ONE_BYTE => 1,
        ONE_BYTE..TWO_BYTES => 2,
        bits => many_len(bits),
    }
}

/// Seven bits per byte.
#[cold]
fn many_len(bits: u64) -> usize {
    (64 - bits.leading_zeros() as usize).div_ceil(7)
}

/// Takes a 32-bit number from the front of `bytes`; `what` names it in the error.
///
/// # Errors
/// [`RecordError::Truncated`] if the bytes end inside it, [`RecordError::Overlong`] if it has more than 5 bytes
/// or 32 bits. `bytes` is then unchanged.
#[inline]
pub fn take_varint(bytes: &mut &[u8], what: &'static str) -> Result<i32, RecordError> {
    if let Some((&first, rest)) = bytes.split_first() {
        if first < MORE {
            *bytes = rest;
            return Ok(unzigzag(u64::from(first)) as i32);
        }
    }
    let (bits, rest) = take_many(bytes, MAX_VARINT, what)?;
    if bits > u64::from(u32::MAX) {
        return Err(RecordError::Overlong { what });
    }
    *bytes = rest;
    Ok(unzigzag(bits) as i32)
}

/// Takes a 64-bit number from the front of `bytes`; `what` names it in the error.
///
/// # Errors
/// [`RecordError::Truncated`] if the bytes end inside it, [`RecordError::Overlong`] if it has more than 10 bytes
/// or 64 bits. `bytes` is then unchanged.
#[inline]
pub fn take_varlong(bytes: &mut &[u8], what: &'static str) -> Result<i64, RecordError> {
    if let Some((&first, rest)) = bytes.split_first() {
        if first < MORE {
            *bytes = rest;
            return Ok(unzigzag(u64::from(first)));
        }
    }
    let (bits, rest) = take_many(bytes, MAX_VARLONG, what)?;
    *bytes = rest;
    Ok(unzigzag(bits))
}

/// Short numbers one behind the other in a word: bytes that were put together in memory would have to get there before
/// they can be copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packed {
    /// The first one lowest.
    bytes: u64,
    len: u32,
}

impl Packed {
    pub const ZERO: Self = Self { bytes: 0, len: 1 };
    /// -1, the length of what is null.
    pub const NULL: Self = Self { bytes: 1, len: 1 };

    /// A number of at most three bytes.
    #[inline]
    pub fn number(value: i64) -> Option<Self> {
        Self::zigzagged(zigzag(value))
    }

    /// A length, or a count, of at most three bytes.
    #[inline]
    pub fn length(value: usize) -> Option<Self> {
        if value < THREE_BYTES as usize { Self::zigzagged((value as u64) << 1) } else { None }
    }

    /// A length of at most five bytes, which is a word of its own if it has more than three.
    #[inline]
    pub fn long_length(value: usize) -> Self {
        Self::length(value).unwrap_or_else(|| Self::of_many((value as u64) << 1))
    }

    #[cold]
    fn of_many(bits: u64) -> Self {
        let len = many_len(bits) as u32;
        let part = |at: u32| (bits >> (7 * at) & 0x7f) | if at + 1 < len { 0x80 } else { 0 };
        Self { bytes: (0..len.min(8)).map(|at| part(at) << (8 * at)).sum(), len }
    }

    // Always inlined: 351 instructions for a message instead of 386, and 512 instead of 558 with keys.
    #[inline(always)]
    fn zigzagged(bits: u64) -> Option<Self> {
        let (bytes, len) = match bits {
            0..ONE_BYTE => (bits, 1),
            ONE_BYTE..TWO_BYTES => ((bits & 0x7f) | 0x80 | bits >> 7 << 8, 2),
            TWO_BYTES..THREE_BYTES => ((bits & 0x7f) | (bits >> 7 & 0x7f) << 8 | 0x8080 | bits >> 14 << 16, 3),
            _ => return None,
        };
        Some(Self { bytes, len })
    }

    /// The same with others behind: all together at most eight bytes.
    #[inline]
    #[must_use]
    pub fn then(self, behind: Self) -> Self {
        debug_assert!(self.len + behind.len <= u64::BITS / 8, "no more than a word has");
        Self { bytes: self.bytes | behind.bytes << (8 * self.len), len: self.len + behind.len }
    }

    /// The number of bytes that they take.
    #[inline]
    pub fn len(self) -> usize {
        self.len as usize
    }

    /// Appends them.
    #[inline]
    pub fn put(self, out: &mut Vec<u8>) {
        let end = out.len() + self.len();
        out.extend_from_slice(&self.bytes.to_le_bytes());
        out.truncate(end);
    }
}

#[cold]
fn put_many(out: &mut Vec<u8>, value: i64) {
    let mut bits = zigzag(value);
    while bits >= ONE_BYTE {
        out.push(bits as u8 | MORE);
        bits >>= 7;
    }
    out.push(bits as u8);
}

fn take_many<'a>(bytes: &'a [u8], max: usize, what: &'static str) -> Result<(u64, &'a [u8]), RecordError> {
    let mut bits = 0;
    for (index, &byte) in bytes.iter().take(max).enumerate() {
        let part = u64::from(byte & !MORE);
        // The tenth byte has room for one bit only.
        if index == MAX_VARLONG - 1 && part > 1 {
            return Err(RecordError::Overlong { what });
        }
        bits |= part << (7 * index);
        if byte & MORE == 0 {
            return Ok((bits, &bytes[index + 1..]));
        }
    }
    if bytes.len() >= max {
        return Err(RecordError::Overlong { what });
    }
    Err(RecordError::Truncated { what, needed: bytes.len() + 1, available: bytes.len() })
}

#[inline]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
fn unzigzag(bits: u64) -> i64 {
    (bits >> 1) as i64 ^ -((bits & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn varint(value: i32) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, value);
        out
    }

    fn varlong(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varlong(&mut out, value);
        out
    }

    #[test]
    fn matches_java_vectors() {
        // From org.apache.kafka.common.utils.ByteUtilsTest.
        assert_eq!(varint(0), [0x00]);
        assert_eq!(varint(-1), [0x01]);
        assert_eq!(varint(1), [0x02]);
        assert_eq!(varint(63), [0x7e]);
        assert_eq!(varint(-64), [0x7f]);
        assert_eq!(varint(64), [0x80, 0x01]);
        assert_eq!(varint(-65), [0x81, 0x01]);
        assert_eq!(varint(8191), [0xfe, 0x7f]);
        assert_eq!(varint(8192), [0x80, 0x80, 0x01]);
        assert_eq!(varint(i32::MAX), [0xfe, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(varint(i32::MIN), [0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(varlong(i64::MAX), [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(varlong(i64::MIN), [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    }

    #[test]
    fn round_trip_at_every_power_of_two() {
        for shift in 0..64 {
            for value in [1_i64 << shift, (1_i64 << shift).wrapping_sub(1), (1_i64 << shift).wrapping_neg()] {
                let bytes = varlong(value);
                assert_eq!(bytes.len(), varlong_len(value));
                assert_eq!(take_varlong(&mut &bytes[..], "n"), Ok(value));
                let Ok(value) = i32::try_from(value) else {
                    continue;
                };
                assert_eq!(bytes.len(), varint_len(value));
                assert_eq!(take_varint(&mut &bytes[..], "n"), Ok(value));
            }
        }
    }

    #[test]
    fn truncated() {
        for bytes in [varint(i32::MIN), varlong(i64::MIN)] {
            for len in 0..bytes.len() {
                let mut cut = &bytes[..len];
                assert!(take_varlong(&mut cut, "n").is_err());
                assert_eq!(cut.len(), len, "the bytes stay");
            }
        }
        let error = take_varint(&mut &[0x80, 0x80][..], "key length");
        assert_eq!(error, Err(RecordError::Truncated { what: "key length", needed: 3, available: 2 }));
    }

    #[test]
    fn hostile_length() {
        let overlong = RecordError::Overlong { what: "n" };
        let six = [0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
        assert_eq!(take_varint(&mut &six[..], "n"), Err(overlong.clone()));
        let bit_33 = [0x80, 0x80, 0x80, 0x80, 0x10];
        assert_eq!(take_varint(&mut &bit_33[..], "n"), Err(overlong.clone()));
        let eleven = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];
        assert_eq!(take_varlong(&mut &eleven[..], "n"), Err(overlong.clone()));
        let bit_65 = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02];
        assert_eq!(take_varlong(&mut &bit_65[..], "n"), Err(overlong));
    }

    #[test]
    fn zero_and_null_are_the_numbers_0_and_minus_1() {
        let (mut packed, mut numbers) = (Vec::new(), Vec::new());
        Packed::ZERO.then(Packed::NULL).put(&mut packed);
        put_varlong(&mut numbers, 0);
        put_varlong(&mut numbers, -1);
        assert_eq!(packed, numbers);
    }

    proptest! {
        #[test]
        fn packed_numbers_are_those_one_by_one(numbers in prop::collection::vec((any::<i64>(), 40..64_u32), 1..6)) {
            let numbers: Vec<i64> = numbers.into_iter().map(|(number, shift)| number >> shift).collect();
            let mut expected = vec![7];
            numbers.iter().for_each(|&number| put_varlong(&mut expected, number));
            let packed: Option<Vec<Packed>> = numbers.iter().map(|&number| Packed::number(number)).collect();
            prop_assert_eq!(packed.is_some(), numbers.iter().all(|&number| varlong_len(number) <= 3));
            let Some(packed) = packed.filter(|_| expected.len() - 1 <= 8) else { return Ok(()) };
            let packed = packed.into_iter().reduce(Packed::then).expect("one at least");
            prop_assert_eq!(packed.len(), expected.len() - 1);
            let mut out = vec![7];
            packed.put(&mut out);
            prop_assert_eq!(out, expected);
        }

        #[test]
        fn packed_lengths_are_those_numbers(len in (any::<usize>(), 40..64_u32).prop_map(|(len, shift)| len >> shift)) {
            let packed = Packed::length(len);
            prop_assert_eq!(packed.is_some(), varlong_len(len as i64) <= 3);
            if let Some(packed) = packed {
                let (mut out, mut expected) = (vec![7], vec![7]);
                packed.put(&mut out);
                put_varlong(&mut expected, len as i64);
                prop_assert_eq!(out, expected);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut rest = &bytes[..];
            if let Ok(value) = take_varlong(&mut rest, "n") {
                prop_assert!(varlong_len(value) <= bytes.len() - rest.len());
            }
            let mut rest = &bytes[..];
            if let Ok(value) = take_varint(&mut rest, "n") {
                prop_assert!(varint_len(value) <= bytes.len() - rest.len());
            }
        }
    }
}
