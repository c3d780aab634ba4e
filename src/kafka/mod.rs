//! Clients of the broker: their settings, topics, groups, producers, the embedded broker.
//!
//! Never here: what a record means, when an offset is safe. Callbacks of librdkafka only take
//! notes; the thread that polls decides.

mod admin_token;
pub mod client;
pub mod embedded;
pub mod group;
pub mod newest;
pub mod online;
pub mod producer;
pub mod state;
pub mod token;
pub mod topic_id;
pub mod topics;

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// Why work with the broker cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A client could not be made: a wrong setting under `kafka.properties`, as a rule.
    #[error("cannot create the Kafka client `{client}`: {cause}")]
    Client {
        /// Which one.
        client: String,
        /// What librdkafka says.
        cause: KafkaError,
    },
    /// Topics are missing or unfit; every fault and what mends it. A configuration error (exit 78).
    #[error("{}", faults.join("\n"))]
    Topics {
        /// One text a fault.
        faults: Vec<String>,
    },
    /// The broker does not answer.
    #[error("no answer from the broker at {servers}: {cause}")]
    Unreachable {
        /// `kafka.bootstrap_servers`.
        servers: String,
        /// What librdkafka says.
        cause: KafkaError,
    },
    /// No broker has answered in time.
    #[error(
        "no broker answered within {} s; tried {servers}{}",
        waited.as_secs_f64(),
        last(said.as_deref())
    )]
    NoAnswer {
        /// `kafka.bootstrap_servers`.
        servers: String,
        /// How long it was waited for one.
        waited: Duration,
        /// What librdkafka said last of its connections.
        said: Option<String>,
    },
    /// A call to the broker failed.
    #[error("{doing}: {cause}{}", hint(cause))]
    Call {
        /// What was being done.
        doing: String,
        /// What librdkafka says.
        cause: KafkaError,
    },
    /// A client is beyond use: fenced, out of sequence, no longer allowed.
    #[error("Kafka client `{client}` is beyond use: {reason}")]
    Fatal {
        /// Which one.
        client: String,
        /// What librdkafka says.
        reason: String,
    },
}

fn last(said: Option<&str>) -> String {
    said.map(|said| format!("; the last that went wrong: {said}")).unwrap_or_default()
}

/// Where the rights stand that a client lacks.
pub(crate) const RIGHTS: &str = "docs/OPERATIONS.md, \"Rights\", names what exfilwatch may need";

fn hint(cause: &KafkaError) -> String {
    let denied = cause.rdkafka_error_code().is_some_and(is_denied);
    if denied { format!("\n  hint: {RIGHTS}") } else { String::new() }
}

/// True when the cluster has ACLs, and none of them allows this.
fn is_denied(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed
    )
}

impl Error {
    /// An error of a call, with what was being done.
    pub fn call(doing: impl Into<String>) -> impl FnOnce(KafkaError) -> Self {
        let doing = doing.into();
        move |cause| Self::Call { doing, cause }
    }

    /// True when waiting may help: the broker is away, a leader is being elected.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::NoAnswer { .. } => true,
            Self::Call { cause: KafkaError::AdminOp(code), .. } => transient(*code),
            Self::Call { cause, .. } => cause.rdkafka_error_code().is_some_and(transient),
            _ => false,
        }
    }
}

fn transient(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            // Left the metadata of the cluster while it was being asked.
            | Code::DestroyBroker
            | Code::NodeUpdate
            | Code::WaitingForCoordinator
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::NotCoordinator
            | Code::RebalanceInProgress
            | Code::BrokerNotAvailable
            | Code::NetworkException
            | Code::NotController
            | Code::InProgress
            | Code::OffsetNotAvailable
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::KafkaStorageError
            // Made a moment ago, and this broker has not heard of it yet.
            | Code::UnknownTopicOrPartition
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_leaves_the_cluster_while_it_is_asked_is_waited_for() {
        let cause = KafkaError::MetadataFetch(RDKafkaErrorCode::DestroyBroker);
        assert!(Error::call("cannot read the bounds")(cause).is_transient());
        let cause = KafkaError::MetadataFetch(RDKafkaErrorCode::TopicAuthorizationFailed);
        assert!(!Error::call("cannot read the bounds")(cause).is_transient());
    }
}
