//! What stands before every record: whose it is, which format, and a checksum of the rest.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use super::Unusable;

/// Format of the records that this version writes. It reads this one and the one before it.
pub const VERSION: u16 = 2;

const MAGIC: [u8; 4] = *b"XFWC";
const HEAD_BYTES: usize = 16;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Values of an engine.
    Chunk,
    /// The rest of an engine, or a part of it.
    Head,
    /// Which records make a checkpoint.
    Manifest,
}

/// A record around `payload`, and the checksum by which a manifest names it.
#[must_use]
pub fn seal(kind: Kind, payload: &[u8]) -> (Vec<u8>, u64) {
    let checksum = checksum(VERSION, kind as u8, payload);
    let mut record = Vec::with_capacity(HEAD_BYTES + payload.len());
    record.extend(MAGIC);
    record.extend(VERSION.to_le_bytes());
    record.extend([kind as u8, 0]);
    record.extend(checksum.to_le_bytes());
    record.extend(payload);
    (record, checksum)
}

/// The payload of a record of this kind, and its checksum.
///
/// # Errors
/// It is foreign, too new or corrupt.
pub fn open(kind: Kind, record: &[u8]) -> Result<(&[u8], u64), Unusable> {
    let foreign = || Unusable::Foreign("a record that exfilwatch did not write".to_owned());
    let (head, payload) = record.split_at_checked(HEAD_BYTES).ok_or_else(foreign)?;
    if head[..4] != MAGIC {
        return Err(foreign());
    }
    let version = u16::from_le_bytes([head[4], head[5]]);
    if version > VERSION {
        return Err(Unusable::TooNew { found: version });
    }
    if head[6] != kind as u8 {
        return Err(Unusable::Corrupt(format!("a record of kind {} for a {kind:?}", head[6])));
    }
    let found = u64::from_le_bytes(head[8..].try_into().unwrap_or_default());
    if found != checksum(version, head[6], payload) {
        return Err(Unusable::Corrupt("its checksum is not that of its bytes".to_owned()));
    }
    Ok((payload, found))
}

/// SipHash-1-3 with a fixed key.
fn checksum(version: u16, kind: u8, payload: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6578_6669_6c77_6174, 0x6368_2e73_7461_7465);
    hasher.write(&version.to_le_bytes());
    hasher.write(&[kind]);
    hasher.write(payload);
    hasher.finish()
}
