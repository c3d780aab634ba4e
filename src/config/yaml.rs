//! YAML text to a tree that knows where everything was written.
//!
//! Bounded: size, depth, nodes (aliases expanded). Duplicate keys, tags, keys that are not text
//! and further documents are faults. Scalars stay as written unless they are `null`, `true`,
//! `false` or a whole number in its shortest form, so that `007` and `1.10` lose nothing.
//!
//! Never here: what keys mean.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, StrInput, Tag};
use serde_json::{Map, Number, Value};

/// Longest file that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Deepest nesting of lists and mappings.
pub const DEPTH_MAX: usize = 32;
/// Most values in one file, aliases expanded.
pub const NODES_MAX: usize = 100_000;

/// A position in a file, counted from 1; 0 means the file as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// Line.
    pub line: usize,
    /// Column in characters.
    pub column: usize,
}

/// A value and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) data: Data,
}

/// What YAML can say, as far as configuration needs it.
#[derive(Clone, Debug)]
pub(super) enum Data {
    Scalar(Value),
    List(Vec<Node>),
    /// Keys with their own positions, each once, in the order of the file.
    Map(Vec<(String, At, Node)>),
}

/// What is wrong with the text itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed {
    pub(super) at: At,
    pub(super) problem: String,
    pub(super) hint: Option<&'static str>,
}

impl Node {
    /// The same without positions.
    pub(super) fn json(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => items.iter().map(Self::json).collect(),
            Data::Map(entries) => {
                let entry = |(key, _, node): &(String, At, Self)| (key.clone(), node.json());
                Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
            }
        }
    }

    /// Where the value at `path` is, or the last thing on the way that is there.
    pub(super) fn find(&self, path: &[String]) -> At {
        self.child(path).map_or(self.at, |(_, node, rest)| node.find(rest))
    }

    /// Where the last key of `path` is written.
    pub(super) fn find_key(&self, path: &[String]) -> At {
        match self.child(path) {
            Some((key_at, _, [])) => key_at,
            Some((_, node, rest)) => node.find_key(rest),
            None => self.at,
        }
    }

    fn child<'n, 'p>(&'n self, path: &'p [String]) -> Option<(At, &'n Self, &'p [String])> {
        let (first, rest) = path.split_first()?;
        match &self.data {
            Data::Scalar(_) => None,
            Data::List(items) => {
                items.get(first.parse::<usize>().ok()?).map(|node| (node.at, node, rest))
            }
            Data::Map(entries) => entries
                .iter()
                .find(|(key, _, _)| key == first)
                .map(|(_, key_at, node)| (*key_at, node, rest)),
        }
    }
}

/// Parses one document. Duplicate keys do not end the parse: the first of each is kept.
///
/// # Errors
/// Everything that is wrong with the text as YAML; a tree comes with it where one could be built.
pub(super) fn parse(text: &str) -> (Option<Node>, Vec<Malformed>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        parser: Parser::new_from_str(text),
        anchors: HashMap::new(),
        nodes: 0,
        faults: Vec::new(),
    };
    match builder.document() {
        Ok(node) => (Some(node), builder.faults),
        Err(fault) => {
            builder.faults.push(fault);
            (None, builder.faults)
        }
    }
}

struct Builder<'t> {
    parser: Parser<'t, StrInput<'t>>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    faults: Vec<Malformed>,
}

impl<'t> Builder<'t> {
    fn document(&mut self) -> Result<Node, Malformed> {
        let mut root = Node { at: At::default(), data: Data::Scalar(Value::Null) };
        let mut documents = 0;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(root),
                Event::DocumentStart(_) if documents == 1 => {
                    let problem = "a second document begins here".to_owned();
                    return Err(malformed(at(span), problem, Some("one document a file")));
                }
                Event::DocumentStart(_) => documents += 1,
                Event::DocumentEnd | Event::StreamStart | Event::Nothing => {}
                event => root = self.node(event, span, 0)?,
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Malformed> {
        match self.parser.next_event() {
            None => Ok((Event::StreamEnd, Span::default())),
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => {
                let marker = error.marker();
                let at = At { line: marker.line(), column: marker.col() + 1 };
                Err(malformed(at, format!("this is not YAML: {}", error.info()), None))
            }
        }
    }

    fn node(&mut self, event: Event<'t>, span: Span, depth: usize) -> Result<Node, Malformed> {
        let at = at(span);
        if depth == DEPTH_MAX {
            return Err(malformed(at, format!("nested deeper than {DEPTH_MAX} levels"), None));
        }
        self.count(1, at)?;
        let (data, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                self.refuse_tag(tag.as_deref(), at);
                (Data::Scalar(scalar(&text, style)), anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), at);
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_deref(), at);
                (self.map(depth)?, anchor)
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor) else {
                    let problem = "an alias inside its own anchor".to_owned();
                    return Err(malformed(at, problem, None));
                };
                let (nodes, levels) = node.size();
                if depth + levels > DEPTH_MAX {
                    let problem = format!("nested deeper than {DEPTH_MAX} levels");
                    return Err(malformed(at, problem, None));
                }
                let data = node.data.clone();
                self.count(nodes, at)?;
                (data, 0)
            }
            _ => (Data::Scalar(Value::Null), 0),
        };
        let node = Node { at, data };
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Data, Malformed> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::SequenceEnd | Event::StreamEnd => return Ok(Data::List(items)),
                event => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Data, Malformed> {
        let mut entries: Vec<(String, At, Node)> = Vec::new();
        let mut seen: HashMap<String, At> = HashMap::new();
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::MappingEnd | Event::StreamEnd) {
                return Ok(Data::Map(entries));
            }
            let key = match &event {
                Event::Scalar(text, ..) => Some(text.clone().into_owned()),
                _ => None,
            };
            let key_at = self.node(event, span, depth + 1)?.at;
            let (event, span) = self.next()?;
            let value = self.node(event, span, depth + 1)?;
            let Some(key) = key else {
                self.faults.push(malformed(key_at, "a key must be plain text".to_owned(), None));
                continue;
            };
            if let Some(first) = seen.get(&key) {
                let problem = format!("key `{key}` was given before, on line {}", first.line);
                self.faults.push(malformed(key_at, problem, Some("remove one of them")));
                continue;
            }
            seen.insert(key.clone(), key_at);
            entries.push((key, key_at, value));
        }
    }

    fn count(&mut self, nodes: usize, at: At) -> Result<(), Malformed> {
        self.nodes += nodes;
        if self.nodes <= NODES_MAX {
            return Ok(());
        }
        let problem = format!("more than {NODES_MAX} values, aliases expanded");
        Err(malformed(at, problem, Some("split the rules over several files")))
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, at: At) {
        if let Some(tag) = tag {
            let problem = format!("tag `{}{}` is not supported", tag.handle, tag.suffix);
            self.faults.push(malformed(at, problem, Some("quote the value if it is text")));
        }
    }
}

impl Node {
    /// Values in this tree and levels of it.
    fn size(&self) -> (usize, usize) {
        let fold = |nodes: &mut dyn Iterator<Item = &Self>| {
            nodes.map(Self::size).fold((1, 1), |(nodes, levels), (more, deeper)| {
                (nodes + more, levels.max(deeper + 1))
            })
        };
        match &self.data {
            Data::Scalar(_) => (1, 1),
            Data::List(items) => fold(&mut items.iter()),
            Data::Map(entries) => fold(&mut entries.iter().map(|(_, _, node)| node)),
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::from(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => whole(text).map_or_else(|| Value::from(text), Value::Number),
    }
}

/// The number, if writing it again gives the same text.
fn whole(text: &str) -> Option<Number> {
    let number = match text.parse::<u64>() {
        Ok(number) => Number::from(number),
        Err(_) => Number::from(text.parse::<i64>().ok()?),
    };
    (number.to_string() == text).then_some(number)
}

fn at(span: Span) -> At {
    At { line: span.start.line(), column: span.start.col() + 1 }
}

fn malformed(at: At, problem: String, hint: Option<&'static str>) -> Malformed {
    Malformed { at, problem, hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        let (node, faults) = parse(text);
        assert_eq!(faults, []);
        node.unwrap()
    }

    fn fault(text: &str) -> String {
        let (_, faults) = parse(text);
        let fault = faults.first().unwrap_or_else(|| panic!("accepted: {text}"));
        format!("{}:{} {}", fault.at.line, fault.at.column, fault.problem)
    }

    #[test]
    fn scalars_keep_what_they_say() {
        let text =
            "[007, 1.10, 12, -3, 18446744073709551615, 18446744073709551616, yes, True, ~, '1']";
        let expected = concat!(
            r#"["007","1.10",12,-3,18446744073709551615,"#,
            r#""18446744073709551616","yes",true,null,"1"]"#,
        );
        assert_eq!(tree(text).json().to_string(), expected);
    }

    #[test]
    fn positions_are_those_of_the_value_and_of_the_key() {
        let node = tree("a: 1\ninputs:\n  - topic: x\n    keyed: no\n");
        let path = |parts: &[&str]| parts.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(node.find(&path(&["inputs", "0", "keyed"])), At { line: 4, column: 12 });
        assert_eq!(node.find_key(&path(&["inputs", "0", "keyed"])), At { line: 4, column: 5 });
        assert_eq!(node.find(&path(&["inputs", "0", "gone"])), At { line: 3, column: 5 });
        assert_eq!(node.find(&path(&["inputs", "7"])), At { line: 3, column: 3 });
    }

    #[test]
    fn a_duplicate_key_names_both_places_and_keeps_the_first() {
        let (node, faults) = parse("a: 1\nb: 2\na: 3\n");
        assert_eq!(faults[0].at, At { line: 3, column: 1 });
        assert_eq!(faults[0].problem, "key `a` was given before, on line 1");
        assert_eq!(node.unwrap().json().to_string(), r#"{"a":1,"b":2}"#);
    }

    #[test]
    fn what_is_not_one_plain_document_is_refused() {
        assert_eq!(fault("a: 1\n---\nb: 2\n"), "2:1 a second document begins here");
        assert_eq!(fault("a: !!str 1"), "1:4 tag `tag:yaml.org,2002:str` is not supported");
        assert_eq!(fault("? [a]\n: 1"), "1:3 a key must be plain text");
        assert_eq!(fault("a: &x [*x]"), "1:8 an alias inside its own anchor");
        assert!(fault("a: [1\nb: 2").contains("this is not YAML"), "{}", fault("a: [1\nb: 2"));
    }

    #[test]
    fn aliases_are_expanded_within_the_bounds() {
        let text = "a: &x [1, 2]\nb: *x\n";
        assert_eq!(tree(text).json().to_string(), r#"{"a":[1,2],"b":[1,2]}"#);

        let mut bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1]\n".to_owned();
        for level in 1..9 {
            let last = level - 1;
            let aliases = vec![format!("*a{last}"); 9].join(",");
            bomb.extend([&*format!("a{level}: &a{level} [{aliases}]\n")]);
        }
        assert!(fault(&bomb).ends_with("more than 100000 values, aliases expanded"));
    }

    #[test]
    fn depth_is_bounded_at_the_bound() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(parse(&nested(DEPTH_MAX)).1.is_empty());
        assert!(fault(&nested(DEPTH_MAX + 1)).ends_with("nested deeper than 32 levels"));
        assert!(!parse(&nested(20_000)).1.is_empty());

        let through_alias =
            format!("a: &a {}\nb: {}*a{}\n", nested(20), "[".repeat(20), "]".repeat(20));
        assert!(fault(&through_alias).ends_with("nested deeper than 32 levels"));
    }

    #[test]
    fn an_empty_file_is_null() {
        assert_eq!(tree("").json(), Value::Null);
        assert_eq!(tree("# nothing\n").json(), Value::Null);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(
            text in "[a-c \\n:\\-\\[\\]{}&*!#'\"|>%@,?~0-9é\u{feff}]{0,60}"
        ) {
            let _ = parse(&text);
        }
    }
}
