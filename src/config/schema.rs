//! The generated JSON Schemas and what they say of a file, turned into faults.
//!
//! The types in `raw` are the truth; `schemas/config.v1.schema.json` and `rules.v1.schema.json` are
//! written from them and held to them by a test. What the schema refuses is taken out of the value,
//! so that the checks after this one still see the rest of the file.

use std::sync::LazyLock;

use jsonschema::{ValidationError, Validator, error::ValidationErrorKind};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

use super::doc::{Doc, Report};
use super::raw::{RawConfig, RawRuleFile};
use super::values::{FORMATS, TextFormat, format_named};

/// Keys that will mean something later, and are refused until then.
const RESERVED: [&str; 6] =
    ["tests", "exceptions", "schedule", "baseline", "baselines", "peer_group"];

/// A schema and its compiled form.
pub(super) struct Checked {
    schema: Value,
    validator: Validator,
}

/// Of `exfilwatch.yaml`.
pub(super) static CONFIG: LazyLock<Checked> =
    LazyLock::new(|| Checked::new::<RawConfig>("config.v1"));
/// Of a rule file.
pub(super) static RULES: LazyLock<Checked> =
    LazyLock::new(|| Checked::new::<RawRuleFile>("rules.v1"));

impl Checked {
    fn new<T: JsonSchema>(name: &str) -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        // Without references the place of an error in the schema is a path in this very value.
        settings.inline_subschemas = true;
        let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
        schema["$id"] = format!("urn:exfilwatch:schema:{name}").into();
        let mut options = jsonschema::draft202012::options()
            .should_validate_formats(true)
            .should_ignore_unknown_formats(true)
            .offline();
        for TextFormat { name, refuse, .. } in FORMATS {
            options = options.with_format(name, move |text: &str| refuse(text).is_none());
        }
        let validator = options.build(&schema).expect("generated schemas compile, tests hold it");
        Self { schema, validator }
    }

    /// The schema as it is published.
    pub(super) fn text(&self) -> String {
        let text = serde_json::to_string_pretty(&self.schema);
        text.expect("a JSON value has no key that is not text") + "\n"
    }

    /// Reports everything the schema refuses and returns what is left.
    pub(super) fn check(&self, doc: &Doc, report: &mut Report) -> Value {
        let whole = doc.root.json();
        let mut rest = whole.clone();
        for error in self.validator.iter_errors(&whole) {
            self.explain(&error, doc, report, &mut rest);
        }
        if rest.is_object() { rest } else { Value::Object(Map::new()) }
    }

    fn explain(
        &self,
        error: &ValidationError<'_>,
        doc: &Doc,
        report: &mut Report,
        rest: &mut Value,
    ) {
        let path: Vec<String> =
            error.instance_path().iter().map(|segment| segment.to_string()).collect();
        match error.kind() {
            ValidationErrorKind::AdditionalProperties { unexpected } => {
                let known = self.keys_beside(error);
                for key in unexpected {
                    unknown_key(key, &path, &known, doc, report);
                    remove(rest, &[&path[..], std::slice::from_ref(key)].concat());
                }
            }
            ValidationErrorKind::Required { property } => {
                let key = property.as_str().unwrap_or_default();
                let place = [&path[..], &[key.to_owned()]].concat();
                let expected = self.expected_of_key(error, key);
                let problem = format!("is missing; expected {expected}");
                report.add(doc.fault_at(doc.root.find(&path), &place, problem, None));
            }
            ValidationErrorKind::AnyOf { context }
            | ValidationErrorKind::OneOfNotValid { context } => {
                let own = error.instance_path().as_str();
                let type_fits = |branch: &&Vec<ValidationError<'static>>| {
                    !branch.iter().any(|error| {
                        matches!(error.kind(), ValidationErrorKind::Type { .. })
                            && error.instance_path().as_str() == own
                    })
                };
                match context.iter().filter(type_fits).collect::<Vec<_>>()[..] {
                    [branch] => {
                        for error in branch {
                            self.explain(error, doc, report, rest);
                        }
                    }
                    _ => self.refuse_value(error, &path, doc, report, rest),
                }
            }
            _ => self.refuse_value(error, &path, doc, report, rest),
        }
    }

    fn refuse_value(
        &self,
        error: &ValidationError<'_>,
        path: &[String],
        doc: &Doc,
        report: &mut Report,
        rest: &mut Value,
    ) {
        let found = show(error.instance());
        let schema = self.parent(error);
        let expected = expected(schema);
        let text = error.instance().as_str().unwrap_or_default();
        let problem = match error.kind() {
            ValidationErrorKind::Format { format } => {
                let why = format_named(format).and_then(|known| (known.refuse)(text));
                let why = why.unwrap_or_default();
                format!("{found} {why}; expected {expected}")
            }
            ValidationErrorKind::MinItems { limit: 1 } => {
                "the list is empty; expected at least one item".to_owned()
            }
            ValidationErrorKind::MaxItems { limit } => {
                format!("the list is too long; at most {limit} are allowed")
            }
            _ => format!("found {found}; expected {expected}"),
        };
        let words: Vec<&str> = words(schema);
        let hint = nearest(text, &words).map(|word| format!("did you mean `{word}`?"));
        report.add(doc.fault_at(doc.root.find(path), path, problem, hint));
        remove(rest, path);
    }

    /// The schema object that holds the keyword an error is about.
    fn parent(&self, error: &ValidationError<'_>) -> &Value {
        let path = error.schema_path().as_str();
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        self.schema.pointer(parent).unwrap_or(&Value::Null)
    }

    fn keys_beside(&self, error: &ValidationError<'_>) -> Vec<&str> {
        let properties = self.parent(error)["properties"].as_object();
        properties.map(|keys| keys.keys().map(String::as_str).collect()).unwrap_or_default()
    }

    fn expected_of_key(&self, error: &ValidationError<'_>, key: &str) -> String {
        expected(&self.parent(error)["properties"][key])
    }
}

fn unknown_key(key: &str, path: &[String], known: &[&str], doc: &Doc, report: &mut Report) {
    let place = [path, &[key.to_owned()]].concat();
    let at = doc.root.find_key(&place);
    if RESERVED.contains(&key) {
        let problem = "is reserved: not yet supported".to_owned();
        let hint = "remove it; docs/RULES.md lists what there is".to_owned();
        report.add(doc.fault_at(at, &place, problem, Some(hint)));
        return;
    }
    let problem = format!("unknown key; allowed here: {}", known.join(", "));
    let hint = nearest(key, known).map(|word| format!("did you mean `{word}`?"));
    report.add(doc.fault_at(at, &place, problem, hint));
}

/// The word `text` was probably meant to be: a slip or two away, or begun and not finished.
pub(super) fn nearest<'w>(text: &str, words: &[&'w str]) -> Option<&'w str> {
    let text = text.to_lowercase();
    let slips = |word: &&&str| strsim::damerau_levenshtein(&text, word);
    let closest = words.iter().min_by_key(slips)?;
    if slips(&closest) <= text.chars().count() / 3 {
        return Some(*closest);
    }
    words.iter().find(|word| text.len() >= 3 && word.starts_with(&text)).copied()
}

/// What a schema allows, in words.
fn expected(schema: &Value) -> String {
    let format = schema["format"].as_str().unwrap_or_default();
    if let Some(known) = format_named(format) {
        return known.expected.to_owned();
    }
    let words = words(schema);
    if !words.is_empty() {
        return format!("one of {}", words.join(", "));
    }
    for key in ["anyOf", "oneOf"] {
        if let Some(branches) = schema[key].as_array() {
            let mut all: Vec<String> =
                branches.iter().filter(|branch| branch["type"] != "null").map(expected).collect();
            all.dedup();
            return all.join(" or ");
        }
    }
    let types = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        other => other.as_str().into_iter().collect::<Vec<_>>(),
    };
    let mut kinds = types.into_iter().filter(|kind| *kind != "null").map(|kind| match kind {
        "boolean" => "true or false".to_owned(),
        "integer" => whole_number(schema),
        "array" => format!("a list of items, each {}", expected(&schema["items"])),
        "object" => mapping(schema),
        _ => "text".to_owned(),
    });
    kinds.next().unwrap_or_else(|| "something else".to_owned())
}

fn whole_number(schema: &Value) -> String {
    match (schema["minimum"].as_u64(), schema["maximum"].as_u64()) {
        (Some(min), Some(max)) => format!("a whole number from {min} to {max}"),
        _ => format!("a whole number from 0 to {}", u64::MAX),
    }
}

fn mapping(schema: &Value) -> String {
    let noun = schema["title"].as_str().unwrap_or("mapping");
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    match schema["properties"].as_object() {
        Some(keys) => {
            let keys: Vec<&str> = keys.keys().map(String::as_str).collect();
            format!("{article} {noun} with {}", keys.join(", "))
        }
        None => format!("{article} {noun}"),
    }
}

fn words(schema: &Value) -> Vec<&str> {
    let words = schema["enum"].as_array().map(|words| words.iter().filter_map(Value::as_str));
    words.map(Iterator::collect).unwrap_or_default()
}

/// A value as a message repeats it: short, on one line.
fn show(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => format!("\"{}\"", crate::event::decode::bounded(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a mapping".to_owned(),
        other => other.to_string(),
    }
}

/// Takes the value at `path` out: a key goes, an item becomes null so that the others keep theirs.
fn remove(value: &mut Value, path: &[String]) {
    let Some((last, way)) = path.split_last() else {
        *value = Value::Null;
        return;
    };
    let mut parent = value;
    for segment in way {
        let next = match parent {
            Value::Object(map) => map.get_mut(segment),
            Value::Array(items) => {
                segment.parse::<usize>().ok().and_then(|index| items.get_mut(index))
            }
            _ => None,
        };
        let Some(next) = next else { return };
        parent = next;
    }
    match parent {
        Value::Object(map) => {
            map.remove(last);
        }
        Value::Array(items) => {
            if let Some(item) = last.parse().ok().and_then(|index: usize| items.get_mut(index)) {
                *item = Value::Null;
            }
        }
        _ => {}
    }
}
