//! A read as the canonical JSON event a database proxy would send: about 500 bytes.
//!
//! Labels and table sizes are left out, as sources do not know them; the catalogue does.

use std::io::Write as _;

use jiff::Timestamp;

use crate::units::EventTime;

use super::{
    organisation::{Read, Work},
    staff::{Person, Role},
};

/// Writes the event of `read`, the `number`th of all, into `out`, which is cleared first.
///
/// # Panics
/// Never: writing into memory does not fail, and names need no escaping by construction.
pub fn write(out: &mut Vec<u8>, number: u64, read: &Read, person: &Person) {
    out.clear();
    let kind = if person.role == Role::Etl { "service" } else { "user" };
    let written = write!(
        out,
        concat!(
            r#"{{"event_id":"crm-db-1-{number:010}","event_time":"{time:.3}","#,
            r#""principal":{{"id":"{id}","type":"{kind}","groups":["{role}","{site}"]}},"#,
            r#""source":{{"kind":"postgresql","instance":"crm-db-1","database":"crm"}},"#,
            r#""objects":[{{"schema":"public","name":"{table}"}}],"operation":"select","#,
            r#""destination":"client","rows":{rows},"rows_quality":"exact","rows_written":0,"#,
            r#""bytes":{bytes},"client":{{"address":"{address}","application":"{application}"}},"#,
            r#""query":{{"id":"q-{number:010}","fingerprint":"{fingerprint}"}},"success":true}}"#
        ),
        number = number,
        time = timestamp(read.at),
        id = person.name,
        kind = kind,
        role = person.role.group(),
        site = person.site.group(),
        table = read.work.table(),
        rows = read.rows,
        bytes = u64::from(read.rows) * bytes_a_row(read.work) + 96,
        address = person.address,
        application = application(read.work),
        fingerprint = fingerprint(read.work),
    );
    written.expect("writing into memory does not fail");
}

fn timestamp(at: EventTime) -> Timestamp {
    Timestamp::from_millisecond(at.millis()).unwrap_or_default()
}

const fn bytes_a_row(work: Work) -> u64 {
    match work {
        Work::Lookup => 640,
        Work::Search | Work::Report => 210,
        Work::Contacts => 180,
        Work::Tickets => 330,
        Work::Extract => 402,
    }
}

const fn application(work: Work) -> &'static str {
    match work {
        Work::Report => "monthly-reports",
        Work::Extract => "warehouse-copy",
        _ => "support-console",
    }
}

/// As a proxy would name the text of the query.
const fn fingerprint(work: Work) -> &'static str {
    match work {
        Work::Lookup => "a9f04c1be2d37781",
        Work::Search => "5c1e90aa73b4f206",
        Work::Contacts => "e07d2b6614c8959a",
        Work::Tickets => "31b8f5d20e6a47c3",
        Work::Report => "77a2c9e4d1f05b18",
        Work::Extract => "c4460f8b9e2d1a35",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::{
        organisation::{Organisation, Spec},
        theft::STOLEN_RECORDS,
    };

    #[test]
    fn an_event_is_canonical_json_of_about_500_bytes() {
        let mut organisation = Organisation::new(Spec::incident(1));
        let staff = organisation.staff().to_vec();
        let mut out = Vec::new();
        for number in 0..2_000 {
            let read = organisation.next().unwrap();
            write(&mut out, number, &read, &staff[usize::from(read.person)]);
            assert!((440..560).contains(&out.len()), "{}", String::from_utf8_lossy(&out));
            let event: serde_json::Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(event["rows"], read.rows);
            let time: Timestamp = event["event_time"].as_str().unwrap().parse().unwrap();
            assert_eq!(time.as_millisecond(), read.at.millis());
        }
    }

    #[test]
    fn an_event_never_says_that_it_was_stolen() {
        let spec = Spec { people: 80, quiet_days: 0, theft_days: 7, ..Spec::incident(2) };
        let organisation = Organisation::new(spec);
        let (staff, theft) = (organisation.staff().to_vec(), organisation.theft().clone());
        let mut out = Vec::new();
        let mut stolen = 0;
        for (number, read) in (0..).zip(organisation) {
            write(&mut out, number, &read, &staff[usize::from(read.person)]);
            let text = String::from_utf8(out.clone()).unwrap();
            assert!(!text.contains("stolen") && !text.contains("insider"));
            stolen += u32::from(theft.insider == read.person) * read.rows;
        }
        assert!(stolen > STOLEN_RECORDS);
    }
}
