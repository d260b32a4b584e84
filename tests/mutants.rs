//! Takes away each protection of `mutants/list.txt` in turn, in a copy of the sources, and runs
//! the suites that should notice: every one must turn a test red. What caught which is written to
//! `mutants/results.md`.
//!
//! Builds the engine some fifty times, so it is not run by default:
//! `cargo test --test mutants -- --ignored --nocapture`; with `AURORA_MUTANT=words` only those
//! whose name has the words; with `AURORA_MUTANT=new` those that have no result yet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

struct Mutant {
    name: String,
    file: String,
    suites: Vec<String>,
    search: String,
    replace: String,
}

fn list(root: &Path) -> Vec<Mutant> {
    let text = std::fs::read_to_string(root.join("tests/mutants/list.txt")).unwrap();
    let mutants = text.split("\n== ").skip(1);
    mutants
        .map(|part| {
            let (head, patch) = part.split_once("<<<\n").unwrap();
            let patch = patch.split_once(">>>").unwrap().0;
            let (search, replace) = patch.split_once("===\n").unwrap();
            let mut lines = head.lines();
            let name = lines.next().unwrap().to_string();
            let mut field = |name: &str| {
                let line = lines.next().unwrap();
                let value = line.strip_prefix(name).unwrap_or_else(|| panic!("{line}"));
                value.trim().to_string()
            };
            let file = field("file:");
            let suites = field("tests:").split(' ').map(str::to_string).collect();
            Mutant {
                name,
                file,
                suites,
                search: search.to_string(),
                replace: replace.to_string(),
            }
        })
        .collect()
}

impl Mutant {
    /// The mutated source. The protection stands in one place, or the list is out of date.
    fn apply(&self, source: &str) -> String {
        let count = source.matches(&self.search).count();
        assert_eq!(
            count, 1,
            "{}: it stands {count} times in {}",
            self.name, self.file
        );
        source.replacen(&self.search, &self.replace, 1)
    }
}

#[test]
fn every_protection_stands_where_the_list_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mutants = list(root);
    assert!(mutants.len() > 30, "only {} mutants", mutants.len());
    for mutant in mutants {
        let source = std::fs::read_to_string(root.join(&mutant.file)).unwrap();
        assert_ne!(mutant.apply(&source), source, "{}", mutant.name);
        for suite in &mutant.suites {
            let path = root.join(format!("tests/{suite}.rs"));
            assert!(path.exists(), "{}: no suite {suite}", mutant.name);
        }
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        // What an earlier run has copied may be gone.
        for entry in std::fs::read_dir(to).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "target" && !from.join(entry.file_name()).exists() {
                match entry.path() {
                    path if path.is_dir() => std::fs::remove_dir_all(path).unwrap(),
                    path => std::fs::remove_file(path).unwrap(),
                }
            }
        }
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "target" {
                copy(&entry.path(), &to.join(entry.file_name()));
            }
        }
    } else {
        let bytes = std::fs::read(from).unwrap();
        // What has not changed is not built again.
        if std::fs::read(to).ok().as_ref() != Some(&bytes) {
            std::fs::write(to, bytes).unwrap();
        }
    }
}

/// What a suite says: the first test that failed, if any.
fn run(tree: &Path, target: &Path, suite: &str) -> Option<String> {
    let mut command = Command::new(env!("CARGO"));
    command.current_dir(tree).args(["test", "--test", suite]);
    command
        .env("CARGO_TARGET_DIR", target)
        .env("RUST_BACKTRACE", "0");
    if suite == "shuttle" {
        command.args(["--release", "--features", "shuttle"]);
        command.env("CARGO_TARGET_DIR", target.join("shuttle"));
        command.env("RUSTFLAGS", "--cfg shuttle");
    }
    let output = target.join("output");
    let file = std::fs::File::create(&output).unwrap();
    let both = file.try_clone().unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(both)
        .spawn()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(900);
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            let _ = child.kill();
            break child.wait().unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let said = String::from_utf8_lossy(&std::fs::read(output).unwrap()).into_owned();
    assert!(!said.contains("could not compile"), "{said}");
    if status.success() {
        return None;
    }
    let failed = said.lines().find_map(|line| {
        let name = line.strip_prefix("test ")?.strip_suffix("FAILED")?;
        Some(name.split(' ').next()?.to_string())
    });
    Some(failed.unwrap_or_else(|| "(it did not end)".to_string()))
}

#[test]
#[ignore = "builds the engine some fifty times"]
fn every_mutant_is_caught() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("mutants");
    let (tree, target) = (home.join("tree"), home.join("target"));
    std::fs::create_dir_all(&target).unwrap();
    std::fs::create_dir_all(&tree).unwrap();
    let parts = [
        "Cargo.toml",
        "Cargo.lock",
        "README.md",
        "src",
        "tests",
        "benches",
        "examples",
        "tools",
    ];
    for part in parts {
        copy(&root.join(part), &tree.join(part));
    }
    let wanted = std::env::var("AURORA_MUTANT").unwrap_or_default();
    let mutants = list(root);
    let mut results = known(root);
    let mut survivors = Vec::new();
    for mutant in &mutants {
        let is_wanted = match wanted.as_str() {
            "new" => !results.contains_key(&mutant.name),
            words => mutant.name.contains(words),
        };
        if !is_wanted {
            continue;
        }
        let path = tree.join(&mutant.file);
        let source = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, mutant.apply(&source)).unwrap();
        let started = Instant::now();
        let caught = mutant
            .suites
            .iter()
            .find_map(|suite| Some((suite, run(&tree, &target, suite)?)));
        std::fs::write(&path, source).unwrap();
        let (suite, test) = match caught {
            Some((suite, test)) => (suite.as_str(), format!("`{test}`")),
            None => {
                survivors.push(mutant.name.clone());
                ("", "**none**".to_string())
            }
        };
        println!("{}: {suite} {test}, {:?}", mutant.name, started.elapsed());
        let line = format!("| {} | {suite} | {test} |\n", mutant.name);
        results.insert(mutant.name.clone(), line);
        let lines = mutants
            .iter()
            .filter_map(|mutant| results.get(&mutant.name));
        let table: String = std::iter::once(HEAD)
            .chain(lines.map(String::as_str))
            .collect();
        std::fs::write(root.join(RESULTS), table).unwrap();
    }
    assert!(survivors.is_empty(), "nothing caught: {survivors:#?}");
}

const RESULTS: &str = "tests/mutants/results.md";

const HEAD: &str = "# What caught each mutant

Written by `cargo test --test mutants -- --ignored`: each line is a protection of
[`list.txt`](list.txt), and the test that went red without it.

| protection | suite | test |
| --- | --- | --- |
";

/// The lines of the results by the names of the mutants.
fn known(root: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(root.join(RESULTS)).unwrap_or_default();
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with("| ---"))
        .skip(1);
    let named = lines.filter_map(|line| {
        let name = line.strip_prefix("| ")?.split(" |").next()?;
        Some((name.to_string(), format!("{line}\n")))
    });
    named.collect()
}
