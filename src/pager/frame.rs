//! Frames: pages in memory, and the cells that publish them to readers without a lock.
//!
//! # Invariants
//!
//! 1. A frame that is [`Unique`] has one owner and can be changed. A frame that is [`Frame`] is
//!    shared and its bytes never change again.
//! 2. A [`FrameCell`] owns one count of the frame in it. A frame taken out of a cell gives that
//!    count back only after every thread that was pinned at that moment has unpinned, so a
//!    pointer loaded from a cell is good for as long as the pin under which it was loaded.
//! 3. `clean` goes from false to true and never back: a clean frame's bytes are in the file, so
//!    it may be dropped.
//! 4. Frames that were taken out of cells and are not free yet take little memory: each thread that takes some out also
//!    sees to those of before, after at most [`GATHERED_BYTES`]. (By itself the collector looks after them each 128 pins
//!    and frees some hundred. That is too seldom where frames are long, or one pin serves many.) While the pin lives under
//!    which they were taken out none of them can be freed, and afterwards there may be nobody to see to them. So who
//!    commits or makes a checkpoint sees to all of them at the end ([`settle`]).
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};

use super::arena::{Arena, Held, Place};
use super::pin::Pin;
use crate::format::Version;
use crate::prefetch::{prefetch_address, prefetch_start};

/// The head of a frame's allocation; its bytes follow.
#[repr(C, align(64))]
struct Head {
    references: AtomicUsize,
    length: usize,
    birth: Version,
    is_run: bool,
    clean: AtomicBool,
    /// Where the memory came from.
    block: u32,
}

pub(super) const HEAD_BYTES: usize = size_of::<Head>();

/// `None` past isize::MAX, which is 2 GiB on 32 bits: there long values can be longer.
fn layout(length: usize) -> Option<Layout> {
    let bytes = HEAD_BYTES.saturating_add(length);
    Layout::from_size_align(bytes, align_of::<Head>()).ok()
}

const SMALLEST_LOG2: u32 = 12;
/// Pages lie in these; other lengths, which are those of long values, in the system's memory.
static ARENAS: [Arena; 5] = [
    Arena::new(HEAD_BYTES + (4 << 10)),
    Arena::new(HEAD_BYTES + (8 << 10)),
    Arena::new(HEAD_BYTES + (16 << 10)),
    Arena::new(HEAD_BYTES + (32 << 10)),
    Arena::new(HEAD_BYTES + (64 << 10)),
];

/// The block of a frame that is in no arena.
const NO_BLOCK: u32 = u32::MAX;

fn arena(length: usize) -> Option<&'static Arena> {
    // Sanitizers see what becomes of memory that comes from the allocator, and not of places.
    if cfg!(sanitized) || !length.is_power_of_two() {
        return None;
    }
    let index = length.ilog2().checked_sub(SMALLEST_LOG2)?;
    ARENAS.get(index as usize)
}

/// Makes memory for pages of this length ready before it is needed, until told to stop. For a thread that
/// has nothing else to do.
pub(crate) fn supply(page_bytes: usize, is_over: &AtomicBool) {
    if let Some(arena) = arena(page_bytes) {
        arena.supply(is_over);
    }
}

/// Makes those who [`supply`] look whether they are to stop.
pub(crate) fn wake_suppliers(page_bytes: usize) {
    if let Some(arena) = arena(page_bytes) {
        arena.wake_suppliers();
    }
}

thread_local! {
    /// While this thread forks.
    static HELD: RefCell<Vec<Held<'static>>> = const { RefCell::new(Vec::new()) };
}

/// Keeps others out of the arenas until [`let_arenas_go`].
pub(super) fn hold_arenas() {
    let hold = |held: &RefCell<Vec<_>>| held.borrow_mut().extend(ARENAS.iter().map(Arena::hold));
    let _ = HELD.try_with(hold);
}

/// Ends that, in the process that forked or in its child.
pub(super) fn let_arenas_go(is_child: bool) {
    let _ = HELD.try_with(|held| {
        for mut held in held.borrow_mut().drain(..) {
            if is_child {
                held.forget_others();
            }
        }
    });
}

/// While it lives, somebody fills many frames: their memory is made ready as huge pages.
#[derive(Debug)]
pub(crate) struct Burst {
    page_bytes: usize,
}

impl Burst {
    pub(crate) fn new(page_bytes: usize) -> Self {
        if let Some(arena) = arena(page_bytes) {
            arena.begin_burst();
        }
        Burst { page_bytes }
    }
}

impl Drop for Burst {
    fn drop(&mut self) {
        if let Some(arena) = arena(self.page_bytes) {
            arena.end_burst();
        }
    }
}

/// Places of one length that this thread gave back, or took at once. A commit copies a few pages
/// and frees as many; taking them from here saved a third of a small commit.
#[derive(Default)]
struct Spare {
    length: usize,
    places: Vec<Place>,
}

const MAX_SPARE: usize = 64;
/// So many are moved between a thread and the arena at once.
const MOVED: usize = 32;

impl Spare {
    /// From now on it is for places of this length.
    fn set_length(&mut self, length: usize) {
        if self.length != length {
            self.shrink(0);
            self.length = length;
        }
    }

    /// Gives back all but `kept` places.
    fn shrink(&mut self, kept: usize) {
        if let Some(arena) = arena(self.length) {
            arena.give_back(self.places.drain(kept.min(self.places.len())..));
        }
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        self.shrink(0);
    }
}

thread_local! {
    static SPARE: RefCell<Spare> = RefCell::default();
}

/// Memory for a head and `length` bytes, not initialised.
fn allocate(length: usize) -> Place {
    let none = || handle_alloc_error(layout(length).unwrap_or(Layout::new::<Head>()));
    try_allocate(length).unwrap_or_else(none)
}

/// The same, unless there is no memory.
fn try_allocate(length: usize) -> Option<Place> {
    if let Some(arena) = arena(length) {
        let spare = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            spare.set_length(length);
            if spare.places.is_empty() {
                arena.take(MOVED, &mut spare.places);
            }
            spare.places.pop()
        });
        if let Ok(Some(place)) = spare {
            return Some(place);
        }
    }
    let layout = layout(length)?;
    // SAFETY: the layout has a non-zero size (the head).
    let start = NonNull::new(unsafe { alloc(layout) })?;
    Some(Place {
        start,
        block: NO_BLOCK,
        is_ready: true,
    })
}

/// Memory that costs no wait for the system to give it. `None`: there is none now, and there may be soon.
fn allocate_ready(length: usize) -> Option<Place> {
    let Some(arena) = arena(length) else {
        return try_allocate(length);
    };
    let place = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        spare.set_length(length);
        let has_ready = spare.places.last().is_some_and(|place| place.is_ready)
            || (arena.may_have_ready() && arena.take_ready(MOVED, &mut spare.places));
        if !has_ready {
            return None;
        }
        spare.places.pop()
    });
    place.ok().flatten()
}

/// Whether [`Unique::ready`] may find memory now.
#[inline]
pub(crate) fn may_be_ready(length: usize) -> bool {
    arena(length).is_none_or(Arena::may_have_ready)
}

/// Takes back what `allocate` gave, which nobody points to any more.
fn release(place: Place, length: usize) {
    if place.block == NO_BLOCK {
        if let Some(layout) = layout(length) {
            // SAFETY: the memory came from `alloc` in `try_allocate`, with this length.
            unsafe { dealloc(place.start.as_ptr(), layout) };
        }
        return;
    }
    let kept = SPARE.try_with(|spare| {
        let mut spare = spare.borrow_mut();
        if spare.length != length {
            return false;
        }
        if spare.places.len() >= MAX_SPARE {
            spare.shrink(MAX_SPARE - MOVED);
        }
        let is_ready = true;
        spare.places.push(Place { is_ready, ..place });
        true
    });
    // The thread may be ending, with its spare ones gone.
    if kept != Ok(true)
        && let Some(arena) = arena(length)
    {
        arena.give_back(std::iter::once(place));
    }
}

/// Where the bytes of a frame begin.
#[inline]
fn bytes_of(head: NonNull<Head>) -> *mut u8 {
    head.as_ptr().cast::<u8>().wrapping_add(HEAD_BYTES)
}

/// A counted handle on bytes that no longer change.
#[derive(Debug)]
pub(crate) struct Frame {
    head: NonNull<Head>,
}

// SAFETY: a `Frame` only gives out shared references to bytes that never change (invariant 1) and
// to atomics; the count is atomic, and the last handle, on whatever thread, frees the memory.
unsafe impl Send for Frame {}
// SAFETY: as above.
unsafe impl Sync for Frame {}

impl Frame {
    fn head(&self) -> &Head {
        // SAFETY: the handle owns a count, so the allocation lives and its head is initialised.
        unsafe { self.head.as_ref() }
    }

    pub(crate) fn len(&self) -> usize {
        self.head().length
    }

    /// The bytes are in the file now (invariant 3).
    pub(crate) fn set_clean(&self) {
        self.head().clean.store(true, Ordering::Release);
    }
}

impl Deref for Frame {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: the allocation holds `length` initialised bytes after the head and lives as
        // long as the handle; no one changes them (invariant 1).
        unsafe { std::slice::from_raw_parts(bytes_of(self.head), self.len()) }
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        // Relaxed: a new handle is made from a living one, as in `Arc`.
        self.head().references.fetch_add(1, Ordering::Relaxed);
        Frame { head: self.head }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        if self.head().references.fetch_sub(1, Ordering::Release) == 1 {
            // What others did before their counts went. (As good as a fence, which ThreadSanitizer does not know.)
            self.head().references.load(Ordering::Acquire);
            let Head { length, block, .. } = *self.head();
            let start = self.head.cast();
            let is_ready = true;
            release(
                Place {
                    start,
                    block,
                    is_ready,
                },
                length,
            );
        }
    }
}

/// A frame with one owner, which may change it.
#[derive(Debug)]
pub(crate) struct Unique {
    frame: Frame,
    /// That of the head, kept here because a look at the head is a wait for memory.
    length: usize,
}

impl Unique {
    /// Zeros, as a page of that version.
    pub(crate) fn zeroed(length: usize, birth: Version) -> Self {
        let place = allocate(length);
        // SAFETY: the place has `length` bytes behind the head.
        unsafe { place.start.add(HEAD_BYTES).write_bytes(0, length) };
        Self::from_parts(place, length, birth, false)
    }

    /// Whatever bytes there are, for a caller who replaces all of them, as a page of that version. (Zeros took a
    /// quarter as long as reading the page did.)
    pub(crate) fn to_fill(length: usize, birth: Version) -> Self {
        Self::filled_later(allocate(length), length, birth)
    }

    /// The same, unless there is no memory: for what may be very long.
    pub(crate) fn try_to_fill(length: usize, birth: Version) -> Option<Self> {
        Some(Self::filled_later(try_allocate(length)?, length, birth))
    }

    /// The same, if there is memory that costs no wait for the system to give it: the first touch of fresh memory takes
    /// longer than to read a page.
    pub(crate) fn ready(length: usize, birth: Version) -> Option<Self> {
        Some(Self::filled_later(allocate_ready(length)?, length, birth))
    }

    fn filled_later(place: Place, length: usize, birth: Version) -> Self {
        if place.block == NO_BLOCK {
            // SAFETY: the place has `length` bytes behind the head.
            unsafe { place.start.add(HEAD_BYTES).write_bytes(0, length) };
        }
        // The memory of an arena is mapped: it has bytes, zeros or those of an earlier frame.
        Self::from_parts(place, length, birth, false)
    }

    pub(crate) fn copy_of(bytes: &[u8], birth: Version, is_run: bool) -> Self {
        let place = allocate(bytes.len());
        // SAFETY: the place has `bytes.len()` bytes behind the head, and is nobody else's, so it
        // does not overlap with `bytes`.
        unsafe {
            let to = place.start.as_ptr().add(HEAD_BYTES);
            to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        }
        Self::from_parts(place, bytes.len(), birth, is_run)
    }

    /// `place` is for `length` bytes, all of them initialised.
    fn from_parts(place: Place, length: usize, birth: Version, is_run: bool) -> Self {
        let value = Head {
            references: AtomicUsize::new(1),
            length,
            birth,
            is_run,
            clean: AtomicBool::new(false),
            block: place.block,
        };
        let head = place.start.cast::<Head>();
        // SAFETY: the place is large enough for the head and aligned for it.
        unsafe { head.write(value) };
        let frame = Frame { head };
        Unique { frame, length }
    }

    pub(crate) fn birth(&self) -> Version {
        self.frame.head().birth
    }

    pub(crate) fn is_run(&self) -> bool {
        self.frame.head().is_run
    }

    /// From now on the bytes are fixed.
    pub(crate) fn share(self) -> Frame {
        self.frame
    }
}

impl Deref for Unique {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: as for `Frame::deref`; `length` is that of the head.
        unsafe { std::slice::from_raw_parts(bytes_of(self.frame.head), self.length) }
    }
}

impl DerefMut for Unique {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `Frame::deref`; and a `Unique` is the only handle (it is not `Clone`, and
        // `share` consumes it), so this borrow of it is the only access. `length` is that of the
        // head.
        unsafe { std::slice::from_raw_parts_mut(bytes_of(self.frame.head), self.length) }
    }
}

/// A frame as seen under a pin: good until the pin ends (invariant 2).
#[derive(Clone, Copy)]
pub(crate) struct Pinned<'g> {
    /// A raw pointer, because a reference to the head would not reach the bytes behind it.
    head: NonNull<Head>,
    length: usize,
    pin: PhantomData<&'g Pin>,
}

impl<'g> Pinned<'g> {
    #[inline]
    fn head(self) -> &'g Head {
        // SAFETY: the frame lives for 'g (invariant 2), and its head is only read or atomic.
        unsafe { self.head.as_ref() }
    }

    /// All bytes of the frame.
    #[inline]
    pub(crate) fn bytes(self) -> &'g [u8] {
        // SAFETY: the allocation holds `length` initialised bytes after the head, lives for 'g
        // (invariant 2), and its bytes are fixed (invariant 1).
        unsafe { std::slice::from_raw_parts(bytes_of(self.head), self.length) }
    }

    /// Asks for the head, which is looked at when the frame is counted or dropped.
    #[inline]
    pub(crate) fn warm_head(self) {
        prefetch_start(self.head());
    }

    pub(crate) fn birth(self) -> Version {
        self.head().birth
    }

    pub(crate) fn is_run(self) -> bool {
        self.head().is_run
    }

    pub(crate) fn is_clean(self) -> bool {
        self.head().clean.load(Ordering::Acquire)
    }

    pub(crate) fn set_clean(self) {
        self.head().clean.store(true, Ordering::Release);
    }

    /// A handle that outlives the pin.
    pub(crate) fn hold(self) -> Frame {
        self.head().references.fetch_add(1, Ordering::Relaxed);
        Frame { head: self.head }
    }
}

/// A place that holds a frame or nothing, read without a lock.
///
/// The low bits of the pointer, which a head's alignment leaves free, tell the length of a page: the
/// bytes are reached without a look at the head, which is a wait for memory of its own.
#[derive(Debug, Default)]
pub(crate) struct FrameCell(AtomicPtr<Head>);

const TAG_MASK: usize = align_of::<Head>() - 1;

/// 0 for lengths that are not those of pages.
fn tag_of(length: usize) -> usize {
    match arena(length) {
        Some(_) => (length.ilog2() - SMALLEST_LOG2) as usize + 1,
        None => 0,
    }
}

fn add_tag(head: *mut Head, length: usize) -> *mut Head {
    head.map_addr(|address| address | tag_of(length))
}

fn without_tag(tagged: *mut Head) -> *mut Head {
    tagged.map_addr(|address| address & !TAG_MASK)
}

impl FrameCell {
    #[inline]
    pub(crate) fn load<'g>(&'g self, _pin: &'g Pin) -> Option<Pinned<'g>> {
        let tagged = self.0.load(Ordering::Acquire);
        // A pointer in a cell owns a count, and one that is taken out gives it back only after
        // every pin of that moment has ended; `_pin` is such a pin, and the cell is not dropped as long as
        // somebody looks at what was in it: this is invariant 2.
        let head = NonNull::new(without_tag(tagged))?;
        let length = match tagged.addr() & TAG_MASK {
            // SAFETY: the frame lives for 'g (invariant 2).
            0 => unsafe { head.as_ref() }.length,
            tag => length_of_tag(tag),
        };
        Some(Pinned {
            head,
            length,
            pin: PhantomData,
        })
    }

    /// Asks for the head and the first bytes of what is in it, without a look at them. False: there is nothing.
    #[inline]
    pub(crate) fn ask(&self, bytes: usize) -> bool {
        let head = without_tag(self.0.load(Ordering::Relaxed)).addr();
        if head == 0 {
            return false;
        }
        for line in (0..HEAD_BYTES + bytes).step_by(64) {
            prefetch_address(head.wrapping_add(line));
        }
        true
    }

    /// Whether there is nothing in it at the moment.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Puts a frame in, or nothing, and lets go of what was there once no reader can see it.
    pub(crate) fn replace(&self, frame: Option<Frame>, pin: &Pin) {
        let new = frame.map_or(std::ptr::null_mut(), into_raw);
        retire(self.0.swap(new, Ordering::AcqRel), pin);
    }

    /// Puts a frame in if the cell is empty. Says whether it did.
    pub(crate) fn fill(&self, frame: Frame) -> bool {
        let new = into_raw(frame);
        let filled = self
            .0
            .compare_exchange(
                std::ptr::null_mut(),
                new,
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok();
        if !filled {
            // SAFETY: `new` came from `into_raw` just above and was not given away.
            drop(unsafe { from_raw(new) });
        }
        filled
    }

    /// Empties the cell if it still holds `seen`. Says whether it did.
    pub(crate) fn clear_if(&self, seen: Pinned<'_>, pin: &Pin) -> bool {
        let old = add_tag(seen.head.as_ptr(), seen.length);
        // `seen` is pinned, so its address cannot have been freed and used again: if the pointer
        // is the same, the frame is.
        let cleared = self
            .0
            .compare_exchange(
                old,
                std::ptr::null_mut(),
                Ordering::AcqRel,
                Ordering::Relaxed,
            )
            .is_ok();
        if cleared {
            retire(old, pin);
        }
        cleared
    }
}

impl Drop for FrameCell {
    fn drop(&mut self) {
        let head = *self.0.get_mut();
        if !head.is_null() {
            // SAFETY: the cell owns a count of what it holds; nobody can load from it any more.
            drop(unsafe { from_raw(head) });
        }
    }
}

/// The pointer of a cell, which owns the count.
fn into_raw(frame: Frame) -> *mut Head {
    let tagged = add_tag(frame.head.as_ptr(), frame.len());
    std::mem::forget(frame);
    tagged
}

/// # Safety
/// `tagged` must come from `into_raw`, and its count must not have been taken back already.
unsafe fn from_raw(tagged: *mut Head) -> Frame {
    Frame {
        // SAFETY: `into_raw` returns the pointer of a living frame, which is never null; the tag
        // is in bits that its alignment leaves free.
        head: unsafe { NonNull::new_unchecked(without_tag(tagged)) },
    }
}

/// Invariant 4.
const GATHERED_BYTES: usize = 512 << 10;

/// So many frames taken out are much: 8 MiB of the shortest.
const MUCH: usize = 2048;
/// More are not counted: a thread that only reads takes out any number, and sees to them as it goes on.
const MOST_COUNTED: usize = 1 << 16;

thread_local! {
    /// What this thread has taken out of cells since it saw to that last.
    static GATHERED: Cell<usize> = const { Cell::new(0) };
    /// Frames that it has taken out since it last settled.
    static TAKEN_OUT: Cell<usize> = const { Cell::new(0) };
}

/// Gives back the memory of frames that this thread has taken out of cells, if they are many. Called without a pin.
pub(crate) fn settle() {
    let taken_out = TAKEN_OUT.get();
    if taken_out >= MUCH {
        TAKEN_OUT.set(0);
        super::pin::see_to_all(taken_out);
    }
}

/// The length of a frame that a tagged pointer leads to.
///
/// # Safety
/// `tagged` must come from `into_raw`, and its count must not have been given back.
unsafe fn length_of(tagged: *mut Head) -> usize {
    match tagged.addr() & TAG_MASK {
        // SAFETY: the frame lives as long as the count.
        0 => unsafe { (*tagged).length },
        tag => length_of_tag(tag),
    }
}

fn length_of_tag(tag: usize) -> usize {
    1 << (SMALLEST_LOG2 as usize + tag - 1)
}

fn retire(head: *mut Head, pin: &Pin) {
    if head.is_null() {
        return;
    }
    TAKEN_OUT.set((TAKEN_OUT.get() + 1).min(MOST_COUNTED));
    // SAFETY: the pointer was swapped out of a cell, whose count is ours now.
    let gathered_bytes = GATHERED.get().saturating_add(unsafe { length_of(head) });
    // SAFETY: the pointer was swapped out of a cell, which gives its count to us alone; the count
    // is given back after every present pin has ended (invariant 2). A frame is `Send`.
    unsafe { pin.put_off(move || drop(from_raw(head))) };
    if gathered_bytes < GATHERED_BYTES {
        GATHERED.set(gathered_bytes);
    } else {
        GATHERED.set(0);
        pin.see_to();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long value can be longer than what there are addresses for.
    #[test]
    fn what_is_too_long_for_memory_is_told() {
        let most = isize::MAX as usize;
        assert!(Unique::try_to_fill(most, 0).is_none());
        assert!(Unique::try_to_fill(usize::MAX, 0).is_none());
        assert_eq!(
            Unique::try_to_fill(5000, 0).map(|frame| frame.len()),
            Some(5000)
        );
    }

    #[test]
    fn a_held_frame_outlives_its_cell() {
        let cell = FrameCell::default();
        let mut frame = Unique::zeroed(4096, 0);
        frame[17] = 5;
        assert!(cell.fill(frame.share()));
        assert!(!cell.fill(Unique::zeroed(8, 0).share()));
        let held = {
            let pin = crate::pager::pin();
            let seen = cell.load(&pin).unwrap();
            assert!(!seen.is_clean());
            assert_eq!(seen.bytes().len(), 4096);
            seen.hold()
        };
        cell.replace(None, &crate::pager::pin());
        assert!(cell.load(&crate::pager::pin()).is_none());
        assert_eq!(held[17], 5);
    }

    #[test]
    fn readers_race_with_replacement() {
        let cell = FrameCell::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let pin = crate::pager::pin();
                        if let Some(seen) = cell.load(&pin) {
                            let first = seen.bytes()[0];
                            assert!(seen.bytes().iter().all(|b| *b == first));
                        }
                    }
                });
            }
            for round in 0..20_000u32 {
                let mut frame = Unique::zeroed(256, 0);
                frame.fill(round as u8);
                cell.replace(Some(frame.share()), &crate::pager::pin());
            }
        });
    }
}
