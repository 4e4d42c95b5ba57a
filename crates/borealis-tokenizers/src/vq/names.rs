//! How the families name the layers of their picture tokenizers: the only place where their layouts differ.

/// The layer names of one layout.
#[derive(Debug)]
pub(crate) struct Names {
    /// Levels of the encoder and of the decoder, and the part between them.
    pub down: &'static str,
    pub up: &'static str,
    pub middle: &'static str,
    /// The decoder's levels are counted from the coarsest.
    pub up_from_coarsest: bool,
    /// Projections of an attention block: query, key, value, output.
    pub attention: [&'static str; 4],
    /// These are matrices, not 1x1 convolutions.
    pub linear_attention: bool,
    /// An attention block's norm stands beside it (`attn_norms.i`, `attn_norm`), not in it (`attn.i.norm`).
    pub norms_beside: bool,
}

/// Taming VQGAN (Esser et al. 2021), and what was built on it: Chameleon, Emu3.5's IBQ.
pub(crate) const TAMING: Names = Names {
    down: "down",
    up: "up",
    middle: "mid",
    up_from_coarsest: false,
    attention: ["q", "k", "v", "proj_out"],
    linear_attention: false,
    norms_beside: false,
};

/// Janus as transformers writes it.
pub(crate) const JANUS: Names = Names { up_from_coarsest: true, ..TAMING };

/// Emu3 as transformers writes it.
pub(crate) const EMU3: Names = Names {
    down: "down_block.down",
    up: "up_block.up",
    middle: "middle_block",
    up_from_coarsest: false,
    attention: ["q_proj", "k_proj", "v_proj", "out_proj"],
    linear_attention: true,
    norms_beside: true,
};

impl Names {
    /// The attention block after block `i` of a level, and its norm.
    pub fn of_level(&self, level: &str, i: usize) -> (String, String) {
        let block = format!("{level}.attn.{i}");
        let norm = if self.norms_beside { format!("{level}.attn_norms.{i}") } else { format!("{block}.norm") };
        (block, norm)
    }

    /// The attention block of the middle part, and its norm.
    pub fn of_middle(&self, middle: &str) -> (String, String) {
        let block = format!("{middle}.attn_1");
        let norm = if self.norms_beside { format!("{middle}.attn_norm") } else { format!("{block}.norm") };
        (block, norm)
    }
}
