#!/usr/bin/env bash
# Builds the bench of other RPC crates and runs it, from any directory.
#
#   run.sh [--quick] [FLAGS of `peers run`]
#
# Without a selection of peers, workloads or runtimes the results go to benches/results. With
# --peers only those are built. CARGO_TARGET_DIR is where it builds, if it is set.

set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
results=$here/../results

fail() {
    echo "run.sh: $1" >&2
    exit 1
}

# A program from a Debian package: installed if that is possible, asked for otherwise.
need() {
    command -v "$1" >/dev/null && return
    if [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null; then
        echo "run.sh: installs $2" >&2
        apt-get install -y "$2" >/dev/null 2>&1 ||
            { apt-get update >/dev/null && apt-get install -y "$2" >/dev/null; } ||
            fail "$1 is missing, and the package $2 could not be installed"
    else
        fail "$1 is missing: install the package $2"
    fi
}

command -v cargo >/dev/null || fail "cargo is missing"

peers=
selected=
previous=
for argument in "$@"; do
    case $argument in
        --peers | --workloads | --runtimes | --rounds | --warm-up-ms | --measured-ms) selected=yes ;;
    esac
    if [[ $previous == --peers ]]; then
        peers=$argument
    fi
    if [[ $argument == --cores ]]; then
        need taskset util-linux
    fi
    previous=$argument
done

# The feature that a peer is behind; switchback and limit are always there.
features=(--all-features)
if [[ -n $peers ]]; then
    chosen=
    for peer in ${peers//,/ }; do
        case $peer in
            switchback | limit) ;;
            *) chosen+=,$peer ;;
        esac
    done
    features=(--no-default-features --features "${chosen#,}")
fi
need strace strace
# The peers make their code from schemas without help, but for capnp, which has a compiler in C++.
case ,${peers:-capnp}, in
    *,capnp,*) need capnp capnproto ;;
esac

manifest=$here/Cargo.toml
cargo build --release --locked --manifest-path "$manifest" "${features[@]}" ||
    fail "a peer does not build; leave it out with --peers, which takes names between commas"
target=${CARGO_TARGET_DIR:-$here/target}

output=()
if [[ -z $selected ]]; then
    mkdir -p "$results"
    output=(--results "$results/latest.jsonl" --plot "$results/peers.svg")
fi
exec "$target/release/peers" run "${output[@]}" "$@"
