//! The filter of `ListFiles`: `name = "a.png" AND NOT (size_bytes > 1000 OR public_url = null)`.
//!
//! Fields: file_id, name (or file_name), size_bytes, content_type, created_at, expires_at, upload_status, public_url, public_url_expires_at. Times are RFC 3339
//! in UTC, which order as texts do. A field that is not set equals `null` and nothing else.

use crate::service::{ApiError, StoredFile};

/// Longest filter, bytes; it bounds the depth of the recursion, too.
const MAX_LEN: usize = 1000;

/// A filter that has been read.
#[derive(Debug)]
pub(super) enum Filter {
    Is { field: Field, op: Op, value: Option<Value> },
    Not(Box<Filter>),
    All(Vec<Filter>),
    Any(Vec<Filter>),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Field {
    Id,
    Name,
    Size,
    ContentType,
    CreatedAt,
    ExpiresAt,
    Status,
    PublicUrl,
    PublicExpiresAt,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    NotEqual,
    Less,
    AtMost,
    Greater,
    AtLeast,
}

#[derive(Debug, Clone, PartialEq, PartialOrd)]
pub(super) enum Value {
    Number(f64),
    Text(String),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Value(Value),
    Op(Op),
    Open,
    Close,
}

fn wrong(what: impl std::fmt::Display) -> ApiError {
    ApiError::invalid(
        "filter",
        format!("filter cannot be read: {what}; write for example: name = \"a.png\" AND size_bytes > 1000"),
    )
}

impl Filter {
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        if text.len() > MAX_LEN {
            return Err(wrong(format_args!("it has {} bytes, at most {MAX_LEN} are allowed", text.len())));
        }
        let mut tokens = tokens(text)?.into_iter().peekable();
        let filter = any(&mut tokens)?;
        match tokens.next() {
            None => Ok(filter),
            Some(token) => Err(wrong(format_args!("{token:?} comes after its end"))),
        }
    }

    pub(super) fn matches(&self, file: &StoredFile) -> bool {
        match self {
            Self::Not(inner) => !inner.matches(file),
            Self::All(parts) => parts.iter().all(|part| part.matches(file)),
            Self::Any(parts) => parts.iter().any(|part| part.matches(file)),
            Self::Is { field, op, value } => match (field.of(file), value) {
                (Some(a), Some(b)) => op.holds(&a, b),
                // Nothing is neither less nor more than something.
                (a, b) => match op {
                    Op::Equal => a.is_none() && b.is_none(),
                    Op::NotEqual => a.is_some() != b.is_some(),
                    _ => false,
                },
            },
        }
    }
}

impl Op {
    fn holds(self, a: &Value, b: &Value) -> bool {
        match self {
            Self::Equal => a == b,
            Self::NotEqual => a != b,
            Self::Less => a < b,
            Self::AtMost => a <= b,
            Self::Greater => a > b,
            Self::AtLeast => a >= b,
        }
    }
}

impl Field {
    fn parse(name: &str) -> Result<Self, ApiError> {
        Ok(match name {
            "file_id" => Self::Id,
            "name" | "file_name" => Self::Name,
            "size_bytes" => Self::Size,
            "content_type" => Self::ContentType,
            "created_at" => Self::CreatedAt,
            "expires_at" => Self::ExpiresAt,
            "upload_status" => Self::Status,
            "public_url" => Self::PublicUrl,
            "public_url_expires_at" => Self::PublicExpiresAt,
            _ => return Err(wrong(format_args!("there is no field {name:?}"))),
        })
    }

    fn of(self, file: &StoredFile) -> Option<Value> {
        let text = |t: &String| Some(Value::Text(t.clone()));
        // prost's timestamps are written as RFC 3339 in UTC.
        let time = |ms: i64| Some(Value::Text(super::convert::timestamp(ms).to_string()));
        match self {
            Self::Id => text(&file.id),
            Self::Name => text(&file.filename),
            Self::Size => Some(Value::Number(file.size as f64)),
            Self::ContentType => text(&file.mime),
            Self::CreatedAt => time(file.created_at),
            Self::ExpiresAt => file.expires_at.and_then(time),
            // A file is listed only when all of it is there.
            Self::Status => Some(Value::Text("complete".into())),
            Self::PublicUrl => file.public_url.as_ref().and_then(text),
            Self::PublicExpiresAt => file.public_expires_at.and_then(time),
        }
    }
}

type Tokens = std::iter::Peekable<std::vec::IntoIter<Token>>;

fn take_word(tokens: &mut Tokens, word: &str) -> bool {
    tokens.next_if(|t| matches!(t, Token::Word(w) if w.eq_ignore_ascii_case(word))).is_some()
}

fn any(tokens: &mut Tokens) -> Result<Filter, ApiError> {
    let mut parts = vec![all(tokens)?];
    while take_word(tokens, "OR") {
        parts.push(all(tokens)?);
    }
    Ok(Filter::Any(parts))
}

fn all(tokens: &mut Tokens) -> Result<Filter, ApiError> {
    let mut parts = vec![one(tokens)?];
    while take_word(tokens, "AND") {
        parts.push(one(tokens)?);
    }
    Ok(Filter::All(parts))
}

fn one(tokens: &mut Tokens) -> Result<Filter, ApiError> {
    if take_word(tokens, "NOT") {
        return Ok(Filter::Not(Box::new(one(tokens)?)));
    }
    match tokens.next() {
        Some(Token::Open) => {
            let inner = any(tokens)?;
            match tokens.next() {
                Some(Token::Close) => Ok(inner),
                _ => Err(wrong("a bracket is not closed")),
            }
        }
        Some(Token::Word(name)) => {
            let field = Field::parse(&name)?;
            let Some(Token::Op(op)) = tokens.next() else {
                return Err(wrong(format_args!("no =, !=, <, <=, > or >= follows {name}")));
            };
            let value = match tokens.next() {
                Some(Token::Value(value)) => Some(value),
                Some(Token::Word(word)) if word.eq_ignore_ascii_case("null") => None,
                _ => return Err(wrong(format_args!("no number, \"text\" or null follows {name}"))),
            };
            Ok(Filter::Is { field, op, value })
        }
        Some(token) => Err(wrong(format_args!("{token:?} is no condition"))),
        None => Err(wrong("it ends too early")),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, ApiError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '"' | '\'' => quoted(rest, first)?,
            '=' | '!' | '<' | '>' => operator(rest)?,
            c if c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.') => word(rest),
            c => return Err(wrong(format_args!("{c:?} means nothing here"))),
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

fn quoted(rest: &str, quote: char) -> Result<(Token, usize), ApiError> {
    let inner = &rest[1..];
    let end = inner.find(quote).ok_or_else(|| wrong("a text is not closed"))?;
    Ok((Token::Value(Value::Text(inner[..end].to_owned())), end + 2))
}

fn operator(rest: &str) -> Result<(Token, usize), ApiError> {
    let known = [
        ("!=", Op::NotEqual),
        ("<=", Op::AtMost),
        (">=", Op::AtLeast),
        ("<", Op::Less),
        (">", Op::Greater),
        ("=", Op::Equal),
    ];
    let found = known.into_iter().find(|(text, _)| rest.starts_with(text));
    found.map(|(text, op)| (Token::Op(op), text.len())).ok_or_else(|| wrong("a lone ! means nothing: write != or NOT"))
}

fn word(rest: &str) -> (Token, usize) {
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))).unwrap_or(rest.len());
    let word = &rest[..end];
    let token = word.parse().ok().filter(|n: &f64| n.is_finite()).map(|n| Token::Value(Value::Number(n)));
    (token.unwrap_or_else(|| Token::Word(word.to_owned())), end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file() -> StoredFile {
        StoredFile {
            id: "file_1".into(),
            filename: "a.png".into(),
            purpose: String::new(),
            mime: "image/png".into(),
            sha256: String::new(),
            size: 2000,
            created_at: 1_773_532_800_000, // 2026-03-15T00:00:00Z
            expires_at: None,
            public_url: Some("http://host/p".into()),
            public_expires_at: None,
        }
    }

    #[test]
    fn conditions_mean_what_the_sdk_documents() {
        for (filter, matches) in [
            (r#"content_type = "image/png""#, true),
            (r#"name = "report.pdf""#, false),
            ("size_bytes > 1048576", false),
            ("size_bytes>=2000", true),
            ("public_url != null", true),
            ("expires_at = null", true),
            ("expires_at < \"2030\"", false),
            (r#"content_type = "image/png" AND created_at > "2026-03-14T00:00:00Z""#, true),
            (r#"content_type = "image/png" and created_at > "2026-03-15T00:00:00Z""#, false),
            ("NOT (size_bytes < 10 OR name = 'a.png')", false),
            ("size_bytes < 10 OR name = 'a.png' AND file_id = 'file_1'", true),
            ("upload_status != 'complete'", false),
        ] {
            assert_eq!(Filter::parse(filter).unwrap().matches(&file()), matches, "{filter}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for filter in
            ["", "size", "size_bytes >", "colour = 1", "name = \"a", "(name = 'a'", "name = 'a')", "name ! 'a'", "AND"]
        {
            let error = Filter::parse(filter).unwrap_err();
            assert_eq!(error.field.as_deref(), Some("filter"), "{filter}");
        }
        assert!(Filter::parse(&"(".repeat(MAX_LEN + 1)).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[ ()\"'=!<>a-z_0-9é.-]{0,60}|\\(*") {
            if let Ok(filter) = Filter::parse(&text) {
                filter.matches(&file());
            }
        }
    }
}
