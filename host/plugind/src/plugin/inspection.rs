//! What a component can be used for, by the interfaces that it exports and their types.

use crate::plugin::{
    contents::Contents,
    export_types::ExportError,
    footprint::{Footprint, FootprintError},
    imports::CONTRACT,
    manifest::Mode,
    nesting::DEPTH_MAX,
    proposals::Proposal,
};
use wasmparser::BinaryReaderError;

/// The version of an interface of which there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WasiVersion {
    /// WASI 0.2
    P2,
    /// WASI 0.3
    P3,
}

/// What a component has to offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// It answers HTTP requests. Of two versions the later.
    pub http: Option<WasiVersion>,
    /// It is a program: `wasi:cli/run`. Of two versions the later.
    pub run: Option<WasiVersion>,
    /// It exports `plugind:plugin/lifecycle`.
    pub lifecycle: bool,
    /// It exports `plugind:plugin/handover`: its state goes from one instance to the next, so there is one at a time.
    pub handover: bool,
    /// The names of what it imports.
    pub imports: Vec<String>,
    /// The names of what it exports.
    pub exports: Vec<String>,
    /// What one instance takes from the pool.
    pub footprint: Footprint,
}

/// Why a component cannot be a plugin.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The bytes are something else.
    #[error(
        "is not WebAssembly, which would begin with the bytes \"\\0asm\"; put a component there, as \
         `cargo build --target wasm32-wasip2` makes one"
    )]
    NotWasm,
    /// The bytes are WebAssembly as text.
    #[error("is a component written as text; make it binary with `wasm-tools parse -o FILE.wasm`")]
    Text,
    /// The bytes are damaged.
    #[error("is not a valid WebAssembly component: {0}; build or copy it again")]
    Damaged(String),
    /// It is a core module.
    #[error(
        "is a core module, not a component; build a component, as with `cargo build --target wasm32-wasip2` \
         or `wasm-tools component new`"
    )]
    CoreModule,
    /// It is a core module of the time before components.
    #[error(
        "is a core module for WASI preview 1, not a component; build a component: with `--target wasm32-wasip2`, or from \
         what there is with `wasm-tools component new --adapt`"
    )]
    PreviewOne,
    /// There is nothing in it.
    #[error(
        "is empty: it is still being written, or the disk is full; write it under another name, such as one \
         that begins with a dot, and rename it (a link to /dev/null masks a plugin)"
    )]
    Empty,
    /// It ends before it should.
    #[error(
        "ends too early, at byte {0}: it was cut off or is still being written; write it under another \
         name, such as one that begins with a dot, and rename it"
    )]
    CutOff(usize),
    /// Its types are nested beyond any use.
    #[error(
        "has types nested more than {DEPTH_MAX} deep, which no toolchain writes; build it again, or do not trust it"
    )]
    TooDeep,
    /// It imports what the host does not have.
    #[error("imports {}", .0.join("; it imports "))]
    Imports(Vec<String>),
    /// It is made for another version of the contract.
    #[error(
        "is built for {0}, and this host supports plugind:plugin@{CONTRACT}; rebuild it against the host's wit/"
    )]
    OtherContract(String),
    /// It has an interface of this contract that this host does not know.
    #[error(
        "exports {0}, which this host does not know; use a newer plugind, or remove the export"
    )]
    LaterInterface(String),
    /// It is a background program with a state to hand over.
    #[error(
        "exports {0}, which a background program cannot use; remove the export, or export a handler of requests as well"
    )]
    ProgramHandsOver(String),
    /// It needs a WebAssembly proposal that the engine does not have.
    #[error("needs the WebAssembly proposal {name}, which this host does not support; {remedy}", name = .0.name, remedy = .0.remedy)]
    Proposal(&'static Proposal),
    /// The host cannot call what it exports.
    #[error("exports {0}; build it against the WIT of that version")]
    Export(#[from] ExportError),
    /// There is no room for an instance of it.
    #[error("has {0}")]
    Footprint(#[from] FootprintError),
    /// It exports nothing that the host has a use for.
    #[error(
        "exports nothing that plugind can use (it exports {0}); export wasi:http/handler@0.3, \
         wasi:http/incoming-handler@0.2, wasi:cli/run or plugind:plugin/lifecycle@{CONTRACT}"
    )]
    Nothing(String),
}

impl InspectError {
    /// Why `bytes` cannot be read as a component.
    pub(super) fn unreadable(bytes: &[u8], error: &BinaryReaderError) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        if bytes.trim_ascii_start().starts_with(b"(component") || bytes.starts_with(b"(module") {
            return Self::Text;
        }
        if !bytes.starts_with(b"\0asm") {
            return Self::NotWasm;
        }
        // Further lines show bytes, which is of no use to anybody.
        let message = error.message().lines().next().unwrap_or_default();
        match message.contains("unexpected end") {
            true => Self::CutOff(bytes.len()),
            false => Self::Damaged(format!("{message} at byte {}", error.offset())),
        }
    }
}

impl Inspection {
    /// Validates the component in `bytes`, and looks at what it imports, exports and instantiates.
    ///
    /// # Errors
    /// When it cannot be a plugin.
    pub fn of(bytes: &[u8]) -> Result<Self, InspectError> {
        let Contents { imports, missing, exports, footprint } = Contents::read(bytes)?;
        let mut offers = Self { imports, exports, footprint, ..Self::default() };
        let ours = |name: &str, interface: &str| {
            let rest =
                name.strip_prefix("plugind:plugin/").and_then(|rest| rest.strip_prefix(interface));
            rest.is_some_and(|rest| rest.starts_with(&format!("@{CONTRACT}.")))
        };
        let mut handover = None;
        for name in &offers.exports {
            if name.starts_with("wasi:http/handler@0.3.") {
                offers.http = Some(WasiVersion::P3);
            } else if name.starts_with("wasi:http/incoming-handler@0.2.") {
                offers.http = offers.http.or(Some(WasiVersion::P2));
            } else if name.starts_with("wasi:cli/run@0.3.") {
                offers.run = Some(WasiVersion::P3);
            } else if name.starts_with("wasi:cli/run@0.2.") {
                offers.run = offers.run.or(Some(WasiVersion::P2));
            } else if ours(name, "lifecycle") {
                offers.lifecycle = true;
            } else if ours(name, "handover") {
                handover = Some(name.clone());
            } else if name.starts_with("plugind:plugin/") && name.contains(&format!("@{CONTRACT}."))
            {
                return Err(InspectError::LaterInterface(name.clone()));
            } else if name.starts_with("plugind:plugin/") {
                return Err(InspectError::OtherContract(name.clone()));
            }
        }
        if offers.http.is_none() && offers.run.is_none() && !offers.lifecycle {
            let exports = match offers.exports.as_slice() {
                [] => "nothing at all".to_owned(),
                exports => exports.join(", "),
            };
            return Err(InspectError::Nothing(exports));
        }
        offers.handover = handover.is_some();
        if let Some(name) = handover.filter(|_| offers.is_program()) {
            return Err(InspectError::ProgramHandsOver(name));
        }
        if !missing.is_empty() {
            return Err(InspectError::Imports(missing));
        }
        Ok(offers)
    }

    /// Whether it is a background program. What answers requests is none, also where its toolchain makes it one as well.
    #[must_use]
    pub fn is_program(&self) -> bool {
        self.http.is_none() && self.run.is_some()
    }

    /// What its instances are used for, if its manifest asks for nothing else.
    #[must_use]
    pub fn mode(&self) -> Mode {
        match self.http {
            // It keeps something from one request to the next, so it is made for more than one.
            Some(WasiVersion::P2) if self.handover => Mode::Exclusive,
            // Many guests of 0.2 are made for one request, and break when they get another one.
            Some(WasiVersion::P2) => Mode::Fresh,
            Some(WasiVersion::P3) | None => Mode::Shared,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_file_that_is_not_a_component_is_distinguished() {
        assert!(matches!(Inspection::of(b""), Err(InspectError::Empty)));
        assert!(matches!(Inspection::of(b"#!/bin/sh"), Err(InspectError::NotWasm)));
        assert!(matches!(Inspection::of(b"\n(component)"), Err(InspectError::Text)));
        assert!(matches!(
            Inspection::of(b"\0asm\x0d\0\x01\0\x07\xff"),
            Err(InspectError::CutOff(10))
        ));
        assert!(matches!(Inspection::of(b"\0asm\x01\0\0\0"), Err(InspectError::CoreModule)));
        assert!(matches!(Inspection::of(b"\0asm\x0d\0\x01\0"), Err(InspectError::Nothing(_))));
        assert!(matches!(Inspection::of(b"\0asm\x0d\0\x02\0"), Err(InspectError::Damaged(_))));
    }
}
