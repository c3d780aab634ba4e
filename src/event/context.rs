//! The part of an event that many events share: everything a filter may ask for except the
//! principal's name, the client address and the query. Interned once, decided once per rule set.

use super::{Destination, RowsQuality};

/// Everything a filter can test that is not particular to one row. Texts are as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    /// `user`, `service`, ...
    pub principal_type: Option<Box<str>>,
    /// Groups or roles.
    pub groups: Vec<Box<str>>,
    /// Customer or organisation.
    pub tenant: Option<Box<str>>,
    /// `postgresql`, ...
    pub source_kind: Box<str>,
    /// Which one of that kind.
    pub source_instance: Option<Box<str>>,
    /// Database of the session.
    pub source_database: Option<Box<str>>,
    /// What was read, catalogue applied, one entry a full name.
    pub objects: Vec<ContextObject>,
    /// `select`, ...
    pub operation: Option<Box<str>>,
    /// Where the rows went.
    pub destination: Destination,
    /// How far the row count can be trusted.
    pub rows_quality: RowsQuality,
    /// Program of the client.
    pub application: Option<Box<str>>,
    /// Whether the query ended well.
    pub success: Option<bool>,
}

/// One object of a [`Context`], after the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContextObject {
    /// `database.schema.name`, absent parts left out.
    pub full_name: Box<str>,
    /// Database part, where known.
    pub database: Option<Box<str>>,
    /// Schema part, where known.
    pub schema: Option<Box<str>>,
    /// Last part.
    pub name: Box<str>,
    /// Labels of the record and of the catalogue together.
    pub labels: Vec<Box<str>>,
    /// Records in the object.
    pub row_count: Option<u64>,
}
