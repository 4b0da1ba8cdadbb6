//! The release candidate of WASI 0.3 whose types are those of the release.
//!
//! Toolchains built components against it. The compiler changes one byte of each of its names, so that the runtime takes
//! it for the release.

/// The version in the names of its interfaces. The types were compared, for each interface.
pub const CANDIDATE: &str = "0.3.0-rc-2026-03-15";
/// The version that it is served as: the same name, with what Semantic Versioning calls build metadata.
pub const RELEASED: &str = "0.3.0+rc-2026-03-15";

/// The place in the name of an import or an export where the compiler writes a `+`, if it is of the candidate.
#[must_use]
pub fn place_of_difference(name: &str) -> Option<usize> {
    let (interface, version) = name.split_once('@')?;
    let is_candidate = interface.starts_with("wasi:") && version == CANDIDATE;
    is_candidate.then(|| interface.len() + "@0.3.0".len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_makes_the_candidate_the_release_and_nothing_else_is_changed() {
        let mut name = format!("wasi:http/types@{CANDIDATE}").into_bytes();
        let place = place_of_difference(std::str::from_utf8(&name).unwrap()).unwrap();
        name[place] = b'+';
        assert_eq!(name, format!("wasi:http/types@{RELEASED}").into_bytes());
        for other in [
            "wasi:http/types@0.3.0",
            "wasi:http/types@0.3.0-rc-2025-09-16",
            "acme:http/types@0.3.0-rc-2026-03-15",
            "wasi:http/types",
            "",
        ] {
            assert_eq!(place_of_difference(other), None, "{other}");
        }
    }
}
