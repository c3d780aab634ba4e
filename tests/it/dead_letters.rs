//! What cannot become an event: kept whole, explained, and in nobody's way.

use crate::{
    arrow,
    events::{MINUTE_MS, Read, now_ms},
    findings::Finding,
    kafka::{self, Compression, Message, Record},
    service::{Service, Setup},
    steps::{SOON, all_counted, all_read, one_input},
};

/// `exfilwatch_events_read_total` by outcome.
fn outcome(service: &Service, outcome: &str) -> i64 {
    service.metrics().sum("exfilwatch_events_read_total", &[("outcome", outcome)])
}

fn good(n: i64) -> Message {
    Read::of("agent", now_ms() - 10 * MINUTE_MS + n, 1).canonical()
}

/// A canonical event with one field changed.
fn with(field: &str, value: serde_json::Value) -> Message {
    let mut event = Read::of("agent", now_ms() - 10 * MINUTE_MS, 1).json();
    event[field] = value;
    Message::new(event.to_string())
}

fn header(record: &Record, name: &str) -> String {
    record.header(name).unwrap_or_else(|| panic!("no header {name} in {record:?}"))
}

#[test]
fn poison_is_kept_as_it_was_and_the_records_around_it_are_counted() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "poison");
    let topic = setup.input("json", 2);
    let poison: &[(&str, Message)] = &[
        ("syntax", Message::new("not JSON at all")),
        ("syntax", Message::new([0xff, 0x00, 0xfe])),
        ("syntax", Message::new("")),
        ("missing_field", with("event_time", serde_json::Value::Null)),
        ("invalid_field", with("rows", (-1).into())),
        ("invalid_field", with("rows", 1.5.into())),
        ("invalid_field", with("event_time", "yesterday".into())),
        ("no_identity", with("principal", "".into())),
    ];
    let mut messages = Vec::new();
    for (n, (_, poison)) in (0..).zip(poison) {
        messages.push(good(n).to(1));
        messages.push(poison.clone().key("k").header("trace", "t-1").to(1));
    }
    messages.push(good(99).to(1));
    kafka.produce(&topic, Compression::Lz4, messages);
    let mut service = setup.run(&one_input(&topic));
    all_counted(&[&service], poison.len() + 1);
    let mut reader = setup.reader("dead");
    let letters = reader.until("every dead letter", SOON, |seen| seen.len() == poison.len());
    for (n, (reason, message)) in poison.iter().enumerate() {
        let offset = (2 * n + 1).to_string();
        let letter =
            letters.iter().find(|l| l.header("exfilwatch-offset").as_ref() == Some(&offset));
        let letter = letter.unwrap_or_else(|| panic!("no letter of offset {offset}"));
        assert_eq!(letter.value, message.value, "raw bytes of {reason}");
        assert_eq!(letter.key_text().as_deref(), Some("k"));
        assert_eq!(header(letter, "trace"), "t-1");
        assert_eq!(header(letter, "exfilwatch-topic"), topic);
        assert_eq!(header(letter, "exfilwatch-partition"), "1");
        assert_eq!(&header(letter, "exfilwatch-reason"), reason);
        assert!(!header(letter, "exfilwatch-message").is_empty());
        assert_eq!(letter.header("exfilwatch-length"), None, "nothing was cut");
    }
    all_read(&[&service], 2 * poison.len() + 1);
    assert_eq!(outcome(&service, "dead_letter"), i64::try_from(poison.len()).unwrap());
    assert!(service.stop().success());
    let committed = kafka.committed(&setup.group("ingest"), &topic);
    assert_eq!(committed[1], Some(kafka.ends(&topic)[1]), "offsets advance past poison");
}

#[test]
fn records_without_a_value_are_ignored_and_counted() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "null");
    let topic = setup.input("json", 1);
    let messages = [good(0), Message::null(), Message::null().key("k"), good(1)];
    kafka.produce(&topic, Compression::None, messages);
    let service = setup.run(&one_input(&topic));
    all_counted(&[&service], 2);
    all_read(&[&service], 4);
    assert_eq!(outcome(&service, "forwarded"), 2);
    let labels = [("outcome", "ignored"), ("reason", "null_value")];
    assert_eq!(service.metrics().sum("exfilwatch_events_read_total", &labels), 2);
    assert_eq!(kafka.ends(&setup.topic("dead")).iter().sum::<i64>(), 0);
}

#[test]
fn a_value_too_large_to_keep_is_cut_and_told_by_length_and_hash() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "cut");
    let topic = setup.input("json", 1);
    let large = "x".repeat(50_000);
    let messages = [Message::new(large.clone()), Message::new(large), good(0)];
    kafka.produce(&topic, Compression::None, messages);
    let lines = format!("dead_letter: {{max_bytes: 4KiB}}\n{}", one_input(&topic));
    let service = setup.run(&lines);
    all_counted(&[&service], 1);
    let mut reader = setup.reader("dead");
    let letters = reader.until("both letters", SOON, |seen| seen.len() == 2);
    for letter in letters {
        assert_eq!(letter.value, Some(vec![b'x'; 4096]));
        assert_eq!(header(letter, "exfilwatch-length"), "50000");
        assert_eq!(header(letter, "exfilwatch-xxh128").len(), 32);
    }
    let hash = |n: usize| header(&letters[n], "exfilwatch-xxh128");
    assert_eq!(hash(0), hash(1), "equal values have equal hashes");
    assert_eq!(service.metrics().sum("exfilwatch_dead_letters_cut_bytes_total", &[]), 91_808);
}

#[test]
fn a_letter_its_topic_refuses_is_cut_further_and_holds_nothing_up() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "refused");
    let topic = setup.input("json", 1);
    // One of sixteen letters, by SplitMix64: nothing that compresses well.
    let letter = |n: u64| {
        let z = (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        u8::try_from((z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb) >> 60).unwrap()
    };
    let poison: String = (0..100_000).map(|n| char::from(b'a' + letter(n))).collect();
    let service = setup.run(&one_input(&topic));
    service.ready();
    // An operator makes the topic take less than the program was told and checked at its start.
    kafka.set_topic_config(&setup.topic("dead"), "max.message.bytes", "20000");
    kafka.produce(&topic, Compression::None, [good(0), Message::new(poison), good(1)]);
    all_counted(&[&service], 2);
    let mut reader = setup.reader("dead");
    let letters = reader.until("the letter", SOON, |seen| !seen.is_empty());
    assert_eq!(header(&letters[0], "exfilwatch-length"), "100000");
    assert!(letters[0].value.as_ref().is_some_and(|value| value.len() < 20_000));
}

#[test]
fn a_flood_keeps_headers_only_and_raises_an_alert() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "flood");
    let topic = setup.input("json", 1);
    let poison = (0..400).map(|_| Message::new("y".repeat(1000)));
    kafka.produce(&topic, Compression::None, poison.chain([good(0)]));
    let limit = "dead_letter: {bytes_per_second: 20KiB}";
    let service = setup.run(&format!("{limit}\n{}", one_input(&topic)));
    all_counted(&[&service], 1);
    let mut reader = setup.reader("dead");
    let letters = reader.until("every dead letter", SOON, |seen| seen.len() == 400);
    let whole = letters.iter().filter(|l| l.value.as_ref().is_some_and(|v| v.len() == 1000));
    let whole = whole.count();
    // One second's worth at first, and 20 more each second that the drain took.
    assert!((20..200).contains(&whole), "{whole} letters kept whole");
    for letter in letters {
        assert_eq!(header(letter, "exfilwatch-reason"), "syntax");
        if letter.value.as_ref().is_none_or(Vec::is_empty) {
            assert_eq!(header(letter, "exfilwatch-length"), "1000");
        }
    }
    let bodiless = service.metrics().sum("exfilwatch_dead_letters_bodiless_total", &[]);
    assert_eq!(bodiless, i64::try_from(400 - whole).unwrap());
    let mut alerts = setup.reader("alerts");
    let flood = "exfilwatch.dead-letter-flood";
    alerts.until("the alert", SOON, |seen| !Finding::all(seen, flood).is_empty());
}

#[test]
fn one_bad_row_of_a_batch_does_not_hide_its_neighbours() {
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "row");
    let topic = setup.input("columns", 1);
    let at = now_ms() - 10 * MINUTE_MS;
    let reads: Vec<Read> = (0..10).map(|n| Read::of("agent", at + n, 1)).collect();
    let message = arrow::stream(&[arrow::batch_with_negative_rows(&reads, 3)]);
    let cut = Message::new(message.value.clone().unwrap()[..100].to_vec());
    kafka.produce(&topic, Compression::None, [message.clone(), cut]);
    let service = setup.run(&format!("inputs:\n  - {{topic: {topic}, format: arrow}}\n"));
    all_counted(&[&service], 9);
    let mut reader = setup.reader("dead");
    let letters = reader.until("two letters", SOON, |seen| seen.len() == 2);
    let of_row = letters.iter().find(|l| l.header("exfilwatch-row").is_some()).unwrap();
    assert_eq!(of_row.value, message.value);
    assert_eq!(header(of_row, "exfilwatch-row"), "3");
    assert_eq!(header(of_row, "exfilwatch-rows"), "1");
    assert_eq!(header(of_row, "exfilwatch-reason"), "invalid_field");
    // Nine rows, the bad one, and the record that cannot be read at all.
    all_read(&[&service], 11);
    assert_eq!(outcome(&service, "dead_letter"), 2);
}
