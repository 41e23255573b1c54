//! Addresses as records have them, and as the kernel has them.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use socket2::SockAddr;

use crate::wire::Address;

/// The address of a socket as records have it.
pub(crate) fn address_of(address: &SockAddr) -> Address {
    if let Some(inet) = address.as_socket() {
        return Address::Inet(inet);
    }
    if let Some(path) = address.as_pathname() {
        return Address::Path(PathBuf::from(path));
    }
    match address.as_abstract_namespace() {
        Some(name) => Address::Abstract(name.to_vec()),
        None => Address::None,
    }
}

/// An address as the kernel has it.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] for none, and for a path that is too long (`unix(7)`).
pub(crate) fn sock_addr(address: &Address) -> io::Result<SockAddr> {
    match address {
        Address::Inet(address) => Ok((*address).into()),
        Address::Path(path) => SockAddr::unix(path),
        Address::Abstract(name) => {
            // An abstract name is a path that begins with a zero byte (unix(7)).
            let bytes: Vec<u8> = std::iter::once(0).chain(name.iter().copied()).collect();
            SockAddr::unix(OsStr::from_bytes(&bytes))
        }
        Address::None => Err(io::ErrorKind::InvalidInput.into()),
    }
}
