#!/usr/bin/env bash
# Builds the image from the Dockerfile, with neither a daemon nor a registry: the base is made by
# debootstrap, and this machine's Rust, its registry and this checkout's target folder are mounted into
# the build. So dependencies that `cargo test` has compiled are not compiled again.
#
# usage: tests/chart/image.sh [dev|release]      names it localhost/exfilwatch:PROFILE
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(realpath -m "${EXFILWATCH_CHART_TOOLS:-$top/target/chart-tools}")/image
profile=${1:-dev}
store=(--root "$folder/root" --runroot "$folder/run" --storage-driver vfs)
cargo=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(cd "$top" && rustc --print sysroot)
# Cargo knows a dependency by where its source is: under the same path as outside.
base=localhost/exfilwatch-base:$(sha256sum <<<"1 $cargo" | cut -c1-12)
mkdir -p "$folder" "$top/target"

if ! buildah "${store[@]}" inspect --type image "$base" >/dev/null 2>&1; then
  echo "image: making a base"
  rm -rf "$folder/debian"
  debootstrap --variant=minbase --include=gcc,g++,libc6-dev,make,perl,ca-certificates \
    bookworm "$folder/debian" >"$folder/debootstrap.log"
  container=$(buildah "${store[@]}" from scratch)
  buildah "${store[@]}" add --quiet "$container" "$folder/debian" / >/dev/null
  buildah "${store[@]}" config --env PATH=/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    --env "CARGO_HOME=$cargo" --env CARGO_TARGET_DIR=/target --env CARGO_INCREMENTAL=0 "$container"
  buildah "${store[@]}" commit --quiet "$container" "$base" >/dev/null
  buildah "${store[@]}" rm "$container" >/dev/null
  rm -rf "$folder/debian"
fi

buildah "${store[@]}" bud --isolation=chroot --pull-never --quiet \
  --build-arg "BASE=$base" --build-arg "PROFILE=$profile" \
  --build-arg "REVISION=$(git -C "$top" rev-parse --short HEAD)" \
  --volume "$sysroot:/rust:ro" --volume "$cargo:$cargo:rw" --volume "$top/target:/target:rw" \
  --tag "localhost/exfilwatch:$profile" "$top" >/dev/null
echo "image: localhost/exfilwatch:$profile"
