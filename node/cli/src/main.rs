//! The `locker` program: parse, call, print. One file per command in `command/`; the rules are in `locker-engine`.

mod argument;
mod command;
mod context;
mod execute;
mod failure;
mod network;
mod output;
mod request;
mod secret_input;
mod sheet;
mod socket;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::command::Cli;
use crate::context::Context;
use crate::failure::Failure;

fn main() -> ExitCode {
    // Kept to the end: dropping it switches the failpoints off. Without the feature it is nothing.
    let _scenario = fail::FailScenario::setup();
    locker_engine::guard_process();
    quiet_panics();
    let arguments: Vec<_> = std::env::args_os().collect();
    let json = arguments.iter().any(|a| a == "--json");
    let result = secret_input::refuse_secrets_among(&arguments).and_then(|()| run(arguments));
    match result {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure, json);
            ExitCode::from(failure.exit_code)
        }
    }
}

fn run(arguments: Vec<std::ffi::OsString>) -> Result<ExitCode, Failure> {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let text = error.render();
            let text = if output::is_coloured() { text.ansi().to_string() } else { text.to_string() };
            output::text(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(error) => return Err(usage(&error)),
    };
    let context = Context::new(&cli.global)?;
    // A damaged database can make its library panic; to the person that is damage like any other.
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| cli.command.run(&context)))
        .unwrap_or_else(|_| Err(Failure::internal()))
}

/// Turns clap's message into ours: its first lines as the sentence, the usage line as the hint.
fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let text = text.split("\n\nFor more information").next().unwrap_or(text);
    let (message, rest) = text.split_once("\n\nUsage:").unwrap_or((text.trim_end(), ""));
    let message = match error.kind() {
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            "no command was given"
        }
        _ => message,
    };
    let hint = match rest.lines().next() {
        Some(line) if !rest.is_empty() => format!("Usage:{line}. `locker help` shows more."),
        _ => "`locker help` shows every command.".into(),
    };
    Failure::usage(message.trim_end().to_owned(), hint)
}

/// A panic is told once, by `main`, without the standard library's trace; `RUST_BACKTRACE` brings it back.
fn quiet_panics() {
    if std::env::var_os("RUST_BACKTRACE").is_none_or(|v| v == "0") {
        std::panic::set_hook(Box::new(|_| {}));
    }
}
