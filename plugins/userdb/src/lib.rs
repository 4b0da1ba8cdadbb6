//! Users and groups that systemd asks for by varlink: `getent`, `id` and `userdbctl` show them.

mod records;
mod state;

use plugind_sdk::{
    ConnectionHandler, Lifecycle, StartError, config,
    connections::Connection,
    info,
    varlink::{self, Call, Error, Info, Interface, Reply, Service, Value, json},
};
use records::{Group, Records, User};
use serde::Deserialize;
use std::sync::OnceLock;

/// The name of the service, which is the name of its socket below `/run/systemd/userdb`.
const SERVICE: &str = "io.plugind.Users";

/// `start` sets them, and they do not change while the instance exists.
static RECORDS: OnceLock<Records> = OnceLock::new();

struct Users;

impl Lifecycle for Users {
    async fn start() -> Result<(), StartError> {
        let config =
            config::get_all().map_err(|error| StartError::Unavailable(error.to_string()))?;
        let state = state::read()?;
        let records = Records::read(config.into_iter().chain(state));
        let records = records.map_err(StartError::Configuration)?;
        info!(users = records.users.len(), groups = records.groups.len(), "users loaded");
        RECORDS.get_or_init(|| records);
        Ok(())
    }
}

impl ConnectionHandler for Users {
    async fn handle(connection: Connection) -> Result<(), String> {
        varlink::serve::<Self>(&connection).await
    }
}

impl Service for Users {
    const INFO: Info = Info {
        vendor: "plugind",
        product: "userdb",
        version: env!("CARGO_PKG_VERSION"),
        url: "https://systemd.io/USER_GROUP_API",
    };
    const INTERFACES: &'static [Interface] = &[Interface {
        name: "io.systemd.UserDatabase",
        description: include_str!("io.systemd.UserDatabase.varlink"),
    }];

    async fn call(call: &Call<'_>) -> Reply {
        let query: Query = call.parameters()?;
        if query.service != SERVICE {
            return Err(Error::named(BAD_SERVICE));
        }
        let records = RECORDS.get().ok_or_else(|| Error::named(SERVICE_NOT_AVAILABLE))?;
        match call.method() {
            "io.systemd.UserDatabase.GetUserRecord" => {
                let (uid, name) = (query.uid, query.user_name.as_deref());
                let all = records.users.iter().map(|(name, user)| (name.as_str(), user.uid, user));
                let found = select(all, uid, name)?;
                let found = found.into_iter().map(|(name, user)| user_record(name, user));
                call.send_all(found, Error::named(NO_RECORD_FOUND)).await
            }
            "io.systemd.UserDatabase.GetGroupRecord" => {
                let (gid, name) = (query.gid, query.group_name.as_deref());
                let all =
                    records.groups.iter().map(|(name, group)| (name.as_str(), group.gid, group));
                let found = select(all, gid, name)?;
                let found = found.into_iter().map(|(name, group)| group_record(name, group));
                call.send_all(found, Error::named(NO_RECORD_FOUND)).await
            }
            "io.systemd.UserDatabase.GetMemberships" => {
                let found = records.memberships().filter(|(user, group)| {
                    query.user_name.as_deref().is_none_or(|name| name == *user)
                        && query.group_name.as_deref().is_none_or(|name| name == *group)
                });
                let found =
                    found.map(|(user, group)| json!({ "userName": user, "groupName": group }));
                call.send_all(found, Error::named(NO_RECORD_FOUND)).await
            }
            _ => Err(call.method_not_found()),
        }
    }
}

/// The parameters of the three methods.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Query {
    service: String,
    uid: Option<u32>,
    gid: Option<u32>,
    user_name: Option<String>,
    group_name: Option<String>,
}

/// Errors of the interface.
const BAD_SERVICE: &str = "io.systemd.UserDatabase.BadService";
const CONFLICTING_RECORD_FOUND: &str = "io.systemd.UserDatabase.ConflictingRecordFound";
const NO_RECORD_FOUND: &str = "io.systemd.UserDatabase.NoRecordFound";
const SERVICE_NOT_AVAILABLE: &str = "io.systemd.UserDatabase.ServiceNotAvailable";

/// Those that have this number and this name, of which either may be left out.
fn select<'a, T>(
    all: impl Iterator<Item = (&'a str, u32, &'a T)>,
    number: Option<u32>,
    name: Option<&str>,
) -> Result<Vec<(&'a str, &'a T)>, Error> {
    let mut found = Vec::new();
    for (its_name, its_number, record) in all {
        let by_number = number.is_none_or(|number| number == its_number);
        let by_name = name.is_none_or(|name| name == its_name);
        if by_number && by_name {
            found.push((its_name, record));
        } else if number.is_some() && name.is_some() && (by_number || by_name) {
            return Err(Error::named(CONFLICTING_RECORD_FOUND));
        }
    }
    Ok(found)
}

/// A reply with a user, as systemd.io/USER_RECORD describes it.
fn user_record(name: &str, user: &User) -> Value {
    let mut record = json!({
        "userName": name, "uid": user.uid, "gid": user.gid, "disposition": "regular", "service": SERVICE,
    });
    let optional =
        [("realName", &user.real_name), ("homeDirectory", &user.home), ("shell", &user.shell)];
    for (key, value) in optional {
        if let Some(value) = value {
            record[key] = json!(value);
        }
    }
    json!({ "record": record, "incomplete": false })
}

/// A reply with a group, as systemd.io/GROUP_RECORD describes it.
fn group_record(name: &str, group: &Group) -> Value {
    let record = json!({
        "groupName": name, "gid": group.gid, "members": group.members, "disposition": "regular", "service": SERVICE,
    });
    json!({ "record": record, "incomplete": false })
}

plugind_sdk::export!(Users);
plugind_sdk::export_connections!(Users);
