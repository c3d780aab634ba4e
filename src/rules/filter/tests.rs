//! What `where` and `unless` mean, as a table.

use super::*;

fn keys(text: &[(&str, &[&str])]) -> Vec<(Field, Vec<String>)> {
    let key = |(name, globs): &(&str, &[&str])| {
        (Field::parse(name).unwrap(), globs.iter().map(ToString::to_string).collect())
    };
    text.iter().map(key).collect()
}

fn filter(wanted: &[(&str, &[&str])], unless: &[(&str, &[&str])]) -> Filter {
    Filter::new(&keys(wanted), &keys(unless))
}

fn object(full_name: &str, labels: &[&str]) -> ContextObject {
    let parts: Vec<&str> = full_name.split('.').collect();
    ContextObject {
        full_name: full_name.into(),
        database: Some(parts[0].into()),
        schema: Some(parts[1].into()),
        name: parts[2].into(),
        labels: labels.iter().map(|label| (*label).into()).collect(),
        row_count: None,
    }
}

/// A read of customers (pii) joined with plans (not pii) by a support agent.
fn joined() -> Context {
    Context {
        principal_type: Some("user".into()),
        groups: vec!["support-l1".into(), "Staff".into()],
        tenant: Some("acme".into()),
        source_kind: "postgresql".into(),
        source_instance: Some("crm-db-1".into()),
        source_database: Some("crm".into()),
        objects: vec![
            object("crm.public.customers", &["pii", "gdpr"]),
            object("crm.billing.plans", &["reference"]),
        ],
        operation: Some("SELECT".into()),
        application: Some("support-console".into()),
        success: Some(true),
        ..Context::default()
    }
}

#[test]
fn canaries_are_for_their_own_filter_and_for_no_other() {
    let (read, canary) = (joined(), Context { canary: true, ..joined() });
    let everything = Filter::new(&[], &[]);
    assert_eq!(everything.on_context(&read, None), Verdict::Always);
    assert_eq!(everything.on_context(&canary, None), Verdict::Never);
    assert_eq!(Filter::canaries().on_context(&canary, None), Verdict::Always);
    assert_eq!(Filter::canaries().on_context(&read, None), Verdict::Never);
}

#[test]
fn an_empty_filter_matches_every_event() {
    assert_eq!(filter(&[], &[]).on_context(&Context::default(), None), Verdict::Always);
}

#[test]
fn where_needs_every_key_and_takes_one_of_a_list() {
    type Case<'a> = (&'a [(&'a str, &'a [&'a str])], bool);
    let table: &[Case<'_>] = &[
        (&[("operation", &["select"])], true),
        (&[("operation", &["copy", "select"])], true),
        (&[("operation", &["copy"])], false),
        (&[("operation", &["select"]), ("principal.tenant", &["other"])], false),
        (&[("operation", &["select"]), ("principal.tenant", &["ACME"])], true),
        (&[("principal.groups", &["staff"])], true),
        (&[("principal.groups", &["support-*"])], true),
        (&[("principal.groups", &["admins"])], false),
        (&[("principal.type", &["us?r"])], true),
        (&[("principal.type", &["us?"])], false),
        (&[("source.kind", &["postgresql"]), ("source.database", &["crm"])], true),
        (&[("source.instance", &["crm-db-?"])], true),
        (&[("client.application", &["*console*"])], true),
        (&[("destination", &["unknown"])], true),
        (&[("rows_quality", &["exact"])], true),
        (&[("success", &["true"])], true),
        (&[("success", &["false"])], false),
        (&[("object", &["crm.public.customers"])], true),
        (&[("object", &["crm*customers"])], true),
        (&[("object", &["public.customers"])], false),
        (&[("object.database", &["crm"])], true),
        (&[("object.schema", &["billing"])], true),
        (&[("object.name", &["Customers"])], true),
        (&[("object.labels", &["pii"])], true),
    ];
    for (wanted, expected) in table {
        let verdict = filter(wanted, &[]).on_context(&joined(), None);
        assert_eq!(verdict == Verdict::Always, *expected, "where {wanted:?}");
        assert_ne!(verdict, Verdict::PerRow, "where {wanted:?}");
    }
}

#[test]
fn a_field_the_event_lacks_matches_nothing_not_even_a_star() {
    for field in ["operation", "principal.type", "principal.groups", "success", "object.labels"] {
        let starred = filter(&[(field, &["*"])], &[]);
        assert_eq!(starred.on_context(&Context::default(), None), Verdict::Never, "{field}");
        let excepted = filter(&[], &[(field, &["*"])]);
        assert_eq!(excepted.on_context(&Context::default(), None), Verdict::Always, "{field}");
    }
}

#[test]
fn object_keys_of_where_must_hold_for_one_and_the_same_object() {
    let same = filter(&[("object.labels", &["pii"]), ("object.schema", &["public"])], &[]);
    assert_eq!(same.on_context(&joined(), None), Verdict::Always);
    let crossed = filter(&[("object.labels", &["pii"]), ("object.schema", &["billing"])], &[]);
    assert_eq!(crossed.on_context(&joined(), None), Verdict::Never);
}

#[test]
fn grouped_by_object_the_object_keys_hold_for_that_very_object() {
    let pii = filter(&[("object.labels", &["pii"])], &[]);
    assert_eq!(pii.on_context(&joined(), Some(0)), Verdict::Always);
    assert_eq!(pii.on_context(&joined(), Some(1)), Verdict::Never);
    assert_eq!(pii.on_context(&joined(), Some(2)), Verdict::Never);
}

#[test]
fn unless_on_objects_needs_every_object() {
    let plans = filter(&[], &[("object", &["crm.billing.*"])]);
    assert_eq!(plans.on_context(&joined(), None), Verdict::Always, "a join must not hide the read");
    let both = filter(&[], &[("object", &["crm.billing.*", "crm.public.*"])]);
    assert_eq!(both.on_context(&joined(), None), Verdict::Never);
    let mut only_plans = joined();
    only_plans.objects.remove(0);
    assert_eq!(plans.on_context(&only_plans, None), Verdict::Never);
    let no_objects = Context { objects: Vec::new(), ..joined() };
    assert_eq!(plans.on_context(&no_objects, None), Verdict::Always);
}

#[test]
fn unless_excludes_only_when_all_its_keys_match() {
    let both = filter(&[], &[("principal.groups", &["staff"]), ("operation", &["select"])]);
    assert_eq!(both.on_context(&joined(), None), Verdict::Never);
    let half = filter(&[], &[("principal.groups", &["staff"]), ("operation", &["copy"])]);
    assert_eq!(half.on_context(&joined(), None), Verdict::Always);
}

fn row(principal: &str) -> RowFields<'_> {
    RowFields { principal, client_address: Some("127.0.0.1"), query_fingerprint: None }
}

#[test]
fn row_keys_are_asked_row_by_row() {
    let agents = filter(
        &[("principal.id", &["agent-*"]), ("object.labels", &["pii"])],
        &[("principal.id", &["agent-7"]), ("operation", &["select"])],
    );
    assert_eq!(agents.on_context(&joined(), None), Verdict::PerRow);
    assert!(agents.matches_row(&joined(), None, row("agent-1")));
    assert!(agents.matches_row(&joined(), None, row("AGENT-1")));
    assert!(!agents.matches_row(&joined(), None, row("agent-7")));
    assert!(!agents.matches_row(&joined(), None, row("etl")));

    let copied = Context { operation: Some("copy".into()), ..joined() };
    assert!(agents.matches_row(&copied, None, row("agent-7")), "only selects are excepted");
}

#[test]
fn a_context_that_decides_alone_never_asks_rows() {
    let other = filter(&[("principal.id", &["a*"]), ("operation", &["copy"])], &[]);
    assert_eq!(other.on_context(&joined(), None), Verdict::Never);
    let spared = filter(&[], &[("principal.id", &["a*"]), ("operation", &["copy"])]);
    assert_eq!(spared.on_context(&joined(), None), Verdict::Always);
    let address = filter(&[("client.address", &["10.*"])], &[]);
    assert_eq!(address.on_context(&joined(), None), Verdict::PerRow);
    assert!(!address.matches_row(&joined(), None, row("x")));
    let fingerprint = filter(&[("query.fingerprint", &["*"])], &[]);
    assert!(!fingerprint.matches_row(&joined(), None, row("x")));
}

#[test]
fn names_match_without_regard_to_case_or_unicode_form() {
    let mut context = joined();
    context.groups = vec!["ÉQUIPE-STRASSE".into()];
    for pattern in ["équipe-straße", "e\u{301}quipe-strasse", "Équipe-*"] {
        let groups = filter(&[("principal.groups", &[pattern])], &[]);
        assert_eq!(groups.on_context(&context, None), Verdict::Always, "{pattern}");
    }
}

mod model {
    //! The same decision taken the plain way, over random events.

    use proptest::prelude::*;

    use super::*;

    const TEXTS: [&str; 3] = ["a", "b", "ab"];
    const GLOBS: [&str; 5] = ["a", "b", "a*", "?", "*"];

    fn texts() -> impl Strategy<Value = Vec<Box<str>>> {
        proptest::collection::vec(proptest::sample::select(&TEXTS[..]).prop_map(Into::into), 0..3)
    }

    fn objects() -> impl Strategy<Value = Vec<ContextObject>> {
        let object = (proptest::sample::select(&TEXTS[..]), texts()).prop_map(|(name, labels)| {
            ContextObject {
                name: name.into(),
                full_name: name.into(),
                labels,
                ..Default::default()
            }
        });
        proptest::collection::vec(object, 0..3)
    }

    fn clause() -> impl Strategy<Value = Vec<(Field, Vec<String>)>> {
        let fields =
            [Field::PrincipalId, Field::PrincipalGroups, Field::ObjectName, Field::ObjectLabels];
        let globs = proptest::collection::vec(
            proptest::sample::select(&GLOBS[..]).prop_map(ToString::to_string),
            1..3,
        );
        proptest::sample::subsequence(fields.to_vec(), 0..=4)
            .prop_flat_map(move |fields| {
                let patterns = proptest::collection::vec(globs.clone(), fields.len());
                (Just(fields), patterns)
            })
            .prop_map(|(fields, patterns)| fields.into_iter().zip(patterns).collect())
    }

    fn one(globs: &[String], value: &str) -> bool {
        globs.iter().any(|glob| WildMatch::new(glob).matches(value))
    }

    fn on_object(keys: &[(Field, Vec<String>)], object: &ContextObject) -> bool {
        keys.iter().all(|(field, globs)| match field {
            Field::ObjectName => one(globs, &object.name),
            Field::ObjectLabels => object.labels.iter().any(|label| one(globs, label)),
            _ => true,
        })
    }

    fn on_rest(keys: &[(Field, Vec<String>)], context: &Context, principal: &str) -> bool {
        keys.iter().all(|(field, globs)| match field {
            Field::PrincipalId => one(globs, principal),
            Field::PrincipalGroups => context.groups.iter().any(|group| one(globs, group)),
            _ => true,
        })
    }

    proptest! {
        #[test]
        fn the_filter_agrees_with_the_plain_reading(
            wanted in clause(),
            unless in clause(),
            groups in texts(),
            objects in objects(),
            grouped in proptest::option::of(0usize..3),
            principal in proptest::sample::select(&TEXTS[..]),
        ) {
            let names_objects = |keys: &[(Field, Vec<String>)]| {
                keys.iter().any(|(field, _)| field.scope() == Scope::Object)
            };
            let context = Context { groups, objects, ..Context::default() };
            let wanted_object = !names_objects(&wanted)
                || context.objects.iter().enumerate().any(|(index, object)| {
                    grouped.is_none_or(|grouped| grouped == index) && on_object(&wanted, object)
                });
            let unless_object = !names_objects(&unless)
                || (!context.objects.is_empty()
                    && context.objects.iter().all(|object| on_object(&unless, object)));
            let expected = wanted_object
                && on_rest(&wanted, &context, principal)
                && !(!unless.is_empty() && unless_object && on_rest(&unless, &context, principal));

            let filter = Filter::new(&wanted, &unless);
            let found = match filter.on_context(&context, grouped) {
                Verdict::Never => false,
                Verdict::Always => true,
                Verdict::PerRow => {
                    let row = RowFields { principal, ..RowFields::default() };
                    filter.matches_row(&context, grouped, row)
                }
            };
            prop_assert_eq!(found, expected);
        }
    }
}
