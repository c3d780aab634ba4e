//! What checkpoints cost, and what alerts in transactions cost: the same events over and over, the
//! variants in turn, so that each sees the same machine.

use std::time::{Duration, Instant};

use crate::{
    events::Shape,
    kafka::{self, Client, Compression, Message},
    program::{Cost, Program},
    report,
};

/// One way to run the program over the events.
#[derive(Clone, Copy)]
struct Variant {
    name: &'static str,
    /// Between checkpoints.
    interval: &'static str,
    /// A thief every second, and whether their alerts go out in transactions.
    thieves: Option<bool>,
}

const VARIANTS: [Variant; 4] = [
    Variant { name: "no checkpoints", interval: "1h", thieves: None },
    Variant { name: "checkpoints every 10 s", interval: "10s", thieves: None },
    Variant { name: "  and an alert a second", interval: "10s", thieves: Some(false) },
    Variant { name: "  in transactions", interval: "10s", thieves: Some(true) },
];
/// Pairs of variants, the baseline first.
const RATIOS: [(usize, usize); 2] = [(0, 1), (2, 3)];

/// Between two thieves.
const EVERY: Duration = Duration::from_secs(1);

/// Prints every run as it ends, and then how the medians compare.
pub(crate) fn measure(client: &Client, topic: &str, events: u64, rounds: u64) {
    let mut cpu_s: [Vec<f64>; VARIANTS.len()] = Default::default();
    for _ in 0..rounds {
        for (variant, cpu_s) in VARIANTS.iter().zip(&mut cpu_s) {
            cpu_s.push(run(client, topic, events, *variant).cpu_s);
        }
    }
    let median = |variant: usize| {
        let mut runs = cpu_s[variant].clone();
        runs.sort_by(f64::total_cmp);
        runs[runs.len() / 2]
    };
    for (base, other) in RATIOS {
        println!(
            "{} against {}, medians of {rounds}: {:.1} % fewer events a core-second",
            VARIANTS[other].name.trim(),
            VARIANTS[base].name.trim(),
            100.0 * (1.0 - median(base) / median(other))
        );
    }
}

/// From the start until every event is counted.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn run(client: &Client, topic: &str, events: u64, variant: Variant) -> Cost {
    let thefts = kafka::unique("bench-thefts");
    client.create_topic(&thefts, 1, &[]);
    let inputs = [(topic, "canonical"), (&*thefts, "canonical")];
    let more = format!(
        "detect: {{checkpoint_interval: {}}}\nalerts: {{transactional: {}}}\n",
        variant.interval,
        variant.thieves.unwrap_or(false)
    );
    let began = Instant::now();
    let mut program = Program::start(client, &kafka::unique("bench"), &inputs, &more);
    let (mut planted, mut next) = (0, Instant::now() + EVERY);
    program.until("all events counted", |metrics| {
        let counted = metrics.sum("exfilwatch_state_rows");
        if variant.thieves.is_some() && counted > 0.0 && Instant::now() >= next {
            next += EVERY;
            client.produce(&thefts, Compression::None, [theft(planted, counted, events)]);
            planted += 1;
        }
        counted >= events as f64
    });
    let cost = program.cost(began);
    let metrics = program.metrics();
    report(variant.name, events, &cost);
    println!(
        "    {} alerts, {} checkpoints, {:.0} MiB of them",
        metrics.sum("exfilwatch_alerts_delivered_total{activity=\"opened\",rule=\"bench\""),
        metrics.sum("exfilwatch_checkpoints_total{result=\"stored\""),
        metrics.sum("exfilwatch_checkpoint_bytes_total") / f64::from(1 << 20),
    );
    program.stop();
    cost
}

/// One read above every limit, at the event time that counting has come to.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn theft(number: u64, counted: f64, events: u64) -> Message {
    let at = Shape::time_ms((counted as u64).min(events), events);
    Message::new(format!(
        r#"{{"event_time":{at},"principal":"thief-{number}","source":{{"kind":"x"}},
            "rows":2000000}}"#
    ))
}
