//! `grants.keyvalue`: stores of `wasi:keyvalue`, one of the plugin's own and others that plugins share.

use crate::{
    base::{name::StoreName, quantity::Bytes},
    config::Table,
    plugin::grants::unit_need::UnitNeed,
};

/// The name by which the plugin opens its own store.
pub const OWN_STORE: &str = "default";
/// The largest quota: after a crash, a store is read as a whole.
const QUOTA_MAX: Bytes = Bytes(1 << 40);
/// The default quota of a store.
const QUOTA: Bytes = Bytes(64 << 20);

/// The stores of a plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValueGrant {
    /// The largest size of each store that it writes to.
    pub quota: Bytes,
    /// Stores beside its own.
    pub shared: Vec<StoreName>,
}

pub(super) fn read(table: &Table<'_>) -> Option<KeyValueGrant> {
    let is_granted = table.origin("keyvalue").0.is_some();
    let grant = table.table("keyvalue", |stores| {
        let quota = stores.parsed::<Bytes>("quota");
        if let Some(quota) = quota.filter(|quota| *quota == Bytes(0) || *quota > QUOTA_MAX) {
            let message = format!(
                "grants.keyvalue.quota must be greater than 0 and at most \"{QUOTA_MAX}\", not \"{quota}\""
            );
            stores.complain_about("quota", message);
        }
        let shared = stores.list("shared", |text| match text {
            OWN_STORE => Err(format!("\"{OWN_STORE}\" cannot be shared: it is the plugin's own store")),
            text => text.parse::<StoreName>().map_err(|error| error.to_string()),
        });
        KeyValueGrant { quota: quota.unwrap_or(QUOTA), shared }
    });
    is_granted.then_some(grant)
}

pub(super) fn needs<'a>(grant: Option<&KeyValueGrant>) -> Vec<UnitNeed<'a>> {
    grant.map(|_| UnitNeed::StateDirectory).into_iter().collect()
}
