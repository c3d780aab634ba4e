//! Sends events when they are due.

use std::{
    fmt::Write as _,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rdkafka::{
    ClientConfig,
    error::{KafkaError, RDKafkaErrorCode},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

/// Between two looks at what is due.
const TICK: Duration = Duration::from_millis(1);
/// A thief's name, before the time at which its event was due.
pub(crate) const THIEF: &str = "load-thief-";

/// What to send, and where to.
pub(crate) struct Load {
    pub(crate) brokers: String,
    pub(crate) input: String,
    pub(crate) principals: u64,
    pub(crate) alerts_per_second: u64,
}

/// Microseconds since the epoch.
pub(crate) fn now_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sent {
    pub(crate) events: u64,
    /// Of these, what alerts must come of.
    pub(crate) thefts: u64,
}

/// Sends `rate` events a second for so long, spread over the partitions by the producer.
pub(crate) fn send(load: &Load, rate: u64, length: Duration) -> Sent {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &load.brokers)
        .set("compression.type", "lz4")
        .set("linger.ms", "1")
        .set("sticky.partitioning.linger.ms", "2")
        .create()
        .unwrap();
    let all = rate * length.as_secs();
    let (began, began_us) = (Instant::now(), now_us());
    let every = (rate / load.alerts_per_second.max(1)).max(1);
    let (mut sent, mut thefts, mut text) = (0, 0, String::new());
    while sent < all {
        let due = u64::try_from(began.elapsed().as_micros()).unwrap() * rate / 1_000_000;
        while sent < due.min(all) {
            text.clear();
            let due_us = began_us + sent * 1_000_000 / rate;
            if sent % every == every / 2 {
                theft(due_us, &mut text);
                thefts += 1;
            } else {
                read(load, sent, due_us, &mut text);
            }
            hand_over(&producer, &load.input, &text);
            sent += 1;
        }
        producer.poll(Duration::ZERO);
        thread::sleep(TICK);
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    Sent { events: sent, thefts }
}

fn hand_over(producer: &BaseProducer, topic: &str, text: &str) {
    let mut record: BaseRecord<'_, (), str> = BaseRecord::to(topic).payload(text);
    while let Err((cause, again)) = producer.send(record) {
        let full = KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull);
        assert_eq!(cause, full, "the producer takes nothing more");
        producer.poll(TICK);
        record = again;
    }
}

/// One read above every limit, whose name says when it was due.
fn theft(due_us: u64, out: &mut String) {
    write!(
        out,
        concat!(
            r#"{{"event_time":{at},"principal":"{thief}{due_us}","source":{{"kind":"load"}},"#,
            r#""rows":2000000}}"#,
        ),
        at = due_us / 1000,
        thief = THIEF,
        due_us = due_us,
    )
    .unwrap();
}

/// A read as a bridge would write it, about 500 bytes.
fn read(load: &Load, number: u64, due_us: u64, out: &mut String) {
    write!(
        out,
        concat!(
            r#"{{"event_id":"load_{due_us}_{number:09}","event_time":{at},"#,
            r#""principal":{{"id":"load-user-{principal:07}","type":"user","#,
            r#""groups":["support-l1","emea"],"tenant":"acme"}},"source":{{"kind":"load","#,
            r#""instance":"crm-db-1","database":"crm"}},"objects":[{{"schema":"public","#,
            r#""name":"customers","labels":["pii"],"row_count":12000000}}],"#,
            r#""operation":"select","destination":"client","rows":1,"rows_quality":"exact","#,
            r#""bytes":400,"client":{{"address":"127.0.{a}.{b}","#,
            r#""application":"support-console"}},"query":{{"id":"q-{number:010}","#,
            r#""fingerprint":"a9f0c3d1"}},"success":true}}"#,
        ),
        at = due_us / 1000,
        due_us = due_us,
        number = number,
        // A fixed shuffle (Fibonacci hashing, Knuth 6.4).
        principal = (number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) % load.principals,
        a = number % 16,
        b = number % 250,
    )
    .unwrap();
}
