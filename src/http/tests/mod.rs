//! Servers and clients in one process, with real sockets and whole drains.

mod app;
mod client;
mod deadline;
mod drain;
mod generation;
mod goaway;
mod half_closed;
mod http2;
mod load;
mod moves;
mod odd;
mod successor;
mod tls;
