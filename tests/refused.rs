//! Calls of the system that a sandbox refuses (seccomp, as containers and systemd use it), one at a time and with each of the
//! errors that are used for it. What is only for speed, or for room, has to fall back.
//!
//! A filter holds for the thread that sets it: each case has a thread of its own, and the database none. And files that the
//! process may not open, because it has too many.
#![cfg(all(target_os = "linux", target_pointer_width = "64"))]
#![allow(unsafe_code)] // system calls: prctl

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Mutex;

use aurora::{Aurora, Error};

/// A limit of open files holds for all tests of the process.
static ALONE: Mutex<()> = Mutex::new(());

/// Has the system refuse a call to this thread from now on. False where it cannot.
fn refuse(call: libc::c_long, error: i32) -> bool {
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let compare = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    let step = |code: u32, jf, k| libc::sock_filter {
        code: code as u16,
        jt: 0,
        jf,
        k,
    };
    let mut steps = [
        step(load, 0, 0), // the number of the call is the first word
        step(compare, 1, call as u32),
        step(answer, 0, libc::SECCOMP_RET_ERRNO | error as u32),
        step(answer, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: steps.len() as u16,
        filter: steps.as_mut_ptr(),
    };
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) == 0
    }
}

/// Commits of all kinds, a longer log, reads from the file, a cut, and an open.
fn use_it(path: &Path) -> aurora::Result<()> {
    let builder = Aurora::builder().background(false).memory_limit(1 << 20);
    let db = builder.clone().open(path)?;
    let tree = db.tree("t")?;
    for number in 0..90u64 {
        let length = [100, 3000, 40_000][number as usize % 3];
        tree.put(number.to_be_bytes(), vec![7; length])?;
    }
    for number in 0..90u64 {
        assert!(tree.get(number.to_be_bytes())?.is_some());
    }
    tree.delete_range(40u64.to_be_bytes()..)?;
    db.compact()?;
    drop(tree);
    db.close()?;
    let db = builder.open(path)?;
    db.check()?;
    assert_eq!(db.tree("t")?.len()?, 40);
    Ok(())
}

#[test]
fn calls_that_are_only_for_speed_or_room_can_be_refused() {
    let _alone = ALONE.lock();
    let calls = [
        ("fallocate", libc::SYS_fallocate),
        ("sync_file_range", libc::SYS_sync_file_range),
        ("madvise", libc::SYS_madvise),
        ("preadv2", libc::SYS_preadv2),
        ("readahead", libc::SYS_readahead),
        ("fstatfs", libc::SYS_fstatfs),
        ("lseek", libc::SYS_lseek),
    ];
    for (name, call) in calls {
        for error in [libc::EPERM, libc::ENOSYS, libc::EACCES] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("data.db");
            let case = std::thread::spawn(move || match refuse(call, error) {
                true => use_it(&path),
                false => {
                    println!("skipped: no filters here");
                    Ok(())
                }
            });
            let done = case.join().unwrap();
            done.unwrap_or_else(|refused| panic!("{name}, {error}: {refused}"));
        }
    }
}

fn limit_files(limit: u64) -> u64 {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    let told = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limits) };
    let before = std::mem::replace(&mut limits.rlim_cur, limit);
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limits) };
    assert_eq!((told, set), (0, 0));
    before
}

/// For the file, and for the directory of a new one.
#[test]
fn too_many_open_files_are_told_as_that() {
    let _alone = ALONE.lock();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("data.db");
    let next = File::open(directory.path()).unwrap().as_raw_fd() as u64;
    for more in [0, 1] {
        let before = limit_files(next + more);
        let opened = Aurora::open(&path);
        limit_files(before);
        let error = opened.unwrap_err();
        assert!(matches!(error, Error::Open { .. }), "{error:?}");
        assert!(error.to_string().contains("ulimit -n"), "{more}: {error}");
        assert!(!path.exists());
    }
    Aurora::open(&path).unwrap();
}
