//! Uses the directories that it sees, with `std::fs` and so by WASI 0.2: `/read/PATH`, `/list/PATH`, `/make/PATH` (which
//! writes "made" there) and `/remove/PATH`; `/seen` are the directories as WASI 0.3
//! has them. `/write/BYTES/PATH`, `/append/BYTES/PATH`, `/put/BYTES/PATH`, `/resize/BYTES/PATH` and
//! `/nest/PATH` change a file or make a directory, and the same with `-03`, except for `put`, do so in the first of these
//! directories by WASI 0.3. `/hold/COUNT/PATH`, and the same with `-03`, open a file so often and keep it open.

use plugind_test_guests::{
    fine, number,
    wasip2::{
        filesystem as files_02,
        io::streams::{OutputStream, StreamError},
    },
    wasip3::{
        filesystem::{
            preopens::get_directories,
            types::{Descriptor, DescriptorFlags, ErrorCode, OpenFlags, PathFlags},
        },
        wit_stream,
    },
};
use std::{
    cell::RefCell,
    fs::{self, File},
    io,
};

thread_local! {
    static HELD: RefCell<Vec<File>> = const { RefCell::new(Vec::new()) };
    static HELD_03: RefCell<Vec<Descriptor>> = const { RefCell::new(Vec::new()) };
}

/// `EDQUOT`
const QUOTA: i32 = 19;

fn done(result: io::Result<()>) -> String {
    reported(result.map(|()| "done".to_owned()))
}

fn reported(result: io::Result<String>) -> String {
    result.unwrap_or_else(|error| format!("error: {:?}", error.kind()))
}

fn changed(result: io::Result<()>) -> String {
    match result {
        Err(error) if error.raw_os_error() == Some(QUOTA) => "quota".to_owned(),
        result => done(result),
    }
}

fn bytes(count: &str) -> Vec<u8> {
    vec![b'x'; usize::try_from(number(count)).unwrap_or_default()]
}

/// Writes to a file below `state`, by streams of WASI 0.2: the library of the language reports their errors as `EIO`.
fn write_02(how: &str, count: &str, path: &[&str]) -> Result<(), String> {
    use files_02::types::{DescriptorFlags, OpenFlags, PathFlags};
    let code = |code: files_02::types::ErrorCode| code.name().to_owned();
    let (directory, _) = files_02::preopens::get_directories().into_iter().next().ok_or("none")?;
    let path = path.get(1..).unwrap_or_default().join("/");
    let created = match how {
        "append" => OpenFlags::CREATE,
        _ => OpenFlags::CREATE | OpenFlags::TRUNCATE,
    };
    let file = directory
        .open_at(PathFlags::SYMLINK_FOLLOW, &path, created, DescriptorFlags::WRITE)
        .map_err(code)?;
    let bytes = bytes(count);
    match how {
        "append" => append_02(&file.append_via_stream().map_err(code)?, &bytes).map_err(failed),
        "put" => file.write(&bytes, 0).map(drop).map_err(code),
        _ => {
            let stream = file.write_via_stream(0).map_err(code)?;
            let mut chunks = bytes.chunks(4096);
            chunks.try_for_each(|chunk| stream.blocking_write_and_flush(chunk)).map_err(failed)
        }
    }
}

/// Writes as the stream permits, and waits for it.
fn append_02(stream: &OutputStream, mut bytes: &[u8]) -> Result<(), StreamError> {
    while !bytes.is_empty() {
        stream.subscribe().block();
        let permitted = usize::try_from(stream.check_write()?).unwrap_or_default();
        let (now, rest) = bytes.split_at(bytes.len().min(permitted));
        if !now.is_empty() {
            stream.write(now)?;
        }
        bytes = rest;
    }
    stream.blocking_flush()
}

fn failed(error: StreamError) -> String {
    match error {
        StreamError::Closed => "closed".to_owned(),
        StreamError::LastOperationFailed(error) => files_02::types::filesystem_error_code(&error)
            .map_or_else(|| "unknown".to_owned(), |code| code.name().to_owned()),
    }
}

fn resize(path: &str, count: &str) -> io::Result<()> {
    fs::File::options().create(true).write(true).truncate(false).open(path)?.set_len(number(count))
}

/// Opens a file so often, or until it cannot be opened.
fn hold(path: &str, count: &str) -> io::Result<()> {
    for _ in 0..number(count) {
        let file = File::open(path)?;
        HELD.with_borrow_mut(|held| held.push(file));
    }
    Ok(())
}

async fn hold_03(path: &str, count: &str) -> Result<(), ErrorCode> {
    let (directory, _) = get_directories().into_iter().next().ok_or(ErrorCode::NoEntry)?;
    for _ in 0..number(count) {
        let (follow, flags) = (PathFlags::SYMLINK_FOLLOW, DescriptorFlags::READ);
        let file = directory.open_at(follow, path.to_owned(), OpenFlags::empty(), flags).await?;
        HELD_03.with_borrow_mut(|held| held.push(file));
    }
    Ok(())
}

/// The number of files that are kept open, and why there are not more.
fn held(ended: &str) -> String {
    let count = HELD.with_borrow(Vec::len) + HELD_03.with_borrow(Vec::len);
    format!("{count} {ended}")
}

fn changed_03(result: Result<(), ErrorCode>) -> String {
    match result {
        Ok(()) => "done".to_owned(),
        Err(ErrorCode::Quota) => "quota".to_owned(),
        Err(error) => format!("error: {error:?}"),
    }
}

async fn change_03(how: &str, count: &str, path: &str) -> Result<(), ErrorCode> {
    let (directory, _) = get_directories().into_iter().next().ok_or(ErrorCode::NoEntry)?;
    if how == "nest-03" {
        return directory.create_directory_at(path.to_owned()).await;
    }
    let follow = PathFlags::SYMLINK_FOLLOW;
    let file = directory
        .open_at(follow, path.to_owned(), OpenFlags::CREATE, DescriptorFlags::WRITE)
        .await?;
    match how {
        "resize-03" => file.set_size(number(count)).await,
        how => write_03(&file, how == "append-03", bytes(count)).await,
    }
}

async fn write_03(file: &Descriptor, appends: bool, bytes: Vec<u8>) -> Result<(), ErrorCode> {
    let (mut writer, reader) = wit_stream::new();
    let end = match appends {
        true => file.append_via_stream(reader),
        false => file.write_via_stream(reader, 0),
    };
    let _unwritten = writer.write_all(bytes).await;
    drop(writer);
    end.await
}

fn list(path: &str) -> io::Result<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(path)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names.join(" "))
}

async fn respond(words: &[&str]) -> String {
    let path = |rest: &[&str]| format!("/{}", rest.join("/"));
    match words {
        ["read", rest @ ..] => reported(fs::read_to_string(path(rest))),
        ["list", rest @ ..] => reported(list(&path(rest))),
        ["make", rest @ ..] => done(fs::write(path(rest), "made")),
        ["remove", rest @ ..] => done(fs::remove_file(path(rest))),
        [how @ ("write" | "append" | "put"), count, rest @ ..] => {
            write_02(how, count, rest).err().unwrap_or_else(|| "done".to_owned())
        }
        ["hold", count, rest @ ..] => held(&changed(hold(&path(rest), count))),
        ["hold-03", count, rest @ ..] => {
            let ended = hold_03(&rest.join("/"), count).await;
            held(&changed_03(ended))
        }
        ["resize", count, rest @ ..] => changed(resize(&path(rest), count)),
        ["nest", rest @ ..] => changed(fs::create_dir(path(rest))),
        [how @ "nest-03", rest @ ..] => changed_03(change_03(how, "", &rest.join("/")).await),
        [how @ ("write-03" | "append-03" | "resize-03"), count, rest @ ..] => {
            changed_03(change_03(how, count, &rest.join("/")).await)
        }
        ["seen"] => {
            let all = get_directories();
            all.into_iter().map(|(_, path)| format!("{path}\n")).collect()
        }
        _ => fine(words).await,
    }
}

plugind_test_guests::serve!(respond);
