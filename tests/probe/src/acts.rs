//! The acts, by their names: each does what it says, or returns what kept it from that.

use crate::system::{call, flag, in_child, map, plain, protect, refused, run, with_path};
use std::{
    fs,
    io::{self, Read},
    net::UdpSocket,
    os::{
        fd::AsRawFd,
        linux::net::SocketAddrExt,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            net::{SocketAddr, UnixDatagram},
        },
    },
    path::Path,
    ptr,
};

const READABLE: libc::c_int = libc::PROT_READ;
const WRITABLE: libc::c_int = libc::PROT_READ | libc::PROT_WRITE;
const RUNNABLE: libc::c_int = libc::PROT_READ | libc::PROT_EXEC;
const ANONYMOUS: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
/// A program that may be run, and is copied where it may not.
const PROGRAM: &str = "/usr/bin/pluginctl";
/// Whom the kernel names where a user has no name in this namespace.
const NOBODY: u32 = 65534;

/// Attempts an act.
pub(crate) fn attempt(act: &str, argument: &str) -> io::Result<()> {
    match act {
        "see" => fs::symlink_metadata(argument).map(drop),
        "find" => find(argument),
        "read" => read(argument),
        "write" => fs::OpenOptions::new().write(true).open(argument).map(drop),
        "write-code" => {
            let mut entries =
                fs::read_dir(argument)?.map_while(Result::ok).map(|entry| entry.path());
            let code = entries.find(|path| path.extension().is_some_and(|kind| kind == "cwasm"));
            let code = code.ok_or_else(|| refused("there is no compiled file"))?;
            fs::OpenOptions::new().write(true).open(code).map(drop)
        }
        "create" => fs::create_dir(argument).and_then(|()| fs::remove_dir(argument)),
        "write-and-run" => fs::copy(PROGRAM, argument).and_then(|_| run(argument)),
        "tell-user" => holds(fs::metadata(argument)?.uid() != NOBODY, "it is nobody's"),
        "give-to-all" => give_to_all(argument),
        "pass-rights-on" => {
            fs::write(argument, "")?;
            fs::set_permissions(argument, fs::Permissions::from_mode(0o4755))
        }
        "give-away" => {
            fs::write(argument, "")?;
            with_path(libc::SYS_chown, argument, &[usize::MAX, usize::MAX]).map(drop)
        }

        "make-code" => protect(map(WRITABLE, ANONYMOUS, -1)?, RUNNABLE).map(drop),
        "make-more-code" => protect(map(READABLE, ANONYMOUS, -1)?, WRITABLE | RUNNABLE).map(drop),
        "map-writable-code" => map(WRITABLE | RUNNABLE, ANONYMOUS, -1).map(drop),
        "map-code-of" => map_code_of(argument),
        "map-code-of-memory" => {
            let file = memory()?;
            map(RUNNABLE, libc::MAP_PRIVATE, file).map(drop)
        }
        "run" => run(argument),
        "run-memory" => run(&format!("/proc/self/fd/{}", memory_with_program()?)),
        "lock-memory" => {
            let page = map(WRITABLE, ANONYMOUS, -1)?;
            plain(libc::SYS_mlock, &[page, 4096]).map(drop)
        }

        "open-socket" => open_socket(argument),
        "send" => send(),
        "turn-listener" => turn_listener(number(argument)?),
        "bind" => UdpSocket::bind(argument).map(drop),
        "reach" => {
            let address = SocketAddr::from_abstract_name(argument)?;
            UnixDatagram::unbound()?.connect_addr(&address)
        }

        "have-capability" => is_one(libc::SYS_prctl, &[flag(libc::PR_CAPBSET_READ), 0]),
        "gain-rights" => {
            let none = plain(libc::SYS_prctl, &[flag(libc::PR_GET_NO_NEW_PRIVS), 0, 0, 0, 0])?;
            holds(none == 0, "no new privileges")
        }
        "set-user" => plain(libc::SYS_setresuid, &[usize::MAX, usize::MAX, usize::MAX]).map(drop),
        "make-namespace" => in_child(libc::CLONE_NEWUSER, || Ok(())),
        "leave-namespace" => plain(libc::SYS_unshare, &[flag(libc::CLONE_FILES)]).map(drop),
        "mount" => mount(argument),
        "be-traced" => in_child(0, || plain(libc::SYS_ptrace, &[0, 0, 0, 0]).map(drop)),
        "share-memory" => plain(libc::SYS_shmget, &[number(argument)?, 0, 0]).map(drop),
        "share-keys" => share_keys(argument),
        "become-another-kind" => plain(libc::SYS_personality, &[0x004_0000]).map(drop),
        "run-first" => {
            // This priority is invalid. An error that says so shows that the call was not refused by the filter.
            let priority: libc::c_int = -1;
            let place = ptr::from_ref(&priority) as usize;
            let asked = plain(libc::SYS_sched_setscheduler, &[0, flag(libc::SCHED_RR), place]);
            asked.map(drop).or_else(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => Ok(()),
                _ => Err(error),
            })
        }
        "steer-clock" => {
            // Nothing is changed: it says how the clock is steered.
            let mut nothing = [0_usize; 64];
            plain(libc::SYS_adjtimex, &[nothing.as_mut_ptr() as usize]).map(drop)
        }
        "hear-name" => {
            let name = host_name()?;
            holds(name == argument, &format!("it is {name}"))
        }
        "leave-core" => {
            let mut limits = [0_u64; 2];
            let place = limits.as_mut_ptr() as usize;
            call(libc::SYS_prlimit64, [0, libc::RLIMIT_CORE as usize, 0, place, 0, 0])?;
            holds(limits[1] != 0, "the limit is zero")
        }
        "call-as-32-bits" => call_as_32_bits(),
        _ => Err(refused("there is no such act")),
    }
}

fn holds(true_of_it: bool, otherwise: &str) -> io::Result<()> {
    if true_of_it { Ok(()) } else { Err(refused(otherwise)) }
}

fn is_one(number: libc::c_long, arguments: &[usize]) -> io::Result<()> {
    holds(plain(number, arguments)? == 1, "it is not there")
}

fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|_| refused("the argument is no number"))
}

/// Finds a path, unless it is an empty mount point without permissions.
fn find(path: &str) -> io::Result<()> {
    holds(fs::metadata(path)?.mode() & 0o777 != 0, "nobody has rights there")
}

/// Reads something of a file, or the names in a directory.
fn read(path: &str) -> io::Result<()> {
    if Path::new(path).is_dir() {
        return fs::read_dir(path).map(drop);
    }
    fs::File::open(path)?.read(&mut [0]).map(drop)
}

fn give_to_all(path: &str) -> io::Result<()> {
    fs::write(path, "")?;
    let mode = fs::metadata(path)?.mode();
    fs::remove_file(path)?;
    holds(mode & 0o044 != 0, "nobody else may read it")
}

fn map_code_of(path: &str) -> io::Result<()> {
    let file =
        fs::OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
    file.set_len(4096)?;
    map(RUNNABLE, libc::MAP_PRIVATE, file.as_raw_fd()).map(drop)
}

/// An anonymous file in memory (memfd), of one page.
fn memory() -> io::Result<libc::c_int> {
    let file = with_path(libc::SYS_memfd_create, "probe", &[0])?;
    plain(libc::SYS_ftruncate, &[file, 4096])?;
    libc::c_int::try_from(file).map_err(|_| refused("it is no descriptor"))
}

/// An anonymous file in memory (memfd) with a program.
fn memory_with_program() -> io::Result<libc::c_int> {
    let file = memory()?;
    fs::copy(PROGRAM, format!("/proc/self/fd/{file}"))?;
    Ok(file)
}

fn open_socket(family: &str) -> io::Result<()> {
    let (family, kind) = match family {
        "INET" => (libc::AF_INET, libc::SOCK_DGRAM),
        "INET6" => (libc::AF_INET6, libc::SOCK_DGRAM),
        "NETLINK" => (libc::AF_NETLINK, libc::SOCK_RAW),
        _ => return Err(refused("there is no such family")),
    };
    plain(libc::SYS_socket, &[flag(family), flag(kind), 0]).map(drop)
}

fn local(family: u16, port: u16) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: family,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    }
}

/// Has a listening socket that was opened in another network namespace connect to a port there.
fn turn_listener(port: usize) -> io::Result<()> {
    let port = u16::try_from(port).map_err(|_| refused("it is no port"))?;
    let of_http = |socket: &usize| {
        let mut address = [0_u16; 14];
        let mut length = 28_u32;
        let places = [address.as_mut_ptr() as usize, ptr::from_mut(&mut length) as usize];
        let named = plain(libc::SYS_getsockname, &[*socket, places[0], places[1]]).is_ok();
        named && address[..2] == [2, 8080_u16.to_be()]
    };
    let socket = (3..64).find(of_http).ok_or_else(|| refused("there is none"))?;
    for address in [local(0, 0), local(2, port)] {
        let place = ptr::from_ref(&address) as usize;
        let connected = plain(libc::SYS_connect, &[socket, place, size_of_val(&address)]);
        // It does not wait; then it is on its way.
        connected.or_else(|error| match error.raw_os_error() {
            Some(libc::EINPROGRESS) => Ok(0),
            _ => Err(error),
        })?;
    }
    Ok(())
}

/// Sends something to a port of this network, by a socket that is not bound.
fn send() -> io::Result<()> {
    let socket = plain(libc::SYS_socket, &[flag(libc::AF_INET), flag(libc::SOCK_DGRAM), 0])?;
    let address = local(2, 9);
    let place = ptr::from_ref(&address) as usize;
    let [data, length] = [b"probe".as_ptr() as usize, size_of_val(&address)];
    call(libc::SYS_sendto, [socket, data, 5, 0, place, length]).map(drop)
}

fn mount(place: &str) -> io::Result<()> {
    let kind = c"tmpfs".as_ptr() as usize;
    let place = std::ffi::CString::new(place)?;
    plain(libc::SYS_mount, &[kind, place.as_ptr() as usize, kind, 0, 0]).map(drop)
}

/// Adds a key to the user keyring and requests it through the session keyring: whether the two are linked.
fn share_keys(name: &str) -> io::Result<()> {
    let name = std::ffi::CString::new(name)?;
    let [kind, name] = [c"user", &name].map(|text| text.as_ptr() as usize);
    let users = flag(libc::KEY_SPEC_USER_KEYRING);
    plain(libc::SYS_add_key, &[kind, name, name, 5, users])?;
    plain(libc::SYS_request_key, &[kind, name, 0, 0]).map(drop)
}

fn host_name() -> io::Result<String> {
    // Six texts of 65 bytes, of which the second is the name.
    let mut texts = [0_u8; 6 * 65];
    plain(libc::SYS_uname, &[texts.as_mut_ptr() as usize])?;
    let name = texts[65..].split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(String::from_utf8_lossy(name).into_owned())
}

#[cfg(target_arch = "x86_64")]
fn call_as_32_bits() -> io::Result<()> {
    in_child(0, || {
        crate::system::by_the_32_bit_entry();
        Ok(())
    })
}

#[cfg(not(target_arch = "x86_64"))]
fn call_as_32_bits() -> io::Result<()> {
    Err(refused("this processor has no such entry"))
}
