//! What the configuration says about objects: labels and sizes by glob.

/// One line of `catalog:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Glob over full names.
    pub object: String,
    /// Labels added to the object's own.
    pub labels: Vec<String>,
    /// Size, where the record says none.
    pub row_count: Option<u64>,
}
