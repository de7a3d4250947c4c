//! What `fuzz/` needs from the inside: arbitrary bytes, treated as what a guest left in its window. For nobody else.

use crate::frame::{self, Rules};
use crate::record::Settled;

const RULES: Rules = Rules { topics: 3, outputs: 8, output_bytes: 1 << 16 };

/// Splits, judges and walks, and looks at whether what was let through keeps the rules.
///
/// # Panics
/// When it does not.
pub fn outcomes(mut window: &[u8]) {
    let all = window.len();
    let mut taken = 0;
    while let Some((kind, bytes)) = frame::split_outcome(&mut window) {
        taken += 4 + bytes.len();
        assert_eq!(taken + window.len(), all, "nothing is skipped or seen twice");
        let Ok(Settled::Emit(outputs)) = frame::judge(kind, bytes, &RULES) else { continue };
        assert!(outputs.len() <= RULES.outputs as usize && bytes.len() <= RULES.output_bytes as usize);
        let (mut count, mut held) = (0, 0);
        for output in outputs.iter() {
            count += 1;
            assert!(output.topic < RULES.topics);
            assert!(output.partition.is_none_or(|partition| partition >= 0));
            assert!(output.timestamp_ms.is_none_or(|timestamp| timestamp >= 0));
            held += output.key.map_or(0, <[u8]>::len) + output.value.map_or(0, <[u8]>::len);
            let mut headers = 0;
            for header in output.headers() {
                headers += 1;
                held += header.key.len() + header.value.map_or(0, <[u8]>::len);
                assert!(!header.key.starts_with(b"__dlq.errors.") && !header.key.starts_with(b"pelton.error."));
            }
            assert_eq!(headers, output.header_count());
        }
        assert_eq!(count, outputs.len());
        assert!(held <= bytes.len(), "no byte is in two fields");
    }
}
