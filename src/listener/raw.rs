//! Inventory that a framework owns: told to pause and to resume, or shared on purpose.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use super::Listener;
use super::core::Core;
use super::state::State;
use super::transport::Transport;
use crate::error::{Error, ErrorKind, Result};

/// How a framework that accepts on its own is told to pause during a handoff.
///
/// actix-web has `ServerHandle::pause` and `resume`; a thread that accepts acknowledges through a
/// channel. Both futures may be dropped when the handoff's deadline passes; a `pause` that was
/// dropped or that failed is followed by [`resume`](Self::resume).
pub trait Pause: Send + 'static {
    /// Stops accepting. It resolves when no accept is in flight and none will follow: the next
    /// generation accepts from then on. The descriptor stays open.
    ///
    /// # Errors
    /// An error rolls the handoff back.
    fn pause(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// Accepts again, on the same socket: the handoff was rolled back.
    ///
    /// # Errors
    /// An error is reported; the socket stays open and unanswered.
    fn resume(&mut self) -> impl Future<Output = io::Result<()>> + Send;
}

type Answer<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

/// [`Pause`] with its futures boxed.
trait Boxed: Send {
    fn pause(&mut self) -> Answer<'_>;
    fn resume(&mut self) -> Answer<'_>;
}

impl<P: Pause> Boxed for P {
    fn pause(&mut self) -> Answer<'_> {
        Box::pin(Pause::pause(self))
    }

    fn resume(&mut self) -> Answer<'_> {
        Box::pin(Pause::resume(self))
    }
}

/// A framework that can be paused. Its calls never overlap.
pub(crate) struct RawPause(tokio::sync::Mutex<Box<dyn Boxed>>);

impl RawPause {
    /// Resolves when the framework says that it has paused.
    pub(crate) async fn pause(&self) -> io::Result<()> {
        self.0.lock().await.pause().await
    }

    /// As [`pause`](Self::pause), if that is still wanted when the framework can be told.
    pub(crate) async fn pause_if(&self, wanted: impl Fn() -> bool + Send) -> io::Result<()> {
        let mut framework = self.0.lock().await;
        if wanted() { framework.pause().await } else { Ok(()) }
    }

    /// Resolves when the framework says that it accepts again, if that is still wanted when it can
    /// be told.
    pub(crate) async fn resume_if(&self, wanted: impl Fn() -> bool + Send) -> io::Result<()> {
        let mut framework = self.0.lock().await;
        if wanted() { framework.resume().await } else { Ok(()) }
    }
}

/// Who accepts on a listener's socket.
pub(super) enum Raw {
    /// The listener.
    No,
    /// A framework that can be paused.
    Paused(Arc<RawPause>),
    /// A framework that cannot be paused, or was never asked.
    Overlap,
    /// A framework, and the listener has ended.
    Gone,
}

impl Raw {
    pub(super) fn is_taken(&self) -> bool {
        !matches!(self, Self::No)
    }

    pub(super) fn pause(&self) -> Option<Arc<RawPause>> {
        match self {
            Self::Paused(pause) => Some(Arc::clone(pause)),
            _ => None,
        }
    }
}

impl Core {
    /// Whether a framework accepts on it by itself.
    pub(crate) fn is_raw(&self) -> bool {
        self.lock().raw.is_taken()
    }

    /// Whether both generations accept on it during probation.
    pub(crate) fn is_overlap(&self) -> bool {
        matches!(self.lock().raw, Raw::Overlap)
    }

    /// The framework takes the socket over, if there is exactly one and the state allows it.
    fn take_raw(&self, raw: Raw, any_time: bool) -> Result<std::os::fd::OwnedFd> {
        let wrong = |what: &str| {
            Error::new(ErrorKind::Config, format!("listener \"{}\": {what}", self.name()))
        };
        self.change(|inner| {
            match inner.state {
                State::Ended | State::Closing => {
                    return Err(Error::new(
                        ErrorKind::Stopping,
                        format!("listener \"{}\" is closed", self.name()),
                    ));
                }
                State::Waiting if !any_time => {
                    return Err(wrong("it is not our turn yet; hand it out after ready"));
                }
                State::Parked if !any_time => {
                    return Err(wrong("a handoff is under way and it is parked"));
                }
                _ => {}
            }
            let [member] = inner.members.as_mut_slice() else {
                let count = inner.members.len();
                return Err(wrong(&format!(
                    "it stands for {count} sockets and a framework takes one; accept from it, \
                     or ask for as many listeners as the group has members"
                )));
            };
            member.deregister();
            let fd = member
                .fd
                .try_clone()
                .map_err(|error| wrong("its descriptor cannot be duplicated").with_source(error))?;
            inner.raw = raw;
            Ok(fd)
        })
    }
}

impl<T: Transport> Listener<T> {
    /// Gives the socket to a framework that accepts on its own and can be paused.
    ///
    /// Take it after ready, when it is our turn. The framework gets a duplicate (non-blocking, as
    /// every listener here); this crate keeps the socket for the next generation. Connections
    /// accepted by the framework have no [`Guard`](crate::Guard), so a drain does not wait for
    /// them, and at a stop the framework is stopped by the application.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] before our turn, during a handoff, if clones of this listener exist,
    /// or if it stands for several members of a `SO_REUSEPORT` group; [`ErrorKind::Stopping`]
    /// when it is closed.
    pub fn into_raw_with(self, pause: impl Pause) -> Result<T::Raw> {
        self.only_handle()?;
        let pause = Arc::new(RawPause(tokio::sync::Mutex::new(Box::new(pause))));
        Ok(T::raw(self.core().take_raw(Raw::Paused(pause), false)?))
    }

    /// Gives the socket to a framework that accepts on its own and cannot be paused.
    ///
    /// Both generations accept on it during probation, which the upgrade's report says. It can be
    /// taken at any time, also before ready: a new socket then listens from now on.
    ///
    /// # Errors
    /// As [`into_raw_with`](Self::into_raw_with), and [`ErrorKind::Bind`] if `listen(2)` fails.
    pub fn into_raw_overlap(self) -> Result<T::Raw> {
        self.only_handle()?;
        let fd = self.core().take_raw(Raw::Overlap, true)?;
        let socket = socket2::SockRef::from(&fd);
        if !socket.is_listener().unwrap_or(true) {
            socket.listen(self.backlog).map_err(|error| {
                let text = format!("listener \"{}\": listen", self.name());
                Error::new(ErrorKind::Bind, text).with_source(error)
            })?;
        }
        Ok(T::raw(fd))
    }

    fn only_handle(&self) -> Result<()> {
        if Arc::strong_count(&self.handle) == 1 {
            return Ok(());
        }
        let text = format!("listener \"{}\": other clones of it accept as well", self.name());
        Err(Error::new(ErrorKind::Config, text))
    }
}
