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
//! | 4 | refused: this user, this command at this moment, or not ready |
//! | 5 | another upgrade runs (with `--no-queue`) |
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
//! # Behind a load balancer
//!
//! [`Running::is_ready`](crate::Running::is_ready) is the answer to a readiness probe: it speaks for
//! the service, whichever generation is asked, so a probe over an old connection does not take a
//! service out of rotation that has just been upgraded. On `stop` and `drain` it turns false, and
//! connections are accepted for `stop_notice` more. `heirloom check` is the same for an exec probe:
//! 0 or 4.
//!
//! # Figures
//!
//! `heirloom metrics`, or [`Running::metrics`](crate::Running::metrics) for a `/metrics` of your own:
//!
//! | question | figure |
//! | --- | --- |
//! | how many deployments succeed? | `heirloom_upgrades_total{outcome,phase}` |
//! | for how long did nobody accept? | `heirloom_accept_gap_seconds` |
//! | what does a drain cut? | `heirloom_connections_drained_total{outcome}` |
//! | how long does an upgrade take, and where? | `heirloom_upgrade_duration_seconds`, `heirloom_upgrade_phase_duration_seconds{phase}` |
//! | do requests fail? | `heirloom_requests_total{outcome}`, counted by [`Requests`](crate::Requests) |
//!
//! Counters go on over upgrades and count nothing twice: each generation writes what it has served
//! into a memory file that its successor reads. A `SIGKILL` loses what a process counted since it
//! last wrote: an owner writes when an upgrade begins and when it hands over, an elder while it
//! drains, at most every 100 ms. Of a successor that was taken back, accepted connections are
//! counted once it has gone in order; its requests are not.
