//! Plugins that can be verified, and the mistakes of those that cannot.

use super::*;
use std::fs;

fn found(directory: &Path, file: &str) -> Found {
    let (name, component) = ("x".parse().unwrap(), directory.join(file));
    Found { name, component, manifest: None, drop_ins: Vec::new() }
}

/// A number as WebAssembly writes it.
fn leb(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        bytes.push(if number > 0 { low | 0x80 } else { low });
        if number == 0 {
            return bytes;
        }
    }
}

fn section(id: u8, contents: &[u8]) -> Vec<u8> {
    [&[id][..], &leb(contents.len()), contents].concat()
}

fn component(sections: &[Vec<u8>]) -> Vec<u8> {
    [&b"\0asm\x0d\0\x01\0"[..], &sections.concat()].concat()
}

#[test]
fn components_that_the_validator_recurses_in_are_refused_and_nothing_else_happens() {
    let directory = tempfile::tempdir().unwrap();
    // A module that needs garbage collection, and types that are nested deeply behind it.
    let module =
        section(1, &[&b"\0asm\x01\0\0\0"[..], &section(1, b"\x01\x60\x01\x63\0\0")].concat());
    let nested = [&b"\x01"[..], &b"\x42\x01\x01".repeat(1000), b"\x42\0"].concat();
    let types = component(&[module, section(7, &nested)]);
    // Instances of which each exports the one before.
    let first = b"\x01\0".to_vec();
    let chain = (0..200).map(|nth| [&b"\x01\x01\0\x01a\x05"[..], &leb(nth)].concat());
    let instances = [leb(201), first, chain.flatten().collect()].concat();
    let instances = component(&[section(5, &instances)]);
    for (file, bytes) in [("types.wasm", types), ("instances.wasm", instances)] {
        fs::write(directory.path().join(file), bytes).unwrap();
        let path = directory.path().to_owned();
        let found = found(&path, file);
        // With the stack of a thread of the runtime, on which the daemon does it.
        let verified = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn(|| verify(found, &ComponentLimits::DEFAULT));
        assert!(verified.unwrap().join().unwrap().is_err(), "{file}");
    }
}

#[test]
fn a_limit_below_the_initial_memory_is_a_mistake_at_its_line_or_of_the_default() {
    let directory = tempfile::tempdir().unwrap();
    // 80 MiB and a table of 100,000 elements.
    let component = wat::parse_str(
        "(component
                (core module $m (memory 1280) (table 100000 funcref)
                    (func (export \"r\") (result i32) (i32.const 0)))
                (core instance $i (instantiate $m))
                (func $r (result (result)) (canon lift (core func $i \"r\")))
                (instance $e (export \"run\" (func $r)))
                (export \"wasi:cli/run@0.2.0\" (instance $e)))",
    );
    fs::write(directory.path().join("x.wasm"), component.unwrap()).unwrap();
    let manifest = directory.path().join("x.toml");
    let lines = |text: &str| {
        fs::write(&manifest, text).unwrap();
        let found = Found { manifest: Some(manifest.clone()), ..found(directory.path(), "x.wasm") };
        let rejected = verify(found, &ComponentLimits::DEFAULT).err();
        rejected.map(|rejected| (rejected.lines(), rejected.is_configuration()))
    };
    let (mistakes, configuration) = lines("").unwrap();
    assert!(configuration);
    assert_eq!(mistakes.len(), 1);
    assert!(mistakes[0].ends_with(
            "x.wasm begins with 81M of memory, and limits.instance-memory-max is \"64M\" by default; write \
             instance-memory-max = \"81M\" or more below [limits] in its manifest"
        ));
    let (mistakes, _) =
        lines("[limits]\nmemory-max = \"80M\"\ninstance-memory-max = \"1G\"\n").unwrap();
    assert_eq!(mistakes.len(), 1);
    assert!(mistakes[0].ends_with(
            "x.toml:2:14: limits.memory-max must be at least \"81M\", not \"80M\": each instance of the component \
             begins with that much"
        ));
    assert_eq!(lines("[limits]\ninstance-memory-max = \"81M\"\n"), None);
}

#[test]
fn the_error_names_the_file_the_cause_and_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("x.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let error = verify(found(directory.path(), "x.wasm"), &ComponentLimits::DEFAULT)
        .unwrap_err()
        .lines()
        .join("; ");
    assert!(
        error.contains("x.wasm is a core module") && error.contains("build a component"),
        "{error}"
    );
}
