//! The tests of plugind.
