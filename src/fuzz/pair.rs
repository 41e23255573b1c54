//! Both machines, a link that loses what was not delivered when its writer dies, and one verdict.
//!
//! The model goes through every order of few events; this goes through some orders of many.

use std::collections::VecDeque;

use super::script::Script;
use super::{predecessor as pred, successor as succ};
use crate::handoff::{predecessor, successor};
use crate::verdict::Decision;

/// A plan, then an instruction for each step; at the end everything that is due happens, and
/// somebody serves.
pub fn handoff(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let mut world = World::new(script.byte());
    while let Some(instruction) = script.next() {
        world.step(instruction, &mut script);
        world.check();
    }
    world.settle();
    world.check_end();
}

struct World {
    p: pred::Side,
    s: Option<succ::Side>,
    p_lives: bool,
    s_lives: bool,
    /// The link is broken although both may live.
    cut: bool,
    down: VecDeque<predecessor::Say>,
    up: VecDeque<successor::Say>,
    verdict: Option<Decision>,
    enforceable: bool,
    /// Somebody asked it to stop, or its application failed: it need not serve.
    p_stops: bool,
    s_failed: bool,
}

impl World {
    fn new(plan: u8) -> Self {
        Self {
            p: pred::Side::new(pred::plan(plan)),
            s: None,
            p_lives: true,
            s_lives: false,
            cut: false,
            down: VecDeque::new(),
            up: VecDeque::new(),
            verdict: None,
            enforceable: plan & 8 == 8,
            p_stops: false,
            s_failed: false,
        }
    }

    fn tell_p(&mut self, event: predecessor::Event) {
        let spoken = self.p.words.len();
        self.p.happen(event, &mut self.verdict);
        self.deliver(spoken, usize::MAX);
    }

    fn tell_s(&mut self, event: successor::Event) {
        let Some(s) = &mut self.s else { return };
        let spoken = s.words.len();
        s.happen(event, &mut self.verdict);
        self.deliver(usize::MAX, spoken);
    }

    /// Puts on the link what was said since.
    fn deliver(&mut self, by_p: usize, by_s: usize) {
        let words = self.p.words.get(by_p..).unwrap_or_default();
        if self.s_lives && !self.cut {
            self.down.extend(words);
        }
        let words = self.s.as_ref().and_then(|s| s.words.get(by_s..)).unwrap_or_default();
        if self.p_lives && !self.cut {
            self.up.extend(words.iter().cloned());
        }
    }

    fn step(&mut self, instruction: u8, script: &mut Script<'_>) {
        match instruction {
            0 => _ = self.spawn(),
            1 => _ = self.p_hears(),
            2 => _ = self.s_hears(),
            3 => _ = self.p_parks(),
            4 => _ = self.s_is_ready(),
            5 => self.p_expires(script.byte().into()),
            6 => self.s_expires(script.byte().into()),
            7 => self.p_dies(script.byte().into()),
            8 => self.s_dies(script.byte().into()),
            9 => self.cut = self.s.is_some(),
            10 => _ = self.p_learns(),
            11 => _ = self.s_learns(),
            12 => _ = self.p_kills(),
            13 => _ = self.s_goes(),
            14 => self.p_goes(),
            15 => {
                let words = [
                    predecessor::Event::Stop,
                    predecessor::Event::ServiceStops,
                    predecessor::Event::Rejected("no".into()),
                    predecessor::Event::Approved,
                    predecessor::Event::Nonsense("garbage".into()),
                    predecessor::Event::ParkFailed("callback".into()),
                ];
                let event = words.into_iter().nth(script.byte().into());
                if let Some(event) = event.filter(|_| self.p_lives) {
                    use predecessor::Event::{ServiceStops, Stop};
                    self.p_stops |= matches!(event, Stop | ServiceStops);
                    self.tell_p(event);
                }
            }
            16 => {
                let words = [
                    successor::Event::Failed("application".into()),
                    successor::Event::OpenFailed("listen".into()),
                    successor::Event::Nonsense("garbage".into()),
                ];
                let event = words.into_iter().nth(script.byte().into());
                if let Some(event) = event.filter(|_| self.s_lives) {
                    self.s_failed = true;
                    self.tell_s(event);
                }
            }
            17 => _ = self.p_has_tried(script.byte() == 0),
            18 => {
                let sick = script.byte() != 0;
                if self.p_lives {
                    use predecessor::Event::{Ailing, Healthy};
                    self.tell_p(if sick { Ailing } else { Healthy });
                }
            }
            // Free for what may happen later.
            _ => {}
        }
    }

    fn p_has_tried(&mut self, passed: bool) -> bool {
        use predecessor::Event::{PreflightFailed, PreflightPassed};
        let due = self.p_lives && self.p.trying;
        if due {
            let failed = || PreflightFailed("exit status 1".into());
            self.tell_p(if passed { PreflightPassed } else { failed() });
        }
        due
    }

    fn spawn(&mut self) -> bool {
        let due = self.p_lives && self.p.spawning;
        if due {
            let plan = successor::Plan { enforceable: self.enforceable };
            (self.s, self.s_lives) = (Some(succ::Side::new(plan)), true);
            self.tell_p(predecessor::Event::Spawned);
            // Its hello is its birth: the driver judges credentials and version.
            self.tell_p(predecessor::Event::Hello);
        }
        due
    }

    fn p_hears(&mut self) -> bool {
        use predecessor::Event;
        let word = self.up.pop_front().filter(|_| self.p_lives);
        let due = word.is_some();
        if let Some(word) = word {
            self.tell_p(match word {
                successor::Say::Adopted => Event::Adopted,
                successor::Say::Ready => Event::Ready,
                successor::Say::Pong => Event::Pong,
                successor::Say::Serving => Event::Serving,
                successor::Say::Committed => Event::Committed,
                successor::Say::Failed(why) => Event::Failed(why),
                #[allow(unreachable_patterns, reason = "a word may be added")]
                _ => return true,
            });
        }
        due
    }

    fn s_hears(&mut self) -> bool {
        use successor::Event;
        let word = self.down.pop_front().filter(|_| self.s_lives);
        let due = word.is_some();
        if let Some(word) = word {
            self.tell_s(match word {
                predecessor::Say::Welcome => Event::Welcome,
                predecessor::Say::Refuse => Event::Unusable("refused".into()),
                predecessor::Say::Offer => Event::Offered,
                predecessor::Say::Ping => Event::Ping,
                predecessor::Say::Yield => Event::Yield,
                predecessor::Say::MayCommit => Event::MayCommit,
                predecessor::Say::Owner => Event::Owner,
                predecessor::Say::RollBack { last } => Event::RollBack { last },
                #[allow(unreachable_patterns, reason = "a word may be added")]
                _ => return true,
            });
        }
        due
    }

    fn p_parks(&mut self) -> bool {
        let due = self.p_lives && self.p.parking;
        if due {
            self.tell_p(predecessor::Event::Parked);
        }
        due
    }

    fn s_is_ready(&mut self) -> bool {
        let due = self.s_lives && self.s.as_ref().is_some_and(|s| s.started && !s.ready);
        if due {
            self.tell_s(successor::Event::Ready);
        }
        due
    }

    fn p_expires(&mut self, index: usize) {
        if self.p_lives {
            let spoken = self.p.words.len();
            self.p.expire(index, &mut self.verdict);
            self.deliver(spoken, usize::MAX);
        }
    }

    fn s_expires(&mut self, index: usize) {
        if let Some(s) = self.s.as_mut().filter(|_| self.s_lives) {
            let spoken = s.words.len();
            s.expire(index, &mut self.verdict);
            self.deliver(usize::MAX, spoken);
        }
    }

    /// What the writer had not handed to the kernel is lost: any prefix may arrive.
    fn p_dies(&mut self, arrive: usize) {
        if self.p_lives {
            self.p_lives = false;
            self.down.truncate(arrive);
            self.up.clear();
        }
    }

    fn s_dies(&mut self, arrive: usize) {
        if self.s_lives {
            self.s_lives = false;
            self.up.truncate(arrive);
            self.down.clear();
        }
    }

    /// The end of the link after its last word, then the death, then that nobody is left.
    fn p_learns(&mut self) -> bool {
        use predecessor::Event;
        let gone = self.s.is_some() && !self.s_lives;
        if !self.p_lives || !self.up.is_empty() || !(gone || self.cut) {
            return false;
        }
        let news = [Event::LinkClosed, Event::Died("died".into()), Event::Abandoned];
        let known = self.p.learned();
        let event = news.into_iter().nth(known).filter(|_| gone || known == 0);
        event.map(|event| self.tell_p(event)).is_some()
    }

    fn s_learns(&mut self) -> bool {
        use successor::Event;
        if !self.s_lives || !self.down.is_empty() || (self.p_lives && !self.cut) {
            return false;
        }
        let known = self.s.as_ref().map_or(0, succ::Side::learned);
        let event = [Event::LinkClosed, Event::Died].into_iter().nth(known);
        let event = event.filter(|_| known == 0 || !self.p_lives);
        event.map(|event| self.tell_s(event)).is_some()
    }

    fn p_kills(&mut self) -> bool {
        let due = self.p_lives && self.p.condemns && self.enforceable && self.s_lives;
        if due {
            self.s_dies(usize::MAX);
        }
        due
    }

    /// A successor that leaves, or has failed, ends when what it accepted is finished.
    fn s_goes(&mut self) -> bool {
        let going = self.s_is(|state| {
            matches!(state, successor::State::Leaving { .. } | successor::State::Failed)
        });
        let due = self.s_lives && going;
        if due {
            self.s_dies(usize::MAX);
        }
        due
    }

    /// An elder that has drained ends; so does one that was told to stop and has taken back.
    fn p_goes(&mut self) {
        use predecessor::State::{Elder, Retired, RolledBack};
        let stopped = self.p_stops && self.p_is(&RolledBack) && !self.s_lives;
        if self.p_is(&Elder) || self.p_is(&Retired) || stopped {
            self.p_dies(usize::MAX);
        }
    }

    fn p_is(&self, state: &predecessor::State) -> bool {
        self.p.state() == state
    }

    fn s_is(&self, is: impl Fn(&successor::State) -> bool) -> bool {
        self.s.as_ref().is_some_and(|s| is(s.state()))
    }

    /// All that must happen some time, if nothing else does: first words, then deaths, then time.
    fn settle(&mut self) {
        // Each word on the link may draw an answer.
        let words = self.down.len() + self.up.len();
        for _ in 0..1_000 + 4 * words {
            self.check();
            let due = self.p_has_tried(true)
                || self.spawn()
                || self.p_hears()
                || self.s_hears()
                || self.p_parks()
                || self.s_is_ready()
                || self.p_learns()
                || self.s_learns()
                || self.p_kills()
                || self.s_goes();
            if due {
                continue;
            }
            let of_p = self.p.last_timer().filter(|_| self.p_lives);
            let of_s = self.s.as_ref().and_then(succ::Side::last_timer).filter(|_| self.s_lives);
            match (of_p, of_s) {
                (Some(index), _) => self.p_expires(index),
                (None, Some(index)) => self.s_expires(index),
                (None, None) => return,
            }
        }
        panic!("P4: it does not come to rest");
    }

    fn p_owns(&self) -> bool {
        use predecessor::State::{Elder, OwnsAgain, Retired, RolledBack};
        self.p_lives
            && match self.p.state() {
                Elder | Retired => false,
                RolledBack | OwnsAgain => true,
                _ => self.verdict != Some(Decision::Committed),
            }
    }

    fn s_owns(&self) -> bool {
        let owns = |state: &successor::State| {
            matches!(state, successor::State::Owner | successor::State::Committed)
        };
        self.s_lives && self.s_is(owns)
    }

    fn p_accepts(&self) -> bool {
        self.p_lives && !self.p.parked
    }

    fn s_accepts(&self) -> bool {
        self.s_lives && self.s.as_ref().is_some_and(|s| s.open)
    }

    /// What must be true at every step.
    fn check(&self) {
        assert!(!(self.p_owns() && self.s_owns()), "P3: two owners");
        let both = self.p_accepts() && self.s_accepts();
        assert!(!both || self.verdict.is_some(), "the fence: both accept, nothing is decided");
        let again = self.p_is(&predecessor::State::OwnsAgain);
        assert!(!again || !self.s_lives, "P3: it owns again while its successor lives");
    }

    /// What must be true where nothing more happens by itself.
    fn check_end(&self) {
        let p_serves = self.p_owns() && self.p_accepts();
        let s_serves = self.s_owns() && self.s_accepts();
        let excused = self.p_stops || (!self.p_lives && self.s_failed);
        let nobody_lives = !self.p_lives && !self.s_lives;
        assert!(p_serves || s_serves || excused || nobody_lives, "P1: nobody serves");
    }
}
