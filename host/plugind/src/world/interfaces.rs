//! The linking of each interface of the table in `plugin/interfaces.rs`.

use crate::{
    plugin::interfaces::Interface,
    world::{
        bindings::{logging::wasi::logging, plugind::plugin},
        config_draft, connections, credentials,
        host_state::HostState,
        identity, journal, keyvalue, limited_writes_02, limited_writes_03,
        logging::Logging,
        messaging, middleware,
        name_lookup::Lookup,
        notify, open_at,
        replacing::replace,
        tcp_sockets, udp_sockets, websockets,
    },
};
use wasmtime::{
    Engine, Result,
    component::{HasData, HasSelf, Linker, Resource, ResourceTable},
};
use wasmtime_wasi::{
    cli::{WasiCli, WasiCliView},
    clocks::{WasiClocks, WasiClocksView},
    filesystem::{WasiFilesystem, WasiFilesystemView},
    p2, p3,
    random::{WasiRandom, WasiRandomView},
    sockets::{WasiSockets, WasiSocketsView},
};
use wasmtime_wasi_http::{WasiHttpView, p2 as http_p2, p3 as http_p3};

/// The longest method of a request that a guest makes.
const METHOD_MAX: usize = 64;

type HostLinker = Linker<HostState>;

/// A linker with everything that a guest may import.
///
/// # Errors
/// When two interfaces have the same name, which would be a mistake of ours.
pub fn linker(engine: &Engine) -> Result<HostLinker> {
    let mut linker = Linker::new(engine);
    for interface in Interface::ALL {
        link(*interface)(&mut linker)?;
    }
    // It has no functions: it is the types that the others speak of.
    plugin::types::add_to_linker::<_, HasSelf<HostState>>(&mut linker, |state| state)?;
    Ok(linker)
}

/// Returns the function that adds the imports of an interface to a linker.
fn link(interface: Interface) -> fn(&mut HostLinker) -> Result<()> {
    match interface {
        Interface::Cli => cli,
        Interface::Clocks => clocks,
        Interface::Config => |to| {
            wasmtime_wasi_config::add_to_linker(to, HostState::config)?;
            config_draft::link(to)
        },
        Interface::Filesystem => filesystem,
        Interface::Http => http,
        Interface::Io => io,
        Interface::KeyValue => keyvalue,
        Interface::Logging => {
            |to| logging::logging::add_to_linker::<_, Logging>(to, HostState::logging)
        }
        Interface::Messaging => messaging,
        Interface::Random => random,
        Interface::Sockets => sockets,
        Interface::Credentials => |to| {
            plugin::credentials::add_to_linker::<_, credentials::Shared>(to, HostState::credentials)
        },
        Interface::Connections => |to| {
            let get = HostState::connections;
            plugin::connections::add_to_linker::<_, connections::Shared>(to, get)?;
            plugin::blocking_connections::add_to_linker::<_, connections::Shared>(to, get)
        },
        Interface::Identity => {
            |to| plugin::identity::add_to_linker::<_, identity::Shared>(to, HostState::identity)
        }
        Interface::Journal => {
            |to| plugin::journal::add_to_linker::<_, journal::Shared>(to, HostState::journal)
        }
        Interface::Notify => {
            |to| plugin::notify::add_to_linker::<_, notify::Shared>(to, HostState::notify)
        }
        Interface::WebSockets => |to| {
            let get = HostState::websockets;
            plugin::websockets::add_to_linker::<_, websockets::Shared>(to, get)?;
            plugin::blocking_websockets::add_to_linker::<_, websockets::Shared>(to, get)
        },
    }
}

fn keyvalue(to: &mut HostLinker) -> Result<()> {
    use super::bindings::keyvalue::wasi::keyvalue as bindings;
    bindings::store::add_to_linker::<_, keyvalue::Shared>(to, HostState::keyvalue)?;
    bindings::atomics::add_to_linker::<_, keyvalue::Shared>(to, HostState::keyvalue)?;
    bindings::batch::add_to_linker::<_, keyvalue::Shared>(to, HostState::keyvalue)
}

fn messaging(to: &mut HostLinker) -> Result<()> {
    use super::bindings::messaging::wasi::messaging as bindings;
    bindings::types::add_to_linker::<_, messaging::Shared>(to, HostState::messaging)?;
    bindings::producer::add_to_linker::<_, messaging::Shared>(to, HostState::messaging)?;
    bindings::request_reply::add_to_linker::<_, messaging::Shared>(to, HostState::messaging)
}

fn cli(to: &mut HostLinker) -> Result<()> {
    use p2::bindings::cli;
    cli::environment::add_to_linker::<_, WasiCli>(to, HostState::cli)?;
    cli::exit::add_to_linker::<_, WasiCli>(to, HostState::cli)?;
    cli::stderr::add_to_linker::<_, WasiCli>(to, HostState::cli)?;
    cli::stdin::add_to_linker::<_, WasiCli>(to, HostState::cli)?;
    cli::stdout::add_to_linker::<_, WasiCli>(to, HostState::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(to, HostState::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(to, HostState::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(to, HostState::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(to, HostState::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(to, HostState::cli)?;
    p3::cli::add_to_linker(to)
}

fn clocks(to: &mut HostLinker) -> Result<()> {
    use p2::bindings::clocks;
    clocks::monotonic_clock::add_to_linker::<_, WasiClocks>(to, HostState::clocks)?;
    clocks::wall_clock::add_to_linker::<_, WasiClocks>(to, HostState::clocks)?;
    p3::clocks::add_to_linker(to)
}

fn filesystem(to: &mut HostLinker) -> Result<()> {
    use p2::bindings::filesystem;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(to, HostState::filesystem)?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(to, HostState::filesystem)?;
    p3::filesystem::add_to_linker(to)?;
    open_at::link(to)?;
    limited_writes_02::link(to)?;
    limited_writes_03::link(to)
}

/// The library bounds every text of a request but its method.
fn http(to: &mut HostLinker) -> Result<()> {
    use http_p2::bindings::http::types as p2;
    use http_p3::bindings::http::types as p3;
    http_p2::add_only_http_to_linker_async(to)?;
    http_p3::add_to_linker(to)?;
    middleware::link(to)?;
    replace(to, |to| {
        to.instance("wasi:http/types@0.2.12")?.func_wrap(
            "[method]outgoing-request.set-method",
            |mut store, (request, method): (Resource<p2::OutgoingRequest>, p2::Method)| {
                if matches!(&method, p2::Method::Other(name) if name.len() > METHOD_MAX) {
                    return Ok((Err(()),));
                }
                let mut http = store.data_mut().http();
                Ok((p2::HostOutgoingRequest::set_method(&mut http, request, method)?,))
            },
        )?;
        to.instance("wasi:http/types@0.3.0")?.func_wrap(
            "[method]request.set-method",
            |mut store, (request, method): (Resource<p3::Request>, p3::Method)| {
                if matches!(&method, p3::Method::Other(name) if name.len() > METHOD_MAX) {
                    return Ok((Err(()),));
                }
                let mut http = store.data_mut().http();
                Ok((p3::HostRequest::set_method(&mut http, request, method)?,))
            },
        )
    })
}

fn io(to: &mut HostLinker) -> Result<()> {
    /// The table that holds its resources.
    struct IoTable;

    impl HasData for IoTable {
        type Data<'a> = &'a mut ResourceTable;
    }

    use p2::bindings::io;
    io::error::add_to_linker::<_, IoTable>(to, HostState::table)?;
    io::poll::add_to_linker::<_, IoTable>(to, HostState::table)?;
    io::streams::add_to_linker::<_, IoTable>(to, HostState::table)
}

fn random(to: &mut HostLinker) -> Result<()> {
    use p2::bindings::random;
    random::insecure::add_to_linker::<_, WasiRandom>(to, HostState::random)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(to, HostState::random)?;
    random::random::add_to_linker::<_, WasiRandom>(to, HostState::random)?;
    p3::random::add_to_linker(to)
}

fn sockets(to: &mut HostLinker) -> Result<()> {
    use p2::bindings::sockets;
    let network = sockets::network::LinkOptions::default();
    sockets::instance_network::add_to_linker::<_, WasiSockets>(to, HostState::sockets)?;
    // Where connections are granted, not every name may be looked up: a name is a message, too.
    sockets::ip_name_lookup::add_to_linker::<_, Lookup>(to, HostState::lookup)?;
    sockets::network::add_to_linker::<_, WasiSockets>(to, &network, HostState::sockets)?;
    sockets::tcp::add_to_linker::<_, WasiSockets>(to, HostState::sockets)?;
    sockets::tcp_create_socket::add_to_linker::<_, WasiSockets>(to, HostState::sockets)?;
    sockets::udp::add_to_linker::<_, WasiSockets>(to, HostState::sockets)?;
    sockets::udp_create_socket::add_to_linker::<_, WasiSockets>(to, HostState::sockets)?;
    p3::bindings::sockets::ip_name_lookup::add_to_linker::<_, Lookup>(to, HostState::lookup)?;
    p3::bindings::sockets::types::add_to_linker::<_, WasiSockets>(to, HostState::sockets)?;
    tcp_sockets::link(to)?;
    udp_sockets::link(to)
}

impl plugin::types::Host for HostState {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        plugin::{imports::missing, interfaces::all_imports},
        runtime::engine,
    };

    fn engine() -> Engine {
        engine::plain(engine::EngineKind::Native).unwrap()
    }

    /// A version of this track.
    fn version(track: &str) -> String {
        match track {
            "0.2" => "0.2.12".to_owned(),
            track if track.contains('-') => track.to_owned(),
            track => format!("{track}.0"),
        }
    }

    fn has(linker: &mut HostLinker, name: &str) -> bool {
        linker.root().func_wrap(name, |_, (): ()| Ok(())).is_err()
    }

    #[test]
    fn each_interface_links_its_own_imports_and_no_others() {
        let engine = engine();
        for interface in Interface::ALL {
            let mut linker = Linker::new(&engine);
            link(*interface)(&mut linker).unwrap();
            let own: Vec<_> = interface.imports().iter().map(|import| import.name).collect();
            for import in all_imports() {
                for track in import.tracks {
                    let name = format!("{}@{}", import.name, version(track));
                    let is_own = own.contains(&import.name);
                    assert_eq!(has(&mut linker, &name), is_own, "{interface:?}: {name}");
                }
            }
        }
    }

    #[test]
    fn an_import_is_missing_exactly_where_the_linker_does_not_have_it() {
        let mut linker = linker(&engine()).unwrap();
        for import in all_imports() {
            for track in ["0.1", "0.2", "0.3", "0.2.0-rc.1", "0.1.0-draft"] {
                let name = format!("{}@{}", import.name, version(track));
                assert_eq!(has(&mut linker, &name), missing(&name).is_none(), "{name}");
            }
        }
        for name in ["wasi:clocks/timezone@0.2.12", "wasi:clocks/timezone@0.3.0"] {
            assert!(!has(&mut linker, name) && missing(name).is_some(), "{name}");
        }
    }

    #[test]
    fn a_component_may_import_everything_that_the_world_plugin_imports() {
        let world = include_str!("../../../../wit/world.wit");
        let ours = world.split("world plugin {").nth(1).unwrap().split('}').next().unwrap();
        let imports = ours.lines().filter_map(|line| line.trim().strip_prefix("import "));
        let names =
            imports.map(|name| format!("plugind:plugin/{}@0.1.0", name.trim_end_matches(';')));
        let names: Vec<_> = names.collect();
        assert!(!names.is_empty());
        for name in names {
            assert_eq!(missing(&name), None);
        }
    }
}
