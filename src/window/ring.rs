//! Slice arithmetic, shared by the coarse, the fine and the sketch rings.
//!
//! A ring of N slices holds the slice of its newest tick and the N - 1 before it; slice number
//! `tick / width` lives at position `number % N`. The newest tick is kept by the owner, since
//! several rings share one. Never here: whose counts these are, or what happens to a late event.

use crate::units::Tick;

/// Shape of a ring: N slices of `width_s`, answering for a window of `span_s`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ring<const N: usize> {
    width: Divisor,
    span_s: u32,
}

impl<const N: usize> Ring<N> {
    #[expect(clippy::cast_possible_truncation, reason = "rings have some thirty slices at most")]
    const LEN: u32 = N as u32;

    /// A ring for a window of `span_s` ticks in slices of `width_s` ticks, neither of them 0.
    pub(super) const fn new(span_s: u32, width_s: u32) -> Self {
        Self { width: Divisor::new(width_s), span_s }
    }

    /// Number of the slice that a tick falls in.
    pub(super) fn slice(self, at: Tick) -> u32 {
        self.width.divide(at.0)
    }

    /// Where the slice of `at` lives.
    pub(super) fn position(self, at: Tick) -> usize {
        self.slice(at) as usize % N
    }

    /// Number of the oldest slice held.
    fn oldest(self, newest: Tick) -> u32 {
        self.slice(newest).saturating_sub(Self::LEN - 1)
    }

    /// Whether the slice of `at`, which may lie ahead, is not yet forgotten.
    pub(super) fn holds(self, newest: Tick, at: Tick) -> bool {
        self.slice(at) >= self.oldest(newest)
    }

    /// Whether every slice that a window ending at `at` overlaps is not yet forgotten.
    pub(super) fn covers(self, newest: Tick, at: Tick) -> bool {
        self.first_overlapping(at) >= self.oldest(newest)
    }

    /// Moves the ring on: forgets the slices that the ones up to `to` take the place of.
    pub(super) fn advance<C: Copy + Default>(self, counts: &mut [C; N], newest: Tick, to: Tick) {
        let (first, last) = (self.slice(newest), self.slice(to));
        if last.saturating_sub(first) >= Self::LEN {
            *counts = [C::default(); N];
            return;
        }
        for number in first + 1..=last {
            counts[number as usize % N] = C::default();
        }
    }

    /// `(lo, hi)` of the window that ends at `at`: slices inside it, slices that overlap it.
    ///
    /// Slices after `at` count in both. An own ring has none, since reads are at its newest tick or
    /// later; a sketch's ring may be ahead, and must not under-count.
    pub(super) fn bounds<C: Copy + Into<u64>>(
        self,
        counts: &[C; N],
        newest: Tick,
        at: Tick,
    ) -> (u64, u64) {
        let inside = self.first_inside(at);
        let overlapping = self.first_overlapping(at);
        let lo = self.sum_from(counts, newest, inside);
        // At most one slice lies across the edge.
        let across = if overlapping < inside && self.oldest(newest) <= overlapping {
            self.count(counts, newest, overlapping)
        } else {
            0
        };
        (lo, lo.saturating_add(across))
    }

    /// Slices held with a count, as their first tick and that count.
    pub(super) fn slices<C: Copy + Into<u64>>(
        self,
        counts: &[C; N],
        newest: Tick,
    ) -> impl Iterator<Item = (Tick, u64)> {
        (self.oldest(newest)..=self.slice(newest))
            .map(move |number| {
                (Tick(number * self.width.divisor), counts[number as usize % N].into())
            })
            .filter(|&(_, count)| count > 0)
    }

    /// The window that ends at `at` starts with the tick after `at - span`.
    fn first_overlapping(self, at: Tick) -> u32 {
        at.0.checked_sub(self.span_s).map_or(0, |edge| self.slice(Tick(edge + 1)))
    }

    /// The first slice that starts after `at - span`.
    fn first_inside(self, at: Tick) -> u32 {
        at.0.checked_sub(self.span_s).map_or(0, |edge| self.slice(Tick(edge)) + 1)
    }

    fn count<C: Copy + Into<u64>>(self, counts: &[C; N], newest: Tick, number: u32) -> u64 {
        if number > self.slice(newest) { 0 } else { counts[number as usize % N].into() }
    }

    /// Sum of the slices held from `first` on.
    fn sum_from<C: Copy + Into<u64>>(self, counts: &[C; N], newest: Tick, first: u32) -> u64 {
        let last = self.slice(newest);
        let first = first.max(self.oldest(newest));
        if first > last {
            return 0;
        }
        let (from, to) = (first as usize % N, last as usize % N);
        let sum = |counts: &[C]| counts.iter().fold(0u64, |sum, &c| sum.saturating_add(c.into()));
        if from <= to {
            sum(&counts[from..=to])
        } else {
            sum(&counts[from..]).saturating_add(sum(&counts[..=to]))
        }
    }
}

/// Division of ticks by a fixed width as one multiplication; a table divides some ten times an
/// event.
#[derive(Clone, Copy, Debug)]
struct Divisor {
    divisor: u32,
    /// `ceil(2^64 / divisor)`; exact for every u32 (Lemire, Kaser, Kurz 2019, with F = 64).
    reciprocal: u64,
}

impl Divisor {
    const fn new(divisor: u32) -> Self {
        assert!(divisor > 1, "the reciprocal of 1 does not fit; the narrowest slice is 2 s");
        Self { divisor, reciprocal: u64::MAX / divisor as u64 + 1 }
    }

    fn divide(self, tick: u32) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "a quotient is at most the dividend")]
        let quotient = ((u128::from(self.reciprocal) * u128::from(tick)) >> 64) as u32;
        quotient
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn division_by_multiplication_is_exact(tick: u32, divisor in 2u32..=2_592_000) {
            prop_assert_eq!(Divisor::new(divisor).divide(tick), tick / divisor);
            let multiple = tick - tick % divisor;
            prop_assert_eq!(Divisor::new(divisor).divide(multiple), multiple / divisor);
            let before = multiple.saturating_sub(1);
            prop_assert_eq!(Divisor::new(divisor).divide(before), before / divisor);
        }
    }

    #[test]
    fn division_is_exact_at_the_last_tick() {
        for divisor in [2, 3, 12, 86_400, 518_400, u32::MAX] {
            assert_eq!(Divisor::new(divisor).divide(u32::MAX), u32::MAX / divisor);
        }
    }

    #[test]
    fn the_slice_across_the_edge_is_in_hi_only_and_gone_when_the_edge_meets_it() {
        let ring = Ring::<6>::new(60, 12);
        let mut counts = [0u16; 6];
        let newest = Tick(11);
        counts[ring.position(newest)] = 7;
        assert_eq!(ring.bounds(&counts, newest, Tick(59)), (7, 7));
        assert_eq!(ring.bounds(&counts, newest, Tick(60)), (0, 7), "(0, 60] cuts [0, 12)");
        assert_eq!(ring.bounds(&counts, newest, Tick(70)), (0, 7), "(10, 70] still holds tick 11");
        assert_eq!(ring.bounds(&counts, newest, Tick(71)), (0, 0), "(11, 71] does not");
    }

    #[test]
    fn a_window_that_reaches_behind_the_ring_counts_what_is_held_once() {
        let ring = Ring::<6>::new(60, 12);
        let counts = [1u16, 2, 4, 8, 16, 32];
        let newest = Tick(12 * 100);
        // The slice across this window's edge was forgotten; another lives at its position.
        let behind = Tick(newest.0 - 8);
        assert!(!ring.covers(newest, behind));
        assert_eq!(ring.bounds(&counts, newest, behind), (63, 63));
        assert!(ring.covers(newest, newest));
    }
}
