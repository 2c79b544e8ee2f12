//! What breaks: how each fault begins, how long it lasts and how its cause goes away.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use caracal::role_process::RoleProcess;

use crate::DrillError;
use crate::checker::Rules;
use crate::deployment::{Deployment, REPLICAS, Role};
use crate::history::{Fact, History};

/// From the end of a cause to the last trouble.
const RECOVERY: Duration = Duration::from_secs(15);

/// Size of the disk that fills, and of the file that fills it.
const DISK: &str = "size=16m";
const BALLAST: usize = 16 * 1024 * 1024;

/// Pause before a killed replica comes back.
const ABSENCE: Duration = Duration::from_millis(700);

/// How long faults last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lengths {
    pub(crate) kills: usize,
    pub(crate) pause: Duration,
    pub(crate) redis_down: Duration,
    pub(crate) postgres_down: Duration,
    pub(crate) other: Duration,
}

impl Lengths {
    /// For every change of the code.
    pub(crate) const SHORT: Self = Self {
        kills: 1,
        pause: Duration::from_secs(5),
        redis_down: Duration::from_secs(15),
        postgres_down: Duration::from_secs(8),
        other: Duration::from_secs(5),
    };

    /// For a release.
    pub(crate) const FULL: Self = Self {
        kills: 10,
        pause: Duration::from_secs(30),
        redis_down: Duration::from_secs(300),
        postgres_down: Duration::from_secs(60),
        other: Duration::from_secs(30),
    };
}

/// A fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// `kill -9` of one replica, again and again, then of both at once.
    Kill(Role),
    /// SIGSTOP of one replica, then SIGCONT.
    Pause(Role),
    /// The server is killed and started again.
    PostgresRestart,
    /// The server is not there.
    PostgresDown,
    /// The server is started again, with its data or empty.
    RedisRestart { keeps_data: bool },
    /// The server is not there.
    RedisDown,
    /// The disk of one replica's local audit log is full.
    DiskFull(Role),
    /// The clock of one replica steps by five minutes.
    ClockStep { role: Role, forward: bool },
    /// The network between one Gateway and the STS swallows every byte.
    HalfOpen,
}

/// What a fault changed beforehand and must put back.
pub(crate) enum Prepared {
    Nothing,
    /// A small disk of its own, mounted at this directory.
    SmallDisk(PathBuf),
    /// Mounting is not allowed here: the process's files are kept from growing instead.
    SmallFiles,
    /// The file that shifts the clock.
    Clock(PathBuf),
}

impl Fault {
    pub(crate) fn all() -> Vec<Self> {
        let mut all: Vec<Self> = Role::ALL.map(Self::Kill).to_vec();
        all.extend(Role::ALL.map(Self::Pause));
        all.extend([
            Self::PostgresRestart,
            Self::PostgresDown,
            Self::RedisRestart { keeps_data: true },
            Self::RedisRestart { keeps_data: false },
            Self::RedisDown,
            Self::DiskFull(Role::Sts),
            Self::DiskFull(Role::Gateway),
        ]);
        for role in [Role::Sts, Role::Gateway, Role::Coordinator] {
            for forward in [true, false] {
                all.push(Self::ClockStep { role, forward });
            }
        }
        all.push(Self::HalfOpen);
        all
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Kill(role) => format!("kill-{}", role.name()),
            Self::Pause(role) => format!("pause-{}", role.name()),
            Self::PostgresRestart => "postgres-restart".to_owned(),
            Self::PostgresDown => "postgres-down".to_owned(),
            Self::RedisRestart { keeps_data: true } => "redis-restart-kept".to_owned(),
            Self::RedisRestart { keeps_data: false } => "redis-restart-empty".to_owned(),
            Self::RedisDown => "redis-down".to_owned(),
            Self::DiskFull(role) => format!("disk-full-{}", role.name()),
            Self::ClockStep { role, forward } => {
                let way = if forward { "forward" } else { "back" };
                format!("clock-{way}-{}", role.name())
            }
            Self::HalfOpen => "half-open".to_owned(),
        }
    }

    pub(crate) fn rules(self) -> Rules {
        Rules {
            recovery: RECOVERY,
            may_refuse_during_fault: matches!(self, Self::ClockStep { .. }),
        }
    }

    /// What must be there before the load starts.
    pub(crate) async fn prepare(self, on: &mut Deployment) -> Result<Prepared, DrillError> {
        match self {
            Self::DiskFull(role) => {
                let path = on.audit_log(role, 0);
                on.kill(role, 0);
                let source = ["-t", "tmpfs", "-o", DISK, "tmpfs"];
                let mounted = run(Command::new("mount").args(source).arg(&path)).is_ok();
                on.restart(role, 0).await?;
                Ok(if mounted {
                    Prepared::SmallDisk(path)
                } else {
                    Prepared::SmallFiles
                })
            }
            Self::ClockStep { role, .. } => {
                let path = on.directory().join("clock");
                set_clock(&path, "+0")?;
                let variables = [
                    ("LD_PRELOAD", faketime()?.display().to_string()),
                    ("FAKETIME_TIMESTAMP_FILE", path.display().to_string()),
                    ("FAKETIME_CACHE_DURATION", "1".to_owned()),
                    ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
                    ("NO_FAKE_STAT", "1".to_owned()),
                ];
                on.restart_with(role, 0, &variables).await?;
                Ok(Prepared::Clock(path))
            }
            _ => Ok(Prepared::Nothing),
        }
    }

    /// Begins the fault, lets it last, and takes its cause away.
    pub(crate) async fn play(
        self,
        on: &mut Deployment,
        prepared: &Prepared,
        lengths: Lengths,
        history: &History,
    ) -> Result<(), DrillError> {
        history.note(Fact::Fault);
        match self {
            Self::Kill(role) => kill(on, role, lengths.kills).await?,
            Self::Pause(role) => {
                if let Some(process) = on.process(role, 0) {
                    process.pause();
                    tokio::time::sleep(lengths.pause).await;
                    process.resume();
                }
            }
            Self::PostgresRestart => {
                on.postgres.stop(true);
                on.postgres.start_again()?;
            }
            Self::PostgresDown => {
                on.postgres.stop(false);
                tokio::time::sleep(lengths.postgres_down).await;
                on.postgres.start_again()?;
            }
            Self::RedisRestart { keeps_data } => {
                on.redis.stop(!keeps_data);
                if !keeps_data {
                    on.redis.forget()?;
                }
                on.redis.start_again()?;
                history.note(Fact::MarksLost);
            }
            Self::RedisDown => {
                on.redis.stop(false);
                tokio::time::sleep(lengths.redis_down).await;
                on.redis.start_again()?;
                history.note(Fact::MarksLost);
            }
            Self::DiskFull(role) => fill_disk(on, role, prepared, lengths.other).await?,
            Self::ClockStep { forward, .. } => {
                if let Prepared::Clock(clock) = prepared {
                    set_clock(clock, if forward { "+300" } else { "-300" })?;
                    tokio::time::sleep(lengths.other).await;
                    set_clock(clock, "+0")?;
                    // It is read once a second.
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
            Self::HalfOpen => {
                on.wire(0).cut();
                tokio::time::sleep(lengths.other).await;
                on.wire(0).mend();
            }
        }
        history.note(Fact::Healed);
        Ok(())
    }

    /// Puts back what [`Fault::prepare`] changed.
    pub(crate) async fn put_back(
        self,
        on: &mut Deployment,
        prepared: Prepared,
    ) -> Result<(), DrillError> {
        match (self, prepared) {
            (Self::DiskFull(role), Prepared::SmallDisk(disk)) => {
                // What the log holds moves to the disk below, as an operator moves a volume.
                on.kill(role, 0);
                let kept = on.directory().join("moved");
                run(Command::new("cp").arg("-a").arg(&disk).arg(&kept))?;
                run(Command::new("umount").arg(&disk))?;
                run(Command::new("cp").arg("-a").arg(kept.join(".")).arg(&disk))?;
                std::fs::remove_dir_all(&kept).map_err(|e| DrillError::Io("log", e))?;
                on.restart(role, 0).await
            }
            (Self::ClockStep { role, .. }, _) => on.restart_without(role, 0, &["LD_PRELOAD"]).await,
            _ => Ok(()),
        }
    }
}

async fn fill_disk(
    on: &Deployment,
    role: Role,
    prepared: &Prepared,
    length: Duration,
) -> Result<(), DrillError> {
    if let Prepared::SmallDisk(disk) = prepared {
        let ballast = disk.join("ballast");
        // Fails when the disk is full: that is the point.
        let _ = std::fs::write(&ballast, vec![0; BALLAST]);
        tokio::time::sleep(length).await;
        return std::fs::remove_file(&ballast).map_err(|e| DrillError::Io("ballast", e));
    }
    let pid = on
        .process(role, 0)
        .map(RoleProcess::pid)
        .unwrap_or_default();
    let limit = |size: &str| {
        let size = format!("--fsize={size}");
        run(Command::new("prlimit")
            .arg(size)
            .args(["--pid", &pid.to_string()]))
    };
    limit("1:unlimited")?;
    tokio::time::sleep(length).await;
    limit("unlimited")
}

async fn kill(on: &mut Deployment, role: Role, times: usize) -> Result<(), DrillError> {
    for time in 0..times {
        let number = time % REPLICAS;
        on.kill(role, number);
        tokio::time::sleep(ABSENCE).await;
        on.restart(role, number).await?;
        tokio::time::sleep(ABSENCE).await;
    }
    for number in 0..REPLICAS {
        on.kill(role, number);
    }
    tokio::time::sleep(ABSENCE).await;
    for number in 0..REPLICAS {
        on.restart(role, number).await?;
    }
    Ok(())
}

fn set_clock(path: &Path, offset: &str) -> Result<(), DrillError> {
    // Written beside and moved, so that nobody reads half of it.
    let beside = path.with_extension("new");
    std::fs::write(&beside, format!("{offset}\n"))
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|e| DrillError::Io("clock", e))
}

/// The library that shifts the clock of a process.
fn faketime() -> Result<PathBuf, DrillError> {
    let machines = std::fs::read_dir("/usr/lib").map_err(|e| DrillError::Io("/usr/lib", e))?;
    let found = machines
        .flatten()
        .map(|machine| machine.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file());
    found.ok_or(DrillError::Missing("libfaketime", "faketime"))
}

fn run(command: &mut Command) -> Result<(), DrillError> {
    let output = command
        .output()
        .map_err(|e| DrillError::Io("a command", e))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(DrillError::Command("a command of the drill", said))
}
