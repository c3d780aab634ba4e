//! `canary:`, and the key that canaries are signed with.
//!
//! Never here: what a canary is (`event::canary`). A key is never part of a message.

use std::{fs::File, io::Read, path::Path};

use super::check::Check;
use super::doc::place;
use super::raw::RawCanary;
use super::values::{Name, Text};
use crate::event::canary::{CanaryKey, KEY_BYTES_MAX, KEY_BYTES_MIN};

/// The key of a configuration; what is wrong with its file goes to the report.
pub(super) fn config(raw: RawCanary, file: &Path, check: &mut Check<'_>) -> Option<CanaryKey> {
    let Text(Name(name)) = raw.key_file?; // said by the schema
    let path = file.parent().unwrap_or_else(|| Path::new("")).join(&name);
    match read_key(&path) {
        Ok(key) => Some(key),
        Err(problem) => {
            let hint = "paths are relative to this file; a key can be made by `openssl rand -hex \
                        32`";
            check.fault(&place!["canary", "key_file"], format!("\"{name}\" {problem}"), hint);
            None
        }
    }
}

/// The key in a file: its bytes without one newline at the end.
///
/// # Errors
/// It cannot be read, or is too short or too long: what is wrong, to stand after its name.
pub fn read_key(path: &Path) -> Result<CanaryKey, String> {
    let mut bytes = Vec::new();
    let limit = KEY_BYTES_MAX as u64 + 2;
    File::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| format!("cannot be read: {error}"))?;
    let key = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    CanaryKey::new(key).map_err(|found| {
        if found < KEY_BYTES_MIN {
            format!("holds a key of {found} bytes; expected at least {KEY_BYTES_MIN}")
        } else {
            format!("holds a key longer than the {KEY_BYTES_MAX} bytes that are allowed")
        }
    })
}
