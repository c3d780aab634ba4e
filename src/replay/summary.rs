//! What a replay says at its end, as JSON (`--summary`) and for people.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

/// Counts of a whole replay. In events, `read` = `applied` + `duplicate` + `dead_lettered` +
/// `too_late` + `ignored`; an event that several rules count by several keys is one event.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Rows of all inputs; a record that cannot be decoded at all counts as one.
    pub read: u64,
    /// Counted, or matched by no rule.
    pub applied: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Could not become an event.
    pub dead_lettered: u64,
    /// Past every window that would have counted them.
    pub too_late: u64,
    /// Rightly no event.
    pub ignored: u64,
    /// Of those applied, events whose time lay after `--as-of`.
    pub clamped: u64,
    /// Messages by rule id: openings, updates and closings alike.
    pub alerts: BTreeMap<String, u64>,
    /// Events by the rule whose filter they matched; a rule at 0 watches nothing.
    pub matched: BTreeMap<String, u64>,
    /// Events by the catalogue entry that described one of their objects.
    pub catalog: BTreeMap<String, u64>,
    /// Distinct principals.
    pub principals: u64,
    /// From start to end.
    pub wall_seconds: f64,
    /// Of this process, all threads; null where the system does not say.
    pub cpu_seconds: Option<f64>,
}

impl Summary {
    /// Whether anything fired: what exit code 1 stands for.
    #[must_use]
    pub fn has_alerts(&self) -> bool {
        !self.alerts.is_empty()
    }

    /// True when every event read is accounted for.
    #[must_use]
    pub const fn adds_up(&self) -> bool {
        self.read
            == self.applied + self.duplicate + self.dead_lettered + self.too_late + self.ignored
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "read {} = applied {} + duplicate {} + dead-lettered {} + too late {} + ignored {}",
            self.read,
            self.applied,
            self.duplicate,
            self.dead_lettered,
            self.too_late,
            self.ignored
        )?;
        write!(f, "{} principals, {:.1} s", self.principals, self.wall_seconds)?;
        if let Some(cpu_seconds) = self.cpu_seconds {
            write!(f, " ({cpu_seconds:.1} s CPU)")?;
        }
        writeln!(f)?;
        if self.clamped > 0 {
            writeln!(f, "{} events lie after --as-of and were moved back to it", self.clamped)?;
        }
        for (rule, matched) in &self.matched {
            let alerts = self.alerts.get(rule).copied().unwrap_or(0);
            let blind = if *matched == 0 { ": it watches nothing here" } else { "" };
            writeln!(f, "rule {rule}: {matched} events matched, {alerts} alerts{blind}")?;
        }
        for (object, matched) in self.catalog.iter().filter(|(_, matched)| **matched == 0) {
            writeln!(f, "catalog {object}: {matched} events matched: it describes nothing here")?;
        }
        Ok(())
    }
}

/// CPU time this process has used so far, in seconds.
#[must_use]
pub fn cpu_seconds() -> Option<f64> {
    // The kernel tells user space in hundredths of a second on every Linux that Rust runs on.
    const TICKS_A_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; what follows it does not.
    let fields = stat.rsplit_once(')')?.1;
    let mut times = fields.split_ascii_whitespace().skip(11).map(str::parse::<u32>);
    let user = times.next()?.ok()?;
    let system = times.next()?.ok()?;
    Some((f64::from(user) + f64::from(system)) / TICKS_A_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_seconds_move_with_work() {
        let Some(before) = cpu_seconds() else { return };
        let mut sum = 0u64;
        while cpu_seconds().unwrap() <= before {
            sum = (0..1_000_000u64).fold(sum, |sum, n| sum.wrapping_mul(31).wrapping_add(n));
        }
        assert_ne!(sum, 1);
    }

    #[test]
    fn a_rule_that_matches_nothing_is_named() {
        let summary = Summary {
            read: 2,
            applied: 1,
            ignored: 1,
            matched: BTreeMap::from([("blind".to_owned(), 0)]),
            ..Summary::default()
        };
        assert!(summary.adds_up());
        assert!(!summary.has_alerts());
        assert!(summary.to_string().contains("rule blind: 0 events matched, 0 alerts: it watches"));
    }
}
