#!/bin/sh
# The store's main job in two minutes, in a folder of its own that is removed afterwards.
set -eu
folder=$(mktemp -d)
cd "$folder"
trap 'ossctl down >/dev/null 2>&1 || true; cd /; rm -rf "$folder"' EXIT
say() { printf '\n\033[1m$ %s\033[0m\n' "$*"; }
run() { say "$@"; "$@"; }

run ossctl up --detach
printf 'hello world' >hello.txt
head -c 20000000 /dev/urandom >photo.raw

run ossctl put hello.txt
run ossctl put photo.raw holiday/photo.raw
printf 'hello again' >hello.txt
run ossctl put hello.txt
run ossctl ls --recursive --long
run ossctl versions hello.txt
run ossctl get hello.txt old.txt --version 1
say "cat old.txt"
cat old.txt
echo

leader=$(ossctl cluster status --json | python3 -c '
import json, sys
print(next(n["id"] for n in json.load(sys.stdin)["metanodes"] if n["state"] == "leader"))')
run ossctl kill "$leader"
run ossctl kill blob-2
run ossctl kill blob-5
run ossctl get holiday/photo.raw copy.raw
run cmp photo.raw copy.raw
run ossctl put photo.raw holiday/second.raw
run ossctl rm hello.txt
run ossctl undelete hello.txt
run ossctl cat hello.txt
echo
for node in "$leader" blob-2 blob-5; do run ossctl start "$node"; done
run ossctl cluster status
run ossctl down
printf '\nDemo passed: nothing was lost.\n'
