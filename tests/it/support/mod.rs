//! What the tests are written with: each file is one noun.

pub(crate) mod app;
pub(crate) mod client;
pub(crate) mod commands;
pub(crate) mod faults;
pub(crate) mod fixture;
pub(crate) mod journal;
pub(crate) mod load;
pub(crate) mod process;
pub(crate) mod release;
pub(crate) mod server;
pub(crate) mod wait;

pub(crate) use client::Client;
pub(crate) use load::Load;
pub(crate) use release::{Fault, Release, Socket, Start};
pub(crate) use server::Server;

/// Generations whose parent has gone become this process's children, so that it can reap them.
pub(crate) fn adopt_orphans() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
}
