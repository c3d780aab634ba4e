//! What makes two rows the same event: id, source, principal, event time and counts.

use std::hash::Hasher as _;

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::event::{RowsQuality, batch::Batch, context::Context};

/// Key of the hash. Fingerprints are in the state, so it never changes.
const KEY: (u64, u64) = (0x6578_6669_6c77_6174, 0x6368_2e72_6570_6561);

/// What a context says of it: hashed once, good for every row that shares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct SourceHash {
    /// Kind, instance, database.
    source: u128,
    rows_quality: RowsQuality,
}

/// A row among those that may come again. Two of different content are told apart but for a
/// chance of 2^-128 a pair (SipHash-1-3 of 128 bits; Aumasson and Bernstein, 2012).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Fingerprint {
    /// Of everything.
    pub(super) content: [u64; 2],
    /// Of the id, the source whose id it is, and which of the event's rows this is.
    pub(super) id: u64,
}

impl SourceHash {
    pub(in crate::engine) fn of(context: &Context) -> Self {
        let mut hasher = hasher();
        let texts = [
            Some(&*context.source_kind),
            context.source_instance.as_deref(),
            context.source_database.as_deref(),
        ];
        for text in texts {
            // With its length, so that different texts never look alike.
            hasher.write(&text.map_or(u64::MAX, |text| text.len() as u64).to_le_bytes());
            hasher.write(text.unwrap_or_default().as_bytes());
        }
        let source = hasher.finish128().into();
        Self { source, rows_quality: context.rows_quality }
    }
}

impl Fingerprint {
    /// Of a row, unless it has no id: then nobody can tell it from a repeat.
    pub(in crate::engine) fn of(batch: &Batch, row: usize, source: SourceHash) -> Option<Self> {
        let event_id = batch.event_id(row)?;
        let mut hasher = hasher();
        let mut fixed = [0; 19];
        fixed[..16].copy_from_slice(&source.source.to_le_bytes());
        // An event has a row for each route, and on the route of objects one for each object.
        fixed[16] = batch.route() as u8;
        fixed[17..].copy_from_slice(&batch.position(row).object.to_le_bytes());
        hasher.write(&fixed);
        hasher.write(event_id.as_bytes());
        let id = hasher.finish128();

        let mut hasher = self::hasher();
        let (rows, bytes) = (batch.rows(row), batch.bytes(row));
        let mut fixed = [0; 51];
        fixed[..8].copy_from_slice(&id.h1.to_le_bytes());
        fixed[8..16].copy_from_slice(&id.h2.to_le_bytes());
        fixed[16..24].copy_from_slice(&batch.key_hash(row).0.to_le_bytes());
        fixed[24..32].copy_from_slice(&batch.event_time(row).millis().to_le_bytes());
        fixed[32..40].copy_from_slice(&rows.unwrap_or(0).to_le_bytes());
        fixed[40..48].copy_from_slice(&bytes.unwrap_or(0).to_le_bytes());
        (fixed[48], fixed[49]) = (u8::from(rows.is_some()), u8::from(bytes.is_some()));
        fixed[50] = source.rows_quality as u8;
        hasher.write(&fixed);
        hasher.write(batch.principal(row).as_bytes());
        let content = hasher.finish128();
        Some(Self { content: [content.h1, content.h2], id: id.h1 })
    }

    /// Where an index looks for its content.
    pub(super) const fn content_hash(self) -> u64 {
        self.content[0]
    }
}

fn hasher() -> SipHasher13 {
    SipHasher13::new_with_keys(KEY.0, KEY.1)
}
