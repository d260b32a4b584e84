//! The progress bar of long commands: on the terminal, and only there.

use std::io::IsTerminal;

use aurora_inspect::Watcher;
use indicatif::{ProgressBar, ProgressStyle};

/// A bar with rate and time left.
#[derive(Debug)]
pub struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// A bar, if errors go to a terminal.
    pub fn on_terminal() -> Option<Self> {
        std::io::stderr().is_terminal().then(|| Bar {
            bar: ProgressBar::new(0),
        })
    }
}

impl Watcher for Bar {
    fn pages(&self, count: u64) {
        self.bar.inc(count);
    }

    fn phase(&self, name: &str, total: Option<u64>) {
        let template = match total {
            Some(_) => "{msg:10} {wide_bar} {pos}/{len} {per_sec}, {eta} left",
            None => "{msg:10} {spinner}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.bar.set_style(style);
        }
        self.bar.reset();
        self.bar.set_length(total.unwrap_or(0));
        self.bar.set_message(name.to_string());
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
