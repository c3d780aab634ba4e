//! What a person sees of the demo: a panel redrawn in place on a terminal, plain lines elsewhere,
//! or one JSON object a line.
//!
//! No colour, so `NO_COLOR` asks for nothing more. The alert topic carries a message a day while
//! an episode goes on; people are shown the first of each kind and a count, JSON and the file have
//! them all.

use std::{
    io::{self, Write},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::{
    calendar::Day,
    chart::draw,
    limits::LIMITS,
    tally::{Outcome, SHOWN_LIMIT, Tally},
    theft::STOLEN_RECORDS,
};
use crate::{
    alert::text::grouped,
    replay::{alert_line, minute},
};

/// Colleagues in the list of the busiest.
const BUSIEST: usize = 5;
/// Days of event time between two plain lines.
const LINE_EVERY_DAYS: u32 = 14;

/// How the demo shows itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A panel, redrawn in place.
    Panel,
    /// Lines for people.
    Lines,
    /// One JSON object a line.
    Json,
}

/// The flow at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Events that have passed detect.
    pub events: u64,
    /// Records they delivered to people, the nightly copy left out.
    pub records: u64,
    /// Events sent that detect has not applied yet.
    pub lag: u64,
    /// Since the start.
    pub elapsed: Duration,
}

impl Flow {
    /// Events a second since the start.
    #[must_use]
    pub fn rate(&self) -> u64 {
        let elapsed_ms = u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX);
        self.events * 1000 / elapsed_ms.max(1)
    }
}

/// Writes what there is to see.
pub struct View<'a> {
    mode: Mode,
    to: &'a mut dyn Write,
    /// Draws the panel, knows the size of the terminal; hidden in the other modes.
    panel: ProgressBar,
    /// First day of the next plain line.
    due: Day,
    /// Daily messages of episodes that go on.
    ongoing: u64,
}

impl<'a> View<'a> {
    /// A view that has shown nothing.
    pub fn new(mode: Mode, to: &'a mut dyn Write) -> Self {
        let panel = match mode {
            Mode::Panel => ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout())
                .with_style(
                    ProgressStyle::with_template("{msg}")
                        .unwrap_or_else(|_| ProgressStyle::default_spinner()),
                ),
            Mode::Lines | Mode::Json => ProgressBar::hidden(),
        };
        Self { mode, to, panel, due: Day(0), ongoing: 0 }
    }

    /// A line about the run itself.
    pub fn say(&mut self, text: &str) -> io::Result<()> {
        match self.mode {
            Mode::Json => self.object(&json!({"kind": "note", "text": text})),
            Mode::Panel | Mode::Lines => self.line(text),
        }
    }

    /// An alert, as it comes out of the alert topic.
    pub fn alert(&mut self, payload: &[u8], alert: &Value) -> io::Result<()> {
        if self.mode == Mode::Json {
            return self.object(&json!({"kind": "alert", "alert": alert}));
        }
        let reason = alert.pointer("/unmapped/exfilwatch/reason").and_then(Value::as_str);
        if reason == Some("ongoing") {
            self.ongoing += 1;
            return Ok(());
        }
        self.line(&format!("ALERT {}", alert_line(payload)))
    }

    /// How things stand. Plain lines and JSON are written only every two weeks of event time.
    pub fn progress(&mut self, flow: &Flow, tally: &Tally) -> io::Result<()> {
        if self.mode == Mode::Panel {
            self.panel.set_message(panel(flow, tally, self.ongoing).join("\n"));
            self.panel.tick();
            return Ok(());
        }
        let day = Day::of(tally.now());
        if day < self.due || flow.events == 0 {
            return Ok(());
        }
        self.due = Day((day.0 / LINE_EVERY_DAYS + 1) * LINE_EVERY_DAYS);
        if self.mode == Mode::Json {
            return self.object(&progress_object(flow, tally));
        }
        let limit = LIMITS[SHOWN_LIMIT];
        let (name, records) =
            tally.busiest(1).first().map_or(("nobody", 0), |(p, r)| (p.name.as_str(), *r));
        self.line(&format!(
            "{}  {:>9} events {:>8}/s  lag {:>6}  busiest {name} {} of {} in {}",
            day.date(),
            grouped(flow.events),
            grouped(flow.rate()),
            grouped(flow.lag),
            grouped(records),
            grouped(limit.above),
            limit.window,
        ))
    }

    /// The end: the curve, what was counted, what was lost, who was accused.
    pub fn end(&mut self, end: &End<'_>) -> io::Result<()> {
        self.panel.finish_and_clear();
        if self.mode == Mode::Json {
            return self.object(&end.object());
        }
        for line in end.lines(self.ongoing) {
            writeln!(self.to, "{line}")?;
        }
        self.to.flush()
    }

    /// A line, above the panel where there is one.
    fn line(&mut self, text: &str) -> io::Result<()> {
        self.panel.suspend(|| {
            writeln!(self.to, "{text}")?;
            self.to.flush()
        })
    }

    fn object(&mut self, object: &Value) -> io::Result<()> {
        writeln!(self.to, "{object}")?;
        self.to.flush()
    }
}

/// What is to be said at the end.
#[derive(Debug)]
pub struct End<'a> {
    /// The flow as a whole.
    pub flow: Flow,
    /// Events sent to the input topic.
    pub sent: u64,
    /// Events that ingest read.
    pub read: u64,
    /// Events that detect applied, each once.
    pub applied: u64,
    /// Rows of the events topic that were no event under way: seen twice, or never sent.
    pub repeated: u64,
    /// Everybody's counts.
    pub tally: &'a Tally,
    /// The folder with the files.
    pub folder: &'a str,
}

impl End<'_> {
    /// Whether every event was counted once.
    #[must_use]
    pub const fn all_counted(&self) -> bool {
        self.sent == self.read && self.sent == self.applied && self.repeated == 0
    }

    /// Whether the demo shows what it is there to show: every event counted, at most a twentieth
    /// lost, nobody else accused.
    #[must_use]
    pub fn is_well(&self) -> bool {
        let outcome = self.tally.outcome();
        self.all_counted() && outcome.lost <= STOLEN_RECORDS / 20 && outcome.accused.is_empty()
    }

    fn object(&self) -> Value {
        let outcome = self.tally.outcome();
        json!({
            "kind": "summary",
            "sent": self.sent,
            "read": self.read,
            "applied": self.applied,
            "all_counted": self.all_counted(),
            "stolen": STOLEN_RECORDS,
            "lost_before_first_alert": outcome.lost,
            "noticed_at_ms": outcome.noticed_at.map(crate::units::EventTime::millis),
            "insider": self.tally.insider().name,
            "accused_wrongly": outcome.accused,
            "alerts": outcome.alerts,
            "system_alerts": outcome.system_alerts,
            "seconds": self.flow.elapsed.as_secs_f64(),
            "folder": self.folder,
        })
    }

    fn lines(&self, ongoing: u64) -> Vec<String> {
        let outcome = self.tally.outcome();
        let mut lines = curve(self.tally);
        lines.push(String::new());
        let verdict = if self.all_counted() { "all counted" } else { "NOT all counted" };
        lines.push(format!(
            "{} events sent = {} read = {} applied: {verdict}",
            grouped(self.sent),
            grouped(self.read),
            grouped(self.applied)
        ));
        lines.push(lost(&outcome, &self.tally.insider().name));
        lines.push(match outcome.accused.as_slice() {
            [] => "colleagues accused wrongly: none".to_owned(),
            accused => {
                format!("colleagues accused wrongly: {}: {}", accused.len(), accused.join(", "))
            }
        });
        lines.push(format!(
            "{} alerts, of these {} daily updates of one that goes on; {} about exfilwatch itself",
            grouped(outcome.alerts),
            grouped(ongoing),
            grouped(outcome.system_alerts)
        ));
        let seconds = self.flow.elapsed.as_secs_f64();
        lines.push(format!("{seconds:.1} s, {} events a second", grouped(self.flow.rate())));
        lines.push(format!("files are in {}; the same without Kafka:", self.folder));
        lines.push(replay_command(self.folder));
        lines
    }
}

/// The command that replays what the demo leaves behind.
#[must_use]
pub fn replay_command(folder: &str) -> String {
    use super::files::{CONFIG_FILE, EVENTS_FILE};
    // As it was called: a newcomer who ran it by cargo has no `exfilwatch` in the path.
    let program = std::env::args().next().unwrap_or_else(|| "exfilwatch".to_owned());
    format!("  {program} replay -c {folder}/{CONFIG_FILE} {folder}/{EVENTS_FILE}")
}

fn lost(outcome: &Outcome, insider: &str) -> String {
    let stolen = grouped(u64::from(STOLEN_RECORDS));
    match outcome.noticed_at {
        None => format!("all {stolen} records left unnoticed: no alert on {insider}"),
        Some(at) => {
            let percent = f64::from(outcome.lost) * 100.0 / f64::from(STOLEN_RECORDS);
            let lost = grouped(u64::from(outcome.lost));
            let at = minute(at);
            format!(
                "{lost} of {stolen} records ({percent:.1} %) had left when the first alert named \
                 {insider}, {at}"
            )
        }
    }
}

fn curve(tally: &Tally) -> Vec<String> {
    let limit = LIMITS[SHOWN_LIMIT];
    let name = &tally.insider().name;
    let mut lines = vec![format!(
        "records read in {} by {name}, the insider, against the limit of {}",
        limit.window,
        grouped(limit.above)
    )];
    lines.extend(draw(tally.curve(), limit.above));
    lines
}

fn panel(flow: &Flow, tally: &Tally, ongoing: u64) -> Vec<String> {
    let limit = LIMITS[SHOWN_LIMIT];
    let mut lines = vec![String::new()];
    lines.push(format!(
        "{}   {} events, {}/s   {} records to people   lag {} events",
        Day::of(tally.now()).date(),
        grouped(flow.events),
        grouped(flow.rate()),
        grouped(flow.records),
        grouped(flow.lag)
    ));
    lines.push(String::new());
    lines.push(format!("busiest in {}, limit {}", limit.window, grouped(limit.above)));
    for (person, records) in tally.busiest(BUSIEST) {
        let bar = usize::try_from(records * 30 / limit.above.max(1)).unwrap_or(0).min(60);
        let over = if records > limit.above { " over the limit" } else { "" };
        let (name, records) = (&person.name, grouped(records));
        lines.push(format!("  {name:18} {records:>6} {}{over}", "█".repeat(bar)));
    }
    lines.push(String::new());
    lines.extend(curve(tally));
    let alerts = grouped(tally.outcome().alerts);
    lines.push(format!("alerts {alerts}, of these {} daily updates", grouped(ongoing)));
    lines
}

fn progress_object(flow: &Flow, tally: &Tally) -> Value {
    let busiest = tally.busiest(BUSIEST);
    let busiest = busiest.iter().map(|(p, records)| json!({"id": p.name, "records": records}));
    json!({
        "kind": "progress",
        "day": Day::of(tally.now()).date().to_string(),
        "events": flow.events,
        "events_per_second": flow.rate(),
        "records": flow.records,
        "lag": flow.lag,
        "window": LIMITS[SHOWN_LIMIT].window,
        "limit": LIMITS[SHOWN_LIMIT].above,
        "busiest": busiest.collect::<Vec<_>>(),
        "alerts": tally.outcome().alerts,
    })
}
