#!/bin/sh
# The image's first process: formats the data directory once, then is the broker.
set -eu
config=/mnt/shared/config/server.properties
cp=$(for jar in /kafka/libs/*.jar; do printf '%s:' "$jar"; done)
# The JVM's settings in Kafka's own start scripts.
shipped="-Xms1g -Xmx1g -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExplicitGCInvokesConcurrent"
java="/jre/bin/java $shipped -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp $cp"
$java kafka.tools.StorageTool format --ignore-formatted -t 4L6g3nShT-eMCtK--X86sw -c $config
exec $java kafka.Kafka $config
