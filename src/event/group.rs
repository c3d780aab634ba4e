//! By what counts are kept: each grouping in use is a route of its own.

use serde::{Deserialize, Serialize};

/// What counts are kept by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum GroupBy {
    /// The canonical principal over all sources.
    #[serde(rename = "principal.id")]
    PrincipalId,
    /// Customer or organisation.
    #[serde(rename = "principal.tenant")]
    PrincipalTenant,
    /// Network address of the client.
    #[serde(rename = "client.address")]
    ClientAddress,
    /// Full name of each matching object, each charged in full.
    #[serde(rename = "object")]
    Object,
    /// Instance of the source.
    #[serde(rename = "source.instance")]
    SourceInstance,
}

impl GroupBy {
    /// Every grouping; the position is its route number in the events topic.
    pub const ALL: [Self; 5] = [
        Self::PrincipalId,
        Self::PrincipalTenant,
        Self::ClientAddress,
        Self::Object,
        Self::SourceInstance,
    ];

    /// As rules and alerts write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PrincipalId => "principal.id",
            Self::PrincipalTenant => "principal.tenant",
            Self::ClientAddress => "client.address",
            Self::Object => "object",
            Self::SourceInstance => "source.instance",
        }
    }

    /// The grouping rules write so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|group_by| group_by.as_str() == text)
    }
}
