# Nomad follows the pid that it started, so a parent stays in its place. `change_mode = "signal"` of
# a template, or `nomad alloc signal -s SIGHUP`, upgrades in place; a new job version replaces the
# allocation, and `kill_timeout` has to be longer than the drain.
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
      kill_timeout = "45s"
    }
  }
}
