//! tonic's routes as a server.

use hyper_util::service::TowerToHyperService;
use tonic::service::Routes;

use super::{Body, Http, Shared, tower};

/// Serves tonic's [`Routes`]: gRPC over HTTP/2, with prior knowledge or by ALPN.
///
/// In a drain running calls finish, and clients get the GOAWAY that makes them connect again. A
/// stream that never ends finds the connection's [`Guard`](crate::Guard) in the extensions of its
/// request.
///
/// ```no_run
/// # fn serve(running: &heirloom::Running, listener: heirloom::TcpListener, shop: tonic::service::Routes) {
/// // tonic::service::Routes::new(ShopServer::new(shop))
/// running.serve(listener, heirloom::tonic(shop));
/// # }
/// ```
pub fn tonic(routes: Routes) -> Http<Shared<TowerToHyperService<Routes>, Body>> {
    tower(routes.prepare())
}
