//! The truth of the staged incident: which reads are stolen, planned before the first day begins.
//!
//! Exactly [`STOLEN_RECORDS`], spread over the insider's own working days and shift in reads as
//! small as anybody's. Kept apart from the events, which do not tell a stolen read from another.

use crate::units::EventTime;

use super::{
    calendar::{Day, MINUTE_MS},
    chance::{Chance, Purpose, rounded},
    staff::{Person, Role, SHIFT_MINUTES},
};

/// What the insider takes in all: the figure published for Trend Micro, 2019.
pub const STOLEN_RECORDS: u32 = 68_000;

/// Longest page of the support console's customer search, and so the longest stolen read.
pub const PAGE_ROWS: u32 = 25;
/// Shortest stolen read, but for what is left at the end of a day.
const SHORTEST_READ: u32 = 4;

/// One stolen read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stolen {
    /// When.
    pub at: EventTime,
    /// Records.
    pub records: u32,
}

/// Who steals what and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theft {
    /// Index of the insider in the staff.
    pub insider: u16,
    /// In time order.
    pub reads: Vec<Stolen>,
}

impl Theft {
    /// Plans a theft by one of the agents of `staff` from the day `first` to before `end`.
    ///
    /// # Panics
    /// The staff has no agent who works in that time.
    #[must_use]
    pub fn plan(seed: u64, staff: &[Person], first: Day, end: Day) -> Self {
        let mut chance = Chance::new(seed, Purpose::Theft);
        let agents: Vec<u16> =
            (0u16..).zip(staff).filter(|(_, p)| p.role == Role::Agent).map(|(i, _)| i).collect();
        let agents_count = u32::try_from(agents.len()).unwrap_or(u32::MAX);
        let insider = agents[chance.below(agents_count) as usize];
        let person = &staff[usize::from(insider)];
        let days: Vec<(Day, f64)> = (first.0..end.0)
            .map(Day)
            .filter(|day| person.works_on(*day))
            .map(|day| (day, chance.around(1.0, 0.15)))
            .collect();
        let mut left_weight: f64 = days.iter().map(|(_, weight)| weight).sum();
        let mut left = STOLEN_RECORDS;
        let mut reads = Vec::new();
        for (day, weight) in days {
            // What is left over what is left to do it in: the last day takes the rest exactly.
            let today = rounded(f64::from(left) * weight / left_weight).min(left);
            left -= today;
            left_weight -= weight;
            take(today, day, person, &mut chance, &mut reads);
        }
        assert_eq!(left, 0, "the insider works in that time");
        reads.sort_unstable_by_key(|read| (read.at, read.records));
        Self { insider, reads }
    }

    /// Records stolen up to and including `at`.
    #[must_use]
    pub fn taken_by(&self, at: EventTime) -> u32 {
        self.reads.iter().take_while(|read| read.at <= at).map(|read| read.records).sum()
    }
}

/// Splits a day's loot into small reads at random moments of the shift.
fn take(records: u32, day: Day, person: &Person, chance: &mut Chance, reads: &mut Vec<Stolen>) {
    let mut left = records;
    while left > 0 {
        let records = chance.between(SHORTEST_READ, PAGE_ROWS).min(left);
        left -= records;
        reads.push(Stolen { at: moment(day, person, chance), records });
    }
}

/// A random moment of the shift that begins on `day`.
pub(super) fn moment(day: Day, person: &Person, chance: &mut Chance) -> EventTime {
    let span_ms = SHIFT_MINUTES * 60_000;
    day.start()
        .plus_millis(i64::from(person.shift_minute) * MINUTE_MS + i64::from(chance.below(span_ms)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::staff;

    #[test]
    fn the_theft_is_the_published_number_to_the_record_whatever_the_seed() {
        for seed in 0..50 {
            let staff = staff::hire(seed, 300);
            let theft = Theft::plan(seed, &staff, Day(14), Day(182));
            assert_eq!(theft.reads.iter().map(|read| read.records).sum::<u32>(), STOLEN_RECORDS);
            assert_eq!(staff[usize::from(theft.insider)].role, Role::Agent);
            assert_eq!(theft.taken_by(Day(14).start()), 0);
            assert_eq!(theft.taken_by(Day(183).start()), STOLEN_RECORDS);
        }
    }

    #[test]
    fn no_stolen_read_is_longer_than_a_page_of_the_console() {
        let theft = Theft::plan(1, &staff::hire(1, 300), Day(14), Day(182));
        assert!(theft.reads.iter().all(|read| (1..=PAGE_ROWS).contains(&read.records)));
    }
}
