//! How open checkpoints are asked: prompts, picture blocks and default sampling of each family, as data (`weights.md`, "Open checkpoints").

use borealis_weights::SamplingSpec;

/// One piece of a prompt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Piece {
    /// A control id: by its name in the manifest, else by its name in `tokenizer.json`.
    Id(&'static str, &'static str),
    /// Fixed words; they are cut into ids together with the words beside them.
    Text(&'static str),
    /// The user's words.
    Words,
    /// The user's words with what `tokenizer.json` itself puts before and after a text.
    Whole,
    /// Rows and columns of the picture, `h*w`.
    Size,
    /// Width and height of the picture in pixels, `WxH`.
    Pixels,
    /// The token that says how many units of rows the picture has; its name has this number for none.
    Rows(usize),
    /// The same for columns.
    Columns(usize),
    /// The given pictures: their blocks of ids, or the rows of the vision tower.
    Picture,
}

/// How a picture lies among ids: `before`, its rows, `after`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    pub before: &'static [Piece],
    /// Stands after every row, or only between rows.
    pub row_end: Option<(Piece, RowEnd)>,
    pub after: &'static [Piece],
    /// Rows and columns are multiples of this.
    pub unit: usize,
}

/// Where the end of a row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowEnd {
    /// After each row, the last one too.
    All,
    /// Between rows only.
    Between,
}

/// What the unconditional branch of guidance reads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Without {
    /// The same prompt with other words: these, unless the user gives some.
    Words(&'static str),
    /// Another prompt.
    Prompt(&'static [Piece]),
    /// The same prompt, all of its ids but the first and the last replaced by this one.
    Padded(Piece),
}

/// How a picture is asked for. The block's `before` follows the prompt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draw {
    pub prompt: &'static [Piece],
    pub without: Without,
    /// Default scale of guidance, and default sampling of picture ids.
    pub guidance: f32,
    pub sampling: SamplingSpec,
}

/// One family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    /// `family` of the manifests that it is for.
    pub family: &'static str,
    pub block: Option<Block>,
    pub draw: Option<Draw>,
    /// How a picture is asked for that starts from given ones.
    pub edit: Option<Draw>,
    /// How text is asked for; a [`Piece::Picture`] in it is left out when no picture is given.
    pub write: &'static [Piece],
    /// Picture ids can be drawn as text, as the reference leaves it.
    pub mixed: bool,
}

const BOS: Piece = Piece::Id("<bos>", "<s>");
const EMU_END: Piece = Piece::Id("<eol>", "<|extra_200|>");
const EMU_BEFORE: &[Piece] =
    &[Piece::Id("<boi>", "<|image start|>"), Piece::Size, Piece::Id("<img>", "<|image token|>")];
const EMU_BOS: Piece = Piece::Id("<bos>", "<|extra_203|>");
/// Beginning of an answer.
const EMU_ANSWER: Piece = Piece::Id("", "<|extra_100|>");
/// End of a turn.
const LUMINA_END: Piece = Piece::Id("<sep>", "<reserved08706>");
/// What the authors' examples of Emu3-Gen lead away from.
const EMU3_NEGATIVE: &str = "lowres, bad anatomy, bad hands, text, error, missing fingers, extra digit, fewer digits, cropped, worst quality, low quality, \
normal quality, jpeg artifacts, signature, watermark, username, blurry.";
const JANUS_SYSTEM: &str = "You are a helpful language and vision assistant. You are able to understand the visual content that the user provides, and assist \
the user with a variety of tasks using natural language.\n\n";

const fn sampling(temperature: f32, top_k: usize, top_p: f32) -> SamplingSpec {
    SamplingSpec { temperature, top_k, top_p, min_p: 0.0, repetition_penalty: 1.0 }
}

/// Text checkpoints: the user's words, as the tokenizer frames them.
const PLAIN: Recipe = Recipe { family: "", block: None, draw: None, edit: None, write: &[Piece::Whole], mixed: true };

const RECIPES: [Recipe; 5] = [
    Recipe {
        family: "emu3",
        block: Some(Block {
            before: EMU_BEFORE,
            row_end: Some((EMU_END, RowEnd::All)),
            after: &[Piece::Id("<eof>", "<|extra_201|>"), Piece::Id("<eoi>", "<|image end|>")],
            unit: 1,
        }),
        draw: Some(Draw {
            prompt: &[EMU_BOS, Piece::Words],
            without: Without::Words(EMU3_NEGATIVE),
            guidance: 3.0,
            sampling: sampling(1.0, 2048, 1.0),
        }),
        edit: None,
        write: &[
            EMU_BOS,
            Piece::Text("You are a helpful assistant. USER: "),
            Piece::Picture,
            Piece::Words,
            Piece::Text(". ASSISTANT:"),
        ],
        mixed: true,
    },
    Recipe {
        family: "emu3.5",
        block: Some(Block {
            before: EMU_BEFORE,
            row_end: Some((EMU_END, RowEnd::Between)),
            after: &[Piece::Id("<eoi>", "<|image end|>")],
            unit: 1,
        }),
        draw: Some(Draw {
            prompt: &[
                EMU_BOS,
                Piece::Text("You are a helpful assistant for t2i task. USER: "),
                Piece::Words,
                Piece::Text(" ASSISTANT: "),
                EMU_ANSWER,
            ],
            without: Without::Prompt(&[
                EMU_BOS,
                Piece::Text("You are a helpful assistant. USER:  ASSISTANT: "),
                EMU_ANSWER,
            ]),
            guidance: 5.0,
            sampling: sampling(1.0, 5120, 1.0),
        }),
        edit: Some(Draw {
            prompt: &[
                EMU_BOS,
                Piece::Text("You are a helpful assistant for x2i task. USER: "),
                Piece::Picture,
                Piece::Words,
                Piece::Text(" ASSISTANT: "),
                EMU_ANSWER,
            ],
            without: Without::Prompt(&[
                EMU_BOS,
                Piece::Text("You are a helpful assistant. USER: "),
                Piece::Picture,
                Piece::Text(" ASSISTANT: "),
                EMU_ANSWER,
            ]),
            guidance: 3.0,
            sampling: sampling(1.0, 5120, 1.0),
        }),
        write: &[
            EMU_BOS,
            Piece::Text("You are a helpful assistant. USER: "),
            Piece::Words,
            Piece::Picture,
            Piece::Text(" ASSISTANT: "),
            EMU_ANSWER,
        ],
        mixed: false,
    },
    Recipe {
        family: "chameleon",
        block: Some(Block {
            before: &[Piece::Id("<boi>", "<racm3:break>")],
            row_end: None,
            after: &[Piece::Id("<eoi>", "<eoss>")],
            unit: 1,
        }),
        draw: Some(Draw {
            prompt: &[BOS, Piece::Words],
            without: Without::Prompt(&[BOS]),
            guidance: 3.0,
            sampling: sampling(0.7, 0, 0.9),
        }),
        edit: None,
        write: &[BOS, Piece::Picture, Piece::Words, Piece::Id("<sep>", "<reserved08706>")],
        mixed: false,
    },
    // Chameleon's ids, pictures of any size in units of two rows and two columns; the unconditional branch begins with the picture.
    Recipe {
        family: "lumina-mgpt",
        block: Some(Block {
            before: &[Piece::Id("<boi>", "<racm3:break>"), Piece::Rows(8800), Piece::Columns(8800)],
            row_end: Some((Piece::Id("", "<reserved08799>"), RowEnd::All)),
            after: &[Piece::Id("<eoi>", "<eoss>")],
            unit: 2,
        }),
        draw: Some(Draw {
            prompt: &[
                BOS,
                Piece::Text("Generate an image of "),
                Piece::Pixels,
                Piece::Text(" according to the following prompt:\n"),
                Piece::Words,
                LUMINA_END,
            ],
            without: Without::Prompt(&[]),
            guidance: 4.0,
            sampling: sampling(1.0, 2000, 1.0),
        }),
        edit: None,
        write: &[BOS, Piece::Words, LUMINA_END],
        mixed: false,
    },
    Recipe {
        family: "janus",
        block: Some(Block {
            before: &[Piece::Id("<boi>", "<begin_of_image>")],
            row_end: None,
            after: &[Piece::Id("<eoi>", "<end_of_image>")],
            unit: 1,
        }),
        draw: Some(Draw {
            prompt: &[BOS, Piece::Text("<|User|>: "), Piece::Words, Piece::Text("\n\n<|Assistant|>:")],
            without: Without::Padded(Piece::Id("<pad>", "<｜▁pad▁｜>")),
            guidance: 5.0,
            sampling: sampling(1.0, 0, 1.0),
        }),
        edit: None,
        write: &[
            BOS,
            Piece::Text(JANUS_SYSTEM),
            Piece::Text("<|User|>: "),
            Piece::Picture,
            Piece::Text("\n"),
            Piece::Words,
            Piece::Text("\n\n<|Assistant|>:"),
        ],
        mixed: false,
    },
];

/// The recipe of a family.
pub(crate) fn recipe(family: &str) -> Recipe {
    RECIPES.iter().find(|r| r.family == family).copied().unwrap_or(PLAIN)
}
