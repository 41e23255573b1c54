//! Health checks: what a successor has to show before it is committed.
//!
//! A release that starts well may still answer errors, or nothing. While it is on probation its
//! predecessor has parked every listener and asks it through the front door, as any client would:
//! what a [`HealthCheck`](crate::HealthCheck) sees is what clients get. When a check fails as often
//! in a row as it may, the predecessor takes the turn back and accepts again on the same sockets.
//!
//! # A check wants an answer
//!
//! ```
//! use std::num::NonZeroU32;
//! use std::time::Duration;
//! use heirloom::HealthCheck;
//!
//! let http = HealthCheck::http("main", "/healthz")
//!     .interval(Duration::from_millis(250))
//!     .timeout(Duration::from_millis(500))
//!     .unhealthy_threshold(NonZeroU32::new(2).unwrap());
//! let redis = HealthCheck::tcp("redis", "PING\r\n", "+PONG\r\n");
//! # let _ = (http, redis);
//! ```
//!
//! The words are those of Kubernetes and Nomad: a *round* begins every *interval* and has to be
//! answered within the *timeout*; *healthy threshold* rounds in a row have to pass, *unhealthy
//! threshold* rounds in a row have to fail for a roll back. A round asks every socket of a
//! `SO_REUSEPORT` group, since one worker that hangs is enough to lose requests.
//!
//! With HTTP answer as the release really is: a handler that touches what requests need (its pool,
//! its configuration) finds more than one that returns 200. But leave out what all releases share:
//! if the database is down, the predecessor's answers would not be better.
//!
//! # Saturated is not sick
//!
//! A check waits behind the clients. So the predecessor checks itself while its successor starts,
//! and remembers how many connections it served when it yielded. No answer at all then counts as
//! saturation, and neither for nor against the successor, if the predecessor did not answer in time
//! either; or if the connection was not even accepted while the successor serves at least as many
//! connections as the predecessor did, and goes on accepting or finishing them. A connection that
//! was refused, closed, or answered wrongly is never saturation, and a successor that has never
//! answered is never committed.
//!
//! # Out of your figures
//!
//! Each check is announced to the generation that is to answer it. So
//! [`Guard::is_health_check`](crate::Guard::is_health_check) knows it, none of this crate's counters
//! counts it, no drain waits for it, and an answer from another process is not taken for one. Leave
//! checks out of your own figures likewise:
//!
//! ```no_run
//! # async fn serve(listener: heirloom::TcpListener) -> heirloom::Result<()> {
//! # let requests = std::sync::atomic::AtomicU64::new(0);
//! while let Some(connection) = listener.accept().await? {
//!     if !connection.guard().is_health_check() {
//!         requests.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
//!     }
//!     // …
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A proxy in front of the service, or a firewall that drops connections of the machine to itself,
//! is not passed: a check comes from the listener's own address, or from the loopback address if the
//! listener is bound to a wildcard.
//!
//! # TLS, HTTP/2, and anything else
//!
//! A closure gets the [`Candidate`](crate::Candidate), connects to a listener by name, and does with
//! the [`CheckStream`](crate::CheckStream) what any client does with a connection. With hyper, HTTP/2
//! without TLS is:
//!
//! ```ignore
//! let h2c = HealthCheck::custom("h2c", |candidate: Candidate| async move {
//!     let stream = TokioIo::new(candidate.connect("main").await?);
//!     let (mut client, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await?;
//!     let connection = tokio::spawn(connection);
//!     let request = Request::get("http://localhost/healthz").body(Empty::<Bytes>::new())?;
//!     let status = client.send_request(request).await?.status();
//!     connection.abort();
//!     if status.is_success() { Ok(()) } else { Err(BoxError::from(format!("status {status}"))) }
//! });
//! ```
//!
//! For TLS wrap the stream in your connector before the handshake:
//! `connector.connect(server_name, candidate.connect("https").await?).await?`. A check that finds an
//! expired certificate has earned its keep.
//!
//! A closure may also ask something else altogether (an error rate, a queue's length) and need not
//! connect; [`Candidate::pid`](crate::Candidate::pid) and
//! [`generation`](crate::Candidate::generation) say about whom.
//!
//! # What cannot be checked
//!
//! Where a framework accepts by itself and can be paused, an answer is taken for the successor's and
//! a group is not looked at as a whole. Where it cannot be paused both generations accept, and such
//! a listener is not checked. Either is a note in the upgrade's report.
