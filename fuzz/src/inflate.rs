//! The messages of a connection with transport compression, next to other readers and writers of the same formats: any
//! bytes as messages, or payloads that are compressed, cut and read back.
//!
//! The input: a byte that chooses what is done, one for the limit, then pieces with their lengths in front.

use miniz_oxide::MZFlush;
use miniz_oxide::deflate::core::{CompressorOxide, create_comp_flags_from_zip_params};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use rateway::base::deflate::Deflate;
use rateway::stream::inflate::{Decoder, Error, Output, ZSTD_WINDOW_LOG_MAX};
use rateway::stream::{Compression, Limits};
use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

use super::input::Input;

const SUFFIX: [u8; 4] = [0, 0, 0xff, 0xff];
/// No more than this of a stream is looked at: both formats blow a byte up to a thousand.
const INFLATED_BYTES_MAX: usize = 2 << 20;

/// One run.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    let (what, limit) = (input.byte(), input.byte());
    match what % 5 {
        0 => any(Compression::Zlib, limit, input),
        1 => any(Compression::Zstd, limit, input),
        2 => sound(Compression::Zlib, &mut ours(what), limit, input),
        3 => sound(Compression::Zlib, &mut theirs(what), limit, input),
        _ => sound(Compression::Zstd, &mut zstd(what), limit, input),
    }
}

/// Any bytes as messages.
fn any(compression: Compression, limit: u8, mut input: Input<'_>) {
    let inflated_bytes_max = [30, 3000, 40_000, 1 << 20][usize::from(limit % 4)];
    let limits = Limits { message_bytes_max: 1 << 16, inflated_bytes_max };
    let mut decoder = Decoder::new(compression).expect("memory");
    let (mut output, mut read, mut inflated) = (Output::default(), Vec::new(), Vec::new());
    // What waits for its suffix has not been inflated, and may be anything.
    let (mut error, mut pending_from) = (None, 0);
    while !input.is_empty() && error.is_none() && inflated.len() < INFLATED_BYTES_MAX {
        let message = input.text();
        read.extend_from_slice(message);
        if compression == Compression::Zstd || read[pending_from..].ends_with(&SUFFIX) {
            pending_from = read.len();
        }
        match decoder.decode(message, &limits, &mut output) {
            Ok(whole) => {
                let payload = output.payload();
                assert!(payload.len() <= inflated_bytes_max && whole != payload.is_empty());
                inflated.extend_from_slice(payload);
            }
            Err(found) => error = Some(found),
        }
    }
    let bytes_max = inflated.len() + inflated_bytes_max + 1;
    let (other, is_sound) = match compression {
        Compression::Zstd => inflate_zstd(&read, bytes_max),
        _ => inflate_zlib(&read[..pending_from], bytes_max),
    };
    let common = other.len().min(inflated.len());
    assert!(other[..common] == inflated[..common], "read as something else");
    match error {
        None => assert!(
            !is_sound || other.len() == inflated.len(),
            "{} bytes instead of {}",
            inflated.len(),
            other.len()
        ),
        Some(Error::PayloadTooLarge { .. }) => {
            assert!(!is_sound || other.len() == bytes_max, "no payload is that large")
        }
        Some(Error::Garbage(why)) => assert!(!is_sound, "refused what is good: {why}"),
        Some(_) => {}
    }
}

/// Payloads out of the input, compressed: they come out as they went in, however their messages are cut.
fn sound(
    compression: Compression,
    compress: &mut dyn FnMut(&[u8], &mut Vec<u8>),
    cut: u8,
    mut input: Input<'_>,
) {
    let limits = Limits { message_bytes_max: 1 << 20, inflated_bytes_max: 1 << 20 };
    let mut decoder = Decoder::new(compression).expect("memory");
    let (mut output, mut compressed) = (Output::default(), Vec::new());
    while !input.is_empty() {
        let payload = input.text();
        if payload.is_empty() {
            continue;
        }
        compressed.clear();
        compress(payload, &mut compressed);
        let (mut from, mut got) = (0, Vec::new());
        for end in 1..=compressed.len() {
            // An end that looks like the end of a payload is one.
            let is_end = end == compressed.len();
            let may_end = compression == Compression::Zstd || !compressed[..end].ends_with(&SUFFIX);
            if !is_end && (cut == 0 || end - from < usize::from(cut) || !may_end) {
                continue;
            }
            let whole = decoder.decode(&compressed[from..end], &limits, &mut output).expect("a sound stream");
            from = end;
            if whole {
                assert!(compression == Compression::Zstd || is_end, "a payload before its end");
                got.extend_from_slice(output.payload());
            }
        }
        assert!(got == payload, "a payload changed on its way");
    }
}

fn level(what: u8) -> i32 {
    i32::from(what / 5 % 9) + 1
}

fn ours(what: u8) -> impl FnMut(&[u8], &mut Vec<u8>) {
    let mut deflate = Deflate::zlib(level(what)).expect("memory");
    move |payload, out| deflate.compress(payload, out)
}

fn theirs(what: u8) -> impl FnMut(&[u8], &mut Vec<u8>) {
    let mut deflate = Box::new(CompressorOxide::new(create_comp_flags_from_zip_params(level(what), 15, 0)));
    move |payload, out| {
        let (mut rest, mut room) = (payload, [0; 4096]);
        loop {
            let done = miniz_oxide::deflate::stream::deflate(&mut deflate, rest, &mut room, MZFlush::Sync);
            rest = &rest[done.bytes_consumed..];
            out.extend_from_slice(&room[..done.bytes_written]);
            if rest.is_empty() && done.bytes_written < room.len() {
                return;
            }
        }
    }
}

fn zstd(what: u8) -> impl FnMut(&[u8], &mut Vec<u8>) {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::CompressionLevel(level(what))).expect("a level");
    context.set_parameter(CParameter::WindowLog(18)).expect("a window");
    move |payload, out| {
        let (mut input, mut room) = (InBuffer::around(payload), vec![0; payload.len() + 1024]);
        loop {
            let mut output = OutBuffer::around(&mut room[..]);
            let directive = zstd_safe::zstd_sys::ZSTD_EndDirective::ZSTD_e_flush;
            let left = context.compress_stream2(&mut output, &mut input, directive).expect("room");
            let written = output.pos();
            out.extend_from_slice(&room[..written]);
            if left == 0 {
                return;
            }
        }
    }
}

/// What another reader makes of it, and whether it found no fault.
fn inflate_zlib(bytes: &[u8], bytes_max: usize) -> (Vec<u8>, bool) {
    use inflate_flags::{
        TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_PARSE_ZLIB_HEADER, TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
    };
    let flags =
        TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (mut state, mut out) = (Box::new(DecompressorOxide::new()), vec![0; bytes_max]);
    let (status, _, length) = decompress(&mut state, bytes, &mut out, 0, flags);
    out.truncate(length);
    (out, matches!(status, TINFLStatus::NeedsMoreInput | TINFLStatus::HasMoreOutput))
}

/// The same library, but all bytes at once.
fn inflate_zstd(bytes: &[u8], bytes_max: usize) -> (Vec<u8>, bool) {
    let (mut context, mut out) = (DCtx::create(), vec![0; bytes_max]);
    context.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG_MAX)).expect("a window");
    let (mut input, mut output) = (InBuffer::around(bytes), OutBuffer::around(&mut out[..]));
    let mut is_sound = true;
    while is_sound && (input.pos() < bytes.len() || output.pos() == 0) && output.pos() < bytes_max {
        let before = (input.pos(), output.pos());
        is_sound = context.decompress_stream(&mut output, &mut input).is_ok_and(|hint| hint != 0);
        if before == (input.pos(), output.pos()) {
            break;
        }
    }
    let length = output.pos();
    out.truncate(length);
    (out, is_sound)
}
