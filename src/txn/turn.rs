//! Whose turn it is to write: one writer at a time, nobody kept waiting for ever.
//!
//! The right to write is a value that can move between threads, so a write transaction is `Send`.
//! Waiting is possible for threads and for tasks.
//!
//! A strict hand-over, each writer to the next in line, was measured at a context switch for each
//! small commit: eight threads reached 2.5 times the durable commits of one. So a writer that is
//! running may go before those that sleep, until the one that waits longest has waited for
//! [`PATIENCE_MICROS`]. Counting instead of timing was tried: with four or sixteen overtakes in a
//! row, one of four busy writers got less than half of the turns of another in some runs.
//!
//! # Invariants
//!
//! 1. Once the one that waits longest has waited for [`PATIENCE_MICROS`], the turn is handed to it
//!    and to nobody else, but for invariant 4. So each waiter gets its turn after that time and those before it in line.
//! 2. Whenever the turn comes free, the one that waits longest is woken.
//! 3. A waiter that goes away (a dropped future) passes on a turn that it was handed, or a wake.
//! 4. A thread goes past tasks that have not taken the turn for [`TASK_MICROS`] since it came free: an executor's thread
//!    that waits here cannot run them. So does a task that is polled meanwhile, and asks to be polled again for as long: the
//!    others may be futures of the task that it is of itself. They stay in line, and are woken with the next, but nothing is
//!    handed to them before they are polled again. Each time that a task was gone past it is given twice as long, up to [`MOST_TASK_MICROS`]: one
//!    whose executor is slow gets its turn too.
//! 5. In a child that `fork` made nobody waits here for the lock, which a thread of the parent may have had: what was begun before
//!    is dropped there without a look at the queue.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::events::Events;
use crate::storage::Origin;
use crate::sync::{Condvar, Mutex, Patience, spin_while, wake};

/// How long the first in line may be overtaken.
const PATIENCE_MICROS: u64 = 500;

/// How long a thread waits for tasks to take a turn that is theirs. The thread that would run them may be this one.
const TASK_MICROS: u64 = 5_000;

/// How long at the most. (Beside three busy threads, a task that was polled each 200 ms had not got its turn in a minute
/// when it was given 5 ms each time.)
const MOST_TASK_MICROS: u64 = 64 * TASK_MICROS;

#[derive(Debug)]
enum Wake {
    Thread(Arc<Condvar>),
    Task(Waker),
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    wake: Wake,
    patience: Patience,
    /// A task that did not take its turn: nothing is handed to it before it is heard of again (invariant 4).
    is_passed: bool,
    /// How long it may take to take the turn, if it is a task.
    task_micros: u64,
}

#[derive(Debug, Default)]
struct Queue {
    taken: bool,
    /// The ticket that the turn was handed to (invariant 1).
    handed: Option<u64>,
    next_ticket: u64,
    waiting: VecDeque<Waiter>,
    /// How many of them are tasks.
    tasks: usize,
    /// How long the tasks that waited when the turn was given back last have to take it.
    tasks_have: Option<Patience>,
    /// What happened in the present turn, told by those who do not have the [`Turn`] at hand.
    events: Events,
}

impl Queue {
    /// The turn is given back. Gives the tasks that are to be woken: those that threads went past, and the first
    /// behind them, if it is a task and no thread.
    fn pass_on(&mut self) -> Vec<Waker> {
        self.taken = false;
        let mut task_micros = TASK_MICROS;
        let mut woken = Vec::new();
        for waiter in &self.waiting {
            if !waiter.is_passed && waiter.patience.is_over() {
                self.taken = true;
                self.handed = Some(waiter.ticket);
                task_micros = waiter.task_micros;
            }
            match &waiter.wake {
                Wake::Thread(arrived) => {
                    arrived.notify_one();
                }
                Wake::Task(waker) => woken.push(waker.clone()),
            }
            if !waiter.is_passed {
                break;
            }
        }
        self.tasks_have = (self.tasks > 0).then(|| Patience::new(task_micros));
        woken
    }

    /// Takes the turn without having waited, if nobody has it.
    fn barge(&mut self) -> bool {
        !std::mem::replace(&mut self.taken, true)
    }

    fn enqueue(&mut self, wake: Wake) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.tasks += usize::from(matches!(wake, Wake::Task(_)));
        self.waiting.push_back(Waiter {
            ticket,
            wake,
            patience: Patience::new(PATIENCE_MICROS),
            is_passed: false,
            task_micros: TASK_MICROS,
        });
        ticket
    }

    /// Takes the turn as the one that waits with this ticket.
    fn accept(&mut self, ticket: u64) -> bool {
        let Some(place) = self.place_of(ticket) else {
            return false;
        };
        let is_first = self
            .waiting
            .iter()
            .take(place)
            .all(|before| before.is_passed);
        let mine = self.handed == Some(ticket) || (is_first && !self.taken);
        if mine {
            self.taken = true;
            self.handed = None;
            self.remove(place);
        }
        mine
    }

    /// Where a waiter is: tickets ascend.
    fn place_of(&self, ticket: u64) -> Option<usize> {
        let found = { &self.waiting }.binary_search_by_key(&ticket, |waiter| waiter.ticket);
        found.ok()
    }

    fn remove(&mut self, place: usize) -> Option<Waiter> {
        let waiter = self.waiting.remove(place)?;
        self.tasks -= usize::from(matches!(waiter.wake, Wake::Task(_)));
        Some(waiter)
    }

    /// Whether the turn is free, and only tasks that wait longer are to take it before this one.
    fn is_left_to_tasks(&self, ticket: u64) -> bool {
        let is_free = match self.handed {
            Some(handed) => handed < ticket,
            None => !self.taken,
        };
        let place = self.place_of(ticket).filter(|_| is_free);
        place.is_some_and(|place| {
            let mut before = self.waiting.iter().take(place);
            before.all(|waiter| matches!(waiter.wake, Wake::Task(_)))
        })
    }

    /// Takes the turn past the tasks that wait longer, if nobody else does and none of them has taken it (invariant 4).
    fn pass_tasks(&mut self, ticket: u64) -> bool {
        let Some(place) = self.place_of(ticket) else {
            return false;
        };
        let is_due = self.tasks_have.as_ref().is_none_or(Patience::is_over);
        if !is_due || !self.is_left_to_tasks(ticket) {
            return false;
        }
        let before = self.waiting.iter_mut().take(place);
        for task in before.filter(|task| !task.is_passed) {
            task.is_passed = true;
            task.task_micros = (task.task_micros * 2).min(MOST_TASK_MICROS);
        }
        self.taken = true;
        self.handed = None;
        self.remove(place);
        true
    }
}

/// The queue of writers.
#[derive(Debug)]
pub(crate) struct Turns {
    queue: Mutex<Queue>,
    /// `taken` again, for threads that spin.
    is_taken: AtomicBool,
    /// Where the queue is (invariant 5).
    origin: Origin,
}

impl Default for Turns {
    fn default() -> Self {
        Turns {
            queue: Mutex::default(),
            is_taken: AtomicBool::default(),
            origin: Origin::here(),
        }
    }
}

/// The right to write, until dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
    /// To be told when it is given back: who receives an event may wait for a turn.
    events: Events,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.turns.origin.is_here() {
            return;
        }
        let mut queue = self.turns.queue.lock();
        let mut events = std::mem::take(&mut queue.events);
        let next = queue.pass_on();
        self.turns.note(&queue);
        drop(queue);
        next.into_iter().for_each(wake);
        events.append(std::mem::take(&mut self.events));
        events.tell();
    }
}

impl Turn {
    fn new(turns: Arc<Turns>) -> Self {
        Turn {
            turns,
            events: Events::default(),
        }
    }

    /// Tells an event when the turn has been given back.
    pub(super) fn tell_later(&mut self, event: impl FnOnce() + Send + Sync + 'static) {
        self.events.add(event);
    }
}

impl Turns {
    /// Blocks until it is this thread's turn.
    ///
    /// A small transaction on another core ends sooner than going to sleep and being woken takes,
    /// so it spins a few microseconds first: that gave an eighth to a third more durable commits
    /// with eight threads on two cores.
    pub(crate) fn wait(self: &Arc<Self>) -> Turn {
        spin_while(|| self.is_taken.load(Ordering::Relaxed));
        let mut queue = self.queue.lock();
        if !queue.barge() {
            let arrived = Arc::new(Condvar::new());
            let ticket = queue.enqueue(Wake::Thread(arrived.clone()));
            while !queue.accept(ticket) {
                if queue.tasks == 0 {
                    queue = arrived.wait(queue);
                    continue;
                }
                queue = arrived.wait_for(queue, Duration::from_micros(TASK_MICROS));
                if queue.pass_tasks(ticket) {
                    break;
                }
            }
        }
        self.note(&queue);
        Turn::new(self.clone())
    }

    /// Takes the turn if nobody has it: never waits.
    pub(crate) fn take_if_free(self: &Arc<Self>) -> Option<Turn> {
        let mut queue = self.queue.lock();
        queue.barge().then(|| {
            self.note(&queue);
            Turn::new(self.clone())
        })
    }

    /// Whether threads or tasks wait for the turn.
    pub(super) fn is_awaited(&self) -> bool {
        !self.queue.lock().waiting.is_empty()
    }

    /// Tells events when the present turn has been given back, which is that of whoever calls.
    pub(super) fn tell_later(&self, events: Events) {
        if !events.is_empty() {
            self.queue.lock().events.append(events);
        }
    }

    /// Whenever `taken` may have changed, and with the lock held.
    fn note(&self, queue: &Queue) {
        self.is_taken.store(queue.taken, Ordering::Relaxed);
    }

    /// A future that resolves when it is the task's turn.
    pub(crate) fn queue_up(self: &Arc<Self>) -> TurnFuture {
        TurnFuture {
            turns: self.clone(),
            ticket: None,
        }
    }
}

/// See [`Turns::queue_up`].
#[derive(Debug)]
pub(crate) struct TurnFuture {
    turns: Arc<Turns>,
    /// Set while it waits.
    ticket: Option<u64>,
}

impl Future for TurnFuture {
    type Output = Turn;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Turn> {
        let turns = self.turns.clone();
        if !turns.origin.is_here() {
            return Poll::Ready(Turn::new(turns)); // no transaction begins with it: the engine asks for the process as well
        }
        let mut queue = turns.queue.lock();
        let taken = match self.ticket {
            None => queue.barge(),
            Some(ticket) => queue.accept(ticket) || queue.pass_tasks(ticket),
        };
        if taken {
            self.ticket = None;
            turns.note(&queue);
            drop(queue);
            return Poll::Ready(Turn::new(turns));
        }
        let wake = Wake::Task(context.waker().clone());
        let mut before = None;
        match self.ticket {
            None => self.ticket = Some(queue.enqueue(wake)),
            Some(ticket) => {
                let place = queue.place_of(ticket);
                if let Some(waiter) = place.and_then(|place| queue.waiting.get_mut(place)) {
                    waiter.is_passed = false;
                    before = Some(std::mem::replace(&mut waiter.wake, wake));
                }
            }
        }
        let looks_again = self.ticket.is_some_and(|own| queue.is_left_to_tasks(own));
        drop(queue);
        drop(before);
        if looks_again {
            context.waker().wake_by_ref(); // invariant 4
        }
        Poll::Pending
    }
}

impl Drop for TurnFuture {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.filter(|_| self.turns.origin.is_here()) else {
            return;
        };
        let mut queue = self.turns.queue.lock();
        let place = queue.place_of(ticket);
        let own = place.and_then(|place| queue.remove(place));
        let mut next = Vec::new();
        if queue.handed == Some(ticket) {
            queue.handed = None;
            next = queue.pass_on();
            self.turns.note(&queue);
        } else if !queue.taken {
            next = queue.pass_on(); // the wake may have been for this one
        }
        drop(queue);
        drop(own);
        next.into_iter().for_each(wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn turns_are_exclusive_and_nobody_starves() {
        let turns = Arc::new(Turns::default());
        let inside = Arc::new(AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let _turn = turns.wait();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(!turns.queue.lock().taken);
        assert!(turns.queue.lock().waiting.is_empty());
    }

    #[test]
    fn who_has_the_turn_sees_whether_others_wait() {
        let turns = Arc::new(Turns::default());
        let mut context = Context::from_waker(Waker::noop());
        let first = turns.wait();
        assert!(!turns.is_awaited());
        let mut task = turns.queue_up();
        assert!(Pin::new(&mut task).poll(&mut context).is_pending());
        assert!(turns.is_awaited());
        drop(task);
        assert!(!turns.is_awaited());
        std::thread::scope(|scope| {
            scope.spawn(|| drop(turns.wait()));
            while !turns.is_awaited() {
                std::thread::yield_now();
            }
            drop(first);
        });
        assert!(!turns.is_awaited());
    }

    #[test]
    fn one_that_waits_is_overtaken_for_a_bounded_time() {
        let turns = Arc::new(Turns::default());
        let mut context = Context::from_waker(Waker::noop());
        let first = turns.wait();
        let mut patient = turns.queue_up();
        assert!(Pin::new(&mut patient).poll(&mut context).is_pending());
        lose_patience(&turns);
        drop(first);
        assert!(!turns.queue.lock().barge());
        assert!(Pin::new(&mut patient).poll(&mut context).is_ready());
    }

    /// Waits until the first in line has waited long enough.
    fn lose_patience(turns: &Turns) {
        while let Some(first) = turns.queue.lock().waiting.front()
            && !first.patience.is_over()
        {
            std::thread::yield_now();
        }
    }

    /// Some executors poll, or drop, a task where it is woken.
    #[test]
    fn a_task_that_runs_or_goes_where_it_is_woken_does_not_wait_for_itself() {
        use std::task::Wake as Waking;

        struct Inline {
            future: Mutex<Option<TurnFuture>>,
            polls: bool,
        }
        impl Waking for Inline {
            fn wake(self: Arc<Self>) {
                let waker = Waker::from(self.clone());
                let future = self.future.lock().take();
                if self.polls
                    && let Some(mut future) = future
                    && Pin::new(&mut future)
                        .poll(&mut Context::from_waker(&waker))
                        .is_pending()
                {
                    *self.future.lock() = Some(future);
                }
            }
        }
        for polls in [true, false] {
            let turns = Arc::new(Turns::default());
            let first = turns.wait();
            let future = Mutex::new(Some(turns.queue_up()));
            let task = Arc::new(Inline { future, polls });
            let waker = Waker::from(task.clone());
            let mut future = task.future.lock().take().unwrap();
            assert!(
                Pin::new(&mut future)
                    .poll(&mut Context::from_waker(&waker))
                    .is_pending()
            );
            *task.future.lock() = Some(future);
            drop(first);
            let _again = turns.wait();
        }
    }

    /// They may be futures of the very task that waits here, which polls no other meanwhile.
    #[test]
    fn a_task_goes_past_tasks_that_nobody_polls() {
        use std::task::Wake as Waking;

        struct Asks(AtomicBool);
        impl Waking for Asks {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        for is_early in [false, true] {
            let turns = Arc::new(Turns::default());
            let mut unheard = Context::from_waker(Waker::noop());
            let asks = Arc::new(Asks(AtomicBool::new(false)));
            let waker = Waker::from(asks.clone());
            let mut context = Context::from_waker(&waker);
            let first = turns.wait();
            let mut left = [turns.queue_up(), turns.queue_up()];
            for task in &mut left {
                assert!(Pin::new(task).poll(&mut unheard).is_pending());
            }
            let mut late = turns.queue_up();
            if is_early {
                assert!(Pin::new(&mut late).poll(&mut context).is_pending());
                // While somebody writes, nobody asks to be polled.
                assert!(!asks.0.load(Ordering::SeqCst));
            }
            lose_patience(&turns);
            drop(first);
            let turn = loop {
                if let Poll::Ready(turn) = Pin::new(&mut late).poll(&mut context) {
                    break turn;
                }
                assert!(
                    asks.0.swap(false, Ordering::SeqCst),
                    "nobody polls it again"
                );
            };
            // They have their turn when they are polled, in line.
            assert!(!turns.queue.lock().barge());
            drop(turn);
            for task in &mut left {
                let turn = Pin::new(task).poll(&mut unheard);
                assert!(turn.is_ready());
            }
            assert_eq!(turns.queue.lock().tasks, 0);
        }
    }

    /// Its executor's thread may be the one that waits here, so nobody would ever poll it.
    #[test]
    fn a_thread_goes_past_tasks_that_nobody_polls() {
        for is_handed in [false, true] {
            let turns = Arc::new(Turns::default());
            let first = turns.wait();
            let mut context = Context::from_waker(Waker::noop());
            let mut tasks = [turns.queue_up(), turns.queue_up()];
            for task in &mut tasks {
                assert!(Pin::new(task).poll(&mut context).is_pending());
            }
            if is_handed {
                lose_patience(&turns);
            }
            let others = turns.clone();
            let (done, passed) = std::sync::mpsc::channel();
            std::thread::spawn(move || {
                drop(others.wait());
                done.send(()).unwrap();
            });
            while turns.queue.lock().waiting.len() < 3 {
                std::thread::yield_now();
            }
            drop(first);
            let limit = Duration::from_secs(20);
            assert_eq!(passed.recv_timeout(limit), Ok(()), "{is_handed}");
            // Until they are heard of, they are in nobody's way.
            lose_patience(&turns);
            assert!(turns.take_if_free().is_some() && turns.take_if_free().is_some());
            // They have lost nothing but time.
            for mut task in tasks {
                assert!(Pin::new(&mut task).poll(&mut context).is_ready());
            }
            assert_eq!(turns.queue.lock().tasks, 0);
        }
    }

    /// Its executor is slow, and threads go past it again and again.
    #[test]
    fn a_task_that_is_polled_seldom_gets_its_turn() {
        let turns = Arc::new(Turns::default());
        let is_over = AtomicBool::new(false);
        let start = std::time::Instant::now();
        let first = turns.wait();
        let mut context = Context::from_waker(Waker::noop());
        let mut task = turns.queue_up();
        assert!(Pin::new(&mut task).poll(&mut context).is_pending());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        let _turn = turns.wait();
                        std::thread::sleep(Duration::from_millis(3));
                    }
                });
            }
            while turns.queue.lock().waiting.len() < 4 {
                std::thread::yield_now();
            }
            drop(first);
            let mut is_pending = true;
            while is_pending && start.elapsed() < Duration::from_secs(10) {
                std::thread::sleep(Duration::from_millis(150));
                is_pending = Pin::new(&mut task).poll(&mut context).is_pending();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_dropped_future_passes_its_turn_on() {
        let turns = Arc::new(Turns::default());
        let first = turns.wait();
        let mut context = Context::from_waker(Waker::noop());
        let mut abandoned = turns.queue_up();
        assert!(Pin::new(&mut abandoned).poll(&mut context).is_pending());
        let mut patient = turns.queue_up();
        assert!(Pin::new(&mut patient).poll(&mut context).is_pending());
        lose_patience(&turns);
        drop(first); // handed to the first in line
        assert!(Pin::new(&mut patient).poll(&mut context).is_pending());
        drop(abandoned);
        assert!(Pin::new(&mut patient).poll(&mut context).is_ready());
        let _again = turns.wait();
    }
}
