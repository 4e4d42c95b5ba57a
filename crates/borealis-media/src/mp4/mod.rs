//! MP4 out: H.264 and AAC of exactly the same duration, encoded on a thread of its own.

mod audio;
mod mux;
mod session;
mod spec;
mod video;

use std::io::Write;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use spec::{Quality, VideoSpec};
pub use video::encoders;
pub(crate) use video::is_dry;

use crate::error::{MediaError, Result};
use crate::frame::Frame;
use mux::{Live, Mux};
use session::Session;

/// Frames and blocks of sound that may wait for the encoder; more make the caller wait.
const QUEUE: usize = 8;
/// Longest block of sound in one message, samples.
const BLOCK: usize = 48_000;

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Frames.
    pub frames: u64,
    /// Seconds of video, and of sound when there is some.
    pub seconds: f64,
    /// The encoder that was used.
    pub encoder: String,
    /// Seconds that the encoder's thread worked: conversion of colours, both encoders, writing.
    pub busy_seconds: f64,
    /// Why the live stream of [`Mp4Writer::tee`] ended early; the file is whole nevertheless.
    pub live_error: Option<MediaError>,
}

enum Message {
    Frame(Frame),
    Audio(Vec<f32>),
    Finish,
}

/// Writes one MP4. Frames and sound may be pushed in any order and in pieces of any size; the encoder works on its own
/// thread while the caller makes the next ones. Dropping a writer that is not finished removes what it wrote.
pub struct Mp4Writer {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<Result<Written>>>,
    spec: VideoSpec,
    encoder: String,
    frames: u64,
}

impl Mp4Writer {
    /// A file with its index in front (plays while it loads). It is written beside `path` under a temporary name and
    /// takes its place in [`Mp4Writer::finish`].
    pub fn create(path: impl AsRef<Path>, spec: VideoSpec) -> Result<Self> {
        Self::start(Some(path.as_ref()), None, spec)
    }

    /// A fragmented MP4 to any `Write`; the first media leave after half a second of video.
    pub fn stream(to: Box<dyn Write + Send>, spec: VideoSpec) -> Result<Self> {
        Self::start(None, Some(to), spec)
    }

    /// One encode to both: a file as of [`Mp4Writer::create`] and a live stream as of [`Mp4Writer::stream`]. When the
    /// stream's reader goes away, the file is still completed (see [`Written::live_error`]).
    pub fn tee(path: impl AsRef<Path>, live: Box<dyn Write + Send>, spec: VideoSpec) -> Result<Self> {
        Self::start(Some(path.as_ref()), Some(live), spec)
    }

    fn start(path: Option<&Path>, live: Option<Box<dyn Write + Send>>, spec: VideoSpec) -> Result<Self> {
        spec.check()?;
        crate::ff::init();
        let mut outputs = Vec::with_capacity(2);
        if let Some(path) = path {
            outputs.push(Mux::file(path)?);
        }
        if let Some(live) = live {
            outputs.push(Mux::live(Live(live))?);
        }
        let session = Session::open(&spec, outputs)?;
        let encoder = session.encoder().to_owned();
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("borealis-mp4".to_owned())
            .spawn(move || {
                crate::run_in_background();
                work(session, &receiver)
            })
            .map_err(|e| MediaError::Ffmpeg { step: "starting the encoder's thread", detail: e.to_string() })?;
        Ok(Mp4Writer { sender: Some(sender), thread: Some(thread), spec, encoder, frames: 0 })
    }

    /// The encoder that was chosen, by its FFmpeg name.
    pub fn encoder(&self) -> &str {
        &self.encoder
    }

    /// What the writer was made for.
    pub fn spec(&self) -> &VideoSpec {
        &self.spec
    }

    /// Frames pushed so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Appends a frame of exactly the size of the spec, RGB or I420. Waits while the encoder is behind.
    pub fn push_frame(&mut self, frame: &Frame) -> Result<()> {
        self.check_frame(frame)?;
        self.push(Message::Frame(frame.clone()))?;
        self.frames += 1;
        Ok(())
    }

    /// As [`Mp4Writer::push_frame`], without a copy.
    pub fn push_owned(&mut self, frame: Frame) -> Result<()> {
        self.check_frame(&frame)?;
        self.push(Message::Frame(frame))?;
        self.frames += 1;
        Ok(())
    }

    fn check_frame(&self, frame: &Frame) -> Result<()> {
        frame.check(self.frames)?;
        if (frame.width, frame.height) != (self.spec.width, self.spec.height) {
            let what =
                format!("{}x{} given, the clip is {}x{}", frame.width, frame.height, self.spec.width, self.spec.height);
            return Err(MediaError::Frame { index: self.frames, what });
        }
        Ok(())
    }

    /// Appends mono samples in -1..1 at the spec's `audio_rate`. At the end the sound is cut, or filled with silence,
    /// to exactly the duration of the frames. It may run ahead of the frames by at most a minute.
    pub fn push_audio(&mut self, samples: &[f32]) -> Result<()> {
        if self.spec.audio_rate.is_none() {
            return Err(MediaError::Parameter {
                field: "audio_rate",
                value: "none".to_owned(),
                remedy: "give the rate of the sound in the VideoSpec before pushing sound",
            });
        }
        for block in samples.chunks(BLOCK) {
            self.push(Message::Audio(block.to_vec()))?;
        }
        Ok(())
    }

    /// Encodes what is left, completes the file and puts it in its place.
    pub fn finish(mut self) -> Result<Written> {
        self.push(Message::Finish)?;
        self.join()
    }

    fn push(&mut self, message: Message) -> Result<()> {
        let sender = self.sender.as_ref().ok_or_else(gone)?;
        // The thread ends early only with an error, which is told now.
        if sender.send(message).is_ok() { Ok(()) } else { self.join().and(Err(gone())) }
    }

    fn join(&mut self) -> Result<Written> {
        self.sender = None;
        let thread = self.thread.take().ok_or_else(gone)?;
        thread.join().map_err(|_| MediaError::Ffmpeg { step: "encoding", detail: "the thread ended".to_owned() })?
    }
}

impl Drop for Mp4Writer {
    fn drop(&mut self) {
        self.sender = None;
        if let Some(thread) = self.thread.take() {
            // The thread sees the closed queue and drops its temporary file; its result has no reader.
            let _ = thread.join();
        }
    }
}

fn gone() -> MediaError {
    MediaError::Ffmpeg { step: "encoding", detail: "the writer stopped after an earlier error".to_owned() }
}

/// The encoder's thread: until `Finish`, or until the writer is dropped.
fn work(mut session: Session, receiver: &Receiver<Message>) -> Result<Written> {
    let mut busy = Duration::ZERO;
    loop {
        let message = receiver.recv().map_err(|_| gone())?;
        let begin = Instant::now();
        match message {
            Message::Frame(frame) => session.frame(frame)?,
            Message::Audio(samples) => session.audio(&samples)?,
            Message::Finish => {
                let written = session.finish()?;
                return Ok(Written { busy_seconds: (busy + begin.elapsed()).as_secs_f64(), ..written });
            }
        }
        busy += begin.elapsed();
    }
}
