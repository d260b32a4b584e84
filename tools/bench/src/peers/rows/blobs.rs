//! Blobs in and out, as a whole and at random offsets, beside plain files. Engines without blobs of
//! their own store each as one value, as long as it is not too large to be one.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Instant;

use aurora_bench::{Random, median_of};

use crate::data::{self, Sum};
use crate::engine::{Blobs, Outcome, Peer, Promise};
use crate::options::Options;
use crate::report::FILE;
use crate::rows::{Bar, Bench, Row, row};

const GROUP: &str = "blobs";
/// No engine is asked to hold a longer value.
const LONGEST_VALUE: u64 = 64 << 20;
const PIECE: usize = 1 << 20;
const OFFSETS: u64 = 64;

pub fn rows(options: &Options) -> Vec<Row> {
    let bar = Some(Bar::Versus(FILE, 0.9));
    let mut rows = Vec::new();
    for kib in &options.blob_kib {
        let size = named(*kib);
        let at = format!("{OFFSETS} reads within a blob of {size}");
        rows.extend([
            row(
                GROUP,
                &format!("blob-in-{kib}"),
                &format!("blob of {size} in, durable"),
                bar,
            )
            .durable(),
            row(
                GROUP,
                &format!("blob-out-{kib}"),
                &format!("blob of {size} out"),
                bar,
            ),
            row(GROUP, &format!("blob-at-{kib}"), &at, bar),
        ]);
    }
    rows
}

fn named(kib: u64) -> String {
    match kib {
        kib if kib >= 1 << 20 => format!("{} GiB", kib >> 20),
        kib if kib >= 1 << 10 => format!("{} MiB", kib >> 10),
        kib => format!("{kib} KiB"),
    }
}

pub fn run(bench: &Bench<'_>) -> Outcome<()> {
    let peer = bench.open()?;
    let directory = bench.place.directory.join("files");
    std::fs::create_dir(&directory)?;
    let files = Files(directory);
    for kib in bench.options.blob_kib.iter().copied() {
        let ids = ["in", "out", "at"].map(|what| format!("blob-{what}-{kib}"));
        if !ids.iter().any(|id| bench.recorder.wants(id)) {
            continue;
        }
        let values = Values(peer.as_ref());
        let blobs = match peer.blobs() {
            Some(own) => Some(own),
            None if kib << 10 <= LONGEST_VALUE => Some(&values as &dyn Blobs),
            None => None,
        };
        measure(bench, kib << 10, &ids, blobs, &files)?;
    }
    Ok(())
}

/// The engine and the file in turns.
fn measure(
    bench: &Bench<'_>,
    size: u64,
    ids: &[String; 3],
    blobs: Option<&dyn Blobs>,
    files: &Files,
) -> Outcome<()> {
    let mut content = vec![0; size as usize];
    data::fill(size, &mut content);
    let rounds = ((64 << 20) / size).clamp(2, 24);
    let mut sides: Vec<(&str, &dyn Blobs)> = vec![(FILE, files)];
    sides.extend(blobs.map(|blobs| (bench.engine, blobs)));
    let mut times = vec![[const { Vec::new() }; 3]; sides.len()];
    let mut sums = vec![[Sum::default(); 2]; sides.len()];
    for round in 0..rounds {
        let key = format!("blob {size} {round}");
        // Another side first each time.
        for turn in 0..sides.len() {
            let side = (turn + round as usize) % sides.len();
            let (_, blobs) = &sides[side];
            ready_memory(bench, size)?;
            let start = Instant::now();
            blobs.put(&key, &content)?;
            times[side][0].push(start.elapsed().as_secs_f64());
        }
    }
    for round in 0..rounds {
        let key = format!("blob {size} {round}");
        for (side, (_, blobs)) in sides.iter().enumerate() {
            let [whole, parts] = &mut sums[side];
            let start = Instant::now();
            blobs.get(&key, &mut |piece| whole.add(piece))?;
            times[side][1].push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            read_at_random(*blobs, &key, size, parts)?;
            times[side][2].push(start.elapsed().as_secs_f64());
        }
    }
    for (side, (name, _)) in sides.iter().enumerate() {
        let [whole, parts] = sums[side];
        for (place, sum) in [Sum::default(), whole, parts].into_iter().enumerate() {
            let median = median_of(times[side][place].clone()).unwrap_or(0.0);
            // In how many pieces it came is no matter.
            let sum = Sum { count: 0, ..sum };
            bench.recorder.found_of(&ids[place], name, median, sum);
        }
    }
    Ok(())
}

/// Makes the system have so much free memory at hand, by writing a file and removing it.
/// Where a machine's memory is lent to it and taken back when it is free, who asks first else pays
/// several times of what the disk takes: 40 ms for 16 MiB, on whichever side.
fn ready_memory(bench: &Bench<'_>, bytes: u64) -> Outcome<()> {
    let path = bench.place.directory.join("memory");
    let mut file = File::create(&path)?;
    let piece = vec![1; PIECE];
    for _ in 0..bytes.div_ceil(PIECE as u64) {
        file.write_all(&piece)?;
    }
    drop(file);
    Ok(std::fs::remove_file(path)?)
}

fn read_at_random(blobs: &dyn Blobs, key: &str, size: u64, sum: &mut Sum) -> Outcome<()> {
    let length = (size / 16).min(64 << 10) as usize;
    let mut random = Random::new(size);
    let offsets: Vec<u64> = (0..OFFSETS)
        .map(|_| random.below(size - length as u64))
        .collect();
    blobs.parts(key, &offsets, length, &mut |part| sum.add(part))
}

/// Values as blobs.
struct Values<'p>(&'p dyn Peer);

impl Blobs for Values<'_> {
    fn put(&self, key: &str, content: &[u8]) -> Outcome<()> {
        self.0
            .write(Promise::Durable, &mut |tx| tx.put(key.as_bytes(), content))
    }

    fn get(&self, key: &str, visit: &mut dyn FnMut(&[u8])) -> Outcome<()> {
        self.0
            .read(&mut |view| match view.get(key.as_bytes(), visit)? {
                true => Ok(()),
                false => Err("a blob is missing".into()),
            })
    }

    fn parts(
        &self,
        key: &str,
        offsets: &[u64],
        length: usize,
        visit: &mut dyn FnMut(&[u8]),
    ) -> Outcome<()> {
        for offset in offsets.iter().map(|offset| *offset as usize) {
            self.get(key, &mut |value| visit(&value[offset..offset + length]))?;
        }
        Ok(())
    }
}

/// A file for each, written as a whole and synced.
struct Files(PathBuf);

impl Blobs for Files {
    fn put(&self, key: &str, content: &[u8]) -> Outcome<()> {
        let mut file = File::create(self.0.join(key))?;
        file.write_all(content)?;
        Ok(file.sync_all()?)
    }

    fn get(&self, key: &str, visit: &mut dyn FnMut(&[u8])) -> Outcome<()> {
        let mut file = File::open(self.0.join(key))?;
        let length = file.metadata()?.len().min(PIECE as u64) as usize;
        drain(&mut file, length, visit)
    }

    fn parts(
        &self,
        key: &str,
        offsets: &[u64],
        length: usize,
        visit: &mut dyn FnMut(&[u8]),
    ) -> Outcome<()> {
        let file = File::open(self.0.join(key))?;
        let mut buffer = vec![0; length];
        for offset in offsets {
            file.read_exact_at(&mut buffer, *offset)?;
            visit(&buffer);
        }
        Ok(())
    }
}

/// Reads to the end in pieces, as a server would.
fn drain(source: &mut impl Read, length: usize, visit: &mut dyn FnMut(&[u8])) -> Outcome<()> {
    let mut buffer = vec![0; length];
    loop {
        let mut filled = 0;
        while filled < buffer.len() {
            match source.read(&mut buffer[filled..])? {
                0 => break,
                length => filled += length,
            }
        }
        if filled == 0 {
            return Ok(());
        }
        visit(&buffer[..filled]);
    }
}
