//! What the demo knows while it runs: exact counts of everybody, the insider's curve, the alerts.
//!
//! Reads come in the order of the events topic and alerts as they come out of the alert topic; the
//! truth is only asked at the end.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::units::EventTime;

use super::{
    calendar::Day,
    files::RULE,
    limits::{ExactWindow, LIMITS},
    organisation::Read,
    staff::{Person, Role},
    theft::{STOLEN_RECORDS, Theft},
};

/// The limit whose window the curve shows: that of a week.
pub const SHOWN_LIMIT: usize = 2;

/// Counts of the run so far.
#[derive(Debug)]
pub struct Tally {
    staff: Vec<Person>,
    theft: Theft,
    week: ExactWindow,
    /// Records of a week, of everybody.
    records: Vec<u64>,
    /// The insider's week at its highest, by day.
    curve: Vec<u64>,
    now: EventTime,
    alerts: u64,
    first_crossing: Option<EventTime>,
    accused: BTreeSet<String>,
    system: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Event time of the read at which the insider was first noticed.
    pub noticed_at: Option<EventTime>,
    /// Records that had left by then: all of them if never.
    pub lost: u32,
    /// Colleagues accused wrongly.
    pub accused: Vec<String>,
    /// Alerts of the rule.
    pub alerts: u64,
    /// Alerts about exfilwatch itself.
    pub system_alerts: u64,
}

impl Tally {
    /// A tally of nothing, for `days` days.
    #[must_use]
    pub fn new(staff: &[Person], theft: &Theft, days: Day) -> Self {
        Self {
            week: ExactWindow::new(LIMITS[SHOWN_LIMIT].window_ms, staff.len()),
            records: vec![0; staff.len()],
            // A shift of the last day may run past midnight.
            curve: vec![0; days.0 as usize + 1],
            staff: staff.to_vec(),
            theft: theft.clone(),
            now: EventTime::default(),
            alerts: 0,
            first_crossing: None,
            accused: BTreeSet::new(),
            system: 0,
        }
    }

    /// A read has passed through the events topic.
    pub fn read(&mut self, read: &Read) {
        self.now = self.now.max(read.at);
        let person = usize::from(read.person);
        if !read.work.is_personal() || self.staff[person].role == Role::Etl {
            return;
        }
        let records = self.week.add(read);
        self.records[person] = records;
        if read.person == self.theft.insider {
            let day = (Day::of(read.at).0 as usize).min(self.curve.len() - 1);
            self.curve[day] = self.curve[day].max(records);
        }
    }

    /// An alert has come out of the alert topic.
    pub fn alert(&mut self, alert: &Value) {
        let text = |pointer| alert.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        if text("/finding_info/analytic/uid") != RULE {
            self.system += 1;
            return;
        }
        self.alerts += 1;
        let key = text("/unmapped/exfilwatch/key");
        if key != self.insider().name {
            self.accused.insert(key.to_owned());
            return;
        }
        let crossed_at = alert.pointer("/unmapped/exfilwatch/crossed_at").and_then(Value::as_i64);
        if let Some(crossed_at) = crossed_at.map(EventTime::from_millis) {
            let first = self.first_crossing.map_or(crossed_at, |first| first.min(crossed_at));
            self.first_crossing = Some(first);
        }
    }

    /// The one who steals.
    #[must_use]
    pub fn insider(&self) -> &Person {
        &self.staff[usize::from(self.theft.insider)]
    }

    /// The latest event time seen.
    #[must_use]
    pub const fn now(&self) -> EventTime {
        self.now
    }

    /// The insider's week at its highest, by day.
    #[must_use]
    pub fn curve(&self) -> &[u64] {
        &self.curve
    }

    /// Those with most records in their last week of work, most first.
    #[must_use]
    pub fn busiest(&self, people: usize) -> Vec<(&Person, u64)> {
        let mut all: Vec<_> = self.staff.iter().zip(self.records.iter().copied()).collect();
        all.sort_by_key(|(_, records)| std::cmp::Reverse(*records));
        all.truncate(people);
        all
    }

    /// What came of it so far.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        Outcome {
            noticed_at: self.first_crossing,
            lost: self.first_crossing.map_or(STOLEN_RECORDS, |at| self.theft.taken_by(at)),
            accused: self.accused.iter().cloned().collect(),
            alerts: self.alerts,
            system_alerts: self.system,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::demo::organisation::{Organisation, Spec};

    fn tally() -> Tally {
        let spec = Spec { people: 80, quiet_days: 7, theft_days: 7, ..Spec::incident(1) };
        let organisation = Organisation::new(spec);
        let (staff, theft) = (organisation.staff().to_vec(), organisation.theft().clone());
        let mut tally = Tally::new(&staff, &theft, spec.end());
        organisation.for_each(|read| tally.read(&read));
        tally
    }

    fn alert(key: &str, crossed_at: EventTime) -> Value {
        json!({
            "finding_info": {"analytic": {"uid": RULE}},
            "unmapped": {"exfilwatch": {"key": key, "crossed_at": crossed_at.millis()}},
        })
    }

    #[test]
    fn the_insider_is_the_busiest_and_the_curve_rises_with_the_theft() {
        let tally = tally();
        assert_eq!(tally.busiest(1)[0].0, tally.insider());
        assert!(tally.curve()[6] < 1_000);
        assert!(tally.curve().iter().max().unwrap() > &60_000);
        assert!(tally.busiest(80).iter().all(|(person, _)| person.role != Role::Etl));
    }

    #[test]
    fn records_are_lost_until_the_first_crossing() {
        let mut tally = tally();
        assert_eq!(tally.outcome().lost, STOLEN_RECORDS);
        let at = tally.theft.reads[9].at;
        let name = tally.insider().name.clone();
        tally.alert(&alert(&name, at.plus_millis(60_000_000)));
        tally.alert(&alert(&name, at));
        let ten: u32 = tally.theft.reads[..10].iter().map(|read| read.records).sum();
        let outcome = tally.outcome();
        assert_eq!((outcome.noticed_at, outcome.lost, outcome.alerts), (Some(at), ten, 2));
        assert!(outcome.accused.is_empty());
    }

    #[test]
    fn an_alert_on_a_colleague_is_an_accusation_and_one_on_the_system_is_none() {
        let mut tally = tally();
        tally.alert(&alert("somebody.else", Day(1).start()));
        tally.alert(&alert("somebody.else", Day(2).start()));
        tally.alert(&json!({"finding_info": {"analytic": {"uid": "exfilwatch.reload"}}}));
        let outcome = tally.outcome();
        assert_eq!(outcome.accused, ["somebody.else"]);
        assert_eq!((outcome.system_alerts, outcome.noticed_at), (1, None));
    }
}
