//! Kafka's default partitioner for keyed records: murmur2 with Java's seed, made positive as Java does it. Records that
//! a Java producer and Pelton write with the same key must end up in the same partition, so the vectors below come from
//! Kafka's own `UtilsTest`.

/// Murmur2 (32 bit, Kafka's seed) of `data`.
pub fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (i, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of a keyed record among `partitions`, which must be positive.
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    ((murmur2(key) & 0x7fff_ffff) % partitions as u32) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_as_kafkas_java_client_does() {
        // org.apache.kafka.common.utils.UtilsTest#testMurmur2
        for (key, hash) in [
            ("21", -973932308_i32),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn the_partition_is_in_range_for_negative_hashes_and_empty_keys() {
        for key in ["", "21", "foobar", "abc"] {
            for partitions in [1, 2, 6, 7, 1000] {
                let p = partition_for_key(key.as_bytes(), partitions);
                assert!((0..partitions).contains(&p), "{key} {partitions} {p}");
            }
        }
        // toPositive(-973932308) % 6, by hand: (-973932308 & 0x7fffffff) = 1173551340
        assert_eq!(partition_for_key(b"21", 6), 1173551340 % 6);
    }
}
