//! The figures of `pluginctl top` as they change, on a terminal, until a key ends it.

use super::{
    column::Column,
    screen::Screen,
    view::{Pressed, TopView},
};
use crate::{
    client::{CallMethod, Client},
    problem::Problem,
};
use crossterm::event::{Event, EventStream};
use futures::StreamExt;
use plugind::api::List;
use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

/// The interval at which the figures are read.
const EVERY: Duration = Duration::from_secs(2);

/// Shows the figures, beginning with those that were read already.
pub(super) async fn follow(client: Client, list: List, sort: Column) -> Result<ExitCode, Problem> {
    let mut view = TopView::new(list, sort, SystemTime::now());
    let mut screen = Screen::open()?;
    let mut keys = EventStream::new();
    let mut reading = Box::pin(read(client));
    loop {
        screen.0.draw(|frame| view.draw(frame))?;
        tokio::select! {
            event = keys.next() => match event.transpose()? {
                // No more input means that the terminal was closed.
                None => return Ok(ExitCode::SUCCESS),
                Some(Event::Key(key)) if view.press(key) == Pressed::Quit => {
                    return Ok(ExitCode::SUCCESS);
                }
                // A new size takes effect when the screen is drawn again.
                Some(_) => (),
            },
            read_now = &mut reading => {
                let (client, list) = read_now?;
                view.update(list, SystemTime::now());
                reading.set(read(client));
            }
        }
    }
}

/// The next figures, and the client for those after them.
async fn read(mut client: Client) -> Result<(Client, List), Problem> {
    tokio::time::sleep(EVERY).await;
    let list = client.call(CallMethod::List).await?;
    Ok((client, list))
}
