//! `[grants]` of a manifest: what a plugin may do beyond what every plugin may. One file a key.

pub mod call;
mod credentials;
mod environment;
pub mod keyvalue;
mod outgoing_http;
mod publish;
mod read;
pub mod state;
mod tcp_connect;
pub mod unit_need;

use crate::{
    base::{endpoint::Endpoint, name::PluginName, subject::SubjectPattern},
    config::{Origin, Table},
    plugin::{
        grants::{keyvalue::KeyValueGrant, unit_need::UnitNeed},
        interfaces::{Grant, find},
    },
};
use std::{collections::BTreeMap, path::PathBuf};

pub use self::credentials::credential_file;

/// `[grants]`: what a plugin may do beyond what every plugin may. Nothing, unless it is written down.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Grants {
    /// Its environment variables.
    pub environment: BTreeMap<String, String>,
    /// Directories that it may read, by the paths that they have on the machine.
    pub read: Vec<PathBuf>,
    /// Whether it has a directory of its own, `/state`.
    pub state: bool,
    /// Its key-value stores.
    pub keyvalue: Option<KeyValueGrant>,
    /// Credentials that it may read.
    pub credentials: Vec<String>,
    /// Where it may send HTTP requests.
    pub outgoing_http: Vec<Endpoint>,
    /// Plugins to which it may send requests.
    pub call: Vec<PluginName>,
    /// The subjects to which it may send messages.
    pub publish: Vec<SubjectPattern>,
    /// Where it may connect by TCP.
    pub tcp_connect: Vec<Endpoint>,
    origins: Origins,
}

/// Where each key was written. As with [`Origin`], that is no part of what is granted: they are always equal.
#[derive(Clone, Debug, Default)]
struct Origins(BTreeMap<Grant, Origin>);

impl PartialEq for Origins {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// The grants that a component with these imports can make use of.
#[must_use]
pub fn grants_of_use(imports: &[String]) -> Vec<&'static str> {
    let of_use = Grant::ALL.iter().filter(|grant| is_of_use(**grant, imports));
    of_use.map(|grant| grant.key()).collect()
}

/// The same with the imports through which the component can use each.
#[must_use]
pub fn uses_of_grants(imports: &[String]) -> Vec<(Grant, Vec<&str>)> {
    let uses = |grant: Grant| {
        let by = |import: &&String| {
            find(import).is_some_and(|known| known.access.grants().contains(&grant))
        };
        let imports: Vec<_> = imports.iter().filter(by).map(String::as_str).collect();
        (!imports.is_empty()).then_some((grant, imports))
    };
    Grant::ALL.iter().filter_map(|grant| uses(*grant)).collect()
}

fn is_of_use(grant: Grant, imports: &[String]) -> bool {
    let known = imports.iter().filter_map(|import| find(import));
    known.flat_map(|import| import.access.grants()).any(|needed| *needed == grant)
}

impl Grants {
    pub(super) fn read(table: &Table<'_>, imports: Option<&[String]>) -> Self {
        let mut grants = Self::default();
        for grant in Grant::ALL {
            grants.read_key(*grant, table);
            grants.origins.0.insert(*grant, table.origin(grant.key()));
            if grants.has(*grant) && imports.is_some_and(|imports| !is_of_use(*grant, imports)) {
                table.complain_about(grant.key(), of_no_use(*grant));
            }
        }
        grants
    }

    fn read_key(&mut self, grant: Grant, table: &Table<'_>) {
        match grant {
            Grant::Environment => self.environment = environment::read(table),
            Grant::Read => self.read = read::read(table),
            Grant::State => self.state = state::read(table, &self.read),
            Grant::KeyValue => self.keyvalue = keyvalue::read(table),
            Grant::Credentials => self.credentials = credentials::read(table),
            Grant::OutgoingHttp => self.outgoing_http = outgoing_http::read(table),
            Grant::Call => self.call = call::read(table),
            Grant::Publish => self.publish = publish::read(table),
            Grant::TcpConnect => self.tcp_connect = tcp_connect::read(table),
        }
    }

    /// Whether anything is granted by this key.
    #[must_use]
    pub fn has(&self, grant: Grant) -> bool {
        match grant {
            Grant::Environment => !self.environment.is_empty(),
            Grant::Read => !self.read.is_empty(),
            Grant::State => self.state,
            Grant::KeyValue => self.keyvalue.is_some(),
            Grant::Credentials => !self.credentials.is_empty(),
            Grant::OutgoingHttp => !self.outgoing_http.is_empty(),
            Grant::Call => !self.call.is_empty(),
            Grant::Publish => !self.publish.is_empty(),
            Grant::TcpConnect => !self.tcp_connect.is_empty(),
        }
    }

    /// The directives that the daemon's unit needs so that `plugin` can use the grant of this key.
    #[must_use]
    pub fn needs(&self, grant: Grant, plugin: &PluginName) -> Vec<UnitNeed<'_>> {
        match grant {
            Grant::Environment | Grant::Call | Grant::Publish => Vec::new(),
            Grant::Read => read::needs(&self.read),
            Grant::State => state::needs(self.state),
            Grant::KeyValue => keyvalue::needs(self.keyvalue.as_ref()),
            Grant::Credentials => credentials::needs(&self.credentials, plugin),
            Grant::OutgoingHttp => outgoing_http::needs(&self.outgoing_http),
            Grant::TcpConnect => tcp_connect::needs(&self.tcp_connect),
        }
    }

    /// Where this key was written.
    #[must_use]
    pub fn origin(&self, grant: Grant) -> Origin {
        self.origins.0.get(&grant).cloned().unwrap_or_default()
    }
}

fn of_no_use(grant: Grant) -> String {
    let purposes: Vec<_> = grant.imports().flat_map(|import| import.versions()).collect();
    let (key, purposes) = (grant.key(), purposes.join(" or "));
    format!("grants.{key} has no effect: the component does not import {purposes}; remove it")
}

#[cfg(test)]
mod tests;
