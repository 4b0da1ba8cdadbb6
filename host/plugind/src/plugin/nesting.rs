//! The nesting depth of a component's types, found without recursion.
//!
//! wasmparser reads a type within a type by calling itself, without a bound: a file of some kilobytes could use up the
//! stack, and with it the daemon. So it must read only types whose depth was checked here.

use wasmparser::{
    BinaryReader, BinaryReaderError, ComponentAlias, ComponentExternName, ComponentImport,
    ComponentType, ComponentTypeRef, CoreType,
};

/// The most levels. Interfaces that toolchains write have two or three.
pub(super) const DEPTH_MAX: usize = 100;

/// The first byte of a component's type, and that of an instance's.
const NESTED: [u8; 2] = [0x41, 0x42];

/// Whether the types in a section are nested deeper than [`DEPTH_MAX`]. False for what cannot be read, at which the
/// parser stops and reports it.
pub(super) fn is_too_deep(section: &[u8]) -> bool {
    measure(section).unwrap_or(false)
}

fn measure(section: &[u8]) -> Result<bool, BinaryReaderError> {
    let mut reader = BinaryReader::new(section, 0);
    // Number of types or declarations left, for each level.
    let mut levels = vec![reader.read_var_u32()?];
    while let Some(left) = levels.last_mut() {
        if *left == 0 {
            levels.pop();
            continue;
        }
        *left -= 1;
        // The outermost level has types only; a type has declarations, whose first byte is their kind.
        let declared = if levels.len() > 1 { reader.read_u8()? } else { 0x01 };
        match declared {
            0x00 => drop(reader.read::<CoreType<'_>>()?),
            0x01 => match section.get(reader.original_position()) {
                Some(first) if NESTED.contains(first) => {
                    reader.read_u8()?;
                    levels.push(reader.read_var_u32()?);
                    if levels.len() > DEPTH_MAX {
                        return Ok(true);
                    }
                }
                _ => drop(reader.read::<ComponentType<'_>>()?),
            },
            0x02 => reader.read::<ComponentAlias<'_>>().map(|_| ())?,
            0x03 => reader.read::<ComponentImport<'_>>().map(|_| ())?,
            0x04 => {
                reader.read::<ComponentExternName<'_>>()?;
                reader.read::<ComponentTypeRef>()?;
            }
            _ => return Ok(false),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section with one type: so many instances within each other.
    fn nested(levels: usize) -> Vec<u8> {
        let mut section = vec![1];
        for _ in 1..levels {
            section.extend([0x42, 1, 0x01]);
        }
        section.extend([0x42, 0]);
        section
    }

    #[test]
    fn depth_is_counted_and_an_incomplete_type_is_left_to_the_parser() {
        assert!(!is_too_deep(&nested(DEPTH_MAX - 1)));
        assert!(is_too_deep(&nested(DEPTH_MAX)));
        assert!(is_too_deep(&nested(1_000_000)));
        assert!(!is_too_deep(&nested(50)[..40]));
        assert!(!is_too_deep(&[]));
    }

    #[test]
    fn what_lies_beside_a_nested_type_is_passed_over() {
        // An instance with a function type, an export of it, and an alias of an outer type; behind it, one too deep.
        let mut section = vec![2, 0x42, 3];
        section.extend([0x01, 0x40, 0x00, 0x01, 0x00]);
        section.extend([0x04, 0x00, 0x01, b'f', 0x01, 0x00]);
        section.extend([0x02, 0x03, 0x02, 0x01, 0x00]);
        section.extend(&nested(DEPTH_MAX)[1..]);
        assert!(is_too_deep(&section));
        section.truncate(19);
        section.extend(&nested(3)[1..]);
        assert!(!is_too_deep(&section));
    }
}
