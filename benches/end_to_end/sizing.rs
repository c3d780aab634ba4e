//! The coefficients of docs/SIZING.md, and how well they foretell other settings.
//!
//! CPU time an event is a sum: a part for every event, one for every byte of it, and one for every
//! row of a route. Three settings give the three parts; the others are compared with their sum.

use crate::{
    deployment::{Counted, Deployment},
    events::Shape,
    kafka::Client,
};

/// A deployment and what flows through it.
#[derive(Clone, Copy)]
struct Setting {
    name: &'static str,
    /// Added to a record: text that is passed over.
    padding: usize,
    /// Whether rules count by address as well, which is another route.
    two_routes: bool,
    principals: u64,
    skewed: bool,
    partitions: i32,
    members: usize,
}

const PLAIN: Setting = Setting {
    name: "plain",
    padding: 0,
    two_routes: false,
    principals: 1_000_000,
    skewed: false,
    partitions: 2,
    members: 1,
};
/// Those that the coefficients are of.
const FITTED: [Setting; 3] = [
    PLAIN,
    Setting { name: "long records", padding: 1600, ..PLAIN },
    Setting { name: "two routes", two_routes: true, ..PLAIN },
];
/// Those that are foretold.
const FORETOLD: [Setting; 4] = [
    Setting { name: "longer, Zipf", padding: 800, skewed: true, ..PLAIN },
    Setting { name: "long, two routes", padding: 1600, two_routes: true, ..PLAIN },
    Setting { name: "100k principals", principals: 100_000, ..PLAIN },
    Setting { name: "16 partitions, 2 members", partitions: 16, members: 2, ..PLAIN },
];
const RULES: [&str; 2] = [
    "  - {id: principals, measure: rows, limits: [{window: 1m, above: 100000}, {window: 1h, above: \
     200000}, {window: 24h, above: 500000}, {window: 30d, above: 1000000}]}\n",
    "  - {id: addresses, measure: rows, group_by: client.address, limits: [{window: 1m, above: \
     100000000}, {window: 30d, above: 1000000000}]}\n",
];

/// What one setting was measured to take.
struct Point {
    bytes: f64,
    rows: f64,
    ns: f64,
}

/// Prints every point, the coefficients, and how far off the sum is.
pub(crate) fn measure(client: &Client, events: u64) {
    for partitions in [PLAIN.partitions, 16] {
        let deployment = Deployment { partitions, members: PLAIN.members, rules: RULES[0] };
        println!("idle, {partitions} partitions: {:.0} MiB", deployment.idle_mib(client));
    }
    println!(
        "{:<26}{:>10}{:>10}{:>12}{:>12}{:>10}",
        "", "B/event", "ns/event", "B/row", "B saved", "RSS MiB"
    );
    let [plain, long, routes] = FITTED.map(|setting| run(client, setting, events));
    let per_byte = (long.ns - plain.ns) / (long.bytes - plain.bytes);
    let per_row = (routes.ns - plain.ns) / (routes.rows - plain.rows);
    let per_event = plain.ns - per_byte * plain.bytes - per_row * plain.rows;
    println!("ns: {per_event:.0} an event, {per_byte:.3} a byte of it, {per_row:.0} a row");
    for setting in FORETOLD {
        let point = run(client, setting, events);
        let foretold = per_event + per_byte * point.bytes + per_row * point.rows;
        let off = 100.0 * (foretold / point.ns - 1.0);
        println!("  foretold {foretold:.0} ns: {off:+.1} %");
    }
}

/// With so many bytes more, of a text that compresses as badly as numbers do.
fn padded(record: &str, n: u64, length: usize) -> String {
    let words = (0..).map(|word| (n + word).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let text: Vec<String> = words.take(length / 16).map(|word| format!("{word:016x}")).collect();
    let text = text.concat();
    record.replacen('{', &format!(r#"{{"statement":"{text}","#), 1)
}

/// Measures and prints one.
#[expect(clippy::cast_precision_loss, reason = "counts are small")]
fn run(client: &Client, setting: Setting, events: u64) -> Point {
    let shape = Shape { principals: setting.principals, skewed: setting.skewed };
    let text = |n: u64| match setting.padding {
        0 => shape.event(n, events).json(),
        length => padded(&shape.event(n, events).json(), n, length),
    };
    let bytes = text(events / 2).len() as f64;
    let rules = RULES[..=usize::from(setting.two_routes)].concat();
    let routes = if setting.two_routes { 2.0 } else { 1.0 };
    let Setting { name, partitions, members, .. } = setting;
    let deployment = Deployment { partitions, members, rules: &rules };
    let rows = routes * events as f64;
    let Counted { cost, forwarded_bytes, checkpoint_bytes } =
        deployment.count(client, events, rows, text);
    let ns = 1e9 * cost.cpu_s / events as f64;
    println!(
        "{name:<26}{bytes:>10.0}{ns:>10.0}{:>12.1}{checkpoint_bytes:>12.0}{:>10.0}",
        forwarded_bytes / rows,
        cost.rss_mib
    );
    Point { bytes, rows: routes, ns }
}
