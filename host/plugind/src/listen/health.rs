//! The health route: whether the daemon and its plugins serve, for load balancers.

use crate::{
    base::name::SocketName,
    config::{Diagnostic, settings::HealthSetting},
    route::sockets::SocketPlan,
    supervisor::{
        board::{Board, PluginStanding},
        phase::DaemonPhase,
    },
};
use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

/// The health route of the daemon.
pub struct HealthRoute {
    setting: HealthSetting,
    board: Board,
    phase: watch::Receiver<DaemonPhase>,
}

/// The reason that no client can request the health of the daemon, with the place of the setting; none if one can.
#[must_use]
pub fn why_unreachable(setting: &HealthSetting, plan: &SocketPlan) -> Option<Diagnostic> {
    let socket = setting.socket.as_ref().filter(|socket| !plan.is_http(socket))?;
    let is = match plan.kinds.contains_key(socket) {
        true => "does not",
        false => "does not exist",
    };
    let message = format!("health.socket must be a socket that speaks HTTP; {socket} {is}");
    Some(Diagnostic::at(setting.origin.0.clone()?, message))
}

/// An answer for a load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthAnswer {
    /// 200, 503, or 404 if there is no such plugin.
    pub status: StatusCode,
    /// JSON.
    pub body: String,
}

impl HealthRoute {
    /// One for this setting.
    #[must_use]
    pub fn new(setting: HealthSetting, board: Board, phase: watch::Receiver<DaemonPhase>) -> Self {
        Self { setting, board, phase }
    }

    /// The answer to a request for `path` on a socket; none, if that is for plugins.
    #[must_use]
    pub fn answer(&self, socket: &SocketName, path: &str) -> Option<HealthAnswer> {
        if self.setting.socket.as_ref().is_some_and(|only| only != socket) {
            return None;
        }
        let rest = path.strip_prefix(self.setting.route.as_str())?;
        let plugin = match rest {
            "" => None,
            rest => Some(rest.strip_prefix('/')?),
        };
        Some(answer_for(*self.phase.borrow(), &self.board.standings(), plugin))
    }
}

/// Whether all required plugins serve, or this one.
fn answer_for(phase: DaemonPhase, all: &[PluginStanding], plugin: Option<&str>) -> HealthAnswer {
    let word = |is_well: bool| match (phase, is_well) {
        (DaemonPhase::Starting, _) => "starting",
        (DaemonPhase::Stopping, _) => "stopping",
        (DaemonPhase::Draining, _) => "draining",
        (DaemonPhase::Running, true) => "ok",
        (DaemonPhase::Running, false) => "unavailable",
    };
    let status = |word| match word {
        "ok" => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let Some(plugin) = plugin else {
        let word = word(all.iter().all(|it| it.is_ready || !it.is_required));
        let plugins: Map<_, _> = all.iter().map(|it| (it.name.to_string(), shown(it))).collect();
        let body = json!({ "status": word, "plugins": plugins }).to_string();
        return HealthAnswer { status: status(word), body };
    };
    match all.iter().find(|it| it.name.as_str() == plugin) {
        Some(it) => {
            let word = word(it.is_ready);
            let body = json!({ "status": word, "plugins": { plugin: shown(it) } }).to_string();
            HealthAnswer { status: status(word), body }
        }
        None => {
            let body = json!({ "status": "unknown" }).to_string();
            HealthAnswer { status: StatusCode::NOT_FOUND, body }
        }
    }
}

fn shown(plugin: &PluginStanding) -> Value {
    let PluginStanding { state, is_ready, is_required, .. } = plugin;
    json!({ "state": state, "ready": is_ready, "required": is_required })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{
            Document,
            settings::{Settings, SocketSettings},
        },
        route::sockets::SocketKinds,
        systemd::sockets::SocketKind,
    };
    use std::path::Path;

    #[test]
    fn an_unreachable_health_socket_is_reported_with_its_place() {
        let setting = |socket: &str| {
            let text = format!("[health]\nroute = \"/health\"\nsocket = \"{socket}\"\n");
            let document = Document::new(Path::new("plugind.toml"), &text);
            Settings::parse(&document).unwrap().health.unwrap()
        };
        let named =
            ["http", "control"].map(|name| (name.parse().unwrap(), vec![SocketKind::UnixStream]));
        let sockets = SocketKinds { named: named.into(), ..SocketKinds::default() };
        let plan = SocketPlan::new(&sockets, &SocketSettings::default()).unwrap();
        assert_eq!(why_unreachable(&setting("http"), &plan), None);
        for (socket, is) in [("control", "does not"), ("admin", "does not exist")] {
            let mistake = why_unreachable(&setting(socket), &plan).unwrap().to_string();
            assert_eq!(
                mistake,
                format!(
                    "plugind.toml:3:10: health.socket must be a socket that speaks HTTP; {socket} {is}"
                )
            );
        }
    }

    fn plugin(name: &str, is_ready: bool, is_required: bool) -> PluginStanding {
        let state = if is_ready { "active" } else { "failed" };
        PluginStanding { name: name.parse().unwrap(), state, is_ready, is_required }
    }

    #[test]
    fn the_daemon_is_well_when_all_required_plugins_serve() {
        let all = [plugin("a", true, true), plugin("b", false, false)];
        let answered = |phase, plugin| answer_for(phase, &all, plugin).status.as_u16();
        assert_eq!(answered(DaemonPhase::Running, None), 200);
        assert_eq!(answered(DaemonPhase::Running, Some("a")), 200);
        assert_eq!(answered(DaemonPhase::Running, Some("b")), 503);
        assert_eq!(answered(DaemonPhase::Running, Some("c")), 404);
        assert_eq!(answered(DaemonPhase::Stopping, None), 503);
        assert_eq!(answered(DaemonPhase::Draining, Some("a")), 503);
        assert_eq!(answered(DaemonPhase::Starting, Some("a")), 503);
        let all = [plugin("a", false, true), plugin("b", true, false)];
        assert_eq!(answer_for(DaemonPhase::Running, &all, None).status.as_u16(), 503);
    }
}
