//! CPU time and resident memory of processes, from `/proc`.

use std::io;
use std::time::Duration;

/// Reads some processes, as one.
#[derive(Debug, Clone)]
pub(crate) struct Meter(Vec<u32>);

/// A reading.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Reading {
    /// User and system time.
    pub(crate) cpu: Duration,
    /// Resident set, bytes.
    pub(crate) resident: u64,
}

impl Meter {
    pub(crate) fn of(pids: impl IntoIterator<Item = u32>) -> Self {
        Self(pids.into_iter().collect())
    }

    pub(crate) fn of_this_process() -> Self {
        Self::of([std::process::id()])
    }

    /// The sum over the processes.
    pub(crate) fn read(&self) -> io::Result<Reading> {
        let mut sum = Reading::default();
        for pid in &self.0 {
            let one = Reading::of(*pid)?;
            sum.cpu += one.cpu;
            sum.resident += one.resident;
        }
        Ok(sum)
    }
}

impl Reading {
    fn of(pid: u32) -> io::Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
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
        Ok(Self {
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
