#!/usr/bin/env bash
# Stop the servers that `ceph-up.sh DIR` started, and delete DIR. Nothing else is touched; running it twice is fine.
#
#   infra/local/ceph-down.sh [DIR]
set -euo pipefail

dir=${1:-${TMPDIR:-/tmp}/catalog-repair-ceph}
[ -e "$dir/pids" ] || exit 0

# A process id may have been given to another process since: the start time tells.
ours() { # PID STARTED
  local state start
  read -r state start < <(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | awk '{print $1, $20}') || return 1
  [ "$start" = "$2" ] && [ "$state" != Z ]
}

while read -r pid started; do
  if ours "$pid" "$started"; then
    kill -KILL "$pid" # the data is thrown away
  fi
done <"$dir/pids"
while read -r pid started; do
  for _ in $(seq 100); do
    ours "$pid" "$started" || break
    sleep 0.1
  done
done <"$dir/pids"
rm -rf "$dir"
