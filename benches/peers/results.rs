//! What was measured: a line for each run, the medians at the end, and a file of them.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::oracle::Judged;

/// What one run cost.
pub(crate) struct Cost {
    pub(crate) events: u64,
    /// Of the whole process, its start included.
    pub(crate) cpu_s: f64,
    /// After the first quarter, when a JVM has compiled what it runs.
    pub(crate) steady_events: f64,
    pub(crate) steady_cpu_s: f64,
    pub(crate) wall_s: f64,
    /// Of a JVM what is alive on its heap; of exfilwatch what the kernel counts as its.
    pub(crate) memory_mib: f64,
    /// What all counted rows add up to, where that is told.
    pub(crate) rows: Option<u64>,
    pub(crate) dropped: Option<u64>,
}

/// A run and what came of it.
pub(crate) struct Run {
    pub(crate) cost: Cost,
    pub(crate) judged: Judged,
    pub(crate) broker_cpu_s: f64,
}

/// What the events are of: `uniform`, or `Zipf, 10k principals`.
pub(crate) type Load = String;

/// All runs, by implementation and load, in the order they came.
#[derive(Default)]
pub(crate) struct Results {
    order: Vec<(&'static str, Load)>,
    runs: BTreeMap<(&'static str, Load), Vec<Run>>,
}

impl Run {
    /// Events for each second of CPU, once warm.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn rates(&self) -> (f64, f64) {
        let cost = &self.cost;
        (cost.steady_events / cost.steady_cpu_s, cost.events as f64 / cost.cpu_s)
    }

    /// CPU of the broker for each event.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn broker_us(&self) -> f64 {
        self.broker_cpu_s * 1e6 / self.cost.events as f64
    }

    fn line(&self) -> String {
        let (Self { cost, judged, .. }, (steady, all)) = (self, self.rates());
        let dropped = cost.dropped.map_or_else(|| "-".to_owned(), |dropped| dropped.to_string());
        format!(
            "{events:>9}{steady:>10.0}{all:>10.0}{broker:>8.2}{wall:>7.0}{memory:>7.0}{dropped:>8}\
             {told:>5} of {must}..{may}",
            events = cost.events,
            broker = self.broker_us(),
            wall = cost.wall_s,
            memory = cost.memory_mib,
            told = judged.told,
            must = judged.must,
            may = judged.may,
        )
    }
}

impl Results {
    pub(crate) fn head() {
        println!(
            "{:<36}{:<10}{:>9}{:>10}{:>10}{:>8}{:>7}{:>7}{:>8} alerts",
            "events a core-second",
            "load",
            "events",
            "warm",
            "all",
            "broker",
            "wall",
            "memory",
            "dropped"
        );
        println!("{:<36}{:<10}{:>37}{:>7}{:>7}", "", "", "us/ev", "s", "MiB");
    }

    pub(crate) fn add(&mut self, name: &'static str, load: &str, run: Run) {
        println!("{name:<36}{load:<10}{}", run.line());
        let key = (name, load.to_owned());
        if !self.order.contains(&key) {
            self.order.push(key.clone());
        }
        self.runs.entry(key).or_default().push(run);
    }

    /// Events a core-second once warm and in all; of several runs the median.
    pub(crate) fn rate(&self, name: &'static str, load: &str) -> Option<(f64, f64)> {
        let runs = self.runs.get(&(name, load.to_owned()))?;
        let mut rates: Vec<(f64, f64)> = runs.iter().map(Run::rates).collect();
        rates.sort_by(|a, b| a.0.total_cmp(&b.0));
        rates.get(rates.len() / 2).copied()
    }

    /// In the order of their first runs.
    pub(crate) fn keys(&self) -> &[(&'static str, Load)] {
        &self.order
    }

    /// Prints how many times faster `ours` is than each peer, load by load.
    pub(crate) fn compare(&self, ours: &'static str, peers: &[&'static str]) {
        for (name, load) in self.order.iter().filter(|(name, _)| peers.contains(name)) {
            if let (Some(mine), Some(theirs)) = (self.rate(ours, load), self.rate(name, load)) {
                let (warm, all) = (mine.0 / theirs.0, mine.1 / theirs.1);
                println!("{ours} against {name}, {load}: {warm:.1}x warm, {all:.1}x in all");
            }
        }
    }

    /// The medians as a table for `docs/`.
    pub(crate) fn table(&self) -> String {
        let names = distinct(self.order.iter().map(|(name, _)| *name));
        let loads = distinct(self.order.iter().map(|(_, load)| &**load));
        let head = format!(
            "{}\n\n| events a core-second, warm / in all | {} | broker, µs an event | \
             memory, MiB |\n|{}\n",
            machine(),
            loads.join(" | "),
            " --- |".repeat(loads.len() + 3)
        );
        let line = |name: &&'static str| {
            let rate = |load: &&str| {
                self.rate(name, load).map_or_else(String::new, |(warm, all)| {
                    format!("{} / {}", shown(warm), shown(all))
                })
            };
            let rates: Vec<String> = loads.iter().map(rate).collect();
            let of = |load: &&str| self.runs.get(&(*name, (*load).to_owned()));
            let last = loads.iter().find_map(of).and_then(|runs| runs.last());
            let run = last.expect("a name comes with a run");
            format!(
                "| {name} | {} | {:.1} | {:.0} |\n",
                rates.join(" | "),
                run.broker_us(),
                run.cost.memory_mib
            )
        };
        head + &names.iter().map(line).collect::<String>()
    }

    /// Everything, for other programs.
    pub(crate) fn write(&self, to: &Path) {
        let one = |run: &Run| {
            let cost = &run.cost;
            json!({
                "events": cost.events, "cpu_s": cost.cpu_s, "steady_events": cost.steady_events,
                "steady_cpu_s": cost.steady_cpu_s, "wall_s": cost.wall_s,
                "memory_mib": cost.memory_mib, "dropped": cost.dropped,
                "broker_cpu_s": run.broker_cpu_s, "alerts": run.judged.told,
                "alerts_must": run.judged.must, "alerts_may": run.judged.may,
            })
        };
        let results: Vec<Value> = self
            .order
            .iter()
            .map(|key| {
                let rate = self.rate(key.0, &key.1);
                json!({
                    "name": key.0, "load": key.1, "events_per_core_second": rate.map(|it| it.0),
                    "events_per_core_second_in_all": rate.map(|it| it.1),
                    "runs": self.runs[key].iter().map(one).collect::<Vec<_>>(),
                })
            })
            .collect();
        let all = json!({"machine": machine(), "results": results});
        fs::write(to, serde_json::to_string_pretty(&all).unwrap()).unwrap();
    }
}

/// Each once, in the order they come.
pub(crate) fn distinct<'s>(names: impl Iterator<Item = &'s str>) -> Vec<&'s str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

/// A rate for people: 0.8k, 41k, 1.20M.
pub(crate) fn shown(rate: f64) -> String {
    match rate {
        rate if rate >= 1e6 => format!("{:.2}M", rate / 1e6),
        rate if rate >= 1e4 => format!("{:.0}k", rate / 1e3),
        rate => format!("{:.1}k", rate / 1e3),
    }
}

/// Processor, memory and Java.
pub(crate) fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let names: Vec<&str> = cpus.lines().filter(|line| line.starts_with("model name")).collect();
    let name = names.first().and_then(|line| line.split(": ").nth(1)).unwrap_or("a CPU");
    let memory = read("/proc/meminfo");
    let kib = memory.lines().next().and_then(|line| line.split_whitespace().nth(1));
    let gib = kib.and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1_048_576.0;
    let java = Command::new("java").arg("-version").output().unwrap().stderr;
    let java = String::from_utf8_lossy(&java);
    let java = java.lines().next().unwrap_or_default().to_owned();
    format!("{} x {name}, {gib:.0} GiB, {java}", names.len())
}
