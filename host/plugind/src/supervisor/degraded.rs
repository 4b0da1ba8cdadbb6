//! Why a plugin that serves is degraded: one function decides it, and lists, `STATUS=` and metrics follow from that.

use crate::{base::name::PluginName, pool::instances::Pool};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    fmt,
    time::SystemTime,
};

/// Why a plugin that serves is degraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DegradedReason {
    /// This middleware, through which its requests go, does not serve.
    Middleware(PluginName),
    /// An instance says so, or something that was granted cannot be used.
    Reported(String),
    /// Requests of the last minute were refused. Without their number, since each change of a reason is an event.
    Saturated,
    /// The newest version cannot be used, and the previous one has served since then.
    PreviousVersion(SystemTime),
    /// An operator rolled it back.
    RolledBack,
}

impl DegradedReason {
    /// The reason that the instances of a version have.
    #[must_use]
    pub fn of_pool(pool: &Pool) -> Option<Self> {
        let is_saturated = || (pool.failures().busy > 0).then_some(Self::Saturated);
        pool.shared().degraded().map(Self::Reported).or_else(is_saturated)
    }

    /// Whether a published reason, or that there is none, agrees with the reason that the instances have now.
    pub(super) fn agrees(published: Option<&Self>, of_pool: Option<&Self>) -> bool {
        match published {
            // It comes before theirs.
            Some(Self::Middleware(_)) => true,
            Some(Self::Reported(_) | Self::Saturated) => published == of_pool,
            // They come after theirs.
            None | Some(Self::PreviousVersion(_) | Self::RolledBack) => of_pool.is_none(),
        }
    }
}

impl fmt::Display for DegradedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Middleware(link) => {
                write!(f, "its requests are refused, because its middleware {link} does not serve")
            }
            Self::Reported(why) => f.write_str(why),
            Self::Saturated => f.write_str("no instance had room for requests of the last minute"),
            Self::PreviousVersion(since) => {
                let since = humantime::format_rfc3339_seconds(*since);
                write!(f, "it has served its previous version since {since}")
            }
            Self::RolledBack => f.write_str("an operator rolled it back to its previous version"),
        }
    }
}

/// The plugins whose requests go through each middleware: a change of the middleware concerns them as well.
#[derive(Default)]
pub(super) struct MiddlewareUsers {
    links: BTreeMap<PluginName, Vec<PluginName>>,
    users: BTreeMap<PluginName, BTreeSet<PluginName>>,
}

impl MiddlewareUsers {
    /// The requests of `user` go through these, and no others.
    pub(super) fn set(&mut self, user: &PluginName, links: &[PluginName]) {
        let before = self.links.get(user).map(Vec::as_slice).unwrap_or_default();
        if before == links {
            return;
        }
        for link in self.links.remove(user).unwrap_or_default() {
            let Entry::Occupied(mut users) = self.users.entry(link) else { continue };
            users.get_mut().remove(user);
            if users.get().is_empty() {
                users.remove();
            }
        }
        for link in links {
            self.users.entry(link.clone()).or_default().insert(user.clone());
        }
        if !links.is_empty() {
            self.links.insert(user.clone(), links.to_vec());
        }
    }

    /// The plugins whose requests go through this one.
    pub(super) fn of(&self, link: &PluginName) -> impl Iterator<Item = &PluginName> {
        self.users.get(link).into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_agrees_with_the_instances_or_comes_before_their_reason() {
        let [gone, slow] = ["gone", "slow"].map(|why| DegradedReason::Reported(why.to_owned()));
        let agrees = DegradedReason::agrees;
        assert!(agrees(None, None) && agrees(Some(&gone), Some(&gone)));
        assert!(!agrees(None, Some(&gone)) && !agrees(Some(&gone), None));
        assert!(!agrees(Some(&gone), Some(&slow)));
        assert!(!agrees(Some(&DegradedReason::Saturated), Some(&gone)));
        for last in [DegradedReason::RolledBack, DegradedReason::PreviousVersion(SystemTime::now())]
        {
            assert!(agrees(Some(&last), None) && !agrees(Some(&last), Some(&gone)));
        }
        let middleware = DegradedReason::Middleware("gate".parse().unwrap());
        assert!(agrees(Some(&middleware), None) && agrees(Some(&middleware), Some(&gone)));
    }

    #[test]
    fn the_users_of_a_middleware_are_those_whose_requests_go_through_it_now() {
        let [a, b, gate, log] = ["a", "b", "gate", "log"].map(|it| it.parse().unwrap());
        let mut users = MiddlewareUsers::default();
        users.set(&a, &[PluginName::clone(&gate), PluginName::clone(&log)]);
        users.set(&b, std::slice::from_ref(&gate));
        let of = |users: &MiddlewareUsers, link| users.of(link).cloned().collect::<Vec<_>>();
        assert_eq!(of(&users, &gate), [a.clone(), b.clone()]);
        users.set(&a, std::slice::from_ref(&log));
        assert_eq!((of(&users, &gate), of(&users, &log)), (vec![b.clone()], vec![a.clone()]));
        users.set(&b, &[]);
        users.set(&a, &[]);
        assert!(users.links.is_empty() && users.users.is_empty());
    }
}
