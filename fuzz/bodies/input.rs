//! The fuzzer's bytes as numbers, texts and pieces. Never runs out: behind the end everything is zero or empty, so that
//! every input means something, and a shorter one means nearly the same.

/// A cursor over the bytes of the fuzzer.
#[derive(Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// A number below `most`, which is at most 256.
    pub fn below(&mut self, most: usize) -> usize {
        usize::from(self.byte()) % most
    }

    /// Whether a byte is odd.
    pub fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    /// A number of any size: most inputs give a small one, as code does.
    pub fn i32(&mut self) -> i32 {
        match self.byte() {
            byte @ ..=0xfb => i32::from(byte) - 3,
            0xfc => i32::MAX,
            0xfd => i32::MIN,
            _ => i32::from_be_bytes(self.array()),
        }
    }

    /// A number of any size.
    pub fn i64(&mut self) -> i64 {
        match self.byte() {
            byte @ ..=0xf9 => i64::from(byte) - 3,
            0xfa => i64::MAX,
            0xfb => i64::MIN,
            0xfc => 1_700_000_000_000 + i64::from(self.byte()),
            0xfd => i64::from(self.i32()),
            _ => i64::from_be_bytes(self.array()),
        }
    }

    /// The next `count` bytes, or as many as there are.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        piece
    }

    /// A piece whose length comes before it: up to 250 bytes, or up to 64 KiB.
    pub fn piece(&mut self) -> &'a [u8] {
        let length = match self.byte() {
            short @ ..=250 => usize::from(short),
            _ => usize::from(self.i16() as u16),
        };
        self.take(length)
    }

    /// A piece, or nothing.
    pub fn maybe_piece(&mut self) -> Option<&'a [u8]> {
        if self.flag() { Some(self.piece()) } else { None }
    }

    /// A piece as text; what is not UTF-8 becomes something else.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.piece()).into_owned()
    }

    /// What is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.take(usize::MAX)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let piece = self.take(N);
        array[..piece.len()].copy_from_slice(piece);
        array
    }
}
