//! exfilwatch over the same topics: one process or two, with and without transactions.

use std::{
    fmt::Write as _,
    time::{Duration, Instant},
};

use crate::{
    data::Format,
    jvm::window,
    kafka::{self, Client},
    oracle::{LIMITS, Passed},
    program::{Metrics, Program},
    results::Cost,
};

const RUN_MAX: Duration = Duration::from_mins(30);
/// Between two looks: each costs the program the making of its metrics.
const LOOK: Duration = Duration::from_millis(100);
const QUIET: Duration = Duration::from_secs(2);
/// A rule for each window, so that each tells for itself; they share one meter.
const RULE: &str = "rows-";

/// A way to run it.
#[derive(Clone, Copy)]
pub(crate) struct Ours {
    /// What an argument of the bench calls it.
    pub(crate) id: &'static str,
    pub(crate) name: &'static str,
    pub(crate) format: Format,
    /// Ingest in one process and detect in another.
    pub(crate) apart: bool,
    pub(crate) transactions: bool,
    /// It gets one event in so many, where they are large.
    pub(crate) share: u64,
}

impl Ours {
    const fn plain(id: &'static str, name: &'static str, format: Format) -> Self {
        Self { id, name, format, apart: false, transactions: false, share: 1 }
    }

    pub(crate) const ALL: [Self; 6] = [
        Self::plain("ours-json", "exfilwatch, JSON", Format::Json),
        Self {
            transactions: true,
            ..Self::plain("ours-transactions", "exfilwatch, JSON, transactions", Format::Json)
        },
        Self {
            apart: true,
            ..Self::plain("ours-apart", "exfilwatch, JSON, roles apart", Format::Json)
        },
        Self::plain("ours-keyed", "exfilwatch, keyed JSON", Format::KeyedJson),
        Self { share: 4, ..Self::plain("ours-trino", "exfilwatch, Trino JSON", Format::Trino) },
        Self::plain("ours-arrow", "exfilwatch, Arrow", Format::Arrow),
    ];

    /// Over messages of one principal each, which are few where principals are many.
    pub(crate) const KEYED_ARROW: [Self; 2] = [
        Self::plain("ours-keyed-arrow", "exfilwatch, keyed Arrow", Format::KeyedArrow),
        Self::plain("ours-rekeyed-arrow", "exfilwatch, such Arrow re-keyed", Format::RekeyedArrow),
    ];

    /// Until all is counted; reads the alerts.
    pub(crate) fn run(
        self,
        client: &Client,
        topic: &str,
        (events, warmup): (u64, u64),
    ) -> (Cost, Passed) {
        let prefix = kafka::unique("exfilwatch");
        let mut members = self.start(client, &prefix, topic);
        let (mut warm, began) = (None, Instant::now());
        let (mut done, mut cpu_s) = (0.0, 0.0);
        let all = count(events);
        while done < all {
            std::thread::sleep(LOOK);
            members.iter_mut().for_each(Program::expect_alive);
            let metrics: Vec<Metrics> = members.iter().map(Program::metrics).collect();
            cpu_s = members.iter().map(|member| member.cost(began).cpu_s).sum();
            let sum = |name: &str| metrics.iter().map(|metrics| metrics.sum(name)).sum::<f64>();
            done = sum("exfilwatch_state_rows");
            let read = sum("exfilwatch_events_read_total{outcome=\"forwarded\"");
            // As with the peers: half of an event is to read it, half to count it. What reads a
            // keyed topic does both at once.
            let halves = if read > 0.0 { f64::midpoint(read, done) } else { done };
            if warm.is_none() && halves >= count(warmup) {
                warm = Some((halves, cpu_s));
            }
            assert!(began.elapsed() < RUN_MAX, "{done} of {events}: {}", members[0].log());
        }
        let (warm_events, warm_cpu_s) = warm.expect("the whole is more than its part");
        let cost = Cost {
            events,
            cpu_s,
            steady_events: all - warm_events,
            steady_cpu_s: cpu_s - warm_cpu_s,
            wall_s: began.elapsed().as_secs_f64(),
            memory_mib: members.iter().map(|member| member.cost(began).rss_mib).sum(),
            rows: None,
            dropped: Some(dropped(&members)),
        };
        if let [ingest, detect] = &members[..] {
            let (ingest, detect) = (ingest.cost(began), detect.cost(began));
            println!("    of these ingest {:.1} s, detect {:.1} s", ingest.cpu_s, detect.cpu_s);
        }
        let passed = alerts(client, &format!("{prefix}.alerts"), self.transactions);
        members.iter_mut().for_each(Program::stop);
        client.delete_topics(&prefix);
        (cost, passed)
    }

    fn start(self, client: &Client, prefix: &str, topic: &str) -> Vec<Program> {
        let mut rules = String::new();
        for limit in &LIMITS {
            writeln!(
                rules,
                "  - {{id: {RULE}{window}, measure: rows, limits: [{{window: {window}, \
                 above: {rows}}}]}}",
                window = limit.window,
                rows = limit.rows
            )
            .unwrap();
        }
        let members: &[&str] = if self.apart { &["ingest", "detect"] } else { &["ingest, detect"] };
        let start = |roles: &&str| {
            let more = format!(
                "roles: [{roles}]\nalerts: {{transactional: {}}}\n\
                 detect: {{checkpoint_interval: 10s}}\n",
                self.transactions
            );
            let inputs = [(topic, self.format.input())];
            Program::with_rules(client, prefix, &inputs, &rules, &more)
        };
        members.iter().map(start).collect()
    }
}

/// Rows that came too late for every window, and events that were refused.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
fn dropped(members: &[Program]) -> u64 {
    let late = "exfilwatch_rows_evaluated_total{group_by=\"principal.id\",outcome=\"too_late\"";
    let refused = "exfilwatch_events_read_total{outcome=\"dead_letter\"";
    let sum = |metrics: &Metrics| metrics.sum(late) + metrics.sum(refused);
    members.iter().map(|member| sum(&member.metrics())).sum::<f64>() as u64
}

/// What it has told of principals, not of itself.
fn alerts(client: &Client, topic: &str, transactions: bool) -> Passed {
    let mut reader =
        if transactions { client.committed_reader(topic) } else { client.reader(topic) };
    let mut passed = Passed::new();
    reader.through(QUIET, |record| {
        let alert = record.json();
        let rule = alert["finding_info"]["analytic"]["uid"].as_str().expect("a rule");
        if let Some(name) = rule.strip_prefix(RULE) {
            passed.insert((record.key_text().expect("a key"), window(name)));
        }
    });
    passed
}

#[expect(clippy::cast_precision_loss, reason = "counts are small")]
const fn count(events: u64) -> f64 {
    events as f64
}
