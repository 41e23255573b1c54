//! Clients that never retry. Each byte that they send and get is known, and whatever goes wrong is
//! told by its kind.

pub(crate) mod busy;
pub(crate) mod fault;
pub(crate) mod http2;
pub(crate) mod idle;
pub(crate) mod mix;
pub(crate) mod paced;
pub(crate) mod short;
pub(crate) mod tally;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
pub(crate) mod websocket;
pub(crate) mod wire;
