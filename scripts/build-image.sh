#!/bin/sh
# Builds Cofferdam's own image with Cofferdam.
#
#   scripts/build-image.sh minimal|debug [options of `cofferdam build`]
#
# for example scripts/build-image.sh debug --tag registry.example/cofferdam:debug --push. Without options the image is kept in
# the store. Needs what the program is built with (README), binutils, busybox-static and ca-certificates
# (scripts/install-test-tools.sh); RUN must work on this machine (`cofferdam doctor`).
set -eu
variant=${1-}
case $variant in
minimal | debug) shift ;;
*) echo "usage: build-image.sh minimal|debug [options of cofferdam build]" >&2; exit 2 ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd)
context=$(realpath -m "${CARGO_TARGET_DIR:-$root/target}")/image
certificates=${COFFERDAM_IMAGE_CERTIFICATES:-/etc/ssl/certs/ca-certificates.crt}
busybox=$(command -v busybox) || { echo "build-image.sh: busybox is missing (Debian's package busybox-static)" >&2; exit 1; }
mkdir -p "$context"
# One at a time: the others wait, and find it made.
exec 9>"$context/../image.lock"
flock 9
"$root/scripts/static-program.sh" "$context/cofferdam"
install -m 755 "$busybox" "$context/busybox"
install -m 644 "$certificates" "$context/ca-certificates.crt"
install -m 644 "$root/LICENSE" "$context/LICENSE"
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml" | head -1)
"$context/cofferdam" build --file "$root/image/Dockerfile" --target "$variant" \
    --label org.opencontainers.image.title=cofferdam \
    --label org.opencontainers.image.version="$version" \
    --label org.opencontainers.image.licenses=Apache-2.0 \
    "$@" "$context"
