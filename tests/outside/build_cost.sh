#!/usr/bin/env bash
# What a clean debug build costs in CPU time: switchback with its default features beside tarpc.
#
#   build_cost.sh [ROUNDS]     3 rounds unless said otherwise; prints a line for each, and medians
#
# Each side is a crate that depends on one of them and does nothing; what is measured is `cargo
# build` of it from an empty folder, user and system time of all processes, dependencies and the
# crate itself. The rounds alternate, since machines have moods. tarpc has the features that a user
# needs for the same job: TCP, serde, bincode. It is asked of the registry here, so that neither
# this package nor its lock file knows it.

set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
rounds=${1:-3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# make NAME DEPENDENCY: a crate with one dependency.
make() {
    mkdir -p "$work/$1/src"
    echo 'fn main() {}' >"$work/$1/src/main.rs"
    cat >"$work/$1/Cargo.toml" <<MANIFEST
[package]
name = "cost-$1"
version = "0.0.0"
edition = "2024"
publish = false

[dependencies]
$2
MANIFEST
    (cd "$work/$1" && cargo fetch -q)
}

# cost NAME: seconds of CPU time of one clean build.
cost() {
    local times
    rm -rf "$work/target"
    times=$(cd "$work/$1" && export CARGO_TARGET_DIR=$work/target CARGO_INCREMENTAL=0 &&
        TIMEFORMAT='%U %S' && { time cargo build -q --offline; } 2>&1)
    awk '{ printf "%.1f", $1 + $2 }' <<<"$times"
}

make switchback "switchback = { path = \"$root\" }"
cp "$root/Cargo.lock" "$work/switchback/Cargo.lock"
(cd "$work/switchback" && cargo fetch -q)
make tarpc 'tarpc = { version = "0.38", features = ["tcp", "serde-transport", "serde-transport-bincode", "tokio1"] }'

crates() {
    (cd "$work/$1" && cargo tree -q -e normal --prefix none --offline) | sed "s| (\*)||" | sort -u | grep -vc "^cost-"
}
echo "crates in the tree: switchback $(crates switchback), tarpc $(crates tarpc)"
ours=() theirs=()
for ((round = 1; round <= rounds; round++)); do
    ours+=("$(cost switchback)")
    theirs+=("$(cost tarpc)")
    echo "round $round: switchback ${ours[-1]} s, tarpc ${theirs[-1]} s"
done
median() {
    printf '%s\n' "$@" | sort -n | sed -n "$((($# + 1) / 2))p"
}
ours=$(median "${ours[@]}") theirs=$(median "${theirs[@]}")
awk -v ours="$ours" -v theirs="$theirs" 'BEGIN {
    printf "median: switchback %.1f s, tarpc %.1f s, ratio %.2f (at most 0.80)\n", ours, theirs, ours / theirs
}'
