//! Runs a plugin under the real host in a test.
//!
//! [`Host`] starts the program `plugind` with directories and sockets of its own, sends requests to the plugin, and has
//! its log and its status. It ends when it is dropped.
//!
//! ```no_run
//! use plugind_test::{Host, build};
//!
//! #[test]
//! fn everyone_is_greeted() {
//!     let component = build(env!("CARGO_MANIFEST_DIR"));
//!     let host = Host::with("hi", component).manifest("[config]\ngreeting = \"Hi\"\n").start();
//!     assert_eq!(host.get("/Ada").text(), "Hi, Ada\n");
//!     let entry = host.log().wait_for_entry(|entry| entry.message == "greeting loaded");
//!     assert_eq!(entry.field("greeting"), Some("Hi"));
//! }
//! ```
//!
//! A test need not wait for timers: [`Host::advance_clock`] moves the clocks that the plugin sees.
//!
//! ```no_run
//! use plugind_test::Host;
//! use std::time::Duration;
//!
//! #[test]
//! fn sessions_end_after_an_hour() {
//!     let host = Host::with("sessions", "sessions.wasm").movable_clock().start();
//!     let session = host.request("POST", "/", &[], b"").text().to_owned();
//!     host.advance_clock(Duration::from_secs(60 * 60));
//!     assert_eq!(host.get(&format!("/{session}")).status, 404);
//! }
//! ```
//!
//! The programs are `plugind` and `pluginctl` in `PATH`, the ones that the variables `PLUGIND` and
//! `PLUGINCTL` name, or those of [`use_programs`].
//! Each function panics with the reason if it fails, as an assertion does.

mod clock;
mod entry;
mod host;
mod log;
mod programs;
mod response;

pub use entry::{Entry, Priority};
pub use host::{Host, HostBuilder};
pub use log::Log;
pub use programs::{build, use_programs};
pub use response::Response;
