//! An event as a decoder has found it so far, and the one way from there to an [`Event`].
//!
//! Every decoder fills a [`Draft`] and calls [`Draft::finish`], so the rules about what may be
//! absent, which counts are known and how long a text may be are the same for every format.
//!
//! - E1: an event without `rows` has quality `unknown`, never a count of 0.
//! - E2: a text that decides where a read is counted is refused when it is too long; a text that
//!   only describes it is cut. Else a client could hide its reads behind a long program name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::iter::once;

use smallvec::SmallVec;

use super::decode::bounded;
use super::{
    DecodeError, Destination, Event, Object, Principal, RowsQuality, Source, SourceDefaults, Text,
};
use crate::units::EventTime;

/// Longest text that decides where a read is counted, in bytes.
pub const TEXT_BYTES_MAX: usize = 4096;
/// Longest text that describes a read, in bytes; what is longer is cut.
pub const NOTE_BYTES_MAX: usize = 512;
/// Most groups of one principal.
pub const GROUPS_MAX: usize = 1000;
/// Most objects of one event, repeats included.
pub const OBJECTS_MAX: usize = 1000;
/// Most labels of one object.
pub const LABELS_MAX: usize = 100;

/// Most bytes of all groups and objects of one event together, the database that objects inherit
/// counted for each, so that a context has a known size whatever a record expands to.
pub const EVENT_BYTES_MAX: usize = 256 << 10;

/// From this many objects on, repeats are looked for by hash: the comparison of each with each
/// would let one hostile record cost seconds.
const COMPARE_EACH_MAX: usize = 8;

/// Groups of a principal.
pub(super) type Groups<'a> = SmallVec<[Text<'a>; 4]>;
/// Objects of an event.
pub(super) type Objects<'a> = SmallVec<[Object<'a>; 2]>;

/// The fields of a record, none of them required yet. An empty text counts as absent.
#[derive(Debug, Default)]
pub(super) struct Draft<'a> {
    pub(super) event_id: Option<Text<'a>>,
    pub(super) event_time: Option<EventTime>,
    pub(super) principal_id: Option<Text<'a>>,
    pub(super) principal_kind: Option<Text<'a>>,
    pub(super) groups: Option<Groups<'a>>,
    pub(super) tenant: Option<Text<'a>>,
    pub(super) source_kind: Option<Text<'a>>,
    pub(super) instance: Option<Text<'a>>,
    pub(super) database: Option<Text<'a>>,
    pub(super) objects: Option<Objects<'a>>,
    pub(super) operation: Option<Text<'a>>,
    pub(super) destination: Option<Destination>,
    pub(super) rows: Option<u64>,
    pub(super) rows_quality: Option<RowsQuality>,
    pub(super) rows_written: Option<u64>,
    pub(super) bytes: Option<u64>,
    pub(super) client_address: Option<Text<'a>>,
    pub(super) client_application: Option<Text<'a>>,
    pub(super) query_id: Option<Text<'a>>,
    pub(super) query_fingerprint: Option<Text<'a>>,
    pub(super) success: Option<bool>,
}

impl<'a> Draft<'a> {
    /// Whether every object has a name.
    pub(super) fn is_named(&self) -> bool {
        self.objects.iter().flatten().all(|object| !object.name.is_empty())
    }

    /// The event, with what only the configuration knows filled in.
    ///
    /// # Errors
    /// A required field is absent.
    #[inline]
    pub(super) fn finish(self, defaults: &'a SourceDefaults) -> Result<Event<'a>, DecodeError> {
        let (rows, rows_quality) = self.count()?;
        let or = |found: Option<Text<'a>>, default: &'a Option<String>| {
            found.or_else(|| default.as_deref().map(Cow::Borrowed))
        };
        let id = self.principal_id.filter(|id| !id.trim().is_empty());
        let source = Source {
            kind: or(self.source_kind, &defaults.kind).ok_or(DecodeError::Missing {
                field: "source.kind",
                expected: "the record or `source.kind` of the input says what system it is",
            })?,
            instance: or(self.instance, &defaults.instance),
            database: or(self.database, &defaults.database),
        };
        let mut objects = self.objects.unwrap_or_default();
        let groups = self.groups.unwrap_or_default();
        at_most(
            "groups and objects in bytes",
            bytes_of(&groups, &objects, source.database.as_deref()),
            EVENT_BYTES_MAX,
        )?;
        merge_repeats(&mut objects, source.database.as_deref());
        Ok(Event {
            event_id: self.event_id,
            event_time: self.event_time.ok_or(DecodeError::Missing {
                field: "event_time",
                expected: "RFC 3339 text or whole milliseconds since the epoch",
            })?,
            principal: Principal {
                id: id.ok_or(DecodeError::NoIdentity {
                    expected: "a principal whose id is not blank",
                })?,
                kind: self.principal_kind,
                groups,
                tenant: or(self.tenant, &defaults.tenant),
            },
            source,
            objects,
            operation: self.operation,
            destination: self.destination.unwrap_or_default(),
            rows,
            rows_quality,
            rows_written: self.rows_written.unwrap_or_default(),
            bytes: self.bytes,
            client_address: self.client_address,
            client_application: self.client_application,
            query_id: self.query_id,
            query_fingerprint: self.query_fingerprint,
            success: self.success,
        })
    }

    /// Rows and their quality (E1).
    ///
    /// A record with `bytes` alone has lost its row count, whatever quality it claims. A 0 of
    /// unknown quality is a count that was lost; more than 0 is kept, as the least that left.
    fn count(&self) -> Result<(Option<u64>, RowsQuality), DecodeError> {
        match (self.rows, self.rows_quality) {
            (Some(0), Some(RowsQuality::Unknown)) => Ok((None, RowsQuality::Unknown)),
            (Some(rows), quality) => Ok((Some(rows), quality.unwrap_or_default())),
            (None, quality) if self.bytes.is_some() || quality == Some(RowsQuality::Unknown) => {
                Ok((None, RowsQuality::Unknown))
            }
            (None, _) => Err(DecodeError::Missing {
                field: "rows",
                expected: "`rows`, `bytes` or `rows_quality: unknown` says how much was read",
            }),
        }
    }
}

/// Bytes of the texts of groups and objects, what these inherit from the source included.
fn bytes_of(groups: &[Text<'_>], objects: &[Object<'_>], source_database: Option<&str>) -> usize {
    let of = |texts: &[Text<'_>]| texts.iter().map(|text| text.len()).sum::<usize>();
    let objects = objects.iter().map(|object| {
        let database = object.database.as_deref().or(source_database);
        let path = [database, object.schema.as_deref(), Some(&*object.name)];
        path.iter().flatten().map(|part| part.len()).sum::<usize>() + of(&object.labels)
    });
    of(groups) + objects.sum::<usize>()
}

/// Fills an empty slot. A field that is written twice means two things to two readers, so it is
/// refused; null and absent are the same.
#[inline]
pub(super) fn put<T>(
    slot: &mut Option<T>,
    value: Option<T>,
    field: &'static str,
) -> Result<(), DecodeError> {
    if value.is_some() {
        if slot.is_some() {
            return Err(twice(field));
        }
        *slot = value;
    }
    Ok(())
}

#[cold]
fn twice(field: &'static str) -> DecodeError {
    DecodeError::Invalid { field, found: "written twice".to_owned(), expected: "one value" }
}

/// A text that decides where a read is counted: refused above [`TEXT_BYTES_MAX`] (E2).
#[inline]
pub(super) fn text<'a>(
    text: Text<'a>,
    field: &'static str,
) -> Result<Option<Text<'a>>, DecodeError> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(DecodeError::TooLong { field, found: text.len(), limit: TEXT_BYTES_MAX });
    }
    Ok(Some(text).filter(|text| !text.is_empty()))
}

/// A text that describes a read: cut to [`NOTE_BYTES_MAX`] (E2).
#[inline]
pub(super) fn note(text: Text<'_>) -> Option<Text<'_>> {
    if text.len() <= NOTE_BYTES_MAX {
        return Some(text).filter(|text| !text.is_empty());
    }
    let end = text.floor_char_boundary(NOTE_BYTES_MAX);
    let text = match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[..end]),
        Cow::Owned(mut text) => {
            text.truncate(end);
            Cow::Owned(text)
        }
    };
    Some(text).filter(|text| !text.is_empty())
}

/// A count that was written as a signed number.
pub(super) fn count(number: i128, field: &'static str) -> Result<Option<u64>, DecodeError> {
    u64::try_from(number).map(Some).map_err(|_| invalid(field, &number.to_string(), COUNT))
}

/// An object that cannot be named.
pub(super) const NAMELESS: DecodeError = DecodeError::Missing {
    field: "objects[].name",
    expected: "an object is its full name, or has a `name`",
};

/// What a count should have been.
pub(super) const COUNT: &str = "a whole number from 0 to 18446744073709551615, or null";

/// A destination by its name.
pub(super) fn destination(
    text: &str,
    field: &'static str,
) -> Result<Option<Destination>, DecodeError> {
    let expected = "`client`, `table`, `file` or `unknown`";
    Destination::parse(text).map(Some).ok_or_else(|| invalid(field, text, expected))
}

/// A quality by its name.
pub(super) fn rows_quality(
    text: &str,
    field: &'static str,
) -> Result<Option<RowsQuality>, DecodeError> {
    let expected = "`exact`, `upper_bound` or `unknown`";
    RowsQuality::parse(text).map(Some).ok_or_else(|| invalid(field, text, expected))
}

/// A field with the wrong content.
pub(super) fn invalid(field: &'static str, found: &str, expected: &'static str) -> DecodeError {
    DecodeError::Invalid { field, found: format!("`{}`", bounded(found)), expected }
}

/// A list longer than its cap.
pub(super) fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), DecodeError> {
    if found <= limit {
        return Ok(());
    }
    Err(DecodeError::TooLarge { what, found: found as u64, limit: limit as u64 })
}

/// Merges objects of one full name into the first of them, labels included.
fn merge_repeats(objects: &mut Objects<'_>, source_database: Option<&str>) {
    if objects.len() < 2 {
        return;
    }
    let mut by_name = HashMap::new();
    let hashed = objects.len() > COMPARE_EACH_MAX;
    let mut kept = Objects::with_capacity(objects.len());
    for object in objects.drain(..) {
        let first = if hashed {
            let name: Vec<u8> = full_name(&object, source_database).collect();
            let at = *by_name.entry(name).or_insert(kept.len());
            (at < kept.len()).then_some(at)
        } else {
            let same = |other: &Object<'_>| {
                full_name(other, source_database).eq(full_name(&object, source_database))
            };
            kept.iter().position(same)
        };
        match first {
            Some(at) => absorb(&mut kept[at], object),
            None => kept.push(object),
        }
    }
    *objects = kept;
}

/// The bytes of `database.schema.name`, without building it.
fn full_name<'o>(
    object: &'o Object<'_>,
    source_database: Option<&'o str>,
) -> impl Iterator<Item = u8> + 'o {
    let part = |part: Option<&'o str>| {
        part.filter(|_| !object.full).into_iter().flat_map(|p| p.bytes().chain(once(b'.')))
    };
    part(object.database.as_deref().or(source_database))
        .chain(part(object.schema.as_deref()))
        .chain(object.name.bytes())
}

fn absorb<'a>(first: &mut Object<'a>, repeat: Object<'a>) {
    for label in repeat.labels {
        if !first.labels.contains(&label) && first.labels.len() < LABELS_MAX {
            first.labels.push(label);
        }
    }
    first.row_count = first.row_count.max(repeat.row_count);
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    const SILENT: &SourceDefaults =
        &SourceDefaults { kind: None, instance: None, database: None, tenant: None };

    fn least<'a>() -> Draft<'a> {
        Draft {
            event_time: Some(EventTime::from_millis(0)),
            principal_id: Some("jdoe".into()),
            source_kind: Some("postgresql".into()),
            rows: Some(1),
            ..Draft::default()
        }
    }

    fn count(
        rows: Option<u64>,
        bytes: Option<u64>,
        quality: Option<RowsQuality>,
    ) -> (Option<u64>, RowsQuality) {
        let draft = Draft { rows, bytes, rows_quality: quality, ..least() };
        let event = draft.finish(SILENT).unwrap();
        (event.rows, event.rows_quality)
    }

    #[test]
    fn an_event_without_a_row_count_is_unknown_and_never_zero() {
        use RowsQuality::{Exact, Unknown, UpperBound};
        assert_eq!(count(None, Some(9), None), (None, Unknown));
        assert_eq!(count(None, Some(9), Some(Exact)), (None, Unknown));
        assert_eq!(count(None, None, Some(Unknown)), (None, Unknown));
        assert_eq!(count(Some(0), None, Some(Unknown)), (None, Unknown));
        assert_eq!(count(Some(7), None, Some(Unknown)), (Some(7), Unknown));
        assert_eq!(count(Some(0), None, None), (Some(0), Exact));
        assert_eq!(count(Some(7), None, Some(UpperBound)), (Some(7), UpperBound));
    }

    #[test]
    fn each_required_field_is_missed_by_name() {
        let refusal = |draft: Draft<'_>| {
            let error = draft.finish(SILENT).unwrap_err();
            (error.code(), error.to_string())
        };
        let (code, text) = refusal(Draft { event_time: None, ..least() });
        assert!(code == "missing_field" && text.contains("event_time"), "{text}");
        let (code, text) = refusal(Draft { source_kind: None, ..least() });
        assert!(code == "missing_field" && text.contains("source.kind"), "{text}");
        let (code, text) = refusal(Draft { rows: None, ..least() });
        assert!(code == "missing_field" && text.contains("rows_quality"), "{text}");
        for id in [None, Some(""), Some(" \t")] {
            let id = id.map(Cow::Borrowed);
            assert_eq!(refusal(Draft { principal_id: id, ..least() }).0, "no_identity");
        }
    }

    #[test]
    fn the_configuration_fills_in_only_where_the_record_is_silent() {
        let defaults = SourceDefaults {
            kind: Some("mysql".into()),
            instance: Some("db-1".into()),
            database: Some("crm".into()),
            tenant: Some("acme".into()),
        };
        let event = Draft { source_kind: None, tenant: Some("own".into()), ..least() };
        let event = event.finish(&defaults).unwrap();
        let written = Source {
            kind: "mysql".into(),
            instance: Some("db-1".into()),
            database: Some("crm".into()),
        };
        assert_eq!((event.source, event.principal.tenant), (written, Some("own".into())));
    }

    #[test]
    fn objects_of_one_full_name_are_one_object_with_all_labels() {
        let named = |name: String| Object { name: name.into(), full: true, ..Object::default() };
        for others in [0, 20] {
            let mut objects: Objects<'_> = smallvec![
                Object {
                    schema: Some("public".into()),
                    name: "customers".into(),
                    labels: smallvec!["pii".into()],
                    ..Object::default()
                },
                Object {
                    labels: smallvec!["gdpr".into(), "pii".into()],
                    row_count: Some(5),
                    ..named("crm.public.customers".into())
                },
            ];
            objects.extend((0..others).map(|n| named(format!("t{n}"))));
            let draft = Draft { objects: Some(objects), database: Some("crm".into()), ..least() };
            let event = draft.finish(SILENT).unwrap();
            assert_eq!(event.objects.len(), 1 + others);
            assert_eq!(&event.objects[0].labels[..], ["pii", "gdpr"]);
            assert_eq!(event.objects[0].row_count, Some(5));
        }
    }

    #[test]
    fn a_deciding_text_is_refused_and_a_describing_text_is_cut() {
        assert!(text("x".repeat(TEXT_BYTES_MAX).into(), "principal.id").is_ok());
        let error = text("x".repeat(TEXT_BYTES_MAX + 1).into(), "principal.id").unwrap_err();
        assert_eq!(error.code(), "too_large");
        let cut = note("ü".repeat(NOTE_BYTES_MAX).into()).unwrap();
        assert_eq!(cut.len(), NOTE_BYTES_MAX);
        assert!(note("".into()).is_none());
    }
}
