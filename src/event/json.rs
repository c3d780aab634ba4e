//! Reading JSON records field by field, borrowed, with each fault named by its field.
//!
//! A record type says with [`Fields`] where each key goes; this module walks the text once and
//! stops at the first refusal. This is the hot path of ingest, so it is no general parser: what is
//! rare goes to `serde_json`, which decides what it means: texts with escapes, numbers that are no
//! plain digits. Most records have the keys of one before them; [`shapes`] reads those. Nothing is
//! allocated but for a text with escapes or a new shape; nothing recurses past [`DEPTH_MAX`].

mod marks;
pub(super) mod shapes;

use std::borrow::Cow;

use serde::de::IgnoredAny;
use smallvec::{Array, SmallVec};

use super::draft::{self, COUNT, Draft, at_most, invalid, put};
use super::{DecodeError, Text, time};
use crate::units::EventTime;
use marks::Marks;
use shapes::{Fill, Trace};

/// Deepest nesting of a record, the record itself being 1.
pub const DEPTH_MAX: usize = 32;
/// Digits that any `u64` has room for.
const DIGITS_MAX: usize = 19;

/// Why reading stopped is kept aside in the reader: what is returned for every value stays small.
#[derive(Debug)]
pub(super) struct Refused(());

/// Where the keys of one kind of JSON object go.
pub(super) trait Fields<'a> {
    /// What the value should be, for error messages.
    const EXPECTED: &'static str;

    /// Takes the value of `key`; must consume it, with [`Value::skip`] if nothing else.
    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused>;

    /// Takes a value that is no object: a short form. Refused unless the type has one.
    fn short(&mut self, field: &'static str, value: Value<'_, 'a>) -> Result<(), Refused> {
        value.nothing(field, Self::EXPECTED)
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
    read_traced(utf8(payload)?, target, &mut Trace::default())
}

/// The text of a record: one check of the whole is faster than one of each text in it.
fn utf8(payload: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(payload).map_err(|error| syntax(error.to_string()))
}

fn read_traced<'a, F: Fields<'a>>(
    text: &'a str,
    target: &mut F,
    trace: &mut Trace,
) -> Result<(), DecodeError> {
    let mut reader = Reader { trace: std::mem::take(trace), ..Reader::new(text) };
    let outcome = reader.record("record", target, false, 1).and_then(|()| match reader.peek() {
        None => Ok(()),
        Some(_) => Err(reader.unexpected("the end of the record")),
    });
    *trace = reader.trace;
    outcome.map_err(|Refused(())| {
        reader.fault.unwrap_or_else(|| unreachable!("whoever refuses says why"))
    })
}

fn syntax(detail: String) -> DecodeError {
    DecodeError::Syntax { format: "JSON", detail }
}

/// The value of one key, not read yet.
pub(super) struct Value<'r, 'a> {
    reader: &'r mut Reader<'a>,
    depth: usize,
}

impl<'a> Value<'_, 'a> {
    /// Reads a scalar with `read` and fills `slot`.
    #[inline]
    pub(super) fn put<T>(
        self,
        field: &'static str,
        slot: &mut Option<T>,
        read: impl FnOnce(Scalar<'a>, &'static str) -> Result<Option<T>, DecodeError>,
    ) -> Result<(), Refused> {
        let scalar = self.reader.scalar()?;
        let outcome = read(scalar, field).and_then(|value| put(slot, value, field));
        self.reader.keep(outcome)
    }

    /// Reads an object, or its short form, into `target`. Null is nothing.
    pub(super) fn object<F: Fields<'a>>(
        self,
        field: &'static str,
        target: &mut F,
    ) -> Result<(), Refused> {
        self.reader.record(field, target, true, self.depth + 1)
    }

    /// Reads a scalar into `draft`; of a record of the same shape, `fill` is called at once.
    #[inline]
    pub(super) fn fill(self, draft: &mut Draft<'a>, fill: Fill) -> Result<(), Refused> {
        let reader = self.reader;
        let scalar = reader.traced(fill)?;
        let outcome = fill(draft, scalar);
        reader.keep(outcome)
    }

    /// Takes a null, which is nothing.
    fn nothing(self, field: &'static str, expected: &'static str) -> Result<(), Refused> {
        match self.reader.traced(shapes::null)? {
            Scalar::Null => Ok(()),
            other => Err(self.reader.refuse(other.wrong(field, expected))),
        }
    }

    /// Reads a list of at most `max` items into `target`: `open` before the first, which refuses a
    /// second list, `item` for each. Null is nothing.
    pub(super) fn each<T>(
        self,
        (field, max): (&'static str, usize),
        target: &mut T,
        open: impl FnOnce(&mut T) -> Result<(), DecodeError>,
        mut item: impl FnMut(&mut T, Value<'_, 'a>) -> Result<(), Refused>,
    ) -> Result<(), Refused> {
        if self.reader.peek() != Some(b'[') {
            return self.nothing(field, "a list");
        }
        let Self { reader, depth } = self;
        reader.keep(open(target))?;
        reader.at += 1;
        if reader.ends(b']') {
            return Ok(());
        }
        for count in 1.. {
            reader.keep(at_most(field, count, max))?;
            item(target, Value { reader, depth: depth + 1 })?;
            if reader.ends_or_goes_on(b']')? {
                break;
            }
        }
        Ok(())
    }

    /// Reads a list of at most `max` items, each made from an `F`. Null is nothing.
    pub(super) fn list<F: Fields<'a> + Default, A: Array>(
        self,
        field: &'static str,
        max: usize,
        slot: &mut Option<SmallVec<A>>,
        make: impl Fn(F) -> A::Item,
    ) -> Result<(), Refused> {
        let open = |slot: &mut Option<_>| put(slot, Some(SmallVec::new()), field);
        self.each((field, max), slot, open, |slot, value| {
            let mut item = F::default();
            value.item(field, &mut item, |_| Ok(()))?;
            slot.get_or_insert_default().push(make(item));
            Ok(())
        })
    }

    /// Reads a list of texts, each of which decides where a read is counted.
    pub(super) fn texts<A: Array<Item = Text<'a>>>(
        self,
        field: &'static str,
        max: usize,
        slot: &mut Option<SmallVec<A>>,
    ) -> Result<(), Refused> {
        let open = |slot: &mut Option<_>| put(slot, Some(SmallVec::new()), field);
        self.each((field, max), slot, open, |slot, value| {
            let text = value.reader.scalar().map(|scalar| scalar.in_list(field));
            let text = text.and_then(|text| value.reader.keep(text))?;
            slot.get_or_insert_default().push(text);
            Ok(())
        })
    }

    /// Reads an item of a list, an object or its short form, into `target`; `end` may refuse it.
    pub(super) fn item<F: Fields<'a>>(
        self,
        field: &'static str,
        target: &mut F,
        end: impl FnOnce(&mut F) -> Result<(), DecodeError>,
    ) -> Result<(), Refused> {
        self.reader.record(field, target, false, self.depth + 1)?;
        self.reader.keep(end(target))
    }

    /// What is filled next is the first of another object.
    pub(super) fn begins_object(&mut self) {
        self.reader.trace.begins_object();
    }

    /// Passes over a value of no interest, refusing what is nested deeper than [`DEPTH_MAX`].
    pub(super) fn skip(self) -> Result<(), Refused> {
        self.reader.skip(self.depth)
    }

    /// Passes over a large value of no interest, without a look at how deep it is: nothing
    /// recurses for it.
    pub(super) fn skip_unseen(self) -> Result<(), Refused> {
        self.reader.skip_unseen()
    }
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
    #[inline]
    pub(super) fn text(self, field: &'static str) -> Result<Option<Text<'a>>, DecodeError> {
        match self {
            Self::Text(text) => draft::text(text, field),
            Self::Null => Ok(None),
            other => Err(other.wrong(field, "text")),
        }
    }

    /// A text that describes a read.
    #[inline]
    pub(super) fn note(self, field: &'static str) -> Result<Option<Text<'a>>, DecodeError> {
        match self {
            Self::Text(text) => Ok(draft::note(text)),
            Self::Null => Ok(None),
            other => Err(other.wrong(field, "text")),
        }
    }

    /// A count. `120.0` and `1e3` are whole numbers in JSON, and some senders write them so.
    #[inline]
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
    #[inline]
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

    /// A text in a list of texts. Null is an empty one: it must not keep an event from being
    /// counted.
    pub(super) fn in_list(self, field: &'static str) -> Result<Text<'a>, DecodeError> {
        self.text(field).map(Option::unwrap_or_default)
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

/// A text and how far it was read.
pub(super) struct Reader<'a> {
    text: &'a str,
    at: usize,
    marks: Marks,
    /// What has been filled so far, from which a shape is learnt.
    trace: Trace,
    /// Why reading stopped.
    fault: Option<DecodeError>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, marks: Marks::NONE, trace: Trace::default(), fault: None }
    }

    /// A scalar that `fill` is for.
    #[inline]
    fn traced(&mut self, fill: Fill) -> Result<Scalar<'a>, Refused> {
        self.peek();
        let start = self.at;
        let scalar = self.scalar()?;
        self.trace.add(start..self.at, fill);
        Ok(scalar)
    }

    #[cold]
    fn refuse(&mut self, fault: DecodeError) -> Refused {
        self.fault = Some(fault);
        Refused(())
    }

    #[inline]
    fn keep<T>(&mut self, outcome: Result<T, DecodeError>) -> Result<T, Refused> {
        outcome.map_err(|fault| self.refuse(fault))
    }

    /// The next byte that is no white space, not taken.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        let bytes = self.text.as_bytes();
        while let Some(&byte) = bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    #[cold]
    fn unexpected(&mut self, expected: &str) -> Refused {
        self.peek();
        let found = self.text.get(self.at..).and_then(|rest| rest.chars().next());
        let found = found
            .map_or_else(|| "the end".to_owned(), |found| format!("`{}`", found.escape_debug()));
        self.refuse(syntax(format!("{found} at byte {}, expected {expected}", self.at)))
    }

    /// Takes `end` if it comes next.
    #[inline]
    fn ends(&mut self, end: u8) -> bool {
        let ends = self.peek() == Some(end);
        self.at += usize::from(ends);
        ends
    }

    /// After a member: true at the end, false after a comma.
    #[inline]
    fn ends_or_goes_on(&mut self, end: u8) -> Result<bool, Refused> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(false)
            }
            Some(byte) if byte == end => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.unexpected("`,` or the end of a list or object")),
        }
    }

    /// Reads an object or its short form into `target`.
    fn record<F: Fields<'a>>(
        &mut self,
        field: &'static str,
        target: &mut F,
        nullable: bool,
        depth: usize,
    ) -> Result<(), Refused> {
        match self.peek() {
            Some(b'{') => {}
            Some(b'[') => return Err(self.refuse(Scalar::List.wrong(field, F::EXPECTED))),
            Some(b'n') if !nullable => {
                let null = self.word("null", Scalar::Null)?;
                return Err(self.refuse(null.wrong(field, F::EXPECTED)));
            }
            _ => return target.short(field, Value { reader: self, depth }),
        }
        self.at += 1;
        if self.ends(b'}') {
            return Ok(());
        }
        loop {
            let key = self.key()?;
            target.field(&key, Value { reader: self, depth })?;
            if self.ends_or_goes_on(b'}')? {
                return Ok(());
            }
        }
    }

    /// A key and the colon after it.
    #[inline]
    fn key(&mut self) -> Result<Text<'a>, Refused> {
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key"));
        }
        // Most keys are plain, and the colon follows at once.
        let start = self.at + 1;
        let end = self.marks.next(self.text.as_bytes(), start);
        if let Some(b"\":") = self.text.as_bytes().get(end..end + 2) {
            self.at = end + 2;
            return Ok(Cow::Borrowed(&self.text[start..end]));
        }
        let key = self.string()?;
        if !self.ends(b':') {
            return Err(self.unexpected("`:`"));
        }
        Ok(key)
    }

    /// Any value; of a list or an object only that it is one.
    #[inline]
    fn scalar(&mut self) -> Result<Scalar<'a>, Refused> {
        match self.peek() {
            Some(b'"') => self.string().map(Scalar::Text),
            Some(b'0'..=b'9' | b'-') => self.number(),
            Some(b't') => self.word("true", Scalar::Flag(true)),
            Some(b'f') => self.word("false", Scalar::Flag(false)),
            Some(b'n') => self.word("null", Scalar::Null),
            Some(b'[') => self.skip_unseen().map(|()| Scalar::List),
            Some(b'{') => self.skip_unseen().map(|()| Scalar::Object),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn word(&mut self, word: &str, meaning: Scalar<'a>) -> Result<Scalar<'a>, Refused> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(self.unexpected("a value"));
        }
        self.at += word.len();
        Ok(meaning)
    }

    /// A number; at its first character.
    #[inline]
    fn number(&mut self) -> Result<Scalar<'a>, Refused> {
        let bytes = &self.text.as_bytes()[self.at..];
        let mut number = 0_u64;
        let mut digits = 0;
        while let Some(digit @ b'0'..=b'9') = bytes.get(digits)
            && digits < DIGITS_MAX
        {
            number = number * 10 + u64::from(digit - b'0');
            digits += 1;
        }
        let plain = digits > 0
            && (bytes[0] != b'0' || digits == 1)
            && !bytes.get(digits).is_some_and(|&next| goes_on(next));
        if !plain {
            return self.other_number();
        }
        self.at += digits;
        Ok(Scalar::Unsigned(number))
    }

    /// One with a sign, a fraction, an exponent or very many digits, or none at all.
    #[cold]
    fn other_number(&mut self) -> Result<Scalar<'a>, Refused> {
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|byte| !goes_on(byte)).unwrap_or(rest.len());
        let number = serde_json::from_str::<serde_json::Number>(&rest[..end])
            .map_err(|error| syntax(format!("{error}, in the number at byte {}", self.at)));
        let number = self.keep(number)?;
        self.at += end;
        let whole = number.as_u64().map(Scalar::Unsigned);
        let whole = whole.or_else(|| number.as_i64().map(Scalar::Signed));
        Ok(whole.unwrap_or_else(|| Scalar::Float(number.as_f64().unwrap_or(f64::NAN))))
    }

    /// A text; at its opening quote.
    #[expect(clippy::inline_always, reason = "for every value of a record")]
    #[inline(always)]
    fn string(&mut self) -> Result<Text<'a>, Refused> {
        let start = self.at + 1;
        let end = self.marks.next(self.text.as_bytes(), start);
        if self.text.as_bytes().get(end) == Some(&b'"') {
            self.at = end + 1;
            return Ok(Cow::Borrowed(&self.text[start..end]));
        }
        self.escaped(end)
    }

    /// A text of which something at `at` is not plain.
    #[cold]
    fn escaped(&mut self, mut at: usize) -> Result<Text<'a>, Refused> {
        let bytes = self.text.as_bytes();
        while bytes.get(at) == Some(&b'\\') {
            // Whatever is escaped, two bytes at least belong to it.
            at = self.marks.next(bytes, at + 2);
        }
        if bytes.get(at) != Some(&b'"') {
            let cause = if at < bytes.len() { "a control character" } else { "the end" };
            return Err(self.refuse(syntax(format!("{cause} at byte {at}, inside of a text"))));
        }
        let text = serde_json::from_str::<String>(&self.text[self.at..=at])
            .map_err(|error| syntax(format!("{error}, in the text at byte {}", self.at)));
        let text = self.keep(text)?;
        self.at = at + 1;
        Ok(Cow::Owned(text))
    }

    fn skip(&mut self, depth: usize) -> Result<(), Refused> {
        let end = match self.peek() {
            Some(b'{') => b'}',
            Some(b'[') => b']',
            _ => return self.traced(shapes::skipped).map(|_| ()),
        };
        self.keep(at_most("nesting depth", depth + 1, DEPTH_MAX))?;
        self.at += 1;
        if self.ends(end) {
            return Ok(());
        }
        loop {
            if end == b'}' {
                self.key()?;
            }
            self.skip(depth + 1)?;
            if self.ends_or_goes_on(end)? {
                return Ok(());
            }
        }
    }

    fn skip_unseen(&mut self) -> Result<(), Refused> {
        let rest = &self.text[self.at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                self.at += values.byte_offset();
                Ok(())
            }
            Some(Err(error)) => {
                let detail = format!("{error}, in the value at byte {}", self.at);
                Err(self.refuse(syntax(detail)))
            }
            None => Err(self.unexpected("a value")),
        }
    }
}

/// A byte that may belong to a number.
const fn goes_on(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
}

#[cfg(test)]
mod tests;
