//! Whose turn it is to write: one writer at a time, in the order in which they came.
//!
//! The right to write is a value that can move between threads, so a write transaction is `Send`.
//! Waiting is possible for threads and for tasks.
//!
//! # Invariants
//!
//! 1. Whoever gives up the turn hands it to the one who has waited longest; it is never up for
//!    grabs while anyone waits.
//! 2. A waiter that goes away (a dropped future) passes on a turn that it was handed.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::sync::{Condvar, Mutex};

#[derive(Debug)]
enum Waiter {
    Thread,
    Task(Option<Waker>),
}

#[derive(Debug, Default)]
struct Queue {
    taken: bool,
    /// Ticket of the one whose turn it became, until it notices.
    handed: Option<u64>,
    next_ticket: u64,
    waiting: VecDeque<(u64, Waiter)>,
}

impl Queue {
    fn pass_on(&mut self, arrived: &Condvar) {
        match self.waiting.pop_front() {
            None => {
                self.taken = false;
                self.handed = None;
            }
            Some((ticket, waiter)) => {
                self.handed = Some(ticket);
                match waiter {
                    Waiter::Thread => {
                        arrived.notify_all();
                    }
                    Waiter::Task(waker) => waker.into_iter().for_each(Waker::wake),
                }
            }
        }
    }

    fn enqueue(&mut self, waiter: Waiter) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        self.waiting.push_back((ticket, waiter));
        ticket
    }

    fn accept(&mut self, ticket: u64) -> bool {
        let mine = self.handed == Some(ticket);
        if mine {
            self.handed = None;
        }
        mine
    }
}

/// The queue of writers.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    queue: Mutex<Queue>,
    arrived: Condvar,
}

/// The right to write, until dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Arc<Turns>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.queue.lock().pass_on(&self.turns.arrived);
    }
}

impl Turns {
    /// Blocks until it is this thread's turn.
    pub(crate) fn wait(self: &Arc<Self>) -> Turn {
        let mut queue = self.queue.lock();
        if queue.taken {
            let ticket = queue.enqueue(Waiter::Thread);
            while !queue.accept(ticket) {
                self.arrived.wait(&mut queue);
            }
        }
        queue.taken = true;
        Turn {
            turns: self.clone(),
        }
    }

    /// A future that resolves when it is the task's turn.
    pub(crate) fn queue_up(self: &Arc<Self>) -> TurnFuture {
        TurnFuture {
            turns: self.clone(),
            ticket: None,
            done: false,
        }
    }
}

/// See [`Turns::queue_up`].
#[derive(Debug)]
pub(crate) struct TurnFuture {
    turns: Arc<Turns>,
    ticket: Option<u64>,
    done: bool,
}

impl Future for TurnFuture {
    type Output = Turn;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Turn> {
        let turns = self.turns.clone();
        let mut queue = turns.queue.lock();
        match self.ticket {
            None if !queue.taken => queue.taken = true,
            None => {
                let waiter = Waiter::Task(Some(context.waker().clone()));
                self.ticket = Some(queue.enqueue(waiter));
                return Poll::Pending;
            }
            Some(ticket) => {
                if !queue.accept(ticket) {
                    for (known, waiter) in &mut queue.waiting {
                        if *known == ticket {
                            *waiter = Waiter::Task(Some(context.waker().clone()));
                        }
                    }
                    return Poll::Pending;
                }
            }
        }
        self.done = true;
        drop(queue);
        Poll::Ready(Turn { turns })
    }
}

impl Drop for TurnFuture {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket.filter(|_| !self.done) else {
            return;
        };
        let mut queue = self.turns.queue.lock();
        queue.waiting.retain(|(known, _)| *known != ticket);
        if queue.accept(ticket) {
            queue.pass_on(&self.turns.arrived);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn turns_are_exclusive_and_in_order() {
        let turns = Arc::new(Turns::default());
        let first = turns.wait();
        let order = Arc::new(Mutex::new(Vec::new()));
        let inside = Arc::new(AtomicU32::new(0));
        let threads: Vec<_> = (0..4)
            .map(|i| {
                let (turns, order, inside) = (turns.clone(), order.clone(), inside.clone());
                let waiting = turns.queue.lock().waiting.len();
                let thread = std::thread::spawn({
                    let turns = turns.clone();
                    move || {
                        let _turn = turns.wait();
                        assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                        order.lock().push(i);
                        inside.fetch_sub(1, Ordering::SeqCst);
                    }
                });
                while turns.queue.lock().waiting.len() == waiting {
                    std::thread::yield_now();
                }
                thread
            })
            .collect();
        drop(first);
        threads.into_iter().for_each(|t| t.join().unwrap());
        assert_eq!(*order.lock(), [0, 1, 2, 3]);
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
        drop(first); // handed to the first in line
        assert!(Pin::new(&mut patient).poll(&mut context).is_pending());
        drop(abandoned);
        assert!(Pin::new(&mut patient).poll(&mut context).is_ready());
        let _again = turns.wait();
    }
}
