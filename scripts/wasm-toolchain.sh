#!/bin/bash
# Sets up a compiler for WebAssembly guests out of the Rust that is installed, where `rustup target add` is not available:
# the installed 1.95.0 plus what it lacks, std's sources and wasi-libc, from Debian's trixie-backports by exact version
# and checksum. Needs no privileges and changes nothing outside its directory.
#
#   scripts/wasm-toolchain.sh [DIR]      default: $COFFERDAM_WASM_TOOLCHAIN, or cofferdam/wasm-toolchain in the user's cache
#
# Prints the toolchain's directory. Does nothing if it is there already.
# Exit codes: 0 ready; 3 the packages or the compiler can't be had on this machine; other codes are failures.
set -euo pipefail

readonly RUST_VERSION=1.95.0
readonly MIRROR_SUITE=trixie-backports
readonly PACKAGES=(
  "rust-src 1.95.0+dfsg1-2~bpo13+1 7b76db5b880a77f9e52975d2baa6209d2f76d2c9c2789515c3088cb960e2c83b"
  "wasi-libc 0.0~git20260423.161b319-2~bpo13+1 578dd9d29188bfc3ebd9554fdd8b238324a4faac8c169bf0f882956e3fe187de"
)

unavailable() {
  echo "wasm-toolchain: $1" >&2
  exit 3
}

main() {
  local dir=${1:-${COFFERDAM_WASM_TOOLCHAIN:-${XDG_CACHE_HOME:-$HOME/.cache}/cofferdam/wasm-toolchain}}
  local sysroot stamp
  sysroot=$(compiler_sysroot)
  stamp="$RUST_VERSION $(printf '%s\n' "$sysroot" "${PACKAGES[@]}" | sha256sum | cut -c1-16)"
  mkdir -p "$dir"
  dir=$(cd "$dir" && pwd)
  # One set-up at a time; the others wait and find it done.
  exec 9>"$dir/.lock"
  flock 9
  if [ "$(cat "$dir/.stamp" 2>/dev/null)" != "$stamp" ]; then
    rm -rf "$dir/.stamp" "$dir/toolchain" "$dir/work"
    mkdir -p "$dir/work"
    fetch_packages "$dir/work"
    assemble "$dir/work" "$sysroot" "$dir/toolchain"
    rm -rf "$dir/work"
    echo "$stamp" > "$dir/.stamp"
  fi
  echo "$dir/toolchain"
}

# The directory of the installed compiler, if it is the version that the packages belong to.
compiler_sysroot() {
  local version sysroot
  version=$(rustc --version 2>/dev/null | cut -d' ' -f2) || true
  [ "$version" = "$RUST_VERSION" ] || unavailable "rustc $RUST_VERSION is needed, found ${version:-none}"
  sysroot=$(rustc --print sysroot)
  compgen -G "$sysroot/lib/rustlib/*/bin/rust-lld" > /dev/null || unavailable "$sysroot has no rust-lld"
  echo "$sysroot"
}

# Downloads with a private apt configuration (own sources, lists and cache), checks and unpacks into DIR/unpacked.
fetch_packages() {
  local work=$1 apt=$1/apt package name version checksum
  for tool in apt-get dpkg sha256sum; do
    command -v $tool > /dev/null || unavailable "\`$tool\` is not installed"
  done
  local keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  [ -r $keyring ] || unavailable "$keyring is missing (Debian's package debian-archive-keyring)"
  mkdir -p "$apt"/{etc/apt.conf.d,etc/preferences.d,etc/sources.list.d,state/lists/partial,cache/archives/partial} \
    "$work/debs" "$work/unpacked"
  echo "deb [signed-by=$keyring] $(debian_mirror) $MIRROR_SUITE main" > "$apt/etc/sources.list"
  cat > "$apt/apt.conf" <<EOF
Dir::Etc "$apt/etc";
Dir::State "$apt/state";
Dir::State::status "/dev/null";
Dir::Cache "$apt/cache";
APT::Sandbox::User "";
EOF
  export APT_CONFIG=$apt/apt.conf
  apt-get -qq update >&2 || unavailable "the package lists of $MIRROR_SUITE can't be fetched"
  cd "$work/debs"
  for package in "${PACKAGES[@]}"; do
    read -r name version checksum <<< "$package"
    if ! apt-get -qq download "$name=$version" >&2; then
      # wasi-libc is linked into the examples for wasm32-wasip2, whose bytes nobody compares; the archive keeps its newest
      # version only. std's sources are in the committed components.
      [ "$name" = wasi-libc ] || unavailable "$MIRROR_SUITE no longer has $name $version"
      apt-get -qq download "$name" >&2 || unavailable "$MIRROR_SUITE has no $name"
      echo "wasm-toolchain: $MIRROR_SUITE no longer has $name $version; $(echo "$name"_*.deb) is taken, checked by the archive's signature alone" >&2
      dpkg -x "$name"_*.deb "$work/unpacked"
      continue
    fi
    echo "$checksum  $(echo "$name"_*.deb)" | sha256sum --check --quiet >&2 ||
      { echo "wasm-toolchain: $name $version is not the package that was pinned" >&2; exit 1; }
    dpkg -x "$name"_*.deb "$work/unpacked"
  done
  cd - > /dev/null
}

# The mirror that this machine uses already.
debian_mirror() {
  local uri
  uri=$(sed -n -e 's/^URIs: *\([^ ]*\/debian\)\/* *$/\1/p' /etc/apt/sources.list.d/*.sources 2>/dev/null | head -1)
  [ -n "$uri" ] || uri=$(sed -n -e 's/^deb  *\(\[[^]]*\] *\)\{0,1\}\([^ ]*\/debian\)\/*  *.*/\2/p' /etc/apt/sources.list 2>/dev/null | head -1)
  [ -n "$uri" ] || unavailable "this machine's package sources name no Debian mirror"
  echo "$uri"
}

# A copy of the compiler (hard links cost nothing; a real copy where they can't be made) with std's sources and wasi-libc.
assemble() {
  local work=$1 sysroot=$2 out=$3.new
  rm -rf "$out"
  mkdir -p "$out"
  for part in bin lib; do
    cp -al "$sysroot/$part" "$out/$part" 2>/dev/null || { rm -rf "${out:?}/$part"; cp -a "$sysroot/$part" "$out/$part"; }
  done
  mkdir -p "$out/lib/rustlib/src/rust" "$out/lib/rustlib/wasm32-wasip2/lib/self-contained"
  cp -a "$work/unpacked/usr/src/rustc-$RUST_VERSION/library" "$out/lib/rustlib/src/rust/"
  cp "$work"/unpacked/usr/lib/wasm32-wasip2/{crt1-command.o,crt1-reactor.o,libc.a} "$out/lib/rustlib/wasm32-wasip2/lib/self-contained/"
  mv "$out" "$3"
}

main "$@"
