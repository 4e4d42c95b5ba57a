//! Packets into an MP4: a file with its index in front, or a live stream of fragments.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ffmpeg_next::format::context::{Output, StreamIo};
use ffmpeg_next::{Dictionary, Packet, Rational, format};

use crate::error::{MediaError, Result};
use crate::ff;
use crate::mp4::audio::AudioEncoder;
use crate::mp4::video::VideoEncoder;
use crate::output::Pending;

/// A writer that strangers gave.
pub(super) struct Live(pub(super) Box<dyn Write + Send>);

/// Where the system's first error is kept, because FFmpeg passes on no more than a number.
type FirstError = Arc<Mutex<Option<io::Error>>>;

/// Remembers the first error of a writer.
struct Tracked<W> {
    inner: W,
    error: FirstError,
}

impl<W> Tracked<W> {
    fn keep<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|e| {
            let copy = e.raw_os_error().map_or_else(|| io::Error::from(e.kind()), io::Error::from_raw_os_error);
            if let Ok(mut slot) = self.error.lock() {
                slot.get_or_insert(e);
            }
            copy
        })
    }
}

impl<W: Write> Write for Tracked<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let result = match self.inner.write(buf) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Err(e),
            Ok(0) if !buf.is_empty() => Err(io::Error::from(io::ErrorKind::WriteZero)),
            other => other,
        };
        self.keep(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.keep(result)
    }
}

impl<W: Seek> Seek for Tracked<W> {
    fn seek(&mut self, pos: SeekFrom) -> io::Result<u64> {
        let result = self.inner.seek(pos);
        self.keep(result)
    }
}

impl Write for Live {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.0.write(buf)?;
        self.0.flush()?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// One output of the packets.
pub(super) struct Mux {
    output: Output,
    error: FirstError,
    /// `None` for a live stream.
    pending: Option<Pending>,
    /// Of the streams, as the muxer chose them.
    time_bases: Vec<Rational>,
}

impl Mux {
    /// A file that replaces `path` in [`Mux::finish`].
    pub(super) fn file(path: &Path) -> Result<Mux> {
        let (pending, file) = Pending::create(path)?;
        let error = FirstError::default();
        let io =
            StreamIo::from_write_seek_with_capacity(Tracked::<File> { inner: file, error: error.clone() }, 1 << 18);
        let mut output = open(io)?;
        // The second pass of faststart reads the file through FFmpeg's own file protocol.
        ff::set_url(&mut output, &file_url(pending.temp_path())?);
        Ok(Mux { output, error, pending: Some(pending), time_bases: Vec::new() })
    }

    /// Fragments to `to`.
    pub(super) fn live(to: Live) -> Result<Mux> {
        let error = FirstError::default();
        let io = StreamIo::from_write(Tracked { inner: to, error: error.clone() });
        Ok(Mux { output: open(io)?, error, pending: None, time_bases: Vec::new() })
    }

    pub(super) fn is_live(&self) -> bool {
        self.pending.is_none()
    }

    /// Adds the streams (video first) and writes the header.
    pub(super) fn begin(&mut self, video: &VideoEncoder, audio: Option<&AudioEncoder>) -> Result<()> {
        self.add(video.context(), video.time_base())?;
        if let Some(audio) = audio {
            self.add(audio.context(), audio.time_base())?;
        }
        let mut options = Dictionary::new();
        options.set("fflags", "+bitexact");
        // Durations in the header are exact for 48 kHz and for 24 fps.
        options.set("movie_timescale", "48000");
        // Packets wait for those of the other stream for a second at most: memory stays bounded.
        options.set("max_interleave_delta", "1000000");
        if self.is_live() {
            options.set("movflags", "+delay_moov+default_base_moof+frag_keyframe");
            options.set("frag_duration", "500000");
            options.set("flush_packets", "1");
        } else {
            options.set("movflags", "+faststart");
        }
        let done = self.output.write_header_with(options).map(|_| ());
        done.map_err(|e| self.failed("writing the header", e))?;
        self.time_bases = self.output.streams().map(|s| s.time_base()).collect();
        Ok(())
    }

    fn add(&mut self, context: &impl AsRef<ffmpeg_next::codec::Context>, time_base: Rational) -> Result<()> {
        let fail = |e| MediaError::ffmpeg("adding a track", e);
        let codec = context.as_ref().codec();
        let mut stream = self.output.add_stream(codec).map_err(fail)?;
        stream.set_parameters(ffmpeg_next::codec::Parameters::from(context));
        stream.set_time_base(time_base);
        Ok(())
    }

    /// Writes a packet whose times are in `time_base`.
    pub(super) fn write(&mut self, mut packet: Packet, stream: usize, time_base: Rational) -> Result<()> {
        packet.set_stream(stream);
        packet.rescale_ts(time_base, self.time_bases[stream]);
        packet.set_position(-1);
        packet.write_interleaved(&mut self.output).map_err(|e| self.failed("writing a packet", e))
    }

    /// Completes the output; a file takes its place.
    pub(super) fn finish(mut self) -> Result<()> {
        self.output.write_trailer().map_err(|e| self.failed("completing the file", e))?;
        if let Some(e) = self.taken() {
            return Err(MediaError::write(&self.target(), e));
        }
        let Mux { output, pending, .. } = self;
        // Closes the file before it is renamed.
        drop(output);
        pending.map_or(Ok(()), Pending::commit)
    }

    fn target(&self) -> PathBuf {
        self.pending.as_ref().map_or_else(|| PathBuf::from("live stream"), |p| p.target().to_owned())
    }

    fn taken(&self) -> Option<io::Error> {
        self.error.lock().ok().and_then(|mut slot| slot.take())
    }

    /// The system's error when there was one, else FFmpeg's.
    fn failed(&self, step: &'static str, error: ffmpeg_next::Error) -> MediaError {
        match (self.taken(), error) {
            (Some(e), _) => MediaError::write(&self.target(), e),
            (None, ffmpeg_next::Error::Other { errno }) if errno == ffmpeg_next::util::error::ENOSPC => {
                MediaError::write(&self.target(), io::Error::from(io::ErrorKind::StorageFull))
            }
            (None, error) => MediaError::ffmpeg(step, error),
        }
    }
}

fn open(io: std::result::Result<StreamIo, ffmpeg_next::Error>) -> Result<Output> {
    let fail = |e| MediaError::ffmpeg("opening the MP4 writer", e);
    format::output_to_stream(io.map_err(fail)?, None, Some("mp4")).map_err(fail)
}

fn file_url(path: &Path) -> Result<CString> {
    let mut url = b"file:".to_vec();
    #[cfg(unix)]
    url.extend_from_slice(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()));
    #[cfg(not(unix))]
    url.extend_from_slice(path.to_string_lossy().as_bytes());
    CString::new(url).map_err(|_| MediaError::write(path, io::Error::from(io::ErrorKind::InvalidFilename)))
}
