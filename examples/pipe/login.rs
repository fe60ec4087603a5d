//! The login (SASL) that the command line describes. The secret is never an argument: other users of the machine see
//! those.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use lexopt::Parser;
use ottla::{ClientBuilder, Sasl, Token};

/// The part of the usage text that is about logins.
macro_rules! sasl_usage {
    () => {
        "  --sasl-mechanism M            log in by plain, scram-sha-256, scram-sha-512 or oauthbearer
  --sasl-username U             as this user (not with oauthbearer)
  --sasl-password-file FILE     the password, or the token of oauthbearer, is what FILE holds; without
                                this option, what the environment variable OTTLA_SASL_PASSWORD holds
  --sasl-over-plaintext         log in although the connection is not encrypted
"
    };
}
pub(crate) use sasl_usage;

/// How to log in; by default not at all.
#[derive(Clone, Debug, Default)]
pub struct Login {
    mechanism: Option<String>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    over_plaintext: bool,
}

impl Login {
    /// Takes an option, if it is one of a login.
    pub fn set(&mut self, name: &str, parser: &mut Parser) -> Result<bool, lexopt::Error> {
        match name {
            "sasl-mechanism" => self.mechanism = Some(parser.value()?.into_string()?),
            "sasl-username" => self.username = Some(parser.value()?.into_string()?),
            "sasl-password-file" => self.password_file = Some(PathBuf::from(parser.value()?)),
            "sasl-over-plaintext" => self.over_plaintext = true,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Has the client log in, if it is to.
    pub fn apply(&self, builder: ClientBuilder) -> Result<ClientBuilder, String> {
        let Some(mechanism) = &self.mechanism else {
            return match (&self.username, &self.password_file) {
                (None, None) => Ok(builder),
                _ => Err("--sasl-mechanism M is missing".to_owned()),
            };
        };
        if mechanism == "oauthbearer" {
            // Read anew for each login: whoever writes the file has a fresh token in it.
            let file = self.password_file.clone();
            let sasl = Sasl::oauthbearer(move || {
                Ok(Token::new(secret(file.as_deref()).map_err(Box::<dyn Error + Send + Sync>::from)?))
            });
            return Ok(builder.sasl(sasl).sasl_over_ssl(!self.over_plaintext));
        }
        let login = match &**mechanism {
            "plain" => Sasl::plain,
            "scram-sha-256" => Sasl::scram_sha_256,
            "scram-sha-512" => Sasl::scram_sha_512,
            _ => {
                let choices = "plain, scram-sha-256, scram-sha-512, oauthbearer";
                return Err(format!("--sasl-mechanism {mechanism}: choose one of {choices}"));
            }
        };
        let user = self.username.clone().ok_or("--sasl-username U is missing")?;
        let password = secret(self.password_file.as_deref())?;
        Ok(builder.sasl(login(user, password)).sasl_over_ssl(!self.over_plaintext))
    }
}

fn secret(file: Option<&Path>) -> Result<String, String> {
    let Some(file) = file else {
        let missing = "no password: name its file with --sasl-password-file, or set OTTLA_SASL_PASSWORD";
        return env::var("OTTLA_SASL_PASSWORD").map_err(|_| missing.to_owned());
    };
    let mut text = fs::read_to_string(file).map_err(|error| format!("--sasl-password-file cannot be read: {error}"))?;
    // The last line break is the editor's.
    let end = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(end);
    Ok(text)
}
