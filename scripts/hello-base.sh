#!/bin/sh
# hello-base.sh DEST: makes DEST a small root file system of what the RUN of examples/hello needs, copied from this machine:
# a shell, a few tools, and the shared libraries that they load. Works as an ordinary user and without a network.
#
# It is a copy, and never the machine's own root: that would show RUN the user's files, and overlayfs refuses it in a user
# namespace. Made anew at every call (a tenth of a second), because the machine's tools may have been updated.
set -eu
if [ $# != 1 ] || [ -z "$1" ]; then
    echo "usage: hello-base.sh DEST" >&2
    exit 2
fi
dest=$1
marker=etc/cofferdam-hello-base
if [ -e "$dest" ] && [ ! -e "$dest/$marker" ] && ! rmdir "$dest" 2>/dev/null; then
    echo "hello-base.sh: $dest exists and was not made by this script; remove it or choose another place" >&2
    exit 1
fi

required="sh cat sed wc"
optional="awk basename chmod cp cut date dirname echo env expr false grep gzip head id ln ls mkdir mv printf readlink rm sleep sort tail tee test touch tr true uname uniq"

umask 022
new=$dest.new.$$
trap 'rm -rf "$new"' EXIT
rm -rf "$new"
mkdir -p "$new/bin" "$new/dev" "$new/etc" "$new/proc" "$new/root" "$new/sys" "$new/tmp"

# cp follows symlinks (`sh` is one nearly everywhere) and install gives no setuid bit and no foreign owner.
copy() {
    mkdir -p "$(dirname "$2")"
    install -m 755 "$1" "$2"
}

is_elf() { [ "$(head -c 4 "$1" | od -An -c | tr -d ' ')" = '177ELF' ]; }

add() {
    # A tool may be a shell's builtin as well: only what is in a file counts.
    file=
    old_ifs=$IFS
    IFS=:
    for directory in $PATH:/usr/bin:/bin; do
        if [ -f "$directory/$1" ] && [ -x "$directory/$1" ] && is_elf "$directory/$1"; then
            file=$directory/$1
            break
        fi
    done
    IFS=$old_ifs
    [ -n "$file" ] || return 1
    copy "$file" "$new/bin/$1"
    # Each line names a library with the path where the loader finds it, or the loader itself; a static program has none.
    for library in $(ldd "$file" 2>/dev/null | tr ' \t' '\n\n' | grep '^/' || true); do
        if [ -f "$library" ] && [ ! -e "$new$library" ]; then
            copy "$library" "$new$library"
        fi
    done
}

for tool in $required; do
    add "$tool" || {
        echo "hello-base.sh: no \`$tool\` on this machine; examples/hello needs it" >&2
        exit 1
    }
done
for tool in $optional; do
    add "$tool" || true
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$new/etc/passwd"
echo 'root:x:0:' >"$new/etc/group"
echo 'made by scripts/hello-base.sh' >"$new/$marker"
chmod 700 "$new/root"
chmod 1777 "$new/tmp"
# The same tools give the same base, whenever it is made.
find "$new" -depth -exec touch -h -d '1970-01-01T00:00:00Z' {} +

rm -rf "$dest"
mv "$new" "$dest"
