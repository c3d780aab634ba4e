//! The days of the staged incident: a fixed past Monday, weekends, month-ends.
//!
//! Never here: today. Days are counted from the start; all of them are UTC.

use jiff::civil::{Date, Weekday};

use crate::units::EventTime;

/// Milliseconds in a minute.
pub const MINUTE_MS: i64 = 60_000;
/// Milliseconds in a day.
pub const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// 2026-01-05T00:00:00Z, a Monday.
pub const START: EventTime = EventTime::from_millis(1_767_571_200_000);

/// A day by its number; day 0 is that of [`START`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub u32);

impl Day {
    /// Midnight, when the day begins.
    #[must_use]
    pub fn start(self) -> EventTime {
        START.plus_millis(i64::from(self.0) * DAY_MS)
    }

    /// The day that holds `at`; times before the start belong to day 0.
    #[must_use]
    pub fn of(at: EventTime) -> Self {
        let day = (at.millis() - START.millis()).div_euclid(DAY_MS);
        Self(u32::try_from(day).unwrap_or(0))
    }

    /// Days since Monday.
    #[must_use]
    pub const fn weekday(self) -> u32 {
        self.0 % 7
    }

    /// Saturday or Sunday.
    #[must_use]
    pub const fn is_weekend(self) -> bool {
        self.weekday() >= 5
    }

    /// The week it belongs to.
    #[must_use]
    pub const fn week(self) -> u32 {
        self.0 / 7
    }

    /// One of the days of the monthly reports: the last two working days of a month and the first.
    #[must_use]
    pub fn is_month_end(self) -> bool {
        if self.is_weekend() {
            return false;
        }
        let date = self.date();
        let working = |day: &Date| !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
        let later = std::iter::successors(date.tomorrow().ok(), |day| day.tomorrow().ok())
            .take_while(|day| day.month() == date.month())
            .filter(working)
            .count();
        let earlier = date.first_of_month().series(jiff::Span::new().days(1));
        let earlier = earlier.take_while(|day| *day < date).filter(working).count();
        later < 2 || earlier == 0
    }

    /// In the calendar of people.
    #[must_use]
    pub fn date(self) -> Date {
        jiff::civil::date(2026, 1, 5).saturating_add(jiff::Span::new().days(i64::from(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_is_a_monday_at_midnight() {
        let start = jiff::Timestamp::from_millisecond(START.millis()).unwrap();
        assert_eq!(start.to_string(), "2026-01-05T00:00:00Z");
        assert_eq!(Day(0).date().weekday(), Weekday::Monday);
        assert_eq!(Day::of(START.plus_millis(DAY_MS - 1)), Day(0));
        assert_eq!(Day::of(START.plus_millis(DAY_MS)), Day(1));
    }

    #[test]
    fn reports_fall_on_the_last_two_working_days_and_the_first() {
        let days: Vec<String> = (0..31)
            .map(Day)
            .filter(|day| day.is_month_end())
            .map(|day| day.date().to_string())
            .collect();
        // 31 January and 1 February 2026 are a weekend.
        assert_eq!(days, ["2026-01-29", "2026-01-30", "2026-02-02"]);
    }
}
