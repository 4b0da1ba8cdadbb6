//! The profile of a plugin: where its instances are, whenever they have used a slice of processor time.
//!
//! It costs one look at a flag for each slice while none is recorded, and nothing where a guest uses less than a slice.

use crate::{base::name::PluginName, runtime::engine::SLICE};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use wasmtime::{AsContext, Engine, GuestProfiler, component::Component};

/// The most samples of one profile: five minutes of three processors.
const SAMPLES_MAX: usize = 200_000;

/// The profile that is being recorded of the instances of one generation, if one is.
#[derive(Debug, Default)]
pub struct Shared {
    is_recording: AtomicBool,
    /// There is one as long as its guard.
    recording: Mutex<Option<Recording>>,
}

#[derive(Debug)]
struct Recording {
    /// None when it is being written.
    profiler: Option<GuestProfiler>,
    samples: usize,
}

/// A profile that is being recorded. Dropping it ends the recording.
pub struct ProfileGuard(Arc<Shared>);

/// Why no profile is recorded.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// Another profile is being recorded.
    #[error("another profile of it is being recorded")]
    Busy,
    /// The runtime cannot record a profile.
    #[error("the runtime cannot record it: {0:#}")]
    Runtime(wasmtime::Error),
}

impl Shared {
    /// Begins to record the instances of a plugin, which are made of `component`. Takes a while.
    ///
    /// # Errors
    /// When another profile of them is being recorded, or the runtime cannot record one.
    pub fn begin(
        self: &Arc<Self>,
        engine: &Engine,
        plugin: &PluginName,
        component: Component,
    ) -> Result<ProfileGuard, ProfileError> {
        let mut recording = self.recording();
        if recording.is_some() {
            return Err(ProfileError::Busy);
        }
        let name = plugin.as_str();
        let profiler = GuestProfiler::new_component(engine, name, SLICE, component, []);
        let profiler = profiler.map_err(ProfileError::Runtime)?;
        *recording = Some(Recording { profiler: Some(profiler), samples: 0 });
        self.is_recording.store(true, Relaxed);
        Ok(ProfileGuard(self.clone()))
    }

    /// Notes where the guest of this store is, which has used a slice of processor time.
    pub(super) fn sample(&self, store: impl AsContext) {
        if !self.is_recording.load(Relaxed) {
            return;
        }
        if let Some(recording) = &mut *self.recording()
            && recording.samples < SAMPLES_MAX
            && let Some(profiler) = &mut recording.profiler
        {
            recording.samples += 1;
            // The time of the processor is not measured; each sample stands for a slice.
            profiler.sample(store, SLICE);
        }
    }

    fn recording(&self) -> MutexGuard<'_, Option<Recording>> {
        self.recording.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ProfileGuard {
    /// Ends the recording, and returns the profile as JSON, in the format of the Firefox Profiler, and the number of its
    /// samples. Takes a while.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn finish(self) -> Result<(String, usize), ProfileError> {
        // The recording itself stays until the guard is dropped, so that no other one begins before.
        let taken = self.0.recording().as_mut().map(|it| (it.profiler.take(), it.samples));
        let (mut json, mut samples) = (Vec::new(), 0);
        if let Some((Some(profiler), taken)) = taken {
            samples = taken;
            profiler.finish(&mut json).map_err(ProfileError::Runtime)?;
        }
        // JSON is always text.
        Ok((String::from_utf8_lossy(&json).into_owned(), samples))
    }
}

impl Drop for ProfileGuard {
    fn drop(&mut self) {
        self.0.is_recording.store(false, Relaxed);
        self.0.recording().take();
    }
}
