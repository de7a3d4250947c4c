#!/usr/bin/env bash
# Builds the image pelton-kafka:4.3.1 from nothing that has to be pulled: Kafka's jars from Maven Central, a Java runtime
# that jlink makes of the host's JDK, the host's glibc, and busybox. Reads /mnt/shared/config/server.properties, as
# apache/kafka does. usage: build.sh TARGET_DIR RECIPE (the label by which ./dev sees whether the image is current)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=$1
recipe=$2
libs=$target/kafka-4.3.1
if [ ! "$libs/.complete" -nt "$here/../pom.xml" ]; then
  mkdir -p "$libs"
  mvn -q -B -f "$here/../pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$libs"
  touch "$libs/.complete"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir -p "$root"/{bin,etc,lib64,lib/x86_64-linux-gnu,kafka,mnt/shared/config,tmp,proc,sys,dev}
chmod 1777 "$root/tmp"
cp -r "$libs" "$root/kafka/libs"
jlink=$(command -v jlink || echo "$(dirname "$(readlink -f "$(command -v java)")")/jlink")
modules=java.base,java.logging,java.management,java.management.rmi,java.naming,java.net.http,java.rmi,java.scripting,java.security.jgss,java.security.sasl,java.sql,java.xml,java.desktop,java.instrument,jdk.management,jdk.unsupported,jdk.crypto.ec,jdk.zipfs,jdk.jfr,jdk.net
"$jlink" --add-modules $modules --no-header-files --no-man-pages --strip-debug --output "$root/jre"
cp /bin/busybox "$root/bin/"
for tool in sh cat ls; do ln -s busybox "$root/bin/$tool"; done
cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
for lib in libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libz.so.1 libgcc_s.so.1 libnss_files.so.2 libresolv.so.2; do
  cp -L "/lib/x86_64-linux-gnu/$lib" "$root/lib/x86_64-linux-gnu/"
done
[ ! -e /usr/lib/x86_64-linux-gnu/libstdc++.so.6 ] || cp -L /usr/lib/x86_64-linux-gnu/libstdc++.so.6 "$root/lib/x86_64-linux-gnu/"
printf 'root:x:0:0::/:/bin/sh\n' >"$root/etc/passwd"
printf 'hosts: files\n' >"$root/etc/nsswitch.conf"
cp "$here/start.sh" "$root/start.sh"
# Kafka's command-line tools, where apache/kafka has them.
mkdir -p "$root/opt/kafka/bin"
cp "$here/kafka-run-class.sh" "$root/opt/kafka/bin/"
while read -r script class; do
  printf '#!/bin/sh\nexec /opt/kafka/bin/kafka-run-class.sh %s "$@"\n' "$class" >"$root/opt/kafka/bin/$script.sh"
done <<'TOOLS'
kafka-topics org.apache.kafka.tools.TopicCommand
kafka-console-producer org.apache.kafka.tools.ConsoleProducer
kafka-console-consumer org.apache.kafka.tools.consumer.ConsoleConsumer
kafka-consumer-groups org.apache.kafka.tools.consumer.group.ConsumerGroupCommand
TOOLS
chmod 755 "$root"/opt/kafka/bin/*.sh
cat >"$work/Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY root/ /
ENV PATH=/bin:/jre/bin LANG=C.UTF-8
EXPOSE 9092
ENTRYPOINT ["/start.sh"]
DOCKERFILE
DOCKER_BUILDKIT=0 docker build -q --label "pelton.recipe=$recipe" -t pelton-kafka:4.3.1 "$work"
