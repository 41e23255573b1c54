//! What the servers that are compared have in common: one application, one command line.

pub mod arguments;
pub mod inherit;
pub mod plain;
pub mod service;
pub mod tls;

/// Any error, told in one line.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
