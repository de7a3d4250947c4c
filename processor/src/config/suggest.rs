//! "Did you mean …?": the nearest of some names.

/// The name that was probably meant, if one is near enough: few edits, or the same but for case and `-`/`_`/`.`.
pub fn meant<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let written = folded(written);
    let enough = 1 + written.chars().count() / 5;
    let near = names.map(|name| (strsim::damerau_levenshtein(&written, &folded(name)), name));
    near.filter(|(distance, name)| *distance <= enough && *distance < name.chars().count().div_ceil(2).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Without what people mix up: case and the signs between words.
pub fn folded(name: &str) -> String {
    // Names are short: a text that is not cannot be near to one.
    name.chars().take(100).map(|c| if matches!(c, '-' | '.') { '_' } else { c.to_ascii_lowercase() }).collect()
}
