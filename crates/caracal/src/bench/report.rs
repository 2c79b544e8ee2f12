//! What a bench prints.

use std::time::Duration;

use serde_json::{Value, json};

use super::counters::Counted;
use super::lane::Tally;

/// How many Redis commands are named, the most frequent first.
const NAMED: usize = 6;

/// One measured run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) workers: usize,
    pub(crate) elapsed: Duration,
    pub(crate) tally: Tally,
    pub(crate) stack_cpu: Duration,
    pub(crate) load_cpu: Duration,
    pub(crate) resident: u64,
    /// What the stores were asked meanwhile.
    pub(crate) asked: Option<Counted>,
}

/// All runs, and the limits that were raised for them.
pub(crate) struct Report<'a> {
    pub(crate) shape: &'static str,
    pub(crate) raised: Vec<(&'a str, &'a str)>,
    pub(crate) seconds: u64,
    pub(crate) runs: Vec<Run>,
}

struct Figures {
    calls: usize,
    per_second: f64,
    p50: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    stack_cpu_per_1000: f64,
    load_cpu_per_1000: f64,
    resident_mib: f64,
    statements_per_call: Option<f64>,
    commands_per_call: Option<f64>,
}

impl Run {
    fn figures(&self) -> Figures {
        let mut sorted = self.tally.latencies.clone();
        sorted.sort_unstable();
        let quantile = |part: usize| {
            let index = (sorted.len() * part / 1_000).min(sorted.len().saturating_sub(1));
            sorted
                .get(index)
                .map_or(0.0, |micros| f64::from(*micros) / 1_000.0)
        };
        let calls = sorted.len();
        let count = u32::try_from(calls).map_or(f64::MAX, f64::from);
        let per_1000 = |cpu: Duration| {
            if calls == 0 {
                0.0
            } else {
                cpu.as_secs_f64() * 1_000.0 / count
            }
        };
        let per_call = |number: u64| {
            let number = u32::try_from(number).map_or(f64::MAX, f64::from);
            (calls > 0).then(|| number / count)
        };
        let asked = self.asked.as_ref();
        let mib = u32::try_from(self.resident / 1024).map_or(0.0, f64::from) / 1024.0;
        Figures {
            calls,
            per_second: count / self.elapsed.as_secs_f64(),
            p50: quantile(500),
            p95: quantile(950),
            p99: quantile(990),
            p999: quantile(999),
            stack_cpu_per_1000: per_1000(self.stack_cpu),
            load_cpu_per_1000: per_1000(self.load_cpu),
            resident_mib: mib,
            statements_per_call: asked.and_then(|a| a.statements).and_then(per_call),
            commands_per_call: asked.map(Counted::sent).and_then(per_call),
        }
    }
}

impl Report<'_> {
    pub(crate) fn has_failures(&self) -> bool {
        self.runs.iter().any(|run| run.tally.failures > 0)
    }

    pub(crate) fn table(&self) -> String {
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        let mut out = format!(
            "governed calls (mint + Gateway + upstream), {} stack, closed loop, {} s a run; \
             {cores} cores shared by stack, load and upstream\nlimits raised on this stack: ",
            self.shape, self.seconds
        );
        let raised: Vec<String> = self
            .raised
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        out.push_str(&raised.join(" "));
        out.push_str(
            "\n\nworkers   calls/s   p50 ms   p95 ms   p99 ms  p99.9 ms  stack CPU s/1000  load CPU s/1000  RSS MiB  failures  SQL/call  Redis/call\n",
        );
        for run in &self.runs {
            let f = run.figures();
            out.push_str(&format!(
                "{:>7} {:>9.0} {:>8.2} {:>8.2} {:>8.2} {:>9.2} {:>17.3} {:>16.3} {:>8.1} {:>9} {:>9} {:>11}\n",
                run.workers,
                f.per_second,
                f.p50,
                f.p95,
                f.p99,
                f.p999,
                f.stack_cpu_per_1000,
                f.load_cpu_per_1000,
                f.resident_mib,
                run.tally.failures,
                shown(f.statements_per_call),
                shown(f.commands_per_call),
            ));
            if let Some(asked) = &run.asked {
                out.push_str(&format!("        Redis ran: {}\n", most_frequent(asked)));
            }
            if let Some(failure) = &run.tally.first_failure {
                out.push_str(&format!("        first failure: {failure}\n"));
            }
        }
        out
    }

    pub(crate) fn json(&self) -> String {
        let runs: Vec<Value> = self
            .runs
            .iter()
            .map(|run| {
                let f = run.figures();
                json!({
                    "workers": run.workers, "calls": f.calls, "calls_per_second": f.per_second,
                    "p50_ms": f.p50, "p95_ms": f.p95, "p99_ms": f.p99, "p999_ms": f.p999,
                    "stack_cpu_seconds_per_1000": f.stack_cpu_per_1000,
                    "load_cpu_seconds_per_1000": f.load_cpu_per_1000,
                    "resident_mib": f.resident_mib, "failures": run.tally.failures,
                    "first_failure": run.tally.first_failure,
                    "postgres_statements_per_call": f.statements_per_call,
                    "redis_commands_per_call": f.commands_per_call,
                    "redis_commands": run.asked.as_ref().map(|asked| &asked.commands),
                })
            })
            .collect();
        let raised: serde_json::Map<String, Value> = self
            .raised
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        format!(
            "{:#}\n",
            json!({ "shape": self.shape, "seconds": self.seconds, "raised": raised, "runs": runs })
        )
    }
}

fn shown(figure: Option<f64>) -> String {
    figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.2}"))
}

fn most_frequent(asked: &Counted) -> String {
    let mut commands: Vec<(&String, &u64)> = asked.commands.iter().collect();
    commands.sort_by_key(|(_, calls)| std::cmp::Reverse(**calls));
    let named = commands.iter().take(NAMED);
    let named: Vec<String> = named
        .map(|(name, calls)| format!("{calls} {name}"))
        .collect();
    named.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_come_from_the_sorted_latencies() {
        let tally = Tally {
            latencies: (1..=1000).rev().map(|n| n * 1000).collect(),
            ..Tally::default()
        };
        let run = Run {
            workers: 4,
            elapsed: Duration::from_secs(10),
            tally,
            stack_cpu: Duration::from_secs(1),
            load_cpu: Duration::ZERO,
            resident: 64 * 1024 * 1024,
            asked: Some(Counted {
                statements: Some(100),
                commands: [("evalsha".to_owned(), 2_000)].into(),
            }),
        };
        let figures = run.figures();
        assert!((figures.per_second - 100.0).abs() < 0.001);
        assert!((figures.p50 - 501.0).abs() < 0.001, "{}", figures.p50);
        assert!((figures.p99 - 991.0).abs() < 0.001);
        assert!((figures.stack_cpu_per_1000 - 1.0).abs() < 0.001);
        assert!((figures.resident_mib - 64.0).abs() < 0.001);
        assert_eq!(shown(figures.statements_per_call), "0.10");
        assert_eq!(shown(figures.commands_per_call), "2.00");
    }
}
