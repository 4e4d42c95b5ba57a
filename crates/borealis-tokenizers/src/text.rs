//! Text <-> ids, by Hugging Face `tokenizers`.

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};

use borealis_weights::{Segment, parse_json};
use tokenizers::Tokenizer;

use crate::{Result, TokenId, TokenizerError};

const FILE: &str = "tokenizer.json";

/// Runs a call of the `tokenizers` library, which panics on some files that contradict themselves.
fn guard<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|e| TokenizerError::Text(e.to_string().replace('\n', " "))),
        Err(_) => Err(TokenizerError::Text("it contradicts itself".into())),
    }
}

/// The text tokenizer of a checkpoint: immutable, shared.
///
/// Text that looks like a special token is text: nobody gets a control id into a prompt by writing its name.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    inner: Tokenizer,
    /// First id of the text segment and number of its ids.
    start: u32,
    size: u32,
}

impl TextTokenizer {
    /// From the bytes of `tokenizer.json`; its ids are positions in the text `segment`.
    ///
    /// # Errors
    /// [`TokenizerError::Text`] when the file is not a tokenizer, [`TokenizerError::Config`] when it has more ids than the segment.
    pub fn new(json: &[u8], segment: &Segment) -> Result<Self> {
        parse_json(FILE, json)?;
        let mut inner = guard(|| Tokenizer::from_bytes(json))?;
        let highest = inner.get_vocab(true).into_values().max();
        let ids = highest.map_or(0, |id| u64::from(id) + 1);
        if ids == 0 || ids > u64::from(segment.size) {
            let what = format!(
                "has ids up to {}, segment \"{}\" of config.json has {}",
                ids.saturating_sub(1),
                segment.name,
                segment.size
            );
            return Err(TokenizerError::config(FILE, "model.vocab", what));
        }
        // A length is for the engine to limit and to fill up, not for the file.
        guard(|| inner.with_truncation(None).map(|_| ()))?;
        inner.with_padding(None);
        inner.set_encode_special_tokens(true);
        Ok(Self { inner, start: segment.start, size: segment.size })
    }

    /// Text -> ids of the vocabulary. Nothing is added before or after it.
    ///
    /// # Errors
    /// [`TokenizerError::Text`] when a pattern of the file fails on this text.
    pub fn encode(&self, text: &str) -> Result<Vec<TokenId>> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let encoding = guard(|| self.inner.encode_fast(text, false))?;
        encoding.get_ids().iter().map(|id| self.check(*id).map(|()| self.start + id)).collect()
    }

    /// Text -> ids, with what the file's own template puts before and after it (a beginning-of-text id, say).
    ///
    /// # Errors
    /// As [`TextTokenizer::encode`].
    pub fn encode_whole(&self, text: &str) -> Result<Vec<TokenId>> {
        let encoding = guard(|| self.inner.encode_fast(text, true))?;
        encoding.get_ids().iter().map(|id| self.check(*id).map(|()| self.start + id)).collect()
    }

    /// The id of a token by its exact name, special ones included.
    pub fn token(&self, name: &str) -> Option<TokenId> {
        self.inner.token_to_id(name).filter(|id| *id < self.size).map(|id| self.start + id)
    }

    /// Ids -> text. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`TokenizerError::Code`] for an id outside the text segment.
    pub fn decode(&self, ids: &[TokenId]) -> Result<String> {
        let local = ids.iter().map(|id| self.local(*id)).collect::<Result<Vec<_>>>()?;
        self.decode_local(&local)
    }

    /// A decoder for ids that arrive one by one.
    pub fn stream(&self) -> TextStream<&Self> {
        TextStream::new(self)
    }

    fn decode_local(&self, ids: &[u32]) -> Result<String> {
        guard(|| self.inner.decode(ids, false))
    }

    fn local(&self, id: TokenId) -> Result<u32> {
        let outside = || TokenizerError::code("text", id.into(), (self.start + self.size) as usize);
        let local = id.checked_sub(self.start).ok_or_else(outside)?;
        self.check(local).map(|()| local)
    }

    fn check(&self, local: u32) -> Result<()> {
        if local < self.size { Ok(()) } else { Err(TokenizerError::code("text", local.into(), self.size as usize)) }
    }
}

/// Turns ids into text piece by piece; a piece never ends inside a character. The pieces together are [`TextTokenizer::decode`] of all ids.
///
/// Some decoders look at the ids before (spaces between words), so ids are decoded together with those of the piece before, as in
/// Hugging Face's text-generation-inference (`decode_token`).
#[derive(Debug)]
pub struct TextStream<T: Deref<Target = TextTokenizer>> {
    tokenizer: T,
    /// Ids of the last piece and of the next one.
    ids: Vec<u32>,
    /// How many of `ids` belong to the last piece.
    shown: usize,
    /// Text of the last piece's ids.
    text: String,
}

impl<T: Deref<Target = TextTokenizer>> TextStream<T> {
    /// A decoder that borrows the tokenizer or shares it.
    pub fn new(tokenizer: T) -> Self {
        Self { tokenizer, ids: Vec::new(), shown: 0, text: String::new() }
    }

    /// The next id; returns the text that is complete with it, often nothing.
    ///
    /// # Errors
    /// As [`TextTokenizer::decode`].
    pub fn push(&mut self, id: TokenId) -> Result<String> {
        self.ids.push(self.tokenizer.local(id)?);
        let whole = self.tokenizer.decode_local(&self.ids)?;
        // An incomplete character shows as U+FFFD at the end.
        match whole.strip_prefix(&self.text) {
            Some(new) if !new.is_empty() && !new.ends_with('\u{FFFD}') => {
                let piece = new.to_string();
                self.ids.drain(..self.shown);
                self.shown = self.ids.len();
                self.text = self.tokenizer.decode_local(&self.ids)?;
                Ok(piece)
            }
            _ => Ok(String::new()),
        }
    }

    /// The rest, with U+FFFD for a character that was never completed.
    ///
    /// # Errors
    /// As [`TextTokenizer::decode`].
    pub fn finish(self) -> Result<String> {
        let whole = self.tokenizer.decode_local(&self.ids)?;
        Ok(whole.get(self.text.len()..).unwrap_or_default().to_string())
    }
}
