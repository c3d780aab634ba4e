//! Which events a meter counts: `where` and `unless`, decided once per distinct context.
//!
//! `where` matches when every key matches; its object keys must all hold for one and the same
//! object. `unless` excludes when every key matches; its object keys must hold for every object,
//! or a join with an excepted table would hide the read. A field the event does not have matches
//! nothing, not even `*`.
//!
//! Never here: an allocation per row, a clock, counts.

use std::borrow::Cow;

use wildmatch::WildMatch;

use super::field::{Field, Scope};
use super::fold;
use crate::event::context::{Context, ContextObject};

/// A compiled filter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    wanted: Clause,
    unless: Clause,
    /// Counts canaries and nothing else; any other filter counts everything else.
    canary: bool,
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
    /// Compiles `where` and `unless` as [`super::written::WrittenRule`] holds them.
    #[must_use]
    pub fn new(wanted: &[(Field, Vec<String>)], unless: &[(Field, Vec<String>)]) -> Self {
        Self { wanted: Clause::new(wanted), unless: Clause::new(unless), canary: false }
    }

    /// The filter of the built-in rule: canaries, and nothing else.
    #[must_use]
    pub fn canaries() -> Self {
        Self { canary: true, ..Self::default() }
    }

    /// Decides by context. `object` is the index of the object a row is grouped by
    /// (`group_by: object`): then the object keys of `where` must hold for that very object.
    #[must_use]
    pub fn on_context(&self, context: &Context, object: Option<usize>) -> Verdict {
        if context.canary != self.canary
            || !self.wanted.holds_on(context)
            || !self.wanted_objects(context, object)
        {
            return Verdict::Never;
        }
        let excluded = self.excludes(context);
        match (excluded, self.unless.row.is_empty(), self.wanted.row.is_empty()) {
            (true, true, _) => Verdict::Never,
            (true, false, _) | (false, _, false) => Verdict::PerRow,
            (false, _, true) => Verdict::Always,
        }
    }

    /// Decides the row where the context alone could not: call it only for a context and object
    /// for which [`Self::on_context`] said [`Verdict::PerRow`].
    #[must_use]
    pub fn matches_row(
        &self,
        context: &Context,
        object: Option<usize>,
        row: RowFields<'_>,
    ) -> bool {
        debug_assert_eq!(self.on_context(context, object), Verdict::PerRow);
        if !self.wanted.holds_on_row(row) {
            return false;
        }
        // An `unless` without row keys did not exclude, or the verdict would have been `Never`.
        // With them, its context is looked at last: few rows come so far.
        self.unless.row.is_empty() || !self.unless.holds_on_row(row) || !self.excludes(context)
    }

    /// Whether the object keys of `where` hold for one object, or for the one at `object`.
    fn wanted_objects(&self, context: &Context, object: Option<usize>) -> bool {
        if self.wanted.object.is_empty() {
            return true;
        }
        match object {
            Some(index) => {
                context.objects.get(index).is_some_and(|it| self.wanted.holds_on_object(it))
            }
            None => context.objects.iter().any(|it| self.wanted.holds_on_object(it)),
        }
    }

    /// Whether everything of `unless` that the context can tell matches.
    fn excludes(&self, context: &Context) -> bool {
        let objects = || {
            !context.objects.is_empty()
                && context.objects.iter().all(|object| self.unless.holds_on_object(object))
        };
        !self.unless.is_empty()
            && self.unless.holds_on(context)
            && (self.unless.object.is_empty() || objects())
    }
}

/// All keys of `where`, or of `unless`, by where their values are found.
#[derive(Clone, Debug, Default)]
struct Clause {
    context: Vec<Test>,
    object: Vec<Test>,
    row: Vec<Test>,
}

impl Clause {
    fn new(keys: &[(Field, Vec<String>)]) -> Self {
        let mut clause = Self::default();
        for (field, patterns) in keys {
            let tests = match field.scope() {
                Scope::Context => &mut clause.context,
                Scope::Object => &mut clause.object,
                Scope::Row => &mut clause.row,
            };
            tests.push(Test::new(*field, patterns));
        }
        clause
    }

    fn is_empty(&self) -> bool {
        self.context.is_empty() && self.object.is_empty() && self.row.is_empty()
    }

    fn holds_on(&self, context: &Context) -> bool {
        self.context.iter().all(|test| test.holds_on(context))
    }

    fn holds_on_object(&self, object: &ContextObject) -> bool {
        self.object.iter().all(|test| test.holds_on_object(object))
    }

    fn holds_on_row(&self, row: RowFields<'_>) -> bool {
        self.row.iter().all(|test| test.holds_on_row(row))
    }
}

/// One key: a field and the globs of which one must match.
#[derive(Clone, Debug)]
struct Test {
    field: Field,
    globs: Vec<WildMatch>,
}

impl Test {
    fn new(field: Field, patterns: &[String]) -> Self {
        // Folded and as written, so that a value matches whether or not its source folds.
        let mut globs = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let folded = fold(pattern);
            if !folded.eq_ignore_ascii_case(pattern) {
                globs.push(WildMatch::new_case_insensitive(pattern));
            }
            globs.push(WildMatch::new_case_insensitive(&folded));
        }
        Self { field, globs }
    }

    fn holds_on(&self, context: &Context) -> bool {
        match self.field {
            Field::PrincipalType => self.text(context.principal_type.as_deref()),
            Field::PrincipalGroups => self.any(&context.groups),
            Field::PrincipalTenant => self.text(context.tenant.as_deref()),
            Field::SourceKind => self.text(Some(&context.source_kind)),
            Field::SourceInstance => self.text(context.source_instance.as_deref()),
            Field::SourceDatabase => self.text(context.source_database.as_deref()),
            Field::Operation => self.text(context.operation.as_deref()),
            Field::Destination => self.text(Some(context.destination.as_str())),
            Field::RowsQuality => self.text(Some(context.rows_quality.as_str())),
            Field::ClientApplication => self.text(context.application.as_deref()),
            Field::Success => {
                self.text(context.success.map(|ok| if ok { "true" } else { "false" }))
            }
            _ => false, // `Clause::new` keeps fields of other scopes away.
        }
    }

    fn holds_on_object(&self, object: &ContextObject) -> bool {
        match self.field {
            Field::Object => self.text(Some(&object.full_name)),
            Field::ObjectDatabase => self.text(object.database.as_deref()),
            Field::ObjectSchema => self.text(object.schema.as_deref()),
            Field::ObjectName => self.text(Some(&object.name)),
            Field::ObjectLabels => self.any(&object.labels),
            _ => false,
        }
    }

    fn holds_on_row(&self, row: RowFields<'_>) -> bool {
        // Not folded: this runs once a row, and the principal is canonical already.
        let value = match self.field {
            Field::PrincipalId => Some(row.principal),
            Field::ClientAddress => row.client_address,
            Field::QueryFingerprint => row.query_fingerprint,
            _ => None,
        };
        value.is_some_and(|value| self.globs.iter().any(|glob| glob.matches(value)))
    }

    fn any(&self, values: &[Box<str>]) -> bool {
        values.iter().any(|value| self.text(Some(value)))
    }

    fn text(&self, value: Option<&str>) -> bool {
        let Some(value) = value else { return false };
        let value = if value.is_ascii() { Cow::Borrowed(value) } else { Cow::Owned(fold(value)) };
        self.globs.iter().any(|glob| glob.matches(&value))
    }
}

#[cfg(test)]
mod tests;
