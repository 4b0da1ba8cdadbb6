//! The directories that the environment names, read once, before there are threads.

use rustix::process::{Resource, getrlimit, setrlimit};
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// The part of the environment that counts.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `$CACHE_DIRECTORY`, which systemd sets for `CacheDirectory=`.
    pub cache_directory: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`
    pub xdg_config_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`
    pub xdg_runtime_directory: Option<PathBuf>,
    /// `$XDG_CACHE_HOME`
    pub xdg_cache_home: Option<PathBuf>,
    /// `$STATE_DIRECTORY`, which systemd sets for `StateDirectory=`.
    pub state_directory: Option<PathBuf>,
    /// `$XDG_STATE_HOME`
    pub xdg_state_home: Option<PathBuf>,
    /// `$CREDENTIALS_DIRECTORY`, which systemd sets for `LoadCredential=`.
    pub credentials_directory: Option<PathBuf>,
    /// `$HOME`
    pub home: Option<PathBuf>,
    /// The variables for traces.
    pub traces: TraceEnvironment,
    /// Whether this is root.
    pub is_root: bool,
    /// Whether the directories of the user are meant, even if that is root.
    pub is_of_user: bool,
    /// The program itself.
    pub program: PathBuf,
}

/// The variables of OpenTelemetry that count.
#[derive(Clone, Debug, Default)]
pub struct TraceEnvironment {
    /// `$OTEL_EXPORTER_OTLP_ENDPOINT`: the collector of traces.
    pub endpoint: Option<String>,
    /// `$OTEL_SERVICE_NAME`: the name of this service in traces.
    pub service: Option<String>,
}

/// The directories of the user cannot be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--user needs HOME, or XDG_CONFIG_HOME, XDG_CACHE_HOME and XDG_STATE_HOME")]
pub struct NoUserDirectories;

impl Environment {
    /// Reads the environment of this process.
    #[must_use]
    pub fn read() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the environment is read here")]
        let path = |name| {
            env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from)
        };
        let xdg = |name| path(name).filter(|path| path.is_absolute());
        let text = |name| path(name).map(|value| value.to_string_lossy().into_owned());
        Self {
            // systemd separates several by colons; the first is the one that is meant.
            cache_directory: path("CACHE_DIRECTORY").map(|all| first_of(&all)),
            // The specification says that relative paths must be ignored.
            xdg_config_home: xdg("XDG_CONFIG_HOME"),
            xdg_runtime_directory: xdg("XDG_RUNTIME_DIR"),
            xdg_cache_home: xdg("XDG_CACHE_HOME"),
            state_directory: path("STATE_DIRECTORY").map(|all| first_of(&all)),
            xdg_state_home: xdg("XDG_STATE_HOME"),
            credentials_directory: path("CREDENTIALS_DIRECTORY"),
            home: path("HOME"),
            traces: TraceEnvironment {
                endpoint: text("OTEL_EXPORTER_OTLP_ENDPOINT"),
                service: text("OTEL_SERVICE_NAME"),
            },
            is_root: rustix::process::geteuid().is_root(),
            is_of_user: false,
            program: env::current_exe().unwrap_or_else(|_| PathBuf::from("plugind")),
        }
    }

    /// The same with the directories of this user, who may be root.
    ///
    /// # Errors
    /// When neither `$HOME` nor variables for each of them are set.
    pub fn of_user(self) -> Result<Self, NoUserDirectories> {
        let found = [
            self.xdg_config_home.is_some(),
            self.cache_directory.is_some() || self.xdg_cache_home.is_some(),
            self.state_directory.is_some() || self.xdg_state_home.is_some(),
        ];
        match self.home.is_some() || found.iter().all(|is_found| *is_found) {
            true => Ok(Self { is_of_user: true, ..self }),
            false => Err(NoUserDirectories),
        }
    }

    /// Where compiled code is kept: below the root that was given, or where systemd says, or where such things
    /// usually are.
    #[must_use]
    pub fn cache(&self, root: Option<&Path>) -> PathBuf {
        let (systemd, user) = (&self.cache_directory, &self.xdg_cache_home);
        self.kept(root, systemd.as_ref(), user.as_ref(), ".cache", "var/cache/plugind")
    }

    /// Where the state of plugins is kept, by the same rules.
    #[must_use]
    pub fn state(&self, root: Option<&Path>) -> PathBuf {
        let (systemd, user) = (&self.state_directory, &self.xdg_state_home);
        self.kept(root, systemd.as_ref(), user.as_ref(), ".local/state", "var/lib/plugind")
    }

    /// Where this user's configuration is.
    #[must_use]
    pub fn user_config(&self) -> Option<PathBuf> {
        let at_home = || Some(self.home.as_ref()?.join(".config"));
        self.xdg_config_home.clone().or_else(at_home)
    }

    /// Where credentials are: below the root that was given, or where systemd says, or nowhere.
    #[must_use]
    pub fn credentials(&self, root: Option<&Path>) -> Option<PathBuf> {
        let below = root.map(|root| root.join("run/credentials/plugind.service"));
        below.or_else(|| self.credentials_directory.clone())
    }

    fn kept(
        &self,
        root: Option<&Path>,
        systemd: Option<&PathBuf>,
        user: Option<&PathBuf>,
        at_home: &str,
        of_the_system: &str,
    ) -> PathBuf {
        if let Some(root) = root {
            return root.join(of_the_system);
        }
        if let Some(directory) = systemd {
            return directory.clone();
        }
        let of_the_user = user.cloned().or_else(|| Some(self.home.as_ref()?.join(at_home)));
        match of_the_user {
            Some(directory) if self.is_of_user || !self.is_root => directory.join("plugind"),
            _ => Path::new("/").join(of_the_system),
        }
    }

    /// The program `plugind`, beside this one.
    #[must_use]
    pub fn daemon(&self) -> PathBuf {
        self.program.with_file_name("plugind")
    }

    /// The program `plugind-compile`: beside this one, or in the directory for internal programs.
    #[must_use]
    pub fn compiler(&self) -> PathBuf {
        let directory = self.program.parent().unwrap_or(Path::new("/"));
        let beside = directory.join("plugind-compile");
        let elsewhere = ["../libexec/plugind/plugind-compile", "../lib/plugind/plugind-compile"];
        elsewhere
            .iter()
            .map(|path| directory.join(path))
            .find(|path| path.exists() && !beside.exists())
            .unwrap_or(beside)
    }
}

/// Allows this process as many open files as its user may have.
///
/// The default limit is far below the number of connections and plugins that it can serve; it is low only for programs
/// that use select(2).
///
/// # Errors
/// When the system refuses it; the limit stays what it was.
pub fn raise_open_files() -> std::io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

fn first_of(paths: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let first = paths.as_os_str().as_bytes().split(|byte| *byte == b':').next().unwrap_or_default();
    PathBuf::from(OsString::from_vec(first.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_where_it_was_said_or_where_such_things_are() {
        let path = |text: &str| Some(PathBuf::from(text));
        let root = Environment { home: path("/root"), is_root: true, ..Environment::default() };
        let user = Environment { home: path("/home/me"), ..Environment::default() };
        let systemd = Environment { cache_directory: path("/var/cache/private/p"), ..user.clone() };
        let desktop = Environment { xdg_cache_home: path("/x"), ..user.clone() };
        for (environment, given, expected) in [
            (&root, None, "/var/cache/plugind"),
            (&user, None, "/home/me/.cache/plugind"),
            (&desktop, None, "/x/plugind"),
            (&systemd, None, "/var/cache/private/p"),
            (&systemd, Some("/tmp/tree"), "/tmp/tree/var/cache/plugind"),
        ] {
            assert_eq!(environment.cache(given.map(Path::new)), Path::new(expected));
        }
        for (environment, given, expected) in [
            (&root, None, "/var/lib/plugind"),
            (&user, None, "/home/me/.local/state/plugind"),
            (&user, Some("/tmp/tree"), "/tmp/tree/var/lib/plugind"),
        ] {
            assert_eq!(environment.state(given.map(Path::new)), Path::new(expected));
        }
        assert_eq!(user.credentials(None), None);
        let root = root.of_user().unwrap();
        assert_eq!(root.cache(None), Path::new("/root/.cache/plugind"));
        assert_eq!(root.state(None), Path::new("/root/.local/state/plugind"));
        assert_eq!(first_of(Path::new("/a:/b")), Path::new("/a"));
    }

    #[test]
    fn without_a_home_every_directory_of_a_user_must_be_named() {
        let path = Some(PathBuf::from("/x"));
        let mut environment = Environment {
            is_root: true,
            xdg_config_home: path.clone(),
            xdg_cache_home: path.clone(),
            ..Environment::default()
        };
        assert_eq!(environment.clone().of_user().err(), Some(NoUserDirectories));
        environment.xdg_state_home = path;
        assert_eq!(environment.of_user().unwrap().state(None), Path::new("/x/plugind"));
    }
}
