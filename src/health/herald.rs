//! Announcing a connection to the generation that is to accept it.

use std::pin::pin;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::inventory::Inventory;
use crate::listener::{Expecting, Taken};
use crate::name::Name;
use crate::wire::Address;

/// A connection that is going to be made. Whoever receives it answers `ready` when it will be
/// recognised, and `taken` when it was accepted.
///
/// When the receiving end of `taken` is gone, nobody waits any more and the announcement may be
/// withdrawn.
#[derive(Debug)]
pub(crate) struct Announcement {
    /// The address that it comes from.
    pub(crate) from: Address,
    /// The listener that it goes to.
    pub(crate) listener: Name,
    pub(crate) ready: oneshot::Sender<Announced>,
    pub(crate) taken: oneshot::Sender<Taken>,
}

/// The generation under check knows of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// Whether it will say that it has accepted it: not if a framework accepts by itself.
    pub(crate) observed: bool,
    /// How many sockets the listener has; none if there is no listener of that name. The connection
    /// is recognised nevertheless: the listener may have got another name.
    pub(crate) members: usize,
}

/// Recognises an announced connection on the listeners of this process until the answer's second
/// part is dropped; `told` is called when it was accepted.
fn recognise(
    inventory: &Inventory,
    listener: &Name,
    from: &Address,
    told: Box<dyn FnOnce(Taken) + Send>,
) -> (Announced, Expecting) {
    let expecting = inventory.expect(from, told);
    let announced = match inventory.door(listener.as_str()) {
        Some(door) => Announced { observed: door.observed, members: door.members },
        None => Announced { observed: true, members: 0 },
    };
    (announced, expecting)
}

/// Answers announcements for the listeners of this process, until nobody can make any more or it
/// is dropped. For a generation that checks itself.
pub(crate) async fn answer_here(
    inventory: &Inventory,
    mut announcements: mpsc::Receiver<Announcement>,
) {
    let mut waiting = JoinSet::new();
    while let Some(announcement) = announcements.recv().await {
        while waiting.try_join_next().is_some() {}
        let Announcement { from, listener, ready, mut taken } = announcement;
        let (tell, told) = oneshot::channel();
        let tell = Box::new(|by| _ = tell.send(by));
        let (announced, expecting) = recognise(inventory, &listener, &from, tell);
        if ready.send(announced).is_err() {
            continue;
        }
        crate::task::spawn_in(&mut waiting, async move {
            let mut told = pin!(told);
            tokio::select! {
                Ok(by) = &mut told => {
                    // Whoever announced it may have given up just now.
                    let _ = taken.send(by);
                }
                () = taken.closed() => {}
            }
            drop(expecting);
        });
    }
}
