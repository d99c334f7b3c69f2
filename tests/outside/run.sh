#!/usr/bin/env bash
# Builds and runs two little crates against the packages as a user would get them.
#
#   run.sh PACKAGES    the folder in which `cargo package` unpacked both packages
#
# default/main.rs    makes a call with the default features
# none/main.rs       makes a call with no feature at all
#
# Each program prints `ok` as its last line once its call came back as it must. The crates are put
# together in a folder outside the repository, so that no workspace, lint or config of it reaches
# them. They keep the repository's lock file and work offline: what they prove is the packages,
# not today's registry.

set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
packages=$(cd "$1" && pwd)
build=${CARGO_TARGET_DIR:-$root/target}/outside

version=$(sed -n '/^\[workspace.package\]/,/^\[/ s/^version = "\(.*\)"/\1/p' "$root/Cargo.toml")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
    echo "error: $*" >&2
    exit 1
}

# make NAME DEFAULT_FEATURES: a crate around NAME/main.rs.
make() {
    mkdir -p "$work/$1/src"
    cp "$here/$1/main.rs" "$work/$1/src/main.rs"
    cp "$root/Cargo.lock" "$work/$1/Cargo.lock"
    cat >"$work/$1/Cargo.toml" <<MANIFEST
[package]
name = "outside-$1"
version = "0.0.0"
edition = "2024"
publish = false

[dependencies]
serde = { version = "1", features = ["derive"] }
# The codec of its own that the crate without features brings.
serde_json = "1"
switchback = { version = "=$version", default-features = $2 }
# Only what \`main\` needs: a feature that the package forgot must not come from here.
tokio = { version = "1", default-features = false, features = ["macros", "rt"] }

[patch.crates-io]
switchback = { path = "$packages/switchback-$version" }
switchback-macros = { path = "$packages/switchback-macros-$version" }
MANIFEST
}

# run NAME: builds the crate, runs it, and reads its last line.
run() {
    local output
    echo "-- outside crate $1"
    (cd "$work/$1" && CARGO_TARGET_DIR=$build cargo build --offline)
    output=$("$build/debug/outside-$1")
    echo "$output"
    [[ $(tail -n 1 <<<"$output") == ok ]] || fail "outside crate $1 did not end with \`ok\`"
}

for package in switchback switchback-macros; do
    [[ -d $packages/$package-$version ]] || fail "$packages/$package-$version is missing"
done
make default true
run default
make none false
run none
