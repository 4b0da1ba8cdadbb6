//! Host names that systemd-resolved asks for by varlink: `resolvectl query` and `getent hosts` show them.

mod names;

use data_encoding::BASE64;
use names::{IN, Names, record, wire};
use plugind_sdk::{
    ConnectionHandler, Lifecycle, StartError, config,
    connections::Connection,
    journal,
    varlink::{self, Call, Info, Interface, Reply, Service, Value, json},
};
use serde::Deserialize;
use std::sync::OnceLock;

/// The response code of DNS for a name that exists.
const SUCCESS: u16 = 0;

/// `start` sets them, and they do not change while the instance exists.
static NAMES: OnceLock<Names> = OnceLock::new();

struct Hook;

impl Lifecycle for Hook {
    async fn start() -> Result<(), StartError> {
        let config =
            config::get_all().map_err(|error| StartError::Unavailable(error.to_string()))?;
        let names = Names::read(config).map_err(StartError::Configuration)?;
        journal::info("names loaded", &[("names", &names.len().to_string())]);
        NAMES.get_or_init(|| names);
        Ok(())
    }
}

impl ConnectionHandler for Hook {
    async fn handle(connection: Connection) -> Result<(), String> {
        varlink::serve::<Self>(&connection).await
    }
}

impl Service for Hook {
    const INFO: Info = Info {
        vendor: "plugind",
        product: "resolve-hook",
        version: env!("CARGO_PKG_VERSION"),
        url: "https://www.freedesktop.org/software/systemd/man/systemd-resolved.service.html",
    };
    const INTERFACES: &'static [Interface] = &[Interface {
        name: "io.systemd.Resolve.Hook",
        description: include_str!("io.systemd.Resolve.Hook.varlink"),
    }];

    async fn call(call: &Call<'_>) -> Reply {
        // A connection comes after `start`.
        let Some(names) = NAMES.get() else { return Err(call.method_not_found()) };
        match call.method() {
            "io.systemd.Resolve.Hook.QueryFilter" => {
                let filter = json!({ "filterDomains": names.all().collect::<Vec<_>>() });
                if !call.wants_more() {
                    return Ok(filter);
                }
                // The filter is valid while the call lasts, and the names are the same until a reload ends this instance.
                call.send(filter).await?;
                Err(call.disconnected().await)
            }
            "io.systemd.Resolve.Hook.ResolveRecord" => {
                let query: Query = call.parameters()?;
                Ok(resolve(names, &query.question))
            }
            _ => Err(call.method_not_found()),
        }
    }
}

/// The parameters of `ResolveRecord`.
#[derive(Deserialize)]
struct Query {
    question: Vec<Question>,
}

#[derive(Deserialize)]
struct Question {
    key: Key,
}

/// The class, type and name of a record.
#[derive(Deserialize)]
struct Key {
    class: Option<u16>,
    r#type: u16,
    name: String,
}

/// Answers all questions at once. If no name is known, the reply leaves them to others.
fn resolve(names: &Names, question: &[Question]) -> Value {
    let mut answer = Vec::new();
    let mut is_known = false;
    for Question { key } in question {
        if key.class.unwrap_or(IN) != IN {
            continue;
        }
        let Some(addresses) = names.find(&key.name) else { continue };
        is_known = true;
        for (kind, data) in addresses.iter().map(record) {
            if kind == key.r#type {
                let raw = BASE64.encode(&wire(&key.name, kind, &data));
                let rr = json!({
                    "key": { "class": IN, "type": kind, "name": key.name }, "address": data,
                });
                answer.push(json!({ "rr": rr, "raw": raw }));
            }
        }
    }
    match is_known {
        true => json!({ "rcode": SUCCESS, "answer": answer }),
        false => json!({}),
    }
}

plugind_sdk::export!(Hook);
plugind_sdk::export_connections!(Hook);
