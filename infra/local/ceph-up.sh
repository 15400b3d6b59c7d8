#!/usr/bin/env bash
# Ceph's S3 gateway on 127.0.0.1 for tests: a monitor, one OSD in memory, radosgw. Data is thrown away.
#
#   apt-get install -y --no-install-recommends radosgw ceph-mon ceph-osd curl      (as root, on Debian; 61 MB)
#   infra/local/ceph-up.sh [DIR] [PORT]    start; prints the variables to export, e.g. `export $(infra/local/ceph-up.sh)`
#   infra/local/ceph-down.sh [DIR]         stop exactly those processes and delete DIR
#
# DIR   state of the servers, made here and deleted by ceph-down.sh (default: catalog-repair-ceph in the temporary folder)
# PORT  of S3 (default 18480); PORT+1 and PORT+10..+59 are used as well
# Environment: S3_BUCKET (default test), S3_ACCESS_KEY, S3_SECRET_KEY
# Memory: 140 MB when idle, and whatever is stored.
set -euo pipefail

dir=${1:-${TMPDIR:-/tmp}/catalog-repair-ceph}
port=${2:-18480}
key=${S3_ACCESS_KEY:-testaccess}
secret=${S3_SECRET_KEY:-testsecret123}
bucket=${S3_BUCKET:-test}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
for program in monmaptool ceph-mon ceph-osd ceph radosgw radosgw-admin curl; do
  command -v "$program" >/dev/null || {
    echo "ceph-up.sh: no '$program': apt-get install radosgw ceph-mon ceph-osd curl" >&2
    exit 1
  }
done
if [ -e "$dir" ]; then
  echo "ceph-up.sh: $dir exists: is a server running there? Stop it with infra/local/ceph-down.sh $dir" >&2
  exit 1
fi
mkdir -p "$dir"/{mon,osd,run,rgw}
dir=$(cd "$dir" && pwd)
: >"$dir/pids"
trap '[ $? = 0 ] || { tail -n 20 "$dir/log" "$dir"/*.log; "$here/ceph-down.sh" "$dir"; } >&2' EXIT

fsid=$(cat /proc/sys/kernel/random/uuid)
export CEPH_CONF=$dir/ceph.conf CEPH_ARGS=
# One copy of everything, no authentication between the servers (all on loopback), short intervals: up in two seconds.
cat >"$CEPH_CONF" <<CONF
[global]
fsid = $fsid
mon_initial_members = a
mon_host = v2:127.0.0.1:$((port + 1))/0
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_msgr1 = false
ms_bind_port_min = $((port + 10))
ms_bind_port_max = $((port + 59))
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
ms_mon_client_mode = crc
mon_client_hunt_interval = 0.3
objecter_tick_interval = 0.5
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 1
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
run_dir = $dir/run
pid_file = $dir/run/\$name.pid
admin_socket = $dir/run/\$name.\$pid.asok
log_file = $dir/\$name.log
mon_cluster_log_file = $dir/cluster.log
crash_dir = $dir/run
log_to_stderr = false
mon_data = $dir/mon
osd_data = $dir/osd
[mon]
mon_allow_pool_size_one = true
mon_data_avail_crit = 1
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
[osd]
osd_objectstore = memstore
memstore_device_bytes = 8589934592
osd_class_load_list = *
osd_class_default_list = *
[client.rgw]
rgw_data = $dir/rgw
rgw_frontends = beast endpoint=127.0.0.1:$port
rgw_rados_pool_pg_num_min = 1
rgw_dynamic_resharding = false
CONF

once() { "$@" >>"$dir/log" 2>&1; }
serve() { # in the background, with its process id and start time on record
  setsid nohup "$@" >>"$dir/log" 2>&1 </dev/null &
  echo "$! $(awk '{print $22}' "/proc/$!/stat")" >>"$dir/pids"
}
once monmaptool --create --fsid "$fsid" --addv a "[v2:127.0.0.1:$((port + 1))]" "$dir/monmap"
once ceph-mon --mkfs -i a --monmap "$dir/monmap"
serve ceph-mon -f -i a
osd=$(cat /proc/sys/kernel/random/uuid)
once ceph --connect-timeout 30 osd new "$osd"
once ceph-osd -i 0 --mkfs --osd-uuid "$osd"
serve ceph-osd -f -i 0
once timeout 60 radosgw-admin user create --uid=test --display-name=test --access-key="$key" --secret-key="$secret"
serve radosgw -f -n client.rgw --rgw-zone=default

# Ready: the bucket can be made.
for _ in $(seq 300); do
  if curl -fsS -o /dev/null -X PUT -H "x-amz-content-sha256: UNSIGNED-PAYLOAD" --aws-sigv4 aws:amz:us-east-1:s3 \
    -u "$key:$secret" "http://127.0.0.1:$port/$bucket" 2>/dev/null; then
    echo "AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret" \
      "AWS_DEFAULT_REGION=us-east-1 S3_BUCKET=$bucket"
    exit 0
  fi
  sleep 0.1
done
echo "ceph-up.sh: not ready after half a minute:" >&2
exit 1
