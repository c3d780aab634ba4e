//! `values.schema.json`: strict, every key described, and its `config` and `rules` in step with the
//! program's own schemas.

use std::fs;

use serde_json::{Map, Value, json};

use crate::{tools, tools::read, yaml};

const PATH: &str = "helm/exfilwatch/values.schema.json";

/// What the program's formats are as patterns; formats of a program mean nothing to Helm.
const PATTERNS: [(&str, &str); 6] = [
    ("duration-text", "^[0-9]+(ms|s|m|h|d)$"),
    ("window-text", "^[0-9]+(ms|s|m|h|d)$"),
    ("size-text", "^[0-9]+(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?$"),
    ("topic-name", "^[A-Za-z0-9._-]{1,249}$"),
    ("rule-id", "^[A-Za-z0-9._-]+$"),
    ("listen-text", "^.+:[0-9]+$"),
];

/// Keys of the program's file that the chart writes itself, and so takes from nobody.
const OURS: [&str; 3] = ["roles", "rules", "canary"];
const OURS_OF_KAFKA: [&str; 3] = ["create_topics", "properties_from_files", "oauth_token_file"];

/// The program's schema of a file, as the chart says it.
fn generated(file: &str) -> Value {
    let mut schema: Value = serde_json::from_str(&read(file)).unwrap();
    let whole = schema.as_object_mut().unwrap();
    whole.remove("$schema");
    whole.remove("$id");
    whole.remove("title");
    translate(&mut schema);
    schema
}

fn translate(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    if let Some(format) = fields.get("format").and_then(Value::as_str) {
        let pattern = PATTERNS.iter().find(|(known, _)| *known == format);
        if let Some((_, pattern)) = pattern {
            fields.insert("pattern".to_owned(), (*pattern).into());
        }
        fields.remove("format");
    }
    if let Some(text) = fields.get("description").and_then(Value::as_str) {
        let text = text.replace('\n', " ");
        fields.insert("description".to_owned(), text.into());
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        for (key, inner) in properties {
            translate(inner);
            if inner.get("description").is_none() {
                inner["description"] =
                    format!("Patterns for `{key}`; one of them must match.").into();
            }
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get_mut(key) {
            translate(inner);
        }
    }
    if let Some(Value::Array(options)) = fields.get_mut("anyOf") {
        for option in options {
            translate(option);
        }
    }
}

/// `config`: what is required is said by the templates, in a sentence, since the chart's own values
/// have neither a broker nor an input.
fn config() -> Value {
    let mut schema = generated("schemas/config.v1.schema.json");
    schema["description"] =
        "The program's configuration, as in docs/RULES.md, without what the chart sets itself."
            .into();
    let fields = schema.as_object_mut().unwrap();
    fields.remove("required");
    let properties = fields["properties"].as_object_mut().unwrap();
    for key in OURS {
        properties.shift_remove(key);
    }
    properties["inputs"].as_object_mut().unwrap().remove("minItems");
    let kafka = properties["kafka"].as_object_mut().unwrap();
    kafka.remove("required");
    let kafka = kafka["properties"].as_object_mut().unwrap();
    for key in OURS_OF_KAFKA {
        kafka.shift_remove(key);
    }
    kafka["bootstrap_servers"]["type"] = "string".into();
    schema
}

fn rules() -> Value {
    let mut schema = generated("schemas/rules.v1.schema.json");
    let mut rules = schema["properties"]["rules"].take();
    rules.as_object_mut().unwrap().remove("minItems");
    rules["description"] = "Rules, as in docs/RULES.md.".into();
    rules
}

fn pretty(schema: &Value) -> String {
    serde_json::to_string_pretty(schema).unwrap() + "\n"
}

#[test]
fn config_and_rules_are_in_step_with_the_program() {
    let text = read(PATH);
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    schema["properties"]["config"] = config();
    schema["properties"]["rules"] = rules();
    if std::env::var_os("EXFILWATCH_BLESS").is_some() {
        fs::write(tools::top().join(PATH), pretty(&schema)).unwrap();
    }
    let same = read(PATH) == pretty(&schema);
    assert!(same, "run EXFILWATCH_BLESS=1 cargo test --test chart schema");
}

/// Every schema below, with its path.
fn walk(path: &str, schema: &Value, each: &mut dyn FnMut(&str, &Map<String, Value>)) {
    let Value::Object(fields) = schema else { return };
    each(path, fields);
    if let Some(Value::Object(properties)) = fields.get("properties") {
        for (key, inner) in properties {
            walk(&format!("{path}.{key}"), inner, each);
        }
    }
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = fields.get(key) {
            walk(&format!("{path}[]"), inner, each);
        }
    }
    for option in fields.get("anyOf").and_then(Value::as_array).into_iter().flatten() {
        walk(path, option, each);
    }
}

#[test]
fn every_key_is_described_and_no_other_is_taken() {
    let schema: Value = serde_json::from_str(&read(PATH)).unwrap();
    let mut faults = Vec::new();
    walk("values", &schema, &mut |path, fields| {
        if let Some(Value::Object(properties)) = fields.get("properties") {
            let described =
                |inner: &Value| inner["description"].as_str().is_some_and(|it| it.len() > 6);
            let bare = properties.iter().filter(|(_, inner)| !described(inner));
            faults.extend(bare.map(|(key, _)| format!("{path}.{key} is not described")));
            if fields.get("additionalProperties") != Some(&json!(false)) {
                faults.push(format!("{path} takes any key"));
            }
        }
    });
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_value_has_a_default_and_every_default_a_schema() {
    let schema: Value = serde_json::from_str(&read(PATH)).unwrap();
    let values = yaml::document(&read("helm/exfilwatch/values.yaml"));
    let mut faults = Vec::new();
    compare("", &schema, &values, &mut faults);
    // What a chart above this one may say, keys that are the program's, and limits, which the chart
    // works out where there are none.
    let apart = |path: &String| {
        path == ".global" || path.starts_with(".config") || path.ends_with(".resources.limits")
    };
    faults.retain(|path| !apart(path));
    assert!(faults.is_empty(), "keys of only one of values.yaml and {PATH}: {faults:#?}");
}

fn compare(path: &str, schema: &Value, values: &Value, faults: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    // An empty map has no keys to compare: what may stand in it is the schema's to say.
    let Some(values) = values.as_object().filter(|values| !values.is_empty()) else { return };
    for key in properties.keys().chain(values.keys()) {
        let path = format!("{path}.{key}");
        match (properties.get(key), values.get(key)) {
            (Some(schema), Some(value)) => compare(&path, schema, value, faults),
            _ => faults.push(path),
        }
    }
}

#[test]
fn chart_and_program_have_one_version() {
    let chart = yaml::document(&read("helm/exfilwatch/Chart.yaml"));
    assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn readme_of_the_chart_is_in_step() {
    let Some(helm_docs) = tools::tool("helm-docs") else { return };
    let mut command = std::process::Command::new(helm_docs);
    command.arg("--chart-search-root").arg(tools::chart()).arg("--dry-run");
    let text = tools::run(command.arg("--log-level=error"));
    let path = "helm/exfilwatch/README.md";
    if std::env::var_os("EXFILWATCH_BLESS").is_some() {
        fs::write(tools::top().join(path), &text).unwrap();
    }
    let same = read(path).trim() == text.trim();
    assert!(same, "run EXFILWATCH_BLESS=1 cargo test --test chart readme");
}
