//! Why a component cannot be a plugin: the ends of sentences that begin with its path.

use crate::plugin::{
    export_types::ExportError, footprint::FootprintError, interfaces::CONTRACT, nesting::DEPTH_MAX,
    proposals::Proposal,
};
use std::path::Path;
use wasmparser::BinaryReaderError;

/// Why a component cannot be a plugin.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The bytes are something else.
    #[error(
        "is not WebAssembly, which begins with the bytes \"\\0asm\"; put a component there, such as \
         the output of `cargo build --target wasm32-wasip2`"
    )]
    NotWasm,
    /// The bytes are WebAssembly as text.
    #[error("is WebAssembly written as text; make it binary with `wasm-tools parse -o FILE.wasm`")]
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
        "is a core module for WASI preview 1, not a component; build a component with `--target wasm32-wasip2`"
    )]
    PreviewOne {
        /// It exports `_start`, which makes it a program.
        is_program: bool,
    },
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
        "has types nested more than {DEPTH_MAX} deep, which no toolchain produces; build it again, or do not trust it"
    )]
    TooDeep,
    /// It imports what the host does not have, or exports a version that the host does not call.
    #[error("{}", .0.join("; it "))]
    Interfaces(Vec<String>),
    /// It is made for another version of the contract.
    #[error(
        "is built for {0}, and this host supports plugind:plugin@{CONTRACT}; rebuild it against the WIT files of \
         plugind, as in /usr/share/plugind/wit"
    )]
    OtherContract(String),
    /// It has an interface of this contract that this host does not know.
    #[error(
        "exports {0}, which this host does not know; use a newer plugind, or remove the export"
    )]
    LaterInterface(String),
    /// It is a background program with a state to hand over.
    #[error(
        "exports {0}, which a background program cannot use; remove the export, or export a request handler as well"
    )]
    ProgramHandsOver(String),
    /// It needs a WebAssembly proposal that the engine does not have.
    #[error("needs the WebAssembly proposal {}, which {}; {}", .0.name, .0.why, .0.remedy)]
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
         wasi:http/incoming-handler@0.2, wasi:messaging/incoming-handler@0.2.0-draft, wasi:cli/run, or connection-handler, datagram-handler, \
         websocket-handler or lifecycle of plugind:plugin@{CONTRACT}"
    )]
    NoEntryPoint(String),
}

impl InspectError {
    /// The rest of the message about the component at `path`: a command that makes a component of it.
    pub(super) fn command(&self, path: &Path) -> String {
        let Self::PreviewOne { is_program } = self else { return String::new() };
        let kind = if *is_program { "command" } else { "reactor" };
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        let (module, component) = (shell_word(&path.to_string_lossy()), shell_word(&name));
        format!(
            ", or make one of the module with `npx @bytecodealliance/jco new {module} --wasi-{kind} -o {component}`"
        )
    }

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
        // Further lines show bytes, which help nobody.
        let message = error.message().lines().next().unwrap_or_default();
        match message.contains("unexpected end") {
            true => Self::CutOff(bytes.len()),
            false => Self::Damaged(format!("{message} at byte {}", error.offset())),
        }
    }
}

/// A word of a command, quoted where the shell would take it for something else.
fn shell_word(word: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:,@%".contains(c);
    match word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_for_a_module_has_its_path_and_its_name_as_words_of_a_shell() {
        for (path, words) in [
            ("/etc/plugind/plugins/old.wasm", ["/etc/plugind/plugins/old.wasm", "old.wasm"]),
            ("my plugins/it's.wasm", [r"'my plugins/it'\''s.wasm'", r"'it'\''s.wasm'"]),
        ] {
            for (is_program, kind) in [(true, "command"), (false, "reactor")] {
                let command = InspectError::PreviewOne { is_program }.command(Path::new(path));
                let [module, component] = words;
                let wanted = format!("jco new {module} --wasi-{kind} -o {component}`");
                assert!(command.ends_with(&wanted), "{command}");
            }
        }
        assert_eq!(InspectError::CoreModule.command(Path::new("x.wasm")), "");
    }
}
