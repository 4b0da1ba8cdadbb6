//! Uses the directories that it sees, with `std::fs` and so by WASI 0.2: `/read/PATH`, `/list/PATH`, `/make/PATH` (which
//! writes "made" there) and `/remove/PATH`; `/seen` are the directories as WASI 0.3
//! has them.

use plugind_test_guests::{fine, wasip3};
use std::{fs, io};

fn done(result: io::Result<()>) -> String {
    reported(result.map(|()| "done".to_owned()))
}

fn reported(result: io::Result<String>) -> String {
    result.unwrap_or_else(|error| format!("error: {:?}", error.kind()))
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
        ["seen"] => {
            let all = wasip3::filesystem::preopens::get_directories();
            all.into_iter().map(|(_, path)| format!("{path}\n")).collect()
        }
        _ => fine(words).await,
    }
}

plugind_test_guests::serve!(respond);
