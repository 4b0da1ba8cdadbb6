//! Room for workers that are made for one call each, as a share for each core: an ordinary call takes it and gives it
//! back without touching what other cores write.

use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{AcqRel, Acquire, SeqCst},
};
use tokio::sync::Notify;

/// Room for so many workers.
pub(crate) struct Room {
    cores: Box<[CoreShare]>,
    closed: AtomicBool,
    /// Calls that wait for room, which come before those that arrive.
    waiting: AtomicUsize,
    freed: Notify,
}

/// The free part of a core's share.
#[repr(align(128))]
struct CoreShare(AtomicUsize);

/// Room for one worker, and the core from whose share it was taken. It must be given back.
#[must_use]
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Permit(usize);

impl Room {
    /// Room for `max` workers, in shares for so many cores.
    pub(crate) fn new(max: usize, cores: usize) -> Self {
        let cores = cores.max(1);
        let share =
            |core| CoreShare(AtomicUsize::new(max / cores + usize::from(core < max % cores)));
        Self {
            cores: (0..cores).map(share).collect(),
            closed: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
        }
    }

    /// Room for a call that came on a core, as soon as there is some; none once the room is closed.
    pub(crate) async fn enter(&self, core: usize) -> Option<Permit> {
        if self.waiting.load(Acquire) == 0
            && let Some(permit) = self.take(core)
        {
            return Some(permit);
        }
        let others = self.waiting.fetch_add(1, SeqCst);
        let _waiting = Waiting(self);
        let mut is_its_turn = others == 0;
        loop {
            let freed = self.freed.notified();
            if self.is_closed() {
                return None;
            }
            if is_its_turn && let Some(permit) = self.take(core) {
                return Some(permit);
            }
            freed.await;
            is_its_turn = true;
        }
    }

    /// Room of the core's own share, or else of another one.
    fn take(&self, core: usize) -> Option<Permit> {
        if self.is_closed() {
            return None;
        }
        let cores = self.cores.len();
        (0..cores).map(|next| (core + next) % cores).find_map(|core| {
            let one_less = |free: usize| free.checked_sub(1);
            self.cores[core].0.try_update(SeqCst, Acquire, one_less).ok().map(|_| Permit(core))
        })
    }

    /// Gives room back.
    pub(crate) fn leave(&self, Permit(core): Permit) {
        self.cores[core].0.fetch_add(1, SeqCst);
        if self.waiting.load(SeqCst) > 0 {
            self.freed.notify_one();
        }
    }

    /// Nobody gets room any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, SeqCst);
        self.freed.notify_waiters();
    }

    /// Whether nobody gets room any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }
}

/// Room that is given back unless its worker is made.
pub(crate) struct Entered<'a> {
    room: &'a Room,
    permit: Option<Permit>,
}

impl<'a> Entered<'a> {
    /// With this permit of the room.
    pub(crate) fn new(room: &'a Room, permit: Permit) -> Self {
        Self { room, permit: Some(permit) }
    }

    /// The worker is made, and gives it back.
    pub(crate) fn stay(mut self) -> Option<Permit> {
        self.permit.take()
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.room.leave(permit);
        }
    }
}

/// A call that waits for room.
struct Waiting<'a>(&'a Room);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let others = self.0.waiting.fetch_sub(1, AcqRel) - 1;
        // It may have been notified, and left without taking anything.
        if others > 0 {
            self.0.freed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use std::pin::pin;

    #[test]
    fn a_core_uses_its_own_share_first_and_then_what_others_have_left() {
        let room = Room::new(3, 2);
        let mut taken: Vec<_> = (0..3).map(|_| room.enter(1).now_or_never().unwrap()).collect();
        assert_eq!(taken, [Some(Permit(1)), Some(Permit(0)), Some(Permit(0))]);
        assert!(room.enter(1).now_or_never().is_none(), "there is no more");
        room.leave(taken.remove(0).unwrap());
        assert_eq!(room.enter(0).now_or_never(), Some(Some(Permit(1))));
    }

    #[test]
    fn calls_that_wait_for_room_come_before_those_that_arrive() {
        let room = Room::new(1, 1);
        let permit = room.enter(0).now_or_never().unwrap().unwrap();
        let mut first = pin!(room.enter(0));
        assert!(first.as_mut().now_or_never().is_none());
        room.leave(permit);
        let mut second = pin!(room.enter(0));
        assert!(second.as_mut().now_or_never().is_none());
        let permit = first.now_or_never().unwrap().unwrap();
        assert!(second.as_mut().now_or_never().is_none(), "there is no more");
        room.leave(permit);
        assert_eq!(second.now_or_never(), Some(Some(Permit(0))));
    }

    #[test]
    fn room_for_a_worker_that_is_not_made_is_given_back() {
        let room = Room::new(1, 1);
        let permit = room.enter(0).now_or_never().unwrap().unwrap();
        drop(Entered::new(&room, permit));
        let permit = room.enter(0).now_or_never().unwrap().unwrap();
        assert!(Entered::new(&room, permit).stay().is_some());
        assert!(room.enter(0).now_or_never().is_none());
    }

    #[test]
    fn nobody_gets_room_that_is_closed() {
        let room = Room::new(1, 1);
        let _taken = room.enter(0).now_or_never().unwrap().unwrap();
        let mut waits = pin!(room.enter(0));
        assert!(waits.as_mut().now_or_never().is_none());
        room.close();
        assert_eq!(waits.now_or_never(), Some(None));
        assert_eq!(room.enter(0).now_or_never(), Some(None));
    }
}
