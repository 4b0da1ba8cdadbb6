//! The properties of the daemon's unit that matter for the files and the grants of plugins, as systemd reports
//! them.
//!
//! A property that is not there is one that this systemd does not know; nothing follows from that.

use std::{collections::HashMap, path::PathBuf};

/// The unit's name.
pub(crate) const UNIT: &str = "plugind.service";

/// The properties that count.
pub(crate) const PROPERTIES: [&str; 34] = [
    "LoadState",
    "PrivateNetwork",
    "NetworkNamespacePath",
    "JoinsNamespaceOf",
    "RestrictAddressFamilies",
    "IPAddressDeny",
    "IPAddressAllow",
    "RootDirectory",
    "RootImage",
    "BindPaths",
    "BindReadOnlyPaths",
    "TemporaryFileSystem",
    "InaccessiblePaths",
    "ProtectHome",
    "PrivateTmp",
    "ProtectSystem",
    "DynamicUser",
    "User",
    "Group",
    "SupplementaryGroups",
    "UID",
    "GID",
    "StateDirectory",
    "ReadWritePaths",
    "ImportCredential",
    "ControlGroup",
    "MemoryHigh",
    "MemoryMax",
    "EffectiveMemoryHigh",
    "EffectiveMemoryMax",
    "TasksMax",
    "EffectiveTasksMax",
    "LimitNOFILE",
    "LimitAS",
];

/// The daemon's unit.
pub(crate) struct Unit {
    properties: HashMap<String, String>,
    /// Its lines about credentials, if its files are known: `systemctl show` does not print what they say.
    credentials: Option<Vec<Line>>,
}

/// Where a credential of the unit comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CredentialSource {
    /// A file of the machine.
    File { name: String, path: PathBuf },
    /// The directories for credentials, in which only the end of a name may be a `*`.
    Store { glob: String },
}

/// A setting that provides credentials, and its value.
type Line = (&'static str, String);

impl Unit {
    /// Parses the output of `systemctl show` and, if it is available, of `systemctl cat`. None if there is no unit.
    pub(crate) fn parse(shown: &str, files: Option<&str>) -> Option<Self> {
        let properties = shown.lines().filter_map(|line| line.split_once('='));
        let properties: HashMap<_, _> =
            properties.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect();
        let is_loaded = properties.get("LoadState").is_some_and(|state| state == "loaded");
        let credentials = files.map(credentials);
        is_loaded.then_some(Self { properties, credentials })
    }

    /// A property's value, which may be empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// A property that is a number; none if it is another value, such as `infinity`.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// Whether a property is set.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !value.is_empty())
    }

    /// Whether a property has exactly this value.
    pub(crate) fn is(&self, name: &str, wanted: &str) -> bool {
        self.get(name) == Some(wanted)
    }

    /// The paths in a property that is a list of them, as they are written: `-` and the like may stand before one, and
    /// something with a colon behind it. systemd does not quote blanks in them.
    pub(crate) fn paths(&self, name: &str) -> impl Iterator<Item = &str> {
        let mut left = self.get(name).unwrap_or_default();
        std::iter::from_fn(move || {
            let next = [" /", " -/", " +/", " -+/"].iter().filter_map(|next| left.find(next)).min();
            let (path, rest) = left.split_at(next.unwrap_or(left.len()));
            left = rest.trim_start();
            (!path.is_empty()).then_some(path)
        })
    }

    /// Whether a line of the unit provides a credential of this name, as far as lines can tell.
    pub(crate) fn provides(&self, credential: &str) -> bool {
        let Some(lines) = &self.credentials else { return true };
        lines.iter().any(|(key, value)| match *key {
            // Older versions of systemd do not know it.
            "ImportCredential" => self.get(key).is_some() && imports(value, credential),
            _ => {
                let id = value.split_once(':').map_or(value.as_str(), |(id, _)| id);
                // A credential from a directory is named by the identifier, an underscore and the file.
                let below = credential.strip_prefix(id).is_some_and(|file| file.starts_with('_'));
                id == credential || (*key == "LoadCredential" && below)
            }
        })
    }
}

impl Unit {
    /// Where the credentials of the unit come from, as far as its lines name files.
    pub(crate) fn credential_sources(&self) -> Vec<CredentialSource> {
        let lines = self.credentials.iter().flatten();
        let sources = lines.filter_map(|(key, value)| {
            let parts = value.split_once(':');
            match (*key, parts) {
                ("LoadCredential", Some((name, path))) if path.starts_with('/') => {
                    let (name, path) = (name.to_owned(), PathBuf::from(path));
                    Some(CredentialSource::File { name, path })
                }
                ("LoadCredential", None) => Some(CredentialSource::Store { glob: value.clone() }),
                // A credential that gets another name is left out.
                ("ImportCredential", None) if self.get(key).is_some() => {
                    Some(CredentialSource::Store { glob: value.clone() })
                }
                _ => None,
            }
        });
        sources.collect()
    }
}

/// Whether `GLOB`, in which only the end may be a `*`, or `GLOB:NAME` gives the credential.
fn imports(value: &str, credential: &str) -> bool {
    let (glob, renamed) = value.split_once(':').unwrap_or((value, value.trim_end_matches('*')));
    match glob.ends_with('*') {
        true => credential.starts_with(renamed),
        false => credential == renamed,
    }
}

/// The lines about credentials that count, of all files of a unit.
fn credentials(files: &str) -> Vec<Line> {
    let (mut lines, mut section): (Vec<Line>, _) = (Vec::new(), String::new());
    let without_comments =
        files.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';']));
    let joined = without_comments.collect::<Vec<_>>().join("\n").replace("\\\n", " ");
    for line in joined.lines() {
        if line.starts_with('[') {
            line.clone_into(&mut section);
        }
        let Some((key, value)) = line.split_once('=').filter(|_| section == "[Service]") else {
            continue;
        };
        // Those that are encrypted are kept in one list with those that are not.
        let plain = match key.trim().trim_end_matches("Encrypted") {
            "LoadCredential" => "LoadCredential",
            "SetCredential" => "SetCredential",
            "ImportCredential" => "ImportCredential",
            _ => continue,
        };
        match value.trim().trim_matches(['"', '\'']) {
            "" => lines.retain(|(key, _)| *key != plain),
            value => lines.push((plain, value.to_owned())),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(shown: &str, files: &str) -> Unit {
        Unit::parse(&format!("LoadState=loaded\n{shown}"), Some(files)).unwrap()
    }

    #[test]
    fn a_unit_that_is_not_there_is_none() {
        for shown in ["", "LoadState=not-found\n", "LoadState=masked\nPrivateNetwork=yes\n", "\0=="]
        {
            assert!(Unit::parse(shown, None).is_none(), "{shown:?}");
        }
        assert!(Unit::parse("LoadState=loaded\n\n=\nstrange\n", None).is_some());
    }

    #[test]
    fn paths_are_recognized_with_any_prefix_and_suffix() {
        let unit = unit("BindPaths=-/c:/c:rbind /d e:/f:rbind -/g\nReadWritePaths=\n", "");
        let paths: Vec<_> = unit.paths("BindPaths").collect();
        assert_eq!(paths, ["-/c:/c:rbind", "/d e:/f:rbind", "-/g"]);
        assert_eq!(unit.paths("ReadWritePaths").count() + unit.paths("Unknown").count(), 0);
    }

    #[test]
    fn a_credential_is_provided_by_its_name_its_directory_or_a_pattern() {
        let files = "# /usr/lib/systemd/system/plugind.service\n[Service]\n\
                     LoadCredential=plugind.a.one:/etc/one\nSetCredential=plugind.a.two:x y\n\
                     LoadCredentialEncrypted=\"plugind.a.three\"\nLoadCredential=plugind.dir:/etc/dir\n\
                     #LoadCredential=plugind.a.comment:/x\n[Unit]\nLoadCredential=plugind.a.unit:/x\n";
        let unit = unit("", files);
        for name in ["plugind.a.one", "plugind.a.two", "plugind.a.three", "plugind.dir_x.y"] {
            assert!(unit.provides(name), "{name}");
        }
        for name in ["plugind.a.on", "plugind.a.one.x", "plugind.a.comment", "plugind.a.unit"] {
            assert!(!unit.provides(name), "{name}");
        }
    }

    #[test]
    fn the_files_of_credentials_are_those_that_lines_name() {
        let files = "[Service]\nLoadCredential=plugind.a.one:/etc/one\nSetCredential=plugind.a.two:x\n\
                     LoadCredentialEncrypted=plugind.a.three\nImportCredential=plugind.*\n\
                     ImportCredential=a:b\n";
        let store = |glob: &str| CredentialSource::Store { glob: glob.to_owned() };
        let file = CredentialSource::File {
            name: "plugind.a.one".to_owned(),
            path: PathBuf::from("/etc/one"),
        };
        let [old, new] = ["", "ImportCredential=plugind.*\n"].map(|it| unit(it, files));
        assert_eq!(old.credential_sources(), [file, store("plugind.a.three")]);
        assert_eq!(new.credential_sources()[2..], [store("plugind.*")]);
    }

    #[test]
    fn an_empty_line_takes_back_what_stands_before_it() {
        let files = "[Service]\nLoadCredential=a:/a\nSetCredential=b:b\n[Service]\n\
                     LoadCredential=\\\n c:/c\nLoadCredential=\nLoadCredential=d:/d\n";
        let unit = unit("", files);
        assert!(unit.provides("b") && unit.provides("d"));
        assert!(!unit.provides("a") && !unit.provides("c"));
    }

    #[test]
    fn a_pattern_counts_where_systemd_knows_it_under_the_name_that_it_gives() {
        let files = "[Service]\nImportCredential=plugind.a.*\nImportCredential=mail.*:plugind.b.\n\
                     ImportCredential=one:plugind.c.one\n";
        let (new, old) = (unit("ImportCredential=\"plugind.a.*\"\n", files), unit("", files));
        for (name, imported) in [
            ("plugind.a.x", true),
            ("plugind.b.x", true),
            ("plugind.c.one", true),
            ("plugind.c.oneself", false),
            ("plugind.d.x", false),
        ] {
            assert_eq!(new.provides(name), imported, "{name}");
            assert!(!old.provides(name), "{name}");
        }
    }

    #[test]
    fn nothing_follows_from_files_that_are_not_known() {
        assert!(Unit::parse("LoadState=loaded", None).unwrap().provides("plugind.a.one"));
    }
}
