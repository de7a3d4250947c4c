#!/usr/bin/env bash
# Stand-ins for the Dockerfile's two bases, where no registry of images can be reached. Made of Debian packages and the
# host's Rust toolchain; needs root, mmdebstrap and a Docker engine. They are for building and trying the image on this
# machine: release images are built on the real bases.
#   pelton-base-runtime:debian12   the packages that distroless/cc consists of, extracted: no shell, no package manager
#   pelton-base-build:debian12     Debian with a C compiler, make and the headers that librdkafka needs, and Rust
# usage: local-bases.sh runtime|build
set -euo pipefail
export LC_ALL=C
what=${1:?runtime or build}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bundle=/etc/ssl/certs/ca-certificates.crt

# import TAR TAG CHANGES…: `docker import` of older engines refuses a path that is twice in the archive, so files only.
import() {
  local tar=$1 tag=$2 change changes=()
  shift 2
  for change in "$@"; do changes+=(--change "$change"); done
  docker import "${changes[@]}" "$tar" "$tag" >/dev/null
}

runtime() {
  local packages=base-files,ca-certificates,libc6,libgcc-s1,libgomp1,libssl3,libstdc++6,netbase,tzdata
  mmdebstrap -q --variant=extract --include="$packages" bookworm "$work/runtime.tar" 2>"$work/log" || { cat "$work/log" >&2; return 1; }
  # Extracted packages have neither users nor a bundle of certificates: both are made when a package is installed.
  mkdir -p "$work/add/etc/ssl/certs" "$work/add/home/nonroot"
  printf '%s\n' root:x:0:0:root:/root:/sbin/nologin nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin \
    nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin >"$work/add/etc/passwd"
  printf '%s\n' root:x:0: nobody:x:65534: nonroot:x:65532: >"$work/add/etc/group"
  cp "$bundle" "$work/add/etc/ssl/certs/"
  chown 65532:65532 "$work/add/home/nonroot"
  (cd "$work/add" && find . \( -type f -o -path ./home/nonroot \) -print0 |
    tar --null --no-recursion -T - -rf "$work/runtime.tar")
  import "$work/runtime.tar" pelton-base-runtime:debian12 "ENV SSL_CERT_FILE=$bundle" "USER 65532"
}

build() {
  local packages=ca-certificates,gcc,g++,libc6-dev,make,pkg-config,perl,zlib1g-dev,libssl-dev
  mmdebstrap -q --variant=apt --include="$packages" bookworm "$work/build.tar" 2>"$work/log" || { cat "$work/log" >&2; return 1; }
  (cd "$(rustc --print sysroot)" &&
    find ./bin ./lib -name '*wasm*' -prune -o -path ./lib/rustlib/src -prune -o \( -type f -o -type l \) -print0 |
    tar --null --no-recursion --transform 's#^\./#./usr/local/#;' -T - -rf "$work/build.tar")
  import "$work/build.tar" pelton-base-build:debian12 "ENV PATH=/usr/local/cargo/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" \
    "ENV CARGO_HOME=/usr/local/cargo"
  # The host's own bundle: a proxy with its own authority may stand between a build and the package registries.
  mkdir "$work/bundle"
  cp "$bundle" "$work/bundle/"
  printf 'FROM pelton-base-build:debian12\nCOPY ca-certificates.crt %s\n' "$bundle" >"$work/bundle/Dockerfile"
  DOCKER_BUILDKIT=0 docker build -q -t pelton-base-build:debian12 "$work/bundle" >/dev/null
}

case $what in
  runtime | build) "$what" ;;
  *) echo "usage: local-bases.sh runtime|build" >&2; exit 2 ;;
esac
