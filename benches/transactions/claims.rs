//! What it takes to claim partitions, each by a client and a transactional id of its own.

use std::{
    thread,
    time::{Duration, Instant},
};

use exfilwatch::{config::KafkaConfig, kafka::client};
use hdrhistogram::Histogram;
use rdkafka::producer::{BaseProducer, Producer as _};

use crate::{
    PARTITIONS, config,
    kafka::{self, Client},
    record, shown,
};

const ROUNDS: usize = 3;
const CALL_MAX: Duration = Duration::from_secs(20);

/// Makes a producer of `topic` and claims `id` with it. `meets`: once it knows a broker.
pub(crate) fn claim(config: &KafkaConfig, topic: &str, id: &str, meets: bool) -> BaseProducer {
    let mut settings = client::producer(config, "state", false);
    settings.set("transactional.id", id);
    settings.set("transaction.timeout.ms", "10000").set("message.timeout.ms", "10000");
    let producer: BaseProducer = settings.create().unwrap();
    if meets {
        producer.client().fetch_metadata(Some(topic), CALL_MAX).unwrap();
    }
    producer.init_transactions(CALL_MAX).unwrap();
    producer
}

/// Prints what claims take, new ids and ids that were claimed before.
pub(crate) fn measure(client: &Client) {
    let topic = kafka::unique("claims");
    client.create_topic(&topic, PARTITIONS, &[]);
    let config = config(client.address(), &topic);
    println!("\nclaims of {PARTITIONS} partitions, {ROUNDS} times the same");
    for (name, meets) in [("asked at once", false), ("after meeting a broker", true)] {
        let mut times = Histogram::new(3).unwrap();
        for _ in 0..ROUNDS {
            for partition in 0..PARTITIONS {
                let began = Instant::now();
                let id = format!("{topic}-{name}-{partition}");
                let claimed = claim(&config, &topic, &id, meets);
                record(&mut times, began.elapsed());
                drop(claimed);
            }
        }
        println!("  {name}, each: {}", shown(&times));
    }
    let mut times = Histogram::new(3).unwrap();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let claimed: Vec<BaseProducer> = thread::scope(|scope| {
            let one = |partition| {
                let id = format!("{topic}-beside-{partition}");
                let (config, topic) = (&config, &topic);
                scope.spawn(move || claim(config, topic, &id, true))
            };
            let claims: Vec<_> = (0..PARTITIONS).map(one).collect();
            claims.into_iter().map(|claim| claim.join().unwrap()).collect()
        });
        record(&mut times, began.elapsed());
        drop(claimed);
    }
    println!("  the same side by side, all: {}", shown(&times));
}
