//! CPU time and resident memory of a process, from `/proc`.

use std::io;
use std::time::Duration;

/// Reads one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter(u32);

/// A reading.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reading {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Resident set, bytes.
    pub(crate) resident: u64,
}

impl Meter {
    pub(crate) fn of(pid: u32) -> Self {
        Self(pid)
    }

    pub(crate) fn of_this_process() -> Self {
        Self(std::process::id())
    }

    pub(crate) fn read(&self) -> io::Result<Reading> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let field = |index: usize| {
            after_name
                .split_whitespace()
                .nth(index)
                .and_then(|text| text.parse::<u64>().ok())
        };
        let malformed = || io::Error::other("unreadable /proc stat");
        let ticks = field(11).ok_or_else(malformed)? + field(12).ok_or_else(malformed)?;
        let pages = field(21).ok_or_else(malformed)?;
        let per_second = rustix::param::clock_ticks_per_second();
        let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
        Ok(Reading {
            cpu: Duration::from_millis(ticks * 1_000 / per_second.max(1)),
            resident: pages * page,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Meter;

    #[test]
    fn this_process_has_memory() {
        assert!(Meter::of_this_process().read().unwrap().resident > 0);
    }
}
