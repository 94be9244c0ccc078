//! Results on standard output, talk on standard error. With `--json`, exactly one JSON object on standard output.

use std::io::{self, BufWriter, IsTerminal, Stdout, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use locker_engine::report::{Entry, Observer, Progress};
use serde::Serialize;

use crate::execute::Sink;
use crate::failure::Failure;

/// How this command talks.
#[derive(Clone, Copy)]
pub(crate) struct Terminal {
    /// One JSON object instead of text.
    pub(crate) json: bool,
    quiet: bool,
    verbose: u8,
}

impl Terminal {
    /// Takes the global options.
    pub(crate) fn new(json: bool, quiet: bool, verbose: u8) -> Self {
        Self { json, quiet, verbose }
    }

    /// Says something on standard error, unless told to be quiet.
    pub(crate) fn say(&self, text: &str) {
        if !self.quiet {
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Prints a result: the value as JSON, or the text.
    pub(crate) fn result(
        &self,
        value: &impl Serialize,
        human: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        if self.json {
            let mut line = serde_json::to_string(value).map_err(|e| write_failed(&e.into()))?;
            line.push('\n');
            text(&line)
        } else {
            let mut line = human();
            if !line.is_empty() && !line.ends_with('\n') {
                line.push('\n');
            }
            text(&line)
        }
    }

    /// Prints a result that must be out before the work goes on: a reader that went away is an error here. With `--json` the
    /// object stays open until it is known how the work ended, which [`Begun::finish`] adds.
    pub(crate) fn begin_result(
        &self,
        value: &impl Serialize,
        human: impl FnOnce() -> String,
    ) -> Result<Begun, Failure> {
        let told = if self.json {
            let mut object = serde_json::to_string(value).map_err(|e| write_failed(&e.into()))?;
            // Its last brace comes with the end.
            object.pop();
            object
        } else {
            format!("{}\n", human().trim_end())
        };
        let mut out = io::stdout().lock();
        out.write_all(told.as_bytes()).and_then(|()| out.flush()).map_err(|e| write_failed(&e))?;
        Ok(Begun { json: self.json })
    }

    /// Whether a person sits at this terminal.
    pub(crate) fn is_interactive(&self) -> bool {
        !self.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Shows long work on a terminal and throws streamed lines and bytes away; for verbs that stream none.
    pub(crate) fn watch(&self, what: &'static str) -> Watch {
        Watch::new(*self, what)
    }

    /// The same for work on files, which the first Ctrl-C stops in order.
    pub(crate) fn watch_files(&self, what: &'static str) -> Watch {
        Watch { stop: Some(locker_engine::hear_interrupts()), ..self.watch(what) }
    }

    /// The same for a number of looks, which move no bytes.
    pub(crate) fn watch_checks(&self, what: &'static str) -> Watch {
        let watch = Watch { things: "checks", ..self.watch(what) };
        watch.bar.set_style(style("{msg} {prefix} {elapsed}"));
        watch
    }

    /// The same for work on packs, which the first Ctrl-C stops in order.
    pub(crate) fn watch_packs(&self, what: &'static str) -> Watch {
        Watch { things: "packs", stop: Some(locker_engine::hear_interrupts()), ..self.watch(what) }
    }
}

/// Whether standard output is a terminal whose owner wants colours (<https://no-color.org>).
pub(crate) fn is_coloured() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

/// Writes text to standard output. A reader that went away is no error of ours.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).or_else(|e| ignore_closed(&e))
}

/// Shows a failure: a sentence and a hint on standard error, and with `--json` an object on standard output.
pub(crate) fn failure(failure: &Failure, json: bool) {
    if failure.message.is_empty() {
        return;
    }
    let _ = writeln!(io::stderr(), "locker: {}\n  {}", failure.message, failure.hint);
    if json {
        #[derive(Serialize)]
        struct Told<'a> {
            error: Inner<'a>,
        }
        #[derive(Serialize)]
        struct Inner<'a> {
            code: &'a str,
            message: &'a str,
            hint: &'a str,
        }
        let told =
            Told { error: Inner { code: &failure.code, message: &failure.message, hint: &failure.hint } };
        if let Ok(line) = serde_json::to_string(&told) {
            let _ = writeln!(io::stdout(), "{line}");
        }
    }
}

/// A result that is out although the work goes on.
#[must_use = "with `--json` an object is still open"]
pub(crate) struct Begun {
    json: bool,
}

impl Begun {
    /// Says how the work ended. With `--json` a failure stands in the object that is open, and not in a second one: what was told
    /// before may be all that its reader has.
    pub(crate) fn finish<T>(self, result: Result<T, Failure>) -> Result<T, Failure> {
        if !self.json {
            return result;
        }
        match result {
            Ok(value) => text("}\n").map(|()| value),
            Err(failure) => {
                let told = serde_json::json!({
                    "code": failure.code,
                    "message": failure.message,
                    "hint": failure.hint,
                });
                self::failure(&failure, false);
                text(&format!(",\"error\":{told}}}\n"))?;
                Err(Failure { message: String::new(), ..failure })
            }
        }
    }
}

fn write_failed(error: &io::Error) -> Failure {
    Failure::io("cannot write the result", error)
}

fn ignore_closed(error: &io::Error) -> Result<(), Failure> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(write_failed(error)) }
}

/// Shows bytes, rate and time left of long work on a terminal; with `-v`, each file when it is safe.
pub(crate) struct Watch {
    terminal: Terminal,
    bar: ProgressBar,
    /// What is counted.
    things: &'static str,
    /// Becomes true when the person wants it to stop.
    stop: Option<Arc<AtomicBool>>,
}

impl Watch {
    fn new(terminal: Terminal, what: &'static str) -> Self {
        let target = if terminal.quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        let bar = ProgressBar::with_draw_target(None, target).with_message(what);
        bar.set_style(style("{msg} {prefix} {bytes} {binary_bytes_per_sec}"));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { terminal, bar, things: "files", stop: None }
    }

    /// Takes the bar off the screen.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

impl Observer for Watch {
    fn progress(&self, progress: Progress) {
        if let Some(total) = progress.bytes_total
            && self.bar.length() != Some(total)
        {
            self.bar.set_length(total);
            self.bar.set_style(style(
                "{msg} {prefix} {wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left",
            ));
        }
        self.bar.set_prefix(match progress.files_total {
            Some(total) => format!("{}/{total} {}", progress.files, self.things),
            None => format!("{} {}", progress.files, self.things),
        });
        self.bar.set_position(progress.bytes);
    }

    fn saved(&self, path: &str) {
        if self.terminal.verbose > 0 {
            self.bar.suspend(|| {
                let _ = writeln!(io::stderr(), "saved {path}");
            });
        }
    }

    fn is_stopped(&self) -> bool {
        self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::SeqCst))
    }
}

impl Sink for Watch {
    fn entry(&self, _: Entry) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a file's bytes to standard output as they come.
pub(crate) struct Raw {
    out: Mutex<BufWriter<Stdout>>,
    closed: AtomicBool,
}

impl Raw {
    /// Starts.
    pub(crate) fn new() -> Self {
        let out = Mutex::new(BufWriter::with_capacity(1 << 16, io::stdout()));
        Self { out, closed: AtomicBool::new(false) }
    }

    /// Writes what is still held back and gives the end of the whole: a reader that has had enough and went away is no
    /// error.
    pub(crate) fn finish(self, result: Result<(), Failure>) -> Result<(), Failure> {
        if self.closed.into_inner() {
            return Ok(());
        }
        let mut out = self.out.into_inner().unwrap_or_else(PoisonError::into_inner);
        out.flush().or_else(|e| ignore_closed(&e))?;
        result
    }
}

impl Observer for Raw {}

impl Sink for Raw {
    fn entry(&self, _: Entry) -> io::Result<()> {
        Ok(())
    }

    fn bytes(&self, bytes: &[u8]) -> io::Result<()> {
        let written = self.out.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes);
        if written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe) {
            self.closed.store(true, Ordering::Relaxed);
        }
        written
    }
}

/// Prints a listing as it comes: as lines that `line` makes, or as one JSON object that is never held whole.
pub(crate) struct Listing<F: FnMut(&Entry) -> String + Send> {
    json: bool,
    state: Mutex<ListingState<F>>,
}

struct ListingState<F> {
    out: BufWriter<Stdout>,
    count: u64,
    line: F,
    /// Whoever read it has gone.
    is_closed: bool,
}

impl<F: FnMut(&Entry) -> String> ListingState<F> {
    fn write(&mut self, entry: &Entry, json: bool) -> io::Result<()> {
        if json {
            self.out.write_all(if self.count == 0 { b"{\"entries\":[" } else { b"," })?;
            serde_json::to_writer(&mut self.out, entry).map_err(io::Error::from)?;
        } else {
            let line = (self.line)(entry);
            writeln!(self.out, "{line}")?;
        }
        self.count += 1;
        Ok(())
    }
}

impl<F: FnMut(&Entry) -> String + Send> Listing<F> {
    /// Starts a listing.
    pub(crate) fn new(terminal: &Terminal, line: F) -> Self {
        let out = BufWriter::with_capacity(1 << 16, io::stdout());
        Self {
            json: terminal.json,
            state: Mutex::new(ListingState { out, count: 0, line, is_closed: false }),
        }
    }

    /// Ends the listing. A failure before the first line leaves standard output untouched; a reader that has had enough and
    /// went away is no error.
    pub(crate) fn finish(self, result: Result<(), Failure>) -> Result<u64, Failure> {
        let mut state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        if state.is_closed {
            return Ok(state.count);
        }
        if self.json {
            let ended = match (&result, state.count) {
                (Err(_), 0) => Ok(()),
                (Ok(()), 0) => writeln!(state.out, "{{\"entries\":[]}}"),
                // Lines are out already: the object stays well formed and says that it is not whole.
                (Err(failure), _) => {
                    let told = serde_json::json!({ "code": failure.code, "message": failure.message, "hint": failure.hint });
                    writeln!(state.out, "],\"error\":{told}}}")
                }
                (Ok(()), _) => writeln!(state.out, "]}}"),
            };
            ended.or_else(|e| ignore_closed(&e).map_err(|_| e)).map_err(|e| write_failed(&e))?;
            if let (Err(failure), 1..) = (&result, state.count) {
                let _ = state.out.flush();
                self::failure(failure, false);
                return Err(Failure { message: String::new(), ..failure.clone() });
            }
        }
        state.out.flush().or_else(|e| ignore_closed(&e))?;
        result.map(|()| state.count)
    }
}

impl<F: FnMut(&Entry) -> String + Send> Observer for Listing<F> {}

impl<F: FnMut(&Entry) -> String + Send> Sink for Listing<F> {
    fn entry(&self, entry: Entry) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let written = state.write(&entry, self.json);
        state.is_closed |= written.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::BrokenPipe);
        written
    }

    fn bytes(&self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// A size as people read it: `1.4 MiB`.
pub(crate) fn size(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

/// A time as people read it, in the local time zone.
pub(crate) fn time(unix_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(unix_ms) {
        Ok(time) => {
            time.to_zoned_datetime(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
        }
        Err(_) => "-".into(),
    }
}

/// `1 file`, `2 files`.
pub(crate) fn count(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// A name safe to print: control characters cannot move the cursor or recolour the terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}
