//! The part of an event that many events share: everything a filter may ask for except the
//! principal's name, the client address and the query. Interned once, decided once per rule set.

use std::collections::{HashMap, hash_map::Entry};

use serde::{Deserialize, Serialize};

use super::{Destination, Event, RowsQuality, catalog::Catalog};

/// Everything a filter can test that is not particular to one row. Texts are as written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
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
    /// Ingest has found a valid signature: the event is a canary, and no rule of a user counts it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub canary: bool,
}

/// One object of a [`Context`], after the catalogue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
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

/// Adds what another spelling of the same object says.
fn absorb(object: &mut ContextObject, twin: ContextObject) {
    for label in twin.labels {
        if !object.labels.contains(&label) {
            object.labels.push(label);
        }
    }
    object.row_count = object.row_count.max(twin.row_count);
}

impl Context {
    /// The context of an event, the catalogue applied, and the catalogue entries that applied.
    #[must_use]
    pub fn of(event: &Event<'_>, catalog: &Catalog) -> (Self, Vec<usize>) {
        let mut objects: Vec<ContextObject> = Vec::with_capacity(event.objects.len());
        let mut entries = Vec::new();
        let mut by_name = HashMap::with_capacity(event.objects.len());
        for object in &event.objects {
            let (object, entry) = catalog.resolve(object, event.source.database.as_deref());
            entries.extend(entry.filter(|entry| !entries.contains(entry)));
            // Spellings of one name are one object, or a join with itself would be charged twice.
            // It has the labels of all: a twin without a label must not hide one with it.
            match by_name.entry(object.full_name.to_lowercase()) {
                Entry::Vacant(place) => {
                    place.insert(objects.len());
                    objects.push(object);
                }
                Entry::Occupied(place) => absorb(&mut objects[*place.get()], object),
            }
        }
        let context = Self {
            principal_type: boxed(event.principal.kind.as_deref()),
            groups: event.principal.groups.iter().map(|group| group.as_ref().into()).collect(),
            tenant: boxed(event.principal.tenant.as_deref()),
            source_kind: event.source.kind.as_ref().into(),
            source_instance: boxed(event.source.instance.as_deref()),
            source_database: boxed(event.source.database.as_deref()),
            objects,
            operation: boxed(event.operation.as_deref()),
            destination: event.destination,
            rows_quality: event.rows_quality,
            application: boxed(event.client_application.as_deref()),
            success: event.success,
            canary: false,
        };
        (context, entries)
    }

    /// As the events topic carries it.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain strings and numbers always serialise")
    }

    /// Reads what [`Self::to_json`] wrote.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

fn boxed(text: Option<&str>) -> Option<Box<str>> {
    text.map(Into::into)
}
