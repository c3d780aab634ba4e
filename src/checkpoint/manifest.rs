//! The record that makes a checkpoint of other records.

use serde::{Deserialize, Serialize};

use super::{Kind, Unusable, open, seal};

/// Where a checkpoint belongs. One of another origin is foreign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// Kafka cluster id.
    pub cluster: String,
    /// The topic that detect reads.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// How many it has.
    pub partitions: u32,
}

/// A record that a checkpoint needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Number of a chunk, or place of a part of the head.
    pub number: u64,
    /// Offset in the state partition.
    pub offset: i64,
    /// Checksum in its envelope.
    pub checksum: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Where it belongs.
    pub origin: Origin,
    /// Id of the topic that detect reads, which one made again under the same name does not share.
    pub topic_id: String,
    /// Number of the checkpoint.
    pub number: u64,
    /// The internal offset that it covers up to: a restore reads on from here.
    pub covered: i64,
    /// Revision of the rules in it.
    pub revision: String,
    /// Parts of the head, in order.
    pub head: Vec<Named>,
    /// Chunks, in order.
    pub chunks: Vec<Named>,
    /// Number of the first chunk of the walk that goes on.
    pub walk_from: u64,
    /// Number of the next chunk.
    pub next_chunk: u64,
    /// Numbers of chunks that the manifest before this one names and this one does not.
    pub idle: Vec<u64>,
}

impl Manifest {
    /// As a record.
    #[must_use]
    pub fn to_record(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).expect("plain values have a JSON form");
        seal(Kind::Manifest, &json).0
    }

    /// A record of this origin, read.
    ///
    /// # Errors
    /// It is foreign, too new, corrupt, or of another number of partitions.
    pub fn read(record: &[u8], origin: &Origin) -> Result<Self, Unusable> {
        let (json, _) = open(Kind::Manifest, record)?;
        let manifest: Self = serde_json::from_slice(json)
            .map_err(|error| Unusable::Corrupt(format!("manifest: {error}")))?;
        let was = &manifest.origin;
        if (&was.cluster, &was.topic, was.partition)
            != (&origin.cluster, &origin.topic, origin.partition)
        {
            return Err(Unusable::Foreign(format!(
                "it is of {}[{}] on cluster {}",
                was.topic, was.partition, was.cluster
            )));
        }
        if was.partitions != origin.partitions {
            return Err(Unusable::Repartitioned { was: was.partitions, is: origin.partitions });
        }
        Ok(manifest)
    }

    /// Every record it needs, head first.
    pub fn needed(&self) -> impl Iterator<Item = (Kind, &Named)> {
        let head = self.head.iter().map(|named| (Kind::Head, named));
        head.chain(self.chunks.iter().map(|named| (Kind::Chunk, named)))
    }
}
