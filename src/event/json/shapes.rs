//! Records that have the keys of one before them.
//!
//! A source writes the same keys in the same order again and again. What lies between two values
//! of such a record, keys and all, is known bytes; one comparison takes the place of reading it,
//! and the function that takes the value is known too. After Li, Katsipoulakis, Chandramouli,
//! Goldstein and Kossmann, "Mison: a fast JSON parser for data analytics" (VLDB 2017), section 4.3:
//! the shapes met so far are a tree, so that records that differ in one place share the rest.
//!
//! Invariants:
//! - what is read so is what [`super::read`] would have read: each value goes through the same
//!   function, and whatever is amiss is left to it, which names the fault;
//! - a shape says nothing of values, so no record decides what another one means;
//! - of two ways on from a place at most one fits a record: where one's bytes begin the other's, a
//!   value comes after the shorter, and a bracket or white space in the longer;
//! - only records whose objects all have a name are learnt, so each object begins with a value.

use std::ops::Range;

use super::{Fields, Reader, Scalar, read_traced, utf8};
use crate::event::{DecodeError, Object, draft::Draft};

/// Places that are remembered; beyond it all are forgotten and learnt anew. A shape takes one for
/// each of its values, shapes share those they begin with.
const PLACES_MAX: usize = 4096;
/// Bytes between values that are remembered, of all places together.
const LITERAL_BYTES_MAX: usize = 128 << 10;
/// Ways to go on from one place; each takes a comparison.
const WAYS_MAX: usize = 16;
/// Longest record that is remembered, in bytes. A longer one is always read key by key.
const LEARNT_BYTES_MAX: usize = 16 << 10;
/// Most values of a record that is remembered.
const LEARNT_VALUES_MAX: usize = 512;

/// Takes a value to where it belongs, or refuses it.
pub(crate) type Fill = for<'a> fn(&mut Draft<'a>, Scalar<'a>) -> Result<(), DecodeError>;

/// Of a value of no interest. Of a list or an object, more is to be looked at than that it is one.
#[expect(clippy::needless_pass_by_value, reason = "it is a Fill")]
pub(super) fn skipped<'a>(_: &mut Draft<'a>, scalar: Scalar<'a>) -> Result<(), DecodeError> {
    match scalar {
        Scalar::List | Scalar::Object => Err(scalar.wrong("value", "no list and no object")),
        _ => Ok(()),
    }
}

/// Of what is an object or a list in other records.
pub(super) fn null<'a>(_: &mut Draft<'a>, scalar: Scalar<'a>) -> Result<(), DecodeError> {
    match scalar {
        Scalar::Null => Ok(()),
        other => Err(other.wrong("value", "null")),
    }
}

/// The values of a record: where each is and where it went. One that was not begun notes nothing.
#[derive(Debug, Default)]
pub(super) struct Trace {
    on: bool,
    begins_object: bool,
    values: Vec<Traced>,
}

#[derive(Debug)]
struct Traced {
    bytes: Range<usize>,
    begins_object: bool,
    fill: Fill,
}

impl Trace {
    fn begin(&mut self, text: &str) {
        self.on = text.len() <= LEARNT_BYTES_MAX;
        self.begins_object = false;
        self.values.clear();
    }

    pub(super) fn begins_object(&mut self) {
        self.begins_object = true;
    }

    #[inline]
    pub(super) fn add(&mut self, bytes: Range<usize>, fill: Fill) {
        if !self.on {
            return;
        }
        if self.values.len() == LEARNT_VALUES_MAX {
            self.on = false;
            return;
        }
        let begins_object = std::mem::take(&mut self.begins_object);
        self.values.push(Traced { bytes, begins_object, fill });
    }
}

/// No place.
const NONE: u32 = u32::MAX;

/// A value, or the end, of records that had the same bytes between their values so far.
#[derive(Debug)]
struct Place {
    /// What lies between the value before and this one, in [`Shapes::literals`].
    literal: Range<u32>,
    begins_object: bool,
    /// Where the value goes; none at the end.
    fill: Option<Fill>,
    /// The first place after this one.
    next: u32,
    /// Another place that may come instead of this one.
    other: u32,
}

/// The shapes met so far.
#[derive(Debug, Default)]
pub(crate) struct Shapes {
    places: Vec<Place>,
    literals: Vec<u8>,
    trace: Trace,
    /// How often all were forgotten.
    pub(crate) resets: u64,
}

impl Shapes {
    /// Reads a record into an empty draft.
    ///
    /// # Errors
    /// The first refusal, or bad syntax.
    pub(crate) fn read<'a>(
        &mut self,
        payload: &'a [u8],
        draft: &mut Draft<'a>,
    ) -> Result<(), DecodeError>
    where
        Draft<'a>: Fields<'a>,
    {
        let text = utf8(payload)?;
        if self.read_known(text, draft).is_some() && draft.is_named() {
            return Ok(());
        }
        *draft = Draft::default();
        self.trace.begin(text);
        read_traced(text, draft, &mut self.trace)?;
        self.learn(text);
        Ok(())
    }

    /// Nothing unless every byte between two values is known and every value is taken.
    #[inline]
    fn read_known<'a>(&self, text: &'a str, draft: &mut Draft<'a>) -> Option<()> {
        let mut reader = Reader::new(text);
        let mut at = 0;
        loop {
            let place = self.places.get(at as usize)?;
            let literal = self.literal(place);
            let rest = &text.as_bytes()[reader.at..];
            if !rest.starts_with(literal) {
                at = place.other;
                continue;
            }
            let first = rest.get(literal.len());
            let Some(fill) = place.fill else {
                if first.is_none() {
                    return Some(());
                }
                at = place.other;
                continue;
            };
            // What is a value by itself in one record may be a list or an object in another, or
            // come after white space.
            if first.is_none_or(|first| b"{[]} \n\t\r".contains(first)) {
                at = place.other;
                continue;
            }
            reader.at += literal.len();
            if place.begins_object {
                draft.objects.get_or_insert_default().push(Object::default());
            }
            let scalar = match first {
                Some(b'"') => Scalar::Text(reader.string().ok()?),
                _ => reader.scalar().ok()?,
            };
            fill(draft, scalar).ok()?;
            at = place.next;
        }
    }

    fn literal(&self, place: &Place) -> &[u8] {
        &self.literals[place.literal.start as usize..place.literal.end as usize]
    }

    /// Remembers the record that was traced last.
    fn learn(&mut self, text: &str) {
        let trace = std::mem::take(&mut self.trace);
        if trace.on {
            let bytes = text.as_bytes();
            let mut last = None;
            let mut from = 0;
            for value in &trace.values {
                let literal = &bytes[from..value.bytes.start];
                last = self.place_after(last, literal, value.begins_object, Some(value.fill));
                from = value.bytes.end;
                if last.is_none() {
                    break;
                }
            }
            if last.is_some() {
                self.place_after(last, &bytes[from..], false, None);
            }
        }
        self.trace = trace;
    }

    /// The place after `last` that `literal` leads to, made if there is none. Nothing, and nothing
    /// is known any more, where a limit is reached.
    fn place_after(
        &mut self,
        last: Option<u32>,
        literal: &[u8],
        begins_object: bool,
        fill: Option<Fill>,
    ) -> Option<u32> {
        let mut at = last.map_or(0, |last| self.places[last as usize].next);
        let (mut ways, mut before) = (0, None);
        while let Some(place) = self.places.get(at as usize) {
            if self.literal(place) == literal && place.fill.is_some() == fill.is_some() {
                return Some(at);
            }
            ways += 1;
            before = Some(at);
            at = place.other;
        }
        let bytes = self.literals.len() + literal.len();
        if ways == WAYS_MAX || self.places.len() == PLACES_MAX || bytes > LITERAL_BYTES_MAX {
            self.places.clear();
            self.literals.clear();
            self.resets += 1;
            return None;
        }
        let number = |count: usize| u32::try_from(count).expect("bounded by the limits");
        let made = number(self.places.len());
        let literal_at = number(self.literals.len());
        self.literals.extend_from_slice(literal);
        let literal = literal_at..number(self.literals.len());
        self.places.push(Place { literal, begins_object, fill, next: NONE, other: NONE });
        match (before, last) {
            (Some(before), _) => self.places[before as usize].other = made,
            (None, Some(last)) => self.places[last as usize].next = made,
            (None, None) => {}
        }
        Some(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads `record`, and whether its shape was known.
    fn read(shapes: &mut Shapes, record: &str) -> bool {
        let known = shapes.read_known(record, &mut Draft::default()).is_some();
        shapes.read(record.as_bytes(), &mut Draft::default()).unwrap();
        known
    }

    #[test]
    fn a_record_with_the_keys_of_one_before_it_is_known_whatever_its_values() {
        let mut shapes = Shapes::default();
        for (record, known) in [
            (r#"{"a": 1, "principal": {"id": "a", "groups": ["x"]}, "n": [1, {"k": 2}]}"#, false),
            (
                r#"{"a": 27, "principal": {"id": "b\"c", "groups": [""]}, "n": [-1e9, {"k": ""}]}"#,
                true,
            ),
            (
                r#"{"a": null, "principal": {"id": null, "groups": [null]}, "n": [0, {"k": 0}]}"#,
                true,
            ),
            (r#"{"a": 1, "principal": "a", "n": [1, {"k": 2}]}"#, false),
            (r#"{"a": 1, "principal": {"id": "a", "groups": []}, "n": [1, {"k": 2}]}"#, false),
            (
                r#"{"a": 1, "principal": {"id": "a", "groups": ["x", "y"]}, "n": [1, {"k": 2}]}"#,
                false,
            ),
            (r#"{"a": 1, "principal": {"id": "a", "groups": ["x"]}, "n": [1, {"l": 2}]}"#, false),
            (
                r#"{"a": 1, "principal": {"id": "a", "groups": ["x"]}, "n": [1, {"k": 2}], "z":1}"#,
                false,
            ),
            (r#"{"a": 1, "principal": {"id": "a", "groups": ["x"]}, "n": [1, {"k": []}]}"#, false),
            (r#"{"a":1,"principal":{"id":"a","groups":["x"]},"n":[1,{"k":2}]}"#, false),
            (r#"{"a":1,"principal":{"id":"a","groups":[ ]},"n":[1,{"k":2}]}"#, false),
        ] {
            assert_eq!(read(&mut shapes, record), known, "{record}");
            assert!(read(&mut shapes, record), "met before: {record}");
        }
        assert_eq!(shapes.resets, 0);
    }

    #[test]
    fn too_many_shapes_are_forgotten_and_learnt_anew() {
        let mut shapes = Shapes::default();
        let record = |n: usize| format!(r#"{{"x{n}": 1}}"#);
        (0..WAYS_MAX).for_each(|n| assert!(!read(&mut shapes, &record(n))));
        (0..WAYS_MAX).for_each(|n| assert!(read(&mut shapes, &record(n))));
        assert!(!read(&mut shapes, &record(WAYS_MAX)), "one way too many");
        assert_eq!((shapes.resets, shapes.places.len()), (1, 0));
        assert!(!read(&mut shapes, &record(0)));
        assert!(read(&mut shapes, &record(0)));
        // Bytes and places are bounded, too, and a record that is too large is never learnt.
        let long = |n: usize| format!(r#"{{"{}": 1}}"#, "k".repeat(LEARNT_BYTES_MAX - 20 + n));
        (1..10).for_each(|n| assert!(!read(&mut shapes, &long(n))));
        assert_eq!(shapes.resets, 2);
        (0..2).for_each(|_| assert!(!read(&mut shapes, &long(20))));
        let list = |first: &str, n: usize| format!(r#"{{"{first}": [{}1]}}"#, "1, ".repeat(n));
        let most = LEARNT_VALUES_MAX - 1;
        (0..2).for_each(|_| assert!(!read(&mut shapes, &list("x", most + 1)), "a value too many"));
        assert!(!read(&mut shapes, &list("x", most)));
        assert!(read(&mut shapes, &list("x", most)));
        let (places, resets) = (shapes.places.len(), shapes.resets);
        let fit = (PLACES_MAX - places) / (LEARNT_VALUES_MAX + 1);
        (0..fit).for_each(|n| assert!(!read(&mut shapes, &list(&format!("y{n}"), most))));
        assert!(read(&mut shapes, &list("x", most)));
        assert_eq!(shapes.resets, resets);
        assert!(!read(&mut shapes, &list("z", most)));
        assert_eq!((shapes.resets, shapes.places.len()), (resets + 1, 0));
    }
}
