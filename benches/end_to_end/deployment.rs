//! Members of one deployment over a topic that was filled before they start.

use std::time::{Duration, Instant};

use crate::{
    kafka::{self, Client, Compression, Message},
    program::{self, Cost, Program, WAIT_MAX},
};

/// Who reads.
#[derive(Clone, Copy)]
pub(crate) struct Deployment<'d> {
    /// Of the input and of the events topic.
    pub(crate) partitions: i32,
    pub(crate) members: usize,
    pub(crate) rules: &'d str,
}

/// What it took, and what was written meanwhile.
pub(crate) struct Counted {
    pub(crate) cost: Cost,
    pub(crate) forwarded_bytes: f64,
    pub(crate) checkpoint_bytes: f64,
}

impl Deployment<'_> {
    /// Memory of a member that is ready and has read nothing, in MiB.
    pub(crate) fn idle_mib(self, client: &Client) -> f64 {
        let topic = kafka::unique("bench-input");
        client.create_topic(&topic, self.partitions, &[]);
        let began = Instant::now();
        let mut members = self.start(client, &topic);
        members.iter_mut().for_each(Program::ready);
        let rss_mib = members.iter().map(|member| member.cost(began).rss_mib).sum::<f64>();
        members.iter_mut().for_each(Program::stop);
        #[expect(clippy::cast_precision_loss, reason = "a few")]
        let count = self.members as f64;
        rss_mib / count
    }

    fn start(self, client: &Client, topic: &str) -> Vec<Program> {
        let prefix = kafka::unique("bench");
        let create = format!("create_topics: {{partitions: {}, replication: 1}}", self.partitions);
        let lines = program::kafka(client, &prefix, &create);
        let inputs = [(topic, "canonical")];
        let start = |_| Program::with_rules(client, &prefix, &inputs, self.rules, &lines);
        (0..self.members).map(start).collect()
    }

    /// Fills a topic with so many records, `text` by number, and has the members count until they
    /// hold `rows` rows.
    pub(crate) fn count(
        self,
        client: &Client,
        events: u64,
        rows: f64,
        text: impl Fn(u64) -> String,
    ) -> Counted {
        let topic = kafka::unique("bench-input");
        client.create_topic(&topic, self.partitions, &[]);
        let spread = u64::try_from(self.partitions).unwrap();
        let record = |n: u64| Message::new(text(n)).to(i32::try_from(n % spread).unwrap());
        client.produce(&topic, Compression::Lz4, (0..events).map(record));
        let began = Instant::now();
        let mut members = self.start(client, &topic);
        let sum = |members: &[Program], name: &str| {
            members.iter().map(|member| member.metrics().sum(name)).sum::<f64>()
        };
        while sum(&members, "exfilwatch_state_rows") < rows {
            members.iter_mut().for_each(Program::expect_alive);
            assert!(began.elapsed() < WAIT_MAX, "not all events counted in {WAIT_MAX:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
        let wall_s = began.elapsed().as_secs_f64();
        let costs: Vec<Cost> = members.iter().map(|member| member.cost(began)).collect();
        let counted = Counted {
            cost: Cost {
                cpu_s: costs.iter().map(|cost| cost.cpu_s).sum(),
                wall_s,
                rss_mib: costs.iter().map(|cost| cost.rss_mib).sum(),
            },
            forwarded_bytes: sum(&members, "exfilwatch_rows_forwarded_bytes_total"),
            checkpoint_bytes: sum(&members, "exfilwatch_checkpoint_bytes_total"),
        };
        members.iter_mut().for_each(Program::stop);
        counted
    }
}
