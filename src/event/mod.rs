//! The canonical event and the way into it: decoders, identity, catalogue, canonical rows.
//!
//! An [`Event`] borrows from the record it was read from; nothing is copied before the row is
//! written into a batch. Never here: a clock, a socket, a rule.

pub mod arrow;
pub mod batch;
mod builder;
pub mod canary;
pub mod canonical;
pub mod catalog;
mod columns;
pub mod context;
mod contexts;
pub mod decode;
pub mod draft;
pub mod group;
pub mod identity;
pub mod ipc;
pub mod json;
pub mod route;
pub mod time;
pub mod trino;

#[cfg(test)]
mod testing;
#[cfg(test)]
#[cfg(feature = "service")]
mod tests;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::units::EventTime;

pub use group::GroupBy;

pub use decode::{DecodeError, Decoder, Format, IgnoreReason, Outcome, SourceDefaults};

/// Text that borrows from the record where it can (JSON escapes force a copy).
pub type Text<'a> = Cow<'a, str>;

/// Metadata of one delivered query result (DESIGN 3; `schemas/event.v1.schema.json` is the truth).
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// The source's own id of the event.
    pub event_id: Option<Text<'a>>,
    /// When the result was delivered.
    pub event_time: EventTime,
    /// Who the read is charged to, as the source wrote it.
    pub principal: Principal<'a>,
    /// The system that emitted the event.
    pub source: Source<'a>,
    /// What was read, without repeats of one full name.
    pub objects: SmallVec<[Object<'a>; 2]>,
    /// `select`, `copy`, ...; lower case by convention, matched without regard to case.
    pub operation: Option<Text<'a>>,
    /// Where the rows went.
    pub destination: Destination,
    /// Records delivered; `None` when the source lost the count, which is never 0.
    pub rows: Option<u64>,
    /// How far `rows` can be trusted.
    pub rows_quality: RowsQuality,
    /// Records written, never charged as records delivered.
    pub rows_written: u64,
    /// Bytes delivered.
    pub bytes: Option<u64>,
    /// Network address of the client.
    pub client_address: Option<Text<'a>>,
    /// Program of the client.
    pub client_application: Option<Text<'a>>,
    /// The source's id of the query.
    pub query_id: Option<Text<'a>>,
    /// Fingerprint of the query text; the text itself is never read.
    pub query_fingerprint: Option<Text<'a>>,
    /// Whether the query ended well; counts are charged whatever it says.
    pub success: Option<bool>,
}

/// The accountable identity, before canonicalisation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Principal<'a> {
    /// Never empty.
    pub id: Text<'a>,
    /// `user`, `service`, ...
    pub kind: Option<Text<'a>>,
    /// Groups or roles.
    pub groups: SmallVec<[Text<'a>; 4]>,
    /// Customer or organisation.
    pub tenant: Option<Text<'a>>,
}

/// The system that emitted an event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Source<'a> {
    /// `postgresql`, `trino`, ...
    pub kind: Text<'a>,
    /// Which one of that kind.
    pub instance: Option<Text<'a>>,
    /// Database of the session.
    pub database: Option<Text<'a>>,
}

/// A table, collection, bucket or endpoint that was read.
///
/// Full name = `database.schema.name`, absent parts left out; `database` defaults to the source's
/// when the object was not written as one string.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object<'a> {
    /// Database part, if written.
    pub database: Option<Text<'a>>,
    /// Schema part, if written.
    pub schema: Option<Text<'a>>,
    /// Name; for the short form the whole string, which is then the full name as it is.
    pub name: Text<'a>,
    /// True when `name` is already the full name (short form).
    pub full: bool,
    /// Labels such as `pii`.
    pub labels: SmallVec<[Text<'a>; 2]>,
    /// Records in the object, for shares of a table.
    pub row_count: Option<u64>,
}

/// How far a row count can be trusted. Unknown is never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowsQuality {
    /// The source counted.
    #[default]
    Exact,
    /// At most this many.
    UpperBound,
    /// The count is lost.
    Unknown,
}

impl RowsQuality {
    /// From the best to the worst.
    pub const ALL: [Self; 3] = [Self::Exact, Self::UpperBound, Self::Unknown];

    /// As the schema writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::UpperBound => "upper_bound",
            Self::Unknown => "unknown",
        }
    }

    /// The quality the schema writes so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|q| q.as_str() == text)
    }
}

/// Where the rows went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// To the client: they left.
    Client,
    /// Into another table: they did not leave.
    Table,
    /// To a file: they usually left.
    File,
    /// The source does not say.
    #[default]
    Unknown,
}

impl Destination {
    /// As the schema writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Table => "table",
            Self::File => "file",
            Self::Unknown => "unknown",
        }
    }

    /// The destination the schema writes so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Client, Self::Table, Self::File, Self::Unknown]
            .into_iter()
            .find(|d| d.as_str() == text)
    }
}
