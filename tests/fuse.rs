//! A file system in user space, as many devices, archives and clouds are mounted. What is tried is what such a file
//! system may do, and those in the kernel do not: it heeds no flag of a descriptor that says that each write is to be
//! durable, it cannot sync a directory, and it does not let files be mapped.
//!
//! It is a server in this process, with one file in memory, of which it remembers what was synced: that is what a power
//! cut would leave. Needs to be root on Linux, with `/dev/fuse`. Where that is not so, the tests say why and pass.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)] // system calls: mount

mod common;

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use aurora::storage::MemoryStorage;
use aurora::{Aurora, Error};

/// How the server is to be.
#[derive(Debug, Clone, Copy, Default)]
struct Manner {
    /// The kernel keeps nothing of the file: `FOPEN_DIRECT_IO`.
    is_direct: bool,
    /// What a sync of the directory says, if not that it is done.
    directory_error: i32,
}

/// The file: as it is, and as it was when it was last synced.
#[derive(Debug, Default)]
struct Medium {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    is_there: bool,
}

/// A mounted file system with a single file, [`NAME`]. Gone when dropped.
struct Mounted {
    directory: tempfile::TempDir,
    medium: Arc<Mutex<Medium>>,
    server: Option<JoinHandle<()>>,
}

const NAME: &str = "data.db";
const FILE: u64 = 2;

/// Numbers of the kernel's header `fuse.h`.
mod call {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const UNLINK: u32 = 10;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const RELEASEDIR: u32 = 29;
    pub const FSYNCDIR: u32 = 30;
    pub const CREATE: u32 = 35;
    pub const INTERRUPT: u32 = 36;
    pub const BATCH_FORGET: u32 = 42;
}
const OPEN_DIRECT: u32 = 1;
const SET_SIZE: u32 = 1 << 3;
const MOST_BYTES: u32 = 128 << 10;

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A reply, put together field by field.
#[derive(Default)]
struct Reply(Vec<u8>);

impl Reply {
    fn words(mut self, words: &[u32]) -> Self {
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes());
        self.0.extend(bytes);
        self
    }

    fn longs(mut self, longs: &[u64]) -> Self {
        let bytes = longs.iter().flat_map(|long| long.to_ne_bytes());
        self.0.extend(bytes);
        self
    }

    /// `struct fuse_attr`.
    fn attributes(self, node: u64, medium: &Medium) -> Self {
        let (length, mode) = match node {
            FILE => (medium.bytes.len() as u64, libc::S_IFREG | 0o644),
            _ => (0, libc::S_IFDIR | 0o755),
        };
        self.longs(&[node, length, length.div_ceil(512), 0, 0, 0])
            .words(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])
    }

    /// `struct fuse_entry_out`. Nothing is remembered: the kernel asks again.
    fn entry(self, medium: &Medium) -> Self {
        self.longs(&[FILE, 1, 0, 0])
            .words(&[0, 0])
            .attributes(FILE, medium)
    }
}

/// Carries out one call. `None`: it has no reply.
fn answer(medium: &mut Medium, manner: Manner, request: &[u8]) -> Option<Result<Reply, i32>> {
    let (operation, node, body) = (u32_at(request, 4), u64_at(request, 16), &request[40..]);
    let named = |name: &[u8]| name.strip_suffix(&[0]) == Some(NAME.as_bytes());
    let flags = if manner.is_direct { OPEN_DIRECT } else { 0 };
    let opened = |reply: Reply, flags| reply.longs(&[0]).words(&[flags, 0]);
    let reply = Reply::default();
    Some(Ok(match operation {
        call::FORGET | call::BATCH_FORGET | call::INTERRUPT => return None,
        call::INIT => reply
            .words(&[7, 31, MOST_BYTES, 1 << 5, 0, MOST_BYTES])
            .words(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        call::LOOKUP if medium.is_there && named(body) => reply.entry(medium),
        call::LOOKUP => return Some(Err(libc::ENOENT)),
        call::CREATE if named(&body[16..]) => {
            medium.is_there = true;
            opened(reply.entry(medium), flags)
        }
        call::UNLINK if named(body) => {
            *medium = Medium::default();
            reply
        }
        call::OPEN => opened(reply, flags),
        call::OPENDIR => opened(reply, 0),
        call::SETATTR | call::GETATTR => {
            if operation == call::SETATTR && u32_at(body, 0) & SET_SIZE != 0 {
                medium.bytes.resize(u64_at(body, 16) as usize, 0);
            }
            let reply = reply.longs(&[0]).words(&[0, 0]);
            reply.attributes(node, medium)
        }
        call::READ => {
            let begin = (u64_at(body, 8) as usize).min(medium.bytes.len());
            let end = (begin + u32_at(body, 16) as usize).min(medium.bytes.len());
            Reply(medium.bytes[begin..end].to_vec())
        }
        call::WRITE => {
            let (begin, length) = (u64_at(body, 8) as usize, u32_at(body, 16));
            let end = begin + length as usize;
            if medium.bytes.len() < end {
                medium.bytes.resize(end, 0);
            }
            medium.bytes[begin..end].copy_from_slice(&body[40..][..length as usize]);
            reply.words(&[length, 0])
        }
        call::FSYNC => {
            medium.durable = medium.bytes.clone();
            reply
        }
        call::FSYNCDIR if manner.directory_error != 0 => return Some(Err(manner.directory_error)),
        call::FSYNCDIR | call::FLUSH | call::RELEASE | call::RELEASEDIR => reply,
        call::STATFS => reply
            .longs(&[1 << 20, 1 << 19, 1 << 19, 1 << 10, 1 << 9])
            .words(&[4096, 255, 4096, 0, 0, 0, 0, 0, 0, 0]),
        _ => return Some(Err(libc::ENOSYS)),
    }))
}

fn serve(mut device: File, medium: &Mutex<Medium>, manner: Manner) {
    let mut buffer = vec![0; MOST_BYTES as usize + 8192];
    loop {
        let length = match device.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return, // unmounted
            Err(_) => continue, // who has called was interrupted
        };
        let request = &buffer[..length];
        let answered = answer(&mut medium.lock().unwrap(), manner, request);
        let (error, body) = match answered {
            None => continue,
            Some(Ok(reply)) => (0, reply.0),
            Some(Err(error)) => (-error, Vec::new()),
        };
        let head = Reply::default().words(&[16 + body.len() as u32, error as u32]);
        let mut reply = head.longs(&[u64_at(request, 8)]).0;
        reply.extend(body);
        let _ = device.write_all(&reply); // nobody may wait for it any more
    }
}

impl Mounted {
    /// Mounts it, or says why that is not possible here.
    fn make(manner: Manner) -> Option<Self> {
        let made = Mounted::try_to_make(manner);
        made.inspect_err(|reason| println!("skipped: {reason}"))
            .ok()
    }

    fn try_to_make(manner: Manner) -> Result<Self, String> {
        if unsafe { libc::geteuid() } != 0 {
            return Err("not root".to_string());
        }
        let device = File::options().read(true).write(true).open("/dev/fuse");
        let device = device.map_err(|error| format!("/dev/fuse: {error}"))?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let options = format!(
            "fd={},rootmode=40000,user_id=0,group_id=0",
            device.as_raw_fd()
        );
        let text = |text: &str| CString::new(text).unwrap();
        let (kind, options) = (text("fuse"), text(&options));
        let root = text(directory.path().to_str().unwrap());
        let done = unsafe {
            let options = options.as_ptr().cast();
            libc::mount(kind.as_ptr(), root.as_ptr(), kind.as_ptr(), 0, options)
        };
        if done != 0 {
            return Err(format!("mount: {}", std::io::Error::last_os_error()));
        }
        let medium = Arc::<Mutex<Medium>>::default();
        let server = {
            let medium = medium.clone();
            std::thread::spawn(move || serve(device, &medium, manner))
        };
        Ok(Mounted {
            directory,
            medium,
            server: Some(server),
        })
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join(NAME)
    }

    /// What a power cut would leave.
    fn durable(&self) -> Vec<u8> {
        self.medium.lock().unwrap().durable.clone()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let root = CString::new(self.directory.path().to_str().unwrap()).unwrap();
        // Safe to fail: it is only to leave nothing behind.
        unsafe { libc::umount2(root.as_ptr(), libc::MNT_DETACH) };
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn open(path: &Path) -> Aurora {
    let builder = Aurora::builder().memory_limit(2 << 20);
    builder.open(path).unwrap()
}

/// All values so far are in what a power cut would leave.
fn check_durable(disk: &Mounted, numbers: std::ops::Range<u64>) {
    let image = Arc::new(MemoryStorage::from_bytes(&disk.durable()));
    let builder = Aurora::builder().read_only(true).background(false);
    let db = builder.open_storage(image).unwrap();
    let tree = db.tree("t").unwrap();
    for number in numbers {
        let found = tree.get(number.to_be_bytes());
        let found = found.unwrap_or_else(|error| panic!("commit {number}: {error}"));
        assert!(found.is_some(), "commit {number} was acknowledged");
    }
}

/// Commits one by one, and several at a time, which share a write.
#[test]
fn what_was_acknowledged_was_synced_whatever_the_descriptor_says() {
    for is_direct in [false, true] {
        let manner = Manner {
            is_direct,
            ..Manner::default()
        };
        let Some(disk) = Mounted::make(manner) else {
            return;
        };
        let db = open(&disk.path());
        let tree = db.tree("t").unwrap();
        for number in 0..100u64 {
            let length = if number % 10 == 9 { 70_000 } else { 100 };
            tree.put(number.to_be_bytes(), vec![7; length]).unwrap();
            check_durable(&disk, number..number + 1);
        }
        std::thread::scope(|scope| {
            for thread in 1..5u64 {
                let (tree, disk) = (&tree, &disk);
                scope.spawn(move || {
                    for number in (thread * 1000..).take(40) {
                        tree.put(number.to_be_bytes(), [7; 100]).unwrap();
                        check_durable(disk, number..number + 1);
                    }
                });
            }
        });
        db.checkpoint().unwrap();
        check_durable(&disk, 0..100);
        db.check().unwrap();
        drop((tree, db));
        let db = open(&disk.path());
        assert_eq!(db.tree("t").unwrap().len().unwrap(), 260);
        db.check().unwrap();
    }
}

/// Some file systems have no such call and say that it makes no sense. A failure is one.
#[test]
fn a_directory_that_cannot_be_synced_is_none_that_failed() {
    for (error, is_taken) in [
        (libc::EINVAL, true),
        (libc::EOPNOTSUPP, true),
        (libc::EIO, false),
    ] {
        let manner = Manner {
            directory_error: error,
            ..Manner::default()
        };
        let Some(disk) = Mounted::make(manner) else {
            return;
        };
        match Aurora::open(disk.path()) {
            Ok(db) if is_taken => db.put("k", "v", None).unwrap(),
            Err(refused) if !is_taken => {
                assert!(matches!(refused, Error::Open { .. }), "{refused:?}");
                assert!(refused.to_string().contains("directory cannot be synced"));
            }
            other => panic!("{error}: {other:?}"),
        }
    }
}
