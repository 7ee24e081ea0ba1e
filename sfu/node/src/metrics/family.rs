//! Builds Prometheus's metric families from plain values.

use std::time::Duration;

use prometheus::proto::{Bucket, Counter, Gauge, Histogram as HistogramProto, LabelPair, Metric, MetricFamily, MetricType};
use sfu_core::telemetry::distribution::Distribution;

use crate::stats::Histogram;

/// Names and words of closed lists.
pub(super) type Labels = Vec<(&'static str, &'static str)>;
pub(super) type Samples = Vec<(Labels, f64)>;

/// One sample without labels.
pub(super) fn plain(value: u64) -> Samples {
    ratio(float(value))
}

/// One sample without labels.
pub(super) fn ratio(value: f64) -> Samples {
    vec![(Vec::new(), value)]
}

/// Counts with their labels.
pub(super) fn counts(samples: impl IntoIterator<Item = (Labels, u64)>) -> Samples {
    samples.into_iter().map(|(labels, value)| (labels, float(value))).collect()
}

pub(super) fn gauge(name: &str, help: &str, samples: Samples) -> MetricFamily {
    let metric = |value| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        Metric::from_gauge(gauge)
    };
    family(name, help, MetricType::GAUGE, samples.into_iter().map(|(labels, value)| with_labels(metric(value), &labels)).collect())
}

/// One gauge per number; the first is there even if nothing is, so that the name is.
pub(super) fn numbered(name: &str, help: &str, label: &str, values: &[(u16, f64)]) -> MetricFamily {
    let values = if values.is_empty() { &[(0, 0.0)] } else { values };
    let metric = |&(number, value): &(u16, f64)| {
        let (mut gauge, mut pair) = (Gauge::default(), LabelPair::default());
        gauge.set_value(value);
        pair.set_name(label.to_owned());
        pair.set_value(number.to_string());
        let mut metric = Metric::from_gauge(gauge);
        metric.set_label(vec![pair]);
        metric
    };
    family(name, help, MetricType::GAUGE, values.iter().map(metric).collect())
}

pub(super) fn counter(name: &str, help: &str, samples: Samples) -> MetricFamily {
    let metric = |value| {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::default();
        metric.set_counter(counter);
        metric
    };
    family(name, help, MetricType::COUNTER, samples.into_iter().map(|(labels, value)| with_labels(metric(value), &labels)).collect())
}

/// Of a loop's times, summed over shards.
pub(super) fn durations<'a>(name: &str, help: &str, shards: impl Iterator<Item = &'a Histogram>) -> MetricFamily {
    let total = shards.fold(Histogram::default(), |total, shard| total.plus(shard));
    let buckets = total.cumulative().map(|(bound, count): (Duration, u64)| (bound.as_secs_f64(), count));
    family(name, help, MetricType::HISTOGRAM, vec![buckets_of(buckets, total.count(), total.sum().as_secs_f64())])
}

/// Of what the engine has measured.
pub(super) fn distributions<'a>(name: &str, help: &str, samples: impl IntoIterator<Item = (Labels, &'a Distribution)>) -> MetricFamily {
    let metric = |(labels, all): (Labels, &Distribution)| with_labels(buckets_of(all.cumulative(), all.count(), all.sum()), &labels);
    family(name, help, MetricType::HISTOGRAM, samples.into_iter().map(metric).collect())
}

fn buckets_of(cumulative: impl Iterator<Item = (f64, u64)>, count: u64, sum: f64) -> Metric {
    let bucket = |(bound, count): (f64, u64)| {
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(bound);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut histogram = HistogramProto::default();
    histogram.set_bucket(cumulative.map(bucket).collect());
    histogram.set_sample_count(count);
    histogram.set_sample_sum(sum);
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    metric
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn with_labels(mut metric: Metric, labels: &[(&str, &str)]) -> Metric {
    let pair = |&(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    // sorted by name, as the text format's readers expect
    let mut labels: Vec<LabelPair> = labels.iter().map(pair).collect();
    labels.sort_by(|one, other| one.name().cmp(other.name()));
    metric.set_label(labels);
    metric
}

/// Counters stay exact up to 2^53.
pub(super) fn float(value: u64) -> f64 {
    value as f64
}
