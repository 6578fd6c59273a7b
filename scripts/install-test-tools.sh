#!/bin/sh
# Installs what the tests need beyond the Rust toolchain, and only what is missing: Debian packages, as root on Debian or Ubuntu
# (anywhere else it says what is missing and leaves the machine alone), and modules of Python and Node in directories of the
# project's own. A second run does nothing.
#
# Environment: CARGO_TARGET_DIR (whose directory `tools` has the modules).
#
# No service is started: Debian's docker-registry would start one, so packages are installed with services held back.
set -eu

# package  command that proves it is there  what for
needed='
apache2-utils htpasswd password files of the test registry
binutils strip our own image
btrfs-progs mkfs.btrfs disks with a quota
buildah buildah the builder that results and costs are compared with
busybox-static busybox the base image alpine
ca-certificates update-ca-certificates our own image
db5.3-util db5.3_load databases of older RPM packages
docker-registry docker-registry the registry that images are pushed to and pulled from
git git checkouts whose facts are compared
golang-go go programs that tell of their modules
iproute2 ip a network with the metadata address of clouds
jq jq reading what tools print
mmdebstrap mmdebstrap base images and runner environments
nodejs node the example plugin in JavaScript, and azurite
npm npm the compiler of the example plugin in JavaScript, and azurite
openssh-client ssh-keygen keys that an agent serves
openssh-server sshd the server that repositories are fetched from over SSH
openssl openssl certificates of test servers
python3 python3 reading archives with another implementation
python3-pip pip3 the Go toolchain of the base image golang, and emulators of clouds
qemu-user-static qemu-aarch64-static programs for other processors
rpm rpmbuild RPM packages and their database
runc runc running the images that were built
skopeo skopeo judging exports and pushed images
sqlite3 sqlite3 databases of RPM packages
uidmap newuidmap user namespaces with subordinate ids
umoci umoci unpacking exported images
'

if [ $# != 0 ]; then
    echo "usage: scripts/install-test-tools.sh" >&2
    exit 2
fi

# docker-registry and newuidmap may lie where an ordinary user does not look.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

is_there() {
    # What counts for pip is the module: python3 may come from elsewhere.
    case $1 in
    pip3) python3 -m pip --version >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

missing=
while read -r package command purpose; do
    [ -n "$package" ] || continue
    if ! is_there "$command"; then
        echo "missing: $package ($purpose)" >&2
        missing="$missing $package"
    fi
done <<EOF
$needed
EOF

# Emulators of clouds, each in a directory of its own: pinned, and complete once its last file is there.
emulators() {
    python_modules moto moto==5.2.5 flask==3.1.3 flask-cors==6.0.5 boto3==1.44.8 botocore==1.44.8
    python_modules gcp-storage-emulator gcp-storage-emulator==2026.7.19 google-crc32c==1.9.0
    # What the world takes for provenance and for a bill of materials.
    python_modules attestations in-toto-attestation==0.9.3 protobuf==7.36.2 spdx-tools==0.8.3 license-expression==30.4.4
    node_modules azurite azurite@3.37.0 @azure/storage-blob@12.34.0
}

python_modules() {
    name=$1
    shift
    begin "$name" pip3 || return 0
    if python3 -m pip --quiet --disable-pip-version-check install --no-warn-conflicts --target "$tools/$name" "$@" >&2; then
        touch "$tools/$name/complete"
    else
        echo "$name can't be installed: tests that need it are skipped" >&2
    fi
}

node_modules() {
    name=$1
    shift
    begin "$name" npm || return 0
    mkdir -p "$tools/$name"
    if npm install --silent --no-fund --no-audit --save-exact --prefix "$tools/$name" "$@" >&2; then
        touch "$tools/$name/complete"
    else
        echo "$name can't be installed: tests that need it are skipped" >&2
    fi
}

# Whether something is to be installed, with the installer of that name.
begin() {
    if ! is_there "$2" || [ -e "$tools/$1/complete" ]; then
        return 1
    fi
    echo "installing: $1 into $tools/$1" >&2
    rm -rf "${tools:?}/$1"
}

tools=$(cd "$(dirname "$0")/.." && pwd)/target/tools
[ -z "${CARGO_TARGET_DIR:-}" ] || tools=$CARGO_TARGET_DIR/tools

if [ -z "$missing" ]; then
    emulators
    echo "all test tools are installed" >&2
    exit 0
fi
if [ "$(id -u)" != 0 ]; then
    echo "tests that need these are skipped; to install them, run as root: apt-get install --no-install-recommends$missing" >&2
    emulators
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "tests that need these are skipped: only apt-get is known to this script" >&2
    exit 0
fi

# policy-rc.d is what maintainer scripts ask before they start a service (101: not now). One that exists is left alone.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod 755 $policy
fi
export DEBIAN_FRONTEND=noninteractive
echo "installing:$missing" >&2
apt-get -q -o DPkg::Lock::Timeout=600 update >&2
# shellcheck disable=SC2086 # a list of names
apt-get -q -o DPkg::Lock::Timeout=600 install -y --no-install-recommends $missing >&2
emulators
