//! The sizes of what is kept for plugins, measured in threads of their own. A measurement whose file system does not
//! answer keeps its thread, so each plugin has one measurement at most, and all calls wait for its result.

use crate::{base::name::PluginName, plugin::state_files::StateSize};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{sync::watch, task::spawn_blocking};

type SizeReceiver = watch::Receiver<Option<StateSize>>;

/// The measurements that have not ended. Cheap to clone.
#[derive(Clone, Default)]
pub struct StateMeasurements(Arc<Mutex<BTreeMap<PluginName, SizeReceiver>>>);

impl StateMeasurements {
    /// The result of the measurement of a plugin that is in progress, or of a new one. None if it panics.
    pub(super) async fn join(
        &self,
        plugin: PluginName,
        measure: impl FnOnce() -> StateSize + Send + 'static,
    ) -> Option<StateSize> {
        let mut result = self.begin(plugin, measure);
        // Without a sender the measurement has panicked.
        result.wait_for(Option::is_some).await.ok().and_then(|size| *size)
    }

    fn begin(
        &self,
        plugin: PluginName,
        measure: impl FnOnce() -> StateSize + Send + 'static,
    ) -> SizeReceiver {
        let mut running = self.lock();
        if let Some(result) = running.get(&plugin) {
            return result.clone();
        }
        let (sender, result) = watch::channel(None);
        running.insert(plugin.clone(), result.clone());
        let ending = MeasurementEnding { measurements: self.clone(), plugin };
        spawn_blocking(move || {
            let ending = ending;
            let size = measure();
            drop(ending);
            sender.send_replace(Some(size));
        });
        result
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PluginName, SizeReceiver>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When this is dropped, even by a panic, the plugin can be measured again.
struct MeasurementEnding {
    measurements: StateMeasurements,
    plugin: PluginName,
}

impl Drop for MeasurementEnding {
    fn drop(&mut self) {
        self.measurements.lock().remove(&self.plugin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use tokio::join;

    fn size(files: u64) -> StateSize {
        StateSize { files: Some(files), store: None }
    }

    #[tokio::test]
    async fn a_plugin_is_measured_once_at_a_time() {
        let all = StateMeasurements::default();
        let [one, other]: [PluginName; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        let (release, hang) = channel::<()>();
        let hanging = move || {
            hang.recv().ok();
            size(1)
        };
        let first = all.join(one.clone(), hanging);
        let second = all.join(one.clone(), || size(2));
        let further = async {
            let measured = all.join(other, || size(3)).await;
            drop(release);
            measured
        };
        assert_eq!(join!(first, second, further), (Some(size(1)), Some(size(1)), Some(size(3))));
    }

    #[tokio::test]
    async fn a_plugin_is_measured_again_after_a_measurement_has_panicked() {
        let all = StateMeasurements::default();
        let plugin: PluginName = "a".parse().unwrap();
        assert_eq!(all.join(plugin.clone(), || panic!("for a reason")).await, None);
        assert_eq!(all.join(plugin.clone(), || size(2)).await, Some(size(2)));
        assert!(all.lock().is_empty());
    }
}
