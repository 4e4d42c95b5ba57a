//! Messages of the media process: length of the head (u32, little endian), head (JSON), length of the bytes (u64), bytes.

use std::io;

use bytes::{Buf, Bytes};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest head.
const MAX_HEAD: usize = 64 << 10;

/// Everything before the bytes.
pub(super) fn head<T: Serialize>(head: &T, len: u64) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(head)?;
    let mut out = Vec::with_capacity(json.len() + 12);
    out.extend((json.len() as u32).to_le_bytes());
    out.extend(json);
    out.extend(len.to_le_bytes());
    Ok(out)
}

/// Head and bytes of a whole message; neither more nor less may be there.
pub(super) fn split<T: DeserializeOwned>(mut message: Bytes) -> io::Result<(T, Bytes)> {
    let short = || io::Error::from(io::ErrorKind::UnexpectedEof);
    let len = message.try_get_u32_le().map_err(|_| short())? as usize;
    if len > MAX_HEAD || message.len() < len {
        return Err(short());
    }
    let head = serde_json::from_slice(&message.split_to(len)).map_err(io::Error::other)?;
    let len = message.try_get_u64_le().map_err(|_| short())?;
    if message.len() as u64 != len {
        return Err(short());
    }
    Ok((head, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media_process::Task;

    #[test]
    fn messages_are_whole_or_refused() {
        let mut message = head(&Task::Frame { second: Some(0.5) }, 3).unwrap();
        message.extend([1, 2, 3]);
        let (task, bytes): (Task, Bytes) = split(message.clone().into()).unwrap();
        assert_eq!((task, &bytes[..]), (Task::Frame { second: Some(0.5) }, &[1, 2, 3][..]));
        for cut in 0..message.len() {
            assert!(split::<Task>(message[..cut].to_vec().into()).is_err(), "{cut}");
        }
        message.push(4);
        assert!(split::<Task>(message.into()).is_err());
        assert!(split::<Task>(vec![255; 40].into()).is_err());
    }
}
