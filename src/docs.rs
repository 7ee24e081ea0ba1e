//! `sluice docs`: pages of the documentation that are made from the code, so that they can't be wrong.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use clap::Subcommand;
use prometheus::proto::{MetricFamily, MetricType};

use crate::certificates::CertificateFiles;
use crate::output;

/// Which page.
#[derive(Subcommand)]
pub(crate) enum Page {
    /// Every metric with its labels and their words: docs/metrics.md.
    Metrics,
    /// Every reason code: docs/reasons.md.
    Reasons,
}

/// Runs the command.
pub(crate) fn run(page: Page) -> anyhow::Result<()> {
    match page {
        Page::Metrics => output::line(metrics()?.trim_end()),
        Page::Reasons => output::line(signaling_api::reason::page().trim_end()),
    }
}

/// Of a process that has just begun.
fn metrics() -> anyhow::Result<String> {
    let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for family in sfu_node::metrics::catalogue(&[])
        .into_iter()
        .chain(signaling_server::metrics_catalogue()?)
        .chain(CertificateFiles::catalogue()?)
        .chain(turn_server::metrics::catalogue())
    {
        match families.get_mut(family.name()) {
            Some(known) => known.mut_metric().extend(family.get_metric().iter().cloned()),
            None => drop(families.insert(family.name().to_owned(), family)),
        }
    }
    let mut page = String::from(INTRODUCTION);
    for family in families.values() {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        };
        let _ = writeln!(page, "\n### `{}`\n\n{kind}. {}", family.name(), family.help());
        let mut labels: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for pair in family.get_metric().iter().flat_map(|metric| metric.get_label()) {
            let words = labels.entry(pair.name()).or_default();
            if !words.contains(&pair.value()) {
                words.push(pair.value());
            }
        }
        if !labels.is_empty() {
            page.push('\n');
        }
        for (name, words) in labels {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            let _ = writeln!(page, "- `{name}`: {}", words.join(", "));
        }
        if let Some(metric) = family.get_metric().first().filter(|_| kind == "histogram") {
            let bounds: Vec<String> = metric.get_histogram().get_bucket().iter().map(|bucket| bucket.upper_bound().to_string()).collect();
            let _ = writeln!(page, "\nBuckets: {}", bounds.join(", "));
        }
    }
    Ok(page)
}

const INTRODUCTION: &str = "<!-- Printed by `sluice docs metrics`; do not edit. -->

# Metrics

Served in Prometheus's text format at `/metrics` of the HTTP port, for addresses in `metrics.allow` (this machine, unless changed), or on
the address of `metrics.listen`, for everybody who reaches it. Units are in the names: `_seconds`, `_bytes`, `_ratio` (0 to 1).

Labels are words of closed lists; ids, names and addresses of rooms and people never become one. A few lists grow with what is used: `codec`,
`source` and `route` (paths of the router), `code` (HTTP status), `shard` (threads). What is measured of media is counted once a second, for each
participant in turn; a scrape reads the latest sums and asks nothing of the threads that carry media. Direction `in` is from clients to the node,
`out` from the node to clients.

How scores come about: `sfu_mos` is the E-model of ITU-T G.107 with its default values, for narrow-band speech; the label `model` names it with the
version of the constants chosen here for Opus (`Ie` 0, `Bpl` 10, 20 with in-band FEC, doubled with redundancy by RFC 2198):

    R = 93.2 - Idd(Ta) - Ie,eff        Ie,eff = Ie + (95 - Ie) * Ppl / (Ppl / BurstR + Bpl)
    Ta = half the round trips of both ends + twice the jitter + 26.5 ms of Opus    Ppl = residual loss in percent

`GET /v1/rooms/{room}/participants/{id}/quality` exports the components per track and second (`delayMs`, `ratedLoss`, `burstRatio`, `bpl`), so that
anyone can compute it again. What clients report of themselves (`POST .../stats`) replaces what the node infers there: the time in the jitter
buffer and the share of concealed audio.

How a connection is: `sfu_connection_quality_participants` counts participants by `level` (what clients are told: `excellent`, `good`, `poor`,
`lost`), and by `direction` (`up` from the client, `down` to it, `both`) and `cause` of what ails it most: `loss`, `jitter`, `delay`, `bandwidth` (layers
that are wanted are left out), `silence` (nothing is heard of the client), `transport` (it has no path left), `signal` (its signal connection is gone).
The same words, with the score and since when, are in `connection` of `GET /v1/rooms/{room}/participants/{id}/quality`, and the changes before in
`connectionChanges`.

`sfu_video_score` is a score and no mean opinion score: 93.2 - Idd(Ta) - 6.5 per percent of residual loss - 1.5 per percent of repaired loss, 0 to 100.

## List
";
