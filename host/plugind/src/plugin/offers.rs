//! What a component exports, read off its names: what it can be used for.

use wasmparser::{Encoding, Parser, Payload};

/// The versions of `plugind:plugin` that this host speaks.
pub const CONTRACT: &str = "0.1";

/// The version of an interface of which there are two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preview {
    /// WASI 0.2
    P2,
    /// WASI 0.3
    P3,
}

/// What a component has to offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offers {
    /// It answers HTTP requests. Of two versions the later.
    pub http: Option<Preview>,
    /// It is a program: `wasi:cli/run`. Of two versions the later.
    pub run: Option<Preview>,
    /// It exports `plugind:plugin/lifecycle`.
    pub lifecycle: bool,
    /// The names of what it imports.
    pub imports: Vec<String>,
    /// The names of what it exports.
    pub exports: Vec<String>,
}

/// Why a component cannot be a plugin.
#[derive(Debug, thiserror::Error)]
pub enum OffersError {
    /// The bytes are no WebAssembly.
    #[error("is not a WebAssembly component: {0}")]
    NotWasm(String),
    /// It is a core module.
    #[error(
        "is a core module, not a component; build a component, as with `cargo build --target wasm32-wasip2` \
         or `wasm-tools component new`"
    )]
    CoreModule,
    /// It is made for another version of the contract.
    #[error(
        "is made for {0}, and this host speaks plugind:plugin@{CONTRACT}; rebuild it against the host's wit/"
    )]
    OtherContract(String),
    /// It has an interface of this contract that this host does not know.
    #[error("exports {0}, which this host does not know; use a newer plugind, or leave it out")]
    LaterInterface(String),
    /// It exports nothing that the host has a use for.
    #[error(
        "exports nothing that plugind can use (it exports {0}); export wasi:http/handler@0.3, \
         wasi:http/incoming-handler@0.2, wasi:cli/run or plugind:plugin/lifecycle@{CONTRACT}"
    )]
    Nothing(String),
}

impl Offers {
    /// Reads them off the component in `bytes`, of which only the outermost names are looked at.
    ///
    /// # Errors
    /// When it cannot be a plugin.
    pub fn of(bytes: &[u8]) -> Result<Self, OffersError> {
        let mut offers = Self::default();
        offers.collect_names(bytes)?;
        let contract = format!("plugind:plugin/lifecycle@{CONTRACT}.");
        for name in &offers.exports {
            if name.starts_with("wasi:http/handler@0.3.") {
                offers.http = Some(Preview::P3);
            } else if name.starts_with("wasi:http/incoming-handler@0.2.") {
                offers.http = offers.http.or(Some(Preview::P2));
            } else if name.starts_with("wasi:cli/run@0.3.") {
                offers.run = Some(Preview::P3);
            } else if name.starts_with("wasi:cli/run@0.2.") {
                offers.run = offers.run.or(Some(Preview::P2));
            } else if name.starts_with(&contract) {
                offers.lifecycle = true;
            } else if name.starts_with("plugind:plugin/") && name.contains(&format!("@{CONTRACT}."))
            {
                return Err(OffersError::LaterInterface(name.clone()));
            } else if name.starts_with("plugind:plugin/") {
                return Err(OffersError::OtherContract(name.clone()));
            }
        }
        if offers.http.is_none() && offers.run.is_none() && !offers.lifecycle {
            let exports = match offers.exports.as_slice() {
                [] => "nothing at all".to_owned(),
                exports => exports.join(", "),
            };
            return Err(OffersError::Nothing(exports));
        }
        Ok(offers)
    }

    fn collect_names(&mut self, bytes: &[u8]) -> Result<(), OffersError> {
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(bytes) {
            let wrong = |error: wasmparser::BinaryReaderError| {
                // Further lines show bytes, which is of no use to anybody.
                let message = error.message().lines().next().unwrap_or_default();
                OffersError::NotWasm(format!("{message} at byte {}", error.offset()))
            };
            match payload.map_err(wrong)? {
                Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                    return Err(OffersError::CoreModule);
                }
                Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(imports) if depth == 0 => {
                    for import in imports {
                        self.imports.push(import.map_err(wrong)?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(exports) if depth == 0 => {
                    for export in exports {
                        self.exports.push(export.map_err(wrong)?.name.name.to_owned());
                    }
                }
                _ => (),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_component_is_told_apart() {
        assert!(matches!(Offers::of(b""), Err(OffersError::NotWasm(_))));
        assert!(matches!(Offers::of(b"#!/bin/sh"), Err(OffersError::NotWasm(_))));
        assert!(matches!(Offers::of(b"\0asm\x01\0\0\0"), Err(OffersError::CoreModule)));
        assert!(matches!(Offers::of(b"\0asm\x0d\0\x01\0"), Err(OffersError::Nothing(_))));
        assert!(matches!(Offers::of(b"\0asm\x0d\0\x01\0\x0b"), Err(OffersError::NotWasm(_))));
    }
}
