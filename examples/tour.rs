//! A tour of Aurora: keys and transactions, what each step does and how long it took.
//!
//! `cargo run --release --example tour`

use std::time::Instant;

use aurora::{Aurora, Durability, Error, Result};

/// Runs one step and prints how long it took.
fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let result = work()?;
    println!("Operation '{name}' took: {:?}", start.elapsed());
    Ok(result)
}

fn main() -> Result<()> {
    let directory = tempfile::tempdir().map_err(|error| Error::Open {
        path: std::env::temp_dir(),
        source: error.into(),
    })?;
    let path = directory.path().join("mydb");
    println!("Creating database at {}.db", path.display());
    let db = step("Database initialization", || Aurora::open(&path))?;

    println!("\n=== Single operations ===");
    let users = db.tree("users")?;
    step("put, durable", || users.put("user:1", "John Doe"))?;
    if let Some(value) = step("get", || users.get("user:1"))? {
        println!("Retrieved: {}", String::from_utf8_lossy(&value));
    }
    step("delete, durable", || users.delete("user:1"))?;
    assert_eq!(users.get("user:1")?, None);

    println!("\n=== Transactions ===");
    step("10,000 entries in two trees, one commit", || {
        db.write(|tx| {
            for n in 0..10_000u32 {
                let name = format!("user:{n:05}");
                tx.tree("users")?.put(&name, format!("User number {n}"))?;
                tx.tree("by number")?.put(n.to_be_bytes(), &name)?;
            }
            Ok(())
        })
    })?;
    step("a savepoint, and back to it", || {
        let mut tx = db.begin_write()?;
        tx.tree("users")?.put("user:kept", "stays")?;
        let savepoint = tx.savepoint()?;
        tx.drop_tree("by number")?;
        tx.tree("users")?.clear()?;
        tx.roll_back_to(&savepoint)?;
        tx.commit()
    })?;
    println!("Users: {}", users.len()?);
    step("a transaction that is dropped", || {
        let mut tx = db.begin_write()?;
        tx.tree("users")?.clear()?;
        Ok(())
    })?;
    println!("Users after it: {}", users.len()?);

    println!("\n=== Snapshots ===");
    let before = step("take a snapshot", || db.begin_read())?;
    let removed = step("remove a range", || {
        users.delete_range("user:00100".."user:00200")
    })?;
    println!("Removed: {removed}");
    let then = before.tree("users")?.count("user:00000".."user:01000")?;
    let now = db.read(|s| s.tree("users")?.count("user:00000".."user:01000"))?;
    println!("Among the first 1,000: {then} in the snapshot, {now} now");
    drop(before);

    println!("\n=== Ranges ===");
    db.read(|snapshot| {
        let users = snapshot.tree("users")?;
        for entry in users.prefix("user:0000").rev().take(3) {
            let (key, value) = entry?;
            let (key, value) = (String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
            println!("{key}: {value}");
        }
        let (key, _) = users.nth(5_000)?.unwrap_or_default();
        println!("The 5,001st of {}: {}", users.len(), String::from_utf8_lossy(&key));
        Ok(())
    })?;

    println!("\n=== Durability ===");
    step("1,000 commits, buffered", || {
        for n in 0..1_000u32 {
            let mut tx = db.begin_write()?;
            tx.set_durability(Durability::Buffered);
            tx.tree("log")?.put(n.to_be_bytes(), "line")?;
            tx.commit()?;
        }
        Ok(())
    })?;
    step("flush them", || db.flush())?;
    step("100 commits in flight at once", || {
        let commits: Vec<_> = (0..100u32)
            .map(|n| {
                let mut tx = db.begin_write()?;
                tx.tree("log")?.put((1_000 + n).to_be_bytes(), "line")?;
                tx.commit_async() // a future, or, without a runtime:
            })
            .collect::<Result<_>>()?;
        commits.into_iter().try_for_each(|commit| commit.wait())
    })?;

    println!("\n=== Care ===");
    step("a value of 5 MB", || users.put("portrait", vec![7; 5_000_000]))?;
    step("remove it", || users.delete("portrait"))?;
    let freed = step("compact, while the database is open", || db.compact())?;
    println!("Given back: {freed} bytes");
    let backup = directory.path().join("backup");
    step("backup", || db.backup_to(&backup))?;
    let report = step("check the structure", || db.check())?;
    println!("{} entries in {} trees are sound", report.entries, report.trees);
    step("close", || db.close())?;

    let copy = step("open the backup", || Aurora::open(&backup))?;
    println!("Users in the backup: {}", copy.tree("users")?.len()?);
    Ok(())
}
