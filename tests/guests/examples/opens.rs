//! Opens files in the first directory that it sees, by WASI 0.3: one by `/once/NAME`, and by `/often/COUNT/NAME` one many
//! times at once, without waiting for any.

use plugind_test_guests::wasip3::{
    filesystem::{
        preopens::get_directories,
        types::{DescriptorFlags, OpenFlags, PathFlags},
    },
    spawn_local,
};
use plugind_test_guests::{fine, number};

async fn opened(name: String) -> String {
    let Some((directory, _)) = get_directories().into_iter().next() else {
        return "no directory".to_owned();
    };
    let (path, open, flags) = (PathFlags::empty(), OpenFlags::empty(), DescriptorFlags::READ);
    match directory.open_at(path, name, open, flags).await {
        Ok(_) => "opened".to_owned(),
        Err(error) => format!("{error:?}"),
    }
}

async fn respond(words: &[&str]) -> String {
    match words {
        ["once", name] => opened((*name).to_owned()).await,
        ["often", count, name] => {
            for _ in 0..number(count) {
                let name = (*name).to_owned();
                spawn_local(async move { drop(opened(name).await) });
            }
            "opening".to_owned()
        }
        _ => fine(words).await,
    }
}

plugind_test_guests::serve!(respond);
