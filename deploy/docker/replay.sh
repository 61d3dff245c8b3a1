#!/usr/bin/env bash
# Builds the images where there is neither a container engine nor a registry of images, and tries the one for CPUs:
#   make image-replay, as root on Debian with buildah and debootstrap.
# The base is Debian 12 by debootstrap; buildah runs the Dockerfile's lines in a chroot, with the settings of this machine's pip.
# FOLDER=... keeps base and layers there for the next time; else all is removed at the end.
set -euo pipefail
cd "$(dirname "$0")/../.."
folder=${FOLDER:-$(mktemp --directory --tmpdir=/var/tmp t2i-replay.XXXX)}
[[ ${FOLDER:-} ]] || trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder"
export BUILDAH_ISOLATION=chroot BUILDER="buildah build --format docker --layers" IMAGE=localhost/t2i-platform TAG=replay
export CONTAINERS_STORAGE_CONF=$folder/storage.conf
printf '[storage]\ndriver = "overlay"\ngraphroot = "%s"\nrunroot = "%s"\n' "$folder/images" "$folder/run" > "$CONTAINERS_STORAGE_CONF"

make_base() {
    debootstrap --variant=minbase bookworm "$folder/debian" > "$folder/debootstrap.log"
    printf 'FROM scratch\nADD debian /\n' | buildah build --quiet --file - --tag "$1" "$folder" > /dev/null
    rm -rf "$folder/debian"
}

# Writes pip's settings, with copies of the files that they name, into a folder; prints the folders to be mounted.
pip_settings() {
    rm -rf "$1"
    python3 - "$1" << 'END'
import ast, pathlib, shutil, subprocess, sys

folder, settings = pathlib.Path(sys.argv[1]), {}
mounted = {folder}
folder.mkdir()
for line in subprocess.run(["pip", "config", "list"], capture_output=True, text=True, check=True).stdout.splitlines():
    key, _, value = line.partition("=")
    words = ast.literal_eval(value).split()
    for number, word in enumerate(words):
        path = pathlib.Path(word.removeprefix("file://"))
        if path.is_file():
            words[number] = str(shutil.copy(path, folder))
        elif path.is_absolute() and path.is_dir():
            mounted.add(path.parent if word.startswith("file://") else path)
    settings.setdefault(key.rpartition(".")[2], " ".join(words))  # variables come first, and count before files
(folder / "pip.conf").write_text("\n".join(["[global]", *(f"{key} = {value}" for key, value in settings.items())]) + "\n")
print(*mounted, sep="\n")
END
}

base=localhost/debian:bookworm
buildah inspect --type image "$base" > /dev/null 2>&1 || make_base "$base"
BASE=$(buildah images --format '{{.Name}}@{{.Digest}}' "$base")
export BASE
options=("--secret=id=pip,src=$folder/pip/pip.conf")
for mounted in $(pip_settings "$folder/pip"); do options+=("--volume=$mounted:$mounted:ro"); done
for target in cpu cuda; do
    time deploy/docker/build.sh "$target" "${options[@]}"
done
buildah images

# In namespaces of its own: its Ray meets no other, nor a network, and ends with them.
container=$(buildah from "$IMAGE:$TAG-cpu")
unshare --net --pid --fork --mount-proc --kill-child \
    bash -c 'ip link set lo up && exec buildah run "$0" -- bash -s < deploy/docker/try.sh' "$container"
