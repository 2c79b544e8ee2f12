//! Runs tasks under every schedule.
//!
//! A task is a future that lets others run only where it awaits, so a schedule is the order in which
//! futures are polled. All orders with a bounded number of preemptions are tried, one after the other:
//! a preemption is a switch away from a task that could go on. (Faults of concurrent programs need
//! few: Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007.) Beyond the bound, orders are
//! drawn at random.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use caracal_core::{Random, SeededRandom};
use parking_lot::Mutex;

/// What one schedule runs.
pub(super) struct Scenario {
    /// Tasks that must end.
    pub(super) tasks: Vec<Task>,
    /// Tasks that may wait for ever.
    pub(super) servants: Vec<Task>,
    /// Where a task says what it found wrong.
    pub(super) fault: Fault,
}

pub(super) type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The first thing that was found wrong.
#[derive(Debug, Clone, Default)]
pub(super) struct Fault(Arc<Mutex<Option<String>>>);

impl Fault {
    pub(super) fn found(&self, what: String) {
        self.0.lock().get_or_insert(what);
    }
}

/// What all schedules together have shown.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing wrong in so many schedules.
    Holds(usize),
    /// A schedule that breaks the rule.
    Broken(String),
}

/// A place where others may run.
pub(super) async fn step() {
    let mut first = true;
    std::future::poll_fn(|context| {
        if std::mem::take(&mut first) {
            context.waker().wake_by_ref();
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
}

/// Tries every schedule with at most so many preemptions.
pub(super) fn every_schedule(preemptions: usize, scenario: impl Fn() -> Scenario) -> Verdict {
    let mut tried = 0;
    let mut trail: Vec<(usize, usize)> = Vec::new();
    loop {
        let mut depth = 0;
        let fault = run(scenario(), preemptions, |options| {
            if depth == trail.len() {
                trail.push((0, options));
            }
            depth += 1;
            trail[depth - 1].0
        });
        tried += 1;
        if let Some(what) = fault {
            return Verdict::Broken(what);
        }
        // The next schedule differs in the last place where another way is left.
        while trail.last().is_some_and(|(taken, of)| taken + 1 == *of) {
            trail.pop();
        }
        match trail.last_mut() {
            Some((taken, _)) => *taken += 1,
            None => return Verdict::Holds(tried),
        }
    }
}

/// Tries so many schedules, each drawn from `seed`, with any number of preemptions.
pub(super) fn random_schedules(
    seed: u64,
    count: usize,
    scenario: impl Fn() -> Scenario,
) -> Verdict {
    let random = SeededRandom::new(seed);
    for _ in 0..count {
        let fault = run(scenario(), usize::MAX, |options| {
            let mut byte = [0];
            random.fill(&mut byte);
            usize::from(byte[0]) % options
        });
        if let Some(what) = fault {
            return Verdict::Broken(what);
        }
    }
    Verdict::Holds(count)
}

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Running {
    task: Option<Task>,
    is_servant: bool,
    ready: Arc<Ready>,
    waker: Waker,
}

impl Running {
    fn new(task: Task, is_servant: bool) -> Self {
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        Self {
            task: Some(task),
            is_servant,
            waker: Waker::from(Arc::clone(&ready)),
            ready,
        }
    }

    fn can_go_on(&self) -> bool {
        self.task.is_some() && self.ready.0.load(Ordering::SeqCst)
    }

    fn poll(&mut self) {
        self.ready.0.store(false, Ordering::SeqCst);
        let Some(task) = &mut self.task else { return };
        if task
            .as_mut()
            .poll(&mut Context::from_waker(&self.waker))
            .is_ready()
        {
            self.task = None;
        }
    }
}

/// Runs one schedule; `choose` picks one of so many. Answers what was found wrong.
fn run(
    scenario: Scenario,
    mut preemptions: usize,
    mut choose: impl FnMut(usize) -> usize,
) -> Option<String> {
    let tasks = scenario
        .tasks
        .into_iter()
        .map(|task| Running::new(task, false));
    let servants = scenario.servants.into_iter();
    let mut all: Vec<Running> = tasks
        .chain(servants.map(|task| Running::new(task, true)))
        .collect();
    let mut current = 0;
    loop {
        if let Some(what) = scenario.fault.0.lock().take() {
            return Some(what);
        }
        let mut options: Vec<usize> = (0..all.len()).filter(|n| all[*n].can_go_on()).collect();
        let Some(first) = options.first().copied() else {
            let waits = all.iter().any(|one| one.task.is_some() && !one.is_servant);
            return waits.then(|| "a task waits for ever".to_owned());
        };
        let goes_on = all[current].can_go_on();
        if goes_on {
            // Going on comes first, so that the first schedule has no preemption.
            options.retain(|n| *n != current);
            options.insert(0, current);
            if preemptions == 0 {
                options.truncate(1);
            }
        }
        let next = if options.len() == 1 {
            if goes_on { current } else { first }
        } else {
            options[choose(options.len())]
        };
        if goes_on && next != current {
            preemptions -= 1;
        }
        current = next;
        all[current].poll();
    }
}
