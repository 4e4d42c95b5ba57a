//! Text, images, video and audio to ids of one vocabulary and back.
