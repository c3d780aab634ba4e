//! The rings of one table: per window a coarse, a fine and a sketch ring.
//!
//! Coarse and sketch slices have the same width, and six fine slices make a coarse one, so that a
//! finer slice always lies inside one wider slice and can be added to it whole.

use super::ring::Ring;
use super::{TableSpec, WINDOWS_MAX};
use crate::units::WindowSpan;

/// Slices of W/5 in a slot: the window's five and the one across its edge.
pub(super) const COARSE: usize = 6;
/// Slices of W/30 in a fine ring: the window's thirty and the one across its edge.
pub(super) const FINE: usize = 31;
/// Slices of W/5 in a sketch's cell: one more than a slot's, for keys that are a slice behind it.
pub(super) const SKETCH: usize = COARSE + 1;

/// Small counters of a slot, per window.
pub(super) type CoarseCounts = [[u16; COARSE]; WINDOWS_MAX];
/// Counters of a promoted key, per window.
pub(super) type FineCounts = [[u64; FINE]; WINDOWS_MAX];

const _: () = assert!(WindowSpan::MIN.fine_s() > 1, "a ring's slices are at least 2 s wide");

/// The rings of one window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) coarse: Ring<COARSE>,
    pub(super) fine: Ring<FINE>,
    pub(super) sketch: Ring<SKETCH>,
    pub(super) span: WindowSpan,
}

impl Window {
    const fn new(span: WindowSpan) -> Self {
        Self {
            coarse: Ring::new(span.secs(), span.coarse_s()),
            fine: Ring::new(span.secs(), span.fine_s()),
            sketch: Ring::new(span.secs(), span.coarse_s()),
            span,
        }
    }
}

/// The windows of one table, ascending.
#[derive(Clone, Copy, Debug)]
pub(super) struct Geometry {
    windows: [Window; WINDOWS_MAX],
    len: usize,
}

impl Geometry {
    pub(super) fn new(spec: &TableSpec) -> Self {
        let spans = spec.windows;
        debug_assert!(
            spans.windows(2).all(|pair| pair[1].is_none() || pair[0] < pair[1]),
            "windows are distinct, ascending and packed: {spans:?}"
        );
        let len = spans.iter().flatten().count();
        let windows = spans.map(|span| Window::new(span.unwrap_or(WindowSpan::MIN)));
        Self { windows, len }
    }

    pub(super) fn windows(&self) -> &[Window] {
        &self.windows[..self.len]
    }

    /// The longest window; a table without windows has the shortest there is.
    pub(super) fn longest(&self) -> WindowSpan {
        self.windows().last().map_or(WindowSpan::MIN, |window| window.span)
    }
}
