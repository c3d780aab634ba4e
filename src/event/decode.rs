//! The seam between a format and the rest: one small trait, one error enum.

use smallvec::SmallVec;

use super::Event;

/// Turns the value of one Kafka record into events. One implementation a file, one file a format.
///
/// A decoder may keep scratch memory between records, but nothing that changes what a record means.
pub trait Decoder: Send {
    /// Calls `sink` once for every row of `payload`, in order, with the row's index from 0.
    ///
    /// A row that cannot become an event is handed over as [`Outcome::Refused`] and the rows after
    /// it go on, so that one poisoned row cannot hide its neighbours.
    ///
    /// # Errors
    /// The record as a whole cannot be read; rows handed over before the error stay valid only if
    /// the format can tell them apart (Arrow), otherwise none were.
    fn decode(
        &mut self,
        payload: &[u8],
        defaults: &SourceDefaults,
        sink: &mut dyn FnMut(u32, Outcome<'_, '_>),
    ) -> Result<(), DecodeError>;

    /// How often the shapes that it remembers were too many and forgotten, since the last call.
    fn take_resets(&mut self) -> u64 {
        0
    }
}

/// What became of one row.
#[derive(Debug)]
pub enum Outcome<'e, 'a> {
    /// It is an event.
    Event(&'e Event<'a>),
    /// It is none, and rightly so.
    Ignored(IgnoreReason),
    /// It should have been one.
    Refused(DecodeError),
}

/// Why a well-formed record is no event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IgnoreReason {
    /// A record without a value.
    NullValue,
    /// A message of the source that is not about a finished read (Trino: created, split).
    OtherKind,
}

impl IgnoreReason {
    /// Every reason, for closed label sets.
    pub const ALL: [Self; 2] = [Self::NullValue, Self::OtherKind];

    /// Bounded metric label.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NullValue => "null_value",
            Self::OtherKind => "other_kind",
        }
    }
}

/// A format an input may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Canonical JSON, one object a record.
    #[default]
    Canonical,
    /// Trino's Kafka or HTTP event listener.
    Trino,
    /// Self-contained Arrow IPC stream of the canonical columns, many rows a record.
    Arrow,
}

impl Format {
    /// Whether sources of this format send an event again when they got no answer, and give every
    /// event an id of its own.
    #[must_use]
    pub const fn retries(self) -> bool {
        matches!(self, Self::Trino)
    }

    /// Every format, in the order `--help` lists them.
    pub const ALL: [Self; 3] = [Self::Canonical, Self::Trino, Self::Arrow];

    /// As the configuration writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Canonical => "canonical",
            Self::Trino => "trino",
            Self::Arrow => "arrow",
        }
    }

    /// The format the configuration writes so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == text)
    }

    /// A fresh decoder of this format.
    #[must_use]
    pub fn decoder(self) -> Box<dyn Decoder> {
        match self {
            Self::Canonical => Box::new(super::canonical::CanonicalDecoder::default()),
            Self::Trino => Box::new(super::trino::TrinoDecoder::default()),
            Self::Arrow => Box::new(super::arrow::ArrowDecoder::default()),
        }
    }
}

/// What the configuration says of a source where its records are silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceDefaults {
    /// Kind, such as `postgresql`.
    pub kind: Option<String>,
    /// Instance, such as `crm-db-1`.
    pub instance: Option<String>,
    /// Database.
    pub database: Option<String>,
    /// Tenant of every principal of this input.
    pub tenant: Option<String>,
}

/// Longest text of a record that an error message repeats, in characters.
pub const FOUND_MAX: usize = 80;

/// Why a record or row did not become an event. Every variant is the sender's fault, so none is
/// retried. Messages say what was found and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not JSON, not Arrow, cut short.
    #[error("record is not valid {format}: {detail}")]
    Syntax {
        /// Which format was expected.
        format: &'static str,
        /// What the parser said, bounded.
        detail: String,
    },
    /// A required field is absent or null.
    #[error("field `{field}` is missing; {expected}")]
    Missing {
        /// Dotted name.
        field: &'static str,
        /// What would have done.
        expected: &'static str,
    },
    /// A field of the wrong type or out of its range.
    #[error("field `{field}` is {found}, expected {expected}")]
    Invalid {
        /// Dotted name.
        field: &'static str,
        /// What was found, bounded to [`FOUND_MAX`] characters and escaped.
        found: String,
        /// What would have done.
        expected: &'static str,
    },
    /// No identity to charge the read to.
    #[error("no identity: {expected}")]
    NoIdentity {
        /// What would have done.
        expected: &'static str,
    },
    /// A text that decides where a read is counted is longer than any real one.
    #[error("field `{field}` is {found} bytes long, above the limit of {limit}")]
    TooLong {
        /// Dotted name.
        field: &'static str,
        /// Its length in bytes.
        found: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A named cap was passed (bytes, rows, depth, objects).
    #[error("{what} is {found}, above the limit of {limit}")]
    TooLarge {
        /// What was measured.
        what: &'static str,
        /// Its size.
        found: u64,
        /// The limit.
        limit: u64,
    },
}

impl DecodeError {
    /// Every code, for closed label sets.
    pub const CODES: [&'static str; 5] =
        ["syntax", "missing_field", "invalid_field", "no_identity", "too_large"];

    /// Bounded metric label and dead-letter reason; never holds text from the record.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Syntax { .. } => "syntax",
            Self::Missing { .. } => "missing_field",
            Self::Invalid { .. } => "invalid_field",
            Self::NoIdentity { .. } => "no_identity",
            Self::TooLong { .. } | Self::TooLarge { .. } => "too_large",
        }
    }
}

/// `text` cut to [`FOUND_MAX`] characters with control and bidi characters escaped.
#[must_use]
pub fn bounded(text: &str) -> String {
    let mut out: String = text.chars().take(FOUND_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(FOUND_MAX).is_some() {
        out.push('…');
    }
    out
}

/// Small list of texts.
pub type Texts<'a> = SmallVec<[super::Text<'a>; 4]>;
