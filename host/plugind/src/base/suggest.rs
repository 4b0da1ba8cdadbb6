//! The known word that was probably meant.

/// Finds the word in `known` that `word` was probably meant to be: one that differs by a typing error, or is longer by
/// whole parts, as `watchdog-sec` is than `watchdog`. None is better than a wrong one.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let distances = known.into_iter().filter_map(|known| Some((distance(word, known)?, known)));
    distances.min_by_key(|(distance, _)| *distance).map(|(_, known)| known)
}

/// The distance of `known` from `word`, unless it is too large.
fn distance(word: &str, known: &str) -> Option<usize> {
    // A third of a word may be wrong; of a short one, one letter.
    let max = (word.chars().count().max(3)) / 3;
    let distance = strsim::osa_distance(word, known);
    if distance <= max {
        return Some(distance);
    }
    let longer = known.strip_prefix(word).is_some_and(|rest| rest.starts_with('-'));
    (longer && !word.is_empty()).then_some(max + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_is_distinguished_from_another_word() {
        let known = ["restart", "restart-sec", "watchdog-sec", "read", "mode", "max"];
        for (word, meant) in [
            ("restrat", Some("restart")),
            ("restart-sec", Some("restart-sec")),
            ("restart_sec", Some("restart-sec")),
            ("watchdog", Some("watchdog-sec")),
            ("raed", Some("read")),
            ("maxx", Some("max")),
            ("colour", None),
            ("dog-sec", None),
            ("sec", None),
            ("m", None),
            ("", None),
        ] {
            assert_eq!(suggest(word, known), meant, "{word}");
        }
    }

    #[test]
    fn the_nearest_of_several_words_is_suggested() {
        assert_eq!(suggest("stdou", ["stdin", "stdout", "stdoux"]), Some("stdout"));
        assert_eq!(suggest("start", ["start-limit", "stary"]), Some("stary"));
    }
}
