//! Where windows lie whose bounds follow from a row alone: on a grid anchored at 1970.

use crate::plan::Window;
use crate::types::{EventTime, Timespan};

/// The windows `[start, end)` that `time` belongs to, earliest first. None for windows that do not follow from it.
pub fn assign_windows(
    window: &Window,
    time: EventTime,
) -> impl Iterator<Item = (EventTime, EventTime)> {
    let (grid, count) = match Grid::of(window) {
        Some(grid) => (grid, grid.size.as_micros() / grid.slide.as_micros()),
        None => (Grid::NONE, 0),
    };
    let pane = grid.pane(time);
    let start = grid.start_of_size(pane);
    let span =
        move |panes: i64| Timespan::from_micros(grid.slide.as_micros().saturating_mul(panes));
    let passed = if grid.cumulates {
        pane.since(start).as_micros() / grid.slide.as_micros()
    } else {
        0
    };
    (passed..count).map(move |index| {
        if grid.cumulates {
            (start, start.plus(span(index + 1)))
        } else {
            let start = pane.minus(span(count - 1 - index));
            (start, start.plus(grid.size))
        }
    })
}

/// Where windows lie: panes every `slide`, shifted by `offset`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub(super) size: Timespan,
    pub(super) slide: Timespan,
    offset: Timespan,
    /// Whether windows share their start and grow by `slide`, instead of sharing their length and starting every `slide`.
    pub(super) cumulates: bool,
}

impl Grid {
    /// A grid for where none is used.
    const NONE: Self = Self {
        size: Timespan::MILLISECOND,
        slide: Timespan::MILLISECOND,
        offset: Timespan::ZERO,
        cumulates: false,
    };

    pub(super) fn of(window: &Window) -> Option<Self> {
        let (size, slide, offset, cumulates) = match *window {
            Window::Tumble { size, offset } => (size, size, offset, false),
            Window::Hop {
                slide,
                size,
                offset,
            } => (size, slide, offset, false),
            Window::Cumulate { step, size, offset } => (size, step, offset, true),
            Window::Attached { .. } | Window::Session { .. } | Window::Count { .. } => return None,
        };
        Some(Self {
            size,
            slide,
            offset,
            cumulates,
        })
    }

    /// The start of the pane of a point in time.
    pub(super) fn pane(&self, time: EventTime) -> EventTime {
        time.align_down(self.slide, self.offset)
    }

    /// The start of the longest cumulating window over a pane.
    pub(super) fn start_of_size(&self, pane: EventTime) -> EventTime {
        pane.align_down(self.size, self.offset)
    }

    /// The end of the last window over a pane.
    pub(super) fn last_end(&self, pane: EventTime) -> EventTime {
        if self.cumulates {
            self.start_of_size(pane).plus(self.size)
        } else {
            pane.plus(self.size)
        }
    }

    /// The start of the window that ends at `end`.
    pub(super) fn start(&self, end: EventTime) -> EventTime {
        if self.cumulates {
            self.start_of_size(end.minus(self.slide))
        } else {
            end.minus(self.size)
        }
    }

    /// The ends of the windows over a pane, earliest first.
    pub(super) fn ends(self, pane: EventTime) -> impl Iterator<Item = EventTime> {
        let last = self.last_end(pane);
        let next = move |end: &EventTime| {
            let next = end.plus(self.slide);
            (next <= last && next > *end).then_some(next)
        };
        std::iter::successors(Some(pane.plus(self.slide)), next)
    }
}
