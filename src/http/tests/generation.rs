//! Generations of one server in one process.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::service::service_fn;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::app::{App, answer};
use crate::drain::{Drain, DrainReport, DrainSettings};
use crate::http::handshake::Handshake;
use crate::http::landing::{Landing, Site};
use crate::http::mover::Mover;
use crate::http::{Body, Http, Make, http, serve};
use crate::inventory::{Inherited, Inventory};
use crate::listener::{ListenOptions, Tcp, TcpListener, Transport};

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A drain with a short lame duck and a deadline that is not met.
pub(super) fn settings() -> DrainSettings {
    DrainSettings {
        lame_duck: ms(100),
        deadline: Duration::from_secs(20),
        spread: Duration::ZERO,
        force_grace: Duration::from_secs(5),
    }
}

/// A drain that ends at its deadline.
pub(super) fn short() -> DrainSettings {
    DrainSettings { deadline: ms(400), ..settings() }
}

/// The application as a server.
pub(super) fn server(app: &Arc<App>) -> Http<impl Make<SocketAddr> + use<>> {
    let app = Arc::clone(app);
    http(service_fn(move |request: Request<Body>| answer(Arc::clone(&app), request)))
}

/// One generation.
pub(super) struct Generation {
    pub(super) address: SocketAddr,
    pub(super) app: Arc<App>,
    pub(super) drain: Drain,
    pub(super) inventory: Inventory,
    listener: TcpListener,
}

impl Generation {
    /// The first one, with its listener open and nobody who accepts.
    pub(super) fn bound() -> Self {
        let drain = Drain::new();
        let inventory = Inventory::new(drain.clone(), Inherited::Fresh).unwrap();
        let generation = Self::of(0, drain, inventory);
        generation.inventory.open().unwrap();
        generation
    }

    fn of(number: u64, drain: Drain, inventory: Inventory) -> Self {
        let listener = inventory.tcp("http", "127.0.0.1:0", &ListenOptions::new()).unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, app: App::new(number), drain, inventory, listener }
    }

    /// The first one, serving.
    pub(super) fn first() -> Self {
        let generation = Self::bound();
        generation.serve(server(&generation.app), settings().lame_duck, None);
        generation
    }

    pub(super) fn serve<M, H>(
        &self,
        server: Http<M, H>,
        lame_duck: Duration,
        mover: Option<Arc<dyn Mover>>,
    ) where
        M: Make<SocketAddr>,
        H: Handshake<<Tcp as Transport>::Stream>,
    {
        self.serve_and_land(server, lame_duck, mover);
    }

    /// The same, and gives the place where connections from elsewhere arrive.
    pub(super) fn serve_and_land<M, H>(
        &self,
        server: Http<M, H>,
        lame_duck: Duration,
        mover: Option<Arc<dyn Mover>>,
    ) -> Arc<dyn Landing>
    where
        M: Make<SocketAddr>,
        H: Handshake<<Tcp as Transport>::Stream>,
    {
        self.serve_for(server, &DrainSettings { lame_duck, ..settings() }, mover)
    }

    /// The same, for a drain like this.
    pub(super) fn serve_for<M, H>(
        &self,
        server: Http<M, H>,
        drain: &DrainSettings,
        mover: Option<Arc<dyn Mover>>,
    ) -> Arc<dyn Landing>
    where
        M: Make<SocketAddr>,
        H: Handshake<<Tcp as Transport>::Stream>,
    {
        let server = Arc::new(server.into_server::<SocketAddr>(drain, None, mover));
        tokio::spawn(serve::run(self.listener.clone(), Arc::clone(&server)));
        Arc::new(Site::new(&self.listener, &server))
    }

    /// The next one, which accepts from now on instead of this one; it does not serve yet.
    pub(super) async fn hand_over(&self) -> Self {
        let offer = self.inventory.offer().into_iter();
        let offered = offer.map(|(record, fd)| (record, fd.try_clone().unwrap())).collect();
        let drain = Drain::new();
        let inventory = Inventory::new(drain.clone(), Inherited::Link(offered)).unwrap();
        let next = Self::of(self.app.generation + 1, drain, inventory);
        let claimed = next.inventory.ready().claimed;
        self.inventory.park(&claimed).await.unwrap();
        next.inventory.open().unwrap();
        next.inventory.committed_as_successor();
        self.inventory.committed_as_predecessor();
        next
    }

    /// Drains it, as its service does after a commit.
    pub(super) fn drain(&self, settings: DrainSettings) -> JoinHandle<DrainReport> {
        let (drain, inventory) = (self.drain.clone(), self.inventory.clone());
        tokio::spawn(async move {
            let report = drain.run(&settings, &Notify::new()).await;
            inventory.finish();
            report
        })
    }

    /// Resolves when `count` connections hold a guard.
    pub(super) async fn has(&self, count: usize) {
        super::app::soon(async {
            while self.drain.active() != count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Resolves when `count` requests have reached the application.
    pub(super) async fn asked(&self, count: u64) {
        super::app::soon(async {
            while self.app.requests.load(std::sync::atomic::Ordering::Relaxed) < count {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}
