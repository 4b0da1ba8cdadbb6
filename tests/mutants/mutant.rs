//! Mutants: components that differ from a good one in some places, and components that are made up.

use arbitrary::Unstructured;
use plugind_tests::Random;
use std::ops::Range;
use wasm_mutate::WasmMutate;
use wasm_smith::{Component, Config};

/// The length of the preamble: magic, version and layer.
const PREAMBLE: usize = 8;
/// The section of a component that is a core module.
const CORE_MODULE: u8 = 1;
/// The work that one mutation of a core module may take.
const FUEL: u64 = 1000;
/// The most mutations of one mutant.
const MUTATIONS_MAX: usize = 4;
/// The random bytes that a component is made of.
const SEED_BYTES: usize = 4096;

/// The origin of a mutant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Bytes of the file were changed.
    Bytes,
    /// A core module was changed to another valid one.
    CoreModule,
    /// It was made up.
    MadeUp,
}

/// A component for the daemon.
pub(crate) struct Mutant {
    pub(crate) way: Way,
    pub(crate) component: Vec<u8>,
}

impl Mutant {
    /// A mutant of this component.
    pub(crate) fn of(good: &[u8], random: &mut Random) -> Self {
        let way = random.one_of(&[Way::Bytes, Way::CoreModule, Way::CoreModule, Way::MadeUp]);
        let component = match way {
            Way::Bytes => change_bytes(good.to_vec(), random),
            Way::CoreModule => change_core_module(good.to_vec(), random),
            Way::MadeUp => make_up(random),
        };
        Self { way, component }
    }
}

/// Changes, removes, repeats or cuts off bytes.
fn change_bytes(mut component: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(MUTATIONS_MAX) {
        let start = random.below(component.len());
        let end = component.len().min(start + 1 + random.below(64));
        match random.below(5) {
            0 => component[start] ^= 1 << random.below(8),
            1 => component[start] = u8::try_from(random.below(256)).expect("it is below 256"),
            2 => drop(component.drain(start..end)),
            3 => {
                let repeated = component[start..end].to_vec();
                drop(component.splice(start..start, repeated));
            }
            _ => component.truncate(start.max(1)),
        }
        if component.is_empty() {
            break;
        }
    }
    component
}

/// Changes core modules, so that each is valid and does something else.
fn change_core_module(mut component: Vec<u8>, random: &mut Random) -> Vec<u8> {
    for _ in 0..=random.below(MUTATIONS_MAX) {
        let modules: Vec<_> =
            sections(&component).into_iter().filter(|section| section.id == CORE_MODULE).collect();
        let section = &modules[random.below(modules.len())];
        let module = component[section.contents.clone()].to_vec();
        let mut mutate = WasmMutate::default();
        mutate.seed(random.below(1 << 30) as u64).fuel(FUEL).preserve_semantics(false);
        // It finds no mutation of some modules with some seeds.
        let mutated = mutate.run(&module).ok().and_then(|mut all| all.next()?.ok());
        if let Some(mutated) = mutated {
            let mut replacement = vec![CORE_MODULE];
            write_length(&mut replacement, mutated.len());
            replacement.extend(mutated);
            drop(component.splice(section.whole.clone(), replacement));
        }
    }
    component
}

/// A component of any types, imports, exports and modules.
fn make_up(random: &mut Random) -> Vec<u8> {
    loop {
        let bytes: Vec<u8> = (0..SEED_BYTES)
            .map(|_| u8::try_from(random.below(256)).expect("it is below 256"))
            .collect();
        let mut unstructured = Unstructured::new(&bytes);
        if let Ok(component) = Component::new(Config::default(), &mut unstructured) {
            return component.to_bytes();
        }
    }
}

/// A section of a component.
struct Section {
    id: u8,
    /// With its id and its length.
    whole: Range<usize>,
    contents: Range<usize>,
}

fn sections(component: &[u8]) -> Vec<Section> {
    let (mut sections, mut start) = (Vec::new(), PREAMBLE);
    while start < component.len() {
        let (length, from) = read_length(component, start + 1);
        let contents = from..from + length;
        sections.push(Section { id: component[start], whole: start..contents.end, contents });
        start = from + length;
    }
    sections
}

/// Reads a number in LEB128. Returns it, and where it ends.
fn read_length(bytes: &[u8], from: usize) -> (usize, usize) {
    let mut length = 0;
    for (nth, byte) in bytes[from..].iter().enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * nth);
        if byte & 0x80 == 0 {
            return (length, from + nth + 1);
        }
    }
    panic!("a section ends with its length");
}

fn write_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        bytes.push(u8::try_from(length & 0x7f).expect("it has 7 bits") | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).expect("it has 7 bits"));
}
