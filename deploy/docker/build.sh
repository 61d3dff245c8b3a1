#!/usr/bin/env bash
# Builds one target of the Dockerfile with docker, podman or buildah, and prints what: make images (README.md explains).
#   BASE=debian:bookworm-slim@sha256:... [TORCH_INDEX=...] [IMAGE=...] [TAG=...] [BUILDER="docker build"] deploy/docker/build.sh cpu|cuda [the builder's options]
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
    echo "$*" >&2
    exit 2
}

# Docker's client may be here without its engine.
builder() {
    if docker info > /dev/null 2>&1; then
        echo docker build
    elif podman info > /dev/null 2>&1; then
        echo podman build --format docker
    elif buildah info > /dev/null 2>&1; then
        echo buildah build --format docker
    else
        fail "No docker, podman or buildah works here: install one, or start Docker's engine."
    fi
}

target=${1:?"which target of the Dockerfile: cpu or cuda"}
[[ ${BASE:-} =~ @sha256:[0-9a-f]{64}$ ]] || fail "BASE is '${BASE:-}': name Debian 12 with its digest," \
    "BASE=debian:bookworm-slim@sha256:..., as 'docker pull debian:bookworm-slim' prints it."
build=${BUILDER:-$(builder)}
image=${IMAGE:-t2i-platform}:${TAG:-$(git describe --always --dirty --abbrev=12)}-$target
index=$([[ $target = cpu ]] && echo "${TORCH_INDEX:-}" || true) # those of the default index are for CUDA

echo "building $image from $BASE with ${build%% *}, torch of ${index:-the default index}"
$build --file deploy/docker/Dockerfile --target "$target" --tag "$image" \
    --build-arg "BASE=$BASE" --build-arg "TORCH_INDEX=$index" "${@:2}" .
echo "built $image"
