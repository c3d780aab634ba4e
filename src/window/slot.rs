//! One key's cache line: identity, newest tick, flags and the small coarse counters.

use super::geometry::{CoarseCounts, FineCounts};
use crate::units::{KeyHash, Tick};

/// A key and its counts up to promotion. Exactly one cache line, so that an event touches one.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) key: KeyHash,
    pub(super) newest: Tick,
    /// Flags in the upper 8 bits, number of the fine ring in the lower 24.
    meta: u32,
    pub(super) coarse: CoarseCounts,
}

const _: () = assert!(size_of::<Slot>() == 64 && align_of::<Slot>() == 64);

/// One bit of [`Slot::meta`].
#[derive(Clone, Copy)]
pub(super) struct Flag(u32);

/// Has a fine ring; later events go there.
pub(super) const PROMOTED: Flag = Flag(1 << 24);
/// Has an open episode: never evicted.
pub(super) const PINNED: Flag = Flag(1 << 25);
/// May have counts in the sketch.
pub(super) const ESTIMATED: Flag = Flag(1 << 26);
/// Was reported as promoted, with or without a ring.
pub(super) const REPORTED: Flag = Flag(1 << 27);

impl Slot {
    /// Rings that the 24 bits can number.
    pub(super) const RINGS_MAX: u32 = 1 << 24;

    pub(super) const fn new(key: KeyHash, newest: Tick) -> Self {
        Self { key, newest, meta: 0, coarse: [[0; _]; _] }
    }

    /// A slot as it was saved.
    pub(super) const fn with_meta(key: KeyHash, newest: Tick, meta: u32) -> Self {
        Self { key, newest, meta, coarse: [[0; _]; _] }
    }

    /// Flags and ring number in one, to be saved.
    pub(super) const fn meta(&self) -> u32 {
        self.meta
    }

    pub(super) const fn is(&self, flag: Flag) -> bool {
        self.meta & flag.0 != 0
    }

    pub(super) const fn set(&mut self, flag: Flag) {
        self.meta |= flag.0;
    }

    pub(super) const fn clear(&mut self, flag: Flag) {
        self.meta &= !flag.0;
    }

    /// Number of the fine ring, if promoted.
    pub(super) fn ring(&self) -> Option<u32> {
        self.is(PROMOTED).then_some(self.meta & (Self::RINGS_MAX - 1))
    }

    /// Hands the slot a fine ring for all later events.
    pub(super) fn promote(&mut self, ring: u32) {
        debug_assert!(!self.is(PROMOTED) && ring < Self::RINGS_MAX);
        self.meta |= ring;
        self.set(PROMOTED);
    }

    /// Forgets the ring and everything reported about it.
    pub(super) fn demote(&mut self) {
        self.meta &= !(Self::RINGS_MAX - 1);
        self.clear(PROMOTED);
        self.clear(REPORTED);
    }
}

/// A promoted key's counters and the slot they belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct FineRing {
    pub(super) owner: u32,
    pub(super) counts: FineCounts,
}

impl FineRing {
    pub(super) const fn new(owner: u32) -> Self {
        Self { owner, counts: [[0; _]; _] }
    }
}
