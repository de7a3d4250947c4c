#!/bin/sh
# Runs a class of Kafka's, as the script of the same name in apache/kafka does.
cp=$(for jar in /kafka/libs/*.jar; do printf '%s:' "$jar"; done)
exec /jre/bin/java -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp "$cp" "$@"
