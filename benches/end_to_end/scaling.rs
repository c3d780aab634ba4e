//! What more partitions and more members take away: the same events, read by one member over 1 and
//! over 16 partitions, and over 16 partitions by one member and by two.

use std::time::{Duration, Instant};

use crate::{
    events::Shape,
    kafka::{self, Client, Compression, Message},
    program::{self, Cost, Program, WAIT_MAX},
    report,
};

/// Partitions of the input and of the events topic, and members.
const SETTINGS: [(i32, usize); 3] = [(1, 1), (16, 1), (16, 2)];

/// Prints every run, and how each compares with the one before it.
pub(crate) fn measure(client: &Client, shape: Shape, events: u64) {
    let mut before: Option<Cost> = None;
    for (partitions, members) in SETTINGS {
        let cost = run(client, shape, events, partitions, members);
        report(&format!("{partitions} partitions, {members} members"), events, &cost);
        if let Some(before) = before.replace(cost) {
            let fewer = 100.0 * (1.0 - before.cpu_s / cost.cpu_s);
            let faster = before.wall_s / cost.wall_s;
            println!("  {fewer:.1} % fewer events a core-second, {faster:.2} times as fast");
        }
    }
}

/// From the start of the members until every event is counted.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn run(client: &Client, shape: Shape, events: u64, partitions: i32, members: usize) -> Cost {
    let (topic, prefix) = (kafka::unique("bench-scaling"), kafka::unique("bench"));
    client.create_topic(&topic, partitions, &[]);
    let spread = u64::try_from(partitions).unwrap();
    let record =
        |n: u64| Message::new(shape.event(n, events).json()).to(i32::try_from(n % spread).unwrap());
    client.produce(&topic, Compression::Lz4, (0..events).map(record));
    let create = format!("create_topics: {{partitions: {partitions}, replication: 1}}");
    let lines = program::kafka(client, &prefix, &create);
    let began = Instant::now();
    let start = || Program::start(client, &prefix, &[(&topic, "canonical")], &lines);
    let mut programs: Vec<Program> = (0..members).map(|_| start()).collect();
    loop {
        programs.iter_mut().for_each(Program::expect_alive);
        let rows = programs.iter().map(|it| it.metrics().sum("exfilwatch_state_rows"));
        if rows.sum::<f64>() >= events as f64 {
            break;
        }
        assert!(began.elapsed() < WAIT_MAX, "not all events counted in {WAIT_MAX:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let costs: Vec<Cost> = programs.iter().map(|it| it.cost(began)).collect();
    programs.iter_mut().for_each(Program::stop);
    Cost {
        cpu_s: costs.iter().map(|cost| cost.cpu_s).sum(),
        wall_s: began.elapsed().as_secs_f64(),
        rss_mib: costs.iter().map(|cost| cost.rss_mib).sum(),
    }
}
