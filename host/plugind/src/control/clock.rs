//! `io.plugind.MoveClock`: tests of plugins move the clocks that these see.

use crate::{
    api::{ClockMove, ClockMoved},
    control::interfaces::VarlinkError,
    world::movable_clock::{ClockError, MovableClock},
};
use serde_json::json;
use std::time::Duration;

/// Moves the clocks, if they can be moved.
pub(super) fn move_clock(
    clock: Option<&MovableClock>,
    asked: ClockMove,
) -> Result<ClockMoved, VarlinkError> {
    let not_movable = || VarlinkError::own("io.plugind.ClockNotMovable", json!({}));
    let clock = clock.ok_or_else(not_movable)?;
    let advance = Duration::from_micros(asked.advance.unwrap_or_default());
    let moved = clock.move_by(advance, asked.time.map(Duration::from_micros));
    moved.map(|()| ClockMoved {}).map_err(|error| match error {
        ClockError::Advance => VarlinkError::bad_parameter("advance"),
        ClockError::Time => VarlinkError::bad_parameter("time"),
    })
}
