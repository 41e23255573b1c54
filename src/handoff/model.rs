//! The two machines against each other, exhaustively.
//!
//! Breadth first over every order of deliveries, timers, deaths, stops, wakes and words of an
//! operator or application, with a stream that delays at will and, when its writer dies, ends
//! after any prefix, and a verdict that the first writer decides. Each state is checked for P3
//! (one owner) and for the fence (no two that accept while the verdict is open), each end for P1
//! and P2: somebody lives that accepts, and it is the one that the verdict names.
//!
//! Timers are armed or not; an armed one may run out at any moment. That covers a process that
//! slept through all of them, and one whose clock is wrong.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::Timer;
use super::predecessor::{self as pred, Predecessor};
use super::successor::{self as succ, Successor};
use crate::verdict::Decision;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Life {
    Running,
    Stopped,
    Dead,
}

/// What the environment may still do. Each is bounded, so the space is finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    deaths: u8,
    stops: u8,
    pings: u8,
    words: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    p: Predecessor,
    p_life: Life,
    p_timers: BTreeSet<Timer>,
    p_parked: bool,
    p_parking: bool,
    p_trying: bool,
    /// Each side looks at the verdict first and seals after that: the other may come between.
    p_sealing: Option<Decision>,
    s_sealing: Option<Decision>,
    /// Health checks run; whether they called the successor healthy last.
    p_watching: Option<bool>,
    p_told_stop: bool,
    s: Option<Successor>,
    s_life: Life,
    s_timers: BTreeSet<Timer>,
    s_open: bool,
    s_started: bool,
    s_ready: bool,
    s_condemned: bool,
    s_failed: bool,
    down: VecDeque<pred::Say>,
    up: VecDeque<succ::Say>,
    /// End of stream and death, each told once.
    p_told: (bool, bool),
    s_told: (bool, bool),
    p_told_alone: bool,
    /// The link is broken although both may live.
    cut: bool,
    verdict: Option<Decision>,
    enforceable: bool,
    budget: Budget,
}

impl World {
    fn new(plan: pred::Plan, enforceable: bool, budget: Budget) -> Self {
        let (p, actions) = Predecessor::new(plan);
        let mut world = Self {
            p,
            p_life: Life::Running,
            p_timers: BTreeSet::new(),
            p_parked: false,
            p_parking: false,
            p_trying: false,
            p_sealing: None,
            s_sealing: None,
            p_watching: None,
            p_told_stop: false,
            s: None,
            s_life: Life::Running,
            s_timers: BTreeSet::new(),
            s_open: false,
            s_started: false,
            s_ready: false,
            s_condemned: false,
            s_failed: false,
            down: VecDeque::new(),
            up: VecDeque::new(),
            p_told: (false, false),
            s_told: (false, false),
            p_told_alone: false,
            cut: false,
            verdict: None,
            enforceable,
            budget,
        };
        world.act_p(actions);
        world
    }

    fn seal(&mut self, decision: Decision) -> Decision {
        *self.verdict.get_or_insert(decision)
    }

    fn tell_p(&mut self, event: pred::Event) {
        let (p, actions) = self.p.clone().on(event, self.verdict);
        self.p = p;
        self.act_p(actions);
    }

    fn act_p(&mut self, actions: Vec<pred::Action>) {
        for action in actions {
            match action {
                pred::Action::Send(say) => {
                    if self.s.is_some() && self.s_life != Life::Dead && !self.cut {
                        self.down.push_back(say);
                    }
                }
                pred::Action::Arm(timer) => {
                    self.p_timers.insert(timer);
                }
                pred::Action::Disarm(timer) => {
                    self.p_timers.remove(&timer);
                }
                pred::Action::DisarmAll => self.p_timers.clear(),
                pred::Action::Preflight => self.p_trying = true,
                // Its outcome is an event of the state.
                pred::Action::Spawn => {}
                pred::Action::Watch => self.p_watching = Some(false),
                pred::Action::Park => self.p_parking = true,
                pred::Action::ParkLate => {
                    self.p_parking = false;
                    self.p_parked = true;
                }
                pred::Action::Resume | pred::Action::OwnAgain => {
                    self.p_parking = false;
                    self.p_parked = false;
                }
                pred::Action::Seal(decision) => self.p_sealing = Some(decision),
                pred::Action::EndSuccessor => self.s_condemned = self.enforceable,
                pred::Action::HandOver | pred::Action::Finish(_) => {}
            }
        }
    }

    fn tell_s(&mut self, event: succ::Event) {
        let Some(s) = self.s.clone() else { return };
        let (s, actions) = s.on(event, self.verdict);
        self.s = Some(s);
        self.act_s(actions);
    }

    fn act_s(&mut self, actions: Vec<succ::Action>) {
        for action in actions {
            match action {
                succ::Action::Send(say) => {
                    if self.p_life != Life::Dead && !self.cut {
                        self.up.push_back(say);
                    }
                }
                succ::Action::Arm(timer) => {
                    self.s_timers.insert(timer);
                }
                succ::Action::Disarm(timer) => {
                    self.s_timers.remove(&timer);
                }
                succ::Action::DisarmAll => self.s_timers.clear(),
                succ::Action::Start => self.s_started = true,
                succ::Action::Open => self.s_open = true,
                succ::Action::Pause | succ::Action::Leave(_) => self.s_open = false,
                succ::Action::Seal(decision) => self.s_sealing = Some(decision),
                succ::Action::Own => {}
            }
        }
    }

    fn p_runs(&self) -> bool {
        self.p_life == Life::Running
    }

    fn s_runs(&self) -> bool {
        self.s.is_some() && self.s_life == Life::Running
    }

    fn s_state(&self) -> Option<&succ::State> {
        self.s.as_ref().map(Successor::state)
    }

    fn s_going(&self) -> bool {
        matches!(self.s_state(), Some(succ::State::Leaving { .. } | succ::State::Failed))
    }

    fn p_owns(&self) -> bool {
        let by_state = match self.p.state() {
            pred::State::Elder | pred::State::Retired => false,
            pred::State::RolledBack | pred::State::OwnsAgain => true,
            _ => self.verdict != Some(Decision::Committed),
        };
        self.p_life != Life::Dead && by_state
    }

    fn s_owns(&self) -> bool {
        let by_state = matches!(self.s_state(), Some(succ::State::Owner | succ::State::Committed));
        self.s_life != Life::Dead && by_state
    }

    /// Everything that can happen next, with a word for the trace; `fair` is what must happen
    /// some time if nothing else does.
    fn next(&self) -> Vec<(String, World, bool)> {
        let mut all = Vec::new();
        self.next_for_p(&mut all);
        self.next_for_s(&mut all);
        self.faults(&mut all);
        self.words(&mut all);
        all
    }

    fn with(&self, change: impl FnOnce(&mut World)) -> World {
        let mut world = self.clone();
        change(&mut world);
        world
    }

    fn next_for_p(&self, all: &mut Vec<(String, World, bool)>) {
        if !self.p_runs() {
            return;
        }
        if let Some(decision) = self.p_sealing {
            let sealed = self.with(|w| {
                w.p_sealing = None;
                let now = w.seal(decision);
                w.tell_p(pred::Event::Sealed(now));
            });
            all.push(("p seals".into(), sealed, true));
            return;
        }
        if self.p_trying {
            for passed in [true, false] {
                let tried = self.with(|w| {
                    w.p_trying = false;
                    w.tell_p(if passed {
                        pred::Event::PreflightPassed
                    } else {
                        pred::Event::PreflightFailed("exit status 1".into())
                    });
                });
                all.push((format!("p: preflight passed: {passed}"), tried, true));
            }
        }
        if self.p_watching == Some(false) {
            let healthy = self.with(|w| {
                w.p_watching = Some(true);
                w.tell_p(pred::Event::Healthy);
            });
            all.push(("p: every check passes".into(), healthy, false));
        }
        if *self.p.state() == pred::State::Spawning && self.s.is_none() {
            let born = self.with(|w| {
                let (s, actions) = Successor::new(succ::Plan { enforceable: w.enforceable });
                w.s = Some(s);
                w.act_s(actions);
                w.tell_p(pred::Event::Spawned);
                // Its hello is its birth: the driver judges credentials and version.
                w.tell_p(pred::Event::Hello);
            });
            all.push(("spawned, hello".into(), born, true));
        }
        if let Some(say) = self.up.front() {
            let event = match say {
                succ::Say::Adopted => pred::Event::Adopted,
                succ::Say::Ready => pred::Event::Ready,
                succ::Say::Pong => pred::Event::Pong,
                succ::Say::Serving => pred::Event::Serving,
                succ::Say::Committed => pred::Event::Committed,
                succ::Say::Failed(why) => pred::Event::Failed(why.clone()),
            };
            let told = self.with(|w| {
                w.up.pop_front();
                w.tell_p(event);
            });
            all.push((format!("p hears {say:?}"), told, true));
        } else if self.s_life == Life::Dead || self.cut {
            if !self.p_told.0 {
                let told = self.with(|w| {
                    w.p_told.0 = true;
                    w.tell_p(pred::Event::LinkClosed);
                });
                all.push(("p sees the link end".into(), told, true));
            }
            if !self.p_told.1 && self.s_life == Life::Dead {
                let told = self.with(|w| {
                    w.p_told.1 = true;
                    w.tell_p(pred::Event::Died("died".into()));
                });
                all.push(("p sees s die".into(), told, true));
            }
            if self.p_told == (true, true) && !self.p_told_alone {
                let told = self.with(|w| {
                    w.p_told_alone = true;
                    w.tell_p(pred::Event::Abandoned);
                });
                all.push(("p knows that it is alone".into(), told, true));
            }
        }
        for timer in &self.p_timers {
            if *timer == Timer::Ping && self.budget.pings == 0 {
                continue;
            }
            let told = self.with(|w| {
                w.p_timers.remove(timer);
                if *timer == Timer::Ping {
                    w.budget.pings -= 1;
                }
                w.tell_p(pred::Event::Expired(*timer));
            });
            all.push((format!("p: {timer:?} runs out"), told, *timer != Timer::Ping));
        }
        if self.p_parking {
            let parked = self.with(|w| {
                w.p_parking = false;
                w.p_parked = true;
                w.tell_p(pred::Event::Parked);
            });
            all.push(("p parks".into(), parked, true));
        }
        if self.s_condemned && self.s_life != Life::Dead {
            let killed = self.with(|w| w.s_life = Life::Dead);
            all.push(("p kills s".into(), killed, true));
        }
        let done = matches!(self.p.state(), pred::State::Elder | pred::State::Retired)
            || (self.p_told_stop
                && *self.p.state() == pred::State::RolledBack
                && (self.s.is_none() || self.s_life == Life::Dead));
        if done {
            let gone = self.with(|w| w.p_life = Life::Dead);
            all.push(("p has drained and exits".into(), gone, false));
        }
    }

    fn next_for_s(&self, all: &mut Vec<(String, World, bool)>) {
        if !self.s_runs() {
            return;
        }
        if let Some(decision) = self.s_sealing {
            let sealed = self.with(|w| {
                w.s_sealing = None;
                let now = w.seal(decision);
                w.tell_s(succ::Event::Sealed(now));
            });
            all.push(("s seals".into(), sealed, true));
            return;
        }
        if let Some(say) = self.down.front() {
            let event = match say {
                pred::Say::Welcome => succ::Event::Welcome,
                pred::Say::Refuse => succ::Event::Unusable("refused".into()),
                pred::Say::Offer => succ::Event::Offered,
                pred::Say::Ping => succ::Event::Ping,
                pred::Say::Yield => succ::Event::Yield,
                pred::Say::MayCommit => succ::Event::MayCommit,
                pred::Say::Owner => succ::Event::Owner,
                pred::Say::RollBack { last } => succ::Event::RollBack { last: *last },
            };
            let told = self.with(|w| {
                w.down.pop_front();
                w.tell_s(event);
            });
            all.push((format!("s hears {say:?}"), told, true));
        } else if self.p_life == Life::Dead || self.cut {
            if !self.s_told.0 {
                let told = self.with(|w| {
                    w.s_told.0 = true;
                    w.tell_s(succ::Event::LinkClosed);
                });
                all.push(("s sees the link end".into(), told, true));
            }
            if !self.s_told.1 && self.p_life == Life::Dead {
                let told = self.with(|w| {
                    w.s_told.1 = true;
                    w.tell_s(succ::Event::Died);
                });
                all.push(("s sees p die".into(), told, true));
            }
        }
        for timer in &self.s_timers {
            let told = self.with(|w| {
                w.s_timers.remove(timer);
                w.tell_s(succ::Event::Expired(*timer));
            });
            all.push((format!("s: {timer:?} runs out"), told, true));
        }
        if self.s_started && !self.s_ready {
            let ready = self.with(|w| {
                w.s_ready = true;
                w.tell_s(succ::Event::Ready);
            });
            all.push(("s: application ready".into(), ready, true));
        }
        if self.s_going() {
            let gone = self.with(|w| w.s_life = Life::Dead);
            all.push(("s has finished and exits".into(), gone, true));
        }
    }

    fn faults(&self, all: &mut Vec<(String, World, bool)>) {
        if self.budget.deaths > 0 {
            if self.p_life != Life::Dead {
                // What the writer had not handed to the kernel is lost: any prefix may arrive.
                for kept in 0..=self.down.len() {
                    let dead = self.with(|w| {
                        w.budget.deaths -= 1;
                        w.p_life = Life::Dead;
                        w.down.truncate(kept);
                        w.up.clear();
                    });
                    all.push((format!("p is killed, {kept} messages arrive"), dead, false));
                }
            }
            if self.s.is_some() && self.s_life != Life::Dead {
                for kept in 0..=self.up.len() {
                    let dead = self.with(|w| {
                        w.budget.deaths -= 1;
                        w.s_life = Life::Dead;
                        w.up.truncate(kept);
                        w.down.clear();
                    });
                    all.push((format!("s is killed, {kept} messages arrive"), dead, false));
                }
            }
        }
        if self.budget.stops > 0 && self.p_runs() {
            let stopped = self.with(|w| {
                w.budget.stops -= 1;
                w.p_life = Life::Stopped;
            });
            all.push(("p is stopped".into(), stopped, false));
        }
        if self.budget.stops > 0 && self.s_runs() {
            let stopped = self.with(|w| {
                w.budget.stops -= 1;
                w.s_life = Life::Stopped;
            });
            all.push(("s is stopped".into(), stopped, false));
        }
        if self.p_life == Life::Stopped {
            all.push(("p wakes".into(), self.with(|w| w.p_life = Life::Running), false));
        }
        if self.s.is_some() && self.s_life == Life::Stopped {
            all.push(("s wakes".into(), self.with(|w| w.s_life = Life::Running), false));
        }
    }

    fn words(&self, all: &mut Vec<(String, World, bool)>) {
        if self.budget.words == 0 {
            return;
        }
        let mut say = |text: &str, change: &dyn Fn(&mut World)| {
            let said = self.with(|w| {
                w.budget.words -= 1;
                change(w);
            });
            all.push((text.into(), said, false));
        };
        if self.s.is_some() && !self.cut {
            say("the link breaks", &|w| w.cut = true);
        }
        if self.p_runs() && self.p_sealing.is_none() {
            say("p is asked to stop", &|w| {
                w.p_told_stop = true;
                w.tell_p(pred::Event::Stop);
            });
            if self.p_watching == Some(true) {
                say("a check fails", &|w| {
                    w.p_watching = Some(false);
                    w.tell_p(pred::Event::Ailing);
                });
            }
            say("the successor is rejected", &|w| w.tell_p(pred::Event::Rejected("no".into())));
            say("the successor is approved", &|w| w.tell_p(pred::Event::Approved));
            say("garbage reaches p", &|w| w.tell_p(pred::Event::Nonsense("garbage".into())));
            if self.p_parking {
                say("parking fails", &|w| {
                    w.p_parking = false;
                    w.tell_p(pred::Event::ParkFailed("callback".into()));
                });
            }
        }
        if self.s_runs() && self.s_sealing.is_none() {
            say("s fails", &|w| {
                w.s_failed = true;
                w.tell_s(succ::Event::Failed("application".into()));
            });
        }
    }

    /// What must hold in every state.
    fn check(&self) -> Result<(), &'static str> {
        if self.p_owns() && self.s_owns() {
            return Err("P3: two owners");
        }
        let p_accepts = self.p_life != Life::Dead && !self.p_parked;
        let s_accepts = self.s_life != Life::Dead && self.s_open;
        if p_accepts && s_accepts && self.verdict.is_none() {
            return Err("the fence: both accept while the verdict is open");
        }
        if *self.p.state() == pred::State::OwnsAgain && self.s_life != Life::Dead {
            return Err("P3: the predecessor owns again while its successor lives");
        }
        let elder = matches!(self.p.state(), pred::State::Elder | pred::State::Retired);
        if elder && p_accepts {
            return Err("P3: a generation that is no longer the owner accepts");
        }
        let irreversible = matches!(self.p.state(), pred::State::Elder | pred::State::Retired)
            || matches!(self.s_state(), Some(succ::State::Committed));
        if irreversible && self.verdict != Some(Decision::Committed) {
            return Err("P2: something irreversible before the verdict");
        }
        Ok(())
    }

    /// What must hold where nothing more happens by itself.
    fn check_end(&self) -> Result<(), &'static str> {
        if self.p_told_stop {
            return Ok(());
        }
        let p_serves = self.p_owns() && !self.p_parked;
        let s_serves = self.s_owns() && self.s_open;
        if self.p_runs() && !p_serves && !s_serves {
            return Err("P1: the predecessor lives and nobody serves");
        }
        if !self.p_runs() && self.s_runs() && !self.s_failed && !s_serves {
            return Err("P1: the successor lives alone and does not serve");
        }
        Ok(())
    }
}

/// What an exploration has seen.
struct Explored {
    states: usize,
    steps: usize,
    ends: usize,
}

/// Explores everything. That no state can be reached twice in one run is checked as well: every run
/// ends, and so every fair run ends where nothing more has to happen.
fn explore(start: World) -> Explored {
    let mut seen: HashMap<World, usize> = HashMap::new();
    let mut order: Vec<World> = Vec::new();
    let mut from: Vec<(Option<usize>, String)> = Vec::new();
    let mut next_of: Vec<Vec<usize>> = Vec::new();
    seen.insert(start.clone(), 0);
    order.push(start);
    from.push((None, "start".into()));
    let mut ends = 0;
    let mut at = 0;
    while at < order.len() {
        let world = order[at].clone();
        let next = world.next();
        let stuck = !next.iter().any(|(_, _, fair)| *fair);
        ends += usize::from(stuck);
        let verdict = world.check().and_then(|()| if stuck { world.check_end() } else { Ok(()) });
        if let Err(broken) = verdict {
            panic!("{broken}\n{}{world:#?}", trace(&from, at));
        }
        let mut followers = Vec::new();
        for (what, world, _) in next {
            let index = *seen.entry(world).or_insert_with_key(|world| {
                order.push(world.clone());
                from.push((Some(at), what));
                order.len() - 1
            });
            followers.push(index);
        }
        next_of.push(followers);
        at += 1;
    }
    let steps = next_of.iter().map(Vec::len).sum();
    assert!(every_run_ends(&next_of), "a run can go in a circle");
    Explored { states: order.len(), steps, ends }
}

/// Whether the graph has no circle: every state can be taken away once all before it are.
fn every_run_ends(next_of: &[Vec<usize>]) -> bool {
    let mut before = vec![0_usize; next_of.len()];
    next_of.iter().flatten().for_each(|&follower| before[follower] += 1);
    let mut free: Vec<usize> = (0..before.len()).filter(|&index| before[index] == 0).collect();
    let mut taken = 0;
    while let Some(index) = free.pop() {
        taken += 1;
        for &follower in &next_of[index] {
            before[follower] -= 1;
            if before[follower] == 0 {
                free.push(follower);
            }
        }
    }
    taken == next_of.len()
}

fn trace(from: &[(Option<usize>, String)], mut at: usize) -> String {
    let mut steps = Vec::new();
    loop {
        let (before, what) = &from[at];
        steps.push(what.as_str());
        match before {
            Some(before) => at = *before,
            None => break,
        }
    }
    steps.iter().rev().map(|step| format!("  {step}\n")).collect()
}

/// `HEIRLOOM_MODEL=1` prints what was explored, `HEIRLOOM_MODEL=deep` explores more.
#[test]
fn one_owner_whatever_dies_stops_or_wakes_at_any_step() {
    let wanted = std::env::var("HEIRLOOM_MODEL").unwrap_or_default();
    let budget = match wanted.as_str() {
        "deep" => Budget { deaths: 2, stops: 3, pings: 2, words: 2 },
        _ => Budget { deaths: 2, stops: 2, pings: 1, words: 1 },
    };
    let plan = |preflight, probation, checked| pred::Plan { preflight, probation, checked };
    let plans = [
        plan(false, true, false),
        plan(false, false, false),
        plan(false, true, true),
        plan(true, false, true),
    ];
    for plan in plans {
        for enforceable in [true, false] {
            let Explored { states, steps, ends } = explore(World::new(plan, enforceable, budget));
            assert!(states > 1_000, "the model has shrunk to {states} states");
            if !wanted.is_empty() {
                use std::io::Write as _;
                let line = format!(
                    "{plan:?}, enforceable {enforceable}: {states} states, {steps} steps, {ends} ends"
                );
                writeln!(std::io::stderr(), "{line}").unwrap();
            }
        }
    }
}
