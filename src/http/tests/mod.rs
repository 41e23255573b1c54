//! Servers and clients in one process, with real sockets and whole drains.

mod app;
mod client;
mod deadline;
mod drain;
mod generation;
mod load;
mod moves;
