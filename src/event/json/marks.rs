//! Where the bytes are that end a plain stretch of text, 64 at a time.
//!
//! After Langdale and Lemire, "Parsing gigabytes of JSON per second" (2019), section 3.1, without
//! its second stage: one bit a byte, and the next mark is a count of trailing zeros.

use wide::u8x16;

/// Bytes of a block.
const BLOCK: usize = 64;

/// The marks of one block: quotes, backslashes and control characters.
#[derive(Debug)]
pub(super) struct Marks {
    block: usize,
    bits: u64,
}

impl Marks {
    /// Of no block.
    pub(super) const NONE: Self = Self { block: usize::MAX, bits: 0 };

    /// The first mark at `at` or after it; the length of `bytes` where there is none.
    #[inline]
    pub(super) fn next(&mut self, bytes: &[u8], at: usize) -> usize {
        let rest = self.bits >> (at % BLOCK);
        if at / BLOCK == self.block && rest != 0 {
            return at + rest.trailing_zeros() as usize;
        }
        self.next_block(bytes, at)
    }

    #[inline(never)]
    fn next_block(&mut self, bytes: &[u8], mut at: usize) -> usize {
        while at < bytes.len() {
            if at / BLOCK != self.block {
                self.block = at / BLOCK;
                self.bits = of_block(bytes, self.block * BLOCK);
            }
            let rest = self.bits >> (at % BLOCK);
            if rest != 0 {
                return at + rest.trailing_zeros() as usize;
            }
            at = (self.block + 1) * BLOCK;
        }
        bytes.len()
    }
}

#[inline]
fn of_block(bytes: &[u8], start: usize) -> u64 {
    let rest = bytes.get(start..).unwrap_or_default();
    if let Some(block) = rest.first_chunk() {
        return of(block);
    }
    let mut last = [b' '; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    of(&last)
}

/// One bit a byte that is a mark, the first byte's lowest.
#[inline]
fn of(block: &[u8; BLOCK]) -> u64 {
    let mut bits = 0;
    for (index, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
        let bytes = u8x16::new(*bytes);
        let quotes = bytes.simd_eq(u8x16::splat(b'"'));
        let escapes = bytes.simd_eq(u8x16::splat(b'\\'));
        let controls = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
        bits |= u64::from((quotes | escapes | controls).to_bitmask()) << (16 * index);
    }
    bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_mark(byte: u8) -> bool {
        byte == b'"' || byte == b'\\' || byte < 0x20
    }

    proptest! {
        #[test]
        fn marks_are_quotes_backslashes_and_control_characters(
            bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'a')], 0..300)
        ) {
            let mut marks = Marks::NONE;
            for at in 0..bytes.len() {
                let next = bytes[at..].iter().position(|&byte| is_mark(byte));
                prop_assert_eq!(marks.next(&bytes, at), next.map_or(bytes.len(), |n| at + n));
            }
            prop_assert_eq!(marks.next(&bytes, bytes.len() + 1), bytes.len());
        }
    }
}
