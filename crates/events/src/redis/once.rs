//! Setting a mark once, on a server that may forget.
//!
//! A mark says that an id was used; the id must not pass again while it is valid. `SET NX` alone does
//! not give that: a server that restarts loses what it had not written yet (`appendfsync everysec`:
//! a second), one that comes back empty or is flushed loses everything, and a replica that is
//! promoted never got the newest marks. So each mark is set by one script that also answers for the
//! server's memory:
//!
//! 1. It reads the server's **reign**: `master_replid`, random, new whenever a server starts as
//!    primary or becomes one, and never the same again (unlike `run_id`, which comes back when a
//!    server loses and regains its role; `run_id` is used where a server hides the first).
//! 2. It compares the reign with the one written in the data, beside the time at which that reign was
//!    first seen. When they differ, or nothing is written, the data may lack marks: it writes this
//!    reign with the present time. So every process, and every later process, agrees on the time.
//! 3. An id made before that time passes no more. Ids carry their time (UUIDv7), made by another
//!    host's clock, hence the tolerances below.
//! 4. An id made later is marked with `SET NX`.
//!
//! The server runs a script as one step, so nothing can happen between the comparison and the mark,
//! whatever the connection went through: a reconnect, a proxy that hides a failover, a moved slot.
//!
//! **Why no id passes twice.** Let an id pass at time *u* on some server, by that server's clock;
//! rule 5 holds its making at most `CLOCKS_DIFFER` after *u*. Let it be presented again. On the same
//! reign and data the mark is there, as it is kept longer than the id is valid. Otherwise the present
//! reign was written at a time *b* that, in reality, lies after *u*; by clocks that differ by at most
//! `CLOCKS_DIFFER`, *u* is at most *b* + `CLOCKS_DIFFER`. So the id was made no later than
//! *b* + 2 × `CLOCKS_DIFFER`, and those are refused.
//!
//! 5. An id from more than `CLOCKS_DIFFER` in the future does not pass: it could outlive the argument.
//!
//! **What it costs.** For five seconds after a reign was first seen no id passes; [`OnceGate::check`]
//! says so, and readiness with it. One round trip a mark, some 5 µs of the server's time.
//!
//! **What it can't do.** Two primaries at once, on two sides of a cut network, each accept an id once.
//! `min-replicas-to-write 1` on the servers stops the one that is cut off. And marks outlive their ids
//! by ten minutes, so a clock that jumps further than that may end them early.
//!
//! In a cluster a script may only touch keys of one slot, so ids are spread over [`SHARDS`] hash tags
//! and each tag has its own reign. A slot that moves to another server begins anew.

use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use fred::interfaces::LuaInterface;

use super::connection::Redis;
use super::error::RedisError;

/// The most by which the clocks of two hosts may differ.
pub const CLOCKS_DIFFER: Duration = Duration::from_millis(2_500);

/// For this long after a reign began no id passes.
pub const YOUTH: Duration = Duration::from_secs(5);

/// Hash tags over which ids are spread in a cluster.
pub const SHARDS: u32 = 16;

/// Marks outlive their ids by this: a process whose clock is behind takes an id for valid longer.
const OUTLIVES: Duration = Duration::from_secs(600);

/// `KEYS`: the reign, and the mark unless only the reign is asked for. `ARGV`: milliseconds to keep
/// the mark, milliseconds at which the id was made, [`CLOCKS_DIFFER`], [`YOUTH`]. Answers the code of
/// the outcome and for how many milliseconds more the reign is young.
const SCRIPT: &str = r"
if redis.replicate_commands then redis.replicate_commands() end
local reign = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  or string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if not reign then return redis.error_reply('NOREIGN the server hides its identity') end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = redis.call('GET', KEYS[1]) or ''
local began = nil
if string.sub(held, 1, #reign + 1) == reign .. ' ' then
  began = tonumber(string.sub(held, #reign + 2))
end
if not began then
  began = now
  redis.call('SET', KEYS[1], reign .. ' ' .. string.format('%.0f', now))
end
local young = math.max(0, began + ARGV[4] - now)
if not KEYS[2] then return {2, young} end
local made = tonumber(ARGV[2])
if made <= began + ARGV[4] or made > now + ARGV[3] then return {2, young} end
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[1]) then return {1, young} end
return {0, young}
";

static SCRIPT_HASH: LazyLock<String> =
    LazyLock::new(|| hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, SCRIPT.as_bytes())));

/// What is known of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Once {
    /// First use; it is used now.
    First,
    /// Used before.
    Again,
    /// Made when the server's memory may have had gaps, or in the future: it may have been used.
    Predates,
}

/// Marks of one kind.
#[derive(Debug, Clone)]
pub struct OnceGate {
    redis: Redis,
    prefix: &'static str,
    clocks_differ: Duration,
    youth: Duration,
}

impl OnceGate {
    /// Marks whose keys begin with `prefix`.
    #[must_use]
    pub fn new(redis: Redis, prefix: &'static str) -> Self {
        Self {
            redis,
            prefix,
            clocks_differ: CLOCKS_DIFFER,
            youth: YOUTH,
        }
    }

    /// Lets no id pass for longer than [`YOUTH`] after a reign began.
    pub(super) fn young_for(self, youth: Duration) -> Self {
        Self { youth, ..self }
    }

    /// As long as the clocks of one host differ: not at all.
    #[cfg(test)]
    pub(super) fn on_one_host(redis: Redis, prefix: &'static str) -> Self {
        Self {
            clocks_differ: Duration::from_millis(100),
            youth: Duration::from_millis(200),
            ..Self::new(redis, prefix)
        }
    }

    /// Marks `id`, made at `made` (milliseconds since the Unix epoch) and valid for `valid` from now,
    /// as used.
    ///
    /// # Errors
    /// [`RedisError`]; the id may be marked then, so it must not be accepted.
    pub async fn pass(&self, id: &str, made: u64, valid: Duration) -> Result<Once, RedisError> {
        let shard = self.shard(id);
        let keys = vec![
            reign_key(shard),
            format!("{}:{{{shard}}}:{id}", self.prefix),
        ];
        let keep = valid.saturating_add(OUTLIVES);
        match self.ask(keys, keep, made).await?.0 {
            1 => Ok(Once::First),
            0 => Ok(Once::Again),
            _ => Ok(Once::Predates),
        }
    }

    /// Settles since when the server's memory is whole, and how long ids still do not pass: zero once
    /// they do.
    ///
    /// # Errors
    /// [`RedisError`].
    pub async fn check(&self) -> Result<Duration, RedisError> {
        let mut longest = 0;
        for shard in 0..self.shards() {
            let (_, young) = self.ask(vec![reign_key(shard)], Duration::ZERO, 0).await?;
            longest = longest.max(young);
        }
        Ok(Duration::from_millis(longest))
    }

    async fn ask(
        &self,
        keys: Vec<String>,
        keep: Duration,
        made: u64,
    ) -> Result<(i64, u64), RedisError> {
        let arguments: Vec<String> = [
            millis(keep),
            made,
            millis(self.clocks_differ),
            millis(self.youth),
        ]
        .iter()
        .map(u64::to_string)
        .collect();
        let commands = self.redis.commands();
        let by_hash = commands.evalsha(SCRIPT_HASH.as_str(), keys.clone(), arguments.clone());
        match self.redis.run(by_hash).await {
            Err(error) if error.is_unknown_script() => {
                let by_text = commands.eval(SCRIPT, keys, arguments);
                self.redis.run(by_text).await
            }
            outcome => outcome,
        }
    }

    fn shards(&self) -> u32 {
        if self.redis.is_cluster() { SHARDS } else { 1 }
    }

    /// The same for every process: FNV-1a.
    fn shard(&self, id: &str) -> u32 {
        let hash = id.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        (hash ^ (hash >> 16)) % self.shards()
    }
}

fn reign_key(shard: u32) -> String {
    format!("caracal:reign:{{{shard}}}")
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
