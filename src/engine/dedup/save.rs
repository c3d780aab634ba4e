//! What is remembered, as bytes and back (D2): blocks of entries, and a shape in the head.

use serde::{Deserialize, Serialize};

use super::{BLOCK, Dedup, ENTRIES_MAX, Entry, Fingerprint};
use crate::{
    units::EventTime,
    window::{Bytes, Damaged},
};

/// Bytes of a saved entry: fingerprint, id, broker time.
const ENTRY_BYTES: usize = 32;

/// What must be known before blocks can be put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::engine) struct DedupShape {
    capacity: u32,
    len: u32,
    hand: u32,
    evicted: u64,
    block: u32,
}

impl Dedup {
    pub(in crate::engine) fn shape(&self) -> DedupShape {
        let number = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
        DedupShape {
            capacity: number(self.capacity),
            len: number(self.entries.len()),
            hand: number(self.hand),
            evicted: self.evicted,
            block: number(BLOCK),
        }
    }

    /// Blocks there are.
    pub(in crate::engine) fn blocks(&self) -> u32 {
        u32::try_from(self.entries.len().div_ceil(BLOCK)).unwrap_or(u32::MAX)
    }

    /// Bytes of a whole block.
    pub(in crate::engine) const BLOCK_BYTES: usize = BLOCK * ENTRY_BYTES;

    /// Every block counts as changed.
    pub(in crate::engine) fn mark_all(&mut self) {
        self.changes.mark_all(self.entries.len().div_ceil(BLOCK));
    }

    /// Takes out the blocks that have changed since they were saved last.
    pub(in crate::engine) fn take_changes(&mut self) -> Vec<u32> {
        self.changes.take()
    }

    /// One block, to be saved, which thereby counts as saved.
    pub(in crate::engine) fn save(&mut self, block: u32) -> Vec<u8> {
        let start = block as usize * BLOCK;
        self.changes.unmark(block as usize);
        let entries = &self.entries[start..(start + BLOCK).min(self.entries.len())];
        let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
        for Entry { fingerprint, at } in entries {
            fingerprint.content.iter().for_each(|half| bytes.extend(half.to_le_bytes()));
            bytes.extend(fingerprint.id.to_le_bytes());
            bytes.extend(at.millis().to_le_bytes());
        }
        bytes
    }
}

/// Entries on their way back.
#[derive(Debug)]
pub(in crate::engine) struct RestoringDedup {
    shape: DedupShape,
    /// Blocks not seen yet are `None`.
    blocks: Vec<Option<Vec<Entry>>>,
}

impl RestoringDedup {
    /// # Errors
    /// No ring has this shape.
    pub(in crate::engine) fn begin(shape: DedupShape) -> Result<Self, Damaged> {
        let DedupShape { capacity, len, hand, block, .. } = shape;
        let is_ring = hand == 0 || (len == capacity && hand < len);
        let is_bounded = len <= capacity && capacity as usize <= ENTRIES_MAX;
        if !is_bounded || !is_ring || (len > 0 && block == 0) {
            return Err(Damaged(format!("remembered events of the shape {shape:?}")));
        }
        let blocks = if len == 0 { 0 } else { len.div_ceil(block) };
        Ok(Self { shape, blocks: vec![None; blocks as usize] })
    }

    /// Puts a block back. One of an earlier, larger ring is passed over.
    ///
    /// # Errors
    /// It is no block.
    pub(in crate::engine) fn block(
        &mut self,
        block: u32,
        bytes: &mut Bytes<'_>,
    ) -> Result<(), Damaged> {
        let Some(place) = self.blocks.get_mut(block as usize) else { return Ok(()) };
        let mut entries = Vec::with_capacity(bytes.0.len() / ENTRY_BYTES);
        while !bytes.0.is_empty() {
            let content = [bytes.u64()?, bytes.u64()?];
            let fingerprint = Fingerprint { content, id: bytes.u64()? };
            let at = EventTime::from_millis(bytes.u64()?.cast_signed());
            entries.push(Entry { fingerprint, at });
        }
        *place = Some(entries);
        Ok(())
    }

    /// All blocks are back. With a smaller `capacity` than before, the newest are kept.
    ///
    /// # Errors
    /// A block is missing, or has not as many entries as it should.
    pub(in crate::engine) fn finish(self, capacity: usize) -> Result<Dedup, Damaged> {
        let shape = self.shape;
        let mut entries = Vec::with_capacity(shape.len as usize);
        for (block, found) in self.blocks.into_iter().enumerate() {
            let due = (shape.len as usize - entries.len()).min(shape.block as usize);
            let found = found.filter(|found| found.len() == due);
            let found = found.ok_or_else(|| {
                Damaged(format!("block {block} of remembered events is not as it should be"))
            })?;
            entries.extend(found);
        }
        let mut dedup = Dedup::new(capacity);
        dedup.evicted = shape.evicted;
        let same = shape.capacity as usize == dedup.capacity && shape.block as usize == BLOCK;
        let hand = if same { shape.hand as usize } else { 0 };
        if !same {
            // From the oldest to the newest; every block is written anew.
            entries.rotate_left(shape.hand as usize);
            let over = entries.len().saturating_sub(dedup.capacity);
            entries.drain(..over);
            dedup.evicted += over as u64;
        }
        if entries.is_empty() {
            return Ok(dedup);
        }
        dedup.reserve();
        dedup.entries.append(&mut entries);
        dedup.hand = hand;
        // The newest of an id must come last.
        let len = dedup.entries.len();
        for place in (hand..len).chain(0..hand) {
            if dedup.find(dedup.entries[place].fingerprint).is_some() {
                return Err(Damaged(format!("remembered event {place} is there twice")));
            }
            dedup.put(place);
        }
        if !same {
            dedup.mark_all();
        }
        Ok(dedup)
    }
}
