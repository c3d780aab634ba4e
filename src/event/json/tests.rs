//! The reader and `serde_json` take and refuse the same records, and read the same in them.

use proptest::prelude::*;
use serde_json::{Map, Value as Json};

use super::super::testing::mutated;
use super::{DEPTH_MAX, Fields, Refused, Scalar, Value, read};

/// The scalars of a record by key; of a list or an object that it is one.
#[derive(Debug, Default)]
struct Seen(Map<String, Json>);

impl<'a> Fields<'a> for Seen {
    const EXPECTED: &'static str = "an object";

    fn field(&mut self, key: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        let mut slot = None;
        value.put("value", &mut slot, |scalar, _| Ok(Some(json(scalar))))?;
        self.0.insert(key.to_owned(), slot.unwrap());
        Ok(())
    }
}

/// Passes over whatever is in it.
struct Skips;

impl<'a> Fields<'a> for Skips {
    const EXPECTED: &'static str = "an object";

    fn field(&mut self, _: &str, value: Value<'_, 'a>) -> Result<(), Refused> {
        value.skip()
    }
}

fn json(scalar: Scalar<'_>) -> Json {
    match scalar {
        Scalar::Null => Json::Null,
        Scalar::Flag(flag) => flag.into(),
        Scalar::Unsigned(number) => number.into(),
        Scalar::Signed(number) => number.into(),
        Scalar::Float(number) => number.into(),
        Scalar::Text(text) => text.into_owned().into(),
        Scalar::List => Json::Array(Vec::new()),
        Scalar::Object => Json::Object(Map::new()),
    }
}

fn depth(json: &Json) -> usize {
    let of = |deepest: Option<usize>| 1 + deepest.unwrap_or(0);
    match json {
        Json::Array(items) => of(items.iter().map(depth).max()),
        Json::Object(members) => of(members.values().map(depth).max()),
        _ => 0,
    }
}

/// What a reader that looks at nothing inside of a value sees of it.
fn shallow(json: Json) -> Json {
    match json {
        Json::Array(_) => Json::Array(Vec::new()),
        Json::Object(_) => Json::Object(Map::new()),
        scalar => scalar,
    }
}

fn assert_read_as_serde_json_does(record: &[u8]) {
    let ours = read(record, &mut Skips);
    let expected = match serde_json::from_slice(record) {
        Ok(Json::Object(members)) => members,
        Ok(other) => return assert!(ours.is_err(), "{other} is no object"),
        Err(cause) => {
            return assert!(ours.is_err(), "{}: {cause}", String::from_utf8_lossy(record));
        }
    };
    let whole = Json::Object(expected.clone());
    assert_eq!(ours.is_ok(), depth(&whole) <= DEPTH_MAX, "{whole}: {ours:?}");
    let mut seen = Seen::default();
    assert_eq!(read(record, &mut seen), Ok(()), "{whole}");
    let expected = expected.into_iter().map(|(key, value)| (key, shallow(value)));
    assert_eq!(seen.0, expected.collect::<Map<_, _>>());
}

fn arb_json() -> impl Strategy<Value = Json> {
    let scalar = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<f64>().prop_map(Json::from),
        ".{0,20}".prop_map(Json::from),
        // What the reader of eight bytes at a time might trip over.
        "[\"\\\\ -~\u{1}\u{1f}\u{7f}\u{80}\u{ff}a]{0,40}".prop_map(Json::from),
    ];
    scalar.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::vec((".{0,9}", inner), 0..6)
                .prop_map(|members| Json::Object(members.into_iter().collect())),
        ]
    })
}

fn arb_record() -> impl Strategy<Value = Vec<u8>> {
    let members = prop::collection::vec(("[a-z\"\\\\é]{0,12}", arb_json()), 0..8);
    (members, any::<bool>()).prop_map(|(members, pretty)| {
        let record = Json::Object(members.into_iter().collect());
        let text = if pretty { serde_json::to_vec_pretty } else { serde_json::to_vec };
        text(&record).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_record_is_read_as_serde_json_reads_it(record in arb_record()) {
        assert_read_as_serde_json_does(&record);
    }

    #[test]
    fn a_damaged_record_is_refused_when_serde_json_refuses_it(record in mutated(arb_record())) {
        assert_read_as_serde_json_does(&record);
    }

    #[test]
    fn text_of_json_signs_is_refused_when_serde_json_refuses_it(
        text in "\\{\"a\":[-+0-9.eE\"\\\\u{}\\[\\],:tfalsernu \n]{0,12}\\}?"
    ) {
        assert_read_as_serde_json_does(text.as_bytes());
    }
}

#[test]
fn numbers_escapes_and_words_that_are_nearly_json_are_refused() {
    for value in [
        "01",
        "-",
        "-01",
        "+1",
        "1.",
        ".5",
        "1e",
        "0x1",
        "1e999",
        "tru",
        "truee",
        "nul",
        "NaN",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\",
        "\"\u{1}\"",
        "\"",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"b\":}",
        "{\"b\"}",
        "{b:1}",
        "{\"b\":1,}",
        "1 2",
        "",
    ] {
        assert_read_as_serde_json_does(format!("{{\"a\":{value}}}").as_bytes());
        assert!(read(format!("{{\"a\":{value}}}").as_bytes(), &mut Skips).is_err(), "{value}");
    }
    for value in ["-0", "-0.0", "1E+2", "0", " 1 ", "18446744073709551615", "18446744073709551616"]
    {
        assert_read_as_serde_json_does(format!("{{\"a\":{value}}}").as_bytes());
        assert!(read(format!("{{\"a\":{value}}}").as_bytes(), &mut Skips).is_ok(), "{value}");
    }
}

#[test]
fn a_record_may_be_as_deep_as_the_limit_and_no_deeper() {
    for (inner, taken) in [(DEPTH_MAX - 1, true), (DEPTH_MAX, false)] {
        let record = format!("{{\"a\":{}{}}}", "[".repeat(inner), "]".repeat(inner));
        assert_eq!(read(record.as_bytes(), &mut Skips).is_ok(), taken);
    }
}
