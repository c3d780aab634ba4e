//! Ordinary work and the theft among it, as reads in event-time order.
//!
//! One day at a time: memory is that of a day. The same specification gives the same reads; the
//! theft comes from [`Theft`] and nothing in a [`Read`] tells it apart.

use crate::units::EventTime;

use super::{
    calendar::{Day, MINUTE_MS},
    chance::{Chance, Purpose},
    staff::{self, Person, Role},
    theft::{PAGE_ROWS, Theft, moment},
};

/// Records in the customer table.
pub const CUSTOMERS: u32 = 12_000_000;

/// What is staged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Of everything.
    pub seed: u64,
    /// People, the ETL account not among them.
    pub people: u16,
    /// Days before the theft begins.
    pub quiet_days: u32,
    /// Days of theft after them.
    pub theft_days: u32,
    /// Whether the insider steals; without it they only work.
    pub theft: bool,
}

impl Spec {
    /// The incident of the demo: 300 people, two quiet weeks, then 168 days of theft (the tempo
    /// published for AT&T Mexico: 405 records a day on average).
    #[must_use]
    pub const fn incident(seed: u64) -> Self {
        Self { seed, people: 300, quiet_days: 14, theft_days: 168, theft: true }
    }

    /// The same organisation, and nobody steals: what limits may be learnt from.
    #[must_use]
    pub const fn quiet(seed: u64) -> Self {
        Self { theft: false, ..Self::incident(seed) }
    }

    /// The day after the last.
    #[must_use]
    pub const fn end(&self) -> Day {
        Day(self.quiet_days + self.theft_days)
    }
}

/// Kinds of read, each one query of the support console or a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A customer by number.
    Lookup,
    /// A page of the customer search.
    Search,
    /// A customer's contacts.
    Contacts,
    /// A customer's tickets; no personal data.
    Tickets,
    /// A page of a monthly report.
    Report,
    /// A slice of the nightly copy.
    Extract,
}

impl Work {
    /// The table it reads, in `crm.public`.
    #[must_use]
    pub const fn table(self) -> &'static str {
        match self {
            Self::Lookup | Self::Search | Self::Report | Self::Extract => "customers",
            Self::Contacts => "customer_contacts",
            Self::Tickets => "tickets",
        }
    }

    /// Whether the catalogue labels that table `pii`.
    #[must_use]
    pub const fn is_personal(self) -> bool {
        !matches!(self, Self::Tickets)
    }
}

/// One read by one person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// When.
    pub at: EventTime,
    /// Index in the staff.
    pub person: u16,
    /// Of what kind.
    pub work: Work,
    /// Records delivered.
    pub rows: u32,
}

/// The organisation at work: an iterator over its reads.
#[derive(Debug)]
pub struct Organisation {
    spec: Spec,
    staff: Vec<Person>,
    theft: Theft,
    stolen: usize,
    chance: Chance,
    day: Day,
    /// Reads of the days begun so far that were not yet handed out, latest first.
    ahead: Vec<Read>,
}

impl Organisation {
    /// The organisation of `spec`, before its first day.
    #[must_use]
    pub fn new(spec: Spec) -> Self {
        let staff = staff::hire(spec.seed, spec.people);
        let theft = Theft::plan(spec.seed, &staff, Day(spec.quiet_days), spec.end());
        Self {
            spec,
            staff,
            theft,
            stolen: 0,
            chance: Chance::new(spec.seed, Purpose::Work),
            day: Day(0),
            ahead: Vec::new(),
        }
    }

    /// Everybody, by the index reads name.
    #[must_use]
    pub fn staff(&self) -> &[Person] {
        &self.staff
    }

    /// The truth; planned even when the specification leaves it out.
    #[must_use]
    pub const fn theft(&self) -> &Theft {
        &self.theft
    }

    fn begin_day(&mut self) {
        let (day, chance) = (self.day, &mut self.chance);
        let surge = Surge::on(day, chance, self.spec.people);
        for (index, person) in (0u16..).zip(&self.staff) {
            if person.works_on(day) {
                let mut desk = Desk { index, person, day, chance, reads: &mut self.ahead };
                desk.work(surge.factor(index));
            }
        }
        self.day = Day(day.0 + 1);
        if self.spec.theft {
            // A shift may run past midnight; its reads are taken up with the next day, if any.
            let last = self.day >= self.spec.end();
            let until = if last { EventTime::from_millis(i64::MAX) } else { self.day.start() };
            while let Some(read) = self.theft.reads.get(self.stolen).filter(|r| r.at < until) {
                self.ahead.push(Read {
                    at: read.at,
                    person: self.theft.insider,
                    work: Work::Search,
                    rows: read.records,
                });
                self.stolen += 1;
            }
        }
        self.ahead.sort_by_key(|read| std::cmp::Reverse((read.at, read.person)));
    }

    fn is_over(&self) -> bool {
        self.day >= self.spec.end()
    }
}

impl Iterator for Organisation {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        // A read is final once the day after it has not begun: no later day can come before it.
        while !self.is_over() && self.ahead.last().is_none_or(|read| read.at >= self.day.start()) {
            self.begin_day();
        }
        self.ahead.pop()
    }
}

/// An incident at a customer: those on call have three times the work, once a week.
struct Surge {
    first: u16,
    today: bool,
}

impl Surge {
    /// Six people are on call, another six every week.
    const ON_CALL: u16 = 6;

    fn on(day: Day, chance: &mut Chance, people: u16) -> Self {
        let week = u16::try_from(day.week()).unwrap_or(u16::MAX);
        let first = week.wrapping_mul(Self::ON_CALL) % people.max(1);
        Self { first, today: !day.is_weekend() && chance.happens(0.2) }
    }

    fn factor(&self, person: u16) -> f64 {
        let on_call = (self.first..self.first + Self::ON_CALL).contains(&person);
        if self.today && on_call { 3.0 } else { 1.0 }
    }
}

/// One person's day.
struct Desk<'a> {
    index: u16,
    person: &'a Person,
    day: Day,
    chance: &'a mut Chance,
    reads: &'a mut Vec<Read>,
}

impl Desk<'_> {
    fn work(&mut self, surge: f64) {
        match self.person.role {
            Role::Etl => self.extract(),
            Role::Agent => self.answer(29.0 * surge),
            Role::Specialist => self.answer(22.0 * surge),
            Role::NewHire => {
                let days = f64::from(self.day.0 - self.person.joined.0);
                self.answer(29.0 * surge * (0.2 + days / 35.0).min(1.0));
            }
            Role::Analyst if self.day.is_month_end() => {
                self.answer(8.0);
                self.report();
            }
            Role::Analyst => self.answer(16.0 * surge),
        }
    }

    /// Calls and tickets, all through the shift.
    fn answer(&mut self, calls: f64) {
        for _ in 0..self.chance.count_around(calls * self.person.pace, 0.25, 1, 250) {
            let at = moment(self.day, self.person, self.chance);
            let (work, rows) = match self.chance.below(100) {
                0..45 => (Work::Lookup, 1),
                45..70 => (Work::Search, self.chance.count_around(6.0, 0.9, 1, PAGE_ROWS)),
                70..80 => (Work::Contacts, self.chance.between(1, 4)),
                _ => (Work::Tickets, self.chance.count_around(12.0, 0.8, 1, 200)),
            };
            self.push(at, work, rows);
        }
    }

    /// A monthly report: pages of it, one every few minutes.
    fn report(&mut self) {
        let mut at = moment(self.day, self.person, self.chance);
        for _ in 0..self.chance.between(8, 12) {
            at = at.plus_millis(i64::from(self.chance.between(3, 15)) * MINUTE_MS);
            let rows = self.chance.between(30, 50);
            self.push(at, Work::Report, rows);
        }
    }

    /// The nightly copy: the whole table in slices of half a million.
    fn extract(&mut self) {
        const SLICE: u32 = 500_000;
        let start = self.day.start().plus_millis(i64::from(self.person.shift_minute) * MINUTE_MS);
        for slice in 0..CUSTOMERS / SLICE {
            let jitter_ms = i64::from(self.chance.below(30_000));
            let at = start.plus_millis(i64::from(slice) * MINUTE_MS + jitter_ms);
            self.push(at, Work::Extract, SLICE);
        }
    }

    fn push(&mut self, at: EventTime, work: Work, rows: u32) {
        self.reads.push(Read { at, person: self.index, work, rows });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::theft::STOLEN_RECORDS;

    fn small(seed: u64) -> Spec {
        Spec { people: 80, quiet_days: 7, theft_days: 21, ..Spec::incident(seed) }
    }

    #[test]
    fn reads_come_in_event_time_order() {
        let reads: Vec<Read> = Organisation::new(small(5)).collect();
        assert!(reads.len() > 10_000, "{}", reads.len());
        assert!(reads.is_sorted_by_key(|read| read.at));
    }

    #[test]
    fn one_seed_gives_the_same_reads_and_another_gives_others() {
        let of = |seed| Organisation::new(small(seed)).take(5_000).collect::<Vec<_>>();
        assert_eq!(of(5), of(5));
        assert_ne!(of(5), of(6));
    }

    #[test]
    fn the_theft_adds_the_stolen_records_and_changes_nothing_else() {
        let rows = |spec: Spec| {
            let organisation = Organisation::new(spec);
            let insider = organisation.theft().insider;
            let mut sums = [0u64; 2];
            for read in organisation {
                sums[usize::from(read.person == insider)] += u64::from(read.rows);
            }
            sums
        };
        let with = rows(small(5));
        let without = rows(Spec { theft: false, ..small(5) });
        assert_eq!(with[0], without[0]);
        assert_eq!(with[1], without[1] + u64::from(STOLEN_RECORDS));
    }

    #[test]
    fn the_incident_has_about_a_million_events() {
        let events = Organisation::new(Spec::incident(1)).count();
        assert!((900_000..1_500_000).contains(&events), "{events}");
    }
}
