//! `[health]`: where load balancers ask for the health of the daemon.

use crate::{
    base::{name::SocketName, quantity::Span},
    config::{Origin, Table},
};
use std::time::Duration;

/// The largest `stop-delay-sec`. A stop takes this much longer.
const STOP_DELAY_MAX: Span = Span(Duration::from_secs(10));

/// `[health]`: where load balancers ask for the health of the daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthSetting {
    /// On these sockets; none: on all that speak HTTP.
    pub socket: Option<SocketName>,
    /// Where that was written.
    pub origin: Origin,
    /// The path.
    pub route: String,
    /// The time for which it answers 503 before the daemon accepts no more connections, when it stops or is drained.
    pub stop_delay: Duration,
}

impl HealthSetting {
    pub(super) fn read(table: &Table<'_>) -> Option<Self> {
        let (socket, route) = (table.parsed("socket"), table.text("route"));
        let stop_delay = table.parsed::<Span>("stop-delay-sec");
        if let Some(delay) = stop_delay.filter(|delay| *delay > STOP_DELAY_MAX) {
            let message = format!(
                "health.stop-delay-sec must be at most \"{STOP_DELAY_MAX}\", not \"{delay}\""
            );
            table.complain_about("stop-delay-sec", message);
        }
        let Some(route) = route else {
            for key in ["socket", "stop-delay-sec"] {
                if table.origin(key).0.is_some() {
                    let message = format!("health.{key} must not be set without health.route");
                    table.complain_about(key, message);
                }
            }
            return None;
        };
        let is_path = route.starts_with('/')
            && route.len() > 1
            && !route.ends_with('/')
            && route.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte));
        if !is_path {
            let message = format!(
                "health.route must begin with \"/\", must not end with \"/\" and must have only letters, digits and \
                 /-._~, not \"{route}\""
            );
            table.complain_about("route", message);
        }
        let stop_delay = stop_delay.map(|delay| delay.0).unwrap_or_default();
        Some(Self { socket, origin: table.origin("socket"), route, stop_delay })
    }
}
