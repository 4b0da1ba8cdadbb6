//! The view of `pluginctl top` on a terminal, and the effects of its keys.

use super::column::{Column, STATUS_WIDTH};
use crate::{
    columns::{KEPT, SPACING, fitting},
    list::totals,
};
use clap::ValueEnum;
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use plugind::{
    api::{List, Plugin},
    base::text::Escaped,
};
use ratatui::{
    Frame,
    layout::{Constraint, Layout},
    style::{Color, Modifier, Style},
    text::{Line, Text},
    widgets::{Row, Table},
};
use std::time::SystemTime;

const KEYS: &str = "q: quit  ←→: sort by another column  c m r n: by CPU, memory, requests, name  \
                    i: invert  ↑↓: scroll";

/// The figures, their order, and the part that is seen.
pub(super) struct TopView {
    plugins: Vec<Plugin>,
    sort: Column,
    inverted: bool,
    /// The number of rows above the first one that is visible.
    above: usize,
    /// The number of rows that were visible last.
    seen: usize,
    now: SystemTime,
}

/// The effect of a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pressed {
    Quit,
    Stay,
}

impl TopView {
    pub(super) fn new(list: List, sort: Column, now: SystemTime) -> Self {
        let mut view = Self { plugins: Vec::new(), sort, inverted: false, above: 0, seen: 1, now };
        view.update(list, now);
        view
    }

    /// Takes new figures.
    pub(super) fn update(&mut self, list: List, now: SystemTime) {
        (self.plugins, self.now) = (list.plugins, now);
        self.arrange();
    }

    fn arrange(&mut self) {
        let (sort, now) = (self.sort, self.now);
        self.plugins.sort_by(|one, other| sort.compare(one, other, now));
        if self.inverted {
            self.plugins.reverse();
        }
    }

    fn sort_by(&mut self, column: Column) {
        (self.sort, self.above) = (column, 0);
        self.arrange();
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Pressed {
        if key.kind == KeyEventKind::Release {
            return Pressed::Stay;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if is_control => return Pressed::Quit,
            KeyCode::Char('q') | KeyCode::Esc => return Pressed::Quit,
            KeyCode::Char('c') => self.sort_by(Column::Cpu),
            KeyCode::Char('m') => self.sort_by(Column::Memory),
            KeyCode::Char('r') => self.sort_by(Column::Requests),
            KeyCode::Char('n') => self.sort_by(Column::Name),
            KeyCode::Right | KeyCode::Char('>') => self.sort_by(self.sort.beside(1)),
            KeyCode::Left | KeyCode::Char('<') => {
                self.sort_by(self.sort.beside(Column::value_variants().len() - 1));
            }
            KeyCode::Char('i') => {
                self.inverted = !self.inverted;
                self.sort_by(self.sort);
            }
            KeyCode::Down => self.above += 1,
            KeyCode::PageDown => self.above += self.seen,
            KeyCode::Up => self.above = self.above.saturating_sub(1),
            KeyCode::PageUp => self.above = self.above.saturating_sub(self.seen),
            KeyCode::Home => self.above = 0,
            KeyCode::End => self.above = self.plugins.len(),
            _ => (),
        }
        Pressed::Stay
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let rows = [Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)];
        let [summary, table, keys] = Layout::vertical(rows).areas(frame.area());
        // The header is a row of the table.
        self.seen = usize::from(table.height).saturating_sub(1).max(1);
        self.above = self.above.min(self.plugins.len().saturating_sub(self.seen));
        frame.render_widget(Line::from(self.summary()), summary);
        frame.render_widget(self.table(table.width), table);
        frame.render_widget(Line::styled(KEYS, Modifier::DIM), keys);
    }

    fn summary(&self) -> String {
        let count = self.plugins.len();
        let from = self.above + 1;
        let to = count.min(self.above + self.seen);
        let part = if to - self.above.min(to) < count {
            format!(", {from} to {to}")
        } else {
            String::new()
        };
        format!("{}{part}", totals(&self.plugins))
    }

    fn table(&self, width: u16) -> Table<'static> {
        let columns = self.columns_within(width);
        let header = columns.iter().map(|(column, _)| {
            let style = match *column == self.sort {
                true => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
                false => Style::new().add_modifier(Modifier::BOLD),
            };
            Text::styled(column.heading(), style)
        });
        let seen = self.plugins.iter().skip(self.above).take(self.seen);
        let rows = seen.map(|plugin| {
            let cells = columns.iter().map(|(column, _)| self.cell(*column, plugin));
            Row::new(cells).style(style(plugin))
        });
        let widths = columns.iter().map(|(_, width)| Constraint::Length(*width));
        Table::new(rows, widths)
            .header(Row::new(header))
            .column_spacing(u16::try_from(SPACING).unwrap_or_default())
    }

    /// The text of a cell, which cannot steer the terminal.
    fn cell(&self, column: Column, plugin: &Plugin) -> String {
        Escaped(&column.cell(plugin, self.now)).to_string()
    }

    /// The columns that fit, with their widths. The name and the column of the order are always among them.
    fn columns_within(&self, width: u16) -> Vec<(Column, u16)> {
        let all = Column::value_variants();
        let widths: Vec<_> = all.iter().map(|column| self.width(*column)).collect();
        let sized = all.iter().zip(&widths).map(|(column, width)| {
            let is_kept = *column == self.sort || *column == Column::Name;
            let importance = if is_kept { KEPT } else { column.importance() };
            (usize::from(*width), importance)
        });
        let sized: Vec<_> = sized.collect();
        let places = fitting(&sized, usize::from(width));
        let mut columns: Vec<_> =
            places.iter().map(|place| (all[*place], widths[*place])).collect();
        let needed = columns.iter().map(|(_, width)| usize::from(*width) + SPACING).sum::<usize>();
        // No space follows the last column.
        let left = (usize::from(width) + SPACING).saturating_sub(needed);
        if let Some((Column::Status, last)) = columns.last_mut() {
            *last = last.saturating_add(u16::try_from(left).unwrap_or(u16::MAX));
        }
        columns
    }

    /// The width of a column's longest cell, of all plugins, so that columns stay where they are while one scrolls.
    fn width(&self, column: Column) -> u16 {
        let heading = column.heading().len();
        if column == Column::Status {
            return STATUS_WIDTH;
        }
        let cells = self.plugins.iter().map(|plugin| Text::from(self.cell(column, plugin)).width());
        u16::try_from(cells.max().unwrap_or_default().max(heading)).unwrap_or(u16::MAX)
    }
}

fn style(plugin: &Plugin) -> Style {
    match &*plugin.active_state {
        "failed" => Style::new().fg(Color::Red),
        "activating" | "deactivating" => Style::new().fg(Color::Yellow),
        _ if plugin.degraded.is_some() || plugin.failure.is_some() => {
            Style::new().fg(Color::Yellow)
        }
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{failed, used};
    use ratatui::{Terminal, backend::TestBackend};

    fn list(plugins: Vec<Plugin>) -> List {
        List { plugins, ignored: Vec::new() }
    }

    fn view(plugins: Vec<Plugin>) -> TopView {
        TopView::new(list(plugins), Column::Cpu, SystemTime::now())
    }

    fn press(view: &mut TopView, code: KeyCode) -> Pressed {
        view.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    /// The lines of a terminal of this size.
    fn shown(view: &mut TopView, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| view.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(|y| line(y).trim_end().to_owned()).collect()
    }

    fn names(view: &mut TopView) -> String {
        let lines = shown(view, 100, 10);
        lines[2..9]
            .iter()
            .filter_map(|line| line.split(' ').next())
            .collect::<Vec<_>>()
            .join(" ")
            .trim()
            .to_owned()
    }

    #[test]
    fn the_table_is_sorted_and_keys_change_the_column() {
        let mut view = view(vec![failed(), used("a", 600, 1 << 20), used("b", 6_000, 2 << 20)]);
        assert_eq!(names(&mut view), "b a bad");
        assert_eq!(press(&mut view, KeyCode::Char('n')), Pressed::Stay);
        assert_eq!(names(&mut view), "a b bad");
        press(&mut view, KeyCode::Char('i'));
        assert_eq!(names(&mut view), "bad b a");
        press(&mut view, KeyCode::Right);
        assert_eq!((view.sort, names(&mut view)), (Column::State, "b a bad".to_owned()));
        press(&mut view, KeyCode::Left);
        press(&mut view, KeyCode::Left);
        assert_eq!(view.sort, Column::Status);
        for (key, column) in [('m', Column::Memory), ('r', Column::Requests), ('c', Column::Cpu)] {
            press(&mut view, KeyCode::Char(key));
            assert_eq!(view.sort, column);
        }
    }

    #[test]
    fn the_order_continues_with_new_figures() {
        let mut view = view(vec![used("a", 600, 1), used("b", 6_000, 2)]);
        assert_eq!(names(&mut view), "b a");
        view.update(list(vec![used("a", 9_000, 1), used("b", 6_000, 2)]), SystemTime::now());
        assert_eq!(names(&mut view), "a b");
    }

    #[test]
    fn q_escape_and_control_c_end_it() {
        let mut view = view(Vec::new());
        assert_eq!(press(&mut view, KeyCode::Char('q')), Pressed::Quit);
        assert_eq!(press(&mut view, KeyCode::Esc), Pressed::Quit);
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        assert_eq!(view.press(interrupt), Pressed::Quit);
        assert_eq!(press(&mut view, KeyCode::Char('x')), Pressed::Stay);
    }

    #[test]
    fn a_wide_terminal_shows_all_columns_and_a_narrow_one_the_most_important() {
        let mut view = view(vec![used("a", 600, 1 << 20)]);
        assert_eq!(
            shown(&mut view, 100, 4)[..3],
            [
                "1 plugin, 0 failed",
                "NAME  STATE    CPU  MEMORY  LIMIT  REQ/S  P50    P99   FLIGHT  QUEUE  INST  STATUS",
                "a     running  1%   1M      256M   1.5/s  850us  12ms  1       0      2     greets people",
            ]
        );
        assert_eq!(
            shown(&mut view, 53, 4)[1..3],
            [
                "NAME  STATE    CPU  MEMORY  REQ/S  P99   STATUS",
                "a     running  1%   1M      1.5/s  12ms  greets peopl",
            ]
        );
        view.sort_by(Column::Queue);
        assert_eq!(shown(&mut view, 20, 4)[1], "NAME  STATE    QUEUE");
        for (width, height) in [(0, 0), (1, 1), (3, 2), (400, 200)] {
            shown(&mut view, width, height);
        }
    }

    #[test]
    fn plugins_are_counted_as_in_a_list() {
        let retried = Plugin { sub_state: "auto-restart".to_owned(), ..failed() };
        assert_eq!(shown(&mut view(vec![retried]), 100, 4)[0], "1 plugin, 0 failed, 1 retried");
    }

    #[test]
    fn more_plugins_than_lines_are_scrolled() {
        let mut view = view((0..50).map(|n| used(&format!("p{n:02}"), 600, 1)).collect());
        let seen = |view: &mut TopView| {
            let lines = shown(view, 100, 8);
            (lines[0].clone(), lines[2][..3].to_owned(), lines[6][..3].to_owned())
        };
        let expected = |part: &str, first: &str, last: &str| {
            (format!("50 plugins, 0 failed, {part}"), first.to_owned(), last.to_owned())
        };
        assert_eq!(seen(&mut view), expected("1 to 5", "p00", "p04"));
        press(&mut view, KeyCode::PageDown);
        press(&mut view, KeyCode::Down);
        assert_eq!(seen(&mut view), expected("7 to 11", "p06", "p10"));
        press(&mut view, KeyCode::End);
        assert_eq!(seen(&mut view), expected("46 to 50", "p45", "p49"));
        press(&mut view, KeyCode::Down);
        press(&mut view, KeyCode::Up);
        assert_eq!(seen(&mut view), expected("46 to 50", "p45", "p49"));
        press(&mut view, KeyCode::PageUp);
        assert_eq!(seen(&mut view), expected("41 to 45", "p40", "p44"));
        press(&mut view, KeyCode::Home);
        view.update(list(vec![used("one", 1, 1)]), SystemTime::now());
        assert_eq!(shown(&mut view, 100, 8)[0], "1 plugin, 0 failed");
    }

    #[test]
    fn no_plugin_can_steer_the_terminal() {
        let status = Some("x\n\x1b[2Jy".to_owned());
        let mut view = view(vec![Plugin { status, ..used("a", 1, 1) }]);
        let lines = shown(&mut view, 120, 5);
        assert!(lines[2].ends_with("x\\u{a}\\u{1b}[2Jy"), "{lines:?}");
    }
}
