//! Counts of keys that have no slot: a count-min sketch whose cells are rings of slices.
//!
//! Count-min after Cormode and Muthukrishnan (2005), with the conservative update of Estan and
//! Varghese (2002) within each slice: a cell is raised only as far as the key's own estimate needs.
//!
//! One-sided: a key's estimate is the least of its cells, and each of them holds at least what was
//! charged for the key. Never here: a `lo` above 0, or a key's identity.
//!
//! A cell forgets by its own newest tick. It keeps one slice more than a slot, so an estimate is
//! whole for a key that is at most one slice behind the cell; else it says that it may not be.

use super::WINDOWS_MAX;
use super::changes::Changes;
use super::geometry::{Geometry, SKETCH};
use crate::units::{KeyHash, Tick};

/// Rows, each with its own hash: a key is over-counted only where it meets others in all of them.
const DEPTH: usize = 4;
/// Odd multipliers, one a row, that spread the (already random) hash differently.
const ROW_MULTIPLIERS: [u64; DEPTH] =
    [0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0xd6e8_feb8_6659_fd93];

/// Count-min over slices.
#[derive(Debug)]
pub(super) struct Sketch {
    /// Cells of one row.
    width: u32,
    windows: usize,
    /// Ring of window w of cell c at `c * windows + w`.
    counts: Box<[[u64; SKETCH]]>,
    /// Newest tick of each cell.
    newest: Box<[Tick]>,
    /// Newest tick of all cells.
    latest: Tick,
    /// Cells that changed.
    changes: Changes,
}

/// What the sketch holds for a key at one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Estimate {
    /// At least what was charged, per window.
    pub(super) hi: [u64; WINDOWS_MAX],
    /// Bit w: window w reaches back past what some cell still holds.
    pub(super) partial: u8,
}

impl Sketch {
    /// A sketch of at most `bytes`, with one cell a row at the least.
    pub(super) fn new(bytes: u64, windows: usize) -> Self {
        let width = (bytes / Self::row_bytes(windows)).clamp(1, u64::from(u32::MAX));
        #[expect(clippy::cast_possible_truncation, reason = "clamped to u32 above")]
        let width = width as u32;
        Self::of_width(width, windows, Tick(0))
    }

    /// An empty sketch with `width` cells a row, whose newest tick is `latest`.
    pub(super) fn of_width(width: u32, windows: usize, latest: Tick) -> Self {
        let cells = width as usize * DEPTH;
        let mut changes = Changes::new();
        changes.grow(cells);
        Self {
            width,
            windows,
            counts: vec![[0; SKETCH]; cells * windows].into_boxed_slice(),
            newest: vec![Tick(0); cells].into_boxed_slice(),
            latest,
            changes,
        }
    }

    /// Cells of one row.
    pub(super) const fn width(&self) -> u32 {
        self.width
    }

    /// Cells of all rows.
    pub(super) fn cell_count(&self) -> usize {
        self.newest.len()
    }

    /// Cells changed since they were saved last.
    pub(super) fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    /// Newest tick and rings of a cell, by window.
    pub(super) fn cell(&self, cell: usize) -> (Tick, &[[u64; SKETCH]]) {
        (self.newest[cell], &self.counts[cell * self.windows..][..self.windows])
    }

    /// Puts a cell back as it was saved.
    pub(super) fn restore_cell(&mut self, cell: usize, newest: Tick, counts: &[[u64; SKETCH]]) {
        self.newest[cell] = newest;
        self.counts[cell * self.windows..][..self.windows].copy_from_slice(counts);
    }

    /// What it takes.
    pub(super) fn bytes(&self) -> u64 {
        u64::from(self.width) * Self::row_bytes(self.windows)
    }

    /// One cell of each row.
    const fn row_bytes(windows: usize) -> u64 {
        // And one bit a cell, rounded up.
        (DEPTH * (windows * size_of::<[u64; SKETCH]>() + size_of::<Tick>() + 1)) as u64
    }

    /// Moves the key's cells on to `to`, if they are behind it.
    pub(super) fn advance(&mut self, geometry: &Geometry, key: KeyHash, to: Tick) {
        self.latest = self.latest.max(to);
        for cell in self.cells(key) {
            let newest = self.newest[cell];
            if to <= newest {
                continue;
            }
            self.newest[cell] = to;
            self.changes.mark(cell);
            let rings = &mut self.counts[cell * self.windows..][..self.windows];
            for (window, counts) in geometry.windows().iter().zip(rings) {
                window.sketch.advance(counts, newest, to);
            }
        }
    }

    /// Charges `amount` to the slice of `at`, which must not be ahead of [`Self::advance`]. False
    /// if some cell has forgotten that slice, so that the estimate may lack it.
    pub(super) fn charge(
        &mut self,
        geometry: &Geometry,
        key: KeyHash,
        window: usize,
        at: Tick,
        amount: u64,
    ) -> bool {
        let ring = geometry.windows()[window].sketch;
        let (cells, slice) = (self.cells(key), ring.position(at));
        let holding = cells.map(|cell| {
            debug_assert!(at <= self.newest[cell], "advance comes first");
            ring.holds(self.newest[cell], at).then_some(cell * self.windows + window)
        });
        // Each cell of a slice holds at least the key's count there, so the least of them plus
        // `amount` is enough for all.
        let least = holding.iter().flatten().map(|&cell| self.counts[cell][slice]).min();
        let enough = least.unwrap_or(0).saturating_add(amount);
        for &cell in holding.iter().flatten() {
            let count = &mut self.counts[cell][slice];
            *count = (*count).max(enough);
            self.changes.mark(cell / self.windows);
        }
        holding.iter().all(Option::is_some)
    }

    /// At least what was charged for the key in the windows that end at `at`.
    pub(super) fn estimate(&self, geometry: &Geometry, key: KeyHash, at: Tick) -> Estimate {
        let mut estimate = Estimate { hi: [0; WINDOWS_MAX], partial: 0 };
        let cells = self.cells(key);
        for (w, window) in geometry.windows().iter().enumerate() {
            let of_cell = |cell: usize| {
                let counts = &self.counts[cell * self.windows + w];
                window.sketch.bounds(counts, self.newest[cell], at).1
            };
            estimate.hi[w] = cells.map(of_cell).into_iter().min().unwrap_or(0);
            let partial = cells.iter().any(|&cell| !window.sketch.covers(self.newest[cell], at));
            estimate.partial |= u8::from(partial) << w;
        }
        estimate
    }

    /// The newest tick that was charged for any key.
    pub(super) fn latest(&self) -> Tick {
        self.latest
    }

    /// A tick no earlier than the newest that was charged for the key.
    pub(super) fn newest(&self, key: KeyHash) -> Tick {
        self.cells(key).map(|cell| self.newest[cell]).into_iter().min().unwrap_or_default()
    }

    fn cells(&self, key: KeyHash) -> [usize; DEPTH] {
        std::array::from_fn(|row| {
            let spread = key.0.wrapping_mul(ROW_MULTIPLIERS[row]) >> 32;
            let column = (spread * u64::from(self.width)) >> 32;
            row * self.width as usize + column as usize
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::WindowSpan;
    use crate::window::TableSpec;

    #[test]
    fn a_key_is_over_counted_only_where_it_meets_others_in_every_row() {
        let windows = [WindowSpan::from_secs(3600).ok(), None, None, None];
        let geometry = Geometry::new(&TableSpec { windows, promote_at: [1; WINDOWS_MAX] });
        let mut sketch = Sketch::new(16 * 1024, 1);
        let (key, at) = (|n: u64| KeyHash(n.wrapping_mul(0x9e6c_63d0_876a_68e3)), Tick(1 << 30));
        for n in 0..5 {
            sketch.advance(&geometry, key(n), at);
            assert!(sketch.charge(&geometry, key(n), 0, at, 10));
        }
        let hi = |n| sketch.estimate(&geometry, key(n), at).hi[0];
        assert!((0..5).all(|n| hi(n) >= 10));
        let strangers = (5..1005).filter(|&n| hi(n) > 0).count();
        assert!(strangers < 10, "{strangers} of 1000 keys that were never here");
    }

    #[test]
    fn a_sketch_takes_what_it_was_given_or_less_by_under_one_row() {
        for (bytes, windows) in [(16 * 1024, 1), (16 * 1024, 4), (1 << 20, 2)] {
            let taken = Sketch::new(bytes, windows).bytes();
            assert!(taken <= bytes && taken > bytes - Sketch::row_bytes(windows), "{taken}");
        }
    }
}
