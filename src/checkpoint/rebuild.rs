//! From a manifest to the engine that it stands for.

use super::{Kind, Manifest, Named, Unusable, open};
use crate::engine::{Engine, EngineOptions, Restoring};

/// Puts the engine of a checkpoint together. `read` gives the record at an offset of the state
/// partition, none if there is none; it is asked for the parts of the head, then for all chunks in
/// the order of their offsets.
///
/// # Errors
/// Outer: `read` failed. Inner: the checkpoint cannot be used.
pub fn rebuild<E>(
    manifest: &Manifest,
    options: EngineOptions,
    mut read: impl FnMut(i64) -> Result<Option<Vec<u8>>, E>,
) -> Result<Result<Engine, Unusable>, E> {
    let mut payload = |kind, named: &Named| -> Result<Result<Vec<u8>, Unusable>, E> {
        Ok(read(named.offset)?.map_or_else(
            || Err(Unusable::Torn(format!("there is no record at offset {}", named.offset))),
            |record| match open(kind, &record)? {
                (payload, found) if found == named.checksum => Ok(payload.to_vec()),
                _ => Err(Unusable::Torn(format!("another record is at offset {}", named.offset))),
            },
        ))
    };
    let mut head = Vec::new();
    for named in &manifest.head {
        match payload(Kind::Head, named)? {
            Ok(part) => head.extend(part),
            Err(unusable) => return Ok(Err(unusable)),
        }
    }
    let damaged = |damaged: crate::window::Damaged| Unusable::Corrupt(damaged.to_string());
    let mut restoring = match Restoring::begin(options, &head) {
        Ok(restoring) => restoring,
        Err(cause) => return Ok(Err(damaged(cause))),
    };
    for named in &manifest.chunks {
        match payload(Kind::Chunk, named)? {
            Ok(chunk) => {
                if let Err(cause) = restoring.chunk(&chunk) {
                    return Ok(Err(damaged(cause)));
                }
            }
            Err(unusable) => return Ok(Err(unusable)),
        }
    }
    Ok(restoring.finish().map_err(damaged))
}
