//! The server as a web server: HTTP by the wing.

use std::convert::Infallible;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use heirloom::http::{Body, Handshake, Http, Make};
use heirloom::{Listener, TcpListener, Transport};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::service::service_fn;
use hyper::{Request, Response};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::app::App;
use super::release::Web;

/// Where each POST is written down before it is answered, by every generation.
const POSTS: &str = "posts.log";

type Answer = Response<BoxBody<Bytes, Infallible>>;

struct Site {
    app: Arc<App>,
    posts: File,
}

impl Site {
    fn open(app: &Arc<App>) -> Arc<Self> {
        let path = app.fixture.directory.join(POSTS);
        let posts = OpenOptions::new().append(true).create(true).open(path).unwrap();
        Arc::new(Self { app: Arc::clone(app), posts })
    }

    async fn answer(self: Arc<Self>, request: Request<Body>) -> Result<Answer, Infallible> {
        let uri = request.uri().clone();
        let query = uri.query().unwrap_or_default();
        let mut answer = match uri.path() {
            "/post" => {
                let body = request.into_body().collect().await;
                let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                // One write of one line, so those of several processes do not mix.
                let line = [&body, &b"\n"[..]].concat();
                (&self.posts).write_all(&line).unwrap();
                whole(body)
            }
            "/slow" => {
                tokio::time::sleep(Duration::from_millis(query.parse().unwrap_or(0))).await;
                whole("slow")
            }
            "/fail" => {
                let mut answer = whole("no");
                *answer.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
                answer
            }
            "/events" => {
                let first = Ok(Frame::data(Bytes::from_static(b"data: 1\n\n")));
                let events = futures_util::stream::iter([first]);
                let events = events.chain(futures_util::stream::pending());
                Response::new(BodyExt::boxed(StreamBody::new(events)))
            }
            _ => whole("hello"),
        };
        let generation = self.app.fixture.generation.get().copied().unwrap_or(0);
        answer.headers_mut().insert("x-generation", generation.into());
        Ok(answer)
    }
}

fn whole(body: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(body.into()).boxed())
}

/// Serves a listener by the wing, as the release says.
pub(crate) fn serve<T>(app: &Arc<App>, web: Web, listener: Listener<T>)
where
    T: Transport,
    T::Addr: 'static,
    heirloom::http::Plain: Handshake<T::Stream>,
{
    app.running.serve(listener, server(app, web));
}

/// The same behind TLS.
pub(crate) fn serve_tls(app: &Arc<App>, web: Web, listener: TcpListener) {
    let key = rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
    let secret = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.signing_key.serialize_der()));
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], secret)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = server(app, web).tls(move |stream| acceptor.accept(stream));
    app.running.serve(listener, server);
}

fn server<A: 'static>(app: &Arc<App>, web: Web) -> Http<impl Make<A> + use<A>> {
    let site = Site::open(app);
    let service =
        service_fn(move |request: Request<Body>| Site::answer(Arc::clone(&site), request));
    let server = heirloom::http(service);
    if web.stays { server.stay() } else { server }
}

/// Every POST that a generation has seen, in the order in which they were seen.
pub(crate) fn posts(server: &super::Server) -> Vec<String> {
    let text = std::fs::read_to_string(server.path(POSTS)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
