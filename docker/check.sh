#!/usr/bin/env bash
# Runs the image as a locked-down container between real topics: no capabilities, no new privileges, a root that cannot be
# written, no network but Kafka's. Sees that records flow, that what the module rejects is in the dead letters, that compiled
# modules are kept on the volume, and that SIGTERM ends it with 0. Configuration and broker are those of compose.yaml.
# usage: check.sh IMAGE KAFKA_IMAGE MODULE
set -euo pipefail
cd "$(dirname "$0")/.."
image=$1
kafka_image=$2
module=$3
name=pelton-check-$$
records=1000
bad=10
work=$(mktemp -d)

fail() {
  printf 'check: %s\n' "$*" >&2
  docker logs --tail 30 "$name-pelton" >&2 2>/dev/null || true
  exit 1
}

clean() {
  docker rm -f -v "$name-pelton" "$name-kafka" >/dev/null 2>&1 || true
  docker volume rm "$name-cache" >/dev/null 2>&1 || true
  docker network rm "$name" >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean EXIT
# A connection that is reset while the container starts is no reason to end.
trap '' PIPE

# tool NAME ARGS…: one of Kafka's own, in the broker's container.
tool() {
  local tool=$1
  shift
  docker exec -i "$name-kafka" "/opt/kafka/bin/$tool.sh" --bootstrap-server kafka:9092 "$@"
}

# Lines of TOPIC as a read_committed reader sees them: COUNT of them, or as many as come in a minute.
read_topic() {
  tool kafka-console-consumer --topic "$1" --from-beginning --max-messages "$2" --timeout-ms 60000 \
    --isolation-level read_committed 2>/dev/null || true
}

wait_for() {
  local what=$1 tries=$2
  shift 2
  until "$@"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || fail "$what"
    sleep 0.5
  done
}

topics() { tool kafka-topics "$@" >/dev/null 2>&1; }

# ask PATH: does the admin server say 200?
ask() {
  local address port status
  address=$(docker port "$name-pelton" 9640/tcp 2>/dev/null | head -1) || return 1
  port=${address##*:}
  { exec 3<>"/dev/tcp/127.0.0.1/$port"; } 2>/dev/null || return 1
  printf 'GET %s HTTP/1.1\r\nHost: check\r\nConnection: close\r\n\r\n' "$1" 2>/dev/null >&3 || true
  read -r -t 5 _ status _ <&3 2>/dev/null || status=none
  exec 3>&-
  [ "$status" = 200 ]
}

healthy() { [ "$(docker inspect -f '{{.State.Health.Status}}' "$name-pelton")" = healthy ]; }

run_pelton() {
  docker run -d --name "$name-pelton" --network "$name" -p 127.0.0.1::9640 \
    --read-only --cap-drop=ALL --security-opt no-new-privileges --memory 1g --pids-limit 200 \
    -v "$work/etc:/etc/pelton:ro" -v "$work/modules:/modules:ro" -v "$name-cache:/var/cache/pelton" "$image" >/dev/null
}

# Readable by the user of the image, whatever this checkout's umask was.
install -d -m 755 "$work" "$work/etc" "$work/modules" "$work/kafka"
install -m 644 docker/compose/pelton/config.yaml "$work/etc/config.yaml"
install -m 644 docker/compose/kafka/server.properties "$work/kafka/server.properties"
install -m 644 "$module" "$work/modules/redact.wasm"

docker run --rm "$image" --version >"$work/version" || fail "the binary does not run on this base"
docker network create "$name" >/dev/null
docker run -d --name "$name-kafka" --hostname kafka --network "$name" --network-alias kafka \
  -v "$work/kafka:/mnt/shared/config:ro" "$kafka_image" >/dev/null
wait_for "Kafka does not answer" 120 topics --list
for topic in orders orders.clean orders.dlq; do topics --create --topic "$topic" --partitions 4 || fail "cannot create $topic"; done

run_pelton
wait_for "the admin server does not answer" 240 ask /livez
wait_for "Pelton does not become ready" 240 ask /readyz
wait_for "its own health check does not find it" 60 healthy
docker exec "$name-pelton" /usr/local/bin/pelton health >/dev/null || fail "\`pelton health\` does not find it ready"
echo "ready"
{
  for number in $(seq $((records - bad))); do printf '{"id":%d,"card":{"number":"4111111111111111"}}\n' "$number"; done
  for _ in $(seq $bad); do echo 'no JSON'; done
} | tool kafka-console-producer --topic orders >/dev/null

read_topic orders.clean $((records - bad)) >"$work/clean"
read_topic orders.dlq $bad >"$work/dead"
[ "$(grep -c '"id"' "$work/clean")" = $((records - bad)) ] || fail "$(wc -l <"$work/clean") records of $((records - bad)) came through"
[ "$(sort -u "$work/clean" | wc -l)" = $((records - bad)) ] || fail "records were doubled"
! grep -q 4111 "$work/clean" || fail "a card number came through"
[ "$(grep -c 'no JSON' "$work/dead")" = $bad ] || fail "$(wc -l <"$work/dead") dead letters of $bad"
for command in "top --once" "dlq list"; do
  # shellcheck disable=SC2086
  docker exec "$name-pelton" /usr/local/bin/pelton $command >/dev/null || fail "\`pelton $command\` does not find the configuration"
done
echo "$((records - bad)) records came through, $bad are in the dead letters"

# stop WHAT: SIGTERM, as the image says, and an end of its own accord.
stop() {
  docker stop -t 75 "$name-pelton" >/dev/null
  local code
  code=$(docker inspect -f '{{.State.ExitCode}}' "$name-pelton")
  [ "$code" = 0 ] || fail "after SIGTERM it ended with $code"
}
stop
[ "$(docker inspect -f '{{.Config.User}} {{.HostConfig.ReadonlyRootfs}}' "$name-pelton")" = "65532:65532 true" ] || fail "not the user, not read-only"
docker cp "$name-pelton:/var/cache/pelton" - >"$work/cache.tar"
[ "$(tar tf "$work/cache.tar" | wc -l)" -gt 1 ] || fail "no compiled module is on the volume"
echo "SIGTERM: exit 0; the compiled module is on its volume"
