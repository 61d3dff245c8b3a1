#!/usr/bin/env bash
# What a container of an image must be able to do, as the image's user:
#   docker run --rm --interactive --shm-size=2g IMAGE bash -s < deploy/docker/try.sh
set -euo pipefail
drawn=$(mktemp --directory)

step() {
    echo "--- $*"
    time "$@" < /dev/null # this script may itself come from there
}

step test "$(id -u)" = 1000
step test ! -e "$HOME/.ray" # no token of a Ray that ran while the image was built
step test ! -w /app/jobs
step test ! -w /app/.venv
step bash --login -i -c "command -v ray t2i" # as `ray up` runs commands
step t2i --help
step python /app/deploy/docker/warm.py --check
step env XDG_CACHE_HOME="$drawn/a" TORCHINDUCTOR_CACHE_DIR="$drawn/b" python /app/deploy/docker/warm.py # for comparison
step python /app/jobs/generate.py run=/app/models/trained/small captions='["a red heart, 3D render"]' \
    candidates=1 keep=1 out="$drawn"
step ls -l "$drawn"/*.png
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN=of-this-trial-alone-of-this-trial-alone
step ray start --head --num-cpus=2 --object-store-memory=200000000
trap "ray stop" EXIT
step ray status
step ray job submit -- python /app/jobs/train_prior.py --help
step ray job submit -- /app/jobs/coco_eval.py --help
