//! The fields of a canonical event that `where` and `unless` may name.
//!
//! Never here: values. A field that is not in this list cannot be written in a rule.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A field of the canonical event, as rules write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is the field of the same name in schemas/event.v1")]
pub enum Field {
    ClientAddress,
    ClientApplication,
    Destination,
    Object,
    ObjectDatabase,
    ObjectLabels,
    ObjectName,
    ObjectSchema,
    Operation,
    PrincipalGroups,
    PrincipalId,
    PrincipalTenant,
    PrincipalType,
    QueryFingerprint,
    RowsQuality,
    SourceDatabase,
    SourceInstance,
    SourceKind,
    Success,
}

/// Where the value of a field is found, hence how often a filter on it must be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In the context, once an event.
    Context,
    /// In the context, once an object.
    Object,
    /// In the row.
    Row,
}

impl Field {
    /// Every field, by name.
    pub const ALL: [Self; 19] = [
        Self::ClientAddress,
        Self::ClientApplication,
        Self::Destination,
        Self::Object,
        Self::ObjectDatabase,
        Self::ObjectLabels,
        Self::ObjectName,
        Self::ObjectSchema,
        Self::Operation,
        Self::PrincipalGroups,
        Self::PrincipalId,
        Self::PrincipalTenant,
        Self::PrincipalType,
        Self::QueryFingerprint,
        Self::RowsQuality,
        Self::SourceDatabase,
        Self::SourceInstance,
        Self::SourceKind,
        Self::Success,
    ];

    /// As rules write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClientAddress => "client.address",
            Self::ClientApplication => "client.application",
            Self::Destination => "destination",
            Self::Object => "object",
            Self::ObjectDatabase => "object.database",
            Self::ObjectLabels => "object.labels",
            Self::ObjectName => "object.name",
            Self::ObjectSchema => "object.schema",
            Self::Operation => "operation",
            Self::PrincipalGroups => "principal.groups",
            Self::PrincipalId => "principal.id",
            Self::PrincipalTenant => "principal.tenant",
            Self::PrincipalType => "principal.type",
            Self::QueryFingerprint => "query.fingerprint",
            Self::RowsQuality => "rows_quality",
            Self::SourceDatabase => "source.database",
            Self::SourceInstance => "source.instance",
            Self::SourceKind => "source.kind",
            Self::Success => "success",
        }
    }

    /// The field rules write so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|field| field.as_str() == text)
    }

    /// All the values an event can have here, where they are a closed set.
    #[must_use]
    pub const fn values(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Destination => Some(&["client", "table", "file", "unknown"]),
            Self::RowsQuality => Some(&["exact", "upper_bound", "unknown"]),
            Self::Success => Some(&["true", "false"]),
            _ => None,
        }
    }

    /// Where its value is found.
    #[must_use]
    pub const fn scope(self) -> Scope {
        match self {
            Self::Object
            | Self::ObjectDatabase
            | Self::ObjectLabels
            | Self::ObjectName
            | Self::ObjectSchema => Scope::Object,
            Self::PrincipalId | Self::ClientAddress | Self::QueryFingerprint => Scope::Row,
            _ => Scope::Context,
        }
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::parse(&name).ok_or_else(|| de::Error::custom(format!("no such field: {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Destination, RowsQuality};

    #[test]
    fn every_field_is_found_by_its_name_and_the_list_is_sorted() {
        for field in Field::ALL {
            assert_eq!(Field::parse(field.as_str()), Some(field));
        }
        assert!(Field::ALL.is_sorted_by_key(|field| field.as_str()));
        assert!(Field::ALL.is_sorted());
        assert_eq!(Field::parse("principal"), None);
    }

    #[test]
    fn closed_sets_hold_what_events_can_say() {
        for value in Field::Destination.values().unwrap() {
            assert!(Destination::parse(value).is_some(), "{value}");
        }
        for value in Field::RowsQuality.values().unwrap() {
            assert!(RowsQuality::parse(value).is_some(), "{value}");
        }
    }
}
