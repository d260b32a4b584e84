//! Where in the file the log's positions are: in one ring, or, after a switch, in two.

use crate::format::Lsn;
use crate::format::header::LogRegion;

/// Where in the file the log's positions are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Geometry {
    /// The start of the window: nothing before it is needed.
    pub start: Lsn,
    pub first: LogRegion,
    /// From this position on, the log is in another ring.
    pub switched: Option<(Lsn, LogRegion)>,
    /// The durable checkpoint names this ring; the next append switches to it.
    pub next: Option<LogRegion>,
}

impl Geometry {
    pub(super) fn current(&self) -> LogRegion {
        self.switched.map_or(self.first, |(_, region)| region)
    }

    /// The ring that holds `lsn`.
    pub(super) fn region(&self, lsn: Lsn) -> LogRegion {
        match self.switched {
            Some((at, region)) if lsn >= at => region,
            _ => self.first,
        }
    }

    /// The part of the window that is in the current ring begins here.
    pub(super) fn base(&self) -> Lsn {
        self.switched.map_or(self.start, |(at, _)| at)
    }

    /// The rings as a header records them for a log that starts at `start`.
    pub(crate) fn regions_from(&self, start: Lsn) -> (LogRegion, Option<LogRegion>) {
        match self.switched {
            Some((at, region)) if start >= at => (region, self.next),
            Some((_, region)) => (self.first, Some(region)),
            None => (self.first, self.next),
        }
    }
}
