# shellcheck shell=bash
# Sourced by each contender's `run`, which has set SOURCES, its own directory. What is built lies in $BUILT, with the hash
# of what it was made from.
set -euo pipefail
NAME=$(basename "$SOURCES")
TARGET=${CARGO_TARGET_DIR:-$SOURCES/../../../target}/peers
mkdir -p "$TARGET"
BUILT=$(cd "$TARGET" && pwd)/$NAME

# One line of reason, the last of stderr: it becomes the contender's row.
fail() { printf '%s\n' "$*" >&2; exit 1; }

need() { command -v "$1" >/dev/null 2>&1 || fail "no $1: $2"; }

# Maven's first error, else the last line of the log; colours are taken out.
reason() {
  sed 's/\x1b\[[0-9;]*m//g' "$BUILT/log" | awk '/error|ERROR/ { if (!first) first = $0 } { last = $0 } END { print first ? first : last }' | cut -c1-300
}

# Calls `make` in a new $BUILT with a copy of the sources, unless what is there was made from these.
build_once() {
  local hash
  hash=$(cd "$SOURCES" && cat ../build.sh ./* | sha256sum)
  [ "$(cat "$BUILT/.made-from" 2>/dev/null)" != "$hash" ] || return 0
  rm -rf "$BUILT"
  mkdir -p "$BUILT"
  cp "$SOURCES"/* "$BUILT"
  (cd "$BUILT" && make >"$BUILT/log" 2>&1) || fail "$(reason)"
  printf '%s\n' "$hash" >"$BUILT/.made-from"
}

# The jars of pom.xml, and the one class.
java_make() {
  local plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
  mvn -q -B "$plugin:copy-dependencies" -DincludeScope=runtime -DoutputDirectory="$BUILT/jars" &&
    javac --release 17 -cp "$BUILT/jars/*" -d "$BUILT/classes" ./*.java
}

java_needs() {
  need java "install a JDK 17"
  need javac "install a JDK 17"
  need mvn "install Maven"
}
