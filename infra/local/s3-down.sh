#!/usr/bin/env bash
# Stop the S3 server that `s3-up.sh DIR` started, and delete DIR. Nothing else is touched; running it twice is fine.
#
#   infra/local/s3-down.sh [DIR]
set -euo pipefail

dir=${1:-${TMPDIR:-/tmp}/catalog-repair-s3}
[ -e "$dir/pid" ] || exit 0
read -r pid started port <"$dir/pid"

# The process id may have been given to another process since: the start time tells.
ours() {
  local state start
  read -r state start < <(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | awk '{print $1, $20}') || return 1
  [ "$start" = "$started" ] && [ "$state" != Z ]
}

if ours; then
  kill -KILL "$pid" # nothing is worth the seconds that a graceful stop takes
fi
for _ in $(seq 100); do
  ours || break
  sleep 0.1
done
rm -rf "$dir"
for offset in 0 1 2 3 4; do
  rm -f "/tmp/seaweedfs-"*"-grpc-$((port + offset + 10000)).sock"
done
