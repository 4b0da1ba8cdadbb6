//! Components that were built against a release candidate of WASI whose types are those of the release.

use plugind_artifact::candidate::place_of_difference;
use wasmparser::{Parser, Payload};

/// Changes the names of the candidate's interfaces to those of the release, among the imports and exports of the
/// outermost component. Names further inside refer to each other.
pub(crate) fn release(component: &mut [u8]) {
    let (mut places, mut depth) = (Vec::new(), 0_usize);
    let start = component.as_ptr().addr();
    let mut note = |name: &str| {
        let place = place_of_difference(name);
        places.extend(place.map(|place| name.as_ptr().addr() - start + place));
    };
    // A malformed component is for the compiler to refuse.
    for payload in Parser::new(0).parse_all(component).map_while(Result::ok) {
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(imports) if depth == 0 => {
                imports.into_iter().flatten().for_each(|import| note(import.name.name));
            }
            Payload::ComponentExportSection(exports) if depth == 0 => {
                exports.into_iter().flatten().for_each(|export| note(export.name.name));
            }
            _ => (),
        }
    }
    for place in places {
        if let Some(byte) = component.get_mut(place) {
            *byte = b'+';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component that imports an instance without exports by this name, twice: in a component inside it as well.
    fn component(name: &str) -> Vec<u8> {
        let head = b"\0asm\x0d\0\x01\0";
        let length = u8::try_from(name.len()).unwrap();
        let section = |id: u8, contents: &[u8]| {
            [&[id, u8::try_from(contents.len()).unwrap()], contents].concat()
        };
        let types = section(7, &[1, 0x42, 0]);
        let import = section(10, &[&[1, 0, length], name.as_bytes(), &[5, 0]].concat());
        let inner = [head.as_slice(), &types, &import].concat();
        [head.as_slice(), &section(4, &inner), &types, &import].concat()
    }

    #[test]
    fn only_the_names_of_the_candidate_are_changed_and_only_outermost() {
        let candidate = "wasi:http/types@0.3.0-rc-2026-03-15";
        let mut changed = component(candidate);
        release(&mut changed);
        let mut expected = component(candidate);
        let last = expected.windows(candidate.len()).rposition(|it| it == candidate.as_bytes());
        expected[last.unwrap() + "wasi:http/types@0.3.0".len()] = b'+';
        assert_eq!(changed, expected);
        for name in ["wasi:http/types@0.3.0", "wasi:http/types@0.3.0-rc-2025-09-16"] {
            let mut same = component(name);
            release(&mut same);
            assert_eq!(same, component(name));
        }
        let mut malformed = b"\0asm\x0d\0\x01\0\x0a\xff".to_vec();
        release(&mut malformed);
        assert_eq!(malformed, b"\0asm\x0d\0\x01\0\x0a\xff");
    }
}
