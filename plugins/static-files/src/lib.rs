//! Serves the files of a directory that the manifest grants.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::PathBuf,
    sync::OnceLock,
};

use plugind_sdk::{
    Lifecycle, StartError, config, error,
    middleware::{ErrorCode, Fields, Request, Response, answer},
};
use wasip3::{
    exports::http::handler::Guest, http::types::Method, spawn_local, wit_future, wit_stream,
};

/// Bytes of a file that are in memory at a time.
const CHUNK: usize = 64 << 10;

/// The directory. `start` reads it, because it never changes while the instance exists.
static ROOT: OnceLock<PathBuf> = OnceLock::new();

struct StaticFiles;

impl Lifecycle for StaticFiles {
    async fn start() -> Result<(), StartError> {
        let root =
            config::get("root").map_err(|error| StartError::Unavailable(error.to_string()))?;
        let missing = || {
            StartError::Configuration(
                "[config] must have root, a directory of grants.read".to_owned(),
            )
        };
        let root = PathBuf::from(root.ok_or_else(missing)?);
        if !root.is_dir() {
            let message = format!(
                "root must be a directory of grants.read or below one; it is {}",
                root.display()
            );
            return Err(StartError::Configuration(message));
        }
        ROOT.get_or_init(|| root);
        Ok(())
    }
}

/// The path of a request without its query, decoded; none if it cannot be the path of a file.
fn decoded(target: &str) -> Option<String> {
    let path = target.split('?').next().unwrap_or_default();
    let (mut bytes, mut rest) = (Vec::new(), path.bytes());
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
                u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    let path = String::from_utf8(bytes).ok()?;
    // Files that begin with a dot are not meant to be seen.
    let is_plain = |name: &str| !name.starts_with('.') && !name.contains(['\\', '\0']);
    path.split('/').all(is_plain).then_some(path)
}

/// The media type of a file by the end of its name.
fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, end)| end).to_ascii_lowercase().as_str() {
        "css" => "text/css; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "gif" => "image/gif",
        "htm" | "html" => "text/html; charset=utf-8",
        "ico" => "image/x-icon",
        "jpeg" | "jpg" => "image/jpeg",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "md" | "txt" => "text/plain; charset=utf-8",
        "pdf" => "application/pdf",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        "wasm" => "application/wasm",
        "webp" => "image/webp",
        "woff2" => "font/woff2",
        "xml" => "application/xml",
        _ => "application/octet-stream",
    }
}

/// A file that can be served, its length and its name.
fn open(path: &str) -> std::io::Result<(File, u64, String)> {
    let root = ROOT.get().expect("start comes before any request");
    let relative = path.trim_start_matches('/');
    let index = if relative.is_empty() || relative.ends_with('/') { "index.html" } else { "" };
    let name = format!("{relative}{index}");
    let file = File::open(root.join(&name))?;
    let facts = file.metadata()?;
    if !facts.is_file() {
        return Err(ErrorKind::NotFound.into());
    }
    Ok((file, facts.len(), name))
}

/// Whether an error says that no file has this path. Others concern the machine, and caches must not keep them.
fn is_absence(error: &std::io::Error) -> bool {
    use ErrorKind::{InvalidFilename, IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), InvalidFilename | IsADirectory | NotADirectory | NotFound)
}

/// The answer with a file, which is read while it is sent.
fn send(mut file: File, length: u64, name: String) -> Result<Response, ErrorCode> {
    let fields = Fields::from_list(&[
        ("content-type".to_owned(), media_type(&name).as_bytes().to_vec()),
        ("content-length".to_owned(), length.to_string().into_bytes()),
        ("x-content-type-options".to_owned(), b"nosniff".to_vec()),
    ])
    .map_err(|error| ErrorCode::InternalError(Some(format!("{error:?}"))))?;
    let (_, trailers) = wit_future::new(|| Ok(None));
    let (mut writer, reader) = wit_stream::new();
    let (response, _sent) = Response::new(fields, Some(reader), trailers);
    spawn_local(async move {
        let mut left = length;
        while left > 0 {
            let mut chunk = vec![0; CHUNK.min(usize::try_from(left).unwrap_or(CHUNK))];
            // The end of the file, or an error, ends the response, which the client sees by its length.
            let read = match file.read(&mut chunk) {
                Ok(0) => return,
                Ok(read) => read,
                Err(error) => {
                    error!(file = name, error = error, "cannot read file");
                    return;
                }
            };
            chunk.truncate(read);
            left -= read as u64;
            if !writer.write_all(chunk).await.is_empty() {
                return;
            }
        }
    });
    Ok(response)
}

impl Guest for StaticFiles {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        // The host leaves out the body of a response to HEAD.
        if !matches!(request.get_method(), Method::Get | Method::Head) {
            return answer(405, &[("allow", "GET, HEAD")], "files can be read only\n");
        }
        let target = request.get_path_with_query().unwrap_or_default();
        let Some(path) = decoded(&target) else {
            return answer(404, &[], "there is no such file\n");
        };
        match open(&path) {
            Ok((file, length, name)) => send(file, length, name),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                answer(403, &[], "the file cannot be read\n")
            }
            Err(error) if is_absence(&error) => answer(404, &[], "there is no such file\n"),
            // The host logs it, and answers 502.
            Err(error) => {
                Err(ErrorCode::InternalError(Some(format!("cannot open {path}: {error}"))))
            }
        }
    }
}

plugind_sdk::export!(StaticFiles);
wasip3::http::service::export!(StaticFiles);
