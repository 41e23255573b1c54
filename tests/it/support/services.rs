//! The sockets of the application: each is claimed or bound, and answered on.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heirloom::{
    ListenOptions, Listener, SeqpacketListener, SeqpacketStream, Starting, TcpListener, Transport,
    UdpSocket, UnixDatagram, UnixListener,
};
use serde_json::json;

use super::app::{App, Failure};
use super::client::Address;
use super::fixture::Fixture;
use super::release::{Kind, Socket};
use super::{commands, sessions};

pub(crate) enum Service {
    Tcp(TcpListener),
    Unix(UnixListener),
    Seqpacket(SeqpacketListener),
    Udp(UdpSocket),
    Datagram(UnixDatagram),
}

/// What the release lists as one socket, which may be a group of several.
pub(crate) async fn claim(
    fixture: &Fixture,
    starting: &Starting,
    socket: &Socket,
) -> Result<Vec<Service>, Failure> {
    let (name, address) = (socket.name.as_str(), socket.address.as_str());
    let mut options = ListenOptions::new();
    if let Some(backlog) = socket.backlog.and_then(NonZeroU32::new) {
        options = options.backlog(backlog);
    }
    let place = || place(fixture, address);
    let many = |members: usize| NonZeroUsize::new(members).ok_or("a group of none");
    Ok(match socket.kind {
        Kind::Tcp => vec![Service::Tcp(starting.tcp_with(name, address, options).await?)],
        Kind::Group(members) => {
            let group = starting.tcp_group(name, address, many(members)?, options).await?;
            group.into_iter().map(Service::Tcp).collect()
        }
        Kind::Unix => vec![Service::Unix(starting.unix_with(name, place(), options).await?)],
        Kind::Seqpacket => {
            vec![Service::Seqpacket(starting.seqpacket(name, place(), options).await?)]
        }
        Kind::Datagram => {
            vec![Service::Datagram(starting.unix_datagram(name, place(), options).await?)]
        }
        Kind::Udp => vec![Service::Udp(starting.udp_with(name, address, options).await?)],
        Kind::UdpGroup(members) => {
            let group = starting.udp_group(name, address, many(members)?, options).await?;
            group.into_iter().map(Service::Udp).collect()
        }
    })
}

/// Paths are in the test's directory. Abstract names are the machine's: the directory's name in
/// them keeps them apart.
fn place(fixture: &Fixture, address: &str) -> PathBuf {
    match address.strip_prefix('@') {
        Some(name) => {
            let directory = fixture.directory.file_name().unwrap_or_default();
            format!("@{}-{name}", directory.display()).into()
        }
        None => fixture.directory.join(address),
    }
}

impl Service {
    /// Where clients reach it; none if it is bound later.
    pub(crate) fn address(&self) -> Option<Address> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(Address::Inet),
            Self::Udp(socket) => socket.local_addr().ok().map(Address::Inet),
            Self::Unix(listener) => local(&listener.local_addr().ok()?),
            Self::Seqpacket(listener) => local(&listener.local_addr().ok()?),
            Self::Datagram(socket) => local(&socket.local_addr().ok()?),
        }
    }

    /// Answers on it in a task, and writes down when it ends.
    pub(crate) fn serve(self, app: &Arc<App>, socket: &Socket) {
        if !socket.accepts {
            return;
        }
        let service = match self {
            Self::Tcp(listener) if socket.name == "agent" => {
                return app.running.answer_agent(listener);
            }
            other => other,
        };
        let Some(service) = service.serve_web(app) else { return };
        let (app, pace) = (Arc::clone(app), socket.pace);
        let name = socket.name.clone();
        tokio::spawn(async move {
            let fixture = Arc::clone(&app.fixture);
            let end = match service {
                Self::Tcp(listener) => accept(app, listener, pace).await,
                Self::Unix(listener) => accept(app, listener, pace).await,
                Self::Seqpacket(listener) => answer_records(app, listener).await,
                Self::Udp(socket) => answer_packets(app, socket).await,
                Self::Datagram(socket) => answer_datagrams(app, socket).await,
            };
            let error = end.err().map(|error| error.chain());
            fixture.write("accept ended", json!({ "name": name, "error": error }));
        });
    }
}

/// HTTP.
impl Service {
    #[cfg(feature = "http")]
    fn serve_web(self, app: &Arc<App>) -> Option<Self> {
        let web = app.fixture.release.web;
        match (self, web) {
            (Self::Tcp(listener), Some(web)) if web.tls => {
                super::web::serve_tls(app, web, listener)
            }
            (Self::Tcp(listener), Some(web)) => super::web::serve(app, web, listener),
            (Self::Unix(listener), Some(web)) => super::web::serve(app, web, listener),
            (service, _) => return Some(service),
        }
        None
    }

    #[cfg(not(feature = "http"))]
    fn serve_web(self, _: &Arc<App>) -> Option<Self> {
        Some(self)
    }
}

fn local(address: &std::os::unix::net::SocketAddr) -> Option<Address> {
    use std::os::linux::net::SocketAddrExt;
    match (address.as_pathname(), address.as_abstract_name()) {
        (Some(path), _) => Some(Address::Path(path.to_owned())),
        (_, Some(name)) => Some(Address::Abstract(String::from_utf8_lossy(name).into())),
        _ => None,
    }
}

async fn accept<T>(app: Arc<App>, listener: Listener<T>, pace: Duration) -> heirloom::Result<()>
where
    T: Transport,
    T::Stream: tokio::io::AsyncRead
        + tokio::io::AsyncWrite
        + Into<heirloom::SessionStream>
        + Unpin
        + Send
        + 'static,
    T::Addr: Unpin + Send + 'static,
{
    while let Some(conn) = listener.accept().await? {
        let app = Arc::clone(&app);
        if app.fixture.release.moving.is_some() {
            tokio::spawn(sessions::accepted(app, conn));
        } else {
            tokio::spawn(commands::session(conn, app));
        }
        if !pace.is_zero() {
            tokio::time::sleep(pace).await;
        }
    }
    Ok(())
}

/// What came, and the generation behind it.
fn echo(app: &App, bytes: &[u8]) -> String {
    let generation = app.fixture.generation.get().copied().unwrap_or(0);
    format!("{} {generation}", String::from_utf8_lossy(bytes))
}

async fn answer_records(app: Arc<App>, listener: SeqpacketListener) -> heirloom::Result<()> {
    while let Some(conn) = listener.accept().await? {
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            let stream: &SeqpacketStream = &conn;
            let mut buffer = [0; 256];
            while let Ok(length @ 1..) = stream.recv(&mut buffer).await {
                if stream.send(echo(&app, &buffer[..length]).as_bytes()).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok(())
}

async fn answer_packets(app: Arc<App>, socket: UdpSocket) -> heirloom::Result<()> {
    let mut buffer = [0; 256];
    while let Some((length, peer)) = socket.recv_from(&mut buffer).await? {
        let answer = echo(&app, &buffer[..length]);
        if let Err(error) = socket.send_to(answer.as_bytes(), peer).await {
            app.fixture.write("send failed", json!(error.to_string()));
        }
    }
    Ok(())
}

async fn answer_datagrams(app: Arc<App>, socket: UnixDatagram) -> heirloom::Result<()> {
    let mut buffer = [0; 256];
    while let Some((length, peer)) = socket.recv_from(&mut buffer).await? {
        let answer = echo(&app, &buffer[..length]);
        let Some(path) = peer.as_pathname() else { continue };
        if let Err(error) = socket.send_to(answer.as_bytes(), path).await {
            app.fixture.write("send failed", json!(error.to_string()));
        }
    }
    Ok(())
}
