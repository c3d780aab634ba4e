//! How the names of one person become one principal.

/// `identity:` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySpec {
    /// Written name to principal, applied after folding and stripping.
    pub aliases: Vec<(String, String)>,
    /// NFKC and case folding.
    pub fold_case: bool,
    /// `@domain` suffixes and `DOMAIN\` prefixes to remove.
    pub strip_domains: Vec<String>,
    /// What is put before the name to keep equal names apart.
    pub qualify_by: Vec<Qualifier>,
}

/// One of `identity.qualify_by`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualifier {
    /// `principal.tenant`.
    Tenant,
    /// `source.instance`.
    SourceInstance,
}

impl Default for IdentitySpec {
    fn default() -> Self {
        Self {
            aliases: Vec::new(),
            fold_case: true,
            strip_domains: Vec::new(),
            qualify_by: Vec::new(),
        }
    }
}
