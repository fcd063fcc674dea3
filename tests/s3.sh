#!/usr/bin/env bash
# Backups in an S3 server that nobody here wrote: moto, on loopback, from PyPI into target/s3/venv.
#
#   cargo build && tests/s3.sh            # STRATALOG=… names another binary
#
# A node is backed up twice, the second time with what is new; older backups are removed; a check finds one object that was
# damaged and one that is gone; a restore has every record. Errors name the store, the object and what to do. It needs
# python3 with venv, and PyPI at the first run.
set -euo pipefail
cd "$(dirname "$0")/.."

stratalog=$(realpath "${STRATALOG:-target/debug/stratalog}")
here=target/s3
work=$(mktemp -d)
started=()

finish() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

fail() {
    echo "FAILED: $*" >&2
    exit 1
}

step() { printf '\n== %s\n' "$*"; }

[ -x "$stratalog" ] || fail "there is no binary $stratalog: cargo build"
[ -x "$here/venv/bin/moto_server" ] || { python3 -m venv "$here/venv" && "$here/venv/bin/pip" install --quiet 'moto[server]==5.*'; }
python=$here/venv/bin/python

free_port() { "$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

export AWS_ENDPOINT="http://127.0.0.1:$(free_port)" AWS_ALLOW_HTTP=true AWS_REGION=us-east-1
export AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=not-a-secret AWS_EC2_METADATA_DISABLED=true
"$here/venv/bin/moto_server" --host 127.0.0.1 --port "${AWS_ENDPOINT##*:}" >"$work/moto.log" 2>&1 &
started+=($!)

# One thing is done to the bucket: make | names | parts | flip NAME | remove NAME.
bucket() {
    "$python" - "$@" <<'PYTHON'
import os, sys, time, boto3
s3 = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT"])
what, *name = sys.argv[1:]
objects = lambda: [o for page in s3.get_paginator("list_objects_v2").paginate(Bucket="backups") for o in page.get("Contents", [])]
if what == "make":
    for attempt in range(100):
        try:
            s3.create_bucket(Bucket="backups")
            break
        except Exception:
            time.sleep(0.2)
    else:
        sys.exit("moto did not start")
elif what == "names":
    print("\n".join(o["Key"] for o in objects()))
elif what == "parts":
    print(sum("-" in o["ETag"] for o in objects()))
elif what == "flip":
    body = bytearray(s3.get_object(Bucket="backups", Key=name[0])["Body"].read())
    body[len(body) // 2] ^= 1
    s3.put_object(Bucket="backups", Key=name[0], Body=bytes(body))
elif what == "remove":
    s3.delete_object(Bucket="backups", Key=name[0])
PYTHON
}

# A value of a JSON object on standard input.
value() { "$python" -c 'import json, sys; print(json.load(sys.stdin)'"$1"')'; }

serve() {
    grpc=127.0.0.1:$(free_port)
    "$stratalog" serve --data "$1" --grpc "$grpc" --http "127.0.0.1:$(free_port)" --peer "127.0.0.1:$(free_port)" >"$work/node.log" 2>&1 &
    node=$!
    started+=("$node")
    export STRATALOG_ENDPOINT=http://$grpc
    for _ in $(seq 100); do
        "$stratalog" topic list >/dev/null 2>&1 && return
        sleep 0.2
    done
    cat "$work/node.log" >&2
    fail "the node does not answer"
}

stop() {
    kill "$node"
    wait "$node" || true
}

# Records that no codec makes small.
records() {
    "$python" -c 'import base64, os, sys
for n in range(int(sys.argv[1]), int(sys.argv[2])):
    print("{\"n\":%d,\"text\":\"%s\"}" % (n, base64.b64encode(os.urandom(600)).decode()))' "$@"
}

place=s3://backups/prod/eu

step "a bucket that is not there, a store that is not there, and a URL with a secret"
serve "$work/data"
"$stratalog" topic create t --partitions 1 >/dev/null
# moto takes a moment to start.
bucket make
if "$stratalog" backup --to s3://nowhere/x 2>"$work/error"; then fail "a bucket that is not there was written to"; fi
cat "$work/error"
grep -q 's3://nowhere/x.*is there such a bucket?' "$work/error" || fail "the error does not say what to do"
if AWS_ENDPOINT=http://127.0.0.1:1 timeout 180 "$stratalog" restore --from "$place" --list 2>"$work/error"; then fail "nobody answers there"; fi
cat "$work/error"
grep -q 'cannot read cluster.json in s3://backups/prod/eu.*AWS_ENDPOINT' "$work/error" || fail "the error does not say what to do"
if "$stratalog" restore --from s3://key:hush@backups/x --list 2>"$work/error"; then fail "a secret was taken from the command line"; fi
grep -q hush "$work/error" && fail "a secret is repeated"
grep -q AWS_ACCESS_KEY_ID "$work/error" || fail "the error does not say where it belongs"

step "a first backup, in parts where an object is large"
records 0 40000 | "$stratalog" produce t - >/dev/null
"$stratalog" topic seal t >/dev/null
first=$("$stratalog" backup --to "$place" --output json)
echo "$first"
[ "$(bucket parts)" -gt 0 ] || fail "nothing was sent in parts"
bucket names | grep -qv '^prod/eu/' && fail "something lies beside the place"

step "a second one sends what is new"
records 40000 41000 | "$stratalog" produce t - >/dev/null
"$stratalog" topic seal t >/dev/null
second=$("$stratalog" backup --to "$place" --output json)
echo "$second"
[ "$(value '["sent_bytes"]' <<<"$second")" -lt $(($(value '["sent_bytes"]' <<<"$first") / 2)) ] || fail "all of it was sent again"
"$stratalog" restore --from "$place" --list

step "the newest two are kept"
records 41000 42000 | "$stratalog" produce t - >/dev/null
before=$(bucket names | wc -l)
third=$("$stratalog" backup --to "$place" --keep 2 --output json)
"$stratalog" restore --from "$place" --list
[ "$(value '["removed_backups"]' <<<"$third")" = "['$(value '["backup"]' <<<"$first")']" ] || fail "another backup was removed: $third"
bucket names | grep -q "$(value '["backup"]' <<<"$first")" && fail "something of the first is left"
bucket names | grep -q '/running/' && fail "somebody is still at work"
echo "$before objects before, $(bucket names | wc -l) after"
"$stratalog" backup --to "$place" --keep 1
[ "$("$stratalog" restore --from "$place" --list --output ndjson | wc -l)" = 1 ] || fail "more than one is left"
"$stratalog" consume t >"$work/before"
stop

step "a check, a restore, and every record"
"$stratalog" restore --from "$place" --check
"$stratalog" restore --from "$place" --data "$work/restored"
serve "$work/restored"
"$stratalog" consume t >"$work/after"
cmp "$work/before" "$work/after" || fail "the records are others"
[ "$(wc -l <"$work/after")" = 42000 ] || fail "there are $(wc -l <"$work/after") records"
"$stratalog" sql 'SELECT count(*), count(DISTINCT n), max(n) FROM t'
stop

step "an object that is damaged, and one that is gone"
segments=$(bucket names | grep /segments/)
flipped=$(head -1 <<<"$segments")
bucket flip "$flipped"
if "$stratalog" restore --from "$place" --check 2>"$work/error"; then fail "the damage was not found"; fi
cat "$work/error"
if "$stratalog" restore --from "$place" --data "$work/damaged" 2>"$work/error"; then fail "damage was restored"; fi
grep -q "${flipped##*/} in s3://backups/prod/eu" "$work/error" || fail "the error does not name the object: $(cat "$work/error")"
bucket remove "$flipped"
bucket remove "$(bucket names | grep '0000.state')"
"$stratalog" restore --from "$place" --check --output json >"$work/found" && fail "what is gone was not missed"
[ "$(value '["findings"].__len__()' <"$work/found")" = 2 ] || fail "two are gone: $(cat "$work/found")"

step "the next backup sends again what is gone, and does not count what lacks it"
serve "$work/data"
"$stratalog" backup --to "$place" --keep 1
"$stratalog" restore --from "$place" --check
[ "$("$stratalog" restore --from "$place" --list --output ndjson | wc -l)" = 1 ] || fail "more than one is left"

step "nothing is removed while another backup is made"
records 42000 43000 | "$stratalog" produce t - >/dev/null
"$stratalog" backup --to "$place" --rate 1KiB >/dev/null 2>&1 &
slow=$!
started+=("$slow")
until bucket names | grep -q '/running/backup-'; do sleep 0.2; done
if "$stratalog" backup --to "$place" --keep 1 2>"$work/error"; then fail "something was removed"; fi
cat "$work/error"
grep -q 'is made, but older ones were not all removed: nothing is removed' "$work/error" || fail "the error says something else"
[ "$("$stratalog" restore --from "$place" --list --output ndjson | wc -l)" = 2 ] || fail "there are not two"
kill "$slow"
stop

printf '\nall of it worked\n'
