//! YAML as Helm and Kubernetes write it, as JSON values: no anchors, no tags.

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput};
use serde_json::{Map, Value};

/// Every document of `text` that is not empty.
///
/// # Panics
/// It is not YAML.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let mut parser = Parser::new_from_str(text);
    let mut documents = Vec::new();
    loop {
        match next(&mut parser) {
            Event::StreamEnd => return documents,
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd => {}
            event => documents.push(value(event, &mut parser)),
        }
        documents.retain(|document| !document.is_null());
    }
}

/// The one document of `text`.
pub(crate) fn document(text: &str) -> Value {
    let mut all = documents(text);
    assert_eq!(all.len(), 1, "one document in\n{text}");
    all.remove(0)
}

fn next<'t>(parser: &mut Parser<'t, StrInput<'t>>) -> Event<'t> {
    let next = parser.next().expect("the end of the stream is an event");
    next.unwrap_or_else(|error| panic!("no YAML: {error}")).0
}

fn value<'t>(event: Event<'t>, parser: &mut Parser<'t, StrInput<'t>>) -> Value {
    match event {
        Event::Scalar(text, style, ..) => scalar(&text, style),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match next(parser) {
                    Event::SequenceEnd => return items.into(),
                    event => items.push(value(event, parser)),
                }
            }
        }
        Event::MappingStart(..) => {
            let mut entries = Map::new();
            loop {
                let key = match next(parser) {
                    Event::MappingEnd => return entries.into(),
                    Event::Scalar(text, ..) => text.into_owned(),
                    other => panic!("a key must be text: {other:?}"),
                };
                let event = next(parser);
                let before = entries.insert(key.clone(), value(event, parser));
                assert!(before.is_none(), "key {key} stands twice");
            }
        }
        other => panic!("not expected here: {other:?}"),
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        _ => match text.parse::<i64>() {
            // Modes of files are octal in YAML 1.1, which Kubernetes reads.
            Ok(_) if text.len() > 1 && text.starts_with('0') => {
                i64::from_str_radix(text, 8).expect("an octal number").into()
            }
            Ok(number) => number.into(),
            Err(_) => text.parse::<f64>().map_or_else(|_| text.into(), Value::from),
        },
    }
}

#[test]
fn documents_are_read_as_kubernetes_reads_them() {
    let text = "# nothing\n---\na: [1, 'x', {b: 0440}]\nc: |\n  two\n  lines\n---\n---\nd: null\n";
    let expected = r#"[{"a":[1,"x",{"b":288}],"c":"two\nlines\n"},{"d":null}]"#;
    assert_eq!(Value::from(documents(text)).to_string(), expected);
}
