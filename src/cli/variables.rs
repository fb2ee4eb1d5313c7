//! The variables of the environment, as people expect them: an empty one is as if it were not set,
//! and an error names the variable that it is about, where the crate names its flag.

use std::any::TypeId;
use std::env;
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error, Parser};

/// Reads the arguments and the variables. Ends the program, with a text for people, if they can't
/// be read, and after `--help` and `--version`.
pub(super) fn parse<T: Parser>() -> T {
    let mut command = without_empty(T::command()).mut_subcommands(without_empty);
    command.build();
    let read = command.clone().try_get_matches();
    let read = read.and_then(|mut matches| T::from_arg_matches_mut(&mut matches));
    read.unwrap_or_else(|error| with_variable(error, &command).exit())
}

fn without_empty(command: Command) -> Command {
    command.mut_args(|arg| match arg.get_env().and_then(env::var_os) {
        Some(value) if value.is_empty() => arg.env(Resettable::Reset),
        _ => arg,
    })
}

/// An error about a value that comes from a variable names that one.
fn with_variable(mut error: Error, command: &Command) -> Error {
    let is_set = |arg: &&Arg| {
        !is_given(arg) && arg.get_env().is_some_and(|name| env::var_os(name).is_some())
    };
    let mut set = command.get_arguments().filter(is_set);
    match error.kind() {
        ErrorKind::ValueValidation | ErrorKind::InvalidValue => {
            let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else {
                return error;
            };
            let blamed = set.find(|arg| arg.to_string() == *flag);
            if let Some(name) = blamed.and_then(Arg::get_env) {
                let name = name.to_string_lossy().into_owned();
                error.insert(ContextKind::InvalidArg, ContextValue::String(name));
            }
            error
        }
        ErrorKind::InvalidUtf8 => {
            let is_text = |arg: &Arg| arg.get_value_parser().type_id() != TypeId::of::<PathBuf>();
            let variables = set.filter(|arg| is_text(arg)).filter_map(Arg::get_env);
            let mut bad = variables.filter(|name| env::var(name).is_err());
            match bad.next() {
                Some(name) => {
                    Error::raw(error.kind(), format!("{} is not UTF-8\n", name.to_string_lossy()))
                }
                None => error,
            }
        }
        _ => error,
    }
}

/// Whether a flag is on the command line: then it wins over its variable.
fn is_given(arg: &Arg) -> bool {
    let Some(flag) = arg.get_long() else { return false };
    env::args_os().any(|given| {
        let given = given.to_string_lossy();
        let given = given.strip_prefix("--").and_then(|given| given.strip_prefix(flag));
        given.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })
}
