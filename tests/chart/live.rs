//! A real Prometheus scrapes the real program under a staged load: every expression of every panel
//! and alert is run.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    alerts, dashboards,
    events::{Read, now_ms},
    kafka::{self, Client, Compression, Message, free_port},
    process::Guarded,
    service::{Service, Setup},
    tools,
};

/// Panels and marks that show nothing while all is well, by title.
const EMPTY_IN_HEALTH: [&str; 2] = ["Alerts", "Messages refused by Kafka"];

/// What alerts select that is not there while all is well: of the rules about exfilwatch itself
/// only those that have told something have a series.
const ABSENT_IN_HEALTH: [&str; 1] =
    ["exfilwatch_alerts_delivered_total{namespace=\"watch\",job=\"exfilwatch\", \
     rule=\"exfilwatch.data-gap\", activity=\"opened\"}"];

/// Between two scrapes. Rates are taken over fifteen of them.
const SCRAPE_S: u64 = 1;

/// A Prometheus and the members it scrapes.
struct Watch {
    folder: TempDir,
    port: u16,
    _process: Guarded,
}

impl Watch {
    fn start(groups: &Value) -> Option<Self> {
        let prometheus = tools::tool("prometheus")?;
        let folder = TempDir::with_prefix("exfilwatch-prometheus-").unwrap();
        let path = |name: &str| folder.path().join(name);
        let config = json!({
            "global": {
                "scrape_interval": format!("{SCRAPE_S}s"),
                "evaluation_interval": format!("{SCRAPE_S}s"),
            },
            "rule_files": [path("rules.yaml")],
            "scrape_configs": [{
                "job_name": "exfilwatch",
                "file_sd_configs": [{"files": [path("members.json")], "refresh_interval": "1s"}],
            }],
        });
        fs::write(path("prometheus.yaml"), config.to_string()).unwrap();
        fs::write(path("rules.yaml"), groups.to_string()).unwrap();
        fs::write(path("members.json"), "[]").unwrap();
        let port = free_port();
        let mut command = Command::new(prometheus);
        command
            .arg(format!("--config.file={}", path("prometheus.yaml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(fs::File::create(path("log")).unwrap());
        let process = Guarded::spawn(&mut command).expect("prometheus starts");
        Some(Self { folder, port, _process: process })
    }

    /// Scrapes these from now on, each as a pod of its own.
    fn scrape(&self, members: &[&Service]) {
        let target = |(index, member): (usize, &&Service)| {
            json!({
                "targets": [format!("127.0.0.1:{}", member.port)],
                "labels": {"namespace": "watch", "pod": format!("exfilwatch-{index}")},
            })
        };
        let members: Vec<Value> = members.iter().enumerate().map(target).collect();
        let beside = self.folder.path().join("members.new");
        fs::write(&beside, Value::from(members).to_string()).unwrap();
        fs::rename(beside, self.folder.path().join("members.json")).unwrap();
    }

    /// The result of an instant query.
    fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let encoded = expression.bytes().fold(String::new(), |mut all, byte| {
            // Writing to a String cannot fail.
            let _ = write!(all, "%{byte:02x}");
            all
        });
        let path = format!("/api/v1/query?query={encoded}");
        let (_, body) = crate::http::get(self.port, &path).ok_or("no answer")?;
        let answer: Value = serde_json::from_str(&body).map_err(|error| error.to_string())?;
        match answer["data"]["result"].as_array() {
            Some(result) => Ok(result.clone()),
            None => Err(answer["error"].to_string()),
        }
    }
}

/// What Grafana puts in the place of its variables.
fn filled(expression: &str) -> String {
    let rate = format!("{}s", SCRAPE_S * 15);
    let pairs = [
        ("$__rate_interval", rate.as_str()),
        ("$__range", "5m"),
        ("$namespace", "watch"),
        ("$job", ".*"),
        ("$instance", ".*"),
        ("[3m:15s]", "[15s:1s]"),
    ];
    pairs.iter().fold(expression.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn produce(kafka: &Client, topic: &str, messages: Vec<Message>) {
    kafka.produce(topic, Compression::Lz4, messages);
}

/// Ordinary reads, one whose count is lost, a thief and a dead letter.
fn round(kafka: &Client, topic: &str, round: usize) {
    let mut messages: Vec<Message> = (0..40)
        .map(|index| Read::of(&format!("agent-{index:02}"), now_ms(), 2).canonical())
        .collect();
    messages.push(Read::of(&format!("thief-{round}"), now_ms(), 600).canonical());
    messages.push(Read::of(&format!("near-{round}"), now_ms(), 300).canonical());
    let mut lost = Read::of("agent-00", now_ms(), 0).json();
    lost["rows_quality"] = "unknown".into();
    messages.push(Message::new(lost.to_string()));
    messages.push(Message::new("poison"));
    produce(kafka, topic, messages);
}

#[test]
fn every_expression_of_dashboards_and_alerts_has_data_on_a_real_prometheus() {
    let (Some(_), Some([helm, _])) = (tools::tool("prometheus"), tools::helms()) else { return };
    let Some(kafka) = kafka::shared() else { return };
    let groups = alerts::groups(&helm);
    let Some(watch) = Watch::start(&groups) else { return };
    let setup = Setup::new(&kafka, "watched");
    let topic = setup.input("json", 2);
    fs::write(setup.path("canary.key"), "a key of more than 16 bytes").unwrap();
    let lines = format!(
        "inputs:\n  - topic: {topic}\ndetect: {{checkpoint_interval: 1s}}\n\
         canary: {{key_file: canary.key}}\n"
    );
    // As for a broker with TLS. This one has none, so it is only looked at.
    let authority = setup.path("ca.pem");
    fs::write(&authority, kafka::Authority::new().certificate()).unwrap();
    setup.property("ssl.ca.location", &authority.display().to_string());
    let [first, mut second] = [setup.run(&lines), setup.run(&lines)];
    watch.scrape(&[&first, &second]);
    for number in 0..20 {
        round(&kafka, &topic, number);
        match number {
            3 => {
                let canary = setup.command(&["canary"], &lines);
                assert!(canary.status.success(), "{}", tools::said(&canary));
            }
            5 => setup.rules("more.yaml", "rules: [{id: more, limits: [{window: 1h, above: 9}]}]"),
            8 => setup.rules("bad.yaml", "rules: [{id: more}]"),
            // Who is started with faulty rules does not start.
            10 => setup.rules("bad.yaml", "rules: [{id: most, limits: [{window: 1h, above: 9}]}]"),
            11 => drop(second.stop_within(Duration::from_secs(30))),
            _ => {}
        }
        thread::sleep(Duration::from_secs(1));
    }
    let third = setup.run(&lines);
    watch.scrape(&[&first, &third]);
    for number in 20..26 {
        round(&kafka, &topic, number);
        if number == 22 {
            // One whose mark is not yet over at the end.
            setup.rules("more.yaml", "rules: [{id: more, limits: [{window: 1h, above: 8}]}]");
        }
        thread::sleep(Duration::from_secs(1));
    }
    let faults = empty(&watch, Duration::from_secs(10));
    assert!(faults.is_empty(), "{} without data:\n{}", faults.len(), faults.join("\n"));
    all_selectors_have_data(&watch, &groups);
}

/// Panels and marks that have had no data, asked again for a while.
fn empty(watch: &Watch, patience: Duration) -> Vec<String> {
    let mut open = Vec::new();
    for name in dashboards::NAMES {
        for (title, expression) in dashboards::expressions(&dashboards::load(name)) {
            if !EMPTY_IN_HEALTH.contains(&title.as_str()) {
                open.push((format!("{name}: {title}"), expression));
            }
        }
    }
    let deadline = Instant::now() + patience;
    loop {
        open.retain(|(title, expression)| match watch.query(&filled(expression)) {
            Ok(result) => result.is_empty(),
            Err(error) => panic!("{title}: {expression}: {error}"),
        });
        if open.is_empty() || Instant::now() > deadline {
            return open.iter().map(|(title, it)| format!("{title}: {it}")).collect();
        }
        thread::sleep(Duration::from_secs(1));
    }
}

/// An alert is empty in health, and so is one with a misspelt metric, label or value: each part of
/// it must select something.
fn all_selectors_have_data(watch: &Watch, groups: &Value) {
    let mut absent = BTreeSet::new();
    for rule in alerts::each(groups) {
        let expression = rule["expr"].as_str().unwrap();
        watch.query(expression).unwrap_or_else(|error| panic!("{}: {error}", rule["alert"]));
        for metric in alerts::metrics(expression) {
            let seen = watch.query(&format!("count_over_time({metric}[5m])")).unwrap();
            assert!(!seen.is_empty(), "{}: nothing of {metric}", rule["alert"]);
            for label in alerts::labels_beside(expression, &metric) {
                let named = seen.iter().any(|series| series["metric"].get(&label).is_some());
                assert!(named, "{}: {metric} has no label {label}", rule["alert"]);
            }
        }
        for selector in alerts::selectors(expression) {
            let seen = watch.query(&format!("count_over_time({selector}[5m])")).unwrap();
            if seen.is_empty() {
                absent.insert(selector);
            }
        }
    }
    let absent: Vec<&str> = absent.iter().map(String::as_str).collect();
    assert_eq!(absent, ABSENT_IN_HEALTH, "selected by alerts");
}

#[test]
fn a_scrape_is_well_formed_and_its_size_does_not_depend_on_principals() {
    let Some(promtool) = tools::tool("promtool") else { return };
    let Some(kafka) = kafka::shared() else { return };
    let setup = Setup::new(&kafka, "cardinality");
    let topic = setup.input("json", 2);
    let lines = format!("inputs:\n  - topic: {topic}\ndetect: {{checkpoint_interval: 1s}}\n");
    let service = setup.run(&lines);
    let principals = |from: usize, to: usize| -> BTreeSet<String> {
        let read = |index| Read::of(&format!("agent-{index}"), now_ms(), 2).canonical();
        produce(&kafka, &topic, (from..to).map(read).collect());
        let held = i64::try_from(to).unwrap();
        let long = Duration::from_mins(2);
        service.metrics_until("all principals", long, |metrics| {
            metrics.sum("exfilwatch_window_keys", &[("group_by", "principal.id")]) >= held
        });
        // What comes a moment after the first rows: a checkpoint, a commit, a look at the lag.
        thread::sleep(Duration::from_secs(8));
        service.metrics().names().map(str::to_owned).collect()
    };
    let few = principals(0, 1_000);
    let many = principals(1_000, 100_000);
    let more: Vec<&String> = many.difference(&few).collect();
    assert!(more.is_empty() && few.len() == many.len(), "100,000 principals bring {more:?}");
    let (_, text) = service.get("/metrics").unwrap();
    let file = TempDir::new().unwrap();
    fs::write(file.path().join("metrics"), text).unwrap();
    let mut command = Command::new(promtool);
    command.args(["check", "metrics"]);
    command.stdin(fs::File::open(file.path().join("metrics")).unwrap());
    let said = tools::run(&mut command);
    assert!(said.is_empty(), "{said}");
}
