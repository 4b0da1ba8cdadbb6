//! Properties of every merging of files and every masking, tried with generated ones.

use super::*;
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// A file's values: by table, then by key.
type MadeUpFile = BTreeMap<String, BTreeMap<String, u8>>;

fn file() -> impl Strategy<Value = MadeUpFile> {
    let keys = prop::collection::btree_map("[a-c]", any::<u8>(), 0..3);
    prop::collection::btree_map("[tuv]", keys, 0..3)
}

fn text(file: &MadeUpFile) -> String {
    let mut text = String::new();
    for (table, keys) in file {
        text.push_str(&format!("[{table}]\n"));
        keys.iter().for_each(|(key, value)| text.push_str(&format!("{key} = {value}\n")));
    }
    text
}

fn document(files: &[MadeUpFile]) -> Document {
    let mut document = Document::default();
    for (nth, file) in files.iter().enumerate() {
        document.add(Path::new(&format!("{nth}.toml")), text(file));
    }
    document
}

/// The effective values: by table and key the value and its file.
fn effective(document: &Document) -> BTreeMap<(String, String), (String, PathBuf)> {
    let settings = document.settings().unwrap();
    let setting = |setting: Setting| {
        Some(((setting.table, setting.key?), (setting.value, setting.place.path)))
    };
    settings.into_iter().filter_map(setting).collect()
}

proptest! {
    #[test]
    fn of_every_key_the_last_file_that_has_it_counts(files in prop::collection::vec(file(), 0..5)) {
        let mut expected = BTreeMap::new();
        for (nth, file) in files.iter().enumerate() {
            for (table, keys) in file {
                for (key, value) in keys {
                    let place = PathBuf::from(format!("{nth}.toml"));
                    expected.insert((table.clone(), key.clone()), (value.to_string(), place));
                }
            }
        }
        prop_assert_eq!(effective(&document(&files)), expected);
    }

    #[test]
    fn a_file_twice_in_a_row_is_a_file_once(files in prop::collection::vec(file(), 1..4)) {
        let values = |files: &[MadeUpFile]| -> Vec<_> {
            effective(&document(files)).into_iter().map(|(key, (value, _))| (key, value)).collect()
        };
        let twice: Vec<_> = files.iter().flat_map(|file| [file.clone(), file.clone()]).collect();
        prop_assert_eq!(values(&twice), values(&files));
    }

    #[test]
    fn a_printed_document_reads_as_the_same_values(files in prop::collection::vec(file(), 0..4)) {
        let merged = document(&files);
        let mut printed: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for ((table, key), (value, _)) in effective(&merged) {
            printed.entry(table).or_default().insert(key, value.parse::<u8>().unwrap());
        }
        let values = |document: &Document| -> Vec<_> {
            effective(document).into_iter().map(|(key, (value, _))| (key, value)).collect()
        };
        prop_assert_eq!(values(&document(&[printed])), values(&merged));
    }

    #[test]
    fn any_text_is_read_without_a_panic(texts in prop::collection::vec("[a-c\\[\\]={}\"'.\\n #0-9]{0,40}", 0..4)) {
        let mut document = Document::default();
        for (nth, text) in texts.iter().enumerate() {
            document.add(Path::new(&format!("{nth}.toml")), text.clone());
        }
        let read = document.read(|table| table.tables("a", |table| table.text("b")));
        for mistake in read.err().into_iter().flatten() {
            prop_assert!(!mistake.to_string().contains('\n'));
        }
        document.settings().ok();
    }

    /// Each file is, in each of the directories, absent, there, empty, or a link to /dev/null.
    #[test]
    fn the_last_directory_decides_about_each_name(
        fates in prop::collection::btree_map("[a-d]", prop::array::uniform3(0..4_u8), 0..4)
    ) {
        let root = tempfile::tempdir().unwrap();
        let directories = ["usr", "run", "etc"].map(|directory| root.path().join(directory));
        let mut expected = Vec::new();
        for (name, fates) in &fates {
            let mut counts = None;
            for (directory, fate) in directories.iter().zip(fates) {
                fs::create_dir_all(directory).unwrap();
                let path = directory.join(name).with_extension("toml");
                match fate {
                    0 => continue,
                    1 => fs::write(&path, "x = 1\n").unwrap(),
                    2 => fs::write(&path, "").unwrap(),
                    _ => symlink("/dev/null", &path).unwrap(),
                }
                counts = Some(path).filter(|_| *fate == 1);
            }
            expected.extend(counts);
        }
        prop_assert_eq!(list_drop_ins(&directories).unwrap(), expected);
    }
}
