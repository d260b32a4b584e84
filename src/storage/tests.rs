//! What every storage has to do, and what only real files do.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use super::{FileStorage, MemoryStorage, SimDisk, Storage};

/// Runs `test` on a fresh file of each kind, with a function that opens the same file again.
fn on_every_storage(test: impl Fn(Arc<dyn Storage>, &dyn Fn() -> Arc<dyn Storage>)) {
    let memory = MemoryStorage::new();
    test(Arc::new(memory.reopen()), &|| Arc::new(memory.reopen()));

    let disk = SimDisk::new(1);
    test(disk.storage(), &|| disk.storage());

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.db");
    test(Arc::new(FileStorage::create_new(&path).unwrap()), &|| {
        Arc::new(FileStorage::open(&path).unwrap())
    });
}

fn bytes_of(storage: &dyn Storage) -> Vec<u8> {
    let mut bytes = vec![0xee; storage.length().unwrap() as usize];
    storage.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn writes_are_read_back_and_grow_the_file() {
    on_every_storage(|storage, reopen| {
        assert_eq!(storage.length().unwrap(), 0);
        storage.write_at(0, b"hello").unwrap();
        storage.write_at(3, b"p!").unwrap();
        storage.write_at(10, b"far").unwrap();
        storage.write_at(2, b"").unwrap();
        storage.write_at(100, b"").unwrap(); // writes nothing, so it does not grow the file
        assert_eq!(bytes_of(&*storage), b"help!\0\0\0\0\0far");
        storage.write_sync_at(13, b"th").unwrap();
        storage.write_sync_alone_at(15, b"er").unwrap();
        storage.start_write(0, 100);
        storage.sync_range(0, 5).unwrap();
        storage.sync_range(5, 1000).unwrap();
        storage.sync_all().unwrap();
        assert_eq!(bytes_of(&*reopen()), b"help!\0\0\0\0\0farther");
    });
}

#[test]
fn reads_past_the_end_are_errors() {
    on_every_storage(|storage, _| {
        storage.write_at(0, &[1; 10]).unwrap();
        let mut buffer = [0; 4];
        storage.read_at(6, &mut buffer).unwrap();
        for offset in [7, 10, 11, 1 << 40] {
            let error = storage.read_at(offset, &mut buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{storage:?}");
        }
        storage.read_at(10, &mut []).unwrap();
    });
}

#[test]
fn offsets_that_no_file_can_have_are_errors() {
    on_every_storage(|storage, _| {
        storage.write_at(u64::MAX - 1, b"xyz").unwrap_err();
        storage.write_at(1 << 63, b"xyz").unwrap_err();
        storage.read_at(u64::MAX - 1, &mut [0; 3]).unwrap_err();
        storage.set_length(u64::MAX).unwrap_err();
        assert_eq!(storage.length().unwrap(), 0);
    });
}

#[test]
fn cut_bytes_do_not_come_back() {
    on_every_storage(|storage, _| {
        storage.write_at(0, &[7; 200_000]).unwrap();
        storage.set_length(100_000).unwrap();
        assert_eq!(storage.length().unwrap(), 100_000);
        storage.set_length(150_000).unwrap();
        let bytes = bytes_of(&*storage);
        assert!(bytes[..100_000].iter().all(|&byte| byte == 7));
        assert!(bytes[100_000..].iter().all(|&byte| byte == 0));
        storage.set_length(0).unwrap();
        storage.write_at(199_999, b"x").unwrap();
        assert_eq!(bytes_of(&*storage).iter().filter(|&&b| b != 0).count(), 1);
    });
}

#[test]
fn random_calls_agree_with_a_vector() {
    on_every_storage(|storage, _| {
        let mut model: Vec<u8> = Vec::new();
        let mut random = 12345_u64;
        let mut next = |limit: u64| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1);
            (random >> 33) % limit
        };
        for round in 0..400 {
            let (offset, length) = (next(150_000) as usize, next(3_000) as usize);
            match next(8) {
                0 => {
                    model.resize(offset, 0);
                    storage.set_length(offset as u64).unwrap();
                }
                1 => storage.sync_range(offset as u64, length as u64).unwrap(),
                2 if round % 8 == 0 => storage.sync_all().unwrap(),
                kind => {
                    let bytes = vec![round as u8; length];
                    if length > 0 && model.len() < offset + length {
                        model.resize(offset + length, 0);
                    }
                    if length > 0 {
                        model[offset..offset + length].copy_from_slice(&bytes);
                    }
                    let at = offset as u64;
                    match kind {
                        3 if round % 2 == 0 => storage.write_sync_at(at, &bytes).unwrap(),
                        3 => storage.write_sync_alone_at(at, &bytes).unwrap(),
                        _ => storage.write_at(at, &bytes).unwrap(),
                    }
                    storage.start_write(at, length as u64);
                }
            }
            assert_eq!(storage.length().unwrap(), model.len() as u64);
        }
        assert!(bytes_of(&*storage) == model, "{storage:?}");
    });
}

#[test]
fn locks_keep_other_openers_out() {
    on_every_storage(|storage, reopen| {
        storage.lock(true).unwrap();
        let other = reopen();
        for exclusive in [true, false] {
            assert_eq!(
                other.lock(exclusive).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
        }
        drop(storage);
        other.lock(false).unwrap();
        let third = reopen();
        third.lock(false).unwrap();
        assert_eq!(other.lock(true).unwrap_err().kind(), ErrorKind::WouldBlock);
        drop(other);
        third.lock(true).unwrap();
        third.lock(true).unwrap();
        assert!(reopen().lock(false).is_err());
        drop(third);
        reopen().lock(true).unwrap();
    });
}

#[test]
fn a_lock_that_is_refused_leaves_nothing_behind() {
    on_every_storage(|storage, reopen| {
        storage.lock(false).unwrap();
        let other = reopen();
        other.lock(true).unwrap_err();
        drop(other);
        storage.lock(true).unwrap();
    });
}

#[test]
fn a_clone_in_memory_is_the_same_opener() {
    let memory = MemoryStorage::from_bytes(b"abc");
    memory.lock(true).unwrap();
    let clone = memory.clone();
    drop(memory);
    let other = clone.reopen();
    assert!(other.lock(true).is_err());
    drop(clone);
    other.lock(true).unwrap();
    assert_eq!(other.to_bytes(), b"abc");
}

#[test]
fn a_huge_hole_in_memory_costs_nothing() {
    let memory = MemoryStorage::new();
    memory.set_length(1 << 50).unwrap();
    memory.write_at(1 << 49, b"x").unwrap();
    let mut bytes = [9; 3];
    memory.read_at((1 << 49) - 1, &mut bytes).unwrap();
    assert_eq!(bytes, [0, b'x', 0]);
}

fn kind_of<T>(result: std::io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

#[test]
fn paths_that_cannot_be_opened() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let ways: [fn(&Path) -> std::io::Result<FileStorage>; 3] = [
        |path| FileStorage::open(path),
        |path| FileStorage::open_or_create(path),
        |path| FileStorage::open_read_only(path),
    ];
    for way in ways {
        assert_eq!(kind_of(way(path)), Some(ErrorKind::IsADirectory));
        let nowhere = path.join("missing/file.db");
        assert_eq!(kind_of(way(&nowhere)), Some(ErrorKind::NotFound));
    }
    let missing = path.join("file.db");
    assert_eq!(
        kind_of(FileStorage::open(&missing)),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(
        kind_of(FileStorage::open_read_only(&missing)),
        Some(ErrorKind::NotFound)
    );
    assert!(!missing.exists(), "a failed open makes no file");
    assert_eq!(
        kind_of(FileStorage::create_new(path)),
        Some(ErrorKind::AlreadyExists)
    );
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_opened() {
    for result in [
        FileStorage::open("/dev/null"),
        FileStorage::open_read_only("/dev/null"),
        FileStorage::open_or_create("/dev/null"),
    ] {
        assert_eq!(kind_of(result), Some(ErrorKind::InvalidInput));
    }
}

#[cfg(unix)]
#[test]
fn files_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.db");
    std::fs::write(&path, b"secret").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    if std::fs::File::open(&path).is_ok() {
        return; // root may do anything
    }
    for result in [
        FileStorage::open(&path),
        FileStorage::open_or_create(&path),
        FileStorage::open_read_only(&path),
    ] {
        assert_eq!(kind_of(result), Some(ErrorKind::PermissionDenied));
    }
}

#[test]
fn a_read_only_file_refuses_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.db");
    std::fs::write(&path, b"bytes").unwrap();
    let storage = FileStorage::open_read_only(&path).unwrap();
    assert_eq!(bytes_of(&storage), b"bytes");
    for result in [
        storage.write_at(0, b"x"),
        storage.write_sync_at(0, b"x"),
        storage.write_sync_alone_at(0, b"x"),
        storage.set_length(0),
        storage.sync_all(),
        storage.sync_range(0, 1),
    ] {
        assert_eq!(kind_of(result), Some(ErrorKind::PermissionDenied));
    }
    assert_eq!(std::fs::read(&path).unwrap(), b"bytes");
    storage.lock(false).unwrap();
}

#[test]
fn creating_and_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.db");
    let created = FileStorage::open_or_create(&path).unwrap();
    assert_eq!(created.path(), path);
    created.write_at(0, b"kept").unwrap();
    let opened = FileStorage::open_or_create(&path).unwrap();
    assert_eq!(bytes_of(&opened), b"kept");
    opened.sync_parent_directory().unwrap();
}

#[test]
fn another_file_at_the_path_is_told_from_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.db");
    let storage = FileStorage::create_new(&path).unwrap();
    storage.lock(true).unwrap();
    assert!(storage.is_at(&path).unwrap());
    let moved = directory.path().join("moved.db");
    std::fs::rename(&path, &moved).unwrap();
    assert!(!storage.is_at(&path).unwrap(), "there is nothing");
    std::fs::write(&path, "another file").unwrap();
    assert!(!storage.is_at(&path).unwrap(), "there is another one");
    assert!(storage.is_at(&moved).unwrap());
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_leads_to_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let link = directory.path().join("link.db");
    std::os::unix::fs::symlink(directory.path().join("file.db"), &link).unwrap();
    // Not as where there is nothing at all: nothing can be made there.
    for opened in [
        FileStorage::open_or_create(&link),
        FileStorage::open_read_only(&link),
    ] {
        assert_eq!(kind_of(opened), Some(ErrorKind::InvalidInput));
    }
    std::fs::write(directory.path().join("file.db"), b"").unwrap();
    let storage = FileStorage::open_or_create(&link).unwrap();
    storage.write_sync_at(0, b"x").unwrap();
    storage.sync_parent_directory().unwrap();
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn synced_writes_use_their_own_descriptor_and_survive_a_rename() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.db");
    let storage = FileStorage::create_new(&path).unwrap();
    let flags = storage.synced_flags().unwrap();
    let heeds_dsync = super::start::heeds_dsync(&std::fs::File::open(&path).unwrap());
    assert_eq!(
        flags & 0o4010000,
        if heeds_dsync { 0o10000 } else { 0 },
        "O_DSYNC where that holds, and never the rest of O_SYNC"
    );
    std::fs::rename(&path, directory.path().join("moved.db")).unwrap();
    std::fs::write(&path, b"another file").unwrap();
    storage.write_sync_at(0, b"mine").unwrap();
    assert_eq!(bytes_of(&storage), b"mine");
    assert_eq!(std::fs::read(&path).unwrap(), b"another file");
}

#[cfg(unix)]
#[test]
fn a_map_shows_later_writes_and_growth() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::create_new(directory.path().join("file.db")).unwrap();
    storage.write_at(0, &[1; 4096]).unwrap();
    let map = storage.map(1 << 20).unwrap().unwrap();
    assert_eq!(map.len(), 1 << 20);
    assert!(!map.is_empty());
    map.advise_random().unwrap();
    assert_eq!(map.bytes(0, 4096).unwrap(), &[1; 4096]);
    storage.write_at(100, b"later").unwrap();
    assert_eq!(map.bytes(100, 5).unwrap(), b"later");
    assert_eq!(map.bytes(103, 3).unwrap(), b"er\x01");
    storage.write_at(500_000, b"grown").unwrap();
    storage.write_sync_at(600_000, b"synced").unwrap();
    assert_eq!(map.bytes(500_000, 5).unwrap(), b"grown");
    assert_eq!(map.bytes(600_000, 6).unwrap(), b"synced");
    assert!(map.bytes((1 << 20) - 4, 5).is_none());
    assert!(map.bytes(u64::MAX, 1).is_none());
    assert!(map.bytes(1, usize::MAX).is_none());
}

#[test]
fn maps_of_nothing_and_of_too_much() {
    let directory = tempfile::tempdir().unwrap();
    let storage = FileStorage::create_new(directory.path().join("file.db")).unwrap();
    match storage.map(u64::MAX) {
        // There a map ends where the file does.
        Ok(Some(map)) if cfg!(windows) => assert!(map.is_empty()),
        map => assert!(map.is_err()),
    }
    if let Ok(Some(map)) = storage.map(0) {
        assert!(map.is_empty());
        assert_eq!(map.bytes(0, 0), Some(&[][..]));
    }
    assert!(MemoryStorage::new().map(10).unwrap().is_none());
}

#[cfg(unix)]
#[test]
fn a_read_only_file_can_be_mapped() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file.db");
    std::fs::write(&path, b"bytes").unwrap();
    let storage = FileStorage::open_read_only(&path).unwrap();
    let map = storage.map(5).unwrap().unwrap();
    drop(storage);
    assert_eq!(map.bytes(0, 5).unwrap(), b"bytes");
}
