//! What checkpoints cost the thread that applies rows: two engines get the same rows in turn, and
//! one of them is saved once an interval of its own CPU time.

use exfilwatch::{
    checkpoint::{Ledger, Origin},
    engine::Engine,
};

use crate::{
    mib,
    rig::{self, PORTION_ROWS, Rig, cpu_s, random},
};

/// Intervals a load.
const ROUNDS: u64 = 3;

/// Seconds of CPU.
#[derive(Default)]
struct Spent {
    /// Applying rows to the engine that is never saved.
    alone: f64,
    /// Applying the same rows to the other.
    beside: f64,
    /// Saving that one, which its thread does: the hot path stands still.
    saves: f64,
    longest: f64,
    /// Making records of what was saved, which another thread does.
    records: f64,
    bytes: u64,
}

/// An engine that is saved, and what is known of its checkpoints.
struct Saving {
    engine: Engine,
    ledger: Ledger,
}

impl Saving {
    fn save(&mut self, spent: &mut Spent) {
        let began = cpu_s();
        let saved = self.engine.save();
        let took = cpu_s() - began;
        spent.saves += took;
        spent.longest = spent.longest.max(took);
        spent.bytes += crate::bytes(&saved);
        let began = cpu_s();
        let mut draft = self.ledger.draft(saved, 0, "", "");
        let records = i64::try_from(draft.records().count()).unwrap();
        drop(draft.seal(&(0..records).collect::<Vec<_>>()));
        self.ledger.commit(draft);
        spent.records += cpu_s() - began;
    }
}

/// Measures with few and with all principals at work between two checkpoints.
pub(crate) fn measure(principals: u64, interval_s: u64) {
    let mut rig = Rig::new();
    let mut alone = rig.engine();
    let ledger = Ledger::new(Origin::default(), 0);
    let mut saving = Saving { engine: rig.engine(), ledger };
    rig.read(
        principals,
        |number| number,
        |batches| {
            rig::apply(&mut alone, batches);
            rig::apply(&mut saving.engine, batches);
        },
    );
    saving.save(&mut Spent::default());
    println!("rows as fast as they go, a checkpoint every {interval_s} s of CPU:");
    for (name, stride) in [("1 %", 100), ("all", 1)] {
        let (mut spent, mut rows, mut portions) = (Spent::default(), 0, 0_u64);
        for round in 0..ROUNDS {
            // Others in every interval, each of them many times.
            let mover = |number| random(number, principals / stride) * stride + round % stride;
            let until = spent.alone + f64::from(u32::try_from(interval_s).unwrap());
            while spent.alone < until {
                portions += 1;
                let first = portions * PORTION_ROWS;
                rig.read(
                    PORTION_ROWS,
                    |number| mover(first + number),
                    |batches| {
                        // Whoever is second finds the batches in the cache.
                        for turn in [portions % 2, (portions + 1) % 2] {
                            let began = cpu_s();
                            if turn == 0 {
                                rig::apply(&mut alone, batches);
                                spent.alone += cpu_s() - began;
                            } else {
                                rig::apply(&mut saving.engine, batches);
                                spent.beside += cpu_s() - began;
                            }
                        }
                    },
                );
                rows += PORTION_ROWS;
            }
            saving.save(&mut spent);
        }
        report(name, &spent, rows);
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn report(name: &str, spent: &Spent, rows: u64) {
    let ns = |seconds: f64| 1e9 * seconds / rows as f64;
    let with = spent.beside + spent.saves;
    println!(
        "  {name} of the principals at work: {:.1} ns a row without checkpoints, {:.1} with \
         ({:+.1} %); with what the state thread does {:+.1} %",
        ns(spent.alone),
        ns(with),
        100.0 * (with / spent.alone - 1.0),
        100.0 * ((with + spent.records) / spent.alone - 1.0),
    );
    println!(
        "    {:.1} MiB and {:.1} ms a checkpoint, the longest {:.1} ms",
        mib(spent.bytes / ROUNDS),
        1e3 * spent.saves / ROUNDS as f64,
        1e3 * spent.longest
    );
}
