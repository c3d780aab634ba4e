//! Values in segments of fixed size: grows without moving one, never shrinks, and knows which
//! values were handed out for a change.
//!
//! Never here: a budget. The owner asks for [`Slab::SEGMENT_BYTES`] before it calls `grow`.

use std::ops::{Index, IndexMut};

use super::changes::Changes;

/// Dense values numbered from 0, `SEGMENT` of them an allocation.
#[derive(Debug)]
pub(super) struct Slab<T, const SEGMENT: usize> {
    segments: Vec<Box<[T]>>,
    len: usize,
    changes: Changes,
}

impl<T: Copy, const SEGMENT: usize> Slab<T, SEGMENT> {
    /// What a segment takes, with its pointer and its marks in lists that may have doubled.
    pub(super) const SEGMENT_BYTES: u64 = (SEGMENT * size_of::<T>()
        + 2 * size_of::<Box<[T]>>()
        + 2 * SEGMENT.div_ceil(64) * 8) as u64;

    pub(super) const fn new() -> Self {
        Self { segments: Vec::new(), len: 0, changes: Changes::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn has_room(&self) -> bool {
        self.len < self.segments.len() * SEGMENT
    }

    pub(super) fn is_unallocated(&self) -> bool {
        self.segments.is_empty()
    }

    /// Adds one segment; `filler` is never read.
    pub(super) fn grow(&mut self, filler: T) {
        self.segments.push(vec![filler; SEGMENT].into_boxed_slice());
        self.changes.grow(self.segments.len() * SEGMENT);
    }

    /// Appends a value and returns its number. There must be room.
    pub(super) fn push(&mut self, value: T) -> u32 {
        debug_assert!(self.has_room(), "the owner grows the slab first");
        #[expect(clippy::cast_possible_truncation, reason = "2^32 values are far over any limit")]
        let number = self.len as u32;
        self.len += 1;
        self[number] = value;
        number
    }

    /// Values changed since the last [`Changes::clear`].
    pub(super) fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    /// Puts back a value as it was saved: that is no change.
    pub(super) fn restore(&mut self, number: u32, value: T) {
        self.segments[number as usize / SEGMENT][number as usize % SEGMENT] = value;
    }
}

impl<T, const SEGMENT: usize> Index<u32> for Slab<T, SEGMENT> {
    type Output = T;

    fn index(&self, number: u32) -> &T {
        &self.segments[number as usize / SEGMENT][number as usize % SEGMENT]
    }
}

impl<T, const SEGMENT: usize> IndexMut<u32> for Slab<T, SEGMENT> {
    fn index_mut(&mut self, number: u32) -> &mut T {
        self.changes.mark(number as usize);
        &mut self.segments[number as usize / SEGMENT][number as usize % SEGMENT]
    }
}
