# Nomad follows the pid that it started, so a parent stays in its place. `change_mode = "signal"` of
# a template, or `nomad alloc signal -s SIGHUP`, upgrades in place; a new job version replaces the
# allocation, and `kill_timeout` has to be longer than the drain.
#
# The client's configuration caps it: `max_kill_timeout`, 30 s unless it is set. A longer
# `kill_timeout` is cut to that, without an error, and the drain with it. On each client:
#
#   client {
#     enabled          = true
#     max_kill_timeout = "60s"
#   }
#
# Not tested with Nomad. Tested: what `heirloom run` does with these signals.
job "server" {
  group "server" {
    network {
      port "http" { static = 8080 }
    }
    task "server" {
      driver = "exec"
      config {
        command = "/usr/local/bin/heirloom"
        args    = ["run", "--", "/usr/local/bin/server"]
      }
      kill_signal  = "SIGTERM"
      # Longer than the server's drain deadline (30 s by default); see max_kill_timeout above.
      kill_timeout = "45s"
    }
  }
}
