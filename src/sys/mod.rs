//! Being written.

pub(crate) mod datagram;
