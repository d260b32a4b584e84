//! Real file systems, ext4 and xfs on loop devices, shut down under a process that is at work:
//! what was not written is gone, as after a power cut. The process says through a pipe what was
//! acknowledged to it; after the file system is mounted again, and has run its own recovery, all
//! of that is there, what is there is a prefix of what each thread did, and the structure is sound.
//!
//! And the writeback that fails: a loop device whose own disk is full. The sync error closes the
//! handle to writes, and the reopened file holds every acknowledged commit.
//!
//! Needs to be root on Linux, with loop devices, and `mkfs.ext4` or `mkfs.xfs`. Where that is not
//! so, the tests say why and pass.
//! `AURORA_TEST_BUDGET=100 cargo test --release --test filesystems -- --nocapture` for a night.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)] // system calls: ioctl, mount

mod common;

use std::ffi::CString;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use aurora::{Aurora, Error, Schema};
use common::acks::{THREADS, compare, complaints, listen, start, told, work};
use common::{Random, budget};

/// `_IOR('X', 125, __u32)`: ext4 and xfs end all writing at once.
const SHUTDOWN: libc::c_ulong = 0x8004_587d;

/// What the child runs. Not a test of its own.
#[test]
#[ignore = "this is the process whose file system goes away"]
fn child() {
    let Some((path, round)) = told() else {
        return;
    };
    let builder = Aurora::builder().memory_limit(2 << 20).log_limit(256 << 10);
    let builder = builder.background(round % 3 != 2);
    let until = Instant::now() + Duration::from_secs(2);
    let db = loop {
        match builder.clone().open(&path) {
            // A process that the parent is just starting has its open files for a moment.
            Err(Error::Locked) if Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(1));
            }
            done => break done,
        }
    };
    let end = |error: Error| -> ! {
        // Whatever the file system says when it is gone, it is an error of the disk.
        let expected = error.is_io() || error.is_poisoned() || matches!(error, Error::Open { .. });
        if !expected {
            eprintln!("{error:?}");
        }
        std::process::exit(if expected { 3 } else { 4 })
    };
    match db {
        Ok(db) => work(&db, round, end),
        Err(error) => end(error),
    }
}

/// A file system of its own, on a loop device on a file in memory. Gone when dropped.
struct Mounted {
    kind: &'static str,
    /// Holds the image and the mount point.
    directory: tempfile::TempDir,
    device: String,
    is_mounted: bool,
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_string();
        return Err(format!("{program} {arguments:?}: {said}"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_string())
}

impl Mounted {
    /// Makes it, or says why that is not possible here.
    fn make(kind: &'static str, home: &Path, is_small: bool) -> Result<Self, String> {
        let bytes = 320 << 20; // the least that mkfs.xfs takes is 300 MiB
        if unsafe { libc::geteuid() } != 0 {
            return Err("not root".to_string());
        }
        let directory = tempfile::tempdir_in(home).map_err(|error| error.to_string())?;
        let image = directory.path().join("image");
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        drop(file);
        let name = image.to_str().unwrap_or_default();
        match kind {
            "ext4" => run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0", name])?,
            _ => run("mkfs.xfs", &["-q", "-f", name])?,
        };
        let device = run("losetup", &["--find", "--show", name])?;
        // A loop device reports a long write of which only a part had room as done. Single pages
        // have room or not.
        let queue = device.replace("/dev/", "/sys/block/") + "/queue/max_sectors_kb";
        if is_small {
            std::fs::write(&queue, "4").map_err(|error| format!("{queue}: {error}"))?;
        }
        let mut mounted = Mounted {
            kind,
            directory,
            device,
            is_mounted: false,
        };
        std::fs::create_dir(mounted.root()).map_err(|error| error.to_string())?;
        mounted.mount()?;
        Ok(mounted)
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("mount")
    }

    fn mount(&mut self) -> Result<(), String> {
        let text = |text: &str| CString::new(text).unwrap();
        let (device, kind) = (text(&self.device), text(self.kind));
        let root = text(self.root().to_str().unwrap());
        let done = unsafe {
            libc::mount(
                device.as_ptr(),
                root.as_ptr(),
                kind.as_ptr(),
                0,
                std::ptr::null(),
            )
        };
        if done != 0 {
            return Err(format!("mount: {}", std::io::Error::last_os_error()));
        }
        self.is_mounted = true;
        Ok(())
    }

    fn unmount(&mut self) {
        let root = CString::new(self.root().to_str().unwrap()).unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        // A process that has just ended may still hold it for a moment.
        while unsafe { libc::umount(root.as_ptr()) } != 0 {
            let error = std::io::Error::last_os_error();
            assert!(Instant::now() < until, "umount: {error}");
            std::thread::sleep(Duration::from_millis(2));
        }
        self.is_mounted = false;
    }

    fn sync(&self) {
        let root = File::open(self.root()).unwrap();
        assert_eq!(unsafe { libc::syncfs(root.as_raw_fd()) }, 0);
    }

    /// Ends all writing at once. 0: after a sync of everything; 1: the file system's own log is
    /// written first; 2: nothing is.
    fn shut_down(&self, flags: u32) {
        let root = File::open(self.root()).unwrap();
        let done = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN, &flags) };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            let root = CString::new(self.root().to_str().unwrap()).unwrap();
            // Safe to fail: it is only to leave nothing behind.
            unsafe { libc::umount2(root.as_ptr(), libc::MNT_DETACH) };
        }
        let _ = run("losetup", &["--detach", &self.device]);
    }
}

/// In memory if there is room, as the images are written without end.
fn home() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    if memory.is_dir() {
        memory
    } else {
        std::env::temp_dir()
    }
}

/// Cuts so often, and compares each time.
fn cut(mut disk: Mounted, rounds: u64, seed: u64) -> String {
    let path = disk.root().join("cut.db");
    let mut random = Random(seed);
    let mut present = vec![0; THREADS as usize];
    let (mut opened, mut replayed) = (0, 0);
    for round in 0..rounds {
        let mut child = start(&path, round);
        let out = child.stdout.take().unwrap();
        // The writing begins when it says so.
        let listener = std::thread::spawn(move || listen(out));
        let patience = match random.below(5) {
            0 => random.below(25), // perhaps while it opens
            _ => 15 + random.below(70),
        };
        std::thread::sleep(Duration::from_millis(patience));
        // The system writes back what it has, now and then, also shortly before the end.
        if random.chance(2) {
            disk.sync();
            std::thread::sleep(Duration::from_micros(random.below(3000)));
        }
        disk.shut_down(if random.chance(4) {
            random.below(2) as u32
        } else {
            2
        });
        // It ends by itself when it meets the error; a reader may never meet it.
        let until = Instant::now() + Duration::from_millis(2000);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break Some(status);
            }
            if Instant::now() > until {
                child.kill().unwrap();
                child.wait().unwrap();
                break None;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let code = status.and_then(|status| status.code());
        assert_eq!(code, Some(3), "round {round}: {}", complaints(&mut child));
        let (was_open, acknowledged) = listener.join().unwrap();
        opened += u64::from(was_open);
        disk.unmount();
        disk.mount().unwrap();
        if !path.exists() {
            assert!(!was_open, "round {round}: the file is gone");
            continue;
        }
        let what = format!("{} round {round}", disk.kind);
        let db = match Aurora::builder().read_only(round % 3 == 0).open(&path) {
            Err(Error::NotADatabase { .. }) if !was_open && present == [0; 4] => continue,
            opened => opened.unwrap_or_else(|error| panic!("{what}: {error}")),
        };
        replayed += u64::from(db.stats().unwrap().log_used_bytes > 0);
        db.check().unwrap_or_else(|error| panic!("{what}: {error}"));
        present = compare(&db, &present, &acknowledged, &what);
    }
    assert!(
        opened > rounds / 2,
        "only {opened} of {rounds} were at work"
    );
    format!(
        "{}: {rounds} cuts, {opened} under an open database, {replayed} with a log to replay, \
         {present:?} commits",
        disk.kind
    )
}

#[test]
fn file_systems_that_are_cut_off_under_the_process_lose_nothing_acknowledged() {
    let disks: Vec<Mounted> = ["ext4", "xfs"]
        .into_iter()
        .filter_map(|kind| match Mounted::make(kind, &home(), false) {
            Ok(disk) => Some(disk),
            Err(reason) => {
                println!("skipped {kind}: {reason}");
                None
            }
        })
        .collect();
    if disks.is_empty() {
        return;
    }
    let rounds = budget(520).div_ceil(disks.len() as u64);
    std::thread::scope(|scope| {
        let running: Vec<_> = disks
            .into_iter()
            .enumerate()
            .map(|(seed, disk)| scope.spawn(move || cut(disk, rounds, seed as u64)))
            .collect();
        for thread in running {
            println!("{}", thread.join().unwrap());
        }
    });
}

/// A small disk in memory, for the file below the loop device. Gone when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn make(bytes: u64) -> Result<Self, String> {
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let small = SmallDisk(directory);
        small.mount(bytes, 0)?;
        Ok(small)
    }

    fn mount(&self, bytes: u64, flags: libc::c_ulong) -> Result<(), String> {
        let text = |text: &str| CString::new(text).unwrap();
        let (kind, root) = (text("tmpfs"), text(self.0.path().to_str().unwrap()));
        let size = text(&format!("size={bytes},nr_inodes=50"));
        let done = unsafe {
            let size = size.as_ptr().cast();
            libc::mount(kind.as_ptr(), root.as_ptr(), kind.as_ptr(), flags, size)
        };
        match done {
            0 => Ok(()),
            _ => Err(format!("mount tmpfs: {}", std::io::Error::last_os_error())),
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let root = CString::new(self.0.path().to_str().unwrap()).unwrap();
        // Safe to fail: it is only to leave nothing behind.
        unsafe { libc::umount2(root.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Commits until the disk below the disk is full. Returns how many were acknowledged.
fn commit_until_it_fails(db: &Aurora) -> u64 {
    let tree = db.tree("t").unwrap();
    let mut random = Random(5);
    for number in 0..100_000u64 {
        let length = [100, 3000, 40_000][random.below(3) as usize];
        let value = vec![number as u8; length];
        if let Err(error) = tree.put(number.to_be_bytes(), value) {
            assert!(error.is_io() || error.is_poisoned(), "{error:?}");
            return number;
        }
    }
    panic!("the disk did not fill up");
}

#[test]
fn a_writeback_that_fails_closes_the_handle_and_loses_nothing_acknowledged() {
    for kind in ["ext4", "xfs"] {
        let outcome = SmallDisk::make(400 << 20)
            .and_then(|below| Ok((Mounted::make(kind, below.0.path(), true)?, below)));
        let (mut disk, below) = match outcome {
            Ok(made) => made,
            Err(reason) => {
                println!("skipped {kind}: {reason}");
                continue;
            }
        };
        let path = disk.root().join("full.db");
        let db = Aurora::builder().background(false).open(&path).unwrap();
        db.tree("t").unwrap().put("first", "1").unwrap();
        // From here on the device has room for a few more megabytes, and the file system on it
        // believes in hundreds.
        disk.sync();
        let used = 8 << 20;
        let statistics = below_used(below.0.path());
        below.mount(statistics + used, libc::MS_REMOUNT).unwrap();
        let acknowledged = commit_until_it_fails(&db);
        assert!(
            acknowledged > 20,
            "only {acknowledged} commits were possible"
        );
        // Closed to writes: no later sync may succeed and hide the loss.
        let tree = db.tree("t").unwrap();
        for _ in 0..3 {
            let error = tree.put("later", "1").unwrap_err();
            assert!(error.is_poisoned(), "{error:?}");
        }
        assert!(db.flush().is_err() && db.checkpoint().is_err());
        // Reads go on.
        assert_eq!(tree.get("first").unwrap().as_deref(), Some(&b"1"[..]));
        drop((tree, db));
        // There is room again, and the file system is mounted anew: only what is on the disk.
        below.mount(400 << 20, libc::MS_REMOUNT).unwrap();
        disk.unmount();
        disk.mount().unwrap();
        let db = Aurora::builder().background(false).open(&path).unwrap();
        db.check().unwrap();
        let tree = db.tree("t").unwrap();
        let mut random = Random(5);
        for number in 0..acknowledged {
            let length = [100, 3000, 40_000][random.below(3) as usize];
            let found = tree.get(number.to_be_bytes()).unwrap();
            let value = found.unwrap_or_else(|| panic!("{number} of {acknowledged} is gone"));
            assert!(value == vec![number as u8; length], "{number}");
        }
        assert!(tree.len().unwrap() <= acknowledged + 2);
        tree.put("after", "all").unwrap();
        println!("{kind}: {acknowledged} commits before the writeback failed, all there");
    }
}

/// Copies a file as `cp --sparse=always` does: what is zeros becomes a hole.
fn copy_with_holes(from: &Path, to: &Path) {
    let bytes = std::fs::read(from).unwrap();
    let file = File::create(to).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (index, part) in bytes.chunks(4096).enumerate() {
        if part.iter().any(|byte| *byte != 0) {
            file.write_all_at(part, index as u64 * 4096).unwrap();
        }
    }
}

/// Another file system above a directory of one.
struct Overlay(tempfile::TempDir);

impl Overlay {
    fn make(above: &Path) -> Result<Overlay, String> {
        let overlay = Overlay(tempfile::tempdir_in(home()).unwrap());
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| above.join(name));
        for part in [&lower, &upper, &work] {
            std::fs::create_dir(part).unwrap();
        }
        let [lower, upper, work] = [lower, upper, work].map(|part| part.display().to_string());
        let parts = format!("lowerdir={lower},upperdir={upper},workdir={work}");
        let root = overlay.0.path().to_str().unwrap();
        run("mount", &["-t", "overlay", "overlay", "-o", &parts, root])?;
        Ok(overlay)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let root = CString::new(self.0.path().to_str().unwrap()).unwrap();
        unsafe { libc::umount2(root.as_ptr(), libc::MNT_DETACH) };
    }
}

/// In memory a hole takes room when it is touched in a map, and where there is none the process ends by that.
#[test]
fn a_copy_with_holes_is_read_where_a_file_system_in_memory_is_full() {
    match SmallDisk::make(24 << 20) {
        Ok(small) => read_a_copy_with_holes(&small, small.0.path()),
        Err(reason) => println!("skipped: {reason}"),
    }
}

/// As the root of a live system is one.
#[test]
fn a_copy_with_holes_is_read_in_an_overlay_of_a_full_file_system_in_memory() {
    let overlay = SmallDisk::make(24 << 20).and_then(|small| {
        let overlay = Overlay::make(small.0.path())?;
        Ok((overlay, small))
    });
    match overlay {
        Ok((overlay, small)) => read_a_copy_with_holes(&small, overlay.0.path()),
        Err(reason) => println!("skipped: {reason}"),
    }
}

fn read_a_copy_with_holes(small: &SmallDisk, place: &Path) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("zeros.db");
    let zeros = vec![0; 300_000];
    let db = Aurora::builder().page_size(65536).open(&path).unwrap();
    db.put("zeros", &zeros, None).unwrap();
    let mut blob = db.blob_writer("blob");
    blob.write_all(&vec![0; 5 << 20]).unwrap();
    blob.finish().unwrap();
    // Leaves of which a large part is zeros, between the entries of some length and what says where they are.
    let tree = db.tree("t").unwrap();
    for number in 0..100u64 {
        tree.put(number.to_be_bytes(), vec![7; 9000]).unwrap();
    }
    drop(tree);
    db.close().unwrap();
    let copy = place.join("copy.db");
    copy_with_holes(&path, &copy);
    let mut filler = File::create(small.0.path().join("filler")).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    // With little memory, so that pages are read from the file each time; and with much.
    for (memory, read_only) in [(1 << 20, true), (256 << 20, true), (1 << 20, false)] {
        let builder = Aurora::builder().memory_limit(memory).hot_limit(0);
        let db = builder.read_only(read_only).open(&copy).unwrap();
        for _ in 0..2 {
            assert_eq!(db.get("zeros").unwrap().unwrap(), zeros[..]);
            let mut reader = db.get_blob("blob").unwrap().unwrap();
            assert_eq!(
                std::io::copy(&mut reader, &mut std::io::sink()).unwrap(),
                5 << 20
            );
            for number in 0..100u64 {
                let found = db.tree("t").unwrap().get(number.to_be_bytes());
                assert_eq!(found.unwrap().unwrap(), [7; 9000]);
            }
            db.check().unwrap();
        }
    }
}

/// The name of a new file takes room, too.
#[test]
fn where_no_file_can_be_made_the_disk_is_full() {
    let small = match SmallDisk::make(1 << 20) {
        Ok(small) => small,
        Err(reason) => return println!("skipped: {reason}"),
    };
    let db = Aurora::in_memory().unwrap();
    db.put("k", vec![7; 5000], None).unwrap();
    let schema = Schema::new().strict(false);
    db.new_collection("c", schema).unwrap();
    let text = "x".repeat(3 << 20);
    let row = [("text", text.as_str())];
    db.collection("c").unwrap().insert_fields(row).unwrap();
    let at = |name: &str| small.0.path().join(name);
    let refused = |error: Error| {
        assert!(error.is_disk_full() && error.is_io(), "{error:?}");
        assert!(error.to_string().contains("free some space"), "{error}");
    };
    // An export that is longer than the disk; what there is of it goes.
    refused(db.export_as_json("c", at("all")).unwrap_err());
    assert_eq!(std::fs::read_dir(small.0.path()).unwrap().count(), 0);
    for number in 0.. {
        if File::create(at(&number.to_string())).is_err() {
            break;
        }
    }
    refused(Aurora::open(at("new")).unwrap_err());
    refused(db.backup_to(at("backup")).unwrap_err());
    refused(db.export_as_json("c", at("all")).unwrap_err());
}

/// The bytes in use on a file system.
fn below_used(root: &Path) -> u64 {
    let root = CString::new(root.to_str().unwrap()).unwrap();
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    assert_eq!(unsafe { libc::statvfs(root.as_ptr(), &mut about) }, 0);
    (about.f_blocks - about.f_bfree) as u64 * about.f_frsize as u64
}
