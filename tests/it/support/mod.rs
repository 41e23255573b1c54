//! What the tests are written with: each file is one noun.

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod commands;
pub(crate) mod dice;
pub(crate) mod disk;
pub(crate) mod faults;
pub(crate) mod fixture;
pub(crate) mod journal;
pub(crate) mod link;
pub(crate) mod load;
pub(crate) mod manager;
pub(crate) mod nonsense;
pub(crate) mod operator;
pub(crate) mod outside;
pub(crate) mod own;
pub(crate) mod process;
pub(crate) mod release;
pub(crate) mod scanner;
pub(crate) mod server;
pub(crate) mod services;
pub(crate) mod sessions;
pub(crate) mod shortage;
pub(crate) mod states;
pub(crate) mod taker;
pub(crate) mod traffic;
pub(crate) mod unit;
#[cfg(feature = "http")]
pub(crate) mod visitor;
pub(crate) mod wait;
#[cfg(feature = "http")]
pub(crate) mod web;

pub(crate) use client::Client;
pub(crate) use load::Load;
pub(crate) use operator::Operator;
pub(crate) use release::{Release, Socket, Start};
pub(crate) use server::Server;
pub(crate) use traffic::Traffic;

/// The tests and all that they start have standard streams and nothing else, whatever a shell or a
/// harness left open for them.
pub(crate) fn close_strays() {
    let own = std::process::id().cast_signed();
    for number in process::descriptors(own).into_keys().filter(|number| *number > 2) {
        nix::unistd::close(number).unwrap();
    }
}

/// Generations whose parent has gone become this process's children, so that it can reap them.
pub(crate) fn adopt_orphans() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
}
