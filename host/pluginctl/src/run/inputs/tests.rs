use super::*;
use plugind::config::{SearchPath, settings};

fn inputs(config: Option<&str>, keys: &[&str]) -> (tempfile::TempDir, Inputs) {
    let directory = tempfile::tempdir().unwrap();
    let path = config.map(|text| {
        let path = directory.path().join("my.toml");
        fs::write(&path, text).unwrap();
        path
    });
    let value = |key: &&str| ((*key).to_owned(), InputCredential::Value(b"value".to_vec()));
    let credentials = keys.iter().map(value).collect();
    let (command, is_watched) = (InputCommand::Run, false);
    (directory, Inputs { command, is_watched, config: path, credentials })
}

#[test]
fn a_credential_has_a_name_and_a_file() {
    assert_eq!(parse_credential("a.b=c=d"), Ok(("a.b".to_owned(), "c=d".into())));
    for text in ["token", "token=", "=file", "a/b=file", ".a=file", "a b=file"] {
        assert!(parse_credential(text).is_err(), "{text}");
    }
    assert_eq!([toml_key("a-1"), toml_key("a.b")], ["a-1", "\"a.b\""]);
}

#[test]
fn a_credential_is_there_for_the_settings_and_for_the_plugin() {
    let (directory, inputs) = inputs(None, &["token"]);
    inputs.fill(directory.path(), "plugind.shop.").unwrap();
    let mut files: Vec<_> = fs::read_dir(directory.path().join(CREDENTIALS))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    files.sort();
    assert_eq!(files, ["plugind.shop.token", "token"]);
}

#[test]
fn a_watched_plugin_is_compiled_sooner_unless_the_author_names_an_engine() {
    for (config, is_watched, engine) in [
        (None, false, "native"),
        (None, true, "unoptimized"),
        (Some("[compile]\ntimeout-sec = \"1min\"\n"), true, "unoptimized"),
        (Some("engine = \"native\"\n"), true, "native"),
        (Some("engine = \"pulley\"\n"), false, "pulley"),
    ] {
        let (directory, inputs) = inputs(config, &[]);
        Inputs { is_watched, ..inputs }.fill(directory.path(), "plugind.shop.").unwrap();
        let settings = settings::read(&SearchPath::below(directory.path())).unwrap();
        assert_eq!(settings.engine.to_string(), engine, "{config:?}");
    }
}

#[test]
fn a_pipe_is_read_once_and_a_large_file_is_refused() {
    let (pipe, writer) = io::pipe().unwrap();
    io::Write::write_all(&mut &writer, b"from a pipe").unwrap();
    drop(writer);
    let path = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&pipe));
    let credential = InputCredential::of(Path::new(&path)).unwrap();
    assert!(matches!(credential, InputCredential::Value(value) if value == b"from a pipe"));
    let large = InputCredential::of(Path::new("/dev/zero")).err().unwrap();
    assert_eq!(large.to_string(), "/dev/zero is larger than 1M, which is the most that is read");
}

#[test]
fn mistakes_in_the_settings_have_a_place_and_a_remedy() {
    for (text, mistake) in [
        ("pol = 1\n", "my.toml:1:1: unknown key \"pol\"; did you mean \"pool\"?"),
        (
            "[sockets.web]\nprotocol = \"http\"\n",
            "my.toml:2:12: [sockets.web] must not be set here",
        ),
        (
            "[messaging]\nurl = \"nats://a\"\ncredential = \"nats\"\n",
            "my.toml:3:14: messaging.credential names the credential nats, which is not given; add --credential \
             nats=FILE",
        ),
        (
            "[keyvalue]\nbackend = \"valkey\"\nurl = \"valkeys://a\"\nca = \"root.pem\"\n",
            "my.toml:4:6: keyvalue.ca names the credential root.pem, which is not given; add --credential \
             root.pem=FILE",
        ),
    ] {
        let (_directory, inputs) = inputs(Some(text), &[]);
        let lines = inputs.settings().unwrap_err().lines();
        assert!(lines.len() == 1 && lines[0].contains(mistake), "{lines:?}");
    }
    let text = "[messaging]\nurl = \"nats://a\"\ncredential = \"nats\"\n";
    let (_directory, inputs) = inputs(Some(text), &["nats"]);
    assert!(inputs.settings().unwrap().messaging.is_some());
}
