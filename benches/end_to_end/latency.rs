//! From an event handed to the producer until its alert is in the hands of a plain consumer, with
//! an otherwise idle pipeline: what the batching of four hops through Kafka adds up to.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use rdkafka::{ClientConfig, producer::BaseProducer};

use crate::kafka::{self, Client, Message};

/// Alerts measured.
const ALERTS: u64 = 200;
const ALERT_MAX: Duration = Duration::from_secs(30);

/// Microseconds of [`ALERTS`] alerts, one at a time; the first, which waits for the start of the
/// program, is not among them.
pub(crate) fn measure(client: &Client, input: &str, alerts: &str) -> Histogram<u64> {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", client.address())
        .set("linger.ms", "0")
        .create()
        .unwrap();
    let mut reader = client.reader(alerts);
    let mut latency = Histogram::new(3).unwrap();
    for n in 0..=ALERTS {
        let began = Instant::now();
        kafka::send(&producer, input, &event(n));
        let key = key(n);
        reader.until("alert", ALERT_MAX, |seen: &[kafka::Record]| {
            seen.last().is_some_and(|record| record.key_text().as_deref() == Some(&*key))
        });
        if n > 0 {
            latency.record(u64::try_from(began.elapsed().as_micros()).unwrap()).unwrap();
        }
    }
    latency
}

fn key(n: u64) -> String {
    format!("thief-{n:04}")
}

/// One read above every limit.
fn event(n: u64) -> Message {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    Message::new(format!(
        r#"{{"event_time":{now_ms},"principal":"{}","source":{{"kind":"x"}},"rows":2000000}}"#,
        key(n)
    ))
}
