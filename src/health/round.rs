//! One round of a check: until every socket of each listener that it asks has answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::ask::{ask, read_to_end};
use super::candidate::{Candidate, Subject, Trace};
use super::check::HealthCheck;
use super::herald::Announcement;
use super::patience::Patience;
use super::saturation::{Cause, Failure};
use crate::name::Name;

/// One check of one generation, round after round.
pub(super) struct Rounds {
    check: HealthCheck,
    subject: Arc<Subject>,
    announce: mpsc::Sender<Announcement>,
    /// Connections whose answers are read to their end.
    closing: JoinSet<()>,
}

/// How a round went.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// Every socket gave a good answer. Which one did was not to be seen on the listeners named.
    Passed {
        unobserved: BTreeSet<Name>,
    },
    Failed(Failure),
    /// It cannot be asked, and why.
    NotChecked(String),
}

/// The sockets of one listener.
#[derive(Default)]
struct Coverage {
    members: usize,
    met: BTreeSet<usize>,
}

/// Who answered a question.
#[derive(Default)]
struct Answer {
    members: Vec<(Name, usize, usize)>,
    unobserved: BTreeSet<Name>,
}

impl Rounds {
    pub(super) fn new(
        check: HealthCheck,
        subject: Arc<Subject>,
        announce: mpsc::Sender<Announcement>,
    ) -> Self {
        Self { check, subject, announce, closing: JoinSet::new() }
    }

    pub(super) fn check(&self) -> &HealthCheck {
        &self.check
    }

    /// Asks until every socket has answered. Cancel safe: connections are closed.
    pub(super) async fn next(&mut self) -> Round {
        while self.closing.try_join_next().is_some() {}
        let listener = self.check.listener();
        let door = listener.and_then(|listener| self.subject.door(listener));
        if door.is_some_and(|door| door.overlap) {
            let listener = listener.unwrap_or_default();
            return Round::NotChecked(format!(
                "not checked: both generations accept on listener {listener:?}"
            ));
        }
        let mut covered: BTreeMap<Name, Coverage> = BTreeMap::new();
        let mut unobserved = BTreeSet::new();
        for asked in 1.. {
            let answer = match self.attempt().await {
                Ok(answer) => answer,
                Err(failure) => return Round::Failed(failure),
            };
            unobserved.extend(answer.unobserved);
            for (listener, members, member) in answer.members {
                let coverage = covered.entry(listener).or_default();
                coverage.members = coverage.members.max(members);
                coverage.met.insert(member);
            }
            let missing = covered.iter().find(|(_, coverage)| !coverage.is_whole());
            let Some((listener, coverage)) = missing else { break };
            if asked >= attempts(coverage.members) {
                let (met, members) = (coverage.met.len(), coverage.members);
                let text = format!(
                    "listener \"{listener}\": {met} of {members} sockets took one of {asked} \
                     connections, the others none"
                );
                return Round::Failed(Failure { cause: Cause::Unreached, text });
            }
        }
        Round::Passed { unobserved }
    }

    /// Asks once, within the timeout.
    async fn attempt(&mut self) -> Result<Answer, Failure> {
        let (limit, began) = (self.check.timeout, Instant::now());
        let mut patience = Patience::new(limit);
        let candidate = Candidate::new(&self.subject, &self.announce);
        let asked = tokio::select! {
            biased;
            asked = ask(&self.check, candidate.clone()) => Some(asked),
            () = patience.ends() => None,
        };
        let mut traces = candidate.take_traces();
        match asked {
            Some(Ok(stream)) => {
                if let Some(stream) = stream {
                    // The next round begins as if it had gone; it is closed when it has been read,
                    // or with the time for one answer more.
                    let read = async move { _ = timeout(limit, read_to_end(stream)).await };
                    crate::task::spawn_in(&mut self.closing, read);
                }
                self.who(traces, &mut patience).await
            }
            // A client that fell silent in the middle may well be sent away.
            Some(Err(failure)) if began.elapsed() > limit => Err(Failure::not_asked(format!(
                "this process was stopped or blocked meanwhile; {}",
                failure.text
            ))),
            Some(Err(failure)) => Err(failure),
            None => Err(match traces.last_mut() {
                Some(trace) => trace.too_late(limit),
                None => Failure::silent(super::saturation::Reached::Unknown, limit),
            }),
        }
    }

    /// Waits until the generation under check has said which of its sockets took each connection.
    async fn who(&self, traces: Vec<Trace>, patience: &mut Patience) -> Result<Answer, Failure> {
        let mut answer = Answer::default();
        for trace in traces {
            let Some(announced) = trace.announced else { continue };
            let named = announced.members > 0;
            if named && !announced.observed {
                answer.unobserved.insert(trace.listener);
                continue;
            }
            let taken = tokio::select! {
                biased;
                taken = trace.taken => Some(taken),
                () = patience.ends() => None,
            };
            let Some(Ok(taken)) = taken else {
                let (generation, listener) = (self.subject.generation, trace.listener);
                return Err(Failure::wrong(if named {
                    format!(
                        "listener \"{listener}\" answered, but generation {generation} has not \
                         accepted the connection: it was answered by somebody else"
                    )
                } else {
                    format!(
                        "generation {generation} has no listener \"{listener}\"; somebody else \
                         answers there"
                    )
                }));
            };
            answer.members.push((trace.listener, announced.members.max(1), taken.member));
        }
        Ok(answer)
    }
}

impl Coverage {
    fn is_whole(&self) -> bool {
        self.met.len() >= self.members
    }
}

/// So many connections are made to meet every socket of a group. The kernel spreads them at
/// random, and the chance that one is missed after n(ln n + 8) is below 1 in 2 900.
fn attempts(members: usize) -> usize {
    let members = members as f64;
    (members * (members.ln() + 8.0)).ceil() as usize
}
