//! Operating: the control socket, the command `heirloom`, and what to look at when.
//!
//! ```no_run
//! let config = heirloom::Config::new("shop").control_socket();
//! ```
//!
//! puts a socket at `$RUNTIME_DIRECTORY/shop.sock`, else `$XDG_RUNTIME_DIR/heirloom/shop.sock`
//! ([`Config::control_socket_at`](crate::Config::control_socket_at) names another place), and
//! everything below works with `heirloom --service shop …`, `heirloom --socket PATH …`, or with a
//! [`Client`](crate::control::Client) in a program.
//!
//! The path is there from the first generation to the last. If somebody else has removed it (a job
//! that cleans temporary directories), or put something in its place and taken that away again, the
//! next upgrade puts a new socket there; a signal asks for one.
//!
//! # A deployment
//!
//! ```sh
//! heirloom -s shop upgrade --wait     # phases as they pass, then the report
//! ```
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | done: the upgrade has committed |
//! | 1 | anything else went wrong; whether it was done is not known |
//! | 2 | the command line, or where the socket is, cannot be understood |
//! | 3 | nobody answers at the socket |
//! | 4 | refused: this user, this command at this moment, one more client, or not ready |
//! | 5 | an upgrade runs: `--no-queue`, `--exe`, `pause`, `resume` and `drain` do not wait for its end |
//! | 6 | failed before the successor served: nothing has changed |
//! | 7 | the successor served, and was taken back |
//! | 8 | no answer in time; what was asked for goes on |
//!
//! The codes are stable. A command that is killed or loses its terminal takes nothing back.
//!
//! # At three in the morning
//!
//! | question | look at |
//! | --- | --- |
//! | what runs, and since when? | `status`: every live generation, its version, age, memory, connections |
//! | is a deployment under way? | `status`: phase, and what the successor still waits for; `watch` goes on |
//! | why did the last one fail? | `history`: the cause, with the successor's own words |
//! | why is the old release still there? | `status`: the elder's connections and the age of the oldest |
//! | the new release is bad | `rollback`: in probation it is taken back, later the release before runs again |
//! | it is good, and I will not wait | `commit` |
//! | it must not take traffic now | `pause`, or `drain` to let everybody go; `resume` |
//! | it must go | `stop`, and `stop --force` to cut what is left |
//!
//! `pause` lets new connections wait in the backlog. It outlives upgrades and roll backs, until
//! `resume`. `drain` says 'not ready', accepts on for
//! [`Config::stop_notice`](crate::Config::stop_notice), pauses, and asks every connection to go, with
//! the deadlines of any drain; the process stays. `stop` does the same and ends it.
//!
//! While a service is paused or drained no health check is made: a release is not judged by a door
//! that an operator has closed. The report says so.
//!
//! # What to look at when
//!
//! | it says | what it means, and where to look next |
//! | --- | --- |
//! | `failed in phase start`, `failed` | the release itself: its last words stand in the cause |
//! | `failed in phase start`, `late` | it was never ready: the cause names the check that `ready_when` waited for |
//! | `failed in phase requested`, `preflight` or `spawn`, `predecessor` | our own side lacked descriptors, threads, processes or memory: `RLIMIT_NOFILE`, `RLIMIT_NPROC`, the control group |
//! | `failed in phase park`, `predecessor` | our own side: a hook or a framework did not let go in time |
//! | `rolled back`, `health` or `unwell` | the new release answers badly; its log, and `requests` in the report |
//! | `rolled back`, `died` | a crash: the exit status stands in the cause |
//! | `rolled back`, `late` | it fell silent: a blocked runtime, a machine without memory |
//! | more errors in the window than before | clients noticed: compare `requests` and `before` |
//! | connections cut | the drain's deadline is too short for them: the report has listener, protocol and age |
//! | an elder is still there | `status` shows its connections and the oldest; at the deadline the log names each |
//! | longest accept gap above some milliseconds | `on_yield` hooks, or a machine that is too busy |
//!
//! # Logs
//!
//! Everything is told by `tracing` with the target `heirloom::handoff`. What either generation says of
//! one upgrade is in the span `upgrade` with `id`, `from`, `to`, `pid`, `version`, `successor_pid`
//! and `successor_version`. The predecessor has one line for who asked, one for each phase (field
//! `step`), one for the outcome, with its cause as a warning, and those of its drain; the successor's
//! have `side="successor"`, from the moment when it holds what it was offered. A drain ends with one line of figures, and before it one for
//! each of the first 16 connections that were cut: listener, name, peer, age, and what it waited for.
//! Commands that change something are logged with the target `heirloom::control`, `uid` and `pid`.
//!
//! # Behind a load balancer
//!
//! [`Running::readiness`](crate::Running::readiness) is the answer to a readiness probe, as a value
//! and in words. It speaks for the service, whichever generation is asked, so a probe over an old
//! connection does not take a service out of rotation that has just been upgraded. On `stop` and
//! `drain` it turns to 'not ready' at once, and connections are accepted for
//! [`Config::stop_notice`](crate::Config::stop_notice) more.
//!
//! | who asks | what to give it |
//! | --- | --- |
//! | Kubernetes `readinessProbe`, Nomad `check`, any HTTP probe | with axum `heirloom::readiness_route(&running)`: 200 or 503; with anything else `readiness().is_ready()` |
//! | an exec probe | `heirloom -s shop check`: 0 or 4 |
//! | HAProxy `agent-check` | a listener of its own and [`Running::answer_agent`](crate::Running::answer_agent) |
//!
//! `stop_notice` is to be a few times the interval at which the balancer asks. In Kubernetes it takes
//! the place of the usual `preStop: sleep`; the pod's `terminationGracePeriodSeconds` has to be
//! longer than `stop_notice` and the drain's deadline together. A *liveness* probe is another
//! question: it should not ask for readiness, or a drain ends in a restart.
//!
//! # Figures
//!
//! `heirloom history` ends with the answers to the three questions of zero downtime:
//!
//! | question | answer |
//! | --- | --- |
//! | how many deployments succeed without interruption? | those that committed, with no connection cut and no more failed requests than in as much time before |
//! | how many errors fall into deployments? | failed requests from the wish to the outcome, in both generations, and connections cut |
//! | how long does a roll back take? | from the moment when the cause was known until the predecessor accepts again; after the commit, from the wish until the older release serves |
//!
//! Requests are those that the HTTP wing or the application has counted
//! ([`Requests`](crate::Requests)). The last 64 upgrades are kept in memory, with who asked for each
//! and what it was for, and are handed from generation to generation; the totals are those of the
//! service's life. [`Config::journal_file`](crate::Config::journal_file) writes the same to a file.
//!
//! `heirloom metrics`, or [`Running::metrics`](crate::Running::metrics) for a `/metrics` of your own;
//! with the feature `metrics`, `Running::record_metrics` tells the recorder of that crate the same:
//!
//! | figure | what it counts |
//! | --- | --- |
//! | `heirloom_upgrades_total{outcome,phase}`, `heirloom_upgrades_interrupted_total` | upgrades; those that committed and that clients may have noticed |
//! | `heirloom_upgrade_duration_seconds{phase}`, `heirloom_upgrade_elapsed_seconds` | time in each phase; from the wish to the outcome |
//! | `heirloom_accept_gap_seconds` | for how long nobody accepted |
//! | `heirloom_rollbacks_total{cause}`, `heirloom_rollback_duration_seconds` | roll backs |
//! | `heirloom_window_errors_total`, `heirloom_window_requests_total` | requests while upgrades ran |
//! | `heirloom_window_before_errors_total`, `heirloom_window_before_requests_total` | in as much time before |
//! | `heirloom_connections_active{listener}`, `heirloom_connections_accepted_total` | connections |
//! | `heirloom_connections_drained_total{outcome}` | `drained`, `moved` to a newer generation, or `cut` |
//! | `heirloom_connections_cut_total{cause}` | those cut at the `deadline`, for want of `room` ([`max_draining`](crate::Config::max_draining)), by a `forced` stop, or `lost` on the way to a newer generation |
//! | `heirloom_requests_total{outcome}` | requests, `succeeded` or `failed` |
//! | `heirloom_generation`, `heirloom_generations_live`, `heirloom_ready`, `heirloom_upgrade_running` | how it stands |
//!
//! Counters go on over upgrades and count nothing twice: each generation writes what it has served
//! into a memory file that its successor reads. A `SIGKILL` loses what a process counted since it
//! last wrote: an owner writes when an upgrade begins and when it hands over, an elder while it
//! drains, at most every 100 ms. A successor that was taken back says what it has served when it has
//! finished; if it is killed before, its connections are not counted, and of its requests those that
//! it had told by its last answer to a ping.
