//! The known word that somebody probably meant.

/// How different a word may be from a known one to be taken for a slip of the pen.
const SIMILAR: f64 = 0.7;

/// Of the words `known` the one most like `word`, if any is like it.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let alike = known.into_iter().map(|known| (strsim::jaro_winkler(known, word), known));
    let similar = alike.filter(|(similarity, _)| *similarity >= SIMILAR);
    similar.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_pen_is_told_from_another_word() {
        let known = ["restart", "restart-sec", "watchdog-sec"];
        assert_eq!(nearest("restrat", known), Some("restart"));
        assert_eq!(nearest("watchdog", known), Some("watchdog-sec"));
        assert_eq!(nearest("colour", known), None);
    }
}
