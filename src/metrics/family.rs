//! The kinds of metric the table may use, and gauges that many threads own a part of.
//!
//! A partition moves between members, and each thread knows only its own tables, so a gauge of the
//! process is the sum or the greatest of live parts. A part is one atomic that its owner stores to;
//! the fold happens when somebody scrapes. A dropped part no longer counts, so a revoked partition
//! leaves nothing behind.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use prometheus::{HistogramOpts, Opts, Registry, core::Collector};

use super::table::Spec;

pub use prometheus::{
    Counter as Seconds, CounterVec as SecondsVec, Gauge, GaugeVec, Histogram,
    IntCounter as Counter, IntCounterVec as CounterVec,
};

/// Upper bounds of the latency histograms: 1 ms to 1 d, closest where an operator acts.
pub const LATENCY_BUCKETS_S: [f64; 17] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0, 3600.0,
    21_600.0, 86_400.0,
];

/// Upper bounds of histograms of how much is worked on at once.
pub const SIZE_BUCKETS: [f64; 9] =
    [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0, 65_536.0];

/// A kind of metric.
pub(super) trait Family: Sized {
    /// What a scrape calls it.
    const KIND: &'static str;

    /// Registers a metric of this kind.
    fn register(spec: &Spec, registry: &Registry) -> Self;
}

fn opts(spec: &Spec) -> Opts {
    Opts::new(spec.name, spec.help)
}

fn add<C: Collector + Clone + 'static>(metric: prometheus::Result<C>, registry: &Registry) -> C {
    let metric = metric.expect("a test holds every name and label of the table to be valid");
    registry
        .register(Box::new(metric.clone()))
        .expect("a test holds the names of the table to be distinct");
    metric
}

impl Family for Counter {
    const KIND: &'static str = "counter";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        add(Self::with_opts(opts(spec)), registry)
    }
}

impl Family for CounterVec {
    const KIND: &'static str = "counter";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        add(Self::new(opts(spec), spec.labels), registry)
    }
}

impl Family for Gauge {
    const KIND: &'static str = "gauge";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        add(Self::with_opts(opts(spec)), registry)
    }
}

impl Family for GaugeVec {
    const KIND: &'static str = "gauge";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        add(Self::new(opts(spec), spec.labels), registry)
    }
}

impl Family for Histogram {
    const KIND: &'static str = "histogram";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        let opts = HistogramOpts::new(spec.name, spec.help).buckets(LATENCY_BUCKETS_S.to_vec());
        add(Self::with_opts(opts), registry)
    }
}

impl Family for SecondsVec {
    const KIND: &'static str = "counter";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        add(Self::new(opts(spec), spec.labels), registry)
    }
}

/// Histograms of how much is worked on at once.
#[derive(Debug)]
pub struct SizesVec(prometheus::HistogramVec);

impl SizesVec {
    /// The series with these label values.
    #[must_use]
    pub fn of(&self, labels: &[&str]) -> Histogram {
        self.0.with_label_values(labels)
    }
}

impl Family for SizesVec {
    const KIND: &'static str = "histogram";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        let opts = HistogramOpts::new(spec.name, spec.help).buckets(SIZE_BUCKETS.to_vec());
        Self(add(prometheus::HistogramVec::new(opts, spec.labels), registry))
    }
}

/// How the parts of a gauge become one value.
#[derive(Clone, Copy, Debug)]
enum Fold {
    Sum,
    Max,
    Min,
}

impl Fold {
    /// What a part contributes before it is set: nothing.
    const fn begin(self) -> f64 {
        match self {
            Self::Sum | Self::Max => 0.0,
            Self::Min => f64::INFINITY,
        }
    }
}

/// Gauge whose value is the sum of its parts.
#[derive(Debug)]
pub struct SumVec(Parts);

/// Gauge without labels whose value is the sum of its parts.
#[derive(Debug)]
pub struct Sum(Parts);

/// Gauge whose value is the greatest of its parts.
#[derive(Debug)]
pub struct MaxVec(Parts);

/// Gauge without labels whose value is the least of its parts; infinite without any.
#[derive(Debug)]
pub struct Min(Parts);

impl SumVec {
    /// A part of the series with these label values, 0 until it is set.
    #[must_use]
    pub fn part(&self, labels: &[&str]) -> Part {
        self.0.part(labels)
    }
}

impl Sum {
    /// A part, 0 until it is set.
    #[must_use]
    pub fn part(&self) -> Part {
        self.0.part(&[])
    }
}

impl MaxVec {
    /// A part of the series with these label values, 0 until it is set.
    #[must_use]
    pub fn part(&self, labels: &[&str]) -> Part {
        self.0.part(labels)
    }
}

impl Min {
    /// A part, infinite until it is set.
    #[must_use]
    pub fn part(&self) -> Part {
        self.0.part(&[])
    }
}

impl Family for SumVec {
    const KIND: &'static str = "gauge";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        Self(Parts::register(Fold::Sum, spec, registry))
    }
}

impl Family for Sum {
    const KIND: &'static str = "gauge";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        let parts = Parts::register(Fold::Sum, spec, registry);
        parts.gauges.with_label_values::<&str>(&[]);
        Self(parts)
    }
}

impl Family for MaxVec {
    const KIND: &'static str = "gauge";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        Self(Parts::register(Fold::Max, spec, registry))
    }
}

impl Family for Min {
    const KIND: &'static str = "gauge";

    fn register(spec: &Spec, registry: &Registry) -> Self {
        let parts = Parts::register(Fold::Min, spec, registry);
        drop(parts.part(&[]));
        Self(parts)
    }
}

/// One owner's part of a gauge; it leaves the gauge when it is dropped.
pub struct Part(Arc<AtomicU64>);

impl Part {
    /// What this part contributes from now on. One store; no lock.
    pub fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Ordering::Relaxed);
    }

    /// [`Self::set`] with a whole number; exact up to 2^53.
    #[expect(clippy::cast_precision_loss, reason = "a gauge above 2^53 may lose its last digits")]
    pub fn set_u64(&self, value: u64) {
        self.set(value as f64);
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({})", f64::from_bits(self.0.load(Ordering::Relaxed)))
    }
}

/// The collector behind [`Sum`], [`SumVec`], [`MaxVec`] and [`Min`].
#[derive(Clone, Debug)]
struct Parts {
    fold: Fold,
    gauges: GaugeVec,
    /// One entry a series; a series stays after its last part is gone, at 0 or infinite.
    series: Arc<Mutex<Vec<Series>>>,
}

#[derive(Debug)]
struct Series {
    labels: Vec<String>,
    gauge: Gauge,
    parts: Vec<Weak<AtomicU64>>,
}

impl Parts {
    fn register(fold: Fold, spec: &Spec, registry: &Registry) -> Self {
        let gauges = GaugeVec::new(opts(spec), spec.labels);
        add(gauges.map(|gauges| Self { fold, gauges, series: Arc::default() }), registry)
    }

    fn part(&self, labels: &[&str]) -> Part {
        let value = Arc::new(AtomicU64::new(self.fold.begin().to_bits()));
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        match series.iter_mut().find(|one| one.labels == labels) {
            Some(one) => one.parts.push(Arc::downgrade(&value)),
            None => series.push(Series {
                labels: labels.iter().map(ToString::to_string).collect(),
                gauge: self.gauges.with_label_values(labels),
                parts: vec![Arc::downgrade(&value)],
            }),
        }
        Part(value)
    }
}

impl Collector for Parts {
    fn desc(&self) -> Vec<&prometheus::core::Desc> {
        self.gauges.desc()
    }

    fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        for one in series.iter_mut() {
            one.parts.retain(|part| part.strong_count() > 0);
            let live = one.parts.iter().filter_map(Weak::upgrade);
            let values = live.map(|part| f64::from_bits(part.load(Ordering::Relaxed)));
            one.gauge.set(match self.fold {
                Fold::Sum => values.fold(0.0, std::ops::Add::add),
                Fold::Max => values.fold(0.0, f64::max),
                Fold::Min => values.fold(self.fold.begin(), f64::min),
            });
        }
        drop(series);
        self.gauges.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: Spec =
        Spec { name: "parts", kind: "gauge", labels: &["role"], unit: "1", help: "Parts." };

    fn value(registry: &Registry) -> String {
        registry.gather()[0].get_metric()[0].get_gauge().get_value().to_string()
    }

    #[test]
    fn sum_is_of_the_parts_that_are_still_owned() {
        let registry = Registry::new();
        let sum = SumVec::register(&SPEC, &registry);
        let (mine, yours) = (sum.part(&["detect"]), sum.part(&["detect"]));
        mine.set_u64(3);
        yours.set_u64(4);
        assert_eq!(value(&registry), "7");
        drop(yours);
        assert_eq!(value(&registry), "3");
        drop(mine);
        assert_eq!(value(&registry), "0");
    }

    #[test]
    fn max_is_of_the_greatest_part_that_is_still_owned() {
        let registry = Registry::new();
        let max = MaxVec::register(&SPEC, &registry);
        let (mine, yours) = (max.part(&["ingest"]), max.part(&["ingest"]));
        mine.set(0.25);
        yours.set(0.75);
        assert_eq!(value(&registry), "0.75");
        drop(yours);
        assert_eq!(value(&registry), "0.25");
    }

    #[test]
    fn min_is_of_the_least_part_that_was_set_and_infinite_without_one() {
        let registry = Registry::new();
        let spec = Spec { labels: &[], ..SPEC };
        let min = Min::register(&spec, &registry);
        assert_eq!(value(&registry), "inf");
        let (mine, yours) = (min.part(), min.part());
        mine.set(7.0);
        assert_eq!(value(&registry), "7");
        yours.set(3.0);
        assert_eq!(value(&registry), "3");
        drop((mine, yours));
        assert_eq!(value(&registry), "inf");
    }

    #[test]
    fn series_stay_as_many_as_their_labels_however_often_parts_come_and_go() {
        let registry = Registry::new();
        let sum = SumVec::register(&SPEC, &registry);
        for _ in 0..1000 {
            sum.part(&["detect"]).set(1.0);
            registry.gather();
        }
        assert_eq!(registry.gather()[0].get_metric().len(), 1);
        assert_eq!(sum.0.series.lock().unwrap()[0].parts.len(), 0);
    }
}
