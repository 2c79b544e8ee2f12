//! What opening a log finds on the disk.
//!
//! Only the last segment can be unfinished, so only it is read whole: an unfinished last record is
//! cut off (its bytes are copied to the quarantine first). Damage elsewhere is left in place; whoever
//! reads the log finds it and reports it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::index::Segment;
use super::keeper::quarantine_path;
use super::segment::{HEADER_LEN, Header, scan};
use super::{Origin, Position, ProducerId, Recovery};

const SUFFIX: &str = ".wal";
/// The digits of a segment's name: its base position, so that names sort as positions do.
const DIGITS: usize = 20;

/// The segments of a log and where it goes on.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) segments: Vec<Segment>,
    pub(super) next: u64,
    pub(super) report: Recovery,
}

/// The path of the segment that starts at `base`.
pub(super) fn segment_path(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:0DIGITS$}{SUFFIX}"))
}

/// Reads the directory and repairs the end of the last segment.
pub(super) fn recover(dir: &Path) -> io::Result<Recovered> {
    let mut bases = segment_bases(dir)?;
    let mut report = Recovery::default();
    let mut next = 1;
    let mut last = None;
    while let Some(base) = bases.pop() {
        next = next.max(base);
        last = recover_last(dir, base, &mut report)?;
        if last.is_some() {
            break;
        }
    }
    let mut segments = bases
        .iter()
        .map(|base| sealed(dir, *base))
        .collect::<io::Result<Vec<_>>>()?;
    if let Some(last) = last {
        next = next.max(last.end);
        segments.push(last);
    }
    let mut end = next;
    for segment in segments.iter_mut().rev() {
        segment.end = end;
        end = segment.base;
    }
    report.pending_events = next - segments.first().map_or(next, |segment| segment.base);
    Ok(Recovered {
        segments,
        next,
        report,
    })
}

fn segment_bases(dir: &Path) -> io::Result<Vec<u64>> {
    let mut bases = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(SUFFIX));
        bases.extend(
            digits
                .filter(|d| d.len() == DIGITS)
                .and_then(|d| d.parse::<u64>().ok()),
        );
    }
    bases.sort_unstable();
    Ok(bases)
}

/// Reads the last segment whole and cuts its torn tail; `None` (and no file) when it holds nothing.
fn recover_last(dir: &Path, base: u64, report: &mut Recovery) -> io::Result<Option<Segment>> {
    let path = segment_path(dir, base);
    let bytes = std::fs::read(&path)?;
    let records = bytes.get(HEADER_LEN..).unwrap_or_default();
    let found = scan(records, base);
    let intact = HEADER_LEN + found.intact;
    let torn = &bytes[intact.min(bytes.len())..];
    if !torn.is_empty() || found.intact == 0 {
        report.torn_bytes += length(torn.len());
        keep_copy(dir, &path, if found.intact == 0 { &bytes } else { torn });
    }
    if found.intact == 0 {
        std::fs::remove_file(&path)?;
        return Ok(None);
    }
    if !torn.is_empty() {
        let file = OpenOptions::new().write(true).open(&path)?;
        file.set_len(length(intact))?;
        file.sync_all()?;
    }
    let lost: u64 = found
        .damage
        .iter()
        .map(|d| d.positions.end - d.positions.start)
        .sum();
    report.damaged_records += lost;
    let mut segment = describe(path, base, &bytes, length(intact));
    segment.end = found.end;
    segment.damaged |= lost > 0;
    Ok(Some(segment))
}

fn sealed(dir: &Path, base: u64) -> io::Result<Segment> {
    let path = segment_path(dir, base);
    let mut header = Vec::with_capacity(HEADER_LEN);
    let file = File::open(&path)?;
    let bytes = file.metadata()?.len();
    (&file).take(length(HEADER_LEN)).read_to_end(&mut header)?;
    Ok(describe(path, base, &header, bytes))
}

/// A segment whose header is damaged belongs to nobody: no watermark applies to it, so all of it is
/// read again.
fn describe(path: PathBuf, base: u64, head: &[u8], bytes: u64) -> Segment {
    let header = Header::decode(head).filter(|header| header.base == base);
    let unknown = Origin {
        producer: ProducerId::UNKNOWN,
        first: Position::new(base),
    };
    Segment {
        path,
        origin: header.map_or(unknown, |header| header.origin),
        base,
        end: base,
        bytes,
        created: header.map(|header| header.created).unwrap_or_default(),
        damaged: header.is_none(),
    }
}

/// The copy is a courtesy to whoever looks into the crash; a full disk must not stop the recovery.
fn keep_copy(dir: &Path, segment: &Path, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let copied = quarantine_path(dir, segment).and_then(|mut path| {
        path.as_mut_os_string().push(".torn");
        let mut options = OpenOptions::new();
        options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?
            .write_all(bytes)
    });
    if let Err(error) = copied {
        tracing::warn!(%error, "the torn end of the audit log was cut without a copy");
    }
}

fn length(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
