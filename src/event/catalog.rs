//! What the configuration says about objects: labels and sizes by glob over the full name.
//!
//! The first entry that matches an object is the only one that applies. Labels are added to the
//! record's own; a size is filled in only where the record has none, because the source knows best.

use wildmatch::WildMatch;

use super::Object;
use super::context::ContextObject;

/// One line of `catalog:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Glob over full names: `*` crosses dots, `?` is one character, case does not matter.
    pub object: String,
    /// Labels added to the object's own.
    pub labels: Vec<String>,
    /// Size, where the record says none.
    pub row_count: Option<u64>,
}

/// The compiled `catalog:`.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    entries: Vec<(WildMatch, CatalogEntry)>,
}

impl Catalog {
    /// Compiles the globs, in the order of the configuration.
    #[must_use]
    pub fn new(entries: Vec<CatalogEntry>) -> Self {
        let compile = |entry: CatalogEntry| (WildMatch::new_case_insensitive(&entry.object), entry);
        Self { entries: entries.into_iter().map(compile).collect() }
    }

    /// The object as rules see it, and the index of the entry that matched it.
    ///
    /// Allocates; callers intern the result and ask once for each distinct object.
    #[must_use]
    pub fn resolve(
        &self,
        object: &Object<'_>,
        source_database: Option<&str>,
    ) -> (ContextObject, Option<usize>) {
        let mut resolved = parts(object, source_database);
        resolved.labels = object.labels.iter().map(|label| Box::from(&**label)).collect();
        resolved.row_count = object.row_count;
        let matches = |(glob, _): &(WildMatch, CatalogEntry)| glob.matches(&resolved.full_name);
        let hit = self.entries.iter().position(matches);
        if let Some((_, entry)) = hit.map(|index| &self.entries[index]) {
            for label in &entry.labels {
                if !resolved.labels.iter().any(|own| **own == **label) {
                    resolved.labels.push(label.as_str().into());
                }
            }
            resolved.row_count = resolved.row_count.or(entry.row_count);
        }
        (resolved, hit)
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Full name and parts, without labels and size.
fn parts(object: &Object<'_>, source_database: Option<&str>) -> ContextObject {
    if object.full {
        return short_form(&object.name);
    }
    let database = object.database.as_deref().or(source_database);
    let schema = object.schema.as_deref();
    let written = [database, schema, Some(&*object.name)];
    let full_name = written.into_iter().flatten().collect::<Vec<_>>().join(".");
    ContextObject {
        full_name: full_name.into(),
        database: database.map(Box::from),
        schema: schema.map(Box::from),
        name: Box::from(&*object.name),
        ..ContextObject::default()
    }
}

/// A full name read from its end: `name`, `schema.name` or `database.schema.name`. A path such as
/// `s3://bucket/file.csv` has dots that mean something else, and is a name as a whole.
fn short_form(full_name: &str) -> ContextObject {
    let (mut rest, mut schema, mut name) = (None, None, full_name);
    if !full_name.contains('/') {
        if let Some((before, last)) = full_name.rsplit_once('.') {
            (rest, name) = (Some(before), last);
        }
        schema = rest.map(|rest| rest.rsplit_once('.').map_or(rest, |(_, last)| last));
        rest = rest.and_then(|rest| rest.rsplit_once('.')).map(|(before, _)| before);
    }
    ContextObject {
        full_name: full_name.into(),
        database: rest.map(Box::from),
        schema: schema.map(Box::from),
        name: name.into(),
        ..ContextObject::default()
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;

    fn entry(object: &str, labels: &[&str], row_count: Option<u64>) -> CatalogEntry {
        let labels = labels.iter().map(ToString::to_string).collect();
        CatalogEntry { object: object.into(), labels, row_count }
    }

    fn table<'a>(schema: &'a str, name: &'a str) -> Object<'a> {
        Object { schema: Some(schema.into()), name: name.into(), ..Object::default() }
    }

    #[test]
    fn the_first_entry_that_matches_is_the_only_one() {
        let catalog = Catalog::new(vec![
            entry("crm.public.customers*", &["pii"], Some(12)),
            entry("crm.*", &["internal"], Some(99)),
        ]);
        let (object, hit) = catalog.resolve(&table("public", "customers_eu"), Some("crm"));
        assert_eq!((&*object.full_name, hit), ("crm.public.customers_eu", Some(0)));
        assert_eq!((object.labels, object.row_count), (vec!["pii".into()], Some(12)));
        let (object, hit) = catalog.resolve(&table("deep.er", "orders"), Some("crm"));
        assert_eq!((object.labels, hit), (vec!["internal".into()], Some(1)));
    }

    #[test]
    fn globs_match_without_regard_to_case_and_cross_dots() {
        let catalog = Catalog::new(vec![entry("CRM*customer?", &["pii"], None)]);
        let (object, hit) = catalog.resolve(&table("Public", "CustomerS"), Some("crm"));
        assert_eq!((&*object.full_name, hit), ("crm.Public.CustomerS", Some(0)));
        assert_eq!(catalog.resolve(&table("public", "customers_eu"), Some("crm")).1, None);
    }

    #[test]
    fn what_the_record_says_stays_and_labels_are_merged_without_repeats() {
        let catalog = Catalog::new(vec![entry("*", &["pii", "gdpr"], Some(5))]);
        let mut object = table("public", "customers");
        object.labels = smallvec!["own".into(), "pii".into()];
        object.row_count = Some(7);
        let (object, _) = catalog.resolve(&object, None);
        assert_eq!(object.labels, ["own", "pii", "gdpr"].map(Box::<str>::from));
        assert_eq!((&*object.full_name, object.row_count), ("public.customers", Some(7)));
    }

    #[test]
    fn a_short_form_is_a_full_name_whose_parts_are_read_from_its_end() {
        let short = |name: &'static str| {
            let object = Object { name: name.into(), full: true, ..Object::default() };
            let object = Catalog::default().resolve(&object, Some("ignored")).0;
            assert_eq!(&*object.full_name, name);
            let part = |part: Option<Box<str>>| part.map(String::from).unwrap_or_default();
            [part(object.database), part(object.schema), object.name.into()]
        };
        assert_eq!(short("customers"), ["", "", "customers"]);
        assert_eq!(short("public.customers"), ["", "public", "customers"]);
        assert_eq!(short("crm.public.customers"), ["crm", "public", "customers"]);
        assert_eq!(short("lake.crm.public.customers"), ["lake.crm", "public", "customers"]);
        assert_eq!(short("s3://b/f.csv"), ["", "", "s3://b/f.csv"]);
    }
}
