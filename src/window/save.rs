//! A table as bytes: its shape, and entries that are each one whole value of one of its arrays.
//!
//! An entry is `array u8, table u32, number u32, bytes u32`, then the value; all little-endian.
//! Later entries of a value replace earlier ones, so a checkpoint is the entries that changed, and
//! a restore is all entries in their order. The index is not saved: it follows from the slots.

use serde::{Deserialize, Serialize};

use super::{
    TableSpec, WINDOWS_MAX,
    budget::{Budget, Share},
    changes::Changes,
    geometry::{COARSE, FINE, SKETCH},
    sketch::Sketch,
    slot::{FineRing, Slot},
    table::{FineRings, Slots, Table},
};
use crate::units::{KeyHash, Tick, WindowSpan};

/// Bytes before the value of an entry.
pub const ENTRY_HEAD_BYTES: usize = 13;

/// Appends what stands before a value of `value_bytes`.
pub fn write_head(out: &mut Vec<u8>, (code, table, number): (u8, u32, u32), value_bytes: usize) {
    out.push(code);
    out.extend(table.to_le_bytes());
    out.extend(number.to_le_bytes());
    out.extend(u32::try_from(value_bytes).unwrap_or(u32::MAX).to_le_bytes());
}

/// An array of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Array {
    /// Keys with their coarse counts.
    Slots,
    /// Fine counts of promoted keys.
    Rings,
    /// Cells of the sketch.
    Cells,
}

impl Array {
    /// Every array, in the order they are saved.
    pub const ALL: [Self; 3] = [Self::Slots, Self::Rings, Self::Cells];

    /// As entries name it.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }
}

/// What must be known of a table before its entries can be put back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableShape {
    /// Names it in entries; never used again for another.
    pub table: u32,
    /// Ascending.
    pub windows: Vec<WindowSpan>,
    slots: u32,
    rings: u32,
    sketch: Option<SketchShape>,
    sketches_made: u32,
    latest: Tick,
    slot_hand: u64,
    ring_hand: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct SketchShape {
    width: u32,
    latest: Tick,
}

/// Saved bytes that cannot be what was saved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub String);

/// Reads little-endian numbers.
#[derive(Clone, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

macro_rules! numbers {
    ($($name:ident: $number:ty),*) => {$(
        /// The next number.
        ///
        /// # Errors
        /// The bytes end before it does.
        pub fn $name(&mut self) -> Result<$number, Damaged> {
            let bytes = self.take(size_of::<$number>())?;
            Ok(<$number>::from_le_bytes(bytes.try_into().unwrap_or_default()))
        }
    )*};
}

impl<'a> Bytes<'a> {
    numbers!(u8: u8, u16: u16, u32: u32, u64: u64);

    /// The next `len` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Damaged> {
        let (head, rest) = self
            .0
            .split_at_checked(len)
            .ok_or_else(|| Damaged(format!("{} bytes left where {len} are due", self.0.len())))?;
        self.0 = rest;
        Ok(head)
    }
}

impl Table {
    /// Bytes of an entry of an array.
    #[must_use]
    pub fn entry_bytes(&self, array: Array) -> usize {
        let value = match array {
            Array::Slots => size_of::<Slot>(),
            Array::Rings => 4 + WINDOWS_MAX * FINE * 8,
            Array::Cells => 8 + self.geometry.windows().len() * SKETCH * 8,
        };
        ENTRY_HEAD_BYTES + value
    }

    /// Values in an array now.
    #[must_use]
    pub fn array_len(&self, array: Array) -> u32 {
        let len = match array {
            Array::Slots => self.slots.len(),
            Array::Rings => self.rings.len(),
            Array::Cells => self.sketch.as_ref().map_or(0, Sketch::cell_count),
        };
        u32::try_from(len).unwrap_or(u32::MAX)
    }

    /// Its shape now, under a name.
    #[must_use]
    pub fn shape(&self, table: u32) -> TableShape {
        TableShape {
            table,
            windows: self.geometry.windows().iter().map(|window| window.span).collect(),
            slots: self.array_len(Array::Slots),
            rings: self.array_len(Array::Rings),
            sketch: self.sketch.as_ref().map(|sketch| {
                let (width, latest) = (sketch.width(), sketch.latest());
                SketchShape { width, latest }
            }),
            sketches_made: self.sketches_made,
            latest: self.latest,
            slot_hand: self.slot_hand as u64,
            ring_hand: self.ring_hand,
        }
    }

    /// Takes out which values of an array have changed since they were saved last.
    pub fn take_changes(&mut self, array: Array) -> Vec<u32> {
        self.changes(array).map(Changes::take).unwrap_or_default()
    }

    /// Appends the entry of one value, which thereby counts as saved.
    pub fn save_entry(&mut self, table: u32, array: Array, number: u32, out: &mut Vec<u8>) {
        if let Some(changes) = self.changes(array) {
            changes.unmark(number as usize);
        }
        let value_bytes = self.entry_bytes(array) - ENTRY_HEAD_BYTES;
        write_head(out, (array.code(), table, number), value_bytes);
        match (array, &self.sketch) {
            (Array::Slots, _) => {
                let slot = &self.slots[number];
                out.extend(slot.key.0.to_le_bytes());
                out.extend(slot.newest.0.to_le_bytes());
                out.extend(slot.meta().to_le_bytes());
                slot.coarse.iter().flatten().for_each(|count| out.extend(count.to_le_bytes()));
            }
            (Array::Rings, _) => {
                let ring = &self.rings[number];
                out.extend(ring.owner.to_le_bytes());
                ring.counts.iter().flatten().for_each(|count| out.extend(count.to_le_bytes()));
            }
            (Array::Cells, Some(sketch)) => {
                let (newest, counts) = sketch.cell(number as usize);
                out.extend(self.sketches_made.to_le_bytes());
                out.extend(newest.0.to_le_bytes());
                counts.iter().flatten().for_each(|count| out.extend(count.to_le_bytes()));
            }
            // No numbers are handed out where there is no sketch.
            (Array::Cells, None) => {}
        }
    }

    /// Every value counts as changed, because what was saved may be lost.
    pub fn mark_all(&mut self) {
        for array in Array::ALL {
            let len = self.array_len(array) as usize;
            if let Some(changes) = self.changes(array) {
                changes.mark_all(len);
            }
        }
    }

    fn changes(&mut self, array: Array) -> Option<&mut Changes> {
        match array {
            Array::Slots => Some(self.slots.changes()),
            Array::Rings => Some(self.rings.changes()),
            Array::Cells => self.sketch.as_mut().map(Sketch::changes),
        }
    }

    /// A table of this shape whose values are still to come by [`Self::restore_entry`].
    #[must_use]
    pub fn of_shape(shape: &TableShape, budget: &mut Budget) -> Self {
        let mut windows = [None; WINDOWS_MAX];
        for (lane, &span) in windows.iter_mut().zip(&shape.windows) {
            *lane = Some(span);
        }
        let mut table = Self::new(TableSpec { windows, promote_at: [u64::MAX; WINDOWS_MAX] });
        while table.slots.len() < shape.slots as usize {
            if !table.slots.has_room() {
                table.slot_bytes += budget.take_first(Share::Slots, Slots::SEGMENT_BYTES);
                table.slots.grow(Slot::new(KeyHash(0), Tick(0)));
            }
            table.slots.push(Slot::new(KeyHash(0), Tick(0)));
        }
        while table.rings.len() < shape.rings as usize {
            if !table.rings.has_room() {
                table.ring_bytes += budget.take_first(Share::Promoted, FineRings::SEGMENT_BYTES);
                table.rings.grow(FineRing::new(0));
            }
            table.rings.push(FineRing::new(0));
        }
        table.sketch = shape.sketch.map(|sketch| {
            let sketch = Sketch::of_width(sketch.width, shape.windows.len(), sketch.latest);
            budget.take_first(Share::Sketch, sketch.bytes());
            sketch
        });
        table.sketches_made = shape.sketches_made;
        table.latest = shape.latest;
        table.slot_hand = usize::try_from(shape.slot_hand).unwrap_or(0);
        table.ring_hand = shape.ring_hand;
        for array in Array::ALL {
            table.take_changes(array);
        }
        table
    }

    /// Puts one value back. One of a sketch that is gone is passed over.
    ///
    /// # Errors
    /// It cannot be a value of this table.
    pub fn restore_entry(
        &mut self,
        array: Array,
        number: u32,
        bytes: &mut Bytes<'_>,
    ) -> Result<(), Damaged> {
        let len = self.array_len(array);
        if array != Array::Cells && number >= len {
            return Err(Damaged(format!("{array:?} {number} of {len}")));
        }
        match array {
            Array::Slots => {
                let (key, newest) = (KeyHash(bytes.u64()?), Tick(bytes.u32()?));
                let mut slot = Slot::with_meta(key, newest, bytes.u32()?);
                for count in slot.coarse.iter_mut().flatten() {
                    *count = bytes.u16()?;
                }
                self.slots.restore(number, slot);
            }
            Array::Rings => {
                let mut ring = FineRing::new(bytes.u32()?);
                for count in ring.counts.iter_mut().flatten() {
                    *count = bytes.u64()?;
                }
                self.rings.restore(number, ring);
            }
            Array::Cells => {
                let made = bytes.u32()?;
                let newest = Tick(bytes.u32()?);
                let mut counts = [[0; SKETCH]; WINDOWS_MAX];
                let counts = &mut counts[..self.geometry.windows().len()];
                for count in counts.iter_mut().flatten() {
                    *count = bytes.u64()?;
                }
                let current = self.sketches_made;
                if let Some(sketch) = self.sketch.as_mut().filter(|_| made == current) {
                    if number >= len {
                        return Err(Damaged(format!("cell {number} of {len}")));
                    }
                    sketch.restore_cell(number as usize, newest, counts);
                }
            }
        }
        Ok(())
    }

    /// All values are back: finds the keys again. The budget must have no limit meanwhile.
    ///
    /// # Errors
    /// Slots and rings do not belong together, or a key is there twice.
    pub fn end_restore(&mut self, budget: &mut Budget) -> Result<(), Damaged> {
        let rings = u32::try_from(self.rings.len()).unwrap_or(u32::MAX);
        for number in 0..self.array_len(Array::Slots) {
            let slot = self.slots[number];
            if slot.ring().is_some_and(|ring| ring >= rings || self.rings[ring].owner != number) {
                return Err(Damaged(format!("slot {number} has a fine ring that is not its own")));
            }
            if self.find(slot.key).is_some() {
                return Err(Damaged(format!("slot {number} has a key that another has, too")));
            }
            if !self.index.make_room(slot.key, budget, &mut self.slot_bytes) {
                return Err(Damaged(format!("slot {number} finds no place in the index")));
            }
            self.index.insert(slot.key, number);
        }
        if self.rings.len() > 0
            && (0..rings).any(|ring| self.rings[ring].owner as usize >= self.slots.len())
        {
            return Err(Damaged("a fine ring belongs to no slot".to_owned()));
        }
        Ok(())
    }
}

const _: () = assert!(size_of::<Slot>() == 16 + WINDOWS_MAX * COARSE * 2);
