//! What a prompt is made of.

use borealis_media::Frame;

/// One piece of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Plain text.
    Text(String),
    /// A control token by its name, such as `<media>`.
    Control(String),
    /// The k-th picture, counted from 0, named in the text: control token `<image_k>`.
    Reference(usize),
    /// A picture of any size: one latent frame.
    Image(Frame),
    /// Frames at the checkpoint's rate, of any one size, and their sound.
    Clip {
        /// The first one becomes a latent frame of its own.
        frames: Vec<Frame>,
        /// Mono samples at the codec's rate, from the time of the first frame; `None` = silent.
        audio: Option<Vec<f32>>,
    },
}

/// Pieces in the order in which the model reads them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prompt {
    /// The pieces.
    pub parts: Vec<Part>,
}

impl Prompt {
    /// Text in which `<IMAGE_0>` and `@image1` (counted from 1) name the first picture: the names become [`Part::Reference`]s, the text around
    /// them loses its outer spaces.
    pub fn from_text(text: &str) -> Self {
        let mut parts = Vec::new();
        let push_text = |parts: &mut Vec<Part>, piece: &str| {
            let piece = piece.trim();
            if !piece.is_empty() {
                parts.push(Part::Text(piece.to_string()));
            }
        };
        let (mut rest, mut at) = (text, 0);
        while let Some(offset) = rest[at..].find(['<', '@']) {
            at += offset;
            match reference(&rest[at..]) {
                Some((index, length)) => {
                    push_text(&mut parts, &rest[..at]);
                    parts.push(Part::Reference(index));
                    rest = &rest[at + length..];
                    at = 0;
                }
                // '<' and '@' are one byte long.
                None => at += 1,
            }
        }
        push_text(&mut parts, rest);
        Self { parts }
    }

    /// The pictures that it names.
    pub fn references(&self) -> impl Iterator<Item = usize> {
        self.parts.iter().filter_map(|p| if let Part::Reference(k) = p { Some(*k) } else { None })
    }
}

/// A picture's name at the start of `text`: its index from 0 and the name's length, bytes.
fn reference(text: &str) -> Option<(usize, usize)> {
    let (prefix, base, end) = if text.starts_with('<') { ("<IMAGE_", 0, ">") } else { ("@image", 1, "") };
    let head = text.get(..prefix.len())?;
    let digits = text[prefix.len()..].bytes().take_while(u8::is_ascii_digit).count();
    let number = &text[prefix.len()..prefix.len() + digits];
    let known = head.eq_ignore_ascii_case(prefix) && text[prefix.len() + digits..].starts_with(end);
    let index = number.parse::<usize>().ok().filter(|_| known && digits <= 4)?.checked_sub(base)?;
    Some((index, prefix.len() + digits + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(s: &str) -> Part {
        Part::Text(s.into())
    }

    #[test]
    fn names_of_pictures_are_found() {
        let parts = |s| Prompt::from_text(s).parts;
        assert_eq!(parts("a red ball"), [text("a red ball")]);
        assert_eq!(
            parts(" a ball like <IMAGE_0>, at dusk "),
            [text("a ball like"), Part::Reference(0), text(", at dusk")]
        );
        assert_eq!(parts("@image1 on @Image2"), [Part::Reference(0), text("on"), Part::Reference(1)]);
        assert_eq!(parts("<IMAGE_6><image_12>"), [Part::Reference(6), Part::Reference(12)]);
        for plain in [
            "<IMAGE_",
            "<IMAGE_>",
            "<IMAGE_x>",
            "@image0",
            "@imag",
            "me@image.org",
            "a < b @",
            "<IMAGE_99999>",
            "<é",
            "@imagé1",
        ] {
            assert_eq!(parts(plain), [text(plain)], "{plain}");
        }
        assert!(parts("  ").is_empty());
        assert_eq!(Prompt::from_text("@image3 <IMAGE_1>").references().collect::<Vec<_>>(), [2, 1]);
    }

    proptest! {
        #[test]
        fn no_text_is_lost(pieces in proptest::collection::vec(("[a-z<@é_]{0,9}", 0usize..9), 0..6)) {
            let written: String = pieces.iter().map(|(t, k)| format!(" {t} <IMAGE_{k}> ")).collect();
            let mut wanted = Vec::new();
            for (t, k) in &pieces {
                if !t.is_empty() {
                    wanted.push(text(t));
                }
                wanted.push(Part::Reference(*k));
            }
            prop_assert_eq!(Prompt::from_text(&written).parts, wanted);
        }

        #[test]
        fn any_text_is_taken(s in "\\PC{0,60}") {
            Prompt::from_text(&s);
        }
    }
}
