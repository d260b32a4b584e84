//! Work that can be awaited on any runtime, or waited for on this thread with none.
//!
//! # Invariants
//!
//! 1. Nothing happens until it is awaited or waited for.
//! 2. A poll never waits for the disk to sync: commits are waited for by the log's thread, long reading and writing
//!    of files happens on a thread of its own, and queries go in slices. A transaction is made in one poll, from
//!    its turn to its commit: it takes as long as what it changes, with the checkpoint that it may be or wait for.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use crate::db::Aurora;
use crate::sync::{Mutex, wake};
use crate::txn::commit::Commit;
use crate::txn::write::WriteTransaction;
use crate::{Error, Result};

type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// One way to do the work for each way to wait for it.
trait Job<'a, T>: Send {
    fn run(self: Box<Self>) -> Result<T>;
    fn start(self: Box<Self>) -> Running<'a, T>;
}

enum State<'a, T> {
    Ready(Box<dyn Job<'a, T> + 'a>),
    Running(Running<'a, T>),
    Done,
}

/// Something that takes long: `.await` it on any runtime, or [`wait`](Work::wait) for it.
///
/// Nothing happens until then. Once it is polled, poll it to its end or drop it: one that writes and is left alone while it
/// waits for its turn holds up the tasks behind it. A future that is dropped while it runs leaves its transaction
/// either done or undone, never half done; what has a thread of its own goes on to its end, and keeps the database open
/// until then. Changes of very many documents, and of a collection's schema, keep the
/// thread that polls them busy until they are made, and so does a commit that is a checkpoint, or has to wait for one
/// ([`Builder::log_limit`](crate::Builder::log_limit)); where that matters, [`wait`](Work::wait) for them on another.
#[must_use = "nothing happens until it is awaited, or waited for with `wait()`"]
pub struct Work<'a, T> {
    state: State<'a, T>,
}

impl<T> std::fmt::Debug for Work<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

impl<'a, T: Send + 'a> Work<'a, T> {
    fn new(job: impl Job<'a, T> + 'a) -> Self {
        Work {
            state: State::Ready(Box::new(job)),
        }
    }

    /// A write transaction: waits for its turn, and for the disk, without blocking the executor.
    pub(crate) fn transaction(
        db: Aurora,
        change: impl FnOnce(&mut WriteTransaction) -> Result<T> + Send + 'a,
    ) -> Self {
        Work::new(Transaction { db, change })
    }

    /// Something that reads and writes files for long: on a thread of its own if it is awaited.
    pub(crate) fn on_thread(run: impl FnOnce() -> Result<T> + Send + 'static) -> Self
    where
        T: 'static,
    {
        Work::on_thread_while(|_| run())
    }

    /// The same for something that gives up when nobody wants it any more.
    pub(crate) fn on_thread_while(run: impl FnOnce(&Wanted) -> Result<T> + Send + 'static) -> Self
    where
        T: 'static,
    {
        Work::new(OnThread { run })
    }

    /// Computing in slices: `step` does a bounded part of the work each time, and answers with the
    /// result after the last.
    pub(crate) fn slices(step: impl FnMut() -> Result<Option<T>> + Send + 'a) -> Self {
        Work::new(Slices { step })
    }

    /// Blocks until it is done. Needs no runtime.
    pub fn wait(self) -> Result<T> {
        match self.state {
            State::Ready(job) => job.run(),
            State::Running(running) => block_on(running),
            State::Done => Err(Error::WorkDone),
        }
    }
}

impl<'a, T: Send + 'a> Work<'a, (T, Commit)> {
    /// A write transaction that is handed over: waits for its turn without blocking the executor, and leaves its commit to
    /// be waited for.
    pub(crate) fn submission(
        db: Aurora,
        change: impl FnOnce(&mut WriteTransaction) -> Result<T> + Send + 'a,
    ) -> Self {
        Work::new(Submission { db, change })
    }
}

impl<'a, T: Send + 'a> Future for Work<'a, T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        let mut running = match std::mem::replace(&mut self.state, State::Done) {
            State::Ready(job) => job.start(),
            State::Running(running) => running,
            State::Done => return Poll::Ready(Err(Error::WorkDone)),
        };
        let polled = running.as_mut().poll(context);
        if polled.is_pending() {
            self.state = State::Running(running);
        }
        polled
    }
}

struct Transaction<F> {
    db: Aurora,
    change: F,
}

impl<'a, T, F> Job<'a, T> for Transaction<F>
where
    T: Send + 'a,
    F: FnOnce(&mut WriteTransaction) -> Result<T> + Send + 'a,
{
    fn run(self: Box<Self>) -> Result<T> {
        self.db.write(self.change)
    }

    fn start(self: Box<Self>) -> Running<'a, T> {
        Box::pin(async move {
            let mut transaction = self.db.begin_write_async().await?;
            let value = (self.change)(&mut transaction)?;
            transaction.commit_async()?.await?;
            Ok(value)
        })
    }
}

struct Submission<F> {
    db: Aurora,
    change: F,
}

impl<'a, T, F> Job<'a, (T, Commit)> for Submission<F>
where
    T: Send + 'a,
    F: FnOnce(&mut WriteTransaction) -> Result<T> + Send + 'a,
{
    fn run(self: Box<Self>) -> Result<(T, Commit)> {
        submit(self.db.begin_write()?, self.change)
    }

    fn start(self: Box<Self>) -> Running<'a, (T, Commit)> {
        Box::pin(async move { submit(self.db.begin_write_async().await?, self.change) })
    }
}

fn submit<T>(
    mut transaction: WriteTransaction,
    change: impl FnOnce(&mut WriteTransaction) -> Result<T>,
) -> Result<(T, Commit)> {
    let value = change(&mut transaction)?;
    Ok((value, transaction.commit_async()?))
}

struct Slices<F> {
    step: F,
}

impl<'a, T, F> Job<'a, T> for Slices<F>
where
    T: Send + 'a,
    F: FnMut() -> Result<Option<T>> + Send + 'a,
{
    fn run(mut self: Box<Self>) -> Result<T> {
        loop {
            if let Some(value) = (self.step)()? {
                return Ok(value);
            }
        }
    }

    fn start(mut self: Box<Self>) -> Running<'a, T> {
        Box::pin(std::future::poll_fn(move |context| {
            match (self.step)().transpose() {
                Some(done) => Poll::Ready(done),
                None => {
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
            }
        }))
    }
}

/// Whether somebody still waits for the answer.
pub(crate) struct Wanted(Option<Weak<()>>);

impl Wanted {
    /// By a call that blocks until it is there.
    pub(crate) const ALWAYS: Wanted = Wanted(None);

    pub(crate) fn is_wanted(&self) -> bool {
        let future = self.0.as_ref();
        future.is_none_or(|future| future.strong_count() > 0)
    }
}

struct OnThread<F> {
    run: F,
}

/// What the thread and the future share.
struct Desk<T> {
    /// Or what it panicked with.
    result: Option<std::thread::Result<Result<T>>>,
    waker: Option<Waker>,
}

struct Answer<T>(Arc<Mutex<Desk<T>>>);

impl<T> Answer<T> {
    fn give(self, result: std::thread::Result<Result<T>>) {
        let mut desk = self.0.lock();
        desk.result = Some(result);
        let waker = desk.waker.take();
        drop(desk); // the task may run right here
        waker.into_iter().for_each(wake);
    }
}

impl<'a, T, F> Job<'a, T> for OnThread<F>
where
    T: Send + 'static,
    F: FnOnce(&Wanted) -> Result<T> + Send + 'static,
{
    fn run(self: Box<Self>) -> Result<T> {
        (self.run)(&Wanted::ALWAYS)
    }

    fn start(self: Box<Self>) -> Running<'a, T> {
        let desk = Arc::new(Mutex::new(Desk {
            result: None,
            waker: None,
        }));
        let answer = Answer(desk.clone());
        let waits = Arc::new(());
        let wanted = Wanted(Some(Arc::downgrade(&waits)));
        let run = move || (self.run)(&wanted);
        let started = std::thread::Builder::new()
            .name("aurora-work".to_string())
            .spawn(move || answer.give(catch_unwind(AssertUnwindSafe(run))))
            .map_err(|error| Error::NoThread {
                source: Arc::new(error),
            });
        Box::pin(async move {
            let _waits = waits; // until it is dropped
            started?;
            std::future::poll_fn(|context| {
                let mut desk = desk.lock();
                match desk.result.take() {
                    Some(Ok(result)) => return Poll::Ready(result),
                    // As if it had run here.
                    Some(Err(panic)) => resume_unwind(panic),
                    None => {}
                }
                desk.waker = Some(context.waker().clone());
                Poll::Pending
            })
            .await
        })
    }
}

/// Runs a future on this thread.
fn block_on<T>(mut future: Running<'_, T>) -> Result<T> {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(result) => return result,
            Poll::Pending => std::thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Awaits: polls once, then waits for the rest.
    fn awaited<'a, T: Send + 'a>(mut work: Work<'a, T>) -> Result<T> {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut work).poll(&mut context) {
            Poll::Ready(result) => result,
            Poll::Pending => work.wait(),
        }
    }

    /// Some executors poll, or drop, a task where it is woken.
    #[test]
    fn a_task_that_runs_where_it_is_woken_does_not_wait_for_itself() {
        use std::sync::mpsc::{Sender, channel};
        use std::task::Wake;

        struct Inline {
            work: Mutex<Option<Work<'static, u8>>>,
            done: Mutex<Sender<u8>>,
        }
        impl Inline {
            fn poll(self: &Arc<Self>) {
                let waker = Waker::from(self.clone());
                let mut work = self.work.lock();
                let Some(running) = work.as_mut() else { return };
                if let Poll::Ready(done) = Pin::new(running).poll(&mut Context::from_waker(&waker))
                {
                    *work = None;
                    self.done.lock().send(done.unwrap()).unwrap();
                }
            }
        }
        impl Wake for Inline {
            fn wake(self: Arc<Self>) {
                self.poll();
            }
        }
        let (give, go) = channel();
        let (done, result) = channel();
        let work = Work::on_thread(move || {
            go.recv().unwrap();
            Ok(7)
        });
        let task = Arc::new(Inline {
            work: Mutex::new(Some(work)),
            done: Mutex::new(done),
        });
        task.poll();
        give.send(()).unwrap();
        let result = result.recv_timeout(std::time::Duration::from_secs(20));
        assert_eq!(result, Ok(7));
    }

    #[test]
    fn every_kind_of_work_can_be_awaited_and_waited_for() {
        let db = Aurora::in_memory().unwrap();
        for wait in [Work::wait, awaited] {
            let put = Work::transaction(db.clone(), |tx| tx.tree("t")?.put("key", "value"));
            wait(put).unwrap();
        }
        assert_eq!(db.tree("t").unwrap().len().unwrap(), 1);
        for wait in [Work::wait, awaited] {
            let mut steps = 0;
            let counted = wait(Work::slices(move || {
                steps += 1;
                Ok((steps == 5).then_some(true))
            }));
            assert!(counted.unwrap());
            assert!(wait(Work::on_thread(|| Ok(true))).unwrap());
        }
    }

    #[test]
    fn nothing_happens_before_it_is_awaited() {
        let db = Aurora::in_memory().unwrap();
        drop(Work::transaction(db.clone(), |tx| {
            tx.tree("t")?.put("key", "value")
        }));
        assert!(db.tree_names().unwrap().is_empty());
    }

    #[test]
    fn a_second_poll_is_an_error() {
        let mut work = Work::slices(|| Ok(Some(())));
        let mut context = Context::from_waker(Waker::noop());
        let mut poll = || Pin::new(&mut work).poll(&mut context);
        assert!(matches!(poll(), Poll::Ready(Ok(()))));
        assert!(matches!(poll(), Poll::Ready(Err(Error::WorkDone))));
    }
}
