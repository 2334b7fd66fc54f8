#!/usr/bin/env bash
# Builds the image and prints what it adds to its base. With docker or podman where an engine answers, else with buildah as
# root. Ends with 0 where it was built, with 2 and the reason where it cannot be built on this machine.
#   scripts/image.sh [NAME]        NAME: unipay-sync
# IMAGE_BUILD_FLAGS: further arguments for the build, such as a mirror's certificate needs.
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:-unipay-sync}
read -ra flags <<<"${IMAGE_BUILD_FLAGS:-}"
base=$(sed -nE 's/^FROM ([^ ]+)( AS .*)?$/\1/p' Dockerfile | tail -1)

cannot() {
  echo "The image was not built: $1."
  exit 2
}

mb() { echo "$(($1 / 1000000)) MB"; }

for engine in docker podman; do
  "$engine" info >/dev/null 2>&1 || continue
  "$engine" image inspect "$base" >/dev/null 2>&1 || "$engine" pull --quiet "$base" || cannot "$base cannot be pulled"
  "$engine" build ${flags[@]+"${flags[@]}"} --tag "$name" .
  size() { "$engine" image inspect --format '{{.Size}}' "$1"; }
  whole=$(size "$name")
  echo "$name: $(mb "$whole"), $(mb $((whole - $(size "$base")))) of them on top of $base"
  exit 0
done

command -v buildah >/dev/null || cannot 'neither docker nor podman answers, and there is no buildah'
[ "$(id -u)" = 0 ] || cannot 'buildah needs root'
buildah inspect --type image "docker.io/library/$base" >/dev/null 2>&1 || buildah pull --quiet "docker.io/library/$base" >/dev/null ||
  cannot "$base cannot be pulled"
# Docker's own format is the one that has HEALTHCHECK.
buildah bud --isolation chroot --format docker ${flags[@]+"${flags[@]}"} --tag "$name" .
echo "$name: $(buildah images --format '{{.Size}}' "$name"), on top of $base: $(buildah images --format '{{.Size}}' "docker.io/library/$base")"
