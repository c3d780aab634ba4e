//! How the names of one person become one principal: the key that reads are charged to.
//!
//! A name is folded (NFKC and case; what cannot be seen is dropped), stripped of its domain, looked
//! up among the aliases, and put behind its qualifiers. Pure and total: every written name has
//! exactly one canonical form, at most [`CANONICAL_BYTES_MAX`] long and never empty.
//!
//! Never here: confusable letters. A Cyrillic `а` stays apart from a Latin `a`, because merging two
//! real people on a resemblance would accuse one for the other.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::Hasher;

use icu_casemap::CaseMapper;
use siphasher::sip::SipHasher13;
use unicode_normalization::UnicodeNormalization;

/// Longest canonical principal, in bytes. A longer one keeps its beginning and ends in a hash of
/// the whole, so that two long names stay two keys.
pub const CANONICAL_BYTES_MAX: usize = 512;

/// The one key of all names of which nothing can be seen (zero-width, control and white-space
/// characters only): such names are variants of each other, and must not hide in as many keys.
/// No visible name can reach it while case is folded, because it is in capitals.
pub const INVISIBLE: &str = "(INVISIBLE)";

/// Bytes at the end of a cut name: an ellipsis and 16 hexadecimal digits.
const CUT_MARK_BYTES: usize = '…'.len_utf8() + 16;

/// `identity:` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySpec {
    /// Written name to principal; both sides are folded as names are.
    pub aliases: Vec<(String, String)>,
    /// NFKC and case folding, without which a name counts byte for byte as written.
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

/// The compiled `identity:`.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Folded name to folded principal.
    aliases: HashMap<Box<str>, Box<str>>,
    fold_case: bool,
    /// Folded, without `@` or `\`.
    strip_domains: Vec<Box<str>>,
    qualify_by: Vec<Qualifier>,
}

impl Default for Identity {
    fn default() -> Self {
        Self::new(&IdentitySpec::default())
    }
}

impl Identity {
    /// Folds the names of `spec` once, so that a record's name needs one lookup.
    #[must_use]
    pub fn new(spec: &IdentitySpec) -> Self {
        let fold = |name: &str| {
            let mut folded = String::new();
            push_folded(name, spec.fold_case, &mut folded);
            folded.into_boxed_str()
        };
        Self {
            aliases: spec.aliases.iter().map(|(name, to)| (fold(name), fold(to))).collect(),
            fold_case: spec.fold_case,
            strip_domains: spec
                .strip_domains
                .iter()
                .map(|domain| fold(domain.trim_start_matches('@').trim_end_matches('\\')))
                .collect(),
            qualify_by: spec.qualify_by.clone(),
        }
    }

    /// The canonical principal, written into `scratch`, which is cleared first and stays allocated.
    ///
    /// Aliases are looked up before the domain is stripped and, where that finds none, after. A
    /// qualifier that the record does not have is empty: `/jdoe` is nobody's `jdoe` in particular.
    pub fn canonical<'s>(
        &self,
        written: &str,
        tenant: Option<&str>,
        instance: Option<&str>,
        scratch: &'s mut String,
    ) -> &'s str {
        scratch.clear();
        for qualifier in &self.qualify_by {
            let value = match qualifier {
                Qualifier::Tenant => tenant,
                Qualifier::SourceInstance => instance,
            };
            self.push_qualifier(value.unwrap_or_default(), scratch);
        }
        let start = scratch.len();
        push_folded(written, self.fold_case, scratch);
        if !self.replace_alias(scratch, start) && self.strip_domain(scratch, start) {
            self.replace_alias(scratch, start);
        }
        bound(scratch);
        scratch
    }

    /// Folds a group key that is no principal (a tenant, an address, an object, an instance) as
    /// names are folded, whatever `fold_case` says, so that spellings are no hiding place.
    pub fn fold_key<'s>(text: &str, scratch: &'s mut String) -> &'s str {
        scratch.clear();
        push_folded(text, true, scratch);
        bound(scratch);
        scratch
    }

    /// Appends `value/`. The number of qualifiers is fixed by the configuration, so it is enough to
    /// escape the slashes inside each: `a/b` + `c` is `a\/b/c`, while `a` + `b/c` is `a/b/c`.
    fn push_qualifier(&self, value: &str, out: &mut String) {
        let start = out.len();
        if !value.is_empty() {
            push_folded(value, self.fold_case, out);
        }
        if out[start..].contains(['/', '\\']) {
            let escaped = out[start..].replace('\\', "\\\\").replace('/', "\\/");
            out.replace_range(start.., &escaped);
        }
        out.push('/');
    }

    fn replace_alias(&self, name: &mut String, start: usize) -> bool {
        if self.aliases.is_empty() {
            return false;
        }
        let Some(principal) = self.aliases.get(&name[start..]) else { return false };
        name.truncate(start);
        name.push_str(principal);
        true
    }

    /// Removes one `@domain` and one `DOMAIN\`, unless nothing would be left.
    fn strip_domain(&self, name: &mut String, start: usize) -> bool {
        if self.strip_domains.is_empty() {
            return false;
        }
        let listed = |domain: &str| self.strip_domains.iter().any(|d| **d == *domain);
        let before = name.len();
        if let Some((user, domain)) = name[start..].rsplit_once('@')
            && !user.is_empty()
            && listed(domain)
        {
            name.truncate(start + user.len());
        }
        if let Some((domain, user)) = name[start..].split_once('\\')
            && !user.is_empty()
            && listed(domain)
        {
            let user_at = name.len() - user.len();
            name.replace_range(start..user_at, "");
        }
        name.len() != before
    }
}

/// Appends `name` as names are compared; never nothing.
fn push_folded(name: &str, fold_case: bool, out: &mut String) {
    let start = out.len();
    if !fold_case {
        out.push_str(name);
    } else if name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        out.push_str(name.trim_matches(' '));
        out[start..].make_ascii_lowercase();
    } else {
        push_unicode_folded(name, out);
    }
    if out.len() == start {
        out.push_str(INVISIBLE);
    }
}

/// Unicode's `NFKC_Casefold` with control characters and surrounding white space dropped as well.
#[cold]
fn push_unicode_folded(name: &str, out: &mut String) {
    const CASES: icu_casemap::CaseMapperBorrowed<'static> = CaseMapper::new();
    let visible = |c: &char| !c.is_control() && !is_default_ignorable(*c);
    // Decomposing may bring forth capitals, and folding what decomposes: hence both twice.
    let plain: String = name.chars().filter(visible).nfkd().filter(visible).collect();
    let folded: String = CASES.fold_string(&plain).nfkd().collect();
    let composed: String = CASES.fold_string(&folded).nfkc().collect();
    out.push_str(composed.trim());
}

/// Unicode's `Default_Ignorable_Code_Point`: what is not shown even where no font has it
/// (zero-width joiners, soft hyphens, bidi controls, variation selectors, fillers, tags).
const fn is_default_ignorable(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
        | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Cuts `name` to [`CANONICAL_BYTES_MAX`], ending in a hash of all of it.
fn bound(name: &mut String) {
    if name.len() <= CANONICAL_BYTES_MAX {
        return;
    }
    let mut hasher = SipHasher13::new();
    hasher.write(name.as_bytes());
    name.truncate(name.floor_char_boundary(CANONICAL_BYTES_MAX - CUT_MARK_BYTES));
    write!(name, "…{:016x}", hasher.finish()).expect("a String takes any text");
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn canonical(spec: &IdentitySpec, written: &str) -> String {
        Identity::new(spec).canonical(written, None, None, &mut String::new()).to_owned()
    }

    fn folded(written: &str) -> String {
        canonical(&IdentitySpec::default(), written)
    }

    fn qualified(written: &str, tenant: Option<&str>) -> String {
        let spec = IdentitySpec { qualify_by: vec![Qualifier::Tenant], ..IdentitySpec::default() };
        Identity::new(&spec).canonical(written, tenant, None, &mut String::new()).to_owned()
    }

    fn corp() -> IdentitySpec {
        IdentitySpec {
            aliases: vec![("CORP\\JDoe".into(), "jane".into()), ("bob".into(), "Robert".into())],
            strip_domains: vec!["CORP".into(), "@Corp.Example".into()],
            ..IdentitySpec::default()
        }
    }

    #[test]
    fn ten_thousand_variants_of_a_name_are_one_principal() {
        let hidden =
            ['\u{200b}', '\u{200d}', '\u{ad}', '\u{feff}', '\u{202e}', '\u{7}', '\u{fe0f}'];
        let mut seen = HashSet::new();
        for variant in 0..10_000_usize {
            let mut name = String::new();
            for (at, letter) in "jdoe".chars().enumerate() {
                match (variant >> (2 * at)) % 4 {
                    0 => name.push(letter),
                    1 => name.push(letter.to_ascii_uppercase()),
                    // Full-width forms of both cases.
                    2 => name.extend(char::from_u32(letter as u32 + 0xfee0)),
                    _ => name.extend(char::from_u32(letter.to_ascii_uppercase() as u32 + 0xfee0)),
                }
                if at == variant % 4 {
                    name.push(hidden[(variant >> 8) % hidden.len()]);
                }
            }
            seen.insert(folded(&name));
        }
        assert_eq!(seen, HashSet::from(["jdoe".to_owned()]));
    }

    #[test]
    fn case_folding_is_unicode_and_not_only_ascii() {
        assert_eq!(folded("MÜLLER"), folded("mu\u{308}ller"));
        assert_eq!(folded("STRASSE"), folded("straße"));
        assert_eq!(folded("ΣΊΣΥΦΟΣ"), folded("σίσυφος"));
        assert_eq!(folded("\u{212a}elvin"), "kelvin");
        assert_eq!(folded("  jdoe\n"), "jdoe");
    }

    #[test]
    fn letters_that_only_look_alike_stay_two_principals() {
        assert_ne!(folded("аdmin"), folded("admin"));
    }

    #[test]
    fn without_folding_a_name_counts_as_written() {
        let spec = IdentitySpec { fold_case: false, ..IdentitySpec::default() };
        assert_eq!(canonical(&spec, "JDoe\u{200b}"), "JDoe\u{200b}");
    }

    #[test]
    fn names_of_which_nothing_is_seen_share_one_key_that_is_not_empty() {
        for name in ["\u{200b}", "\u{200b}\u{feff}", "\t", "  ", "\u{3164}", ""] {
            assert_eq!(folded(name), INVISIBLE);
        }
        assert_ne!(folded("(invisible)"), INVISIBLE);
        assert_ne!(folded("(INVISIBLE)"), INVISIBLE);
    }

    #[test]
    fn domains_are_stripped_on_either_side_but_only_those_listed() {
        for name in ["corp\\ann", "Ann@corp.example", "CORP\\ann@CORP.EXAMPLE", "ann"] {
            assert_eq!(canonical(&corp(), name), "ann");
        }
        assert_eq!(canonical(&corp(), "ann@elsewhere.example"), "ann@elsewhere.example");
        assert_eq!(canonical(&corp(), "@corp.example"), "@corp.example");
        assert_eq!(folded("CORP\\ann"), "corp\\ann");
    }

    #[test]
    fn an_alias_is_found_before_and_after_the_domain_is_stripped() {
        assert_eq!(canonical(&corp(), "Corp\\jdoe"), "jane");
        assert_eq!(canonical(&corp(), "jdoe"), "jdoe");
        assert_eq!(canonical(&corp(), "BOB@corp.example"), "robert");
    }

    #[test]
    fn qualifiers_keep_equal_names_apart_whatever_they_contain() {
        assert_eq!(qualified("JDoe", Some("Acme")), "acme/jdoe");
        assert_eq!(qualified("c", Some("a/b")), "a\\/b/c");
        assert_eq!(qualified("b/c", Some("a")), "a/b/c");
        assert_ne!(qualified("c", Some("a\\")), qualified("c", Some("a")));
        assert_eq!(qualified("jdoe", None), "/jdoe");
        assert_eq!(qualified("jdoe", Some("")), "/jdoe");
    }

    #[test]
    fn a_very_long_name_is_bounded_and_still_its_own_key() {
        let (one, two) = (format!("{}1", "x".repeat(600)), format!("{}2", "x".repeat(600)));
        assert!(folded(&one).len() <= CANONICAL_BYTES_MAX);
        assert_ne!(folded(&one), folded(&two));
        let expanding = "\u{fdfa}".repeat(1000);
        assert!(folded(&expanding).len() <= CANONICAL_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn a_canonical_name_is_its_own_canonical_name(name in "\\PC{0,24}|[a-zA-Z ]{0,8}|.{0,8}") {
            let once = folded(&name);
            prop_assume!(once != INVISIBLE);
            prop_assert_eq!(folded(&once), once);
        }

        #[test]
        fn two_qualified_pairs_are_equal_only_if_both_parts_are(
            a in "[a/\\\\]{0,4}", b in "[a/\\\\]{1,4}", c in "[a/\\\\]{0,4}", d in "[a/\\\\]{1,4}",
        ) {
            let same = qualified(&b, Some(&a)) == qualified(&d, Some(&c));
            prop_assert_eq!(same, a == c && b == d);
        }
    }
}
