//! One plugin as its keeper sees it: the version that serves, the one that is to follow, those that are leaving.

use crate::{
    claims::Wish,
    generation::Generation,
    lifecycle::State,
    name::PluginName,
    plugin::manifest::Manifest,
    pool::Pool,
    summary::{Failed, Stage, Summary},
};
use std::sync::Arc;

/// One plugin and all of its generations.
#[derive(Default)]
pub struct Kept {
    /// The one that serves, or did until it failed.
    pub current: Option<Generation>,
    /// The one that is to take its place.
    pub candidate: Option<Generation>,
    /// Those that finish what they have in hand.
    pub leaving: Vec<Generation>,
    /// The preparation that is under way.
    pub preparing: Option<Preparing>,
    /// Why the newest version does not serve.
    pub problem: Option<Problem>,
    /// Its files are gone, or the daemon ends: it goes when its generations have.
    pub removed: bool,
}

/// A version of a plugin that is being compiled and linked.
pub struct Preparing {
    /// Tells this preparation from earlier ones.
    pub ticket: u64,
    /// The component's SHA-256 digest.
    pub digest: [u8; 32],
    /// The manifest.
    pub manifest: Manifest,
    /// The routes it asks for.
    pub wishes: Vec<Wish>,
}

/// Why the newest version of a plugin does not serve.
pub struct Problem {
    /// What was being done with it.
    pub stage: Stage,
    /// What went wrong.
    pub error: String,
    /// Trying again helps only after something was changed.
    pub configuration: bool,
    /// Whether the daemon is not ready without the plugin.
    pub required: bool,
    /// The routes it asks for, as far as that is known.
    pub wishes: Vec<Wish>,
}

impl Kept {
    /// The generation with this number.
    pub fn generation(&mut self, number: u64) -> Option<&mut Generation> {
        let all = self.current.iter_mut().chain(&mut self.candidate).chain(&mut self.leaving);
        all.into_iter().find(|generation| generation.number == number)
    }

    /// The generation to which requests come.
    #[must_use]
    pub fn serving(&self) -> Option<&Generation> {
        let serves = |state| matches!(state, State::Active | State::Recovering);
        self.current.as_ref().filter(|current| serves(current.life.state()))
    }

    /// Whether this very component with this very manifest is on its way already.
    #[must_use]
    pub fn is_preparing(&self, digest: &[u8; 32], manifest: &Manifest) -> bool {
        let candidate = || {
            self.candidate
                .as_ref()
                .is_some_and(|candidate| candidate.is_made_from(digest, manifest))
        };
        match &self.preparing {
            Some(preparing) => preparing.digest == *digest && preparing.manifest == *manifest,
            None => candidate(),
        }
    }

    /// Whether something is under way that may make it serve.
    #[must_use]
    pub fn is_on_its_way(&self) -> bool {
        self.preparing.is_some() || self.candidate.is_some()
    }

    /// Whether nothing of it is left.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.removed && self.leaving.is_empty()
    }

    /// The routes it serves, or would serve, and its instances if it does.
    #[must_use]
    pub fn routes(&self) -> (Vec<Wish>, Option<Arc<Pool>>) {
        if let Some(serving) = self.serving() {
            return (serving.wishes(), Some(serving.pool.clone()));
        }
        let preparing = self.preparing.as_ref().map(|preparing| preparing.wishes.clone());
        let problem = || self.problem.as_ref().map(|problem| problem.wishes.clone());
        let generation =
            || self.candidate.as_ref().or(self.current.as_ref()).map(Generation::wishes);
        (preparing.or_else(problem).or_else(generation).unwrap_or_default(), None)
    }

    /// Whether the daemon is not ready without it, as its newest version says.
    fn is_required(&self) -> bool {
        let preparing = self.preparing.as_ref().map(|preparing| preparing.manifest.required);
        let problem = self.problem.as_ref().map(|problem| problem.required);
        let generation = self.candidate.as_ref().or(self.current.as_ref());
        let generation = generation.map(|generation| generation.manifest().required);
        preparing.or(problem).or(generation).unwrap_or(true)
    }

    /// Adds its share to the summary.
    pub fn sum_up(&self, name: &PluginName, summary: &mut Summary) {
        summary.plugins += 1;
        let required = self.is_required();
        let returned = |current: &Generation| current.life.state() == State::Inactive;
        if self.serving().is_some() || self.current.as_ref().is_some_and(returned) {
            summary.ready += 1;
        } else if required && self.is_on_its_way() {
            summary.awaited.push(name.clone());
        }
        if let Some(problem) = &self.problem {
            summary.failed.push(Failed {
                plugin: name.clone(),
                required,
                stage: problem.stage,
                error: problem.error.clone(),
                configuration: problem.configuration,
            });
        }
    }
}
