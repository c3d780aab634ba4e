//! Which events a meter counts: `where` and `unless`, decided once per distinct context.

use crate::event::context::Context;

/// A compiled filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    _todo: (),
}

/// What a context alone says of a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No row with this context matches.
    Never,
    /// Every row with this context matches.
    Always,
    /// Ask [`Filter::matches_row`]: the filter names the principal, the address or the query.
    PerRow,
}

/// The fields of a row that are not in its context.
#[derive(Clone, Copy, Debug, Default)]
pub struct RowFields<'a> {
    /// Canonical principal.
    pub principal: &'a str,
    /// Network address of the client.
    pub client_address: Option<&'a str>,
    /// Fingerprint of the query.
    pub query_fingerprint: Option<&'a str>,
}

impl Filter {
    /// Decides by context. `object` is the index of the object a row is grouped by
    /// (`group_by: object`): then the object keys of `where` must hold for that very object.
    #[must_use]
    pub fn on_context(&self, _context: &Context, _object: Option<usize>) -> Verdict {
        Verdict::Always
    }

    /// Decides the row where the context alone could not.
    #[must_use]
    pub fn matches_row(&self, _context: &Context, _object: Option<usize>, _row: RowFields<'_>) -> bool {
        true
    }
}
