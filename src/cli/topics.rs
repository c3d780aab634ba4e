//! `topics create`: the topics that exfilwatch writes, made before it runs.

use std::{io::Write, path::PathBuf};

use serde_json::json;

use super::Outcome;
use super::output::{GREEN, Output, OutputArg, RED, YELLOW, paint, write_json};
use crate::config::Config;
use crate::kafka::topics::{
    ANSWER_FOR, Topics,
    create::{Made, Prepared},
};

/// Makes those of its own topics (events, state, alerts, dead letters) that are missing, with the
/// partitions, replicas and settings a run with `kafka.create_topics` would give them; inputs are
/// yours. What is there is compared and never changed. For where a run may not make topics, or
/// they are to be there before it: run it again as often as you like.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  exfilwatch topics create -c exfilwatch.yaml
  exfilwatch topics create -c exfilwatch.yaml --output json | jq 'select(.result == \"differs\")'

Partitions and replicas are those of kafka.create_topics, 16 and 3 where it is off.

Exit code 0 if every topic is there, also where one differs; 1 if no broker answers, or one
refuses to make a topic; 78 if the configuration is faulty.")]
pub(super) struct Create {
    /// Configuration file
    #[arg(short, long, value_name = "FILE", default_value = "exfilwatch.yaml")]
    config: PathBuf,
    #[command(flatten)]
    output: OutputArg,
}

pub(super) fn create(args: &Create, out: &mut dyn Write) -> anyhow::Result<Outcome> {
    let output = args.output.choose();
    let config = Config::load(&args.config)?;
    let topics = Topics::new(&config)?;
    topics.reach(ANSWER_FOR)?;
    let prepared = topics.create_missing()?;
    for topic in &prepared.topics {
        match output {
            Output::Human => write_human(out, topic)?,
            Output::Json => write_json(out, &as_json(topic))?,
        }
    }
    if let Some(why) = &prepared.not_compared {
        match output {
            Output::Human => {
                writeln!(out, "{}: settings were not compared: {why}", paint("warning", YELLOW))?;
            }
            Output::Json => write_json(out, &json!({"level": "warning", "not_compared": why}))?,
        }
    }
    Ok(if prepared.is_complete() { Outcome::Fine } else { Outcome::Findings })
}

const fn word(made: &Made) -> (&'static str, u8) {
    match made {
        Made::Created => ("created", GREEN),
        Made::Exists => ("exists", GREEN),
        Made::Differs(_) => ("differs", YELLOW),
        Made::Refused(_) => ("refused", RED),
    }
}

fn write_human(out: &mut dyn Write, topic: &Prepared) -> std::io::Result<()> {
    let (word, colour) = word(&topic.made);
    write!(out, "{}: {}", paint(word, colour), topic.topic)?;
    match &topic.made {
        Made::Refused(why) => writeln!(out, ": {why}"),
        made => {
            let (partitions, copies) = (topic.partitions, topic.replication);
            let partitions = super::check::count(partitions as usize, "partition");
            writeln!(out, ", {partitions}, {}", copies_in_words(copies))?;
            let Made::Differs(differences) = made else { return Ok(()) };
            for difference in differences {
                writeln!(out, "  {}", difference.what)?;
                if let Some(hint) = &difference.hint {
                    writeln!(out, "    hint: {hint}")?;
                }
            }
            Ok(())
        }
    }
}

fn copies_in_words(copies: u32) -> String {
    super::check::count(copies as usize, "replica")
}

fn as_json(topic: &Prepared) -> serde_json::Value {
    let (word, _) = word(&topic.made);
    let mut line = json!({
        "level": match topic.made {
            Made::Refused(_) => "error",
            Made::Differs(_) => "warning",
            _ => "info",
        },
        "topic": topic.topic,
        "result": word,
        "partitions": topic.partitions,
        "replication": topic.replication,
    });
    match &topic.made {
        Made::Refused(why) => line["problem"] = why.as_str().into(),
        Made::Differs(all) => {
            let shown = all.iter().map(|it| json!({"what": it.what, "hint": it.hint}));
            line["differences"] = shown.collect::<Vec<_>>().into();
        }
        _ => {}
    }
    line
}
