//! What processes cost, from `/proc`: CPU time and memory of a server with all its descendants, and of this program.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// CPU time and memory at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time (`utime` + `stime` of `proc(5)`), in steps of 10 ms as a rule.
    pub cpu: Duration,
    /// Resident memory in bytes.
    pub rss_bytes: u64,
    /// CPU time by the names of threads.
    pub threads: BTreeMap<String, Duration>,
}

impl Usage {
    /// Of a process and all its descendants; zero if there is none.
    #[must_use]
    pub fn of_tree(root: u32) -> Self {
        let mut parents: Vec<(u32, u32)> = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            if let Some(stat) = Stat::read(&format!("/proc/{pid}/stat")) {
                parents.push((pid, stat.parent));
            }
        }
        let mut tree = vec![root];
        let mut next = 0;
        while let Some(&parent) = tree.get(next) {
            tree.extend(parents.iter().filter(|(pid, of)| *of == parent && *pid != root).map(|(pid, _)| *pid));
            next += 1;
        }
        let mut usage = Self::default();
        for pid in tree {
            usage.add(pid);
        }
        usage
    }

    /// Of this program.
    #[must_use]
    pub fn of_self() -> Self {
        let mut usage = Self::default();
        usage.add(std::process::id());
        usage
    }

    /// CPU time since an earlier look.
    #[must_use]
    pub fn cpu_since(&self, earlier: &Self) -> Duration {
        self.cpu.saturating_sub(earlier.cpu)
    }

    /// CPU time of threads since an earlier look, the busiest first.
    #[must_use]
    pub fn threads_since(&self, earlier: &Self) -> Vec<(String, Duration)> {
        let since =
            |(name, cpu): (&String, &Duration)| (name.clone(), cpu.saturating_sub(earlier.threads.get(name).copied().unwrap_or_default()));
        let mut threads: Vec<_> = self.threads.iter().map(since).filter(|(_, cpu)| !cpu.is_zero()).collect();
        threads.sort_by_key(|(_, cpu)| std::cmp::Reverse(*cpu));
        threads
    }

    fn add(&mut self, pid: u32) {
        let Some(stat) = Stat::read(&format!("/proc/{pid}/stat")) else { return };
        self.cpu += stat.cpu;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        self.rss_bytes += resident.unwrap_or(0) * 1024;
        for entry in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            if let Some(stat) = Stat::read(&format!("{}/stat", entry.path().display())) {
                *self.threads.entry(stat.name).or_default() += stat.cpu;
            }
        }
    }
}

/// Part of a `stat` file (`proc(5)`).
struct Stat {
    name: String,
    parent: u32,
    cpu: Duration,
}

impl Stat {
    fn read(path: &str) -> Option<Self> {
        Self::parse(&fs::read_to_string(path).ok()?)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name is in parentheses and may hold any others.
        let (head, rest) = text.rsplit_once(") ")?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = rest.split(' ').collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let ticks = number(11)? + number(12)?;
        Some(Self { name, parent: u32::try_from(number(1)?).ok()?, cpu: Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND) })
    }
}

/// `USER_HZ`, which is 100 on every architecture that Linux gives a media server.
const TICKS_PER_SECOND: u64 = 100;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_stat_file_is_read_whatever_the_name() {
        let text = "71 (a) b (c)) S 7 71 71 0 -1 4194560 100 0 0 0 123 45 0 0 20 0 3 0 100 1000 200 1 1 1";
        let stat = Stat::parse(text).unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.cpu), ("a) b (c)", 7, Duration::from_millis(1_680)));
        assert!(Stat::parse("").is_none());
    }

    #[test]
    fn work_shows_in_the_usage_of_this_program() {
        let before = Usage::of_self();
        let mut work = 0_u64;
        while Usage::of_self().cpu < before.cpu + Duration::from_millis(20) {
            work = std::hint::black_box(work.wrapping_add(1));
        }
        assert!(Usage::of_self().rss_bytes > 100_000);
    }

    #[test]
    fn threads_are_told_apart_by_name_and_the_busiest_comes_first() {
        let ms = Duration::from_millis;
        let of = |threads: &[(&str, u64)]| Usage {
            threads: threads.iter().map(|(name, cpu)| ((*name).to_owned(), ms(*cpu))).collect(),
            ..Usage::default()
        };
        let (before, after) = (of(&[("shard", 10), ("old", 5)]), of(&[("shard", 30), ("new", 50), ("old", 5)]));
        assert_eq!(after.threads_since(&before), [("new".to_owned(), ms(50)), ("shard".to_owned(), ms(20))]);
    }

    #[test]
    fn a_tree_counts_children() {
        let tree = Usage::of_tree(std::process::id());
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        // The child's memory is there once it has been started, which spawn() waits for.
        let with_child = Usage::of_tree(std::process::id());
        let alone = Usage::of_tree(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(alone.rss_bytes > 0 && with_child.rss_bytes > tree.rss_bytes.min(alone.rss_bytes));
        assert_eq!(Usage::of_tree(u32::MAX), Usage::default());
    }
}
