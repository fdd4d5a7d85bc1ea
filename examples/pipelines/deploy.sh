#!/bin/sh
# deploy.sh SERVICE VERSION ID: moves VERSION to all clients of SERVICE, then drains and stops
# what is of other versions.
#
# MESHCTL_SERVER  where the cores are, HOST:PORT[,HOST:PORT]
# TIMEOUT         how long the rollout may take  [2h]
# STOP            command that stops an instance; its name is appended  [none is stopped]
#
# Exit codes: 0 done; 1 refused, rolled back or too late; 2 usage; 3 no core was reached.
# Run again with the same ID it finds the rollout that it began: a job may be run again.
set -eu
if [ $# -ne 3 ]; then
    sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
service=$1 version=$2 id=$3

# Only that no core is there is tried again: all else is an answer.
tries=0
until meshctl rollout start "$service" --to "$version" --id "$id" \
    --wait --timeout "${TIMEOUT:-2h}"; do
    code=$?
    tries=$((tries + 1))
    if [ $code -ne 3 ] || [ $tries -eq 5 ]; then
        exit $code
    fi
    sleep 5
done

# Instances of other versions; python3 is there where meshctl is.
old=$(meshctl get instances --json | python3 -c '
import json, sys
for each in json.load(sys.stdin)["instances"]:
    if each["service"] == sys.argv[1] and each["version"] != sys.argv[2]:
        print(each["name"])
' "$service" "$version")

# All at once, for nobody gets them any more: the rollout is done. Hence --force, too.
for name in $old; do
    meshctl instance drain "$name" --notice 0s --force
done
# Then each is stopped when no client can hold its address any more.
for name in $old; do
    meshctl instance drain "$name" --notice 0s --force --wait
    if [ -n "${STOP:-}" ]; then
        $STOP "$name"
    fi
done
