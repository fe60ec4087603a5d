//! The forms in which a text may show a secret, for the tests that search everything that ottla says.

use base64ct::{Base64, Base64Url, Encoding};

/// A secret as it is, in base64, in hex, as `Debug` shows bytes, in percent form, and backwards.
pub fn forms(secret: &[u8]) -> Vec<String> {
    let hex = |separator: &str| {
        let digits: Vec<String> = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.join(separator)
    };
    let percent = |upper: bool| -> String {
        let one = |byte: &u8| match byte {
            b if b.is_ascii_alphanumeric() => (*b as char).to_string(),
            b if upper => format!("%{b:02X}"),
            b => format!("%{b:02x}"),
        };
        secret.iter().map(one).collect()
    };
    let mut forms = vec![
        Base64::encode_string(secret),
        Base64::encode_string(secret).trim_end_matches('=').to_owned(),
        Base64Url::encode_string(secret),
        hex(""),
        hex("").to_uppercase(),
        hex(" "),
        format!("{secret:?}").trim_matches(['[', ']']).to_owned(),
        percent(true),
        percent(false),
    ];
    if let Ok(text) = std::str::from_utf8(secret) {
        forms.extend([text.to_owned(), text.chars().rev().collect()]);
    }
    forms
}

#[test]
fn the_search_finds_a_secret_in_each_form() {
    let forms = forms(b"pa55 w/");
    let expected = [
        "pa55 w/",
        "cGE1NSB3Lw==",
        "cGE1NSB3Lw",
        "70613535",
        "70 61",
        "112, 97, 53, 53, 32, 119, 47",
        "pa55%20w%2F",
        "pa55%20w%2f",
        "/w 55ap",
    ];
    for form in expected {
        assert!(forms.iter().any(|found| found.contains(form)), "{form}: {forms:?}");
    }
}
