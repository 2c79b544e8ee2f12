//! What the drills print.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::DrillError;
use crate::checker::Verdict;
use crate::fault::Fault;
use crate::topology::Rounds;

/// How many broken rules of a drill are printed.
const SHOWN: usize = 12;

/// The result of one drill.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    verdict: Verdict,
    events: usize,
    took: Duration,
    remark: String,
}

impl Row {
    pub(crate) fn of_drill(fault: Fault, verdict: Verdict, events: usize, took: Duration) -> Self {
        Self {
            name: fault.name(),
            verdict,
            events,
            took,
            remark: String::new(),
        }
    }

    pub(crate) fn of_topology(
        rounds: Rounds,
        wrong: Vec<String>,
        mut verdict: Verdict,
        took: Duration,
    ) -> Self {
        verdict.violations.extend(wrong);
        let Rounds { revocations, races } = rounds;
        Self {
            name: crate::TOPOLOGY.to_owned(),
            verdict,
            events: 0,
            took,
            remark: format!("{revocations} revocations, {races} races"),
        }
    }

    pub(crate) fn of_error(name: &str, error: &DrillError, took: Duration) -> Self {
        let verdict = Verdict {
            violations: vec![format!("could not be played: {error}")],
            ..Verdict::default()
        };
        Self {
            name: name.to_owned(),
            verdict,
            events: 0,
            took,
            remark: String::new(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn passed(&self) -> bool {
        self.verdict.violations.is_empty()
    }

    /// One line for the one who waits, with the first broken rules below.
    pub(crate) fn line(&self) -> String {
        let mark = if self.passed() { "✓" } else { "✗" };
        let mut out = format!("{mark} {} ({:.0} s)", self.name, self.took.as_secs_f64());
        for (rule, (times, example)) in self.broken_rules() {
            out.push_str(&format!("\n    {times} × {rule}{example}"));
        }
        out
    }

    /// Each broken rule: how often, and the rest of the first text that tells it.
    fn broken_rules(&self) -> BTreeMap<&str, (usize, &str)> {
        let mut rules: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
        for text in &self.verdict.violations {
            let end = text.find(": {").unwrap_or(text.len());
            let (rule, example) = text.split_at(end);
            rules.entry(rule).or_insert((0, example)).0 += 1;
        }
        let shown = rules.into_iter().take(SHOWN);
        shown.collect()
    }

    fn cells(&self) -> [String; 10] {
        let v = &self.verdict;
        let recovery = v.recovered_in.map_or_else(
            || "–".to_owned(),
            |took| format!("{:.1} s", took.as_secs_f64()),
        );
        let events = if self.events == 0 {
            "–".to_owned()
        } else {
            self.events.to_string()
        };
        [
            self.name.clone(),
            v.mints.to_string(),
            v.calls.to_string(),
            v.revocations.to_string(),
            v.refusals.to_string(),
            v.unavailable.to_string(),
            v.unanswered.to_string(),
            events,
            recovery,
            if self.passed() {
                format!("pass {}", self.remark).trim_end().to_owned()
            } else {
                format!("FAIL ({})", v.violations.len())
            },
        ]
    }
}

/// The rows as a Markdown table.
pub(crate) fn render(rows: &[Row]) -> String {
    let head = [
        "drill",
        "mints",
        "calls",
        "revokes",
        "refused",
        "503",
        "no answer",
        "events",
        "recovery",
        "result",
    ]
    .map(str::to_owned);
    let cells: Vec<[String; 10]> = std::iter::once(head)
        .chain(rows.iter().map(Row::cells))
        .collect();
    let mut out = String::new();
    for (number, row) in cells.iter().enumerate() {
        for (column, cell) in row.iter().enumerate() {
            let width = cells.iter().map(|row| row[column].chars().count()).max();
            out.push_str(&format!("| {cell:<width$} ", width = width.unwrap_or(0)));
        }
        out.push_str("|\n");
        if number == 0 {
            out.push_str("|---|---|---|---|---|---|---|---|---|---|\n");
        }
    }
    out
}
