//! What the machine gives this process: descriptors, socket buffers, disk, the time.

use std::fs;
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::statvfs;

use super::finding::Finding;
use crate::sources::Checked;

/// Descriptors beyond the connections of clients: sockets of shards, files, the process's own.
const SPARE_DESCRIPTORS: u64 = 256;
/// A tenth of a second of 80 Mbit/s: what comes while the loop does something else.
const LEAST_BUFFER_BYTES: u64 = 1024 * 1024;
const LEAST_DISK_BYTES: u64 = 256 * 1024 * 1024;
/// Tokens are refused by their times beyond their leeway.
const MOST_SKEW: Duration = Duration::from_secs(5);
/// Between the epochs of NTP (1900) and Unix (RFC 5905 section 6).
const NTP_EPOCH_S: u64 = 2_208_988_800;

/// `RLIMIT_NOFILE` against what clients may need.
pub(crate) fn descriptors(checked: &Checked) -> Finding {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Finding::skipped("files", "the limit can't be read") };
    let turn = &checked.config.turn;
    let relays = if turn.enabled { turn.max_allocations } else { 0 };
    // one for the WebSocket, one for ICE over TCP; one for each relayed address
    let wanted = checked.config.limits.max_connections as u64 * 2 + relays as u64 + SPARE_DESCRIPTORS;
    let detail = format!(
        "{soft} file descriptors (hard limit {hard}); `limits.max_connections` = {} and {relays} TURN allocations need {wanted}",
        checked.config.limits.max_connections
    );
    if soft >= wanted {
        return Finding::ok("files", detail);
    }
    let remedy = format!("LimitNOFILE={wanted} in the systemd unit, `ulimit -n {wanted}`, or a smaller `limits.max_connections`");
    Finding::warning("files", "few-descriptors", detail, remedy)
}

/// What the kernel grants a socket that asks for as much as the node does.
pub(crate) fn buffers() -> Finding {
    let granted = match granted() {
        Ok(granted) => granted,
        Err(error) => return Finding::skipped("buffers", format!("no UDP socket: {error}")),
    };
    let limit = |name: &str| fs::read_to_string(format!("/proc/sys/net/core/{name}")).ok().and_then(|text| text.trim().parse::<u64>().ok());
    // the kernel doubles what is asked for, for its own bookkeeping (socket(7))
    let capped = |granted: u64, name: &str| limit(name).map_or(granted, |limit| granted.min(limit.saturating_mul(2)));
    let (receive, send) = (capped(granted.0, "rmem_max"), capped(granted.1, "wmem_max"));
    let detail = format!("socket buffers of {} KiB for receiving and {} KiB for sending", receive / 1024, send / 1024);
    if receive.min(send) / 2 >= LEAST_BUFFER_BYTES {
        return Finding::ok("buffers", detail);
    }
    let remedy =
        "sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=8388608 (in /etc/sysctl.d for good): packets are lost in bursts without";
    Finding::warning("buffers", "small-socket-buffers", detail, remedy)
}

fn granted() -> std::io::Result<(u64, u64)> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None)?;
    let wanted = sfu_node::SOCKET_BUFFER_BYTES;
    // the kernel grants what it allows; the result tells
    let _ = (socket.set_recv_buffer_size(wanted), socket.set_send_buffer_size(wanted));
    Ok((socket.recv_buffer_size()? as u64, socket.send_buffer_size()? as u64))
}

/// File systems that something is written to or read from.
pub(crate) fn disks(checked: &Checked) -> Vec<Finding> {
    let keys = checked.config.auth.keys_file.parent().filter(|folder| !folder.as_os_str().is_empty()).map(Path::to_path_buf);
    let mut seen = Vec::new();
    let mut findings = Vec::new();
    for folder in [std::env::current_dir().ok(), Some(std::env::temp_dir()), keys].into_iter().flatten() {
        let Ok(stat) = statvfs(&folder) else { continue };
        if !seen.contains(&stat.filesystem_id()) {
            seen.push(stat.filesystem_id());
            let free = stat.blocks_available().saturating_mul(stat.fragment_size());
            findings.push(disk(&folder, free));
        }
    }
    findings
}

fn disk(folder: &Path, free_bytes: u64) -> Finding {
    let detail = format!("{} MiB free on the file system of {}", free_bytes / 1024 / 1024, folder.display());
    if free_bytes >= LEAST_DISK_BYTES {
        return Finding::ok("disk", detail);
    }
    let remedy = format!("make room on the file system of {}: logs and whatever else is written there stop", folder.display());
    if free_bytes == 0 {
        Finding::failed("disk", "disk-full", detail, remedy)
    } else {
        Finding::warning("disk", "disk-almost-full", detail, remedy)
    }
}

/// The clock against another one; `their_unix_now` as it was when `ours` was read.
pub(super) fn clock(source: &str, theirs: Duration, ours: Duration) -> Finding {
    let skew = theirs.abs_diff(ours);
    let side = if ours > theirs { "ahead of" } else { "behind" };
    let detail = format!("this machine's clock is {:.1} s {side} that of {source}", skew.as_secs_f64());
    if skew <= MOST_SKEW {
        return Finding::ok("clock", detail);
    }
    let remedy = "synchronize the clock (systemd-timesyncd, chrony): access tokens are refused as expired or not yet valid without";
    Finding::failed("clock", "clock-skew", detail, remedy)
}

/// Asks a time server (SNTP: RFC 5905 section 14).
pub(super) fn ntp(server: &str) -> Finding {
    match ask_ntp(server) {
        Ok((theirs, ours)) => clock(server, theirs, ours),
        Err(error) => Finding::skipped("clock", format!("the time server {server} does not answer: {error}")),
    }
}

fn ask_ntp(server: &str) -> std::io::Result<(Duration, Duration)> {
    let server = if server.contains(':') { server.to_owned() } else { format!("{server}:123") };
    let address = server.to_socket_addrs()?.next().ok_or(std::io::ErrorKind::NotFound)?;
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    socket.connect(address)?;
    // version 4, mode 3 (client)
    let mut request = [0; 48];
    request[0] = 4 << 3 | 3;
    let asked = unix_now();
    socket.send(&request)?;
    let mut answer = [0; 48];
    let length = socket.recv(&mut answer)?;
    let answered = unix_now();
    // mode 4 (server), and a stratum that is not "kiss of death"
    let invalid = || std::io::Error::new(std::io::ErrorKind::InvalidData, "no answer of a time server");
    if length < 48 || answer[0] & 7 != 4 || answer[1] == 0 {
        return Err(invalid());
    }
    let (seconds, fraction) = answer[40..48].split_at(4);
    let number = |bytes: &[u8]| bytes.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    let seconds = number(seconds).checked_sub(NTP_EPOCH_S).ok_or_else(invalid)?;
    let nanos = u32::try_from(number(fraction).wrapping_mul(1_000_000_000) >> 32).unwrap_or(0);
    Ok((Duration::new(seconds, nanos), asked + answered.saturating_sub(asked) / 2))
}

pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Status;

    #[test]
    fn a_clock_is_right_within_the_leeway_of_tokens() {
        let at = Duration::from_secs;
        assert_eq!(clock("x", at(1000), at(1004)).status, Status::Ok);
        let ahead = clock("x", at(1000), at(1600));
        assert_eq!((ahead.status, ahead.cause), (Status::Failed, "clock-skew"));
        assert!(ahead.detail.contains("600.0 s ahead of"), "{}", ahead.detail);
        assert!(clock("x", at(1600), at(1000)).detail.contains("behind"));
    }

    #[test]
    fn a_full_disk_fails_and_a_small_rest_warns() {
        let folder = Path::new("/data");
        assert_eq!(disk(folder, 0).cause, "disk-full");
        assert_eq!(disk(folder, 1024 * 1024).status, Status::Warning);
        assert_eq!(disk(folder, 1 << 40).status, Status::Ok);
    }
}
