//! Typed columns of one Arrow batch: resolved once, then read row by row without a copy.
//!
//! A column is found by its name, flat (`principal.id`) or inside a struct (`principal`, with a
//! child `id`), and checked by its type; see [`super::arrow`] for what is accepted.

use std::borrow::Cow;
use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, UInt64Type};
use smallvec::SmallVec;

use super::draft::{self, at_most, invalid, put};
use super::{DecodeError, Text, time};
use crate::units::EventTime;

/// A column as it was found, with the nulls of the struct it was found in.
#[derive(Clone)]
pub(super) struct Found<'b> {
    array: &'b ArrayRef,
    parents: Option<NullBuffer>,
}

impl<'b> Found<'b> {
    /// The column `field` of `batch`, flat or as the child of a struct.
    ///
    /// # Errors
    /// There are two of it.
    pub(super) fn in_batch(
        batch: &'b RecordBatch,
        field: &'static str,
    ) -> Result<Option<Self>, DecodeError> {
        let mut found = None;
        for (written, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            if written.name() == field {
                put(&mut found, Some(Self { array, parents: None }), field)?;
            } else if let Some((parent, child)) = field.split_once('.')
                && written.name() == parent
            {
                let child = Self { array, parents: None }.child(child, field)?;
                put(&mut found, child, field)?;
            }
        }
        Ok(found)
    }

    /// The child `name` of this struct, if it is one and has it.
    pub(super) fn child(
        &self,
        name: &str,
        field: &'static str,
    ) -> Result<Option<Self>, DecodeError> {
        let mut found = None;
        if let Some(parent) = self.array.as_struct_opt() {
            let parents = NullBuffer::union(self.parents.as_ref(), parent.nulls());
            for (written, array) in parent.fields().iter().zip(parent.columns()) {
                if written.name() == name {
                    put(&mut found, Some(Self { array, parents: parents.clone() }), field)?;
                }
            }
        }
        Ok(found)
    }

    /// True for a struct, whose children are looked for one by one.
    pub(super) fn is_struct(&self) -> bool {
        matches!(self.array.data_type(), DataType::Struct(_))
    }

    /// Refuses what is neither a struct nor absent.
    pub(super) fn struct_or_null(&self, field: &'static str) -> Result<(), DecodeError> {
        if self.is_struct() || *self.array.data_type() == DataType::Null {
            return Ok(());
        }
        Err(self.wrong(field, "a struct, or flat columns with dotted names"))
    }

    /// Rows that are null, here or in the struct around.
    pub(super) fn nulls(&self) -> Option<NullBuffer> {
        NullBuffer::union(self.parents.as_ref(), self.array.logical_nulls().as_ref())
    }

    fn wrong(&self, field: &'static str, expected: &'static str) -> DecodeError {
        let found = super::decode::bounded(&format!("a column of {}", self.array.data_type()));
        DecodeError::Invalid { field, found, expected }
    }
}

/// A column of texts: `Utf8`, `LargeUtf8`, `Utf8View`, or a dictionary of one of them.
pub(super) struct Texts<'b> {
    field: &'static str,
    nulls: Option<NullBuffer>,
    /// Index of each row's value, for a dictionary.
    keys: Option<Vec<usize>>,
    values: TextValues<'b>,
}

enum TextValues<'b> {
    /// Every row is null, so no value is ever asked for.
    None,
    Small(&'b StringArray),
    Large(&'b LargeStringArray),
    View(&'b StringViewArray),
}

impl<'b> Texts<'b> {
    pub(super) fn new(found: &Found<'b>, field: &'static str) -> Result<Self, DecodeError> {
        let (mut nulls, mut keys, mut array) = (found.nulls(), None, found.array);
        if let Some(dictionary) = array.as_any_dictionary_opt() {
            array = dictionary.values();
            // An empty dictionary has only nulls, and arrow panics when asked for its keys.
            keys = (!array.is_empty()).then(|| dictionary.normalized_keys());
            if keys.is_none() {
                nulls = Some(NullBuffer::new_null(dictionary.len()));
            }
        }
        let values = match array.data_type() {
            DataType::Utf8 => TextValues::Small(array.as_string()),
            DataType::LargeUtf8 => TextValues::Large(array.as_string()),
            DataType::Utf8View => TextValues::View(array.as_string_view()),
            DataType::Null => TextValues::None,
            _ => return Err(found.wrong(field, "text, or a dictionary of text")),
        };
        Ok(Self { field, nulls, keys, values })
    }

    /// The text of a row, unless it is null.
    pub(super) fn get(&self, row: usize) -> Option<&'b str> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let at = self.keys.as_ref().map_or(row, |keys| keys[row]);
        match self.values {
            TextValues::None => None,
            TextValues::Small(values) => Some(values.value(at)),
            TextValues::Large(values) => Some(values.value(at)),
            TextValues::View(values) => Some(values.value(at)),
        }
    }

    /// A text that decides where a read is counted.
    pub(super) fn text(&self, row: usize) -> Result<Option<Text<'b>>, DecodeError> {
        match self.get(row) {
            Some(text) => draft::text(Cow::Borrowed(text), self.field),
            None => Ok(None),
        }
    }

    /// A text that describes a read.
    pub(super) fn note(&self, row: usize) -> Option<Text<'b>> {
        self.get(row).and_then(|text| draft::note(Cow::Borrowed(text)))
    }
}

/// A column of counts: integers of any width.
pub(super) struct Counts {
    field: &'static str,
    nulls: Option<NullBuffer>,
    values: CountValues,
}

enum CountValues {
    None,
    Signed(ScalarBuffer<i64>),
    Unsigned(ScalarBuffer<u64>),
}

impl Counts {
    pub(super) fn new(found: &Found<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let widened =
            |to: &DataType| cast(found.array, to).map_err(|_| found.wrong(field, "whole numbers"));
        let values = match found.array.data_type() {
            kind if kind.is_signed_integer() => CountValues::Signed(
                widened(&DataType::Int64)?.as_primitive::<Int64Type>().values().clone(),
            ),
            kind if kind.is_unsigned_integer() => {
                let values = widened(&DataType::UInt64)?;
                CountValues::Unsigned(values.as_primitive::<UInt64Type>().values().clone())
            }
            DataType::Null => CountValues::None,
            _ => return Err(found.wrong(field, "whole numbers")),
        };
        Ok(Self { field, nulls: found.nulls(), values })
    }

    pub(super) fn get(&self, row: usize) -> Result<Option<u64>, DecodeError> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        match &self.values {
            CountValues::None => Ok(None),
            CountValues::Signed(values) => draft::count(values[row].into(), self.field),
            CountValues::Unsigned(values) => Ok(Some(values[row])),
        }
    }
}

/// A column of truth values.
pub(super) struct Flags<'b> {
    nulls: Option<NullBuffer>,
    values: Option<&'b BooleanArray>,
}

impl<'b> Flags<'b> {
    pub(super) fn new(found: &Found<'b>, field: &'static str) -> Result<Self, DecodeError> {
        let values = match found.array.data_type() {
            DataType::Boolean => Some(found.array.as_boolean()),
            DataType::Null => None,
            _ => return Err(found.wrong(field, "truth values")),
        };
        Ok(Self { nulls: found.nulls(), values })
    }

    pub(super) fn get(&self, row: usize) -> Option<bool> {
        let values = self.values.filter(|_| !self.nulls.as_ref().is_some_and(|n| n.is_null(row)));
        values.map(|values| values.value(row))
    }
}

/// A column of times: timestamps of any unit, integers as milliseconds, or RFC 3339 text. A
/// timestamp without a zone is UTC, as one with a zone always is in Arrow.
pub(super) enum Times<'b> {
    /// Milliseconds, or what a text says.
    Millis { field: &'static str, nulls: Option<NullBuffer>, values: ScalarBuffer<i64>, per: Unit },
    /// RFC 3339.
    Text(Texts<'b>),
}

/// How many of a column's units make, or are made of, a millisecond.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    Multiply(i64),
    Divide(i64),
}

const TIME: &str = "a timestamp, whole milliseconds since the epoch, or RFC 3339 text";

impl<'b> Times<'b> {
    pub(super) fn new(found: &Found<'b>, field: &'static str) -> Result<Self, DecodeError> {
        let per = match found.array.data_type() {
            DataType::Timestamp(TimeUnit::Second, _) => Unit::Multiply(1000),
            DataType::Timestamp(TimeUnit::Millisecond, _) => Unit::Multiply(1),
            DataType::Timestamp(TimeUnit::Microsecond, _) => Unit::Divide(1000),
            DataType::Timestamp(TimeUnit::Nanosecond, _) => Unit::Divide(1_000_000),
            kind if kind.is_integer() => Unit::Multiply(1),
            _ => {
                let texts = Texts::new(found, field).map_err(|_| found.wrong(field, TIME))?;
                return Ok(Self::Text(texts));
            }
        };
        let values = cast(found.array, &DataType::Int64).map_err(|_| found.wrong(field, TIME))?;
        // A u64 beyond i64 becomes null in the cast, which would say that the time is missing.
        let nulls = found.nulls();
        let values = values.as_primitive::<Int64Type>();
        let values: ScalarBuffer<i64> = (0..values.len())
            .map(|row| if values.is_null(row) { i64::MAX } else { values.value(row) })
            .collect();
        Ok(Self::Millis { field, nulls, values, per })
    }

    pub(super) fn get(&self, row: usize) -> Result<Option<EventTime>, DecodeError> {
        match self {
            Self::Millis { field, nulls, values, per } => {
                if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                    return Ok(None);
                }
                let millis = match per {
                    Unit::Multiply(by) => values[row].checked_mul(*by),
                    Unit::Divide(by) => Some(values[row].div_euclid(*by)),
                };
                let found = millis.and_then(time::from_millis);
                found.map(Some).ok_or_else(|| invalid(field, &values[row].to_string(), TIME))
            }
            Self::Text(texts) => match texts.get(row) {
                None => Ok(None),
                Some(text) => {
                    let found = time::parse(text);
                    found.map(Some).ok_or_else(|| invalid(texts.field, text, TIME))
                }
            },
        }
    }
}

/// A column of lists: `List` or `LargeList`, with items of `T`.
pub(super) struct Lists<T> {
    field: &'static str,
    max: usize,
    nulls: Option<NullBuffer>,
    offsets: Offsets,
    pub(super) items: T,
}

enum Offsets {
    Small(OffsetBuffer<i32>),
    Large(OffsetBuffer<i64>),
}

impl<T> Lists<T> {
    /// A column of lists of at most `max` items, whose items are resolved by `items`; nothing for a
    /// column without a single list.
    pub(super) fn new<'b>(
        found: &Found<'b>,
        field: &'static str,
        max: usize,
        items: impl FnOnce(&Found<'b>) -> Result<T, DecodeError>,
    ) -> Result<Option<Self>, DecodeError> {
        let (offsets, values) = match found.array.data_type() {
            DataType::List(_) => {
                let lists = found.array.as_list::<i32>();
                (Offsets::Small(lists.offsets().clone()), lists.values())
            }
            DataType::LargeList(_) => {
                let lists = found.array.as_list::<i64>();
                (Offsets::Large(lists.offsets().clone()), lists.values())
            }
            DataType::Null => return Ok(None),
            _ => return Err(found.wrong(field, "lists")),
        };
        let items = items(&Found { array: values, parents: None })?;
        Ok(Some(Self { field, max, nulls: found.nulls(), offsets, items }))
    }

    /// Where the items of a row are, unless the list is null.
    pub(super) fn range(&self, row: usize) -> Result<Option<Range<usize>>, DecodeError> {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        #[expect(
            clippy::cast_sign_loss,
            clippy::cast_possible_truncation,
            reason = "arrow has checked that offsets are indices of the values"
        )]
        let range = match &self.offsets {
            Offsets::Small(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
            Offsets::Large(offsets) => offsets[row] as usize..offsets[row + 1] as usize,
        };
        at_most(self.field, range.len(), self.max)?;
        Ok(Some(range))
    }
}

impl<'b> Lists<Texts<'b>> {
    /// The texts of a row, each of which decides where a read is counted.
    pub(super) fn texts<A: smallvec::Array<Item = Text<'b>>>(
        &self,
        row: usize,
    ) -> Result<Option<SmallVec<A>>, DecodeError> {
        let Some(range) = self.range(row)? else { return Ok(None) };
        let mut texts = SmallVec::new();
        for item in range {
            // As in JSON.
            let text = self.items.get(item).unwrap_or_default();
            texts.push(draft::text(Cow::Borrowed(text), self.field)?.unwrap_or_default());
        }
        Ok(Some(texts))
    }
}

/// A null among the items of a list.
pub(super) fn missing_item(field: &'static str) -> DecodeError {
    DecodeError::Invalid { field, found: "null".to_owned(), expected: "text" }
}
