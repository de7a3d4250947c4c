import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.util.Locale;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeHint;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.core.execution.CheckpointingMode;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;

/** Flink BOOTSTRAP INPUT OUTPUT GROUP identity|order: until SIGTERM. */
public final class Flink {
    private static final ObjectMapper MAPPER = new ObjectMapper();
    private static final TypeInformation<Tuple2<byte[], byte[]>> PAIR = TypeInformation.of(new TypeHint<>() {});

    public static void main(String[] args) throws Exception {
        StreamExecutionEnvironment environment = StreamExecutionEnvironment.createLocalEnvironment(1);
        environment.enableCheckpointing(1_000, CheckpointingMode.EXACTLY_ONCE);
        // Records stay as they are from source to sink; without this each is copied between operators.
        environment.getConfig().enableObjectReuse();
        DataStream<Tuple2<byte[], byte[]>> records =
            environment.fromSource(source(args[0], args[1], args[3]), WatermarkStrategy.noWatermarks(), "input");
        if (args[4].equals("order")) {
            records = records.flatMap(Flink::order).returns(PAIR);
        }
        records.sinkTo(sink(args[0], args[2], args[3]));
        environment.execute(args[3]);
    }

    private static KafkaSource<Tuple2<byte[], byte[]>> source(String bootstrap, String topic, String group) {
        return KafkaSource.<Tuple2<byte[], byte[]>>builder()
            .setBootstrapServers(bootstrap)
            .setTopics(topic)
            .setGroupId(group)
            .setStartingOffsets(OffsetsInitializer.earliest())
            .setProperty("isolation.level", "read_committed")
            .setProperty("commit.offsets.on.checkpoint", "true")
            .setDeserializer(new Reader())
            .build();
    }

    private static KafkaSink<Tuple2<byte[], byte[]>> sink(String bootstrap, String topic, String group) {
        return KafkaSink.<Tuple2<byte[], byte[]>>builder()
            .setBootstrapServers(bootstrap)
            .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE)
            .setTransactionalIdPrefix(group)
            // Its default of an hour is more than brokers allow.
            .setProperty("transaction.timeout.ms", "60000")
            .setRecordSerializer(new Writer(topic))
            .build();
    }

    /** As Work::Order in bench/work. */
    private static void order(Tuple2<byte[], byte[]> record, Collector<Tuple2<byte[], byte[]>> out) throws IOException {
        ObjectNode order = (ObjectNode) MAPPER.readTree(record.f1);
        double amount = order.get("amount").asDouble();
        if (amount < 0) {
            return;
        }
        order.put("user", order.get("user").asText().toUpperCase(Locale.ROOT));
        order.put("cents", Math.round(amount * 100));
        record.f1 = MAPPER.writeValueAsBytes(order);
        out.collect(record);
    }

    private static final class Reader implements KafkaRecordDeserializationSchema<Tuple2<byte[], byte[]>> {
        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<Tuple2<byte[], byte[]>> out) {
            out.collect(Tuple2.of(record.key(), record.value()));
        }

        @Override
        public TypeInformation<Tuple2<byte[], byte[]>> getProducedType() {
            return PAIR;
        }
    }

    private static final class Writer implements KafkaRecordSerializationSchema<Tuple2<byte[], byte[]>> {
        private final String topic;

        Writer(String topic) {
            this.topic = topic;
        }

        @Override
        public ProducerRecord<byte[], byte[]> serialize(Tuple2<byte[], byte[]> record, KafkaSinkContext context, Long time) {
            return new ProducerRecord<>(topic, null, time, record.f0, record.f1);
        }
    }
}
