//! Which routes plugins ask for, and who gets one that two ask for.

use crate::{
    name::PluginName,
    plugin::{
        manifest::{Manifest, Serve},
        verify::Verified,
    },
    table::Route,
};
use std::collections::BTreeMap;

/// A route, and how many of the path's first segments the plugin does not want to see.
pub type Wish = (Route, usize);

/// The routes that a plugin with this name and manifest asks for.
#[must_use]
pub fn wishes(name: &PluginName, manifest: &Manifest) -> Vec<Wish> {
    let own = || format!("/{name}");
    if manifest.serve.is_empty() {
        return vec![(Route { host: None, prefix: own() }, 0)];
    }
    let wish = |serve: &Serve| {
        let prefix = serve.route.clone().unwrap_or_else(own);
        let segments = prefix.split('/').filter(|segment| !segment.is_empty()).count();
        let route = Route { host: serve.host.clone(), prefix };
        (route, if serve.strip_prefix { segments } else { 0 })
    };
    manifest.serve.iter().map(wish).collect()
}

/// Who has which route. Whoever claims first, in the order of names, has it.
#[derive(Default)]
pub struct Claims(BTreeMap<Route, PluginName>);

impl Claims {
    /// Claims the routes of a plugin, all or none.
    ///
    /// # Errors
    /// When another plugin has one of them: which, and what to do.
    pub fn claim(&mut self, verified: &Verified) -> Result<(), String> {
        if verified.offers().http.is_none() {
            return Ok(());
        }
        self.claim_all(verified.name(), wishes(verified.name(), verified.manifest()))
    }

    fn claim_all(&mut self, name: &PluginName, wishes: Vec<Wish>) -> Result<(), String> {
        let taken = wishes.iter().find_map(|(route, _)| Some((route, self.0.get(route)?)));
        if let Some((route, owner)) = taken {
            return Err(format!(
                "the route {route} is already taken by the plugin {owner}; \
                 give one of them another route in [[serve]]"
            ));
        }
        self.0.extend(wishes.into_iter().map(|(route, _)| (route, name.clone())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn wishes_of(name: &str, manifest: &str) -> Vec<Wish> {
        let manifest = Manifest::parse(Path::new("m.toml"), manifest).unwrap();
        wishes(&name.parse().unwrap(), &manifest)
    }

    #[test]
    fn without_a_word_a_plugin_asks_for_its_own_name() {
        let own = |strip| vec![(Route { host: None, prefix: "/hello".to_owned() }, strip)];
        assert_eq!(wishes_of("hello", ""), own(0));
        assert_eq!(wishes_of("hello", "[[serve]]\nstrip-prefix = true\n"), own(1));
    }

    #[test]
    fn the_first_to_claim_a_route_has_it_and_another_host_is_another_route() {
        let mut claims = Claims::default();
        let mut claim = |name: &str, manifest| {
            claims.claim_all(&name.parse().unwrap(), wishes_of(name, manifest))
        };
        assert_eq!(claim("a", "[[serve]]\nroute = \"/x\"\n"), Ok(()));
        let refused =
            claim("b", "[[serve]]\nroute = \"/y\"\n[[serve]]\nroute = \"/x\"\n").unwrap_err();
        assert!(refused.contains("/x is already taken by the plugin a"), "{refused}");
        assert_eq!(claim("c", "[[serve]]\nroute = \"/y\"\n"), Ok(()), "b got neither");
        assert_eq!(claim("d", "[[serve]]\nroute = \"/x\"\nhost = \"h\"\n"), Ok(()));
    }
}
