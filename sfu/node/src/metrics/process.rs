//! The usual metrics of a process, from `/proc/self` (proc(5)); zero where there is none.

use std::fs;

use nix::sys::resource::{Resource, getrlimit};
use prometheus::proto::MetricFamily;

use super::family::{counter, float, gauge, plain, ratio};

/// Field numbers of `/proc/self/stat` behind the command's closing parenthesis, which stands in field 2.
const UTIME: usize = 14 - 3;
const STIME: usize = 15 - 3;
const THREADS: usize = 20 - 3;
const START_TIME: usize = 22 - 3;
/// Ticks per second in `/proc`, whatever the kernel's own: part of its interface on all machines that Rust's standard library runs on
/// (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// All of them.
pub(super) fn families() -> Vec<MetricFamily> {
    let stat = Stat::read();
    let descriptors = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u64;
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
    vec![
        counter("process_cpu_seconds_total", "Processor time of this process, user and system.", ratio(stat.cpu_seconds)),
        gauge("process_resident_memory_bytes", "Resident memory of this process.", plain(stat.resident_bytes)),
        gauge("process_threads", "Threads of this process.", plain(stat.threads)),
        gauge("process_open_fds", "Open file descriptors.", plain(descriptors)),
        gauge("process_max_fds", "Limit of open file descriptors.", plain(limit)),
        gauge("process_start_time_seconds", "Start of this process, in seconds since the Unix epoch.", ratio(stat.started_seconds)),
    ]
}

#[derive(Default)]
struct Stat {
    cpu_seconds: f64,
    resident_bytes: u64,
    threads: u64,
    started_seconds: f64,
}

impl Stat {
    fn read() -> Self {
        let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let system = fs::read_to_string("/proc/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self::parse(&text, &system, &status).unwrap_or_default()
    }

    fn parse(text: &str, system: &str, status: &str) -> Option<Self> {
        // The command may contain anything, parentheses included.
        let (_, rest) = text.rsplit_once(") ")?;
        let field = |number: usize| rest.split(' ').nth(number)?.trim().parse::<u64>().ok();
        let seconds = |ticks: u64| float(ticks) / TICKS_PER_SECOND;
        let booted = system.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok())?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let resident_kib: u64 = resident.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(Self {
            cpu_seconds: seconds(field(UTIME)? + field(STIME)?),
            resident_bytes: resident_kib.saturating_mul(1024),
            threads: field(THREADS)?,
            started_seconds: float(booted) + seconds(field(START_TIME)?),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fields_are_counted_behind_the_command() {
        let text = "42 (a b) c) S 1 42 42 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 7 0 1000 9999 300 18446744073709551615 1";
        let stat = Stat::parse(text, "cpu 1 2\nbtime 1700000000\n", "VmPeak: 9 kB\nVmRSS:\t     300 kB\n").unwrap();
        assert_eq!((stat.cpu_seconds, stat.threads, stat.resident_bytes), (2.0, 7, 300 * 1024));
        assert!((stat.started_seconds - 1_700_000_010.0).abs() < 1e-6);
        assert!(Stat::parse("", "", "").is_none());
    }

    #[test]
    fn this_process_has_threads_and_memory() {
        let stat = Stat::read();
        assert!(stat.threads >= 1 && stat.resident_bytes > 0 && stat.started_seconds > 1e9);
    }
}
