//! The guide: how an upgrade goes, and what an application does in it.
//!
//! The pages, in the order in which one needs them:
//!
//! 1. [`upgrade`]: one upgrade step by step, and where your code runs in it.
//! 2. [`starting`]: what to do before `ready`, and what only an owner may do.
//! 3. [`accepting`]: accept loops, streams of connections, threads, datagrams.
//! 4. [`draining`]: guards, and what a connection does in each phase of a drain.
//! 5. [`frameworks`]: servers that want the listener, or only its connections.
//! 6. [`rolled_back`]: what a roll back means for an application.
//! 7. [`signals`]: which ones are used, and the limits of a runtime of your own.
//! 8. [`troubleshooting`]: messages, their causes and their remedies.
//!
//! Every deadline is a setting of [`Config`](crate::Config), with its default and its reason; the
//! table there is the one place where all of them stand.

/// One upgrade, step by step.
///
/// ```text
///  predecessor                                   successor
///  ───────────                                   ─────────
///  SIGHUP, or Running::upgrade
///  starts the program ────────────────────────▶  main: run() finds the link
///  ◀───────────────────────────────────── hello  versions; the kernel says who speaks
///  offers every socket ───────────────────────▶  your function is called: it claims, loads,
///                                                checks
///  ◀───────────────────────────────────── ready  your function awaits ready()
///  parks its listeners
///  gives the turn ────────────────────────────▶  ready() returns; listeners accept
///  watches: probation                            serves
///  may commit ────────────────────────────────▶  seals the verdict
///  drains ◀─────────────────────────── committed  owns: PID file, Event::Owns
///  exits                                         alone: Event::AloneAtLast
/// ```
///
/// The predecessor's `main` runs on all the while: its accept loops pause by themselves when the
/// turn changes hands, [`Running::finished`](crate::Running::finished) returns when the drain is
/// over, and `main` returns. Nothing in an application has to know whether it is the first
/// generation or the hundredth.
///
/// **Which program is started?** The file that the server's own path leads to at that moment, so
/// replace the file (write the new one beside it and rename), or switch the symbolic link that the
/// path goes through. Arguments, environment and working directory are those with which this
/// generation was started. [`Config::executable`](crate::Config::executable) and its neighbours
/// change that.
///
/// **What does it inherit?** Standard streams, the link as descriptor 3, and what
/// [`Config::pass_descriptor`](crate::Config::pass_descriptor) lists. Everything else comes over
/// the link, or not at all.
///
/// **How do I know how it went?** [`Running::upgrade`](crate::Running::upgrade) returns the
/// [`Report`](crate::Report), or an error with the cause. After a signal the report comes with
/// [`Event::UpgradeEnded`](crate::Event::UpgradeEnded) and in the log.
///
/// **Two at once?** While one upgrade runs, one more is remembered and run by whoever owns
/// afterwards.
pub mod upgrade {}

/// Before `ready`, and what only an owner may do.
///
/// Between the start and [`Starting::ready`](crate::Starting::ready) the predecessor serves, and
/// a failure costs nothing: return an error, and its whole text stands in the predecessor's
/// report. So everything that can fail belongs here: read the configuration, open the database,
/// claim every listener, fill caches, ask yourself a question and check the answer.
///
/// ```no_run
/// use std::process::ExitCode;
/// use std::sync::Arc;
///
/// # struct Pool;
/// # impl Pool {
/// #     async fn connect(_: &str) -> Result<Self, std::io::Error> { Ok(Self) }
/// #     async fn ping(&self) -> Result<(), std::io::Error> { Ok(()) }
/// # }
/// # async fn serve(_: Arc<Pool>, _: heirloom::Conn<tokio::net::TcpStream>) {}
/// type Failure = Box<dyn std::error::Error + Send + Sync>;
///
/// fn main() -> ExitCode {
///     heirloom::run(heirloom::Config::new("shop"), async |start| -> Result<_, Failure> {
///         let http = start.tcp("http", "[::]:8080").await?;
///         let pool = Pool::connect("postgres://…").await?;
///         pool.ping().await?;
///         let running = start.ready().await?;
///         running.accept_loop_with(http, Arc::new(pool), serve);
///         Ok(running.finished().await?)
///     })
/// }
/// ```
///
/// **Claim every listener that you want.** What a successor has not claimed when it is ready, the
/// predecessor serves to the end of probation and closes after the commit. A claim is by name and
/// address; the same address under another name is found too, and a new address is bound. A new
/// listener takes no traffic before the turn.
///
/// **Name things for good.** The names of listeners are what two releases agree on.
///
/// **Do nothing here that disturbs the predecessor**: it still serves. No migration that it cannot
/// live with, no lock file that it holds, no message to a cluster that it has left.
///
/// **Owner is not the same as running.** `ready` returns in probation, when this generation serves
/// but does not own yet. Work of which there may be only one, like a job that runs every hour,
/// belongs to the owner. Ask [`Running::is_owner`](crate::Running::is_owner) before each run, or
/// wait with [`Running::watch_status`](crate::Running::watch_status), which tells the present as
/// well; [`Running::events`](crate::Running::events) tells only what happens from then on, and the
/// first generation owns before its `ready` returns.
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn clean_up() {}
/// use heirloom::{Role, Running};
///
/// async fn every_hour(running: Running) {
///     let mut status = running.watch_status();
///     let mut clock = tokio::time::interval(Duration::from_secs(3600));
///     while status.wait_for(|status| status.role == Role::Owner).await.is_ok() {
///         clock.tick().await;
///         if running.is_owner() {
///             clean_up().await;
///         }
///     }
/// }
/// # let _ = every_hour;
/// ```
pub mod starting {}

/// Accept loops, streams of connections, threads, datagrams.
///
/// [`Running::accept_loop`](crate::Running::accept_loop) is the shortest way, and
/// [`accept_loop_with`](crate::Running::accept_loop_with) the one for handlers that need state: a
/// task for each connection, and a connection that has outlived the drain's deadline is dropped.
/// When that is not enough, write the loop:
///
/// ```no_run
/// use std::sync::Arc;
/// use tokio::sync::Semaphore;
///
/// # async fn serve(_: heirloom::Conn<tokio::net::TcpStream>) {}
/// async fn accept(listener: heirloom::TcpListener, limit: usize) -> heirloom::Result<()> {
///     let places = Arc::new(Semaphore::new(limit));
///     loop {
///         let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
///         // Pending while it is another generation's turn; `None` when nothing comes any more.
///         let Some(connection) = listener.accept().await? else { return Ok(()) };
///         tokio::spawn(async move {
///             serve(connection).await;
///             drop(place);
///         });
///     }
/// }
/// # let _ = accept;
/// ```
///
/// - **A pause is not an end.** While another generation accepts, `accept` is pending, and it goes
///   on by itself after a roll back. `None` comes when the service stops, the listener was removed
///   or is not wanted by the next generation, or the drain is over.
/// - **Do not hold a loop's task back for long.** A connection is either in the kernel's queue,
///   where the next generation finds it, or accepted, and then it is yours to finish.
/// - Errors that pass (too many descriptors, a client that went away) are waited out inside.
/// - `accept` is cancel safe: use it in `select!`.
///
/// # A stream of connections
///
/// [`Listener::incoming`](crate::Listener::incoming) is a `futures_core::Stream`, for what takes
/// one. It ends where `accept` gives `None`.
///
/// # Threads
///
/// [`Listener::accept_blocking`](crate::Listener::accept_blocking) does the same for plain threads
/// and gives blocking streams:
///
/// ```no_run
/// use std::io::Write;
///
/// fn greet(listener: heirloom::TcpListener) -> std::thread::JoinHandle<heirloom::Result<()>> {
///     std::thread::spawn(move || {
///         while let Some(mut connection) = listener.accept_blocking()? {
///             // The guard in it keeps the drain waiting until it is dropped.
///             let _ = connection.write_all(b"hello\n");
///         }
///         Ok(())
///     })
/// }
/// # let _ = greet;
/// ```
///
/// Threads are to be started by your function, not before [`run`](crate::run): a thread keeps the
/// signal mask that it was born with.
///
/// # Datagrams
///
/// One generation reads at a time: [`UdpSocket::recv_from`](crate::UdpSocket::recv_from) is pending
/// while it is another one's turn, and what arrives meanwhile waits in the socket. Sending works
/// all the time. A UDP socket that no earlier generation had is bound at commit, because it would
/// draw traffic from `bind(2)` on.
pub mod accepting {}

/// Guards, and what a connection does in each phase of a drain.
///
/// A [`Guard`](crate::Guard) comes with every connection ([`Conn::guard`](crate::Conn::guard)); the
/// drain is over when the last one is dropped, or at its deadline. Clone it for other tasks that
/// work for the connection, and let one go along when the stream leaves your hands
/// ([`Conn::into_parts`](crate::Conn::into_parts)). Work that is no connection takes its own guard
/// from [`Running::guard`](crate::Running::guard).
///
/// A drain has three phases, and [`Guard::reached`](crate::Guard::reached) tells a connection when
/// it is in one:
///
/// | phase | what a connection does | until |
/// | --- | --- | --- |
/// | [`LameDuck`](crate::DrainPhase::LameDuck) | answers what comes and asks the peer to come back elsewhere: `Connection: close`, a GOAWAY. Closes nothing that is idle: its next request may be on the way | [`lame_duck`](crate::Config::lame_duck) |
/// | [`Graceful`](crate::DrainPhase::Graceful) | finishes what is in flight, then closes | [`drain_deadline`](crate::Config::drain_deadline), counted from the drain's beginning |
/// | [`Force`](crate::DrainPhase::Force) | ends now | [`force_grace`](crate::Config::force_grace) |
///
/// ```no_run
/// use heirloom::{Conn, DrainPhase};
/// use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
/// use tokio::net::TcpStream;
///
/// /// Answers lines, and says goodbye when it is time to go.
/// async fn lines(connection: Conn<TcpStream>) -> std::io::Result<()> {
///     let guard = connection.guard().clone();
///     let mut stream = BufReader::new(connection);
///     let mut line = String::new();
///     loop {
///         tokio::select! {
///             // Between two lines nothing is in flight.
///             () = guard.reached(DrainPhase::Graceful) => {
///                 return stream.write_all(b"goodbye\n").await;
///             }
///             begun = stream.fill_buf() => if begun?.is_empty() { return Ok(()) },
///         }
///         // A line that has begun is read to its end.
///         line.clear();
///         stream.read_line(&mut line).await?;
///         guard.reason("answers a line");
///         stream.write_all(line.as_bytes()).await?;
///         if guard.phase() >= DrainPhase::LameDuck {
///             stream.write_all(b"please connect again\n").await?;
///         }
///         guard.reason("waits for a line");
///     }
/// }
/// # let _ = lines;
/// ```
///
/// [`Guard::name`](crate::Guard::name) and [`Guard::reason`](crate::Guard::reason) are what the
/// [`DrainReport`](crate::DrainReport) says of a connection that had to be cut.
///
/// Nobody ends a connection's task from outside, except that `accept_loop` drops what is left in
/// the force phase, and that the process exits. A connection whose task never looks at its guard is
/// therefore served until the deadline.
///
/// A drain begins at the commit for the generation that has handed over, after a roll back for the
/// successor that was rejected, and at a stop. When all clients would come back at once,
/// [`drain_spread`](crate::Config::drain_spread) spreads the graceful closings. Generations drain
/// side by side, at most [`max_draining`](crate::Config::max_draining) of them; beyond that the
/// oldest is hurried.
pub mod draining {}

/// Servers that want the listener, or only its connections.
///
/// **A framework that takes connections** is the easy case: one task for each from
/// [`Listener::accept`](crate::Listener::accept), or the stream from
/// [`Listener::incoming`](crate::Listener::incoming). A [`Conn`](crate::Conn) reads and writes like
/// its stream and carries the guard with it; [`Conn::map`](crate::Conn::map) puts TLS around it.
///
/// **A framework with a shutdown future** is told when the drain begins, and holds a guard so that
/// the drain waits for it:
///
/// ```no_run
/// use heirloom::{DrainPhase, Running, TcpListener};
///
/// # async fn framework(
/// #     incoming: heirloom::Incoming<heirloom::Tcp>,
/// #     shutdown: impl Future<Output = ()>,
/// # ) { let _ = (incoming, shutdown); }
/// async fn serve(running: Running, http: TcpListener) -> heirloom::Result<()> {
///     let guard = running.guard("framework")?;
///     let shutdown = guard.clone();
///     framework(http.incoming(), async move {
///         shutdown.reached(DrainPhase::Graceful).await;
///     })
///     .await;
///     drop(guard);
///     Ok(())
/// }
/// # let _ = serve;
/// ```
///
/// A framework that has shut down does not accept again if this generation comes to own once more
/// (every newer one died while it drained); accept loops do.
///
/// **A framework that must own the listener** gets a duplicate of it. If it can be paused, implement
/// [`Pause`](crate::Pause) and call [`Listener::into_raw_with`](crate::Listener::into_raw_with):
///
/// ```no_run
/// use std::io;
/// use heirloom::{Pause, TcpListener};
/// use tokio::sync::{mpsc, oneshot};
///
/// /// Tells an accepting thread to pause, and waits until it says that it has.
/// struct Switch(mpsc::Sender<(bool, oneshot::Sender<()>)>);
///
/// impl Switch {
///     async fn turn(&self, accepting: bool) -> io::Result<()> {
///         let gone = || io::Error::other("the acceptor has ended");
///         let (done, acknowledged) = oneshot::channel();
///         self.0.send((accepting, done)).await.map_err(|_| gone())?;
///         acknowledged.await.map_err(|_| gone())
///     }
/// }
///
/// impl Pause for Switch {
///     async fn pause(&mut self) -> io::Result<()> {
///         self.turn(false).await
///     }
///
///     async fn resume(&mut self) -> io::Result<()> {
///         self.turn(true).await
///     }
/// }
///
/// fn hand_out(listener: TcpListener, switch: Switch) -> heirloom::Result<std::net::TcpListener> {
///     listener.into_raw_with(switch)
/// }
/// # let _ = hand_out;
/// ```
///
/// The pause has to be acknowledged truly: when it resolves, no accept may be in flight. If the
/// framework cannot do that, [`Listener::into_raw_overlap`](crate::Listener::into_raw_overlap) hands
/// the listener out for both generations to accept on during probation. The report says so.
///
/// Either way the framework's connections have no guard: the drain does not know of them. Hold a
/// guard for the framework as above.
pub mod frameworks {}

/// What a roll back means for an application.
///
/// A successor can be rejected at any moment before the commit, also after it has served for a
/// while. Then the predecessor accepts again, at once and on the very same sockets. The successor
/// stops accepting, finishes the connections that it has accepted (they drain like any other), and
/// ends: [`Starting::ready`](crate::Starting::ready) returns an error if its turn had not come,
/// [`Running::finished`](crate::Running::finished) returns
/// [`Outcome::RolledBack`](crate::Outcome::RolledBack) if it had, and [`run`](crate::run) exits with
/// 1.
///
/// **It hands nothing back.** No connection and no state goes from the successor to the
/// predecessor. What it wrote elsewhere, in a database, in a file, in a queue, stays written; so as
/// long as probation lasts, write what the old release can read, and leave migrations that it cannot
/// live with for the time after [`Event::Owns`](crate::Event::Owns), or for the next release.
///
/// **The predecessor has forgotten nothing.** It kept its caches, its timers and its connections.
/// What it did at the beginning of the handoff in expectation of its end, it has to take back.
///
/// **The other way round**: after the commit there is no roll back. If the successor dies while the
/// predecessor still drains, though, the predecessor owns and accepts again; for it,
/// [`Event::Owns`](crate::Event::Owns) comes a second time. Its number is lower than that of the
/// successor which died, so a store that fences by generation would refuse it.
pub mod rolled_back {}

/// Which signals are used, and the limits of a runtime of your own.
///
/// | signal | by default | |
/// | --- | --- | --- |
/// | `SIGHUP` | starts an upgrade | [`Config::upgrade_signal`](crate::Config::upgrade_signal) |
/// | `SIGTERM`, `SIGINT` | stop: drain, then end; a second one cuts what is left | [`Config::stop_signals`](crate::Config::stop_signals) |
///
/// Handlers are chained: those that the application or tokio installs for the same signals run as
/// well. A storm of one signal is one request. An upgrade signal that reaches a successor or a
/// draining generation is passed on to the owner, so `pkill -HUP` does no harm.
///
/// The upgrade signal is blocked in a successor until its handler is there, because its default
/// action would end the process. A thread inherits its mask from the thread that starts it, and so
/// does a subprocess. [`run`](crate::run) settles this before any thread exists.
///
/// # `#[tokio::main]`
///
/// With [`Config::start`](crate::Config::start) under a runtime of your own, the runtime's worker
/// threads are older than that. In a successor they keep the upgrade signal blocked, and so does
/// every helper that is started from a task: a child that relies on `SIGHUP` does not hear it. The
/// server itself does, through the thread that called `start`, so call it first thing from the task
/// that `block_on` runs. And a blocking task that never ends keeps the process alive, unless you
/// shut the runtime down with a deadline.
///
/// ```no_run
/// #[tokio::main]
/// async fn main() -> Result<(), heirloom::Error> {
///     let start = heirloom::Config::new("shop").start().await?;
///     let http = start.tcp("http", "[::]:8080").await?;
///     let running = start.ready().await?;
///     running.accept_loop(http, async |_connection| {});
///     running.finished().await?;
///     Ok(())
/// }
/// ```
pub mod signals {}

/// Messages, their causes and their remedies.
///
/// Look at the predecessor's report first: its cause is where the successor's own words are. Then
/// at the log of both, target `heirloom::handoff`, where each step is one line.
///
/// **"the successor closed the link"**, soon after the spawn. The new program ended before it said
/// anything; if its exit status is known, it is added. Start it by hand. It may print why.
///
/// **"hello came from pid … not from pid …"**. A wrapper script started the server as a child of its
/// own. A wrapper has to end with `exec server "$@"`: the process that was started has to be the
/// server.
///
/// **"descriptor 3 is not the link that our predecessor (pid …) gave us"**. Something between the
/// predecessor and the server closed or used descriptor 3. Such a start is refused, because going on
/// would mean two owners.
///
/// **"the successor was too late with its first word"**. The program does not call
/// [`run`](crate::run) (is it the right one?), or starts slowly; see
/// [`hello_deadline`](crate::Config::hello_deadline). **"… with its readiness"**: your code before
/// `ready` takes longer than [`ready_deadline`](crate::Config::ready_deadline).
///
/// **"descriptors were lost"**. The successor's `RLIMIT_NOFILE` is lower than the number of sockets
/// handed over, or the program lowers it. Raise it (`LimitNOFILE=` in a unit); nothing has moved.
///
/// **"listener … was asked for before in this generation"**. Names are unique. Clone the listener.
///
/// **Address already in use**, in a new generation only. The name *and* the address of that listener
/// are new to the predecessor, and somebody else has the address.
///
/// **The drain never ends before its deadline.** [`DrainReport::cut`](crate::DrainReport::cut) names
/// who was left. A connection whose task does not look at its guard holds the drain; so does a guard
/// that was cloned into something that lives for ever.
///
/// **The new version started, and the old program runs on.** It drains; the report of the commit says
/// so. [`Running::drain_progress`](crate::Running::drain_progress) tells how many connections are
/// left, [`Status::elders`](crate::Status::elders) of the owner which generations. A second `SIGTERM`
/// to the old process cuts them.
///
/// **The shell's prompt comes back after an upgrade**, or a supervisor (runit, s6, supervisord)
/// starts a second server. The process that they started has exited, as it must. Under such a
/// supervisor, and as process 1 of a container, this crate needs a parent that stays, which it does
/// not have yet. systemd follows the PID file; see the README.
pub mod troubleshooting {}
