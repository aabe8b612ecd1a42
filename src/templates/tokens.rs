//! SQL cut into words and signs, as PostgreSQL's lexer does it (src/backend/parser/scan.l).

/// Where a migration breaks which rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// From 1 on.
    pub(super) line: usize,
    pub(super) rule: String,
}

pub(super) fn problem(line: usize, rule: &str) -> Problem {
    Problem { line, rule: rule.to_owned() }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// In small letters.
    Word(String),
    /// A name in double quotes, without them.
    Quoted(String),
    /// A text in quotation marks or between `$$`, or a number; as it is written.
    Text(String),
    Sign(char),
}

impl Token {
    pub(super) fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }
}

/// Words and signs with their lines; comments are left out.
pub(super) fn tokens(sql: &str) -> Result<Vec<(usize, Token)>, Problem> {
    let mut reader = Reader { rest: sql, line: 1 };
    let mut tokens = Vec::new();
    while let Some(letter) = reader.rest.chars().next() {
        let line = reader.line;
        let token = match letter {
            '\0' => return Err(problem(line, "has a character NUL")),
            '\\' => return Err(problem(line, "`\\` begins a command of psql, which is no SQL")),
            '-' if reader.rest.starts_with("--") => {
                reader.skip(reader.rest.find(['\n', '\r']).unwrap_or(reader.rest.len()));
                continue;
            }
            '/' if reader.rest.starts_with("/*") => {
                reader.comment()?;
                continue;
            }
            '\'' => {
                let escapes = matches!(tokens.last(), Some((_, Token::Word(word))) if word == "e");
                Token::Text(reader.quote('\'', escapes)?.to_owned())
            }
            '"' => Token::Quoted(reader.quote('"', false)?.trim_matches('"').to_owned()),
            '$' => match reader.dollar_tag() {
                Some(tag) => Token::Text(reader.dollar_quote(&tag)?.to_owned()),
                None => reader.sign(),
            },
            letter if letter.is_alphabetic() || letter == '_' => Token::Word(reader.word().to_lowercase()),
            letter if letter.is_ascii_digit() => Token::Text(reader.number().to_owned()),
            letter if letter.is_whitespace() => {
                reader.skip(letter.len_utf8());
                continue;
            }
            _ => reader.sign(),
        };
        tokens.push((line, token));
    }
    Ok(tokens)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    fn skip(&mut self, bytes: usize) -> &'a str {
        let (skipped, rest) = self.rest.split_at(bytes);
        self.line += skipped.matches('\n').count();
        self.rest = rest;
        skipped
    }

    fn sign(&mut self) -> Token {
        let sign = self.rest.chars().next().unwrap_or(' ');
        self.skip(sign.len_utf8());
        Token::Sign(sign)
    }

    fn word(&mut self) -> &'a str {
        let goes_on = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '$';
        let end = self.rest.find(|letter| !goes_on(letter)).unwrap_or(self.rest.len());
        self.skip(end)
    }

    /// What is no number, such as `1a`, is for PostgreSQL to refuse.
    fn number(&mut self) -> &'a str {
        let goes_on = |letter: char| letter.is_alphanumeric() || letter == '_' || letter == '.';
        let end = self.rest.find(|letter| !goes_on(letter)).unwrap_or(self.rest.len());
        self.skip(end)
    }

    /// Comments may stand in comments.
    fn comment(&mut self) -> Result<(), Problem> {
        let (begun, mut depth) = (self.line, 0_usize);
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.skip(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.skip(2);
                if depth == 0 {
                    return Ok(());
                }
            } else if let Some(letter) = self.rest.chars().next() {
                self.skip(letter.len_utf8());
            } else {
                return Err(problem(begun, "begins a comment that does not end"));
            }
        }
    }

    /// A text or name with its quotation marks; a doubled mark stands for one, and after `E` one behind `\` does.
    fn quote(&mut self, mark: char, escapes: bool) -> Result<&'a str, Problem> {
        let begun = self.line;
        let mut letters = self.rest.char_indices().skip(1).peekable();
        while let Some((at, letter)) = letters.next() {
            if escapes && letter == '\\' {
                letters.next();
            } else if letter == mark && letters.next_if(|(_, next)| *next == mark).is_none() {
                return Ok(self.skip(at + 1));
            }
        }
        Err(problem(begun, "begins a text or name in quotation marks that does not end"))
    }

    /// `$$` or `$tag$`, where one begins here.
    fn dollar_tag(&self) -> Option<String> {
        let inner = &self.rest[1..];
        let end = inner.find('$')?;
        let tag = &inner[..end];
        let named = tag.chars().all(|letter| letter.is_alphanumeric() || letter == '_');
        (named && !tag.starts_with(|first: char| first.is_ascii_digit())).then(|| format!("${tag}$"))
    }

    fn dollar_quote(&mut self, tag: &str) -> Result<&'a str, Problem> {
        match self.rest[tag.len()..].find(tag) {
            Some(end) => Ok(self.skip(end + 2 * tag.len())),
            None => Err(problem(self.line, &format!("begins a text with {tag} that does not end"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_read_to_its_end() {
        use proptest::prelude::*;
        proptest!(|(sql in "[a-z$'\"/*;\\\\\n -]{0,60}")| {
            let _ = tokens(&sql);
        });
    }
}
