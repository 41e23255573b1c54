//! What an application asks for by name: inherited, activated or bound, by the same line.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::path::Path;

use tokio::net::{ToSocketAddrs, lookup_host};

use crate::error::{Error, ErrorKind, Result};
use crate::inventory::Inventory;
use crate::listener::{
    ListenOptions, SeqpacketListener, TcpListener, UdpSocket, UnixDatagram, UnixListener,
};

/// The sockets of a generation.
///
/// Each is asked for by a name that stays the same over releases. In this order it is
///
/// 1. claimed from what was inherited, by name and compatible address (port 0 matches any port),
/// 2. claimed by its exact address under another name,
/// 3. bound anew. What a successor binds takes no traffic before its turn.
///
/// The methods with `_with` take [`ListenOptions`], which hold for a fresh bind; where an
/// inherited socket differs, the report says so.
///
/// # Errors
///
/// All methods: [`ErrorKind::Config`] for a bad name or address or a name asked for twice,
/// [`ErrorKind::Descriptor`] if what was inherited under the name is of another kind,
/// [`ErrorKind::Bind`] if a fresh bind fails, [`ErrorKind::Stopping`] once this generation takes
/// in nothing new.
#[derive(Clone)]
pub struct Sockets {
    inventory: Inventory,
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets").finish_non_exhaustive()
    }
}

impl Sockets {
    pub(crate) fn new(inventory: Inventory) -> Self {
        Self { inventory }
    }

    /// A TCP listener with the default options. `[::]` takes IPv4 as well.
    pub async fn tcp(&self, name: &str, address: impl ToSocketAddrs) -> Result<TcpListener> {
        self.tcp_with(name, address, ListenOptions::new()).await
    }

    /// A TCP listener.
    pub async fn tcp_with(
        &self,
        name: &str,
        address: impl ToSocketAddrs,
        options: ListenOptions,
    ) -> Result<TcpListener> {
        let addresses = resolve(name, address).await?;
        self.inventory.tcp(name, &addresses[..], &options)
    }

    /// `count` TCP listeners of one `SO_REUSEPORT` group (socket(7)), one for each worker.
    ///
    /// The count may change between releases. A group never shrinks in the kernel: with fewer
    /// listeners than inherited members each accepts on several; with more, the new ones join at
    /// the commit.
    pub async fn tcp_group(
        &self,
        name: &str,
        address: impl ToSocketAddrs,
        count: NonZeroUsize,
        options: ListenOptions,
    ) -> Result<Vec<TcpListener>> {
        let addresses = resolve(name, address).await?;
        self.inventory.tcp_group(name, &addresses[..], count, &options)
    }

    /// A listener on a Unix stream socket with the default options: a path, or `@` and an abstract
    /// name (unix(7)).
    pub async fn unix(&self, name: &str, path: impl AsRef<Path>) -> Result<UnixListener> {
        self.unix_with(name, path, ListenOptions::new()).await
    }

    /// A listener on a Unix stream socket.
    pub async fn unix_with(
        &self,
        name: &str,
        path: impl AsRef<Path>,
        options: ListenOptions,
    ) -> Result<UnixListener> {
        self.inventory.unix(name, path, &options)
    }

    /// A listener on a Unix sequential-packet socket: a path, or `@` and an abstract name.
    pub async fn seqpacket(
        &self,
        name: &str,
        path: impl AsRef<Path>,
        options: ListenOptions,
    ) -> Result<SeqpacketListener> {
        self.inventory.seqpacket(name, path, &options)
    }

    /// A Unix datagram socket: a path, or `@` and an abstract name.
    pub async fn unix_datagram(
        &self,
        name: &str,
        path: impl AsRef<Path>,
        options: ListenOptions,
    ) -> Result<UnixDatagram> {
        self.inventory.unix_datagram(name, path, &options)
    }

    /// A UDP socket with the default options. One generation at a time receives from it.
    pub async fn udp(&self, name: &str, address: impl ToSocketAddrs) -> Result<UdpSocket> {
        self.udp_with(name, address, ListenOptions::new()).await
    }

    /// A UDP socket.
    pub async fn udp_with(
        &self,
        name: &str,
        address: impl ToSocketAddrs,
        options: ListenOptions,
    ) -> Result<UdpSocket> {
        let addresses = resolve(name, address).await?;
        self.inventory.udp(name, &addresses[..], &options)
    }

    /// `count` UDP sockets of one `SO_REUSEPORT` group; the count may change as for
    /// [`tcp_group`](Self::tcp_group).
    pub async fn udp_group(
        &self,
        name: &str,
        address: impl ToSocketAddrs,
        count: NonZeroUsize,
        options: ListenOptions,
    ) -> Result<Vec<UdpSocket>> {
        let addresses = resolve(name, address).await?;
        self.inventory.udp_group(name, &addresses[..], count, &options)
    }

    /// Any other descriptor that was inherited under this name, once.
    pub fn descriptor(&self, name: &str) -> Result<Option<OwnedFd>> {
        self.inventory.descriptor(name)
    }

    /// Adds any descriptor under a name, for the next generations to take by
    /// [`descriptor`](Self::descriptor).
    pub fn provide_descriptor(&self, name: &str, descriptor: OwnedFd) -> Result<()> {
        self.inventory.provide_descriptor(name, descriptor)
    }
}

/// The addresses that a name stands for; the first that was inherited, or can be bound, is taken.
async fn resolve(name: &str, address: impl ToSocketAddrs) -> Result<Vec<SocketAddr>> {
    let found = lookup_host(address).await.map_err(|error| {
        let text = format!("socket \"{name}\": its address has no meaning");
        Error::new(ErrorKind::Config, text).with_source(error)
    })?;
    Ok(found.collect())
}
