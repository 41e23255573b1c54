//! What is measured.

pub(crate) mod disturbance;
pub(crate) mod latency;
pub(crate) mod loss;
pub(crate) mod numbers;
pub(crate) mod probe;
pub(crate) mod steady;
