//! One input of a replay: its records, decoded, each row with its place.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    config,
    event::{DecodeError, Decoder, Format, Outcome, SourceDefaults},
};

use super::records::{Found, LINE_BYTES_MAX, Records};

/// A place in an input: which record, and which row of it. The first record is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) record: u64,
    pub(super) row: u32,
}

/// One input, open.
pub(super) struct Input {
    name: String,
    records: Records,
    decoder: Box<dyn Decoder>,
    defaults: SourceDefaults,
    retries: bool,
    next: u64,
    bytes: Vec<u8>,
}

impl Input {
    /// Opens `path`, or stdin where it is `-`. `format` is that of JSON lines; columns speak for
    /// themselves.
    pub(super) fn open(
        path: &Path,
        format: Format,
        configured: &[config::Input],
        read: &Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let counted = |bytes| Counted { bytes, read: Arc::clone(read) };
        let records = if path == Path::new("-") {
            Records::open(counted(Box::new(io::stdin())), None)?
        } else {
            let file = File::open(path)?;
            let again = file.metadata()?.is_file().then(|| File::open(path)).transpose()?;
            Records::open(counted(Box::new(file)), again)?
        };
        let format = if records.are_columns() { Format::Arrow } else { format };
        let configured = configured_once(format, configured);
        Ok(Self {
            name: path.display().to_string(),
            records,
            decoder: format.decoder(),
            defaults: configured.map(|input| input.source.clone()).unwrap_or_default(),
            retries: configured.map_or(format.retries(), |input| input.retries),
            next: 0,
            bytes: Vec::new(),
        })
    }

    /// As the command line names it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether its source may have sent an event again.
    pub(super) fn retries(&self) -> bool {
        self.retries
    }

    /// Decodes the next record and hands over its rows in order. False: there is none.
    pub(super) fn decode_next(
        &mut self,
        sink: &mut dyn FnMut(Place, Outcome<'_, '_>),
    ) -> io::Result<bool> {
        let found = self.records.read(&mut self.bytes)?;
        let record = self.next;
        self.next += 1;
        let refused = match found {
            Found::End => return Ok(false),
            Found::TooLong(found) => Err(DecodeError::TooLarge {
                what: "length of a line in bytes",
                found,
                limit: LINE_BYTES_MAX as u64,
            }),
            Found::Record => {
                self.decoder.decode(&self.bytes, &self.defaults, &mut |row, outcome| {
                    sink(Place { record, row }, outcome);
                })
            }
        };
        if let Err(error) = refused {
            sink(Place { record, row: 0 }, Outcome::Refused(error));
        }
        Ok(true)
    }
}

/// The input of this format, where the configuration has only one.
fn configured_once(format: Format, configured: &[config::Input]) -> Option<&config::Input> {
    let mut of_format = configured.iter().filter(|input| input.format == format);
    of_format.next().filter(|_| of_format.next().is_none())
}

/// Bytes of all inputs together, where that is known beforehand.
pub(super) fn total_bytes(inputs: &[PathBuf]) -> Option<u64> {
    let length = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).ok()?;
        metadata.is_file().then_some(metadata.len())
    };
    inputs.iter().map(length).sum()
}

/// Counts what is read, for the progress bar.
struct Counted {
    bytes: Box<dyn Read>,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(into)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
