//! Against an exact fold of the events: who must be found, who must not, and order of messages.

use proptest::prelude::*;

use crate::rules::Severity::{Critical, High};

use super::*;

const LIMITS: [(u64, u64); 3] = [(MINUTE, 50), (HOUR, 200), (DAY, 500)];

#[derive(Clone, Debug)]
struct Read {
    principal: u8,
    at_s: u64,
    rows: u64,
}

/// In order of event time, so that no lateness blurs the bounds.
fn reads() -> impl Strategy<Value = Vec<Read>> {
    let read = (0..4_u8, prop_oneof![0..90_u64, 0..4000_u64, 0..40_000_u64], 0..60_u64);
    prop::collection::vec(read, 1..120).prop_map(|reads| {
        let mut at_s = 0;
        let mut ordered = Vec::new();
        for (principal, gap_s, rows) in reads {
            at_s += gap_s;
            ordered.push(Read { principal, at_s, rows });
        }
        ordered
    })
}

fn exact(reads: &[Read], last: usize, span_s: u64) -> u64 {
    let newest = &reads[last];
    reads[..=last]
        .iter()
        .filter(|r| r.principal == newest.principal && r.at_s + span_s > newest.at_s)
        .map(|read| read.rows)
        .sum()
}

fn limits() -> Vec<WrittenRule> {
    LIMITS
        .iter()
        .map(|&(span_s, above)| rule(&format!("r{span_s}"), &[(span_s, above, High)]))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whoever_passes_a_limit_is_found_and_whoever_never_does_is_not(reads in reads()) {
        let mut rig = Rig::new(&limits());
        for (index, read) in reads.iter().enumerate() {
            rig.read(&format!("p{}", read.principal), read.at_s, read.rows);
            let hash = crate::event::route::hash((1, 2), &format!("p{}", read.principal));
            for (number, &(span_s, above)) in LIMITS.iter().enumerate() {
                if exact(&reads, index, span_s) > above {
                    prop_assert!(rig.engine.has_episode(number, hash), "missed {read:?}");
                }
                let ever = (0..=index).filter(|&i| reads[i].principal == read.principal)
                    .any(|i| exact(&reads, i, span_s + span_s / 5) > above);
                if !ever {
                    prop_assert!(!rig.engine.has_episode(number, hash), "accused {read:?}");
                }
            }
        }
    }

    #[test]
    fn however_the_log_is_cut_into_messages_the_alerts_are_the_same(
        reads in reads(), cuts in prop::collection::vec(any::<bool>(), 120)
    ) {
        let written = [rule("r", &[(MINUTE, 50, High), (HOUR, 200, Critical)])];
        let (mut whole, mut cut) = (Rig::new(&written), Rig::new(&written));
        for (read, flush) in reads.iter().zip(cuts) {
            let event = event(&format!("p{}", read.principal), read.at_s, read.rows);
            whole.push(&event);
            cut.push(&event);
            if flush {
                cut.flush();
            }
        }
        whole.flush();
        cut.flush();
        prop_assert_eq!(whole.alerts(), cut.alerts());
    }
}
