//! Values that are written as text: durations, sizes, windows, times, names, words.
//!
//! Each is one [`Written`]: how it parses, what it is called in messages, how the schema says it.
//! A text is refused where the schema is checked, so turning it into its type cannot fail later.

use std::{borrow::Cow, fmt::Write as _, net::SocketAddr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::Start;
use crate::{
    event::{Format, identity::Qualifier},
    rules::{GroupBy, Measure, Severity},
    units::{EventTime, WindowSpan},
};

/// A value with a text form of its own.
pub(super) trait Written: Sized {
    /// Name of its JSON Schema `format`.
    const FORMAT: &'static str;
    /// For messages: "expected ...".
    const EXPECTED: &'static str;
    /// JSON types that stand for their text.
    const TYPES: &'static [&'static str] = &["string"];

    /// # Errors
    /// What is wrong with `text`, to stand after it in a message.
    fn parse(text: &str) -> Result<Self, String>;
}

/// A [`Written`] in a raw type.
#[derive(Clone, Debug)]
pub(super) struct Text<T>(pub(super) T);

impl<'de, T: Written> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            Value::Bool(truth) => truth.to_string(),
            _ => return Err(de::Error::custom("is no text")),
        };
        T::parse(&text).map(Self).map_err(de::Error::custom)
    }
}

impl<T: Written> JsonSchema for Text<T> {
    fn schema_name() -> Cow<'static, str> {
        T::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        match T::TYPES {
            [only] => json_schema!({"type": only, "format": T::FORMAT}),
            types => json_schema!({"type": types, "format": T::FORMAT}),
        }
    }
}

/// A [`Written`] as the schema check needs it.
pub(super) struct TextFormat {
    pub(super) name: &'static str,
    pub(super) expected: &'static str,
    /// What is wrong with a text.
    pub(super) refuse: fn(&str) -> Option<String>,
}

/// Every format there is.
pub(super) const FORMATS: [TextFormat; 11] = [
    format_of::<Duration>(),
    format_of::<Bytes>(),
    format_of::<WindowSpan>(),
    format_of::<Start>(),
    format_of::<SocketAddr>(),
    format_of::<TopicName>(),
    format_of::<RuleId>(),
    format_of::<Glob>(),
    format_of::<Name>(),
    format_of::<FilePath>(),
    format_of::<Property>(),
];

const fn format_of<T: Written>() -> TextFormat {
    TextFormat { name: T::FORMAT, expected: T::EXPECTED, refuse: |text| T::parse(text).err() }
}

/// The format of that name.
pub(super) fn format_named(name: &str) -> Option<&'static TextFormat> {
    const ALL: &[TextFormat] = &FORMATS;
    ALL.iter().find(|format| format.name == name)
}

const SPAN_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZE_UNITS: [(&str, u64); 9] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("B", 1),
];

/// `<whole number><unit>`, no sign, no space, no fraction.
fn with_unit(text: &str, units: &[(&str, u64)], what: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let scale = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
    let (Some(scale), false) = (scale, number.is_empty()) else {
        return Err(format!("is no {what}"));
    };
    let product = number.parse::<u64>().ok().and_then(|number| number.checked_mul(scale));
    product.ok_or_else(|| format!("is a {what} too large to count"))
}

impl Written for Duration {
    const FORMAT: &'static str = "duration-text";
    const EXPECTED: &'static str = "a duration such as 500ms, 30s, 5m, 1h or 30d";

    fn parse(text: &str) -> Result<Self, String> {
        with_unit(text, &SPAN_UNITS, "duration").map(Self::from_millis)
    }
}

/// A length of time as the configuration writes it.
///
/// # Errors
/// It is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    Duration::parse(text).map_err(|problem| format!("{problem}; expected {}", Duration::EXPECTED))
}

impl Written for WindowSpan {
    const FORMAT: &'static str = "window-text";
    const EXPECTED: &'static str =
        "a window from 1m to 30d, a multiple of 30s, such as 90s, 1h or 30d";

    fn parse(text: &str) -> Result<Self, String> {
        let millis = with_unit(text, &SPAN_UNITS, "window")?;
        if millis % 1000 != 0 {
            return Err("is no whole number of seconds".to_owned());
        }
        Self::from_secs(millis / 1000).map_err(|error| format!("is not allowed: {error}"))
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes(pub(super) u64);

impl Written for Bytes {
    const FORMAT: &'static str = "size-text";
    const EXPECTED: &'static str = "a size such as 512MiB, 2GiB or a number of bytes";
    const TYPES: &'static [&'static str] = &["string", "integer"];

    fn parse(text: &str) -> Result<Self, String> {
        if let Ok(bytes) = text.parse() {
            return Ok(Self(bytes));
        }
        with_unit(text, &SIZE_UNITS, "size").map(Self)
    }
}

impl Written for Start {
    const FORMAT: &'static str = "start-text";
    const EXPECTED: &'static str = "earliest, latest or a time such as 2026-04-01T09:30:00Z";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "earliest" => Ok(Self::Earliest),
            "latest" => Ok(Self::Latest),
            _ => text
                .parse::<jiff::Timestamp>()
                .map(|time| Self::At(EventTime::from_millis(time.as_millisecond())))
                .map_err(|_| "is no place to start".to_owned()),
        }
    }
}

impl Written for SocketAddr {
    const FORMAT: &'static str = "listen-text";
    const EXPECTED: &'static str = "an address and port such as 0.0.0.0:9464 or [::1]:9464";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "is no address to listen on".to_owned())
    }
}

/// A name Kafka takes for a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicName(pub(super) String);

impl Written for TopicName {
    const FORMAT: &'static str = "topic-name";
    const EXPECTED: &'static str = "1 to 249 of the characters a-z A-Z 0-9 . _ -";

    fn parse(text: &str) -> Result<Self, String> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if (1..=249).contains(&text.len()) && text.bytes().all(legal) && text != "." && text != ".."
        {
            return Ok(Self(text.to_owned()));
        }
        Err("is no topic name".to_owned())
    }
}

/// The id of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RuleId(pub(super) String);

impl Written for RuleId {
    const FORMAT: &'static str = "rule-id";
    const EXPECTED: &'static str =
        "1 to 64 of the characters a-z 0-9 . _ -, the first a letter or digit";

    fn parse(text: &str) -> Result<Self, String> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let legal = |byte: u8| plain(byte) || b"._-".contains(&byte);
        let first = text.bytes().next().is_some_and(plain);
        if !first || text.len() > 64 || !text.bytes().all(legal) {
            return Err("is no rule id".to_owned());
        }
        if text.starts_with("exfilwatch.") {
            return Err("is a name kept for alerts about exfilwatch itself".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

/// A pattern of a rule or of the catalogue; numbers and booleans stand for their text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Glob(pub(super) String);

/// Longest pattern or name, in bytes.
pub(super) const NAME_BYTES_MAX: usize = 512;

impl Written for Glob {
    const FORMAT: &'static str = "glob-text";
    const EXPECTED: &'static str = "text of at most 512 bytes; * and ? are globs";
    const TYPES: &'static [&'static str] = &["string", "integer", "boolean"];

    fn parse(text: &str) -> Result<Self, String> {
        Name::parse(text).map(|Name(text)| Self(text))
    }
}

/// Any text that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name(pub(super) String);

impl Written for Name {
    const FORMAT: &'static str = "name-text";
    const EXPECTED: &'static str = "text of at most 512 bytes";
    const TYPES: &'static [&'static str] = &["string", "integer", "boolean"];

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("is empty".to_owned()),
            text if text.trim() != text => Err("begins or ends with a space".to_owned()),
            text if text.len() > NAME_BYTES_MAX => Err(format!("has {} bytes", text.len())),
            text if text.contains(char::is_control) => Err("has a control character".to_owned()),
            text => Ok(Self(text.to_owned())),
        }
    }
}

/// Where rule files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilePath(pub(super) String);

impl Written for FilePath {
    const FORMAT: &'static str = "rule-path";
    const EXPECTED: &'static str = "the path of rule files, such as rules/*.yaml";

    fn parse(text: &str) -> Result<Self, String> {
        Name::parse(text).map(|Name(text)| Self(text))
    }
}

/// The value of a librdkafka property, passed through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Property(pub(super) String);

impl Written for Property {
    const FORMAT: &'static str = "property-text";
    const EXPECTED: &'static str = "text, a number, true or false";
    const TYPES: &'static [&'static str] = &["string", "integer", "boolean"];

    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self(text.to_owned()))
    }
}

/// A value from a closed list of words.
pub(super) trait Word: Copy + 'static {
    /// Name of its schema.
    const NAME: &'static str;
    /// Every word with what it means.
    fn words() -> Vec<(&'static str, Self)>;
}

/// A [`Word`] in a raw type.
#[derive(Clone, Copy, Debug)]
pub(super) struct OneOf<T>(pub(super) T);

impl<'de, T: Word> Deserialize<'de> for OneOf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        let found = T::words().into_iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| Self(value)).ok_or_else(|| de::Error::custom("is no such word"))
    }
}

impl<T: Word> JsonSchema for OneOf<T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = T::words().iter().map(|(word, _)| *word).collect();
        json_schema!({"type": "string", "enum": words})
    }
}

/// One of `roles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Ingest,
    Detect,
}

macro_rules! words {
    ($($type:ty => $name:literal, $words:expr;)*) => {$(
        impl Word for $type {
            const NAME: &'static str = $name;
            fn words() -> Vec<(&'static str, Self)> {
                $words
            }
        }
    )*};
}

words! {
    Format => "format", Self::ALL.map(|it| (it.as_str(), it)).to_vec();
    GroupBy => "group-by", Self::ALL.map(|it| (it.as_str(), it)).to_vec();
    Measure => "measure", Self::ALL.map(|it| (it.as_str(), it)).to_vec();
    Severity => "severity", Self::ALL.map(|it| (it.as_str(), it)).to_vec();
    Qualifier => "qualifier",
        vec![("tenant", Self::Tenant), ("source.instance", Self::SourceInstance)];
    Role => "role", vec![("ingest", Self::Ingest), ("detect", Self::Detect)];
}

/// A list that leaves out what was refused, yet remembers where the others stood.
#[derive(Clone, Debug)]
pub(super) struct List<T>(pub(super) Vec<(usize, T)>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> List<T> {
    pub(super) fn values(self) -> impl Iterator<Item = T> {
        self.0.into_iter().map(|(_, value)| value)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let all = Vec::<Option<T>>::deserialize(deserializer)?;
        let kept = all.into_iter().enumerate().filter_map(|(index, item)| Some((index, item?)));
        Ok(Self(kept.collect()))
    }
}

impl<T: JsonSchema> JsonSchema for List<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("list-of-{}", T::schema_name()).into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "array", "items": generator.subschema_for::<T>()})
    }
}

/// A duration as people write it: the largest unit that divides it.
pub(super) fn show_span(span: Duration) -> String {
    let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let unit = SPAN_UNITS.iter().rev().find(|(_, scale)| millis.is_multiple_of(*scale));
    let (name, scale) = unit.unwrap_or(&("ms", 1));
    if millis == 0 { "0s".to_owned() } else { format!("{}{name}", millis / scale) }
}

/// A size as people write it: the largest binary unit that divides it.
pub(super) fn show_size(bytes: u64) -> String {
    let unit = SIZE_UNITS[..4].iter().rev().find(|(_, scale)| bytes.is_multiple_of(*scale));
    let mut out = String::new();
    let _ = match unit {
        Some((name, scale)) if bytes > 0 => write!(out, "{}{name}", bytes / scale),
        _ => write!(out, "{bytes}B"),
    };
    out
}
