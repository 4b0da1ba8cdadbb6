//! Users and groups, as `[config]` of the manifest and the state define them.

use std::collections::BTreeMap;

/// The longest name of a user or group.
const NAME_MAX: usize = 31;
/// Numbers below it belong to the system.
const NUMBER_MIN: u32 = 1000;
/// Numbers above it are not understood by every program.
const NUMBER_MAX: u32 = i32::MAX as u32;

/// A user.
#[derive(Debug)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) real_name: Option<String>,
    pub(crate) home: Option<String>,
    pub(crate) shell: Option<String>,
}

/// A group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) gid: u32,
    pub(crate) members: Vec<String>,
}

/// All users and groups, by their names.
#[derive(Debug, Default)]
pub(crate) struct Records {
    pub(crate) users: BTreeMap<String, User>,
    pub(crate) groups: BTreeMap<String, Group>,
}

impl Records {
    /// Reads `NAME = "UID:GID:NAME IN FULL:HOME:SHELL"` and `@NAME = "GID:MEMBER,MEMBER"`.
    ///
    /// # Errors
    /// The key, and the rule that its value violates.
    pub(crate) fn read(entries: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let mut records = Self::default();
        for (key, value) in entries {
            let is_second = match key.strip_prefix('@') {
                Some(name) => {
                    let group = group(&value).map_err(|error| format!("{key}: {error}"))?;
                    records.groups.insert(valid_name(name)?, group).is_some()
                }
                None => {
                    let user = user(&value).map_err(|error| format!("{key}: {error}"))?;
                    records.users.insert(valid_name(&key)?, user).is_some()
                }
            };
            if is_second {
                return Err(format!("{key} must not be both in [config] and in the state"));
            }
        }
        records.add_own_groups();
        records.check_numbers()?;
        Ok(records)
    }

    /// Gives each user a group of its own name, unless a group has its GID already.
    fn add_own_groups(&mut self) {
        for (name, user) in &self.users {
            if !self.groups.values().any(|group| group.gid == user.gid) {
                let group = Group { gid: user.gid, members: Vec::new() };
                self.groups.entry(name.clone()).or_insert(group);
            }
        }
    }

    fn check_numbers(&self) -> Result<(), String> {
        unique(self.users.iter().map(|(name, user)| (name, user.uid)))?;
        unique(self.groups.iter().map(|(name, group)| (name, group.gid)))?;
        for (name, user) in &self.users {
            if !self.groups.values().any(|group| group.gid == user.gid) {
                return Err(format!("{name}: no group has the GID {}", user.gid));
            }
        }
        Ok(())
    }

    /// The members of all groups, as user and group.
    pub(crate) fn memberships(&self) -> impl Iterator<Item = (&str, &str)> {
        self.groups
            .iter()
            .flat_map(|(group, of)| of.members.iter().map(|user| (user.as_str(), group.as_str())))
    }
}

fn unique<'a>(numbers: impl Iterator<Item = (&'a String, u32)>) -> Result<(), String> {
    let mut names = BTreeMap::new();
    for (name, number) in numbers {
        if let Some(other) = names.insert(number, name) {
            return Err(format!("{other} and {name} must not have the same number {number}"));
        }
    }
    Ok(())
}

fn user(value: &str) -> Result<User, String> {
    let mut fields = value.splitn(5, ':');
    let uid = number(fields.next().unwrap_or_default())?;
    let gid = match fields.next() {
        None | Some("") => uid,
        Some(gid) => number(gid)?,
    };
    let mut text = || match fields.next() {
        Some(text) if text.contains(char::is_control) => Err("it must not have control characters"),
        text => Ok(text.filter(|text| !text.is_empty()).map(str::to_owned)),
    };
    Ok(User { uid, gid, real_name: text()?, home: text()?, shell: text()? })
}

fn group(value: &str) -> Result<Group, String> {
    let (gid, members) = value.split_once(':').unwrap_or((value, ""));
    let members = members.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(Group { gid: number(gid)?, members: members.map(valid_name).collect::<Result<_, _>>()? })
}

fn number(text: &str) -> Result<u32, String> {
    // 65534 is the user "nobody", and 65535 was the invalid number when these had 16 bits.
    let number = text.trim().parse().ok();
    number
        .filter(|number| {
            (NUMBER_MIN..=NUMBER_MAX).contains(number) && !matches!(number, 65534 | 65535)
        })
        .ok_or_else(|| {
            format!(
                "a UID or GID must be a number from {NUMBER_MIN} to {NUMBER_MAX}, but not 65534 or 65535; \
                 it is {text:?}"
            )
        })
}

fn valid_name(name: &str) -> Result<String, String> {
    let is_first = |c: char| c.is_ascii_lowercase() || c == '_';
    let is_further = |c: char| is_first(c) || c.is_ascii_digit() || c == '-';
    let is_valid =
        name.len() <= NAME_MAX && name.starts_with(is_first) && name.chars().all(is_further);
    match is_valid {
        true => Ok(name.to_owned()),
        false => Err(format!(
            "a name must have at most {NAME_MAX} of a-z, 0-9, _ and -, and begin with a letter or _; it is {name:?}"
        )),
    }
}
