//! Blobs against plain files: `cargo bench --bench blobs`.
//!
//! In: a blob is put, durably, and a file is written and synced. Out: the blob is read in order,
//! with its checksums compared, and the file is read, both into the same buffer, both opened anew
//! so that nothing is verified or mapped yet; the operating system has both in memory. Both ways
//! are taken in turns, and the medians are compared. A ratio above 1 says that the blob is faster.
//! The bar is 0.9.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use aurora::Aurora;

fn content(length: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 33).to_le_bytes()
    };
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        bytes.extend_from_slice(&next()[..4]);
    }
    bytes.truncate(length);
    bytes
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn timed(times: &mut Vec<Duration>, work: impl FnOnce()) {
    let begun = Instant::now();
    work();
    times.push(begun.elapsed());
}

fn write_file(path: &Path, bytes: &[u8]) {
    let mut file = File::create(path).unwrap();
    file.write_all(bytes).unwrap();
    file.sync_all().unwrap();
}

/// Reads to the end in pieces, as a server would.
fn drain(source: &mut impl Read, buffer: &mut [u8], expected: usize) {
    let mut total = 0;
    loop {
        let length = source.read(buffer).unwrap();
        if length == 0 {
            break;
        }
        std::hint::black_box(&buffer[..length]);
        total += length;
    }
    assert_eq!(total, expected);
}

struct Line {
    blob: Vec<Duration>,
    file: Vec<Duration>,
}

impl Line {
    fn new() -> Self {
        Line {
            blob: Vec::new(),
            file: Vec::new(),
        }
    }

    fn report(self, what: &str, bytes: usize) {
        let (blob, file) = (median(self.blob), median(self.file));
        let rate = |time: Duration| bytes as f64 / time.as_secs_f64() / 1e6;
        let ratio = file.as_secs_f64() / blob.as_secs_f64();
        println!(
            "{what:<28} blob {:>10.2?} {:>8.0} MB/s   file {:>10.2?} {:>8.0} MB/s   ratio {ratio:.2}",
            blob,
            rate(blob),
            file,
            rate(file),
        );
    }
}

fn measure(directory: &Path, name: &str, length: usize, rounds: usize) {
    let bytes = content(length);
    let path = directory.join("db");
    let (mut put, mut written) = (Line::new(), Line::new());
    {
        let db = Aurora::open(&path).unwrap();
        for round in 0..rounds {
            let key = format!("blob {round}");
            timed(&mut put.blob, || {
                db.put_blob_from(&key, &bytes[..]).unwrap();
            });
            let file = directory.join(format!("file {round}"));
            timed(&mut put.file, || write_file(&file, &bytes));
            // Again, over what is there.
            timed(&mut written.blob, || {
                let mut writer = db.blob_writer(&key);
                writer.write_all(&bytes).unwrap();
                writer.finish().unwrap();
            });
            timed(&mut written.file, || write_file(&file, &bytes));
        }
    }
    put.report(&format!("in, new, {name}"), length);
    written.report(&format!("in, replaced, {name}"), length);

    for (pieces, buffer_bytes) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20)] {
        let mut buffer = vec![0; buffer_bytes];
        let (mut first, mut again) = (Line::new(), Line::new());
        let db = Aurora::open(&path).unwrap();
        for round in 0..rounds {
            let file = directory.join(format!("file {round}"));
            for line in [&mut first, &mut again] {
                timed(&mut line.file, || {
                    drain(&mut File::open(&file).unwrap(), &mut buffer, length);
                });
                timed(&mut line.blob, || {
                    let key = format!("blob {round}");
                    let mut reader = db.get_blob(&key).unwrap().unwrap();
                    drain(&mut reader, &mut buffer, length);
                });
            }
        }
        first.report(&format!("out, {name} by {pieces}"), length);
        again.report(&format!("out again, {name} by {pieces}"), length);
    }
}

fn main() {
    // Not on a file system in memory, where a sync is nothing.
    let place = std::env::var("AURORA_BENCH_DIRECTORY").unwrap_or_else(|_| ".".to_string());
    for (name, length, rounds) in [
        ("64 KiB", 64 << 10, 200),
        ("1 MiB", 1 << 20, 60),
        ("256 MiB", 256 << 20, 5),
    ] {
        let directory = tempfile::tempdir_in(&place).unwrap();
        measure(directory.path(), name, length, rounds);
    }
}
