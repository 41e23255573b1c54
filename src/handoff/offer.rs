//! What is handed over, cut into frames on one side and put together again on the other.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::generation::Generation;
use crate::report::builder::MAX_NOTES as MAX_REPORTED;
use crate::sys::pidfd;
use crate::verdict::Verdict;
use crate::wire::limits::{MAX_CLAIMED, MAX_NOTES};
use crate::wire::{ExecutableRecord, Item, MAX_ITEMS, Message, Offer, Ready, Role, SocketRecord};

/// A generation that has committed and still drains: the owner holds its link and its process.
#[derive(Clone, Debug)]
pub(crate) struct Elder {
    pub generation: Generation,
    /// It has been told to cut what it still serves.
    pub hurried: bool,
    pub link: Arc<OwnedFd>,
    pub process: Arc<OwnedFd>,
    /// The far end of its pipe. None if its successor did not know of such a thing.
    pub life: Option<Arc<OwnedFd>>,
}

/// A program that a successor could be rolled back to.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub record: ExecutableRecord,
    pub file: Arc<OwnedFd>,
}

/// A message with the descriptors that leave with it.
pub(crate) type Parcel = (Message, Vec<Arc<OwnedFd>>);

/// The whole offer of a predecessor, in order: the verdict, its own process, elders, the channel of
/// sessions, programs, sockets.
pub(crate) fn offer(
    verdict: &Verdict,
    life: Arc<OwnedFd>,
    elders: &[Elder],
    sessions: Option<OwnedFd>,
    (programs, journals): (&[Program], &[(Generation, Arc<OwnedFd>)]),
    sockets: Vec<(SocketRecord, Arc<OwnedFd>)>,
) -> Result<Vec<Parcel>> {
    let register = verdict.as_fd().try_clone_to_owned().map_err(|error| {
        Error::new(ErrorKind::Io, "the verdict's register could not be duplicated")
            .with_source(error)
    })?;
    let mut items = vec![
        (Role::Verdict, Arc::new(register)),
        (Role::Predecessor, Arc::new(own_process()?)),
        (Role::Life, life),
    ];
    for elder in elders {
        let generation = elder.generation;
        let hurried = elder.hurried;
        items.push((Role::ElderLink { generation, hurried }, Arc::clone(&elder.link)));
        items.push((Role::ElderProcess { generation }, Arc::clone(&elder.process)));
        let life = elder.life.iter().map(|life| (Role::ElderLife { generation }, Arc::clone(life)));
        items.extend(life);
    }
    for (writer, file) in journals {
        items.push((Role::Journal { writer: *writer }, Arc::clone(file)));
    }
    items.extend(sessions.map(|channel| (Role::Sessions, Arc::new(channel))));
    for program in programs {
        items.push((Role::Executable(program.record.clone()), Arc::clone(&program.file)));
    }
    items.extend(sockets.into_iter().map(|(record, fd)| (Role::Socket(record), fd)));
    let chunks = items.chunks(MAX_ITEMS);
    let count = chunks.len();
    Ok(chunks
        .enumerate()
        .map(|(index, chunk)| {
            let (items, descriptors) = split(chunk);
            (Message::Offer(Offer { items, last: index + 1 == count }), descriptors)
        })
        .collect())
}

/// A pidfd of this process.
///
/// # Errors
///
/// [`ErrorKind::Io`] on a kernel that has none, or none that do not block.
pub(crate) fn own_process() -> Result<OwnedFd> {
    pidfd::open(std::process::id().cast_signed()).map_err(|error| {
        Error::new(ErrorKind::Io, "a pidfd of this process (Linux 5.10 or later is needed)")
            .with_source(error)
    })
}

/// A successor's 'ready': what it claimed, and what it bound newly, in as many frames as it takes.
/// Of many notes, those that the report would drop stay here.
pub(crate) fn ready(
    claimed: Vec<u32>,
    bound: Vec<(SocketRecord, Arc<OwnedFd>)>,
    notes: Vec<String>,
) -> Vec<Parcel> {
    let bound: Vec<_> = bound.into_iter().map(|(record, fd)| (Role::Socket(record), fd)).collect();
    let mut bound = bound.chunks(MAX_ITEMS);
    let mut claimed = claimed.chunks(MAX_CLAIMED);
    let mut notes = notes.chunks(MAX_NOTES).take(MAX_REPORTED.div_ceil(MAX_NOTES));
    let count = bound.len().max(claimed.len()).max(notes.len()).max(1);
    (1..=count)
        .map(|number| {
            let (bound, descriptors) = split(bound.next().unwrap_or_default());
            let ready = Ready {
                claimed: claimed.next().unwrap_or_default().to_vec(),
                bound,
                last: number == count,
                notes: notes.next().unwrap_or_default().to_vec(),
            };
            (Message::Ready(ready), descriptors)
        })
        .collect()
}

fn split(chunk: &[(Role, Arc<OwnedFd>)]) -> (Vec<Item>, Vec<Arc<OwnedFd>>) {
    chunk.iter().map(|(role, fd)| (Item { role: role.clone() }, Arc::clone(fd))).unzip()
}

/// What a successor's 'ready' said, over all its frames.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    pub claimed: Vec<u32>,
    pub bound: Vec<(SocketRecord, OwnedFd)>,
    pub notes: Vec<String>,
}

impl Gathered {
    /// Adds a frame; true if it was the last. Notes that the report would drop are not kept: a
    /// successor may send as many frames as it likes before it is ready.
    pub(crate) fn add(&mut self, ready: Ready, descriptors: Vec<OwnedFd>) -> bool {
        self.claimed.extend(ready.claimed);
        let room = MAX_REPORTED.saturating_sub(self.notes.len());
        self.notes.extend(ready.notes.into_iter().take(room));
        for (item, fd) in ready.bound.into_iter().zip(descriptors) {
            if let Role::Socket(record) = item.role {
                self.bound.push((record, fd));
            }
        }
        ready.last
    }
}

/// What an offer held, over all its frames.
#[derive(Debug, Default)]
pub(crate) struct Received {
    pub sockets: Vec<(SocketRecord, OwnedFd)>,
    verdict: Option<OwnedFd>,
    process: Option<OwnedFd>,
    life: Option<OwnedFd>,
    lives: Vec<(Generation, OwnedFd)>,
    links: Vec<(Generation, bool, OwnedFd)>,
    processes: Vec<(Generation, OwnedFd)>,
    sessions: Option<OwnedFd>,
    programs: Vec<(ExecutableRecord, OwnedFd)>,
    journals: Vec<(Generation, OwnedFd)>,
    count: usize,
}

/// An offer that is whole.
#[derive(Debug)]
pub(crate) struct Whole {
    pub sockets: Vec<(SocketRecord, OwnedFd)>,
    pub verdict: Verdict,
    pub predecessor: OwnedFd,
    pub life: Option<Arc<OwnedFd>>,
    pub elders: Vec<Elder>,
    pub sessions: Option<OwnedFd>,
    pub programs: Vec<(ExecutableRecord, OwnedFd)>,
    /// The journal of the predecessor, and of elders.
    pub journals: Vec<(Generation, OwnedFd)>,
}

impl Received {
    /// Adds a frame; true if it was the last. Items of unknown roles are closed.
    pub(crate) fn add(&mut self, offer: Offer, descriptors: Vec<OwnedFd>) -> bool {
        self.count += descriptors.len();
        for (item, fd) in offer.items.into_iter().zip(descriptors) {
            match item.role {
                Role::Socket(record) => self.sockets.push((record, fd)),
                Role::Verdict => self.verdict = Some(fd),
                Role::Predecessor => self.process = Some(fd),
                Role::ElderLink { generation, hurried } => {
                    self.links.push((generation, hurried, fd));
                }
                Role::ElderProcess { generation } => self.processes.push((generation, fd)),
                Role::Journal { writer } => self.journals.push((writer, fd)),
                Role::Life => self.life = Some(fd),
                Role::ElderLife { generation } => self.lives.push((generation, fd)),
                Role::Sessions => self.sessions = Some(fd),
                Role::Executable(record) => self.programs.push((record, fd)),
                Role::Unknown => {}
            }
        }
        offer.last
    }

    /// The offer, if nothing is missing.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Protocol`] if the count is not the announced one, or if verdict or predecessor
    /// are missing; [`ErrorKind::Descriptor`] if the verdict is not a register.
    pub(crate) fn finish(self, announced: usize) -> Result<Whole> {
        let missing =
            |what: &str| Error::new(ErrorKind::Protocol, format!("the predecessor's offer {what}"));
        if self.count != announced {
            let text = format!("announced {announced} descriptors and held {}", self.count);
            return Err(missing(&text));
        }
        let verdict = self.verdict.ok_or_else(|| missing("holds no verdict register"))?;
        let predecessor = self.process.ok_or_else(|| missing("does not name its process"))?;
        let mut processes = self.processes;
        let mut lives = self.lives;
        let mut elders = Vec::new();
        for (generation, hurried, link) in self.links {
            let at = processes.iter().position(|(of, _)| *of == generation);
            let at = at.ok_or_else(|| missing("holds an elder's link without its process"))?;
            let (_, process) = processes.swap_remove(at);
            let (link, process) = (Arc::new(link), Arc::new(process));
            let life = lives.iter().position(|(of, _)| *of == generation);
            let life = life.map(|at| Arc::new(lives.swap_remove(at).1));
            elders.push(Elder { generation, hurried, link, process, life });
        }
        let verdict = Verdict::adopt(verdict)?;
        Ok(Whole {
            sockets: self.sockets,
            verdict,
            predecessor,
            life: self.life.map(Arc::new),
            elders,
            sessions: self.sessions,
            programs: self.programs,
            journals: self.journals,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_of_any_size_fits_its_frames() {
        for (claims, words) in [(0, 0), (1, 33), (2 * MAX_CLAIMED + 1, 1), (9_000, 1_000)] {
            let claimed: Vec<u32> = (0..).take(claims).collect();
            let notes: Vec<String> = (0..words).map(|number| format!("note {number}")).collect();
            let parcels = ready(claimed.clone(), Vec::new(), notes.clone());
            let mut gathered = Gathered::default();
            let mut ends = Vec::new();
            for (message, descriptors) in parcels {
                message.frame(descriptors.len()).unwrap();
                let Message::Ready(ready) = message else { panic!("{message:?}") };
                ends.push(gathered.add(ready, Vec::new()));
            }
            assert_eq!(gathered.claimed, claimed);
            assert_eq!(gathered.notes, notes[..words.min(MAX_REPORTED)]);
            assert_eq!(ends.iter().filter(|end| **end).count(), 1);
            assert_eq!(ends.last(), Some(&true));
        }
    }

    #[test]
    fn p9_a_ready_without_an_end_is_not_kept() {
        let mut gathered = Gathered::default();
        for _ in 0..1_000 {
            let notes = vec!["n".to_owned(); MAX_NOTES];
            let more = Ready { claimed: Vec::new(), bound: Vec::new(), last: false, notes };
            assert!(!gathered.add(more, Vec::new()));
        }
        assert_eq!(gathered.notes.len(), MAX_REPORTED);
    }
}
