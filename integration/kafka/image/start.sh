#!/bin/sh
# The image's first process: formats the data directory once, then is the broker.
set -eu
config=/mnt/shared/config/server.properties
cp=$(for jar in /kafka/libs/*.jar; do printf '%s:' "$jar"; done)
java="/jre/bin/java -Xms256m -Xmx1g -XX:+UseSerialGC -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp $cp"
$java kafka.tools.StorageTool format --ignore-formatted -t 4L6g3nShT-eMCtK--X86sw -c $config
exec $java kafka.Kafka $config
