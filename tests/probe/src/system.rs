//! System calls, called directly: what the kernel says, without a library between.
#![allow(unsafe_code, reason = "the acts are system calls, of which many have no safe form")]

use std::{ffi::CString, io, ptr};

/// Size of the memory that the acts map.
const PAGE: usize = 4096;
/// Returns the error of an act that had no effect because something refused it, where the kernel gives no reason.
pub(crate) fn refused(why: &str) -> io::Error {
    io::Error::other(why.to_owned())
}

/// Calls the kernel. What is passed as an address must be one of as much memory as the call reads or writes.
pub(crate) fn call(number: libc::c_long, arguments: [usize; 6]) -> io::Result<usize> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: Every caller passes numbers, or addresses of values that live until the call returns.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A call whose arguments are few and no addresses.
pub(crate) fn plain(number: libc::c_long, arguments: &[usize]) -> io::Result<usize> {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    call(number, all)
}

/// A flag of C as the kernel takes it.
pub(crate) fn flag(flag: libc::c_int) -> usize {
    flag as usize
}

/// Maps a page.
pub(crate) fn map(
    protection: libc::c_int,
    flags: libc::c_int,
    file: libc::c_int,
) -> io::Result<usize> {
    plain(libc::SYS_mmap, &[0, PAGE, flag(protection), flag(flags), flag(file), 0])
}

/// Changes what may be done with a page that was mapped.
pub(crate) fn protect(page: usize, protection: libc::c_int) -> io::Result<usize> {
    plain(libc::SYS_mprotect, &[page, PAGE, flag(protection)])
}

/// A call that names a path first.
pub(crate) fn with_path(number: libc::c_long, path: &str, rest: &[usize]) -> io::Result<usize> {
    let path = CString::new(path)?;
    let mut all = vec![path.as_ptr() as usize];
    all.extend(rest);
    plain(number, &all)
}

/// Does something in a child with memory of its own, which ends with it; it may call the kernel and nothing else.
/// A child that is killed was refused.
pub(crate) fn in_child(flags: libc::c_int, act: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    // SAFETY: The child has a copy of this process's memory and one thread, and calls nothing but the kernel: no lock
    // that another thread holds is waited for.
    let child = unsafe { libc::syscall(libc::SYS_clone, flags | libc::SIGCHLD, 0, 0, 0, 0) };
    if child == 0 {
        let ended = act().err().map_or(0, |error| error.raw_os_error().unwrap_or(255));
        // SAFETY: It ends the child without running anything of the program that it is a copy of.
        unsafe { libc::_exit(ended) };
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut status = 0;
    let place = ptr::from_mut::<libc::c_int>(&mut status) as usize;
    plain(libc::SYS_wait4, &[usize::try_from(child).unwrap_or(0), place, flag(libc::__WALL)])?;
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(()),
        (true, code) => Err(io::Error::from_raw_os_error(code)),
        (false, _) => Err(refused(&format!("killed by signal {}", libc::WTERMSIG(status)))),
    }
}

/// Runs a program with `--version` in a child. An error if it is refused or fails.
pub(crate) fn run(program: &str) -> io::Result<()> {
    let program = CString::new(program)?;
    let option = CString::new("--version")?;
    let arguments = [program.as_ptr(), option.as_ptr(), ptr::null()];
    let environment = [ptr::null::<libc::c_char>()];
    in_child(0, || {
        let addresses =
            [program.as_ptr() as usize, arguments.as_ptr() as usize, environment.as_ptr() as usize];
        // It returns only where the program was refused.
        plain(libc::SYS_execve, &addresses).map(drop)
    })
}

/// Calls the kernel by the entry for 32-bit programs. The call, getpid, is allowed to every process.
#[cfg(target_arch = "x86_64")]
pub(crate) fn by_the_32_bit_entry() {
    // SAFETY: The call takes nothing and changes one register, which is named.
    unsafe { std::arch::asm!("int 0x80", inout("eax") 20 => _) };
}
