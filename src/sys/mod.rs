//! Being written.

pub(crate) mod datagram;
pub(crate) mod socket;
pub(crate) mod readiness;
