//! Limits of plugind.toml and of the daemon's unit that are too low for the instances of all plugins.

use crate::unit::{UNIT, Unit};
use plugind::{
    api::FailedStage,
    base::quantity::Bytes,
    check::Checked,
    config::settings::{PoolSettings, Settings},
    plugin::verify::Verified,
    systemd::cgroup::limit_of,
};
use std::path::Path;

/// Tasks of the daemon and of `pluginctl reload`, which its unit runs, beside those for each processor.
const TASKS: u64 = 32;
/// Threads of the daemon for each processor: one that serves, and one in the background.
const TASKS_PER_PROCESSOR: u64 = 2;
/// Files that the daemon has open without plugins and connections, beside those for each processor.
const FILES: u64 = 96;
/// Files that the daemon opens for each processor.
const FILES_PER_PROCESSOR: u64 = 8;
/// Files that the daemon opens for a plugin, beside the directories of each instance.
const FILES_PER_PLUGIN: u64 = 8;
/// The address space that each memory of an instance reserves at least.
const ADDRESSES_PER_MEMORY: u64 = 4 << 30;

/// The limits, and what is known of the machine.
pub(super) struct ResourceLimits<'a> {
    pub(super) settings: &'a Settings,
    pub(super) unit: Option<&'a Unit>,
    pub(super) processors: u64,
}

/// Memory that all plugins together may use.
struct MemoryLimit {
    max: Bytes,
    /// The setting that sets it.
    by: String,
}

impl ResourceLimits<'_> {
    /// Finds the plugins that need more than there is, which fail, and returns the mistakes of all plugins together.
    pub(super) fn find(&self, plugins: &mut [Checked]) -> Vec<String> {
        let mut mistakes = Vec::new();
        if let Some(limit) = self.memory() {
            let too_large = plugins.iter_mut().filter(|checked| {
                let starts = started(checked).filter(|_| checked.failed.is_none());
                starts.is_some_and(|(verified, _)| first_memory(verified) > limit.max.0)
            });
            let message = |checked: &Checked| {
                let memory = checked.verified.as_ref().map(first_memory).unwrap_or_default();
                format!(
                    "{} begins with {} of memory, and all plugins together may use {} ({}); raise that limit",
                    checked.component.display(),
                    Bytes(memory),
                    limit.max,
                    limit.by
                )
            };
            for checked in too_large {
                checked.failed = Some((FailedStage::Start, vec![message(checked)]));
            }
            let needed = sum(plugins, first_memory);
            if needed > limit.max.0 {
                mistakes.push(format!(
                    "all plugins together begin with {} of memory, and may use {} ({}); raise that limit, or remove \
                     plugins",
                    Bytes(needed),
                    limit.max,
                    limit.by
                ));
            }
        }
        mistakes.extend(self.pool(plugins));
        mistakes.extend(self.of_processes(plugins));
        mistakes
    }

    /// The limit of memory as the daemon finds it: its setting, or else three quarters of what its unit may use.
    fn memory(&self) -> Option<MemoryLimit> {
        if let Some(max) = self.settings.memory_max {
            return Some(MemoryLimit { max, by: "memory-max of plugind.toml".to_owned() });
        }
        let unit = self.unit?;
        // What systemd calls effective has the memory of the machine, too, which is no limit of the daemon.
        let names = ["MemoryHigh", "MemoryMax"];
        let of_unit = names.iter().filter_map(|name| Some((unit.number(name)?, name)));
        let of_unit = of_unit.map(|(max, name)| (max, format!("{name}= of {UNIT}")));
        let of_slices = unit.get("ControlGroup").and_then(|group| limit_of(Path::new(group)));
        let of_slices = of_slices.map(|Bytes(max)| (max, format!("the control group of {UNIT}")));
        let (max, name) = of_unit.chain(of_slices).min_by_key(|(max, _)| *max)?;
        Some(MemoryLimit { max: Bytes(max / 4 * 3), by: format!("three quarters of {name}") })
    }

    /// Whether the instance pool has a place for the instances that are kept.
    fn pool(&self, plugins: &[Checked]) -> Vec<String> {
        let PoolSettings { instances, core_instances, memories, tables, component: _ } =
            self.settings.pool;
        let needed = |of_each: fn(&Verified) -> u32| sum(plugins, |it| of_each(it).into());
        let places = [
            ("instances", instances, needed(|_| 1)),
            (
                "core-instances",
                core_instances,
                needed(|it| it.inspection().footprint.core_instances),
            ),
            ("memories", memories, needed(|it| it.inspection().footprint.memories)),
            ("tables", tables, needed(|it| it.inspection().footprint.tables)),
        ];
        let few = places.into_iter().filter(|(_, max, needed)| *needed > u64::from(*max));
        few.map(|(key, max, needed)| {
            format!(
                "all plugins together begin with {needed} {key}, and the pool has {max}; raise pool.{key} in \
                 plugind.toml, or remove plugins"
            )
        })
        .collect()
    }

    /// Limits of processes, within which the daemon cannot start its threads or open its files.
    fn of_processes(&self, plugins: &[Checked]) -> Vec<String> {
        let Some(unit) = self.unit else { return Vec::new() };
        let least = |name: &str| {
            let own = unit.number(name).map(|max| (max, ""));
            let with_slices = unit.number(&format!("Effective{name}"));
            let with_slices = with_slices.map(|max| (max, " and its slices"));
            own.into_iter().chain(with_slices).min_by_key(|(max, _)| *max)
        };
        let (mut tasks, mut files) = (
            TASKS + TASKS_PER_PROCESSOR * self.processors,
            FILES + FILES_PER_PROCESSOR * self.processors,
        );
        for (verified, instances) in plugins.iter().filter_map(started) {
            let directories = verified.manifest().grants.read.len() as u64 + 1;
            tasks += 1;
            files += FILES_PER_PLUGIN + directories.saturating_mul(instances.into());
        }
        let memories = sum(plugins, |it| it.inspection().footprint.memories.into());
        let addresses = ADDRESSES_PER_MEMORY.saturating_mul(memories);
        let limits = [("TasksMax", tasks), ("LimitNOFILE", files), ("LimitAS", addresses)];
        let low = limits.into_iter().filter_map(|(name, needed)| {
            let (max, with_slices) = least(name).filter(|(max, _)| *max < needed)?;
            Some(format!(
                "{name}={max} of {UNIT}{with_slices} is too low for the daemon and these plugins; set at least \
                 {needed}, or remove the line"
            ))
        });
        low.collect()
    }
}

/// A plugin that starts with the daemon, and the number of its instances.
fn started(checked: &Checked) -> Option<(&Verified, u32)> {
    let verified = checked.verified.as_ref()?;
    let manifest = verified.manifest();
    let has_more = verified.inspection().serves() && !verified.inspection().handover;
    let count = manifest.instances.min.filter(|_| has_more).unwrap_or(1);
    manifest.service.autostart.then_some((verified, count))
}

/// The sum over all instances that there are from the start. One that starts on demand, or is made for each call, has
/// gone before the next begins.
fn sum(plugins: &[Checked], of_each: impl Fn(&Verified) -> u64) -> u64 {
    let kept = plugins.iter().filter(|checked| checked.failed.is_none()).filter_map(started);
    let kept = kept.filter(|(verified, _)| {
        !verified.manifest().on_demand && !verified.release().has_instance_per_call()
    });
    kept.fold(0, |sum, (verified, count)| {
        sum.saturating_add(of_each(verified).saturating_mul(count.into()))
    })
}

fn first_memory(verified: &Verified) -> u64 {
    verified.inspection().footprint.bytes().0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(shown: &str) -> Unit {
        Unit::parse(&format!("LoadState=loaded\n{shown}"), None).unwrap()
    }

    #[test]
    fn the_setting_counts_or_else_three_quarters_of_the_least_limit_of_the_unit() {
        let mut settings = Settings::default();
        let limit = |settings: &Settings, shown: &str| {
            let unit = unit(shown);
            let limits = ResourceLimits { settings, unit: Some(&unit), processors: 1 };
            limits.memory().map(|limit| (limit.max.0, limit.by))
        };
        let of_unit = |by: &str| format!("three quarters of {by}");
        assert_eq!(limit(&settings, "MemoryHigh=infinity\nMemoryMax=infinity\n"), None);
        for (shown, max, by) in [
            ("MemoryHigh=400\nMemoryMax=800\n", 300, "MemoryHigh= of plugind.service"),
            ("MemoryHigh=infinity\nMemoryMax=800\n", 600, "MemoryMax= of plugind.service"),
            ("MemoryHigh=400\nEffectiveMemoryMax=200\n", 300, "MemoryHigh= of plugind.service"),
        ] {
            assert_eq!(limit(&settings, shown), Some((max, of_unit(by))), "{shown}");
        }
        settings.memory_max = Some(Bytes(7));
        let by_setting = Some((7, "memory-max of plugind.toml".to_owned()));
        assert_eq!(limit(&settings, "MemoryHigh=4\n"), by_setting);
    }

    #[test]
    fn limits_of_processes_are_compared_with_what_the_daemon_needs() {
        let settings = Settings::default();
        let mistakes = |shown: &str| {
            let unit = unit(shown);
            ResourceLimits { settings: &settings, unit: Some(&unit), processors: 4 }.find(&mut [])
        };
        assert_eq!(mistakes("TasksMax=infinity\nLimitNOFILE=16384\nLimitAS=infinity\n"), [""; 0]);
        assert_eq!(mistakes("TasksMax=40\nLimitNOFILE=128\nLimitAS=1073741824\n"), [""; 0]);
        for (shown, least) in [
            ("TasksMax=39\n", "set at least 40,"),
            (
                "TasksMax=40\nEffectiveTasksMax=20\n",
                "TasksMax=20 of plugind.service and its slices is too low",
            ),
            ("LimitNOFILE=127\n", "set at least 128,"),
        ] {
            let mistakes = mistakes(shown);
            assert!(mistakes.len() == 1 && mistakes[0].contains(least), "{mistakes:?}");
        }
    }
}
