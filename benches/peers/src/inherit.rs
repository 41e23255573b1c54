//! Listeners by hand: the child inherits their numbers, and a variable names them.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use socket2::{Domain, Socket, Type};

use crate::Failure;

/// The variable: numbers, separated by commas.
pub const DESCRIPTORS: &str = "PEERS_DESCRIPTORS";

/// A listener.
///
/// # Errors
///
/// When it cannot be bound.
pub fn bind(address: SocketAddr) -> Result<std::net::TcpListener, Failure> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The listeners in the order of their addresses, inherited or bound, and what the variable has to
/// say for a child.
///
/// # Errors
///
/// When one cannot be bound.
pub fn listeners(
    addresses: &[SocketAddr],
) -> Result<(Vec<std::net::TcpListener>, String), Failure> {
    let listeners: Vec<std::net::TcpListener> = match std::env::var(DESCRIPTORS) {
        Ok(numbers) => numbers
            .split(',')
            .map(|number| {
                // SAFETY: the parent passed these numbers, for us alone.
                Ok(unsafe { OwnedFd::from_raw_fd(number.parse()?) }.into())
            })
            .collect::<Result<_, Failure>>()?,
        Err(_) => addresses.iter().map(|address| bind(*address)).collect::<Result<_, _>>()?,
    };
    let mut numbers = Vec::new();
    for listener in &listeners {
        fcntl(listener, FcntlArg::F_SETFD(FdFlag::empty()))?;
        numbers.push(listener.as_raw_fd().to_string());
    }
    Ok((listeners, numbers.join(",")))
}
