//! Who works in the staged support organisation: about 300 people on three sites and one machine.
//!
//! Names are invented from lists; addresses are from the ranges kept for documentation.

use super::{
    calendar::Day,
    chance::{Chance, Purpose},
};

/// What somebody is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Takes calls; most of the staff.
    Agent,
    /// Takes what agents pass on: fewer reads, longer lists.
    Specialist,
    /// Ordinary work, and the monthly reports.
    Analyst,
    /// Joins in the ninth week and ramps up.
    NewHire,
    /// The nightly copy into the warehouse, a service account of group `etl`.
    Etl,
}

impl Role {
    /// The group an event names.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::Agent | Self::NewHire => "support-l1",
            Self::Specialist => "support-l2",
            Self::Analyst => "reporting",
            Self::Etl => "etl",
        }
    }
}

/// Where somebody sits: a fixed distance from UTC and a range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// UTC.
    Lisbon,
    /// Seven hours behind.
    Denver,
    /// Eight hours ahead.
    Manila,
}

impl Site {
    /// All sites.
    pub const ALL: [Self; 3] = [Self::Lisbon, Self::Denver, Self::Manila];

    /// The group an event names.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::Lisbon => "site-lisbon",
            Self::Denver => "site-denver",
            Self::Manila => "site-manila",
        }
    }

    const fn network(self) -> &'static str {
        match self {
            Self::Lisbon => "192.0.2",
            Self::Denver => "198.51.100",
            Self::Manila => "203.0.113",
        }
    }

    /// Minutes after midnight UTC at which it is `hour` o'clock there; never negative for the
    /// hours at which shifts begin.
    const fn minute_of(self, hour: u32) -> u32 {
        match self {
            Self::Lisbon => hour * 60,
            Self::Denver => (hour + 7) * 60,
            Self::Manila => (hour - 8) * 60,
        }
    }
}

/// One member of the staff.
#[derive(Clone, Debug, PartialEq)]
pub struct Person {
    /// As events write it.
    pub name: String,
    /// What they are there for.
    pub role: Role,
    /// Where they sit.
    pub site: Site,
    /// Address of their desk.
    pub address: String,
    /// Their own pace; 1 is ordinary.
    pub pace: f64,
    /// Beginning of the shift, minutes after midnight UTC.
    pub shift_minute: u32,
    /// Works Wednesday to Sunday instead of Monday to Friday.
    pub weekends: bool,
    /// First day at work.
    pub joined: Day,
}

impl Person {
    /// Whether they work on `day`.
    #[must_use]
    pub fn works_on(&self, day: Day) -> bool {
        let off = if self.weekends { day.weekday() < 2 } else { day.is_weekend() };
        self.role == Role::Etl || (day >= self.joined && !off)
    }
}

/// Length of a shift in minutes.
pub const SHIFT_MINUTES: u32 = 9 * 60;

/// The day the new hire begins: the ninth Monday.
const NEW_HIRE_JOINS: Day = Day(8 * 7);

const FIRST: [&str; 20] = [
    "ana", "ben", "carla", "dmitri", "elif", "farah", "goran", "hana", "ines", "jonas", "kofi",
    "lena", "mateo", "nadia", "omar", "priya", "quentin", "rosa", "samir", "tala",
];
const LAST: [&str; 25] = [
    "abara", "bakker", "castro", "duarte", "eriksen", "flores", "garcia", "haddad", "ivanov",
    "jansen", "kimura", "lopez", "mensah", "novak", "okafor", "pereira", "quiroga", "reyes",
    "santos", "tanaka", "uddin", "varga", "walker", "yilmaz", "zhou",
];

/// The staff of `seed`: `people` persons and the ETL account, which comes last.
///
/// # Panics
/// More people are asked for than names can be made: 500.
#[must_use]
pub fn hire(seed: u64, people: u16) -> Vec<Person> {
    let names = FIRST.len() * LAST.len();
    assert!(usize::from(people) <= names, "at most {names} people have names");
    let mut chance = Chance::new(seed, Purpose::Staff);
    // A step coprime to the number of names visits each name once.
    let first_name = chance.below(500) as usize;
    let mut staff: Vec<Person> = (0..people)
        .map(|index| {
            let name = (first_name + usize::from(index) * 187) % names;
            person(index, format!("{}.{}", FIRST[name % 20], LAST[name / 20]), &mut chance)
        })
        .collect();
    staff.push(etl());
    staff
}

fn person(index: u16, name: String, chance: &mut Chance) -> Person {
    let role = match index {
        0 => Role::NewHire,
        1..=10 => Role::Analyst,
        11..=58 => Role::Specialist,
        _ => Role::Agent,
    };
    let site = Site::ALL[usize::from(index) % 3];
    let hour = [8, 9, 11, 13][chance.below(4) as usize];
    Person {
        name,
        role,
        site,
        address: format!("{}.{}", site.network(), 10 + index / 3),
        pace: chance.around(1.0, 0.2).clamp(0.6, 1.6),
        shift_minute: site.minute_of(hour),
        weekends: matches!(role, Role::Agent) && chance.happens(0.2),
        joined: if role == Role::NewHire { NEW_HIRE_JOINS } else { Day(0) },
    }
}

fn etl() -> Person {
    Person {
        name: "svc-etl".to_owned(),
        role: Role::Etl,
        site: Site::Lisbon,
        address: "127.0.0.1".to_owned(),
        pace: 1.0,
        shift_minute: 2 * 60,
        weekends: true,
        joined: Day(0),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn everybody_has_a_name_and_a_desk_of_their_own() {
        let staff = hire(3, 300);
        assert_eq!(staff.len(), 301);
        assert_eq!(staff.iter().map(|p| &p.name).collect::<HashSet<_>>().len(), 301);
        assert_eq!(staff.iter().map(|p| &p.address).collect::<HashSet<_>>().len(), 301);
    }

    #[test]
    fn addresses_are_for_documentation_or_loopback() {
        for person in hire(3, 300) {
            let known = ["192.0.2.", "198.51.100.", "203.0.113.", "127."];
            assert!(known.iter().any(|range| person.address.starts_with(range)));
            assert!(person.address.parse::<std::net::Ipv4Addr>().is_ok(), "{}", person.address);
        }
    }

    #[test]
    fn the_new_hire_does_nothing_before_joining() {
        let staff = hire(3, 300);
        assert!(!staff[0].works_on(Day(55)));
        assert!(staff[0].works_on(Day(56)));
    }

    #[test]
    fn every_shift_begins_on_its_own_day() {
        assert!(hire(3, 300).iter().all(|person| person.shift_minute < 24 * 60));
    }
}
