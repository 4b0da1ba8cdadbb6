//! The clocks that the plugin sees, moved by the control socket.

use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::{Duration, SystemTime},
};

/// The longest time that the reply may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest reply that is read.
const REPLY_MAX: u64 = 64 << 10;

/// Sets the time of day, if there is a time, and moves all clocks forward.
#[track_caller]
pub(crate) fn move_clock(control: &Path, advance: Duration, time: Option<SystemTime>) {
    let time = time.map(|time| {
        let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH);
        microseconds(since_1970.expect("the time must not be before 1970"))
    });
    let parameters = json!({ "advance": microseconds(advance), "time": time });
    let call = json!({ "method": "io.plugind.MoveClock", "parameters": parameters });
    let reply = exchange(control, &call).expect("the control socket must answer");
    let refused = reply.get("error").map(ToString::to_string);
    assert_eq!(
        refused, None,
        "the clock cannot be moved; call HostBuilder::movable_clock, and move it at most 100 years, up to the year 9999"
    );
}

fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).expect("the time must be less than 500,000 years")
}

/// Sends a call by varlink, and returns its reply. Each message ends with a byte that is zero.
fn exchange(control: &Path, call: &Value) -> std::io::Result<Value> {
    let mut socket = UnixStream::connect(control)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.write_all(format!("{call}\0").as_bytes())?;
    let mut reply = Vec::new();
    BufReader::new(socket.take(REPLY_MAX)).read_until(0, &mut reply)?;
    reply.pop();
    Ok(serde_json::from_slice(&reply)?)
}
