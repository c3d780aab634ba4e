//! The id of a topic, which one made again under the same name does not share (D1).
//!
//! Without it, rows of the new topic would look like rows that were counted already. rust-rdkafka
//! has no safe call for it, so this file talks to librdkafka itself: one question, one answer,
//! nothing kept; `tests/it` holds it, for the embedded broker does not answer.
//! Never here: a decision about what an unknown id means.
#![expect(unsafe_code, reason = "rust-rdkafka does not wrap DescribeTopics")]

use std::{
    ffi::{CStr, CString},
    ptr,
    time::Duration,
};

use rdkafka::{
    bindings as sys,
    client::{Client, ClientContext},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
};

/// What librdkafka calls the id of a topic whose broker gives none.
const NO_ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Frees what it holds when it goes out of scope.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Owned<T> {
    fn new(pointer: *mut T, free: unsafe extern "C" fn(*mut T)) -> Option<Self> {
        (!pointer.is_null()).then_some(Self(pointer, free))
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new` took a pointer that is not null with the function that frees its kind, and
        // nobody else frees it.
        unsafe { (self.1)(self.0) }
    }
}

/// The id of `topic` as `kafka-topics.sh --describe` shows it; none from a broker too old to have
/// ids.
///
/// # Errors
/// There was no answer within `timeout`, or the topic is not there.
pub fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> KafkaResult<Option<String>> {
    let name = CString::new(topic)?;
    let Some(event) = ask(client, &name, timeout) else {
        return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
    };
    // SAFETY: the event is alive.
    let code = RDKafkaErrorCode::from(unsafe { sys::rd_kafka_event_error(event.0) });
    match code {
        RDKafkaErrorCode::NoError => read(&event),
        RDKafkaErrorCode::UnsupportedFeature => Ok(None),
        code => Err(KafkaError::AdminOp(code)),
    }
}

fn ask<C: ClientContext>(
    client: &Client<C>,
    name: &CStr,
    timeout: Duration,
) -> Option<Owned<sys::rd_kafka_event_t>> {
    let mut names = [name.as_ptr()];
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: `client` outlives every pointer made here; `names` holds one valid C string and is
    // copied by the collection; the options may be null; every object is freed by `Owned` after
    // its last use, in the reverse order of their making.
    unsafe {
        let queue =
            Owned::new(sys::rd_kafka_queue_new(client.native_ptr()), sys::rd_kafka_queue_destroy)?;
        let topics = Owned::new(
            sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len()),
            sys::rd_kafka_TopicCollection_destroy,
        )?;
        sys::rd_kafka_DescribeTopics(client.native_ptr(), topics.0, ptr::null(), queue.0);
        Owned::new(sys::rd_kafka_queue_poll(queue.0, timeout_ms), sys::rd_kafka_event_destroy)
    }
}

fn read(event: &Owned<sys::rd_kafka_event_t>) -> KafkaResult<Option<String>> {
    let strange = Err(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage));
    // SAFETY: the event is alive while it is borrowed and owns everything read here; the result is
    // null unless the event is an answer to DescribeTopics, the list has `count` entries, an error
    // may be null, and an id's text is a C string owned by the id.
    unsafe {
        let result = sys::rd_kafka_event_DescribeTopics_result(event.0);
        if result.is_null() {
            return strange;
        }
        let mut count = 0;
        let list = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if list.is_null() || count != 1 {
            return strange;
        }
        let code = sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(*list));
        let code = RDKafkaErrorCode::from(code);
        if code != RDKafkaErrorCode::NoError {
            return Err(KafkaError::AdminOp(code));
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(*list);
        if id.is_null() {
            return Ok(None);
        }
        let text = sys::rd_kafka_Uuid_base64str(id);
        if text.is_null() {
            return Ok(None);
        }
        let text = CStr::from_ptr(text).to_string_lossy();
        Ok((text != NO_ID).then(|| text.into_owned()))
    }
}
