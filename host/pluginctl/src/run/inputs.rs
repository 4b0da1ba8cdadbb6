//! The settings and the credentials that an author gives the daemon of `run` and `test`.

use crate::{
    own_file::{self, OwnFileError},
    print::placed,
};
use clap::Args;
use plugind::{
    base::quantity::Bytes,
    config::{
        Diagnostic, Document,
        settings::{CredentialFile, Settings},
    },
    plugin::{grants::credential_file, interfaces::Grant, verify::Verified},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

/// The largest file that is read, as by the daemon.
const FILE_MAX: u64 = 1 << 20;
/// The directory of the daemon's settings, below its root.
const SETTINGS: &str = "etc/plugind";
/// The settings with which a changed plugin is compiled sooner, beside those of the author.
const SOONER: &str = "engine = \"unoptimized\"\n";
/// The directory of the daemon's credentials, below its root.
const CREDENTIALS: &str = "run/credentials/plugind.service";

/// The options.
#[derive(Args)]
pub(crate) struct InputArgs {
    /// Pass FILE as the credential KEY of the manifest or of --config, or PLUGIN.KEY for a directory; may be given more than once
    #[arg(long = "credential", value_name = "KEY=FILE", value_parser = parse_credential)]
    credentials: Vec<(String, PathBuf)>,
    /// Use this file as the plugind.toml of the daemon
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The command for which the inputs are, which decides how an author gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InputCommand {
    Run,
    Test,
}

/// The inputs of the daemon besides its plugins.
pub(crate) struct Inputs {
    command: InputCommand,
    /// Code is compiled without optimization, unless the settings name an engine.
    is_watched: bool,
    config: Option<PathBuf>,
    credentials: BTreeMap<String, InputCredential>,
}

/// A credential that an author gives.
enum InputCredential {
    /// The value itself.
    Value(Vec<u8>),
    /// A file, which may change.
    File(PathBuf),
}

/// Why the daemon cannot have the inputs.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InputError {
    #[error("{}", .0.join("; "))]
    Mistakes(Vec<String>),
    #[error(transparent)]
    File(#[from] OwnFileError),
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is larger than {}, which is the most that is read", .0.display(), Bytes(FILE_MAX))]
    TooLarge(PathBuf),
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl InputError {
    /// All mistakes that it consists of, one a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Mistakes(mistakes) => mistakes.clone(),
            other => vec![other.to_string()],
        }
    }

    fn of(mistakes: &[Diagnostic]) -> Self {
        Self::Mistakes(mistakes.iter().map(ToString::to_string).collect())
    }
}

impl InputArgs {
    /// The inputs of `pluginctl run`, which may watch the plugin. Blocks.
    pub(crate) fn for_run(&self, is_watched: bool) -> Result<Inputs, InputError> {
        let inputs = self.collect(InputCommand::Run, None, BTreeMap::new())?;
        Ok(Inputs { is_watched, ..inputs })
    }

    /// The inputs of `pluginctl test`, where the options take precedence over `test.toml`. Blocks.
    pub(crate) fn for_test(
        &self,
        config: Option<PathBuf>,
        credentials: BTreeMap<String, String>,
    ) -> Result<Inputs, InputError> {
        self.collect(InputCommand::Test, config, credentials)
    }

    fn collect(
        &self,
        command: InputCommand,
        config: Option<PathBuf>,
        values: BTreeMap<String, String>,
    ) -> Result<Inputs, InputError> {
        let value = |(key, value): (_, String)| (key, InputCredential::Value(value.into_bytes()));
        let mut credentials: BTreeMap<_, _> = values.into_iter().map(value).collect();
        for (key, path) in &self.credentials {
            credentials.insert(key.clone(), InputCredential::of(path)?);
        }
        let config = self.config.clone().or(config);
        Ok(Inputs { command, is_watched: false, config, credentials })
    }
}

impl InputCredential {
    /// A pipe, as from a shell's process substitution, can be read only once.
    fn of(path: &Path) -> Result<Self, InputError> {
        let unreadable = |source| InputError::Read { path: path.to_owned(), source };
        match fs::metadata(path).map_err(unreadable)?.is_file() {
            true => Ok(Self::File(path.to_owned())),
            false => read(path).map(Self::Value),
        }
    }

    fn path(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Value(_) => None,
        }
    }
}

impl Inputs {
    /// No inputs, for a check.
    pub(crate) fn none() -> Self {
        let (command, credentials) = (InputCommand::Run, BTreeMap::new());
        Self { command, is_watched: false, config: None, credentials }
    }

    /// The files, whose changes count.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let credentials = self.credentials.values().filter_map(InputCredential::path);
        self.config.as_deref().into_iter().chain(credentials)
    }

    /// The copy of the settings that the daemon reads, and their file.
    pub(super) fn copies(&self, root: &Path) -> Option<(PathBuf, PathBuf)> {
        Some((root.join(SETTINGS).join("plugind.toml"), self.config.clone()?))
    }

    /// Whether the daemon notices these changes only when it starts: it reads its settings, and the logins of servers,
    /// once.
    pub(super) fn need_restart(&self, changed: &BTreeSet<PathBuf>) -> bool {
        self.config.is_some() && self.paths().any(|path| changed.contains(path))
    }

    /// Checks the settings, and returns them.
    pub(super) fn settings(&self) -> Result<Settings, InputError> {
        let Some(path) = &self.config else { return Ok(Settings::default()) };
        // The error for a missing file is made for the daemon.
        fs::metadata(path).map_err(|source| InputError::Read { path: path.clone(), source })?;
        let mut document = Document::default();
        let shown = path.strip_prefix(".").unwrap_or(path);
        let added = document.add_bytes(shown, own_file::read(path, FILE_MAX)?);
        added.map_err(|mistake| InputError::of(&[mistake]))?;
        let settings = Settings::parse(&document).map_err(|mistakes| InputError::of(&mistakes))?;
        refuse_sockets(&document)?;
        let missing = |(label, name, origin): (String, &str, _)| {
            let message = format!(
                "{label} names the credential {name}, which is not given; {}",
                self.credential_remedy(name)
            );
            (!self.credentials.contains_key(name)).then(|| placed(origin, message))
        };
        let missing: Vec<_> =
            settings.server_credentials().into_iter().filter_map(missing).collect();
        if missing.is_empty() { Ok(settings) } else { Err(InputError::Mistakes(missing)) }
    }

    /// Copies the files to where the daemon finds them below `root`. There, a plugin's credential has the name `prefix`
    /// with the key that the author gave.
    pub(super) fn fill(&self, root: &Path, prefix: &str) -> Result<(), InputError> {
        if let Some(config) = &self.config {
            put(&root.join(SETTINGS), "plugind.toml", &read(config)?)?;
        }
        if self.is_watched {
            let text = if self.names_engine()? { "" } else { SOONER };
            put(&root.join(SETTINGS).join("plugind.toml.d"), "watch.toml", text.as_bytes())?;
        }
        for (key, credential) in &self.credentials {
            let value = match credential {
                InputCredential::Value(value) => value.clone(),
                InputCredential::File(path) => read(path)?,
            };
            // The settings of the daemon may name it, or the manifest of a plugin.
            for name in [key.clone(), format!("{prefix}{key}")] {
                put(&root.join(CREDENTIALS), &name, &value)?;
            }
        }
        Ok(())
    }

    /// Whether the author's settings say how code is executed.
    fn names_engine(&self) -> Result<bool, InputError> {
        let Some(path) = &self.config else { return Ok(false) };
        let mut document = Document::default();
        document.add_bytes(path, read(path)?).map_err(|mistake| InputError::of(&[mistake]))?;
        let settings = document.settings().map_err(|mistakes| InputError::of(&mistakes))?;
        let is_engine = |key: Option<&str>| key == Some("engine");
        Ok(settings.iter().any(|it| it.table.is_empty() && is_engine(it.key.as_deref())))
    }

    /// The inputs that a plugin needs and does not have, each as a mistake with its remedy.
    pub(super) fn missing(
        &self,
        plugin: &Verified,
        settings: &Settings,
        prefix: &str,
    ) -> Vec<String> {
        let manifest = plugin.manifest();
        let grants = &manifest.grants;
        let mut missing = Vec::new();
        for key in &grants.credentials {
            let file = credential_file(plugin.name(), key);
            let given_as = file.strip_prefix(prefix).unwrap_or(&file);
            if [given_as, &file].iter().all(|name| !self.credentials.contains_key(*name)) {
                let remedy = self.credential_remedy(given_as);
                let message = format!("grants.credentials has {key}, which is not given; {remedy}");
                missing.push(placed(&grants.origin(Grant::Credentials), message));
            }
        }
        let subscribes = manifest.subscribe.first();
        let subscribes = subscribes.map(|subscribe| ("receives", subscribe.origin.clone()));
        let publishes = || Some(("sends", grants.origin(Grant::Publish)));
        let publishes = || publishes().filter(|_| grants.has(Grant::Publish));
        if settings.messaging.is_none()
            && let Some((does, origin)) = subscribes.or_else(publishes)
        {
            let message = format!(
                "the plugin {does} messages, and the daemon has no NATS server; write url = \
                 \"nats://HOST:4222\" below [messaging] in {}",
                self.config_remedy()
            );
            missing.push(placed(&origin, message));
        }
        missing
    }

    fn credential_remedy(&self, key: &str) -> String {
        match self.command {
            InputCommand::Run => format!("add --credential {key}=FILE"),
            InputCommand::Test => format!(
                "write {} = \"VALUE\" below [credentials] in test.toml, or add --credential {key}=FILE",
                toml_key(key)
            ),
        }
    }

    /// The end of a sentence that begins with the settings.
    fn config_remedy(&self) -> String {
        match (&self.config, self.command) {
            (Some(path), _) => path.strip_prefix(".").unwrap_or(path).display().to_string(),
            (None, InputCommand::Run) => "a file, and add --config FILE".to_owned(),
            (None, InputCommand::Test) => {
                "a file, and config = \"FILE\" at the top of test.toml, or add --config FILE"
                    .to_owned()
            }
        }
    }
}

/// Takes the name of a credential.
pub(crate) fn credential_name(text: &str) -> Result<String, String> {
    match text.parse() {
        Ok(CredentialFile::Credential(name)) => Ok(name),
        _ => Err(format!(
            "{text:?} is not a name of a credential; write the name that the manifest or the settings have"
        )),
    }
}

fn parse_credential(text: &str) -> Result<(String, PathBuf), String> {
    let (key, path) = text.split_once('=').ok_or("write a name, = and a file, as in token=FILE")?;
    if path.is_empty() {
        return Err("write a file after =, as in token=FILE".to_owned());
    }
    Ok((credential_name(key)?, path.into()))
}

/// A key of TOML, in quotes if it needs them.
fn toml_key(key: &str) -> String {
    match key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) {
        true => key.to_owned(),
        false => format!("{key:?}"),
    }
}

/// Refuses the settings of sockets.
fn refuse_sockets(document: &Document) -> Result<(), InputError> {
    let settings = document.settings().map_err(|mistakes| InputError::of(&mistakes))?;
    let is_of_sockets = |table: &str| table == "sockets" || table.starts_with("sockets.");
    match settings.into_iter().find(|setting| is_of_sockets(&setting.table)) {
        None => Ok(()),
        Some(setting) => {
            let message = format!(
                "[{}] must not be set here, because pluginctl opens the sockets of this daemon; remove it, or use \
                 another file",
                setting.table
            );
            Err(InputError::of(&[Diagnostic::at(setting.place, message)]))
        }
    }
}

/// Reads a file or a pipe to its end.
fn read(path: &Path) -> Result<Vec<u8>, InputError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|opened| opened.take(FILE_MAX + 1).read_to_end(&mut bytes))
        .map_err(|source| InputError::Read { path: path.to_owned(), source })?;
    if bytes.len() as u64 > FILE_MAX {
        return Err(InputError::TooLarge(path.to_owned()));
    }
    Ok(bytes)
}

/// Replaces a file at once.
fn put(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), InputError> {
    let (draft, path) = (directory.join(".new"), directory.join(name));
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&draft, bytes))
        .and_then(|()| fs::rename(&draft, &path))
        .map_err(|source| InputError::Write { path, source })
}

#[cfg(test)]
mod tests;
