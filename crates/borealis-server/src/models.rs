//! The names that can be asked for.

use crate::config::CheckpointInfo;
use crate::error::{ApiError, ApiErrorKind};
use crate::types::{JobKind, ModelInfo};

/// xAI's names: (id, aliases, pictures, clips, seconds since 1970). They are served by the default checkpoint.
const XAI: [(&str, &[&str], bool, bool, i64); 6] = [
    ("grok-imagine-image", &["grok-imagine-image-2026-03-02", "grok-2-image"], true, false, 1_772_409_600),
    ("grok-imagine-image-quality", &["grok-imagine-image-pro"], true, false, 1_772_409_600),
    ("grok-imagine-image-2.0", &[], true, false, 1_785_542_400),
    (
        "grok-imagine-video",
        &["grok-imagine-video-beta", "grok-imagine-text-to-video", "grok-imagine-image-to-video"],
        false,
        true,
        1_769_558_400,
    ),
    (
        "grok-imagine-video-1.5",
        &["grok-imagine-video-1.5-preview", "grok-imagine-video-1.5-2026-05-30"],
        false,
        true,
        1_780_099_200,
    ),
    ("grok-imagine-video-1.5-lite", &[], false, true, 1_780_099_200),
];

/// All names: xAI's for the first checkpoint, and every checkpoint's own.
pub(crate) fn all(checkpoints: &[CheckpointInfo]) -> Vec<ModelInfo> {
    let Some(default) = checkpoints.first() else { return Vec::new() };
    let xai = XAI.iter().filter(|(_, _, image, video, _)| (*image && default.image) || (*video && default.video));
    let xai = xai.map(|(id, aliases, image, video, created)| ModelInfo {
        id: (*id).into(),
        aliases: aliases.iter().map(|alias| (*alias).into()).collect(),
        image: *image,
        video: *video,
        owned_by: "xai",
        created: *created,
        checkpoint: default.name.clone(),
    });
    let own = checkpoints.iter().map(|checkpoint| ModelInfo {
        id: checkpoint.name.clone(),
        aliases: Vec::new(),
        image: checkpoint.image,
        video: checkpoint.video,
        owned_by: "borealis",
        created: 1_795_219_200,
        checkpoint: checkpoint.name.clone(),
    });
    xai.chain(own).collect()
}

/// The model of that name or alias; without a name the usual one for what is made.
pub(crate) fn resolve<'a>(
    models: &'a [ModelInfo],
    name: Option<&str>,
    kind: JobKind,
) -> Result<&'a ModelInfo, ApiError> {
    let (usual, makes, thing): (_, fn(&ModelInfo) -> bool, _) = match kind.is_still() {
        true => ("grok-imagine-image", |m| m.image, "pictures"),
        false => ("grok-imagine-video", |m| m.video, "clips"),
    };
    let name = name.map(str::trim).filter(|name| !name.is_empty());
    let same = |m: &&ModelInfo| {
        let wanted = name.unwrap_or(usual);
        m.id.eq_ignore_ascii_case(wanted) || m.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(wanted))
    };
    let found = models.iter().find(same).or_else(|| models.iter().find(|m| name.is_none() && makes(m)));
    let Some(model) = found else {
        let name = name.unwrap_or(usual);
        let shown: String = name.chars().take(80).collect();
        let known: Vec<_> = models.iter().filter(|m| makes(m)).map(|m| m.id.as_str()).collect();
        let message = format!("the model \"{shown}\" does not exist: use {}", known.join(", "));
        return Err(ApiError { field: Some("model".into()), ..ApiError::new(ApiErrorKind::NotFound, message) });
    };
    if !makes(model) {
        let known: Vec<_> = models.iter().filter(|m| makes(m)).map(|m| m.id.as_str()).collect();
        let message = format!("the model \"{}\" makes no {thing}: use {}", model.id, known.join(", "));
        return Err(ApiError::invalid("model", message));
    }
    Ok(model)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_find_their_model() {
        let models = all(&[
            CheckpointInfo { name: "borealis-mini".into(), image: true, video: true },
            CheckpointInfo { name: "pictures".into(), image: true, video: false },
        ]);
        let id =
            |name: Option<&str>, kind| resolve(&models, name, kind).map(|m| (m.id.as_str(), m.checkpoint.as_str()));
        assert_eq!(id(None, JobKind::Video), Ok(("grok-imagine-video", "borealis-mini")));
        assert_eq!(id(Some(""), JobKind::Image), Ok(("grok-imagine-image", "borealis-mini")));
        assert_eq!(
            id(Some("grok-imagine-image-pro"), JobKind::EditImage),
            Ok(("grok-imagine-image-quality", "borealis-mini"))
        );
        assert_eq!(id(Some("Grok-Imagine-Video-Beta"), JobKind::Extend), Ok(("grok-imagine-video", "borealis-mini")));
        assert_eq!(id(Some("pictures"), JobKind::Image), Ok(("pictures", "pictures")));
        let kind = |name, kind| resolve(&models, Some(name), kind).unwrap_err().kind;
        assert_eq!(kind("gpt-9", JobKind::Image), ApiErrorKind::NotFound);
        assert_eq!(kind("pictures", JobKind::Video), ApiErrorKind::InvalidArgument);
        assert_eq!(kind("grok-imagine-image", JobKind::Video), ApiErrorKind::InvalidArgument);
    }
}
