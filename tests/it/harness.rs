//! The harness itself: what the other tests take for granted of the broker.

use std::time::Duration;

use rdkafka::producer::Producer;

use crate::kafka::{self, Compression, Message, send};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_record_comes_back_whole_under_every_compression() {
    let Some(kafka) = kafka::shared() else { return };
    for compression in Compression::ALL {
        let topic = kafka::unique(&format!("echo-{compression:?}"));
        kafka.create_topic(&topic, 2, &[("retention.ms", "60000")]);
        let value = vec![b'x'; 10_000];
        let message = Message::new(value.clone()).key("k").header("a", "1").header("a", "2").to(1);
        kafka.produce(&topic, compression, [message, Message::null()]);
        let mut reader = kafka.reader(&topic);
        let seen = reader.until("two records", SOON, |seen| seen.len() == 2);
        let null = seen.iter().find(|record| record.partition == 0).unwrap();
        assert_eq!((&null.key, &null.value), (&None, &None));
        let whole = seen.iter().find(|record| record.partition == 1).unwrap();
        assert_eq!(whole.value.as_deref(), Some(value.as_slice()));
        assert_eq!(whole.key_text().as_deref(), Some("k"));
        assert_eq!(whole.headers.len(), 2);
        assert_eq!(whole.header("a").as_deref(), Some("2"));
    }
}

#[test]
fn an_aborted_transaction_is_hidden_from_read_committed_and_only_from_it() {
    let Some(kafka) = kafka::shared() else { return };
    let topic = kafka::unique("aborted");
    kafka.create_topic(&topic, 1, &[]);
    let producer = kafka.transaction(&topic);
    for (value, commit) in [("aborted", false), ("committed", true)] {
        producer.begin_transaction().unwrap();
        send(&producer, &topic, &Message::new(value));
        producer.flush(SOON).unwrap();
        if commit {
            producer.commit_transaction(SOON).unwrap();
        } else {
            producer.abort_transaction(SOON).unwrap();
        }
    }
    let values = |seen: &[kafka::Record]| -> Vec<Vec<u8>> {
        seen.iter().map(|record| record.value.clone().unwrap()).collect()
    };
    let mut all = kafka.reader(&topic);
    let seen = all.until("both records", SOON, |seen| seen.len() == 2);
    assert_eq!(values(seen), [b"aborted".to_vec(), b"committed".to_vec()]);
    let mut committed = kafka.committed_reader(&topic);
    let seen = committed.until("the committed record", SOON, |seen| !seen.is_empty());
    assert_eq!(values(seen), [b"committed".to_vec()]);
}

#[test]
fn a_private_broker_keeps_its_records_over_a_sudden_end() {
    let Some(mut broker) = kafka::private() else { return };
    let kafka = broker.client();
    kafka.create_topic("kept", 1, &[("cleanup.policy", "compact")]);
    kafka.produce("kept", Compression::Lz4, [Message::new("v").key("k")]);
    broker.stop();
    assert!(!kafka.answers());
    broker.restart();
    let seen_value =
        kafka.reader("kept").until("the record", SOON, |seen| seen.len() == 1)[0].value.clone();
    assert_eq!(seen_value, Some(b"v".to_vec()));
    assert_eq!(kafka.topic_config("kept", "cleanup.policy"), "compact");
    assert_eq!(kafka.ends("kept"), [1]);
    assert_eq!(kafka.committed("nobody", "kept"), [None]);
}
