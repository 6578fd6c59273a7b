//! On which processors the tracer and its tasks run.
//!
//! Each stop wakes the tracer, and each answer the task, and only one of the two ever runs. Where another processor idles,
//! the scheduler spreads them over both nevertheless, and waking an idle processor costs several times the stop itself, most
//! in a virtual machine, where another system does it. So while stops come fast, tracer and tasks share one processor,
//! until somebody waits for it and another one idles: then they are several that have something to do. Commands do not see
//! that (sched_getaffinity(2), proc_pid_status(5)); one that chooses processors itself is left alone from then on.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    process::Pid,
    thread::{CpuSet, gettid, sched_getaffinity, sched_getcpu, sched_setaffinity},
};

/// As many stops in as long a time are fast: more than one each half millisecond.
const BURST: u64 = 16;
const BURST_TIME: Duration = Duration::from_millis(8);

/// With more tasks than that, there is something for all processors.
const TASKS_LIMIT: usize = 32;

/// How often it is looked whether sharing is right.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// And at most, where somebody waits and nothing idles: it costs a little.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_millis(80);

/// Fewer stops in [`LOOK_EVERY`] are slow.
const SLOW: u32 = 8;

/// How long sharing is not tried again after it was wrong; each time twice as long.
const PATIENCE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// After so long it was right.
const RIGHT_AFTER: Duration = Duration::from_millis(500);

/// What tracer and tasks share, if there is more than one processor.
pub struct Affinity {
    shared: Option<Arc<Shared>>,
    stops: u64,
    burst_began: Instant,
}

struct Shared {
    /// Of all tasks.
    stops: AtomicU64,
    state: Mutex<State>,
    /// Told when sharing begins.
    begun: Condvar,
}

struct State {
    tracer: Pid,
    /// All but the tracer.
    tasks: HashSet<Pid>,
    /// What they may run on.
    all: CpuSet,
    /// Since when they share one.
    together: Option<Instant>,
    /// Not to be tried earlier.
    not_before: Instant,
    patience: Duration,
    /// Whether somebody looks.
    is_watched: bool,
    /// Never again.
    is_over: bool,
}

impl Affinity {
    /// For the calling thread as the tracer.
    pub fn new() -> Self {
        let now = Instant::now();
        let all = sched_getaffinity(None).ok().filter(|all| all.count() > 1 && waited(gettid()).is_some());
        let shared = all.map(|all| {
            Arc::new(Shared {
                stops: AtomicU64::new(0),
                state: Mutex::new(State {
                    tracer: gettid(),
                    tasks: HashSet::new(),
                    all,
                    together: None,
                    not_before: now,
                    patience: PATIENCE[0],
                    is_watched: false,
                    is_over: false,
                }),
                begun: Condvar::new(),
            })
        });
        Self { shared, stops: 0, burst_began: now }
    }

    /// A task has stopped.
    pub fn stopped(&mut self) {
        let Some(shared) = &self.shared else { return };
        self.stops += 1;
        shared.stops.store(self.stops, Ordering::Relaxed);
        if !self.stops.is_multiple_of(BURST) {
            return;
        }
        let began = std::mem::replace(&mut self.burst_began, Instant::now());
        if self.burst_began - began > BURST_TIME {
            return;
        }
        let mut state = shared.lock();
        if state.together.is_some() || state.is_over || state.not_before > self.burst_began {
            return;
        }
        if !state.is_watched {
            let watched = shared.clone();
            // Before the tracer moves, since a thread begins where its creator may run.
            let watcher = std::thread::Builder::new().name("affinity".into()).spawn(move || watched.watch());
            state.is_watched = watcher.is_ok();
            state.is_over = watcher.is_err();
        }
        if state.is_watched && state.tasks.len() <= TASKS_LIMIT {
            state.gather();
            shared.begun.notify_one();
        }
    }

    /// There is a new task.
    pub fn born(&self, task: Pid) {
        let Some(shared) = &self.shared else { return };
        let mut state = shared.lock();
        state.tasks.insert(task);
        if state.together.is_none() && state.is_watched {
            // It may have been born while its parent could not run everywhere.
            let _ = sched_setaffinity(Some(task), &state.all);
        }
    }

    /// A task is gone.
    pub fn gone(&self, task: Pid) {
        if let Some(shared) = &self.shared {
            shared.lock().tasks.remove(&task);
        }
    }

    /// All may run everywhere: somebody looks.
    pub fn spread(&self) {
        if let Some(shared) = &self.shared {
            shared.lock().spread();
        }
    }

    /// All may run everywhere for good: somebody chooses.
    pub fn give_up(&self) {
        if let Some(shared) = &self.shared {
            let mut state = shared.lock();
            state.spread();
            state.is_over = true;
        }
    }
}

impl State {
    fn gather(&mut self) {
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        self.place(&here);
        self.together = Some(Instant::now());
    }

    fn spread(&mut self) {
        if self.together.take().is_some() {
            self.place(&self.all.clone());
        }
    }

    fn place(&self, processors: &CpuSet) {
        for task in self.tasks.iter().chain([&self.tracer]) {
            // One that is gone needs none.
            let _ = sched_setaffinity(Some(*task), processors);
        }
    }

    /// Sharing was wrong.
    fn repent(&mut self, now: Instant) {
        let was_right = self.together.is_some_and(|since| now - since > RIGHT_AFTER);
        self.patience = if was_right { PATIENCE[0] } else { (self.patience * 2).min(PATIENCE[1]) };
        self.not_before = now + self.patience;
        self.spread();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at those who share a processor, as long as the process lives.
    fn watch(&self) {
        let mut state = self.lock();
        loop {
            let Some(since) = state.together else {
                state = self.begun.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let mut look = Look::new(&state, self.stops.load(Ordering::Relaxed));
            while state.together == Some(since) {
                drop(state);
                std::thread::sleep(look.pause);
                state = self.lock();
                if state.together == Some(since) {
                    match look.again(&state, self.stops.load(Ordering::Relaxed)) {
                        Verdict::Right => {}
                        Verdict::Pointless => state.spread(),
                        Verdict::Wrong => state.repent(Instant::now()),
                    }
                }
            }
        }
    }
}

/// Whether sharing is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    /// There are few stops.
    Pointless,
    /// Somebody waits while a processor idles.
    Wrong,
}

/// What was seen last.
struct Look {
    at: Instant,
    stops: u64,
    waited: HashMap<Pid, u64>,
    /// How long processors had idled when somebody began to wait, in ticks.
    suspicion: Option<u64>,
    /// Until the next look.
    pause: Duration,
}

impl Look {
    fn new(state: &State, stops: u64) -> Self {
        let waited = waited_by_all(state);
        Self { at: Instant::now(), stops, waited, suspicion: None, pause: LOOK_EVERY }
    }

    fn again(&mut self, state: &State, stops: u64) -> Verdict {
        let now = Self { suspicion: self.suspicion, ..Self::new(state, stops) };
        let before = std::mem::replace(self, now);
        let nanoseconds: u64 =
            self.waited.iter().filter_map(|(task, now)| Some(now.saturating_sub(*before.waited.get(task)?))).sum();
        let passed = self.at - before.at;
        let waits = Duration::from_nanos(nanoseconds) * 4 > passed;
        let is_slow = LOOK_EVERY * (self.stops - before.stops) as u32 <= passed * SLOW;
        let verdict = judge(waits, is_slow, &mut self.suspicion, || idled(&state.all));
        if before.suspicion.is_some() && self.suspicion.is_some() {
            self.pause = (before.pause * 2).min(LOOK_AT_LEAST_EVERY);
        }
        verdict
    }
}

/// `idled` says how long processors have idled, in ticks.
fn judge(waits: bool, is_slow: bool, suspicion: &mut Option<u64>, idled: impl FnOnce() -> u64) -> Verdict {
    if is_slow {
        return Verdict::Pointless;
    }
    if !waits {
        *suspicion = None;
        return Verdict::Right;
    }
    let idled = idled();
    match *suspicion {
        // One tick may be the end of an earlier time.
        Some(before) if idled > before + 1 => Verdict::Wrong,
        Some(_) => Verdict::Right,
        None => {
            *suspicion = Some(idled);
            Verdict::Right
        }
    }
}

fn waited_by_all(state: &State) -> HashMap<Pid, u64> {
    state.tasks.iter().chain([&state.tracer]).filter_map(|&task| Some((task, waited(task)?))).collect()
}

/// How many nanoseconds a task has waited for a processor (proc(5), /proc/PID/schedstat); `None` where the kernel does not
/// count.
fn waited(task: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{0}/task/{0}/schedstat", task.as_raw_nonzero()));
    text.ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// How long processors have idled, in ticks (proc_stat(5)).
fn idled(processors: &CpuSet) -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let idled = text.lines().filter_map(|line| {
        let mut words = line.strip_prefix("cpu")?.split_ascii_whitespace();
        let number: usize = words.next()?.parse().ok()?;
        let idle: u64 = words.nth(3)?.parse().ok()?;
        (number < CpuSet::MAX_CPU && processors.is_set(number)).then_some(idle)
    });
    idled.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sharing_ends_when_somebody_waits_and_a_processor_idles() {
        let mut suspicion = None;
        let mut judge = |waits, is_slow, idled| judge(waits, is_slow, &mut suspicion, || idled);
        assert_eq!(judge(false, false, 7), Verdict::Right);
        assert_eq!(judge(true, false, 7), Verdict::Right);
        assert_eq!(judge(true, false, 8), Verdict::Right);
        assert_eq!(judge(true, false, 9), Verdict::Wrong);
        // What was suspected is forgotten when nobody waits any more.
        assert_eq!(judge(false, false, 9), Verdict::Right);
        assert_eq!(judge(true, false, 20), Verdict::Right);
        // Nothing idles: there is nothing to win.
        assert_eq!(judge(true, false, 20), Verdict::Right);
        assert_eq!(judge(true, true, 20), Verdict::Pointless);
    }

    #[test]
    fn the_kernel_says_who_waited_and_what_idled() {
        assert!(waited(gettid()).is_some());
        let all = sched_getaffinity(None).unwrap();
        assert!(idled(&all) > 0);
    }
}
