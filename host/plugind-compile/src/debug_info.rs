//! The debug information of a component, which the daemon reads after a trap: for each function of a backtrace, on a core
//! that other plugins need. So it is kept only if it is not too long.

use wasmparser::{Parser, Payload};

/// A component with more bytes of debug information than this keeps none of it.
const DEBUG_INFO_MAX: usize = 8 << 20;

/// Renames the sections with debug information, so that the compiler finds none, where there is too much of it.
pub(crate) fn hide_if_long(component: &mut [u8]) {
    hide_beyond(component, DEBUG_INFO_MAX);
}

fn hide_beyond(component: &mut [u8], max: usize) {
    let (mut length, mut names) = (0_usize, Vec::new());
    // A malformed component is for the compiler to refuse.
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        if let Payload::CustomSection(section) = payload
            && section.name().starts_with(".debug_")
        {
            length = length.saturating_add(section.data().len());
            names.push(section.data_offset() - section.name().len());
        }
    }
    if length > max {
        for name in names {
            if let Some(first) = component.get_mut(name) {
                *first = b'-';
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core module with a section of this name.
    fn module(name: &[u8]) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        module.extend([
            0,
            u8::try_from(name.len() + 4).unwrap(),
            u8::try_from(name.len()).unwrap(),
        ]);
        module.extend(name);
        module.extend([1, 2, 3]);
        module
    }

    #[test]
    fn only_debug_information_is_renamed_and_only_if_it_is_too_long() {
        for (name, max, renamed) in [
            (".debug_line", 3, ".debug_line"),
            (".debug_line", 2, "-debug_line"),
            ("name", 0, "name"),
        ] {
            let mut component = module(name.as_bytes());
            hide_beyond(&mut component, max);
            assert_eq!(component, module(renamed.as_bytes()), "{name} {max}");
        }
        let mut malformed = b"\0asm\x01\0\0\0\0\xff".to_vec();
        hide_beyond(&mut malformed, 0);
        assert_eq!(malformed, b"\0asm\x01\0\0\0\0\xff");
    }
}
