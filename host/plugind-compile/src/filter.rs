//! The system calls that the worker must never make, in addition to all other limits.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use std::{collections::BTreeMap, env};

/// System calls that change files without opening them, run programs, reach other processes, or create new objects.
const DENIED: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    // fchmodat2, the same everywhere.
    452,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_io_uring_setup,
    libc::SYS_kill,
    libc::SYS_linkat,
    libc::SYS_memfd_create,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_mq_open,
    libc::SYS_msgget,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_semget,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_shmget,
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_symlinkat,
    libc::SYS_tkill,
    libc::SYS_truncate,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
];

/// The same by their older names.
#[cfg(target_arch = "x86_64")]
const DENIED_TOO: &[libc::c_long] = &[
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_futimesat,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_rename,
    libc::SYS_rmdir,
    libc::SYS_symlink,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
];

#[cfg(not(target_arch = "x86_64"))]
const DENIED_TOO: &[libc::c_long] = &[];

/// Denies all of that to this thread and those that it starts, for good. A program for another kind of processor is
/// ended, since its numbers mean something else.
pub(crate) fn apply() -> anyhow::Result<()> {
    let denied = DENIED.iter().chain(DENIED_TOO).map(|number| (*number, Vec::new()));
    let refuse = SeccompAction::Errno(u32::try_from(libc::EPERM)?);
    let filter = SeccompFilter::new(
        denied.collect::<BTreeMap<_, _>>(),
        SeccompAction::Allow,
        refuse,
        env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(apply_filter(&program)?)
}
