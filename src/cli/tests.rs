//! The command line as a table: it parses, helps, and ends with the right code.

use std::{fs, path::Path};

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Args, clap::Error> {
    Args::try_parse_from(line.split_whitespace())
}

/// Exit code and output of a command that parses.
fn output_of(line: &str) -> (Outcome, String) {
    let mut out = Vec::new();
    let ended = match parse(line).unwrap().command {
        Command::Check(args) => check::run(&args, &mut out),
        Command::Rules(Rules::Lint(args)) => lint::run(&args, &mut out),
        Command::Topics(Topics::Create(args)) => topics::create(&args, &mut out),
        Command::Schema(args) => schema::run(&args, &mut out),
        Command::Completions(args) => completions::run(&args, &mut out),
        Command::Canary(args) => canary::run(&args, &mut out),
        Command::Replay(args) => replay::run(args, &mut out),
        Command::Run(_) | Command::Demo(_) => panic!("{line} is not for a test"),
    };
    let outcome = ended.unwrap_or_else(|error| {
        out.extend_from_slice(format!("{error:#}").as_bytes());
        failure(&error)
    });
    (outcome, String::from_utf8(out).unwrap())
}

#[test]
fn the_definition_of_the_command_line_holds_together() {
    Args::command().debug_assert();
}

#[test]
fn every_command_teaches_by_examples() {
    let command = Args::command();
    let mut open: Vec<_> = command.get_subcommands().collect();
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands());
        if command.has_subcommands() {
            continue;
        }
        let help = command.clone().render_long_help().to_string();
        let name = command.get_name();
        assert!(help.contains("Examples:"), "{name} has no examples");
        let below = ["lint", "create"].contains(&name);
        assert!(help.contains(&format!("exfilwatch {name}")) || below, "{name}");
    }
    let help = command.clone().render_long_help().to_string();
    for code in ["  0 ", "  1 ", "  2 ", "  78 "] {
        assert!(help.contains(code), "exit code {code} is not documented");
    }
}

#[test]
fn only_what_is_there_is_offered() {
    for line in ["exfilwatch rules test x", "exfilwatch alerts tail", "exfilwatch explain x"] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
}

#[test]
fn a_usage_error_ends_with_2_and_help_with_0() {
    for line in ["exfilwatch", "exfilwatch nothing", "exfilwatch replay --format csv"] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    for line in ["exfilwatch replay --as-of noon", "exfilwatch rules lint", "exfilwatch schema x"] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    for line in [
        "exfilwatch check --online=topics",
        "exfilwatch check --online inputs",
        "exfilwatch check --online --timeout=soon",
        "exfilwatch check --online --timeout=0s",
        "exfilwatch check --timeout=5s",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    for name in ["", "$(POD_NAME)", "."] {
        let line = format!("exfilwatch run --instance-id={name}");
        assert_eq!(parse(&line).unwrap_err().exit_code(), 2, "{line}");
    }
    for line in ["exfilwatch canary --timeout 0s", "exfilwatch canary --timeout soon"] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 2, "{line}");
    }
    for line in ["exfilwatch --help", "exfilwatch run --help", "exfilwatch --version"] {
        assert_eq!(parse(line).unwrap_err().exit_code(), 0, "{line}");
    }
}

#[test]
fn the_options_of_the_contract_are_understood() {
    for line in [
        "exfilwatch run -c x.yaml",
        "exfilwatch run --config=x.yaml --instance-id=exfilwatch-0",
        "exfilwatch demo --seed 7 --out d --http 127.0.0.1:0 --output json",
        "exfilwatch check -c x.yaml --online --output human",
        "exfilwatch check --config=x.yaml --output=human --online",
        "exfilwatch check -c x.yaml --online=inputs --timeout=30s",
        "exfilwatch check -c x.yaml --online=all",
        "exfilwatch replay -c x.yaml --format trino --alerts a --summary s \
         --as-of 2026-04-01T09:30:00Z --output json a.ndjson b.parquet",
        "exfilwatch topics create --config=x.yaml",
        "exfilwatch topics create -c x.yaml --output json",
        "exfilwatch replay -c x.yaml -",
        "exfilwatch canary --config=x.yaml --key-file=k --input q --timeout=60s --output json",
        "exfilwatch rules lint a.yaml b.yaml",
        "exfilwatch completions zsh",
    ] {
        assert!(parse(line).is_ok(), "{line}");
    }
}

const GOOD: &str = "\
kafka: {bootstrap_servers: '127.0.0.1:9092'}
inputs: [{topic: reads}]
rules: ['rules.yaml']
";

fn stage(config: &str, rules: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.yaml"), config).unwrap();
    fs::write(folder.path().join("rules.yaml"), rules).unwrap();
    folder
}

fn at(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).display().to_string()
}

#[test]
fn check_ends_with_0_for_a_good_file_and_78_for_a_faulty_one() {
    let folder = stage(GOOD, "rules: [{id: a, limits: [{window: 1h, above: 5}]}]");
    let check = |output: &str| {
        output_of(&format!("exfilwatch check -c {} --output {output}", at(&folder, "c.yaml")))
    };
    let (outcome, text) = check("human");
    assert_eq!(outcome, Outcome::Fine);
    let summary = "c.yaml: 1 input, 2 rules on 2 meters, grouped by principal.id, 0 warnings\n";
    assert!(text.starts_with("ok: ") && text.ends_with(summary), "{text}");
    assert!(check("json").1.contains(r#""rules":2,"meters":2"#));

    fs::write(folder.path().join("c.yaml"), format!("{GOOD}htpp: 1\ninptus: 2\n")).unwrap();
    let (outcome, text) = check("human");
    assert_eq!(outcome, Outcome::BadConfig);
    assert!(text.contains("c.yaml: 2 problems\n"), "{text}");
    let (outcome, text) = check("json");
    assert_eq!((outcome, text.lines().count()), (Outcome::BadConfig, 2));
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!((&first["line"], &first["column"]), (&4.into(), &1.into()));
    assert_eq!(first["hint"], "did you mean `http`?");
}

#[test]
fn lint_ends_with_1_for_findings_and_78_for_what_is_no_rule_file() {
    let folder =
        stage(GOOD, "rules: [{id: a, where: {object: x}, limits: [{window: 1h, above: 5}]}]");
    let lint = |args: &str| output_of(&format!("exfilwatch rules lint {args} --output human"));
    let (outcome, text) = lint(&at(&folder, "rules.yaml"));
    assert_eq!(outcome, Outcome::Findings);
    assert!(text.starts_with("warning: ") && text.ends_with("1 rule, 1 finding\n"), "{text}");
    assert_eq!(lint(&format!("-c {}", at(&folder, "c.yaml"))).0, Outcome::Findings);
    assert_eq!(lint(&at(&folder, "c.yaml")).0, Outcome::BadConfig);
    assert_eq!(lint(&at(&folder, "none.yaml")).0, Outcome::BadConfig);

    fs::write(
        folder.path().join("rules.yaml"),
        "rules: [{id: a, limits: [{window: 1h, above: 5}]}]",
    )
    .unwrap();
    let (outcome, text) = lint(&at(&folder, "rules.yaml"));
    assert_eq!((outcome, text.as_str()), (Outcome::Fine, "ok: 1 rule, no findings\n"));
}

#[test]
fn schemas_are_those_of_the_repository() {
    for name in ["event", "alert", "config", "rules"] {
        let (outcome, text) = output_of(&format!("exfilwatch schema {name}"));
        assert_eq!(outcome, Outcome::Fine);
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{name}.v1.schema.json"));
        assert_eq!(text, fs::read_to_string(file).unwrap(), "{name}");
    }
}

#[test]
fn completions_name_every_command() {
    let (_, script) = output_of("exfilwatch completions bash");
    for command in Args::command().get_subcommands() {
        assert!(script.contains(command.get_name()), "{}", command.get_name());
    }
}

#[test]
fn missing_topics_are_a_fault_of_the_configuration_and_a_closed_pipe_is_none_at_all() {
    let topics = crate::kafka::Error::Topics { faults: vec!["x".to_owned()] };
    assert_eq!(failure(&topics.into()), Outcome::BadConfig);
    let cause = rdkafka::error::KafkaError::ClientCreation("no such file".to_owned());
    let client = crate::kafka::Error::Client { client: "alerts".to_owned(), cause };
    assert_eq!(failure(&client.into()), Outcome::BadConfig, "a wrong path of a certificate");
    let closed = io::Error::from(io::ErrorKind::BrokenPipe);
    assert_eq!(failure(&closed.into()), Outcome::Fine);
    assert_eq!(failure(&anyhow::anyhow!("no broker")), Outcome::Findings);
}

#[test]
fn topics_are_not_created_for_a_faulty_file() {
    let folder = stage("inputs: []\n", "rules: []");
    let line = format!("exfilwatch topics create -c {}", at(&folder, "c.yaml"));
    assert_eq!(output_of(&line).0, Outcome::BadConfig);
    assert_eq!(parse("exfilwatch topics").unwrap_err().exit_code(), 2);
}
