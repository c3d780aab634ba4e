//! Checkpoints as records of one partition of the state topic (D2).
//!
//! ```text
//! chunk 7, chunk 8, head, manifest | chunk 9, head, manifest | ...        one transaction each
//!    `------------ named, with offset and checksum, by ----------'
//! ```
//!
//! A manifest comes last and names every record that it needs: its head, and all chunks since the
//! start of the last whole walk over the state (`engine::Saved`). What the last two manifests name
//! is neither written over nor deleted, so when the newest cannot be used the one before it can.
//! Pure: records in, records out. Never here: Kafka, a clock.

mod custody;
mod envelope;
mod ledger;
mod manifest;
mod rebuild;
mod resume;
mod tenure;
#[cfg(test)]
mod tests;

pub use custody::{Attempt, Custody, NotWhole, Superseded};
pub use envelope::{Kind, VERSION, open, seal};
pub use ledger::{Draft, Fate, Ledger, Record};
pub use manifest::{Manifest, Named, Origin};
pub use rebuild::rebuild;
pub use resume::{Log, Loss, resume};
pub use tenure::{Request, Tenure, TenureOptions, first_after};

/// Why a record or a checkpoint cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not written by exfilwatch, or for another cluster, topic or partition.
    #[error("it is foreign: {0}")]
    Foreign(String),
    /// Written by a version whose format this one does not know.
    #[error("its format {found} is newer than {VERSION}, which this version reads")]
    TooNew {
        /// Format of the record.
        found: u16,
    },
    /// Its bytes are not those that were written.
    #[error("it is corrupt: {0}")]
    Corrupt(String),
    /// A record that it names is not there, or is another.
    #[error("it is torn: {0}")]
    Torn(String),
    /// The events topic has another number of partitions than when it was written.
    #[error(
        "it was written when the events topic had {was} partitions, and now it has {is}: keys live \
         on other partitions now"
    )]
    Repartitioned {
        /// Partitions then.
        was: u32,
        /// Partitions now.
        is: u32,
    },
}
