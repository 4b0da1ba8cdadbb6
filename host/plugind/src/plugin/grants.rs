//! `[grants]` of a manifest: what a plugin may do beyond what every plugin may.

use crate::{
    base::{endpoint::Endpoint, name::PluginName, text::is_harmful},
    config::{Origin, Table},
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The longest name of a credential: with what comes before it, it is the name of a file.
const CREDENTIAL_MAX: usize = 128;

/// `[grants]`: what a plugin may do beyond what every plugin may. Nothing, unless it is written down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// Its environment variables.
    pub environment: BTreeMap<String, String>,
    /// Directories that it may read, by the paths that they have on the machine.
    pub read: Vec<PathBuf>,
    /// Whether it has a directory of its own, `/state`.
    pub state: bool,
    /// Credentials that it may read.
    pub credentials: Vec<String>,
    /// Where it may send HTTP requests.
    pub outgoing_http: Vec<Endpoint>,
    /// Where it may connect by TCP.
    pub tcp_connect: Vec<Endpoint>,
    /// Where all that was written.
    pub origins: Origins,
}

/// Where grants were written, for who has something to say of them later.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "one for each key")]
pub struct Origins {
    pub read: Origin,
    pub state: Origin,
    pub credentials: Origin,
    pub outgoing_http: Origin,
    pub tcp_connect: Origin,
}

/// Where a plugin finds the directory of its own.
pub const STATE: &str = "/state";

/// What a grant is for: the imports, of which a component must have one, by the beginnings of their names.
pub(super) const PURPOSES: [(&str, &[&str]); 6] = [
    ("environment", &["wasi:cli/environment@"]),
    ("read", &["wasi:filesystem/preopens@"]),
    ("state", &["wasi:filesystem/preopens@"]),
    ("credentials", &["plugind:plugin/credentials@"]),
    ("outgoing-http", &["wasi:http/client@0.3.", "wasi:http/outgoing-handler@0.2."]),
    ("tcp-connect", &["wasi:sockets/types@0.3.", "wasi:sockets/tcp@0.2."]),
];

/// The grants that a component with these imports can make use of.
#[must_use]
pub fn grants_of_use(imports: &[String]) -> Vec<&'static str> {
    let of_use = |(_, purposes): &(&str, &[&str])| {
        imports.iter().any(|import| purposes.iter().any(|purpose| import.starts_with(purpose)))
    };
    PURPOSES.into_iter().filter(of_use).map(|(grant, _)| grant).collect()
}

/// The name of a credential's file. Two plugins may each have a credential `key`, so the name of the plugin is part of
/// it.
#[must_use]
pub fn credential_file(plugin: &PluginName, key: &str) -> String {
    format!("plugind.{plugin}.{key}")
}

impl Grants {
    pub(super) fn read(table: &Table<'_>, imports: Option<&[String]>) -> Self {
        let grants = Self {
            environment: table.texts("environment"),
            read: table.list("read", check_directory),
            state: table.boolean("state").unwrap_or(false),
            credentials: table.list("credentials", check_credential),
            outgoing_http: table.list("outgoing-http", str::parse),
            tcp_connect: table.list("tcp-connect", str::parse),
            origins: Origins {
                read: table.origin("read"),
                state: table.origin("state"),
                credentials: table.origin("credentials"),
                outgoing_http: table.origin("outgoing-http"),
                tcp_connect: table.origin("tcp-connect"),
            },
        };
        if grants.environment.iter().any(|(name, value)| {
            name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
        }) {
            table.complain_about(
                "environment",
                "grants.environment has names that are not empty and have no \"=\", and nothing in it has a NUL",
            );
        }
        if grants.state && grants.read.iter().any(|path| path == Path::new(STATE)) {
            table.complain_about(
                "read",
                format!("grants.read has {STATE}, which is the plugin's own by grants.state"),
            );
        }
        for (key, purposes) in PURPOSES {
            let serves =
                |import: &String| purposes.iter().any(|purpose| import.starts_with(purpose));
            if grants.has(key) && imports.is_some_and(|imports| !imports.iter().any(serves)) {
                let purposes = purposes.join(" or ");
                let message = format!(
                    "grants.{key} is of no use: the component does not import {purposes}; leave it out"
                );
                table.complain_about(key, message);
            }
        }
        grants
    }

    /// Whether anything is granted by the key.
    fn has(&self, key: &str) -> bool {
        match key {
            "environment" => !self.environment.is_empty(),
            "read" => !self.read.is_empty(),
            "state" => self.state,
            "credentials" => !self.credentials.is_empty(),
            "outgoing-http" => !self.outgoing_http.is_empty(),
            _ => !self.tcp_connect.is_empty(),
        }
    }
}

/// A directory is found under the same path by the plugin, so there must be one way to write it.
fn check_directory(text: &str) -> Result<PathBuf, String> {
    let mut segments = text.strip_prefix('/').unwrap_or("..").split('/');
    let plain = |segment| !matches!(segment, "" | "." | "..");
    if (text != "/" && !segments.all(plain)) || text.contains(is_harmful) {
        let what = "is no directory; write it from the root on and without \".\" and \"..\"";
        return Err(format!("{text:?} {what}, as in \"/usr/share/zoneinfo\""));
    }
    Ok(PathBuf::from(text))
}

/// A credential is a file of this name with `plugind.PLUGIN.` before it.
fn check_credential(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.len() > CREDENTIAL_MAX || !text.chars().all(allowed) {
        return Err(format!(
            "{text:?} is no name of a credential; it has 1 to {CREDENTIAL_MAX} of letters, digits, \"-\", \"_\" and \".\""
        ));
    }
    Ok(text.to_owned())
}
