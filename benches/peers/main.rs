//! The same job done by exfilwatch and by what people use today, on one Apache Kafka, in one run.
//!
//! `cargo bench --bench peers` writes topics of 2 partitions (lz4, null keys) of about 520 bytes of
//! JSON an event, event time over two hours, and has Kafka Streams, Flink and exfilwatch each sum
//! the rows of every principal over 1 min, 1 h, 24 h and 30 d and tell who passed a limit (of the
//! DSLs: over 1 h). It prints events divided by CPU seconds (user and system) of the whole process,
//! after the first quarter of the events and in all, and the broker's apart. Everybody's alerts are
//! held to an exact oracle (`oracle`), so that nobody wins by skipping work.
//!
//! `-- ours flink flink-sql streams dsl principals` runs some of it; names of single peers, and of
//! the loads `uniform` and `zipf`, do so too. `EXFILWATCH_BENCH_EVENTS` (8,000,000),
//! `EXFILWATCH_BENCH_PRINCIPALS` (1,000,000) and `EXFILWATCH_BENCH_ROUNDS` (1) change the size.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a bench reports by panic and print")]

mod chart;
mod data;
#[path = "../end_to_end/events.rs"]
#[allow(dead_code, reason = "the other bench uses more of it")]
mod events;
mod jvm;
#[path = "../../tests/it/kafka/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the tests use more of it")]
mod kafka;
mod oracle;
mod ours;
#[path = "../../tests/it/process.rs"]
#[allow(dead_code, reason = "the tests use more of it")]
mod process;
#[path = "../end_to_end/program.rs"]
#[allow(dead_code, reason = "the other bench uses more of it")]
mod program;
mod results;

use std::{
    collections::HashMap,
    env, fs,
    path::{Path, PathBuf},
};

use data::{Data, Format};
use events::Shape;
use jvm::{Job, Peers};
use kafka::{Broker, Client};
use oracle::{Counting, Oracle};
use ours::Ours;
use program::cpu_s;
use results::{Results, Run};

const PARTITIONS: i32 = 2;
/// This part of the events is for warming up.
const WARMUP_PART: u64 = 4;

/// A peer and how it counts.
struct Peer {
    name: &'static str,
    /// What the Java side calls it.
    id: &'static str,
    group: &'static str,
    counting: Counting,
    exactly_once: bool,
    /// It gets one event in so many, or it would take hours: for each load.
    share: [u64; 2],
}

const fn ring(name: &'static str, id: &'static str, group: &'static str) -> Peer {
    Peer { name, id, group, counting: Counting::Fifths, exactly_once: false, share: [1, 1] }
}

const PEERS: [Peer; 9] = [
    ring("Flink, ring", "flink", "flink"),
    ring("Kafka Streams, hash in memory", "streams-hash", "streams"),
    ring("Kafka Streams, tree in memory", "streams-tree", "streams"),
    Peer {
        exactly_once: true,
        ..ring("Kafka Streams, tree, exactly once", "streams-tree", "streams")
    },
    ring("Kafka Streams, RocksDB", "streams-rocksdb", "streams"),
    Peer {
        counting: Counting::Hopping(12),
        ..ring("Flink SQL, 1 h hopping by 12 min", "flink-sql", "flink-sql")
    },
    Peer {
        counting: Counting::Hopping(12),
        share: [8, 8],
        ..ring("Streams DSL, 1 h hopping by 12 min", "dsl-hop-12m", "dsl")
    },
    Peer {
        counting: Counting::Hopping(1),
        share: [40, 40],
        ..ring("Streams DSL, 1 h hopping by 1 min", "dsl-hop-1m", "dsl")
    },
    Peer {
        counting: Counting::Sliding,
        share: [8, 40],
        ..ring("Streams DSL, 1 h sliding", "dsl-sliding", "dsl")
    },
];

fn main() {
    let principals = number("EXFILWATCH_BENCH_PRINCIPALS", 1_000_000);
    let broker = kafka::private().expect("a bench needs Java and Maven for its Kafka");
    let mut bench = Bench {
        client: broker.client(),
        broker,
        peers: Peers::built(),
        events: number("EXFILWATCH_BENCH_EVENTS", 8_000_000),
        sets: HashMap::new(),
        results: Results::default(),
    };
    println!("{}", results::machine());
    println!("{principals} principals, {PARTITIONS} partitions, lz4, null keys");
    Results::head();
    for _ in 0..number("EXFILWATCH_BENCH_ROUNDS", 1) {
        for skewed in [false, true] {
            let load = if skewed { "Zipf" } else { "uniform" };
            if chosen(&["uniform", "zipf"], &load.to_lowercase()) {
                bench.all(Shape { principals, skewed }, load);
            }
        }
        if wanted(&["keyed-arrow"]) {
            for ours in &Ours::KEYED_ARROW {
                bench.ours(ours, Shape { principals: 1000, skewed: false }, "1k");
            }
        }
        if wanted(&["principals"]) {
            for (principals, load) in [(10_000, "10k"), (10_000_000, "10M")] {
                bench.principals(Shape { principals, skewed: false }, load);
            }
        }
    }
    bench.report();
}

/// Whether one of these names was given, or none at all was.
fn wanted(names: &[&str]) -> bool {
    let given: Vec<String> =
        arguments().filter(|it| !["uniform", "zipf"].contains(&&**it)).collect();
    given.is_empty() || given.iter().any(|it| names.contains(&&**it))
}

/// Whether `name` was given, or none of `all`.
fn chosen(all: &[&str], name: &str) -> bool {
    let given: Vec<String> = arguments().filter(|it| all.contains(&&**it)).collect();
    given.is_empty() || given.iter().any(|it| it == name)
}

fn arguments() -> impl Iterator<Item = String> {
    env::args().skip(1).filter(|argument| !argument.starts_with('-'))
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |text| text.parse().unwrap())
}

/// A data set, its truth, and its topics so far.
struct Set {
    data: Data,
    oracle: Oracle,
    topics: HashMap<Format, String>,
}

struct Bench {
    client: Client,
    broker: Broker,
    peers: Peers,
    events: u64,
    /// By principals, whether skewed, and events.
    sets: HashMap<(u64, bool, u64), Set>,
    results: Results,
}

impl Bench {
    /// Everybody over one load.
    fn all(&mut self, shape: Shape, load: &str) {
        for ours in Ours::ALL.iter().filter(|ours| wanted(&["ours", ours.id])) {
            self.ours(ours, shape, load);
        }
        for peer in PEERS.iter().filter(|peer| wanted(&[peer.group, peer.id])) {
            self.peer(peer, shape, load);
        }
    }

    /// How the quick ones take to fewer and to more principals.
    fn principals(&mut self, shape: Shape, load: &str) {
        for ours in Ours::ALL.iter().filter(|ours| ["ours-json", "ours-arrow"].contains(&ours.id)) {
            self.ours(ours, shape, load);
        }
        for peer in PEERS.iter().filter(|peer| ["flink", "streams-hash"].contains(&peer.id)) {
            self.peer(peer, shape, load);
        }
    }

    fn ours(&mut self, ours: &Ours, shape: Shape, load: &str) {
        let events = self.events / ours.share;
        let topic = self.topic(shape, events, ours.format);
        let before = self.broker_cpu_s();
        let (cost, passed) = ours.run(&self.client, &topic, (events, events / WARMUP_PART));
        let broker_cpu_s = self.broker_cpu_s() - before;
        let oracle = &self.set(shape, events).oracle;
        let judged = oracle.judge(ours.name, Counting::Fifths, &passed);
        self.add(ours.name, load, Run { cost, judged, broker_cpu_s });
    }

    fn peer(&mut self, peer: &Peer, shape: Shape, load: &str) {
        let events = self.events / peer.share[usize::from(shape.skewed)];
        let input = self.topic(shape, events, Format::Json);
        let before = self.broker_cpu_s();
        let (cost, passed) = self.peers.run(
            &self.client,
            &Job {
                peer: peer.id,
                input: &input,
                events,
                warmup: events / WARMUP_PART,
                principals: shape.principals,
                exactly_once: peer.exactly_once,
            },
        );
        let broker_cpu_s = self.broker_cpu_s() - before;
        let oracle = &self.set(shape, events).oracle;
        assert_eq!(cost.rows, Some(oracle.rows), "{}: other rows than were sent", peer.name);
        let judged = oracle.judge(peer.name, peer.counting, &passed);
        self.add(peer.name, load, Run { cost, judged, broker_cpu_s });
    }

    fn set(&mut self, shape: Shape, events: u64) -> &mut Set {
        self.sets.entry((shape.principals, shape.skewed, events)).or_insert_with(|| {
            let data = Data::new(shape, events);
            Set { oracle: Oracle::new(&data), data, topics: HashMap::new() }
        })
    }

    /// The topic of a data set in one format, written when it is first asked for.
    fn topic(&mut self, shape: Shape, events: u64, format: Format) -> String {
        let client = self.client.clone();
        let set = self.set(shape, events);
        set.topics.entry(format).or_insert_with(|| set.data.fill(&client, format)).clone()
    }

    fn broker_cpu_s(&self) -> f64 {
        cpu_s(&self.broker.pid().expect("the broker runs").to_string())
    }

    /// Kept at once: a later run that fails ends the bench.
    fn add(&mut self, name: &'static str, load: &str, run: Run) {
        self.results.add(name, load, run);
        self.results.write(&scratch("peers.json"));
    }

    fn report(&self) {
        let names: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
        self.results.compare("exfilwatch, JSON", &names);
        self.results.compare("exfilwatch, JSON, transactions", &[names[3]]);
        self.results.compare("exfilwatch, Arrow", &[names[0]]);
        self.results.compare("exfilwatch, keyed JSON", &["exfilwatch, JSON"]);
        self.results.compare(Ours::KEYED_ARROW[0].name, &[Ours::KEYED_ARROW[1].name]);
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        // Only a whole run may take the place of the last.
        let whole = arguments().next().is_none();
        let chart = if whole { docs.join("peers.svg") } else { scratch("peers.svg") };
        chart::write(&self.results, &chart);
        fs::write(scratch("peers.md"), self.results.table()).unwrap();
        println!("written: {} (and .md), {}", scratch("peers.json").display(), chart.display());
    }
}

/// A file below `target/`.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}
