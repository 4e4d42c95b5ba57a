//! Ids of open checkpoints to text and pictures, on the decoder thread.

use std::sync::Arc;

use borealis_tokenizers::vq::{PictureIds, Pictures};
use borealis_tokenizers::{Output, TextStream, TextTokenizer};

use crate::decode::Decode;
use crate::error::Result;

/// Ids to text, piece by piece; an id that ends the text is not shown.
pub(super) struct TextDecoder {
    stream: Option<TextStream<Arc<TextTokenizer>>>,
    stops: Vec<u32>,
}

impl TextDecoder {
    pub fn new(tokenizer: Arc<TextTokenizer>, stops: Vec<u32>) -> Self {
        Self { stream: Some(TextStream::new(tokenizer)), stops }
    }
}

/// What there is of a text.
fn shown(text: String) -> Vec<Output> {
    if text.is_empty() { Vec::new() } else { vec![Output::Text(text)] }
}

impl Decode for TextDecoder {
    fn push(&mut self, ids: &[Vec<u32>]) -> Result<Vec<Output>> {
        let mut text = String::new();
        for &id in ids.iter().flatten().filter(|id| !self.stops.contains(id)) {
            if let Some(stream) = &mut self.stream {
                text.push_str(&stream.push(id)?);
            }
        }
        Ok(shown(text))
    }

    fn finish(&mut self) -> Result<Vec<Output>> {
        Ok(self.stream.take().map(|stream| stream.finish()).transpose()?.map(shown).unwrap_or_default())
    }
}

/// Ids to a picture, when all are there.
pub(super) struct PictureDecoder {
    pictures: Arc<Pictures>,
    picture: PictureIds,
}

impl PictureDecoder {
    pub fn new(pictures: Arc<Pictures>, (rows, columns): (usize, usize)) -> Self {
        Self { pictures, picture: PictureIds { rows, columns, ids: Vec::with_capacity(rows * columns) } }
    }
}

impl Decode for PictureDecoder {
    fn push(&mut self, ids: &[Vec<u32>]) -> Result<Vec<Output>> {
        let all = self.picture.rows * self.picture.columns;
        self.picture.ids.extend(ids.iter().flatten());
        if self.picture.ids.len() < all {
            return Ok(Vec::new());
        }
        Ok(vec![Output::Frame(self.pictures.decode(&self.picture)?)])
    }

    fn finish(&mut self) -> Result<Vec<Output>> {
        Ok(Vec::new())
    }
}
