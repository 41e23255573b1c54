//! Where a service manager listens: the value of `NOTIFY_SOCKET`, `sd_notify(3)`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use socket2::{Domain, SockAddr, Type};

use crate::error::{Error, ErrorKind, Result};

/// The address of a manager, checked.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(super) domain: Domain,
    pub(super) socket: SockAddr,
    /// The types to try, in this order.
    pub(super) types: &'static [Type],
}

impl Address {
    /// A path, `@` and an abstract name, or `vsock:CID:PORT`, where `vsock-stream`,
    /// `vsock-seqpacket` and `vsock-dgram` name the type.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Birth`] if it is none of these.
    pub(crate) fn parse(text: &OsStr) -> Result<Self> {
        let wrong = |why: &str| {
            let text = format!("NOTIFY_SOCKET={text:?}: {why}; correct or unset it");
            Error::new(ErrorKind::Birth, text)
        };
        let bytes = text.as_bytes();
        if let [b'/' | b'@', name @ ..] = bytes {
            if name.is_empty() {
                return Err(wrong("it is empty"));
            }
            if name.contains(&0) {
                return Err(wrong("it holds a NUL byte"));
            }
            let mut path = bytes.to_vec();
            if path.first() == Some(&b'@') {
                // unix(7): an abstract name begins with a NUL byte.
                path[0] = 0;
            }
            let socket = SockAddr::unix(OsString::from_vec(path))
                .map_err(|error| wrong("it is no address").with_source(error))?;
            return Ok(Self { domain: Domain::UNIX, socket, types: &[Type::DGRAM] });
        }
        let (kind, place) = text
            .to_str()
            .and_then(|text| text.split_once(':'))
            .ok_or_else(|| wrong("it is neither a path nor an abstract name nor a vsock"))?;
        let types: &'static [Type] = match kind {
            // Not every hypervisor has datagrams.
            "vsock" => &[Type::DGRAM, Type::SEQPACKET, Type::STREAM],
            "vsock-dgram" => &[Type::DGRAM],
            "vsock-seqpacket" => &[Type::SEQPACKET],
            "vsock-stream" => &[Type::STREAM],
            _ => return Err(wrong("it is neither a path nor an abstract name nor a vsock")),
        };
        let number = |text: &str| text.parse::<u32>().ok().filter(|_| !text.starts_with('+'));
        let numbers = place.split_once(':').map(|(cid, port)| (number(cid), number(port)));
        match numbers {
            Some((Some(cid), Some(port))) if cid != u32::MAX => {
                Ok(Self { domain: Domain::VSOCK, socket: SockAddr::vsock(cid, port), types })
            }
            _ => Err(wrong("a vsock is CID:PORT, two numbers")),
        }
    }

    /// Whether it takes datagrams of this machine: descriptors can go there, and who sends is known.
    pub(super) fn is_local(&self) -> bool {
        self.domain == Domain::UNIX && self.types == [Type::DGRAM]
    }

    /// A manager of a virtual machine's, as far as one can be had without a virtual machine: a
    /// connection for each message, of these types, on a path instead of a vsock.
    #[cfg(test)]
    pub(super) fn stand_in(path: &std::path::Path, types: &'static [Type]) -> Self {
        Self { domain: Domain::UNIX, socket: SockAddr::unix(path).unwrap(), types }
    }
}
