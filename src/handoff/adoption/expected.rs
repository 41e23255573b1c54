//! Health checks that the predecessor announced: they are recognised when they are accepted.

use std::collections::HashMap;

use crate::inventory::Inventory;
use crate::link::LinkSender;
use crate::listener::Expecting;
use crate::wire::{Expect, Expected, Message, Taken};

/// The announced connections of one handoff.
#[derive(Default)]
pub(super) struct Checks {
    expected: HashMap<u64, Expecting>,
}

impl Checks {
    /// A check is going to connect. Others, that came or were given up, are forgotten.
    pub(super) fn expect(&mut self, expect: Expect, sockets: &Inventory, link: &LinkSender) {
        let Expect { number, listener, from, given_up } = expect;
        for number in given_up {
            self.expected.remove(&number);
        }
        let tell = link.clone();
        let told = Box::new(move |taken: crate::listener::Taken| {
            let member = u32::try_from(taken.member).unwrap_or(u32::MAX);
            // A predecessor that cannot be told does not wait either.
            let _ = tell.post(Message::Taken(Taken { number, listener: taken.listener, member }));
        });
        self.expected.insert(number, sockets.expect(&from, told));
        let door = sockets.door(listener.as_str());
        let members = door.as_ref().map_or(0, |door| door.members);
        let expected = Expected {
            number,
            members: u32::try_from(members).unwrap_or(u32::MAX),
            observed: door.is_none_or(|door| door.observed),
        };
        let _ = link.post(Message::Expected(expected));
    }

    /// The verdict is in: nobody checks any more.
    pub(super) fn over(&mut self) {
        self.expected.clear();
    }
}
