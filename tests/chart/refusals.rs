//! Values that must be refused, each with what the message must say.

use serde_json::Value;

use crate::{helm, tools, yaml};

/// Each case: values on top of `cases/small.yaml`, and parts of the message.
#[test]
fn wrong_values_are_refused_with_a_message_that_names_the_key() {
    let Some(helms) = tools::helms() else { return };
    let table = yaml::document(&tools::read("tests/chart/refusals.yaml"));
    let table = table.as_array().unwrap();
    assert!(table.len() > 40, "the table is there");
    let mut faults = Vec::new();
    for helm in &helms {
        for row in table {
            let sets: Vec<String> = row["set"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
            let output = helm::template(helm, &[helm::case("small")], &sets);
            let said = tools::said(&output);
            let wanted = row["says"].as_array().unwrap().iter().filter_map(Value::as_str);
            let missing: Vec<&str> = wanted.filter(|part| !said.contains(part)).collect();
            if output.status.success() {
                faults.push(format!("accepted: {}", row["set"]));
            } else if !missing.is_empty() {
                faults.push(format!("{}: does not say {missing:?}:\n{said}", row["set"]));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
