#!/bin/sh
# What an operator sees: drives tmux against the example `operated` and prints what the panes show.
#
#   cargo build --example operated --features cli --bin heirloom
#   docs/operating/session.sh target/debug > docs/operating/session.txt
#
# Needs tmux and curl; promtool, if it is there, checks the metrics. Nothing else may use
# 127.0.0.1:8080.
set -eu
bin=$(cd "${1:?the directory of the binaries}" && pwd)
work=$(mktemp -d)
tmux="tmux -L heirloom-session-$$ -f /dev/null"
server= load=
trap 'kill $server $load 2>/dev/null || true; $tmux kill-server 2>/dev/null || true; rm -rf "$work"' EXIT
export HEIRLOOM_SOCKET="$work/operated.sock"
export PATH="$bin:$PATH"

# So that the server of tmux outlives each pane.
$tmux new-session -d -s keeper "sleep 600"

release() { printf '%s\n%s\n' "$1" "$2" > "$work/RELEASE"; }

# What a pane shows when `$1` seconds have passed or the command has ended.
show() {
    printf '\n$ %s\n' "$2"
    $tmux new-session -d -s shown -x 118 -y 140 "$2; printf 'done' > $work/done; sleep 60"
    waited=0
    while [ ! -e "$work/done" ] && [ $waited -lt $(($1 * 10)) ]; do sleep 0.1; waited=$((waited + 1)); done
    sleep 0.2
    $tmux capture-pane -p -t shown | sed -e 's/[[:space:]]*$//' -e '/./,$!d' | awk '{ lines[NR] = $0; if ($0 != "") last = NR } END { for (i = 1; i <= last; i++) print lines[i] }'
    $tmux kill-session -t shown
    rm -f "$work/done"
}

# A command and its exit code.
run() { show "${2:-30}" "heirloom $1; echo \"exit code: \$?\""; }

release 1.0 well
(cd "$work" && exec "$bin/examples/operated") 2> "$work/log" &
server=$!
until heirloom status > /dev/null 2>&1; do sleep 0.1; done
(while :; do curl -m 20 -s -o /dev/null http://127.0.0.1:8080/ || true; sleep 0.02; done) &
load=$!

echo "# A session at a terminal: one service under load, five deployments."
run "status"
release 1.1 well
run "upgrade --wait"
run "status"
release 1.2 fails
run "upgrade --wait"
release 1.3 ill
run "upgrade --wait"
release 1.4 well
echo
echo "# A slow client keeps the elder until its deadline; 'watch' shows the upgrade as it goes."
curl -m 20 -s -o /dev/null http://127.0.0.1:8080/hold &
sleep 0.3
(sleep 0.5; heirloom upgrade > /dev/null) &
show 3 "heirloom watch"
sleep 3
show 1 "heirloom watch"
sleep 4
run "status"
run "history"
run "commit"
run "metrics | grep -v _bucket"
if command -v promtool > /dev/null; then
    # promtool reads the older text format, in which the names of families have their suffixes.
    cat > "$work/older" <<'END'
#!/usr/bin/awk -f
/^# TYPE/ { suffix = $4 == "counter" ? "_total" : $4 == "info" ? "_info" : ""; $3 = $3 suffix; sub("info$", "gauge", $4) }
/^# HELP/ { $3 = $3 suffix }
!/^# EOF/ { print }
END
    chmod +x "$work/older"
    PATH="$work:$PATH"
    show 10 "heirloom metrics | older | promtool check metrics; echo \"exit code: \$?\""
fi
run "stop"
run "status"
printf '\n$ head -c 400 upgrades.jsonl\n'
head -c 400 "$work/upgrades.jsonl"
echo ' ...'
