//! Strict JSON Schemas of every kind the API server knows, built in or custom, for kubeconform.
//!
//! The server itself drops a field it does not know, and only warns. So each object with named
//! properties takes no others here.

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Map, Value, json};

use crate::{plane::Plane, tools};

/// Writes one file a kind below `folder`; returns how many.
pub(crate) fn write_schemas(plane: &Plane, folder: &Path) -> usize {
    let get = |path: &str| -> Value {
        let text = tools::run(plane.kubectl().args(["get", "--raw", path]));
        serde_json::from_str(&text).unwrap()
    };
    let index = get("/openapi/v3");
    let mut written = 0;
    for (path, entry) in index["paths"].as_object().unwrap() {
        if !path.contains("/v") {
            continue;
        }
        let document = get(entry["serverRelativeURL"].as_str().unwrap());
        let Some(schemas) = document["components"]["schemas"].as_object() else { continue };
        let strict: BTreeMap<&String, Value> =
            schemas.iter().map(|(name, schema)| (name, strict(schema))).collect();
        for (name, schema) in schemas {
            let kinds = schema["x-kubernetes-group-version-kind"].as_array();
            for kind in kinds.into_iter().flatten() {
                let text = |key: &str| kind[key].as_str().unwrap_or_default();
                let (group, version) = (text("group"), text("version"));
                // A kind such as DeleteOptions stands in every group.
                let own = if group.is_empty() { "api".to_owned() } else { format!("apis/{group}") };
                if path != &format!("{own}/{version}") {
                    continue;
                }
                let below = folder.join(if group.is_empty() { "v1" } else { group });
                fs::create_dir_all(&below).unwrap();
                let file = below.join(format!("{}_{version}.json", text("kind").to_lowercase()));
                fs::write(file, reachable(name, &strict).to_string()).unwrap();
                written += 1;
            }
        }
    }
    written
}

/// The schema and all that it refers to.
fn reachable(name: &str, all: &BTreeMap<&String, Value>) -> Value {
    let mut needed = Map::new();
    let mut open = vec![name.to_owned()];
    while let Some(name) = open.pop() {
        if needed.contains_key(&name) {
            continue;
        }
        references(&all[&name], &mut open);
        needed.insert(name.clone(), all[&name].clone());
    }
    json!({"$ref": format!("#/components/schemas/{name}"), "components": {"schemas": needed}})
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                found.extend(target.rsplit('/').next().map(str::to_owned));
            }
            fields.values().for_each(|inner| references(inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| references(inner, found)),
        _ => {}
    }
}

/// The same, without room for unknown fields.
fn strict(schema: &Value) -> Value {
    let Value::Object(fields) = schema else { return schema.clone() };
    let mut fields = fields.clone();
    let either = fields.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true))
        || fields.get("format").is_some_and(|format| format == "int-or-string");
    if either {
        for key in ["type", "format", "oneOf", "anyOf"] {
            fields.remove(key);
        }
        fields.insert("anyOf".to_owned(), json!([{"type": "string"}, {"type": "integer"}]));
    }
    if let Some(Value::Object(properties)) = fields.get_mut("properties") {
        properties.values_mut().for_each(|inner| *inner = strict(inner));
        let open = fields.contains_key("additionalProperties")
            || fields.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
        if !open {
            fields.insert("additionalProperties".to_owned(), false.into());
        }
    }
    for key in ["items", "additionalProperties", "not"] {
        if let Some(inner) = fields.get_mut(key) {
            *inner = strict(inner);
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        // Parts of a whole must not refuse what other parts name; only references are followed.
        if let Some(Value::Array(parts)) = fields.get_mut(key) {
            for part in parts.iter_mut().filter(|part| part.get("$ref").is_none()) {
                if part.get("properties").is_none() {
                    *part = strict(part);
                }
            }
        }
    }
    Value::Object(fields)
}
