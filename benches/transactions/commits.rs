//! The end of one transaction: as rust-rdkafka does it, and with the records drained first.

use std::time::{Duration, Instant};

use exfilwatch::{
    checkpoint::{Ledger, Origin},
    engine::Saved,
    kafka::{client, state::StateWriter},
};
use hdrhistogram::Histogram;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::{
    config,
    kafka::{self, Client},
    record, shown,
};

const ROUNDS: u64 = 100;
const CALL_MAX: Duration = Duration::from_secs(20);
/// Of the only record of a transaction.
const BYTES: usize = 2048;

/// Prints what a transaction takes in three ways, in turn.
pub(crate) fn measure(client: &Client) {
    let topic = kafka::unique("commits");
    client.create_topic(&topic, 1, &[]);
    let (alone, drained) = (producer(client, "alone"), producer(client, "drained"));
    let writer = StateWriter::claim(&config(client.address(), &topic), &topic, 0).unwrap();
    let mut ledger = Ledger::new(Origin::default(), 0);
    let new = || Histogram::new(3).unwrap();
    let (mut plain, mut after_drain, mut ours) = (new(), new(), new());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        begin(&alone, &topic);
        alone.commit_transaction(CALL_MAX).unwrap();
        record(&mut plain, began.elapsed());

        let began = Instant::now();
        begin(&drained, &topic);
        drain(&drained);
        drained.commit_transaction(CALL_MAX).unwrap();
        record(&mut after_drain, began.elapsed());

        let head = vec![b' '; BYTES];
        let saved = Saved { chunks: Vec::new(), head, ends_walk: false, is_whole: false };
        let mut draft = ledger.draft(saved, 0, "", "");
        let began = Instant::now();
        writer.commit(&mut draft, &[], Instant::now() + CALL_MAX).unwrap();
        record(&mut ours, began.elapsed());
        ledger.commit(draft);
    }
    println!("one transaction, begin to committed, one record of {BYTES} bytes");
    println!("  commit_transaction alone:  {}", shown(&plain));
    println!("  drained by 1 ms polls:     {}", shown(&after_drain));
    println!("  StateWriter, 2 round trips: {}", shown(&ours));
}

/// Waits until every record is acknowledged, so that the commit need not.
pub(crate) fn drain(producer: &BaseProducer) {
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
}

fn producer(broker: &Client, id: &str) -> BaseProducer {
    let id = kafka::unique(id);
    let config = config(broker.address(), &id);
    let mut settings = client::producer(&config, "bench", false);
    settings.set("transactional.id", &id).set("message.timeout.ms", "10000");
    let producer: BaseProducer = settings.create().unwrap();
    producer.init_transactions(CALL_MAX).unwrap();
    producer
}

fn begin(producer: &BaseProducer, topic: &str) {
    producer.begin_transaction().unwrap();
    let value = [b'x'; BYTES];
    let one = BaseRecord::<[u8], [u8]>::to(topic).partition(0).payload(&value);
    producer.send(one).map_err(|(cause, _)| cause).unwrap();
}
