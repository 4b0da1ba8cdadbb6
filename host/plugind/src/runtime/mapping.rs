//! Maps compiled code as its file has it: readable and executable from the first moment, and never writable.
//!
//! The runtime would read a compiled file into writable memory of its own and make that executable, which
//! `MemoryDenyWriteExecute=` forbids, as it should. Here the runtime leaves its image of the file as it is,
//! readable only, and the part of it that is code is then mapped again, from the same place of the same file. The
//! bytes before and after are the same; only the permission differs.
//!
//! This takes `unsafe`, once: to put a mapping in the place of another, and once more on processors whose caches have to
//! be notified. It happens while nothing else uses the component.

use rustix::{
    fs::{StatVfsMountFlags, fstatvfs},
    mm::{MapFlags, ProtFlags, mmap},
};
use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    sync::Arc,
};
use wasmtime::{Config, CustomCodeMemory, component::Component};
use wasmtime_environ::{
    obj::{ELF_WASM_BTI, SH_WASMTIME_NOT_EXECUTED},
    object::{
        Endianness,
        elf::FileHeader64,
        read::{
            ReadCache,
            elf::{FileHeader as _, SectionHeader as _},
        },
    },
};

/// Why code cannot be run from its file.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    /// It cannot be read.
    #[error("cannot read the compiled file")]
    Read(#[source] io::Error),
    /// The processors cannot be brought to run what the memory has.
    #[error("cannot make the processors see the code")]
    Synchronize(#[source] io::Error),
    /// The file's own headers make no sense.
    #[error("cannot find the code in the compiled file: {0}")]
    Headers(String),
    /// The headers and the mapping differ.
    #[error("the compiled file is not laid out as it was mapped")]
    Layout,
    /// The file lies where nothing may be executed.
    #[error(
        "cannot run code from {}: its file system is mounted noexec; mount it without noexec, add the directory to \
         ExecPaths= of plugind-compile@.service, or set engine = \"pulley\" in plugind.toml, which is slower and maps \
         no code",
        .0.display()
    )]
    Noexec(PathBuf),
    /// The system refuses it.
    #[error(
        "cannot map code from {}; allow this in the unit, or set engine = \"pulley\" in plugind.toml, which is slower \
         and maps no code",
        directory.display()
    )]
    Refused {
        /// Where the file lies.
        directory: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// Tells the engine to make no memory executable.
pub fn use_host_mapping(config: &mut Config) {
    config.with_custom_code_memory(Some(Arc::new(HostMapping)));
}

struct HostMapping;

impl CustomCodeMemory for HostMapping {
    fn required_alignment(&self) -> usize {
        rustix::param::page_size()
    }

    /// [`make_executable`] does it later, when the whole component is mapped and its place is known.
    fn publish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }

    /// It is unmapped next, and was never writable.
    fn unpublish_executable(&self, _: *const u8, _: usize) -> wasmtime::Result<()> {
        Ok(())
    }
}

/// Maps the code of `component`, which an engine that leaves that to us has just loaded from `file`, and which nobody
/// else has yet. Until then nothing in it can be run.
///
/// # Errors
/// When the system does not let the file's code be run, or the two do not fit.
pub fn make_executable(component: Component, file: &File) -> Result<Component, MapError> {
    let Some(text) = find_text(file)? else { return Ok(component) };
    let length = file.metadata().map_err(MapError::Read)?.len();
    let image = component.image_range();
    let mapped = image.end.addr() - image.start.addr();
    let page = rustix::param::page_size();
    let fits = text.offset.is_multiple_of(page)
        && image.start.addr().is_multiple_of(page)
        && u64::try_from(mapped).is_ok_and(|mapped| mapped == length)
        && text.offset.checked_add(text.length).is_some_and(|end| end <= mapped);
    if !fits {
        return Err(MapError::Layout);
    }
    let place = image.start.wrapping_add(text.offset);
    let permissions = ProtFlags::READ | ProtFlags::EXEC | text.branches;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED;
    #[expect(unsafe_code, reason = "the one place where memory is made executable")]
    // SAFETY: the range lies within the image that the runtime mapped from this file, at a page of it, so what is
    // replaced is the component's own. The file is sealed, and nobody writes to one that has its name; hence the bytes
    // in the range stay what they are, and references to them stay good. No code in it runs meanwhile: the component
    // has just been loaded, and nobody else has it.
    let mapped = unsafe {
        mmap(place.cast_mut().cast(), text.length, permissions, flags, file, text.offset as u64)
    };
    mapped.map_err(|errno| refused(file, errno.into()))?;
    synchronize(place, text.length).map_err(MapError::Synchronize)?;
    Ok(component)
}

/// Where in a compiled file its code is.
struct Text {
    offset: usize,
    length: usize,
    /// The checks that the processor makes of branches into it.
    branches: ProtFlags,
}

/// Finds the code that the processor runs. The interpreter's code is not mapped executable.
fn find_text(file: &File) -> Result<Option<Text>, MapError> {
    let unreadable = |error| MapError::Headers(format!("{error}"));
    let data = &ReadCache::new(file);
    let header = FileHeader64::<Endianness>::parse(data).map_err(unreadable)?;
    let endian = header.endian().map_err(unreadable)?;
    let sections = header.sections(endian, data).map_err(unreadable)?;
    let Some((_, text)) = sections.section_by_name(endian, b".text") else { return Ok(None) };
    if text.sh_flags(endian) & SH_WASMTIME_NOT_EXECUTED != 0 || text.sh_size(endian) == 0 {
        return Ok(None);
    }
    let number = |number: u64| usize::try_from(number).map_err(|_| MapError::Layout);
    let checked = match sections.section_by_name(endian, ELF_WASM_BTI.as_bytes()) {
        Some((_, section)) => section.data(endian, data).map_err(unreadable)? != [0],
        None => false,
    };
    let branches = if checked { branch_protection() } else { ProtFlags::empty() };
    let (offset, length) = (number(text.sh_offset(endian))?, number(text.sh_size(endian))?);
    Ok(Some(Text { offset, length, branches }))
}

/// Branch target identification: an indirect branch may only lead to where the compiler marked that.
#[cfg(target_arch = "aarch64")]
fn branch_protection() -> ProtFlags {
    const PROT_BTI: u32 = 0x10;
    match std::arch::is_aarch64_feature_detected!("bti") {
        true => ProtFlags::from_bits_retain(PROT_BTI),
        false => ProtFlags::empty(),
    }
}

#[cfg(not(target_arch = "aarch64"))]
fn branch_protection() -> ProtFlags {
    ProtFlags::empty()
}

/// Makes every processor see the new code, and none that it may have fetched from there before.
#[cfg(target_arch = "aarch64")]
fn synchronize(place: *const u8, length: usize) -> io::Result<()> {
    use wasmtime_internal_jit_icache_coherence::{clear_cache, pipeline_flush_mt};
    #[expect(unsafe_code, reason = "the caches are flushed as the runtime would have done it")]
    // SAFETY: the range has just been mapped, readable; flushing changes no byte of it.
    unsafe {
        clear_cache(place.cast(), length)?;
    }
    pipeline_flush_mt()
}

/// Here the processors see to that themselves.
#[cfg(not(target_arch = "aarch64"))]
fn synchronize(_: *const u8, _: usize) -> io::Result<()> {
    Ok(())
}

fn refused(file: &File, source: io::Error) -> MapError {
    // Only for people: the file is never opened by it.
    let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
    // One without a name has no directory.
    let path = path.filter(|path| !path.starts_with("/memfd:") && path.has_root());
    let directory = path.as_deref().and_then(Path::parent).unwrap_or(Path::new("a nameless file"));
    let directory = directory.to_owned();
    match fstatvfs(file) {
        Ok(of) if of.f_flag.contains(StatVfsMountFlags::NOEXEC) => MapError::Noexec(directory),
        _ => MapError::Refused { directory, source },
    }
}
