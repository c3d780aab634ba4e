//! Reads alerts as any subscriber does, and measures from when their events were due.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rdkafka::{
    ClientConfig, Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::sender::{self, Load, THIEF};

/// The last alert comes within this time after the last event.
const LAST_MAX: Duration = Duration::from_secs(30);
const CALL_MAX: Duration = Duration::from_secs(10);
/// The first seconds of a load warm everything up; their latencies are left out.
const WARM_UP: Duration = Duration::from_secs(5);
/// How many alerts must come is not known before everything is sent.
const UNKNOWN: u64 = u64::MAX;

/// Loads for `length` after a warm-up; microseconds from due to seen of every alert.
pub(crate) fn measure(load: &Load, alerts: &str, rate: u64, length: Duration) -> Histogram<u64> {
    let consumer = subscriber(&load.brokers, alerts);
    let from_us = sender::now_us() + u64::try_from(WARM_UP.as_micros()).unwrap();
    let expected = AtomicU64::new(UNKNOWN);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&consumer, from_us, &expected));
        let sent = sender::send(load, rate, WARM_UP + length);
        expected.store(sent.thefts, Ordering::Release);
        watcher.join().unwrap()
    })
}

/// At the end of every partition of the topic.
fn subscriber(brokers: &str, topic: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "load-watcher")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), CALL_MAX).unwrap();
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        let (_, end) = consumer.fetch_watermarks(topic, partition.id(), CALL_MAX).unwrap();
        list.add_partition_offset(topic, partition.id(), Offset::Offset(end)).unwrap();
    }
    consumer.assign(&list).unwrap();
    consumer
}

/// Until the alerts about all thefts are seen, each of them once.
fn watch(consumer: &BaseConsumer, from_us: u64, expected: &AtomicU64) -> Histogram<u64> {
    let mut latency = Histogram::new(3).unwrap();
    let (mut named, mut sent_at) = (HashSet::new(), None);
    loop {
        let expected = expected.load(Ordering::Acquire);
        if expected != UNKNOWN {
            let since = *sent_at.get_or_insert_with(Instant::now);
            let seen = named.len() as u64;
            if seen >= expected {
                return latency;
            }
            assert!(
                since.elapsed() < LAST_MAX,
                "{seen} alerts of {expected} seen {LAST_MAX:?} after the last event: does a rule \
                 alert on 2,000,000 rows?"
            );
        }
        let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
        let record = record.unwrap();
        let key = std::str::from_utf8(record.key().unwrap_or_default()).unwrap_or_default();
        let due_us = key.strip_prefix(THIEF).and_then(|due| due.parse::<u64>().ok());
        if let Some(due_us) = due_us.filter(|due_us| named.insert(*due_us)) {
            let took_us = sender::now_us().saturating_sub(due_us);
            if due_us >= from_us {
                latency.record(took_us).unwrap();
            }
        }
    }
}
