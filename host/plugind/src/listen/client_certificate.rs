//! The certificate of a client, as plugins see it: `X-Forwarded-Client-Cert: Hash=…;Subject="…"`, in the form that
//! Envoy gave this field.
//!
//! The certificate was verified before. Its subject is read here, since a library for all of X.509 would be too much
//! for one name.

use ::http::HeaderValue;
use plugind_artifact::hex::hex;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// The longest value of an attribute that is passed on, in bytes. RFC 5280 allows 128 at most for most of them.
const VALUE_MAX: usize = 1024;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const OBJECT_IDENTIFIER: u8 = 0x06;
/// The explicit tag of the version, which may be left out.
const VERSION: u8 = 0xa0;

/// The value of the field for a certificate in DER.
#[must_use]
pub fn field(certificate: &[u8]) -> HeaderValue {
    let mut text = format!("Hash={}", hex(&Sha256::digest(certificate)));
    if let Some(subject) = subject(certificate) {
        text.push_str(";Subject=\"");
        for character in subject.chars() {
            if matches!(character, '"' | '\\') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('"');
    }
    // Bytes beyond ASCII are allowed; control characters were escaped.
    HeaderValue::from_bytes(text.as_bytes()).unwrap_or(HeaderValue::from_static(""))
}

/// Elements of DER, one after the other.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and its contents.
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk::<2>()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            let (bytes, behind) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if bytes.is_empty() || bytes.len() > 4 {
                return None;
            }
            length = bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            rest = behind;
        }
        let (contents, behind) = rest.split_at_checked(length)?;
        self.0 = behind;
        Some((tag, contents))
    }

    /// The contents of the next element, which has this tag.
    fn expect(&mut self, wanted: u8) -> Option<&'a [u8]> {
        self.next().filter(|(tag, _)| *tag == wanted).map(|(_, contents)| contents)
    }
}

/// The subject of a certificate, in the form of RFC 4514: the last part first.
fn subject(certificate: &[u8]) -> Option<String> {
    let mut fields = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    let (tag, _) = fields.next()?;
    if tag == VERSION {
        fields.next()?; // serial number
    }
    for _ in 0..3 {
        fields.next()?; // signature algorithm, issuer, validity
    }
    let mut names = Der(fields.expect(SEQUENCE)?);
    let mut parts = Vec::new();
    while let Some((SET, mut attributes)) = names.next().map(|(tag, part)| (tag, Der(part))) {
        let mut part = String::new();
        while let Some(attribute) = attributes.expect(SEQUENCE) {
            let mut attribute = Der(attribute);
            let (kind, (tag, value)) = (attribute.expect(OBJECT_IDENTIFIER)?, attribute.next()?);
            if !part.is_empty() {
                part.push('+');
            }
            part.push_str(&attribute_name(kind)?);
            part.push('=');
            push_value(&mut part, tag, value.get(..VALUE_MAX.min(value.len()))?);
        }
        parts.push(part);
    }
    parts.reverse();
    Some(parts.join(","))
}

/// The name of an attribute (RFC 4514, 3, and `emailAddress`, which has no name there), or its number.
fn attribute_name(kind: &[u8]) -> Option<String> {
    let name = match kind {
        [0x55, 4, 3] => "CN",
        [0x55, 4, 6] => "C",
        [0x55, 4, 7] => "L",
        [0x55, 4, 8] => "ST",
        [0x55, 4, 9] => "STREET",
        [0x55, 4, 10] => "O",
        [0x55, 4, 11] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 1] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25] => "DC",
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1] => "emailAddress",
        _ => return dotted(kind),
    };
    Some(name.to_owned())
}

fn dotted(kind: &[u8]) -> Option<String> {
    let mut numbers = Vec::new();
    let mut number = 0_u64;
    for byte in kind {
        number = number.checked_mul(128)?.checked_add(u64::from(byte & 0x7f))?;
        if byte & 0x80 == 0 {
            numbers.push(number);
            number = 0;
        }
    }
    let first = *numbers.first()?;
    let root = (first / 40).min(2);
    let mut text = format!("{root}.{}", first - root * 40);
    for number in &numbers[1..] {
        // Writing to a string does not fail.
        write!(text, ".{number}").ok();
    }
    Some(text)
}

/// A value as text. Characters that would end or hide it are escaped (RFC 4514, 2.4).
fn push_value(text: &mut String, tag: u8, value: &[u8]) {
    const UTF8: u8 = 0x0c;
    const PRINTABLE: u8 = 0x13;
    const IA5: u8 = 0x16;
    let Some(value) =
        matches!(tag, UTF8 | PRINTABLE | IA5).then(|| std::str::from_utf8(value).ok()).flatten()
    else {
        text.push('#');
        text.push_str(&hex(value));
        return;
    };
    let last = value.chars().count().saturating_sub(1);
    for (at, character) in value.chars().enumerate() {
        let at_end = at == 0 || at == last;
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => text.extend(['\\', character]),
            '#' if at == 0 => text.push_str("\\#"),
            ' ' if at_end => text.push_str("\\ "),
            _ if character.is_control() => {
                let mut bytes = [0; 4];
                for byte in character.encode_utf8(&mut bytes).bytes() {
                    write!(text, "\\{byte:02x}").ok();
                }
            }
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(tag: u8, contents: &[u8]) -> Vec<u8> {
        let length = u8::try_from(contents.len());
        let length = match length {
            Ok(length) if length < 0x80 => vec![length],
            _ => [&[0x82][..], &u16::try_from(contents.len()).unwrap().to_be_bytes()].concat(),
        };
        [&[tag][..], &length, contents].concat()
    }

    fn attribute(kind: &[u8], tag: u8, value: &str) -> Vec<u8> {
        let pair = [element(OBJECT_IDENTIFIER, kind), element(tag, value.as_bytes())].concat();
        element(SEQUENCE, &pair)
    }

    fn certificate(version: bool, names: &[Vec<u8>]) -> Vec<u8> {
        let names: Vec<u8> = names.iter().flat_map(|name| element(SET, name)).collect();
        let version = if version { element(VERSION, &[2, 1, 2]) } else { Vec::new() };
        let empty = || element(SEQUENCE, &[]);
        let fields = [
            version,
            element(2, &[1]),
            empty(),
            empty(),
            empty(),
            element(SEQUENCE, &names),
            empty(),
        ];
        element(SEQUENCE, &element(SEQUENCE, &fields.concat()))
    }

    const COMMON_NAME: &[u8] = &[0x55, 4, 3];

    #[test]
    fn a_subject_has_its_last_part_first() {
        let names = [
            attribute(&[0x55, 4, 6], 0x13, "DE"),
            attribute(&[0x55, 4, 10], 0x0c, "Müller, Söhne"),
            [attribute(COMMON_NAME, 0x0c, "alice"), attribute(&[0x2a, 3, 0x81, 0], 0x16, "x")]
                .concat(),
        ];
        let expected = "CN=alice+1.2.3.128=x,O=Müller\\, Söhne,C=DE";
        for version in [true, false] {
            assert_eq!(subject(&certificate(version, &names)).as_deref(), Some(expected));
        }
        let long = "a".repeat(300);
        let long = certificate(true, &[attribute(COMMON_NAME, 0x0c, &long)]);
        assert_eq!(subject(&long).unwrap().len(), 303);
    }

    #[test]
    fn a_name_cannot_pass_for_another_or_end_the_field() {
        for (name, shown) in [
            ("alice,CN=root", "CN=alice\\\\,CN=root"),
            ("alice\";Subject=\"CN=root", "CN=alice\\\\\\\"\\\\;Subject=\\\\\\\"CN=root"),
            ("a\r\nb", "CN=a\\\\0d\\\\0ab"),
            (" a ", "CN=\\\\ a\\\\ "),
            ("#a", "CN=\\\\#a"),
        ] {
            let certificate = certificate(true, &[attribute(COMMON_NAME, 0x0c, name)]);
            let field = field(&certificate);
            let text = std::str::from_utf8(field.as_bytes()).unwrap();
            assert_eq!(text.split_once(";Subject=\"").unwrap().1, format!("{shown}\""), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_hash(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let field = field(&bytes);
            prop_assert!(field.as_bytes().starts_with(b"Hash="));
        }
    }
}
