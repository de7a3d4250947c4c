import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Locale;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.Produced;

/** Streams BOOTSTRAP INPUT OUTPUT GROUP identity|order [stock|tuned]: until SIGTERM; its state goes to the current directory. */
public final class Streams {
    private static final ObjectMapper MAPPER = new ObjectMapper();

    public static void main(String[] args) {
        StreamsBuilder builder = new StreamsBuilder();
        KStream<byte[], byte[]> records = builder.stream(args[1], Consumed.with(Serdes.ByteArray(), Serdes.ByteArray()));
        if (args[4].equals("order")) {
            records = records.mapValues(Streams::order).filter((key, value) -> value != null);
        }
        records.to(args[2], Produced.with(Serdes.ByteArray(), Serdes.ByteArray()));
        boolean tuned = args.length > 5 && args[5].equals("tuned");
        KafkaStreams streams = new KafkaStreams(builder.build(), settings(args[0], args[3], tuned));
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();
    }

    private static Properties settings(String bootstrap, String group, boolean tuned) {
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, group);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, "state");
        if (tuned) {
            settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 10_000);
            settings.put(StreamsConfig.producerPrefix(ProducerConfig.LINGER_MS_CONFIG), 20);
            settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 1_000_000);
            settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128L << 20);
            settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 10_000);
            settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
        }
        return settings;
    }

    /** As Work::Order in bench/work: null drops the record. */
    private static byte[] order(byte[] value) {
        try {
            ObjectNode order = (ObjectNode) MAPPER.readTree(value);
            double amount = order.get("amount").asDouble();
            if (amount < 0) {
                return null;
            }
            order.put("user", order.get("user").asText().toUpperCase(Locale.ROOT));
            order.put("cents", Math.round(amount * 100));
            return MAPPER.writeValueAsBytes(order);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
