//! What a handoff does with the sockets.

use std::future::{Future, poll_fn};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use socket2::SockRef;

use super::{Book, Inventory, Standing};
use crate::error::{Error, ErrorKind, Result};
use crate::listener::{Core, RawPause, State, address_of, unlink_if};
use crate::wire::{Address, SocketRecord};

/// What a successor says of its sockets when it is ready.
pub(crate) struct ReadyPart {
    /// Indices into the sockets that were inherited.
    pub(crate) claimed: Vec<u32>,
    /// What it bound anew and has open, for the predecessor to hold.
    pub(crate) bound: Vec<(SocketRecord, Arc<OwnedFd>)>,
    /// Differences between what was asked for and what was inherited.
    pub(crate) notes: Vec<String>,
}

impl Inventory {
    /// Every socket that the next generation can claim. What is closing is not among them.
    pub(crate) fn offer(&self) -> Vec<(SocketRecord, Arc<OwnedFd>)> {
        let mut book = self.book();
        let records: Vec<_> = book.entries.iter().flat_map(super::Entry::records).collect();
        book.given.clear();
        book.offered = records.iter().map(|(_, _, core)| core.clone()).collect();
        let mut offer: Vec<_> = records.into_iter().map(|(record, fd, _)| (record, fd)).collect();
        if let Some(control) = &mut book.control {
            offer.push(control.offer(offer.len()));
            book.offered.push(None);
        }
        offer
    }

    /// What a successor claims and has bound. From here on nothing more can be claimed.
    pub(crate) fn ready(&self) -> ReadyPart {
        let mut book = self.book();
        book.inherited.close_claims();
        let sockets = book.entries.iter().flat_map(|entry| &entry.sockets);
        let mut claimed: Vec<u32> = sockets.filter_map(|held| held.claimed).collect();
        claimed.append(&mut book.taken);
        claimed.sort_unstable();
        let mut notes = std::mem::take(&mut book.notes);
        notes.extend(book.cores().iter().filter(|core| core.is_overlap()).map(|core| {
            format!("listener \"{}\": overlap, both generations accept in probation", core.name())
        }));
        let bound = book.entries.iter().flat_map(super::Entry::bound).collect();
        ReadyPart { claimed, bound, notes }
    }

    /// The predecessor keeps what its successor bound, until the verdict.
    pub(crate) fn adopt_bound(&self, bound: Vec<(SocketRecord, OwnedFd)>) {
        self.book().adopted.extend(bound);
    }

    /// Stops accepting on what the successor claimed, by indices of the offer last made. When it
    /// resolves nothing is accepted there any more. *On error, or when it is dropped, call
    /// [`resume`](Self::resume): the predecessor is still the one to serve.*
    pub(crate) async fn park(&self, claimed: &[u32]) -> Result<()> {
        let raw: Vec<(Arc<Core>, Arc<RawPause>)> = {
            let mut book = self.book();
            let given = book.pick(claimed)?;
            book.given.clone_from(&given);
            book.control_claimed(claimed);
            let pause = |core: &Arc<Core>| Some((Arc::clone(core), core.park_at_once()?));
            let raw = given.iter().filter_map(pause).collect();
            drop(book);
            // The successor waits for its turn, and not for this.
            crate::task::spawn(leave_epoll(given));
            raw
        };
        let all = raw.into_iter().map(|(core, pause)| -> Pending<Result<()>> {
            Box::pin(async move {
                pause.pause().await.map_err(|error| {
                    let text = format!("listener \"{}\": the application's pause", core.name());
                    Error::new(ErrorKind::Io, text).with_source(error)
                })
            })
        });
        join(all.collect()).await.into_iter().collect()
    }

    /// Stops accepting everywhere, at once. The future tells frameworks to pause.
    pub(crate) fn pause(&self) -> impl Future<Output = Vec<String>> + Send + 'static {
        let cores = self.book().cores();
        pause_all(cores)
    }

    /// Stops accepting, at once, on what a successor claimed that has committed by itself; on
    /// everything if its claims have not arrived. The future tells frameworks to pause.
    pub(crate) fn park_late(
        &self,
        claimed: &[u32],
    ) -> impl Future<Output = Vec<String>> + Send + 'static {
        let mut book = self.book();
        book.control_claimed(claimed);
        let given = match book.pick(claimed) {
            Ok(given) if !given.is_empty() => given,
            _ => {
                if let Some(control) = book.control.as_mut().filter(|_| claimed.is_empty()) {
                    control.claimed_perhaps();
                }
                book.cores()
            }
        };
        book.given.clone_from(&given);
        pause_all(given)
    }

    /// An operator wants nothing to be accepted, in this generation and the next: from here on
    /// nothing that is parked accepts again before [`release`](Self::release). What is open is
    /// parked by [`pause`](Self::pause).
    pub(crate) fn hold(&self) {
        self.book().held = true;
    }

    /// As [`hold`](Self::hold) or [`release`](Self::release), by the word of whoever owns: nothing
    /// accepts by that here, now.
    pub(crate) fn keep_to(&self, paused: bool) {
        self.book().held = paused;
    }

    pub(crate) fn is_held(&self) -> bool {
        self.book().held
    }

    /// The operator lets connections be accepted again, at once. The future tells frameworks.
    pub(crate) fn release(&self) -> impl Future<Output = Vec<String>> + Send + 'static {
        let mut book = self.book();
        book.held = false;
        let parked = book.accept_again();
        drop(book);
        resume_raw(parked)
    }

    /// Our turn again after a [`pause`](Self::pause) of our own: accepts again on the very same
    /// sockets, at once. The future tells the frameworks that were paused.
    pub(crate) fn unpause(&self) -> impl Future<Output = Vec<String>> + Send + 'static {
        resume_raw(self.book().accept_again())
    }

    /// Roll back: accepts again on the very same sockets, at once, and serves the queues of what
    /// the successor had bound. The future tells the frameworks that were paused; it gives what
    /// went wrong.
    pub(crate) fn resume(&self) -> impl Future<Output = Vec<String>> + Send + 'static {
        let cores = {
            let mut book = self.book();
            book.given.clear();
            let parked = book.accept_again();
            book.serve_adopted();
            parked
        };
        resume_raw(cores)
    }

    /// Roll back before anything was parked: what the successor had bound is not held any longer.
    pub(crate) fn release_bound(&self) {
        self.book().serve_adopted();
    }

    /// The successor died after the verdict while we drain: we own, and accept, again, at once. The
    /// future tells the frameworks that were paused.
    pub(crate) fn own_again(&self) -> impl Future<Output = Vec<String>> + Send + 'static {
        let cores = {
            let mut book = self.book();
            if book.standing != Standing::Stopped {
                book.standing = Standing::Owner;
            }
            for place in book.given.iter().filter_map(|core| core.place()) {
                place.own();
            }
            book.given.clear();
            book.accept_again()
        };
        resume_raw(cores)
    }

    /// Our turn: listens on what is new and accepts.
    pub(crate) fn open(&self) -> Result<()> {
        let mut book = self.book();
        book.inherited.close_claims();
        for entry in &mut book.entries {
            entry.listen()?;
        }
        let successor = book.successor;
        for entry in &mut book.entries {
            if successor {
                entry.settle_place()?;
            } else {
                entry.take_place()?;
                if let Some(note) = entry.bind_deferred().pop() {
                    return Err(Error::new(ErrorKind::Bind, note));
                }
            }
        }
        book.standing = if successor { Standing::Probation } else { Standing::Owner };
        if !successor {
            book.close_unclaimed();
        }
        book.open_all();
        Ok(())
    }

    /// Our turn without anybody else to serve: accepts on all that can be opened. Whoever accepts
    /// on the rest gets the error. Gives what went wrong.
    pub(crate) fn open_what_can_be(&self) -> Vec<String> {
        let mut book = self.book();
        book.inherited.close_claims();
        book.standing = Standing::Probation;
        let mut notes = Vec::new();
        for entry in &mut book.entries {
            if let Err(error) = entry.listen().and_then(|()| entry.settle_place()) {
                entry.cores.iter().for_each(|core| core.fail(error.chain()));
                notes.push(error.chain());
            }
        }
        book.open_all();
        notes
    }

    /// The verdict is 'committed' and we own: joins groups, binds what had to wait, sets the
    /// options that can be set, and closes what nobody claimed. Gives what went wrong.
    pub(crate) fn committed_as_successor(&self) -> Vec<String> {
        let mut book = self.book();
        book.standing = Standing::Owner;
        book.successor = false;
        book.close_unclaimed();
        let mut notes = Vec::new();
        for entry in &mut book.entries {
            notes.append(&mut entry.bind_deferred());
            if let Err(error) = entry.take_place() {
                notes.push(error.chain());
            } else if let Some(place) = entry.place() {
                place.own();
                if entry.is_leaving() {
                    place.unlink();
                }
            }
            notes.append(&mut entry.apply_options());
        }
        notes
    }

    /// The verdict is 'committed' and the successor owns: what it claimed stays parked, with every
    /// descriptor open; what it did not want serves its queue and is closed.
    pub(crate) fn committed_as_predecessor(&self) {
        let mut book = self.book();
        book.standing = Standing::Elder;
        book.adopted.clear();
        for place in book.given.iter().filter_map(|core| core.place()) {
            place.disown();
        }
        if let Some(control) = &book.control {
            control.hand_over();
        }
        for core in book.cores() {
            if book.held && !book.is_given(&core) {
                // Nobody else will serve its queue.
                core.resume();
            }
            if core.state() != State::Parked {
                core.close();
            }
        }
    }

    /// The service stops: an owner serves every queue and then gives `None`, and unlinks its
    /// paths. Who is not the owner ends at once, and leaves queue and paths to the one who is.
    pub(crate) fn stop(&self) {
        let mut book = self.book();
        let owner = book.standing == Standing::Owner;
        let elder = book.standing == Standing::Elder;
        book.standing = Standing::Stopped;
        book.inherited.clear();
        for core in book.cores() {
            if owner || elder && core.state() != State::Parked {
                core.close();
                // A handoff that the stop ended may have left it parked: it would never close.
                core.resume();
                continue;
            }
            core.end();
            if let Some(place) = core.place() {
                place.unlink();
            }
        }
    }

    /// The drain is over: whoever still waits gets `None`, and every descriptor is closed.
    pub(crate) fn finish(&self) {
        let mut book = self.book();
        book.standing = Standing::Stopped;
        for core in book.cores() {
            core.end();
        }
        if let Some(control) = book.control.take() {
            control.end();
        }
        book.inherited.clear();
        book.adopted.clear();
        book.offered.clear();
        book.given.clear();
        book.entries.clear();
        book.by_name.clear();
    }
}

impl Book {
    /// The listeners at these indices of the offer; nothing is done to any unless all are there.
    fn pick(&self, claimed: &[u32]) -> Result<Vec<Arc<Core>>> {
        let at = |&index: &u32| {
            let offered = usize::try_from(index).ok().and_then(|index| self.offered.get(index));
            offered.ok_or_else(|| {
                let text = format!("the successor claims socket {index}, which was not offered");
                Error::new(ErrorKind::Protocol, text)
            })
        };
        let picked: Vec<_> = claimed.iter().map(at).collect::<Result<_>>()?;
        Ok(picked.into_iter().flatten().cloned().collect())
    }

    fn is_given(&self, core: &Arc<Core>) -> bool {
        self.given.iter().any(|given| Arc::ptr_eq(given, core))
    }

    /// Our turn: what waited for it accepts, unless an operator holds it.
    fn open_all(&self) {
        for core in self.cores() {
            if self.held { core.hold() } else { core.open() }
        }
    }

    /// Those that were parked, which accept again, unless an operator holds them.
    fn accept_again(&self) -> Vec<Arc<Core>> {
        if self.held {
            return Vec::new();
        }
        let parked = self.cores().into_iter().filter(|core| core.state() == State::Parked);
        parked.inspect(|core| core.resume()).collect()
    }

    /// The queues of what a failed successor bound go to our listeners of the same names; the
    /// paths go.
    fn serve_adopted(&mut self) {
        for (record, fd) in std::mem::take(&mut self.adopted) {
            let here = SockRef::from(&fd).local_addr().map(|here| address_of(&here));
            for address in [Ok(record.address.clone()), here].into_iter().flatten() {
                if let Address::Path(path) = address {
                    unlink_if(&path, record.path_inode);
                }
            }
            let entry = self.by_name.get(&record.name).and_then(|&at| self.entries.get(at));
            let core = entry
                .filter(|entry| entry.kind == record.kind)
                .and_then(|entry| entry.cores.iter().find(|core| core.state() == State::Open));
            // The successor should have done so; a worker must not wait in its accept.
            if let Some(core) = core
                && SockRef::from(&fd).set_nonblocking(true).is_ok()
            {
                core.add_leftover(Arc::new(fd));
            }
        }
    }
}

/// So many listeners leave epoll before others may work.
const AT_A_TIME: usize = 32;

/// What is parked wakes nobody any more.
async fn leave_epoll(parked: Vec<Arc<Core>>) {
    for some in parked.chunks(AT_A_TIME) {
        some.iter().for_each(|core| core.leave_epoll());
        tokio::task::yield_now().await;
    }
}

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Parks what is open; the future tells frameworks to pause.
fn pause_all(cores: Vec<Arc<Core>>) -> impl Future<Output = Vec<String>> + Send + 'static {
    let open = cores.into_iter().filter(|core| core.state() == State::Open);
    let raw: Vec<_> = open.filter_map(|core| core.park().map(|pause| (core, pause))).collect();
    tell_raw(raw, "pause", |core, pause| {
        Box::pin(async move { pause.pause_if(|| core.state() == State::Parked).await })
    })
}

type Told = fn(Arc<Core>, Arc<RawPause>) -> Pending<std::io::Result<()>>;

fn resume_raw(cores: Vec<Arc<Core>>) -> impl Future<Output = Vec<String>> + Send + 'static {
    let raw = cores.into_iter().filter_map(|core| core.raw().map(|pause| (core, pause)));
    tell_raw(raw.collect(), "resume", |core, pause| {
        Box::pin(async move { pause.resume_if(|| core.state() != State::Parked).await })
    })
}

/// Tells frameworks that hold listeners of their own; gives what went wrong. Who is told late, by a
/// task that another one has overtaken, is told only what still holds.
async fn tell_raw(
    raw: Vec<(Arc<Core>, Arc<RawPause>)>,
    what: &'static str,
    tell: Told,
) -> Vec<String> {
    let all = raw.into_iter().map(|(core, pause)| -> Pending<Option<String>> {
        Box::pin(async move {
            let error = tell(Arc::clone(&core), pause).await.err()?;
            Some(format!("listener \"{}\": the application's {what}: {error}", core.name()))
        })
    });
    join(all.collect()).await.into_iter().flatten().collect()
}

/// Runs all of them together, so that a deadline holds for the slowest, not for the sum.
async fn join<T: Send>(futures: Vec<Pending<T>>) -> Vec<T> {
    let mut running: Vec<Option<Pending<T>>> = futures.into_iter().map(Some).collect();
    let mut results: Vec<Option<T>> = running.iter().map(|_| None).collect();
    poll_fn(move |cx| {
        for (future, result) in running.iter_mut().zip(&mut results) {
            if let Some(pending) = future
                && let Poll::Ready(value) = pending.as_mut().poll(cx)
            {
                *result = Some(value);
                *future = None;
            }
        }
        if running.iter().all(Option::is_none) {
            return Poll::Ready(results.iter_mut().filter_map(Option::take).collect());
        }
        Poll::Pending
    })
    .await
}
