#!/bin/sh
# Make an image of Debian with Python for tests/deploy/test_container.py, without a registry of images.
#
#     sh tests/deploy/base_image.sh FOLDER [ROOT]
#
# FOLDER becomes buildah's store; ROOT is a root file system to take instead of a new one.
set -eu
folder=$1 root=${2:-}
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# `vfs` copies each layer, which works everywhere and takes minutes.
driver=vfs
if grep -q overlay /proc/filesystems && [ "$(findmnt -T "$folder" -no FSTYPE)" != overlay ]; then driver=overlay; fi
store="--root $folder/store --runroot $folder/run --storage-driver $driver"
if [ -z "$root" ]; then
    root=$(mktemp -d)
    trap 'rm -rf "$root"' EXIT
    debootstrap --variant=minbase --include=python3-minimal,python3-venv,ca-certificates bookworm "$root"
fi
begun=$(buildah $store from scratch)
cp -a "$root/." "$(buildah $store mount "$begun")"
buildah $store commit --quiet --rm "$begun" localhost/debian
echo "$store" >"$folder/options"
