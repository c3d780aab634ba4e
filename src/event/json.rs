//! Reading JSON records field by field, borrowed, with each fault named by its field.
//!
//! A record type says with [`Fields`] where each key goes; this module walks the JSON through serde
//! and keeps the first refusal. What serde reports itself is then only bad syntax. Nothing is
//! allocated unless a text has escapes; nothing recurses deeper than [`DEPTH_MAX`].

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use smallvec::{Array, SmallVec};

use super::draft::{self, COUNT, at_most, invalid, put};
use super::{DecodeError, Text, time};
use crate::units::EventTime;

/// Deepest nesting of a record, the record itself being 1.
pub const DEPTH_MAX: usize = 32;

/// Why serde stopped, when the reason is the fault that was kept aside.
const REFUSED: &str = "refused";

/// Where the keys of one kind of JSON object go.
pub(super) trait Fields<'a> {
    /// What the value should be, for error messages.
    const EXPECTED: &'static str;

    /// Takes the value of `key`; must consume it, with [`Value::skip`] if nothing else.
    fn field<M: MapAccess<'a>>(&mut self, key: &str, value: Value<'_, M>) -> Result<(), M::Error>;

    /// Takes a value that is no object: a short form. Refused unless the type has one.
    fn short(&mut self, field: &'static str, value: Scalar<'a>) -> Result<(), DecodeError> {
        Err(value.wrong(field, Self::EXPECTED))
    }
}

/// Reads one JSON record into `target`.
///
/// # Errors
/// The first refusal, or bad syntax.
pub(super) fn read<'a, F: Fields<'a>>(
    payload: &'a [u8],
    target: &mut F,
) -> Result<(), DecodeError> {
    let syntax = |error: &dyn fmt::Display| DecodeError::Syntax {
        format: "JSON",
        detail: error.to_string(),
    };
    // One check of the whole is a quarter faster than serde_json's of each text.
    let text = std::str::from_utf8(payload).map_err(|error| syntax(&error))?;
    let mut fault = None;
    let mut json = serde_json::Deserializer::from_str(text);
    let record = Record { field: "record", target, nullable: false, fault: &mut fault, depth: 1 };
    let outcome = record.deserialize(&mut json).and_then(|()| json.end());
    outcome.map_err(|error| fault.unwrap_or_else(|| syntax(&error)))
}

/// The value of one key, not read yet.
pub(super) struct Value<'r, M> {
    map: &'r mut M,
    fault: &'r mut Option<DecodeError>,
    depth: usize,
}

impl<'a, M: MapAccess<'a>> Value<'_, M> {
    /// Reads a scalar with `read` and fills `slot`.
    pub(super) fn put<T>(
        self,
        field: &'static str,
        slot: &mut Option<T>,
        read: impl FnOnce(Scalar<'a>, &'static str) -> Result<Option<T>, DecodeError>,
    ) -> Result<(), M::Error> {
        let scalar = self.map.next_value::<Scalar<'a>>()?;
        let outcome = read(scalar, field).and_then(|value| put(slot, value, field));
        keep(outcome, self.fault)
    }

    /// Reads an object, or its short form, into `target`. Null is nothing.
    pub(super) fn object<F: Fields<'a>>(
        self,
        field: &'static str,
        target: &mut F,
    ) -> Result<(), M::Error> {
        let Self { map, fault, depth } = self;
        map.next_value_seed(Record { field, target, nullable: true, fault, depth: depth + 1 })
    }

    /// Reads a list of at most `max` items, each made from an `F`. Null is nothing.
    pub(super) fn list<F: Fields<'a> + Default, A: Array>(
        self,
        field: &'static str,
        max: usize,
        slot: &mut Option<SmallVec<A>>,
        make: impl Fn(F) -> Result<A::Item, DecodeError>,
    ) -> Result<(), M::Error> {
        let Self { map, fault, depth } = self;
        map.next_value_seed(List {
            field,
            max,
            slot,
            make,
            fault,
            depth: depth + 1,
            of: PhantomData,
        })
    }

    /// Reads a list of texts, each of which decides where a read is counted.
    pub(super) fn texts<A: Array<Item = Text<'a>>>(
        self,
        field: &'static str,
        max: usize,
        slot: &mut Option<SmallVec<A>>,
    ) -> Result<(), M::Error> {
        self.list(field, max, slot, |Item(text)| Ok(text))
    }

    /// Passes over a value of no interest, refusing what is nested deeper than [`DEPTH_MAX`].
    pub(super) fn skip(self) -> Result<(), M::Error> {
        self.map.next_value_seed(Skip { fault: self.fault, depth: self.depth })
    }

    /// Passes over a large value of no interest as fast as the parser can, without a look inside.
    /// The parser does not recurse for it, so its depth does not matter.
    pub(super) fn skip_unseen(self) -> Result<(), M::Error> {
        self.map.next_value::<IgnoredAny>().map(|_| ())
    }
}

/// Keeps a refusal aside and stops serde.
fn keep<T, E: serde::de::Error>(
    outcome: Result<T, DecodeError>,
    fault: &mut Option<DecodeError>,
) -> Result<T, E> {
    outcome.map_err(|error| {
        *fault = Some(error);
        E::custom(REFUSED)
    })
}

/// Any JSON value; of a list or an object only that it is one.
#[derive(Debug)]
pub(super) enum Scalar<'a> {
    Null,
    Flag(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(Text<'a>),
    List,
    Object,
}

impl<'a> Scalar<'a> {
    /// A text that decides where a read is counted.
    pub(super) fn text(self, field: &'static str) -> Result<Option<Text<'a>>, DecodeError> {
        match self {
            Self::Text(text) => draft::text(text, field),
            Self::Null => Ok(None),
            other => Err(other.wrong(field, "text")),
        }
    }

    /// A text that describes a read.
    pub(super) fn note(self, field: &'static str) -> Result<Option<Text<'a>>, DecodeError> {
        match self {
            Self::Text(text) => Ok(draft::note(text)),
            Self::Null => Ok(None),
            other => Err(other.wrong(field, "text")),
        }
    }

    /// A count. `120.0` and `1e3` are whole numbers in JSON, and some senders write them so.
    pub(super) fn count(self, field: &'static str) -> Result<Option<u64>, DecodeError> {
        const TWO_TO_64: f64 = 18_446_744_073_709_551_616.0;
        match self {
            Self::Unsigned(number) => Ok(Some(number)),
            Self::Signed(number) => draft::count(number.into(), field),
            Self::Float(number) if number.fract() == 0.0 && (0.0..TWO_TO_64).contains(&number) =>
            {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole and in range"
                )]
                Ok(Some(number as u64))
            }
            Self::Null => Ok(None),
            other => Err(other.wrong(field, COUNT)),
        }
    }

    /// A truth value.
    pub(super) fn flag(self, field: &'static str) -> Result<Option<bool>, DecodeError> {
        match self {
            Self::Flag(flag) => Ok(Some(flag)),
            Self::Null => Ok(None),
            other => Err(other.wrong(field, "true, false or null")),
        }
    }

    /// A time: RFC 3339 text or whole milliseconds.
    pub(super) fn time(self, field: &'static str) -> Result<Option<EventTime>, DecodeError> {
        let expected = "RFC 3339 text or whole milliseconds since the epoch";
        let found = match &self {
            Self::Null => return Ok(None),
            Self::Text(text) => time::parse(text),
            Self::Unsigned(millis) => i64::try_from(*millis).ok().and_then(time::from_millis),
            Self::Signed(millis) => time::from_millis(*millis),
            _ => None,
        };
        found.map(Some).ok_or_else(|| self.wrong(field, expected))
    }

    /// One of a few names.
    pub(super) fn name<T>(
        self,
        field: &'static str,
        parse: impl FnOnce(&str, &'static str) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        match self {
            Self::Text(text) => parse(&text, field),
            Self::Null => Ok(None),
            other => Err(other.wrong(field, "text")),
        }
    }

    /// The refusal of this value.
    pub(super) fn wrong(&self, field: &'static str, expected: &'static str) -> DecodeError {
        let found = match self {
            Self::Text(text) => return invalid(field, text, expected),
            Self::Null => "null".to_owned(),
            Self::Flag(flag) => flag.to_string(),
            Self::Unsigned(number) => number.to_string(),
            Self::Signed(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
            Self::List => "a list".to_owned(),
            Self::Object => "an object".to_owned(),
        };
        DecodeError::Invalid { field, found, expected }
    }
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

/// The scalar half of a visitor whose value is made from a [`Scalar`].
macro_rules! visit_scalars {
    ($de:lifetime, $self:ident, $scalar:ident => $made:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a JSON value")
        }
        fn visit_unit<E: serde::de::Error>($self) -> Result<Self::Value, E> {
            let $scalar = Scalar::Null;
            $made
        }
        fn visit_bool<E: serde::de::Error>($self, value: bool) -> Result<Self::Value, E> {
            let $scalar = Scalar::Flag(value);
            $made
        }
        fn visit_u64<E: serde::de::Error>($self, value: u64) -> Result<Self::Value, E> {
            let $scalar = Scalar::Unsigned(value);
            $made
        }
        fn visit_i64<E: serde::de::Error>($self, value: i64) -> Result<Self::Value, E> {
            let $scalar = Scalar::Signed(value);
            $made
        }
        fn visit_f64<E: serde::de::Error>($self, value: f64) -> Result<Self::Value, E> {
            let $scalar = Scalar::Float(value);
            $made
        }
        fn visit_borrowed_str<E: serde::de::Error>(
            $self,
            value: &$de str,
        ) -> Result<Self::Value, E> {
            let $scalar = Scalar::Text(Cow::Borrowed(value));
            $made
        }
        fn visit_str<E: serde::de::Error>($self, value: &str) -> Result<Self::Value, E> {
            let $scalar = Scalar::Text(Cow::Owned(value.to_owned()));
            $made
        }
    };
}

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    visit_scalars!('de, self, scalar => Ok(scalar));

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar<'de>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Object)
    }
}

/// A key, borrowed where it has no escapes.
struct Key<'a>(Text<'a>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(KeyVisitor)
    }
}

struct KeyVisitor;

impl<'de> Visitor<'de> for KeyVisitor {
    type Value = Key<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Borrowed(key)))
    }

    fn visit_str<E>(self, key: &str) -> Result<Key<'de>, E> {
        Ok(Key(Cow::Owned(key.to_owned())))
    }
}

/// Reads an object or its short form into `target`.
struct Record<'r, F> {
    field: &'static str,
    target: &'r mut F,
    nullable: bool,
    fault: &'r mut Option<DecodeError>,
    depth: usize,
}

impl<'de, F: Fields<'de>> DeserializeSeed<'de> for Record<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: Fields<'de>> Visitor<'de> for Record<'_, F> {
    type Value = ();

    visit_scalars!('de, self, scalar => match scalar {
        Scalar::Null if self.nullable => Ok(()),
        other => keep(self.target.short(self.field, other), self.fault),
    });

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        keep(self.target.short(self.field, Scalar::List), self.fault)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let value = Value { map: &mut map, fault: self.fault, depth: self.depth };
            self.target.field(&key, value)?;
        }
        Ok(())
    }
}

/// Reads a list, one `F` an item, into `slot`.
struct List<'r, F, A: Array, P> {
    field: &'static str,
    max: usize,
    slot: &'r mut Option<SmallVec<A>>,
    make: P,
    fault: &'r mut Option<DecodeError>,
    depth: usize,
    of: PhantomData<F>,
}

impl<'de, F, A, P> DeserializeSeed<'de> for List<'_, F, A, P>
where
    F: Fields<'de> + Default,
    A: Array,
    P: Fn(F) -> Result<A::Item, DecodeError>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F, A, P> Visitor<'de> for List<'_, F, A, P>
where
    F: Fields<'de> + Default,
    A: Array,
    P: Fn(F) -> Result<A::Item, DecodeError>,
{
    type Value = ();

    visit_scalars!('de, self, scalar => match scalar {
        Scalar::Null => Ok(()),
        other => keep(Err(other.wrong(self.field, "a list")), self.fault),
    });

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<(), S::Error> {
        let Self { field, max, slot, make, fault, depth, .. } = self;
        keep(put(slot, Some(SmallVec::new()), field), fault)?;
        let Some(list) = slot else { return Ok(()) };
        loop {
            let mut item = F::default();
            let target = &mut item;
            let seed = Record { field, target, nullable: false, fault, depth: depth + 1 };
            if seq.next_element_seed(seed)?.is_none() {
                return Ok(());
            }
            let made = at_most(field, list.len() + 1, max).and_then(|()| make(item));
            list.push(keep(made, fault)?);
        }
    }

    fn visit_map<M: MapAccess<'de>>(self, _: M) -> Result<(), M::Error> {
        keep(Err(Scalar::Object.wrong(self.field, "a list")), self.fault)
    }
}

/// Passes over a value and measures how deep it goes.
struct Skip<'r> {
    fault: &'r mut Option<DecodeError>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Skip<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Skip<'_> {
    fn inner<E: serde::de::Error>(&mut self) -> Result<Skip<'_>, E> {
        let depth = self.depth + 1;
        keep(at_most("nesting depth", depth, DEPTH_MAX), self.fault)?;
        Ok(Skip { fault: self.fault, depth })
    }
}

impl<'de> Visitor<'de> for Skip<'_> {
    type Value = ();

    visit_scalars!('de, self, _scalar => Ok(()));

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<(), A::Error> {
        let mut inner = self.inner()?;
        while seq.next_element_seed(inner.again())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut inner = self.inner()?;
        while map.next_key::<IgnoredAny>()?.is_some() {
            map.next_value_seed(inner.again())?;
        }
        Ok(())
    }
}

impl Skip<'_> {
    fn again(&mut self) -> Skip<'_> {
        Skip { fault: self.fault, depth: self.depth }
    }
}

/// A text in a list of texts. Null is an empty one: it must not keep an event from being counted.
#[derive(Debug, Default)]
pub(super) struct Item<'a>(pub(super) Text<'a>);

impl<'a> Fields<'a> for Item<'a> {
    const EXPECTED: &'static str = "text";

    fn field<M: MapAccess<'a>>(&mut self, _: &str, value: Value<'_, M>) -> Result<(), M::Error> {
        keep(Err(Scalar::Object.wrong("item", Self::EXPECTED)), value.fault)
    }

    fn short(&mut self, field: &'static str, value: Scalar<'a>) -> Result<(), DecodeError> {
        match value {
            Scalar::Text(text) => {
                self.0 = draft::text(text, field)?.unwrap_or_default();
                Ok(())
            }
            Scalar::Null => Ok(()),
            other => Err(other.wrong(field, Self::EXPECTED)),
        }
    }
}
