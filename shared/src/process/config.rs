//! How a program reads its environment. Every problem is reported on one line that names the variable, with exit code 64.
//!
//! clap parses the arguments; its own error text is not used, because it quotes the value, and the value may be a secret.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// The exit code for an invalid configuration (`EX_USAGE` of sysexits.h).
pub const EXIT_CONFIG: u8 = 64;

/// A variable that is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The variable.
    pub variable: &'static str,
    /// What is wrong with it, on one line and without the value of a secret.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.variable, on_one_line(&self.problem))
    }
}

impl Error for ConfigError {}

impl ConfigError {
    /// Prints the line and returns the exit code.
    #[must_use]
    pub fn report(&self) -> ExitCode {
        eprintln!("{self}");
        ExitCode::from(EXIT_CONFIG)
    }
}

/// Reads the command line and the environment.
///
/// # Errors
/// The exit code: 0 after `--help` and `--version`, otherwise 64, with one line on standard error.
pub fn parse_args<T: clap::Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // A closed pipe (`--help | head`) is the reader's choice.
            let _reader_gone = error.print();
            ExitCode::SUCCESS
        }
        _ => {
            eprintln!("{}", describe(&error, &mut T::command()));
            ExitCode::from(EXIT_CONFIG)
        }
    })
}

/// One line that names the variable (or the option, if it has no variable) and never shows the value.
fn describe(error: &clap::Error, command: &mut clap::Command) -> String {
    command.build();
    let arguments = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => vec![argument.clone()],
        Some(ContextValue::Strings(arguments)) => arguments.clone(),
        _ => Vec::new(),
    };
    if arguments.is_empty() {
        // The error is about the command line as a whole: its first line suffices, and contains no value.
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        return format!("{} (see --help)", first.trim_start_matches("error: "));
    }
    let names: Vec<_> = arguments.iter().map(|argument| variable_of(command, argument)).collect();
    format!("{}: {}", names.join(", "), problem(error))
}

fn problem(error: &clap::Error) -> String {
    match error.kind() {
        ErrorKind::MissingRequiredArgument => "is required".to_owned(),
        ErrorKind::UnknownArgument => "is not an option (see --help)".to_owned(),
        ErrorKind::ArgumentConflict => "cannot be combined with the other arguments (see --help)".to_owned(),
        ErrorKind::InvalidUtf8 => "is not UTF-8".to_owned(),
        _ => match (error.source(), error.get(ContextKind::ValidValue)) {
            (Some(source), _) => on_one_line(&source.to_string()),
            (None, Some(ContextValue::Strings(valid))) if !valid.is_empty() => {
                format!("is one of {}", valid.join(", "))
            }
            (None, _) => "is malformed (see --help)".to_owned(),
        },
    }
}

/// clap names arguments as in `--in-flight-max <IN_FLIGHT_MAX>`; an operator knows the variable.
fn variable_of(command: &clap::Command, argument: &str) -> String {
    let here = command.get_arguments().find(|known| known.to_string() == argument);
    let known = here.and_then(|known| known.get_env()).map(|name| name.to_string_lossy().into_owned());
    known
        .or_else(|| {
            let below = command.get_subcommands().map(|command| variable_of(command, argument));
            below.into_iter().find(|name| name != argument)
        })
        .unwrap_or_else(|| argument.to_owned())
}

fn on_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    /// A setting with a parser of its own.
    #[derive(Debug, Clone)]
    struct Urls;

    impl std::str::FromStr for Urls {
        type Err = &'static str;

        fn from_str(text: &str) -> Result<Self, Self::Err> {
            text.starts_with("amqps://").then_some(Self).ok_or("URL 1: must begin with\n amqps://")
        }
    }

    #[derive(Debug, Parser)]
    struct Args {
        #[arg(long, env = "TEST_LANES", value_parser = clap::value_parser!(u8).range(1..=8), default_value_t = 4)]
        lanes: u8,
        #[arg(long, env = "TEST_URLS", hide_env_values = true)]
        urls: Urls,
        #[arg(long, env = "TEST_FORMAT", default_value = "json")]
        format: crate::process::telemetry::LogFormat,
    }

    fn line(args: &[&str]) -> String {
        let error = Args::try_parse_from([&["program"], args].concat()).unwrap_err();
        let line = describe(&error, &mut <Args as clap::CommandFactory>::command());
        assert_eq!(line.lines().count(), 1, "{line}");
        line
    }

    #[test]
    fn every_problem_is_one_line_that_names_the_variable_and_no_value() {
        assert_eq!(line(&[]), "TEST_URLS: is required");
        let url = ["--urls", "amqps://h"];
        assert_eq!(line(&["--urls", "hunter2"]), "TEST_URLS: URL 1: must begin with amqps://");
        assert_eq!(line(&[&url[..], &["--lanes", "9"]].concat()), "TEST_LANES: 9 is not in 1..=8");
        assert!(line(&[&url[..], &["--lanes", "x"]].concat()).starts_with("TEST_LANES: "));
        assert_eq!(line(&[&url[..], &["--format", "xml"]].concat()), "TEST_FORMAT: is one of json, text");
        assert_eq!(line(&["--nope"]), "--nope: is not an option (see --help)");
    }
}
