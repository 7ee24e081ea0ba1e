//! Fan-out through the real loop and through the floor, as criterion sees it: CPU time of the thread, per frame.
//!
//! `cargo bench -p bench-micro --bench fanout`. For the ratio of the two measure them in turns: `--bin forwarding`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::Duration;

use bench_micro::Forwarder;
use bench_micro::engine::Engine;
use bench_micro::floor::Floor;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};

fn fan_out(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("fan-out");
    // Consent of the simulated subscribers ends after 30 s, so a measurement has to be short.
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for burst in [1, 4, 8] {
        for subscribers in [1, 10, 100, 1_000] {
            let name = format!("1x{subscribers}, {burst} per frame");
            group.throughput(Throughput::Elements((subscribers * burst) as u64));
            run(&mut group, "engine", &name, Engine::new(subscribers, burst).unwrap());
            run(&mut group, "floor", &name, Floor::new(subscribers, burst).unwrap());
        }
    }
    group.finish();
}

fn run(group: &mut BenchmarkGroup<'_, WallTime>, what: &str, name: &str, mut forwarder: impl Forwarder) {
    group.bench_function(BenchmarkId::new(what, name), |bencher| {
        bencher.iter_custom(|frames| (0..frames).map(|_| forwarder.turn().unwrap().0).sum());
    });
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
