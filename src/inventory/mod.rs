//! Named descriptors, and the one path on which each is claimed or bound.
//!
//! A socket that is asked for is looked for in what was inherited: first under its name and a
//! compatible address, then at its exact address under another name; else it is bound anew. All
//! kinds take this path, [`Inventory::ask`]. A claim consumes what it finds.

mod asks;
mod bind;
mod control;
mod doors;
mod drift;
mod engine;
mod entry;
mod inherited;
mod store;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

pub(crate) use self::doors::Door;
use self::entry::{Ask, Entry};
pub(crate) use self::inherited::Inherited;
use self::inherited::Table;
use crate::drain::Drain;
use crate::error::{Error, ErrorKind, Result};
use crate::listener::{Core, Expected, State};
use crate::name::Name;
use crate::wire::SocketRecord;

/// Where this generation stands, as far as its sockets are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// It claims and binds; nothing is accepted.
    Starting,
    /// A successor that accepts, before the verdict.
    Probation,
    /// It answers for the service.
    Owner,
    /// It has handed over, and drains.
    Elder,
    /// It stops: nothing new is taken in.
    Stopped,
}

/// The sockets of this generation, and what it inherited and has not claimed. Clones share them.
#[derive(Clone)]
pub(crate) struct Inventory {
    drain: Drain,
    expected: Expected,
    book: Arc<Mutex<Book>>,
    /// Something was added.
    added: Arc<Notify>,
}

struct Book {
    standing: Standing,
    /// Whether a predecessor accepts while we start.
    successor: bool,
    inherited: Table,
    /// The names of what was inherited and closed unclaimed.
    unclaimed: Vec<Name>,
    /// In the order in which they were asked for.
    entries: Vec<Entry>,
    by_name: HashMap<Name, usize>,
    /// Indices of the plain descriptors that were claimed.
    taken: Vec<u32>,
    /// Differences between what was asked for and what was inherited.
    notes: Vec<String>,
    /// The listeners of the offer last made, by its indices.
    offered: Vec<Option<Arc<Core>>>,
    /// Those that the successor claimed.
    given: Vec<Arc<Core>>,
    /// What the successor bound anew.
    adopted: Vec<(SocketRecord, OwnedFd)>,
    control: Option<control::Control>,
    /// Whether an operator wants nothing to be accepted.
    held: bool,
}

impl Inventory {
    /// An inventory of what was inherited, each descriptor checked and made non-blocking.
    ///
    /// # Errors
    /// [`ErrorKind::Descriptor`] if one that came over a link is not what its record says.
    pub(crate) fn new(drain: Drain, inherited: Inherited) -> Result<Self> {
        let successor = matches!(inherited, Inherited::Link(_));
        let book = Book {
            standing: Standing::Starting,
            successor,
            inherited: Table::new(inherited)?,
            unclaimed: Vec::new(),
            entries: Vec::new(),
            by_name: HashMap::new(),
            taken: Vec::new(),
            notes: Vec::new(),
            offered: Vec::new(),
            given: Vec::new(),
            adopted: Vec::new(),
            control: None,
            held: false,
        };
        let (expected, added) = (Expected::default(), Arc::default());
        Ok(Self { drain, expected, book: Arc::new(Mutex::new(book)), added })
    }

    /// The one path: claims what was inherited, or binds anew, and gives the listeners.
    fn ask(&self, ask: &Ask<'_>) -> Result<Vec<Arc<Core>>> {
        let mut book = self.book();
        book.may_ask(&ask.name)?;
        let state = match book.standing {
            Standing::Starting => State::Waiting,
            _ if book.held => State::Parked,
            _ => State::Open,
        };
        let cores: Vec<Arc<Core>> = (0..ask.count)
            .map(|_| {
                let known = (self.drain.clone(), self.expected.clone());
                Core::new(ask.name.clone(), known, state, ask.options.nodelay)
            })
            .collect();
        let found = book.inherited.claim(&ask.name, ask.kind, &ask.wanted)?;
        let entry = if found.is_empty() {
            let now = book.standing != Standing::Starting;
            Entry::fresh(ask, cores.clone(), now, book.successor)?
        } else {
            let (entry, mut notes) = Entry::claimed(ask, cores.clone(), found);
            book.notes.append(&mut notes);
            entry
        };
        book.insert(entry);
        self.added.notify_one();
        Ok(cores)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn may_ask(&self, name: &Name) -> Result<()> {
        if matches!(self.standing, Standing::Elder | Standing::Stopped) {
            let text = format!("socket \"{name}\": this generation takes in nothing new any more");
            return Err(Error::new(ErrorKind::Stopping, text));
        }
        match self.by_name.get(name).and_then(|&at| self.entries.get(at)) {
            Some(entry) if !entry.is_leaving() => {
                let text = format!(
                    "socket \"{name}\" was asked for before in this generation; clone what that \
                     gave, or use another name"
                );
                Err(Error::new(ErrorKind::Config, text))
            }
            _ => Ok(()),
        }
    }

    /// Takes the entry in, in the place of one of the same name that has left.
    fn insert(&mut self, entry: Entry) {
        let name = entry.name.clone();
        match self.by_name.get(&name).and_then(|&at| self.entries.get_mut(at)) {
            Some(left) => *left = entry,
            None => {
                self.by_name.insert(name, self.entries.len());
                self.entries.push(entry);
            }
        }
    }

    fn cores(&self) -> Vec<Arc<Core>> {
        self.entries.iter().flat_map(|entry| entry.cores.iter().cloned()).collect()
    }
}

/// Tells frameworks in a task of their own: nothing waits for what they make of it.
pub(crate) fn in_background(telling: impl Future<Output = Vec<String>> + Send + 'static) {
    crate::task::spawn(async move {
        for failure in telling.await {
            crate::log::error!(target: "heirloom::handoff", failure, "a framework did not follow");
        }
    });
}
