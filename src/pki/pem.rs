//! Text that has certificates or revocation lists (RFC 7468). What stands around the blocks is explanation, and is passed over
//! (sections 2 and 5.2); a private key anywhere in it is a mistake that is told.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::error::{Error, Result};

pub(super) const MOST_BYTES: usize = 1_000_000;
const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
const DASHES: &str = "-----";

/// One block, and the line that it begins in, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) der: Vec<u8>,
    pub(super) line: usize,
}

/// All blocks of `text`, which are to have this label and be 1 to `most`.
pub(super) fn read(field: &str, text: &str, label: &str, most: usize) -> Result<Vec<Block>> {
    let invalid = |rule: String| Err(Error::invalid(field, rule));
    if text.len() > MOST_BYTES {
        return invalid(format!("must have at most {MOST_BYTES} bytes"));
    }
    // First, and without repeating anything of it.
    if text.contains("PRIVATE KEY-----") {
        return invalid(
            "has a private key; nobody but its owner may have it: send the certificate alone, and replace the key if others can have seen it".to_owned(),
        );
    }
    let (mut blocks, mut open) = (Vec::new(), None::<(String, usize)>);
    for (number, line) in text.lines().map(str::trim).enumerate().map(|(number, line)| (number + 1, line)) {
        if let Some(named) = boundary(line, BEGIN) {
            if let Some((_, begun)) = open {
                return invalid(format!(
                    "has a block in line {begun} that does not end before the next one in line {number}"
                ));
            }
            if named != label {
                return invalid(format!("has a block {:?} in line {number}; only {label} is taken", clipped(named)));
            }
            if blocks.len() == most {
                return invalid(format!("has more than {most} blocks"));
            }
            open = Some((String::new(), number));
        } else if let Some(named) = boundary(line, END) {
            match open.take() {
                Some((body, begun)) if named == label => blocks.push(block(field, &body, begun)?),
                _ => return invalid(format!("has an end in line {number} without its beginning")),
            }
        } else if let Some((body, _)) = &mut open {
            body.extend(line.split_ascii_whitespace());
        }
    }
    match open {
        Some((_, begun)) => invalid(format!("has a block in line {begun} that does not end")),
        None if blocks.is_empty() => invalid(format!("has no block {BEGIN}{label}{DASHES}")),
        None => Ok(blocks),
    }
}

fn boundary<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    line.strip_prefix(kind)?.strip_suffix(DASHES)
}

fn clipped(label: &str) -> String {
    label.chars().take(40).collect()
}

fn block(field: &str, body: &str, line: usize) -> Result<Block> {
    let der = STANDARD.decode(body);
    let der =
        der.map_err(|_| Error::invalid(field, format!("has a block in line {line} that is no base64 (RFC 4648)")))?;
    if der.is_empty() {
        return Err(Error::invalid(field, format!("has a block in line {line} that is empty")));
    }
    Ok(Block { der, line })
}

/// The same the other way, in lines of 64 characters.
pub(super) fn write(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut text = format!("{BEGIN}{label}{DASHES}\n");
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text + END + label + DASHES + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        read("pem", text, "CERTIFICATE", 2).unwrap_err().to_string()
    }

    #[test]
    fn blocks_are_found_among_explanations() {
        let text = "subject=CN = a\n-----BEGIN CERTIFICATE-----\nAQ\tID\r\n\n BAU= \n-----END CERTIFICATE-----\nrest\n";
        let both = format!("{text}{}", write("CERTIFICATE", &[7; 100]));
        let found = read("pem", &both, "CERTIFICATE", 2).unwrap();
        assert_eq!(found, [Block { der: vec![1, 2, 3, 4, 5], line: 2 }, Block { der: vec![7; 100], line: 8 }]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert!(refused("rubbish").contains("no block"));
        assert!(refused("-----BEGIN CERTIFICATE-----\nAQ==").contains("line 1 that does not end"));
        assert!(
            refused("-----BEGIN CERTIFICATE-----\n-----BEGIN CERTIFICATE-----\n")
                .contains("line 1 that does not end before")
        );
        assert!(refused("-----END CERTIFICATE-----").contains("without its beginning"));
        assert!(refused("-----BEGIN CERTIFICATE-----\nA*==\n-----END CERTIFICATE-----").contains("no base64"));
        assert!(refused("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----").contains("empty"));
        assert!(refused("-----BEGIN X509 CRL-----\n-----END X509 CRL-----").contains("only CERTIFICATE"));
        assert!(refused(&write("CERTIFICATE", &[1]).repeat(3)).contains("more than 2"));
        assert!(refused(&"x".repeat(MOST_BYTES + 1)).contains("at most"));
    }

    #[test]
    fn a_private_key_is_told_and_not_repeated() {
        for kind in ["", "RSA ", "EC ", "ENCRYPTED ", "OPENSSH "] {
            let key = format!("-----BEGIN {kind}PRIVATE KEY-----\nc2VjcmV0\n-----END {kind}PRIVATE KEY-----\n");
            let told = refused(&(write("CERTIFICATE", &[1]) + &key));
            assert!(told.contains("private key") && !told.contains("c2Vj"), "{told}");
        }
    }
}
