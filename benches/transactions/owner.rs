//! A member that owns partitions and writes their checkpoints, by either scheme of fencing.

use std::{
    fs,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use exfilwatch::{config::KafkaConfig, kafka::client};
use hdrhistogram::Histogram;
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    producer::{BaseProducer, BaseRecord, Producer as _},
};

use crate::{PARTITIONS, claims::claim, commits::drain, record, shown};

const CALL_MAX: Duration = Duration::from_secs(20);
/// Checkpoints of each partition.
const ROUNDS: u64 = 20;
/// Of a chunk, of a head and of a manifest.
const BYTES: [usize; 3] = [64 * 1024, 2048, 1024];
const IDLE: Duration = Duration::from_secs(5);

/// What keeps an owner out that lost its partitions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// One transactional id a partition: whoever claims it fences the owner before.
    Partition,
    /// One transactional id a member; offsets go along with the member's generation.
    Member,
}

impl Scheme {
    pub(crate) const ALL: [Self; 2] = [Self::Partition, Self::Member];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Partition => "one id a partition",
            Self::Member => "one id a member",
        }
    }
}

/// Its producers, and its place in the group.
pub(crate) struct Owner {
    scheme: Scheme,
    prefix: String,
    /// One a partition, or one for all.
    producers: Vec<BaseProducer>,
    group: Option<BaseConsumer>,
}

impl Owner {
    /// Claims every partition, one after the other, as the state thread does. `member` tells one
    /// member from the next.
    pub(crate) fn claim(scheme: Scheme, config: &KafkaConfig, member: &str) -> Self {
        let prefix = config.transactional_id_prefix.clone();
        let topic = format!("{prefix}.state");
        let producers = match scheme {
            Scheme::Partition => {
                let ids = (0..PARTITIONS).map(|partition| format!("{prefix}-{partition}"));
                ids.map(|id| claim(config, &topic, &id, true)).collect()
            }
            Scheme::Member => vec![claim(config, &topic, &format!("{prefix}-{member}"), true)],
        };
        Self { scheme, prefix, producers, group: None }
    }

    /// Writes the records of checkpoints in a new transaction.
    fn write(&self, partitions: Range<i32>) {
        let producer = self.producer(partitions.start);
        producer.begin_transaction().unwrap();
        partitions.clone().for_each(|partition| self.send(partition, &BYTES[..2]));
        // Manifests name offsets, so they wait for them.
        drain(producer);
        partitions.for_each(|partition| self.send(partition, &BYTES[2..]));
        drain(producer);
    }

    fn send(&self, partition: i32, records: &[usize]) {
        let topic = format!("{}.state", self.prefix);
        for &bytes in records {
            let (key, value) = (format!("{partition}/{bytes}"), vec![b'x'; bytes]);
            let one = BaseRecord::to(&topic).partition(partition).key(&key).payload(&value);
            self.producer(partition).send(one).map_err(|(cause, _)| cause).unwrap();
        }
    }

    /// Offsets of `partitions` go along, if the scheme asks for it.
    fn end(&self, partitions: Range<i32>, offset: i64) {
        let producer = self.producer(partitions.start);
        if let Some(group) = &self.group {
            let mut list = TopicPartitionList::new();
            for partition in partitions {
                let events = format!("{}.events", self.prefix);
                list.add_partition_offset(&events, partition, Offset::Offset(offset)).unwrap();
            }
            let metadata = group.group_metadata().unwrap();
            producer.send_offsets_to_transaction(&list, &metadata, CALL_MAX).unwrap();
        }
        producer.commit_transaction(CALL_MAX).unwrap();
    }

    fn producer(&self, partition: i32) -> &BaseProducer {
        match self.scheme {
            Scheme::Partition => &self.producers[usize::try_from(partition).unwrap()],
            Scheme::Member => &self.producers[0],
        }
    }
}

/// The life of such a process: `figures` or `open`, and the scheme.
pub(crate) fn run(task: &str, config: &KafkaConfig) {
    let (what, name) = task.split_once(' ').unwrap();
    let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.name() == name).unwrap();
    let group = join(config);
    let (threads, rss, began) = (status("Threads:"), status("VmRSS:"), Instant::now());
    let mut owner = Owner::claim(scheme, config, "first");
    let claimed = began.elapsed();
    owner.group = (scheme == Scheme::Member).then_some(group);
    if what == "open" {
        // Earlier ones are whole; this one has records, and no end.
        owner.write(0..1);
        owner.end(0..1, 1);
        owner.write(0..1);
        println!("open");
        loop {
            thread::park();
        }
    }
    let one = one_by_one(&owner);
    println!("{name}");
    println!("  claims at start, one after the other: {claimed:.1?}");
    println!("  checkpoint of a partition: {}", shown(&one));
    if scheme == Scheme::Member {
        println!(
            "  checkpoint of all {PARTITIONS} in one transaction: {}",
            shown(&together(&owner))
        );
    }
    let cpu = cpu_ticks();
    thread::sleep(IDLE);
    println!(
        "  {} threads and {:.1} MiB more, {:.1} % of a core when idle",
        status("Threads:") - threads,
        (status("VmRSS:") - rss) / 1024.0,
        // The kernel counts in hundredths of a second.
        (cpu_ticks() - cpu) / IDLE.as_secs_f64(),
    );
}

/// Checkpoints as each partition comes due, on one thread.
fn one_by_one(owner: &Owner) -> Histogram<u64> {
    let mut times = Histogram::new(3).unwrap();
    for round in 0..ROUNDS {
        for partition in 0..PARTITIONS {
            let began = Instant::now();
            owner.write(partition..partition + 1);
            owner.end(partition..partition + 1, i64::try_from(round).unwrap());
            record(&mut times, began.elapsed());
        }
    }
    times
}

/// All partitions in one transaction, which only one id for all of them allows.
fn together(owner: &Owner) -> Histogram<u64> {
    let mut times = Histogram::new(3).unwrap();
    for round in 0..ROUNDS {
        let began = Instant::now();
        owner.write(0..PARTITIONS);
        owner.end(0..PARTITIONS, i64::try_from(round).unwrap());
        record(&mut times, began.elapsed());
    }
    times
}

/// A member of the group that has every partition.
fn join(config: &KafkaConfig) -> BaseConsumer {
    let group: BaseConsumer = client::consumer(config, "bench", &config.group_id).create().unwrap();
    group.subscribe(&[&format!("{}.events", config.group_id)]).unwrap();
    let until = Instant::now() + CALL_MAX;
    while group.assignment().unwrap().count() < usize::try_from(PARTITIONS).unwrap() {
        assert!(Instant::now() < until, "no partitions in {CALL_MAX:?}");
        group.poll(Duration::from_millis(20));
    }
    group
}

fn status(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn cpu_ticks() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
    fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()
}
