//! `io.plugind.Profile`: where the instances of a plugin use the processor.

use crate::{
    api::{self, PROFILE_SECONDS_MAX, Profile, ProfileFailed, ProfileRequest},
    base::name::PluginName,
    control::interfaces::VarlinkError,
    supervisor::board::Board,
};
use std::time::Duration;
use tokio::{task::spawn_blocking, time::sleep};

/// Records a profile for the requested time, and returns it.
pub(super) async fn record(board: &Board, asked: ProfileRequest) -> Result<Profile, VarlinkError> {
    let ProfileRequest { name, seconds } = asked;
    let name: PluginName = name.parse().map_err(|_| VarlinkError::bad_parameter("name"))?;
    if !(1..=PROFILE_SECONDS_MAX).contains(&seconds) {
        return Err(VarlinkError::bad_parameter("seconds"));
    }
    if board.plugin(&name).is_none() {
        let name = name.to_string();
        return Err(VarlinkError::own("io.plugind.NoSuchPlugin", api::Name { name }));
    }
    let pool = board.serving_pool(&name).ok_or_else(|| failed("no version of it serves"))?;
    // The functions of a component are listed at the beginning and at the end, which takes a while if it is large.
    let begun = spawn_blocking(move || {
        let (linked, profile) = (pool.linked(), &pool.shared().profile);
        profile.begin(linked.engine(), pool.name(), linked.component().clone())
    });
    let begun = begun.await;
    let recording = begun.map_err(failed)?.map_err(failed)?;
    sleep(Duration::from_secs(seconds)).await;
    let finished = spawn_blocking(move || recording.finish()).await;
    let (profile, samples) = finished.map_err(failed)?.map_err(failed)?;
    Ok(Profile { profile, samples: samples as u64 })
}

fn failed(why: impl ToString) -> VarlinkError {
    VarlinkError::own("io.plugind.ProfileFailed", ProfileFailed { reason: why.to_string() })
}
