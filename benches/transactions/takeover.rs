//! The end of a member by `kill -9`, and what its successor has to wait for before it can read a
//! state that no longer changes. The time until the group notices is the same by either scheme and
//! not part of it.

use std::{
    env,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
};

use crate::{
    PARTITIONS, PREFIX, TASK, config,
    kafka::{self, Client},
    owner::{Owner, Scheme},
    process::Guarded,
};

const KILLS: usize = 3;
const CALL_MAX: Duration = Duration::from_secs(10);
/// Transactions that nobody claims end by their time-out and one round of the broker's clean-up.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Starts a member that prints its figures.
pub(crate) fn member(client: &Client, scheme: Scheme) {
    let mut member = start(client, scheme, "figures", &deployment(client));
    let output = BufReader::new(member.child_mut().stdout.take().unwrap());
    output.lines().for_each(|line| println!("{}", line.unwrap()));
    assert!(member.wait(CALL_MAX).is_some_and(|status| status.success()));
}

/// Kills members in the middle of a checkpoint and takes over.
pub(crate) fn measure(client: &Client, scheme: Scheme) {
    for _ in 0..KILLS {
        let prefix = deployment(client);
        let mut member = start(client, scheme, "open", &prefix);
        let mut said = String::new();
        BufReader::new(member.child_mut().stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "open\n");
        let state = format!("{prefix}.state");
        let ends = [end(client, "read_committed"), end(client, "read_uncommitted")];
        let is_open = || {
            let [stable, last] = ends.each_ref().map(|ends| {
                // Only the first partition was being written to.
                ends.fetch_watermarks(&state, 0, CALL_MAX).unwrap().1
            });
            stable < last
        };
        assert!(is_open(), "a checkpoint is half written");
        let killed = Instant::now();
        drop(member);
        let _successor = Owner::claim(scheme, &config(client.address(), &prefix), "second");
        let claimed = killed.elapsed();
        while is_open() {
            assert!(killed.elapsed() < WAIT_MAX, "the transaction stays open");
            thread::sleep(Duration::from_millis(20));
        }
        println!(
            "  {}: claimed after {claimed:.2?}, readable after {:.2?}",
            scheme.name(),
            killed.elapsed()
        );
    }
}

/// Topics of a new deployment; its prefix.
fn deployment(client: &Client) -> String {
    let prefix = kafka::unique("owner");
    client.create_topic(&format!("{prefix}.events"), PARTITIONS, &[]);
    client.create_topic(&format!("{prefix}.state"), PARTITIONS, &[("cleanup.policy", "compact")]);
    prefix
}

fn start(client: &Client, scheme: Scheme, what: &str, prefix: &str) -> Guarded {
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(TASK, format!("{what} {}", scheme.name())).env(PREFIX, prefix);
    command.env("EXFILWATCH_KAFKA", client.address()).stdout(Stdio::piped());
    Guarded::spawn(&mut command).unwrap()
}

/// Asks for the end of a partition, as a reader of this isolation sees it: records that may yet
/// appear or vanish lie between the two.
fn end(client: &Client, isolation: &str) -> BaseConsumer {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", client.address()).set("isolation.level", isolation);
    settings.create().unwrap()
}
