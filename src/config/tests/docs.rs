//! What the documentation shows is loaded, and what can be written is documented.

use super::*;

const RULES: &str = include_str!("../../../docs/RULES.md");
const README: &str = include_str!("../../../README.md");

/// The YAML blocks of a page.
fn blocks(page: &str) -> impl Iterator<Item = &str> {
    page.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap())
}

/// [`MINIMAL`] with its top-level keys replaced by those of `block`.
fn whole(block: &str) -> String {
    let is_in_block = |line: &&str| {
        let key = line.split(':').next().unwrap();
        block.lines().any(|line| line.starts_with(&format!("{key}:")))
    };
    let kept = MINIMAL.lines().filter(|line| !is_in_block(line));
    kept.chain([block]).flat_map(|text| [text, "\n"]).collect()
}

#[test]
fn every_block_of_the_documentation_is_a_configuration_without_doubts() {
    let folder = folder_with(&[
        ("rules/customers.yaml", ONE),
        ("secrets/password", "x"),
        ("canary.key", "16 bytes or more"),
    ]);
    for (page, least) in [(RULES, 12), (README, 1)] {
        assert!(blocks(page).count() >= least);
        for block in blocks(page) {
            let file = folder.path().join("exfilwatch.yaml");
            fs::write(&file, whole(block)).unwrap();
            let loaded = load(&file).unwrap_or_else(|faults| panic!("{block}\n{faults}"));
            let doubts: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
            assert!(doubts.is_empty(), "{block}\n{doubts:#?}");
        }
    }
}

/// Every key that a schema knows, the names of free-form maps left out.
fn keys(schema: &serde_json::Value, found: &mut Vec<String>) {
    match schema {
        serde_json::Value::Object(members) => {
            for (name, member) in members {
                let Some(properties) = member.as_object().filter(|_| name == "properties") else {
                    keys(member, found);
                    continue;
                };
                found.extend(properties.keys().cloned());
                properties.values().for_each(|property| keys(property, found));
            }
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

#[test]
fn every_key_stands_in_a_block_of_the_documentation() {
    let mut found = Vec::new();
    for text in [config_schema(), rules_schema()] {
        keys(&serde_json::from_str(&text).unwrap(), &mut found);
    }
    let shown: String = blocks(RULES).collect();
    assert!(found.len() > 60);
    for key in found {
        assert!(shown.contains(&format!("{key}:")), "`{key}` is not shown in docs/RULES.md");
    }
}
